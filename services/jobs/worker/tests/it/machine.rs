//! A worker with folders of its own, stub runners, and a look at it from the host.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use proto::v1::AttemptLease;
use rustix::process::Pid;
use telemetry::{
    address::Address,
    clock::SystemClock,
    identity::{Identity, Subject},
};
use tokio::{
    io::AsyncReadExt,
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use worker::{ExecutorSettings, LocalSettings, Mount, Sandbox, Settings};

use crate::{PATIENCE, control_plane::ControlPlane};

/// The run token of every attempt here.
pub(crate) const TOKEN: &str = "run-token-of-the-test";

/// Finds the gateway and the token in its arguments; `say` sends text to the gateway's socket.
const PRELUDE: &str = r#"#!/usr/bin/perl
use strict; use warnings; use IO::Socket::UNIX;
my %option; for (my $i = 0; $i < $#ARGV; $i += 1) { $option{$ARGV[$i]} = $ARGV[$i + 1]; }
(my $socket = $option{'--gateway'}) =~ s/^unix://;
sub slurp { open(my $file, '<', $_[0]) or return "unreadable"; local $/; my $text = <$file>; return $text; }
sub say_to_test { my $peer = IO::Socket::UNIX->new(Peer => $socket) or die "no gateway: $!"; print $peer $_[0]; close $peer; }
sub sleeper { my $pid = fork(); if ($pid == 0) { $_[0]->() if $_[0]; exec('sleep', '86399') or die; } }
"#;

/// Everything a worker needs, in a temporary folder.
pub(crate) struct Machine {
    folder: tempfile::TempDir,
    pub(crate) control_plane: ControlPlane,
    gateway: UnixListener,
    shutdown: CancellationToken,
    worker: Option<JoinHandle<anyhow::Result<()>>>,
    /// Every worker that is root uses the same host users and ends what else runs as them:
    /// one after the other.
    _alone: fs::File,
}

impl Machine {
    /// A worker whose agent runner is the Perl program `runner`.
    pub(crate) fn start(runner: &str, sandbox: Sandbox) -> Self {
        let mut machine = Self::prepare(runner);
        machine.begin(sandbox);
        machine
    }

    /// Starts its worker.
    pub(crate) fn begin(&mut self, sandbox: Sandbox) {
        let settings = settings(self.folder.path(), sandbox);
        self.worker = Some(tokio::spawn(worker::run(settings, self.shutdown.clone())));
    }

    /// The same without a worker.
    pub(crate) fn prepare(runner: &str) -> Self {
        assert!(
            subprocess::find(&["bwrap"]).is_some(),
            "these tests start real sandboxes: install bubblewrap (`apt-get install bubblewrap`)"
        );
        let alone = fs::File::create(std::env::temp_dir().join("callboard-worker-tests.lock"))
            .expect("a file to lock");
        alone.lock().expect("locked");
        let folder = tempfile::tempdir().expect("a folder");
        // Sandboxes are another user, who has to pass through.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).expect("set");
        let program = folder.path().join("runner");
        fs::write(&program, format!("{PRELUDE}\n{runner}\n")).expect("written");
        fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("set");
        fs::write(folder.path().join("agent.txt"), "the agent's own file").expect("written");
        let socket = folder.path().join("agents.sock");
        let gateway = UnixListener::bind(&socket).expect("bound");
        fs::set_permissions(&socket, Permissions::from_mode(0o666)).expect("set");
        let control_plane = ControlPlane::serve(&folder.path().join("cp.sock"));
        Self {
            folder,
            control_plane,
            gateway,
            shutdown: CancellationToken::new(),
            worker: None,
            _alone: alone,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What the stub sent with `say_to_test`.
    pub(crate) async fn said(&self) -> String {
        let receive = async {
            let (mut stream, _): (UnixStream, _) = self.gateway.accept().await.expect("accepted");
            let mut text = String::new();
            stream.read_to_string(&mut text).await.expect("read");
            text
        };
        tokio::time::timeout(PATIENCE, receive).await.expect("the stub speaks in time")
    }

    /// Ends the worker and waits for it.
    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        if self.worker.is_some() {
            self.ended().await.expect("no error");
        }
    }

    /// Waits until the worker has ended by itself.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        let worker = self.worker.take().expect("it runs");
        let ended = tokio::time::timeout(PATIENCE, worker).await;
        ended.expect("it ends in time").expect("no panic")
    }

    /// Workspaces that are there.
    pub(crate) fn workspaces(&self) -> usize {
        fs::read_dir(self.path().join("work")).map_or(0, Iterator::count)
    }
}

/// Settings for a worker in `folder`.
pub(crate) fn settings(folder: &Path, sandbox: Sandbox) -> Settings {
    Settings {
        control_plane: Address::Unix(folder.join("cp.sock")),
        identity: Arc::new(Identity::generate(Subject::Worker(
            "0198a6a4-7c1e-7d5b-9a51-0a1b2c3d4e5f".parse().expect("an id"),
        ))),
        clock: Arc::new(SystemClock),
        process: "0198a6a4-7c1e-7d5b-9a51-0a1b2c3d4e60".parse().expect("an id"),
        labels: BTreeMap::new(),
        executor: ExecutorSettings::Local(LocalSettings {
            sandbox,
            capacity: 2,
            state_dir: folder.to_owned(),
            runner: folder.join("runner"),
            gateway_socket: folder.join("agents.sock"),
            mounts: vec![Mount {
                host: folder.join("agent.txt"),
                inside: PathBuf::from("/opt/agent/agent.txt"),
            }],
        }),
    }
}

/// An attempt to lease; `number` makes its id.
pub(crate) fn lease(number: u32) -> AttemptLease {
    AttemptLease {
        attempt_id: format!("0198a6a4-7c1e-7d5b-9a51-{number:012x}"),
        run_id: "0198a6a4-7c1e-7d5b-9a51-0a1b2c3d4e60".to_owned(),
        project: "demo".to_owned(),
        stage: "dev".to_owned(),
        number: 1,
        fence: 7,
        run_token: TOKEN.to_owned(),
        deadline_seconds: 600,
        limits: None,
        trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        lease_seconds: 30,
        ..AttemptLease::default()
    }
}

/// One process of the host.
#[derive(Debug)]
pub(crate) struct HostProcess {
    pub(crate) pid: Pid,
    /// Lines of `/proc/<pid>/status`.
    pub(crate) status: String,
    pub(crate) command_line: String,
}

/// All processes of the attempts in `folder`, seen from the host: those whose command line
/// names it, and everything below them.
pub(crate) fn processes_of(folder: &Path) -> Vec<HostProcess> {
    let all: Vec<_> = fs::read_dir("/proc")
        .expect("proc")
        .flatten()
        .filter_map(|entry| host_process(&entry.path()))
        .collect();
    let own = Pid::from_raw(i32::try_from(std::process::id()).expect("a pid"));
    let mut members: Vec<Pid> = all
        .iter()
        .filter(|process| {
            process.command_line.contains(&*folder.to_string_lossy()) && Some(process.pid) != own
        })
        .map(|process| process.pid)
        .collect();
    loop {
        let before = members.len();
        for process in &all {
            let parent = process.field("PPid").parse().ok().and_then(Pid::from_raw);
            if parent.is_some_and(|parent| members.contains(&parent)) && !members.contains(&process.pid) {
                members.push(process.pid);
            }
        }
        if members.len() == before {
            return all.into_iter().filter(|process| members.contains(&process.pid)).collect();
        }
    }
}

fn host_process(folder: &Path) -> Option<HostProcess> {
    let pid = Pid::from_raw(folder.file_name()?.to_str()?.parse().ok()?)?;
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let command_line = String::from_utf8_lossy(&fs::read(folder.join("cmdline")).ok()?).replace('\0', " ");
    Some(HostProcess { pid, status, command_line })
}

impl HostProcess {
    /// Whether it still runs, wherever it may have been moved to meanwhile.
    pub(crate) fn lives(&self) -> bool {
        let now = host_process(&PathBuf::from(format!("/proc/{}", self.pid.as_raw_nonzero())));
        now.is_some_and(|now| now.command_line == self.command_line && !now.field("State").starts_with('Z'))
    }

    /// One line of its status.
    pub(crate) fn field(&self, name: &str) -> &str {
        let line = self.status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim()
    }

    /// What it was started with.
    pub(crate) fn environment(&self) -> String {
        let path = format!("/proc/{}/environ", self.pid.as_raw_nonzero());
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).replace('\0', " ")
    }

    /// One of its limits, soft and hard.
    pub(crate) fn limit(&self, name: &str) -> (String, String) {
        let path = format!("/proc/{}/limits", self.pid.as_raw_nonzero());
        let limits = fs::read_to_string(path).expect("it lives");
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect("a limit of this name");
        let mut values = line.split_whitespace().map(str::to_owned);
        (values.next().expect("soft"), values.next().expect("hard"))
    }
}
