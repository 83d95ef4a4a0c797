//! One real process of the platform that is killed and started again, as systemd or Kubernetes
//! would.

use std::{
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::Child,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use proto::admin::admin_service_client::AdminServiceClient;
use telemetry::address::Address;
use tonic::transport::Channel;

/// A platform, or one service of it, that is started again whenever it dies.
#[derive(Debug)]
pub(crate) struct Supervised {
    state: Arc<Mutex<State>>,
    watch: Option<JoinHandle<()>>,
    pub(crate) folder: PathBuf,
    pub(crate) api: SocketAddr,
    pub(crate) admin: SocketAddr,
}

#[derive(Debug, Default)]
struct State {
    pid: Option<rustix::process::Pid>,
    ending: bool,
    killed: u32,
    /// Where the next process kills itself.
    crash_point: Option<String>,
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is started, and how.
#[derive(Clone, Debug)]
pub(super) struct Start {
    /// Where it works and logs, with its configuration.
    pub(super) folder: PathBuf,
    /// `callboard`, of whatever build.
    pub(super) program: PathBuf,
    /// What follows: `up`, `serve worker`.
    pub(super) words: &'static [&'static str],
    pub(super) api: SocketAddr,
    pub(super) admin: SocketAddr,
    /// Environment of the first process.
    pub(super) first: Vec<(&'static str, String)>,
    /// Environment of every process.
    pub(super) always: Vec<(&'static str, String)>,
}

fn spawn(start: &Start, environment: &[(&'static str, String)]) -> Child {
    let folder = &start.folder;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).expect("a log");
    let mut command = subprocess::command(&start.program, folder);
    command.args(start.words).args(["--config", "callboard.yaml"]).stderr(log);
    for (name, value) in environment {
        command.env(name, value);
    }
    command.spawn().expect("the platform starts")
}

impl Supervised {
    pub(super) fn start(start: Start) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let mut child = spawn(&start, &[start.first.clone(), start.always.clone()].concat());
        locked(&state).pid = rustix::process::Pid::from_raw(child.id().cast_signed());
        let (folder, api, admin) = (start.folder.clone(), start.api, start.admin);
        let watched = Arc::clone(&state);
        let watch = std::thread::spawn(move || {
            loop {
                let status = child.wait().expect("waited for");
                {
                    let mut state = locked(&watched);
                    if status.signal() == Some(9) {
                        state.killed += 1;
                    }
                    if state.ending {
                        return;
                    }
                    let mut environment = start.always.clone();
                    environment.extend(state.crash_point.take().map(|point| ("CRASH_POINT", point)));
                    child = spawn(&start, &environment);
                    state.pid = rustix::process::Pid::from_raw(child.id().cast_signed());
                }
            }
        });
        Self { state, watch: Some(watch), folder, api, admin }
    }

    /// How often it died by SIGKILL.
    pub(crate) fn killed(&self) -> u32 {
        locked(&self.state).killed
    }

    /// The process, while there is one.
    pub(crate) fn pid(&self) -> Option<i32> {
        locked(&self.state).pid.map(|pid| pid.as_raw_nonzero().get())
    }

    /// `kill -9`; it is started again.
    pub(crate) fn kill(&self) {
        self.signal(rustix::process::Signal::KILL);
    }

    /// `kill -9`; the next process kills itself at a named step.
    pub(crate) fn kill_and_crash_at(&self, point: String) {
        locked(&self.state).crash_point = Some(point);
        self.kill();
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = locked(&self.state).pid {
            // It may be gone already.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The commands' calls; one platform may be down, then this call fails.
    pub(crate) fn commands(&self) -> AdminServiceClient<Channel> {
        let address = Address::Unix(self.folder.join("data/admin.sock"));
        AdminServiceClient::new(address.channel().expect("a socket"))
    }
}

impl Supervised {
    /// `kill -9`, and nothing is started again; twice is once.
    pub(super) fn end(&mut self) {
        locked(&self.state).ending = true;
        self.kill();
        if let Some(watch) = self.watch.take() {
            drop(watch.join());
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.end();
    }
}
