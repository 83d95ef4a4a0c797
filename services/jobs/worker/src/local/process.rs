//! The processes of one attempt: started together, ended together.

use std::{
    collections::VecDeque,
    fs, io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::ids::AttemptId;
use proto::v1::Limits;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::unix::pipe,
    process::Child,
    task::JoinSet,
};

use super::{
    Bind, HostUser, Refused,
    bubblewrap::{self, Bubblewrap, Inside},
    cgroup::Cgroup,
    leftovers, rlimits,
    spawner::Spawner,
    workspace::Workspace,
};

/// What is kept of a runner's own output.
const OUTPUT_BYTES: usize = 64 * 1024;
/// How long killed processes may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// How the first process of an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Absent when a signal ended it.
    pub(crate) code: Option<i32>,
}

/// Everything an attempt's processes are started with.
pub(crate) struct Launch {
    pub(crate) user: HostUser,
    pub(crate) workspace: Workspace,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) isolation: String,
    pub(crate) runner: PathBuf,
    pub(crate) gateway: PathBuf,
    pub(crate) mounts: Vec<Bind>,
    pub(crate) etc: PathBuf,
    pub(crate) attempt: AttemptId,
    pub(crate) limits: Limits,
    /// Absent when `sandbox: none` is configured.
    pub(crate) bubblewrap: Option<Bubblewrap>,
}

impl Launch {
    /// Starts the agent runner.
    pub(crate) async fn start(self, spawner: &Spawner) -> Result<Process, Refused> {
        let failed = |error: io::Error| {
            Refused::new(format!("The agent runner cannot be started: {error}."), "Run `callboard check`.")
        };
        let (mut command, first) = match &self.bubblewrap {
            Some(bubblewrap) => {
                let (command, first) = self.sandboxed(bubblewrap).map_err(failed)?;
                (command, Some(first))
            }
            None => (self.unsandboxed(), None),
        };
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawner.spawn(command).await.map_err(failed)?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let output = Output::default();
        let mut readers = JoinSet::new();
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            readers.spawn(output.clone().keep(stdout));
            readers.spawn(output.clone().keep(stderr));
        }
        let mut process = Process {
            child,
            group,
            first: None,
            first_pid: None,
            output,
            readers,
            cgroup: self.cgroup,
            workspace: self.workspace,
            attempt: self.attempt,
            user: self.user,
            isolation: self.isolation,
            sandboxed: self.bubblewrap.is_some(),
        };
        if let Some(first) = first {
            // Absent when bubblewrap failed: it has ended then and says why.
            if let Some((pid, first)) = first_process(first).await {
                process.first = Some(Arc::clone(&first));
                process.first_pid = Some(pid);
                if let Err(error) = rlimits::put_on(pid, &first, self.user, &self.limits).await {
                    return Err(process.refuse("The sandbox cannot be limited", &error).await);
                }
            }
        }
        if let Some(cgroup) = &process.cgroup {
            let root = process.group.map_or(0, |pid| pid.as_raw_nonzero().get());
            if let Err(error) = cgroup.take_in(root) {
                return Err(process.refuse("The attempt cannot be put into its cgroup", &error).await);
            }
        }
        Ok(process)
    }

    /// The command, and where bubblewrap says which process is the first in the sandbox.
    fn sandboxed(&self, bubblewrap: &Bubblewrap) -> io::Result<(Command, pipe::Receiver)> {
        let mut command = bubblewrap.attempt(
            self.user,
            &Inside {
                etc: &self.etc,
                workspace: &self.workspace.folder(),
                token: &self.workspace.token_file(),
                runner: &self.runner,
                gateway: &self.gateway,
                mounts: &self.mounts,
                memory_bytes: self.limits.memory_bytes,
            },
        );
        runner_arguments(
            &mut command,
            &bubblewrap::gateway_inside(&self.gateway),
            Path::new(bubblewrap::TOKEN),
            Path::new(bubblewrap::WORK),
        );
        let (read, write) = io::pipe()?;
        command.stdin(Stdio::from(OwnedFd::from(write)));
        Ok((command, pipe::Receiver::from_owned_fd(OwnedFd::from(read))?))
    }

    fn unsandboxed(&self) -> Command {
        let folder = self.workspace.folder();
        let mut command = subprocess::command(&self.runner, &folder);
        self.user.apply(&mut command);
        command.process_group(0).env("HOME", folder.join("home")).env("TMPDIR", folder.join("tmp"));
        command.env(leftovers::MARK, self.attempt.to_string());
        runner_arguments(&mut command, &self.gateway, &self.workspace.token_file(), &folder);
        for mount in &self.mounts {
            // Nothing is mounted, so the runner looks for the agent's files where they are.
            let mut moved = mount.inside.clone().into_os_string();
            moved.push("=");
            moved.push(&mount.host);
            command.arg("--relocate").arg(moved);
        }
        if !self.user.dropped {
            command.arg("--no-process-limit");
        }
        command
    }
}

fn runner_arguments(command: &mut Command, gateway: &Path, token: &Path, workspace: &Path) {
    let mut address = std::ffi::OsString::from("unix:");
    address.push(gateway);
    command.arg("--gateway").arg(address).arg("--token-file").arg(token).arg("--workspace").arg(workspace);
}

/// Reads which process is the first in the sandbox and takes hold of it. When that process
/// ends, the kernel ends every other one in the sandbox before it is gone.
async fn first_process(mut info: pipe::Receiver) -> Option<(Pid, Arc<OwnedFd>)> {
    let mut text = Vec::new();
    tokio::time::timeout(GONE_WITHIN, info.read_to_end(&mut text)).await.ok()?.ok()?;
    let info: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let pid = Pid::from_raw(i32::try_from(info.get("child-pid")?.as_i64()?).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok().map(|handle| (pid, Arc::new(handle)))
}

/// The one child of a process, if it has just one.
fn only_child(parent: Pid) -> Option<Pid> {
    let is_child = |pid: &Pid| {
        let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap_or_default();
        line.trim().parse() == Ok(parent.as_raw_nonzero().get())
    };
    let processes = fs::read_dir("/proc").ok()?;
    let mut children = processes
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(is_child);
    let child = children.next()?;
    children.next().is_none().then_some(child)
}

/// Waits until a process is gone; false when it is not within [`GONE_WITHIN`]. Blocks.
fn gone(process: &OwnedFd) -> bool {
    let limit = Timespec { tv_sec: GONE_WITHIN.as_secs().cast_signed(), tv_nsec: 0 };
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit)).is_ok_and(|ready| ready > 0)
}

/// A started attempt. Dropping it kills what it can; [`Process::end`] also makes sure.
pub(crate) struct Process {
    child: Child,
    /// The process group; the child leads it.
    group: Option<Pid>,
    /// The first process in the sandbox.
    first: Option<Arc<OwnedFd>>,
    /// Its number on the host; its own while `first` lives.
    first_pid: Option<Pid>,
    output: Output,
    readers: JoinSet<()>,
    cgroup: Option<Cgroup>,
    workspace: Workspace,
    attempt: AttemptId,
    user: HostUser,
    isolation: String,
    sandboxed: bool,
}

impl Process {
    /// How it is isolated, in words for people.
    pub(crate) fn isolation(&self) -> &str {
        &self.isolation
    }

    /// True when `sandbox: none` is configured.
    pub(crate) fn unsandboxed(&self) -> bool {
        !self.sandboxed
    }

    /// Ends it rather than let it run without the limits that were announced.
    async fn refuse(&mut self, what: &str, error: &io::Error) -> Refused {
        let remains = self.end().await.err().unwrap_or_default();
        Refused::new(format!("{what}: {error}. {remains}").trim_end(), "Run `callboard check`.")
    }

    /// Waits for the runner to end. May be dropped and called again.
    pub(crate) async fn exited(&mut self) -> Exit {
        let code = self.child.wait().await.ok().and_then(|status| status.code());
        Exit { code }
    }

    /// Asks the runner to come to its end, and waits for that, at most for `patience`.
    pub(crate) async fn ask_to_end(&mut self, patience: Duration) {
        let pid = match &self.first {
            // The first process of a sandbox waits for the runner and takes no signals.
            Some(_) => self.first_pid.and_then(only_child),
            None => self.group.filter(|_| self.child.id().is_some()),
        };
        let Some(runner) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return };
        // The number may be another's by now: looked at again with the process in hand.
        if self.first.is_some() && self.first_pid.and_then(only_child) != pid {
            return;
        }
        if pidfd_send_signal(&runner, Signal::TERM).is_ok() {
            // Whether it did: what is left is killed next.
            let _ = tokio::time::timeout(patience, self.child.wait()).await;
        }
    }

    /// The last the runner wrote to its standard output and error.
    pub(crate) fn output(&self) -> String {
        self.output.text()
    }

    /// Kills whatever is left of the attempt, waits until it is gone, and removes the
    /// workspace.
    ///
    /// # Errors
    /// A sentence when something remains.
    pub(crate) async fn end(&mut self) -> Result<(), String> {
        // Without an id the child has been waited for, and the number may be another's.
        if let (Some(_), Some(group)) = (self.child.id(), self.group) {
            // Gone already is as good.
            let _ = kill_process_group(group, Signal::KILL);
        }
        if let Some(first) = &self.first {
            let _ = pidfd_send_signal(first, Signal::KILL);
        }
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        let reaped = tokio::time::timeout(GONE_WITHIN, self.child.wait()).await.is_ok();
        let (attempt, user, sandboxed, first) = (self.attempt, self.user, self.sandboxed, self.first.clone());
        let removal = self.workspace.removal();
        let gone = tokio::task::spawn_blocking(move || {
            let gone = first.is_none_or(|first| gone(&first));
            // Each of them, whatever came of the others.
            let unmarked = sandboxed || leftovers::end_marked(attempt);
            let gone = leftovers::end_all_of(user) && unmarked && gone;
            removal();
            gone
        })
        .await
        .unwrap_or(false);
        // The pipes close with the last process that holds them.
        let read_all = async { while self.readers.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(1), read_all).await.is_err() {
            self.readers.abort_all();
        }
        if reaped && gone {
            self.cgroup = None;
            Ok(())
        } else {
            Err(format!("Processes of attempt {attempt} remain after they were killed."))
        }
    }
}

/// The last part of what was written.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<VecDeque<u8>>>);

impl Output {
    async fn keep(self, mut source: impl AsyncRead + Unpin) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = source.read(&mut buffer).await {
            self.push(&buffer[..count]);
        }
    }

    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let excess = kept.len().saturating_sub(OUTPUT_BYTES);
        kept.drain(..excess);
    }

    fn text(&self) -> String {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_the_output_is_kept() {
        let output = Output::default();
        output.push(&vec![b'a'; OUTPUT_BYTES]);
        output.push(b"end");
        let text = output.text();
        assert_eq!(text.len(), OUTPUT_BYTES);
        assert!(text.ends_with("aend"));
    }
}
