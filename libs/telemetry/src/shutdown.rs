//! Ending a process without losing what it is doing.

use std::{future::Future, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Tells the tasks of a process to end, and waits for them.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
    failed: CancellationToken,
}

impl Shutdown {
    /// A new one, nothing ended yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the process should end.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Runs a task that `finish` waits for. The task must watch [`Self::token`]; one that
    /// panics or ends before it is told to is a failure of the whole process.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let this = self.clone();
        self.tasks.spawn(async move {
            let panicked = AssertUnwindSafe(task).catch_unwind().await.is_err();
            if panicked || !this.token.is_cancelled() {
                tracing::error!(panicked, "a part of the process ended by itself");
                this.fail();
            }
        });
    }

    /// Runs a piece of work that ends by itself; `finish` waits for it.
    pub fn spawn_work<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(work);
    }

    /// A part cannot go on, and the process should not without it.
    pub fn fail(&self) {
        self.failed.cancel();
    }

    /// Has a part failed?
    pub fn has_failed(&self) -> bool {
        self.failed.is_cancelled()
    }

    /// Returns when a part has failed.
    pub async fn failure(&self) {
        self.failed.cancelled().await;
    }

    /// Tells every task to end.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Tells every task to end and waits for them, at most `patience`. True when all ended.
    pub async fn finish(&self, patience: Duration) -> bool {
        self.token.cancel();
        self.tasks.close();
        tokio::time::timeout(patience, self.tasks.wait()).await.is_ok()
    }
}

/// Returns at SIGINT or SIGTERM.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub async fn signalled() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
