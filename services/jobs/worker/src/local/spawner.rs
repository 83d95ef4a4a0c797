//! The thread that starts sandboxes.

use std::{io, sync::mpsc, thread};

use tokio::{
    process::{Child, Command},
    runtime::Handle,
    sync::oneshot,
};

struct Job {
    command: std::process::Command,
    reply: oneshot::Sender<io::Result<Child>>,
    runtime: Handle,
}

/// One thread that lives as long as the worker and starts every sandbox.
///
/// `--die-with-parent` ends a sandbox when the *thread* that started it ends, and the
/// runtime's threads may come and go.
pub(crate) struct Spawner {
    jobs: mpsc::Sender<Job>,
}

impl Spawner {
    pub(crate) fn start() -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new().name("sandbox-spawner".to_owned()).spawn(move || {
            for Job { command, reply, runtime } in queue {
                let _runtime = runtime.enter();
                let child = Command::from(command).kill_on_drop(true).spawn();
                // Nobody waits any more when the worker is ending: the child is killed by its drop.
                drop(reply.send(child));
            }
        })?;
        Ok(Self { jobs })
    }

    /// Starts `command`. The child is killed when its handle is dropped.
    pub(crate) async fn spawn(&self, command: std::process::Command) -> io::Result<Child> {
        let gone = || io::Error::other("the thread that starts sandboxes is gone");
        let (reply, child) = oneshot::channel();
        self.jobs.send(Job { command, reply, runtime: Handle::current() }).map_err(|_| gone())?;
        child.await.map_err(|_| gone())?
    }
}
