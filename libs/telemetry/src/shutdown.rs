//! Ending a process without losing what it is doing.

use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Tells the tasks of a process to end, and waits for them.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
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

    /// Runs a task that `finish` waits for. The task must watch [`Self::token`].
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task);
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
