//! The worker against a control plane of the test's own, with real sandboxes.

use std::{fs, time::Duration};

use proto::v1::{Limits, attempt_ended::Outcome};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use worker::{SANDBOX_FIRST_UID, SANDBOX_GID, Sandbox};

mod cluster;
mod control_plane;
mod machine;
mod manifests;

use machine::{Machine, TOKEN, lease, processes_of, settings};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// A process, a child, and one that has left group and session.
const FAMILY: &str = r#"
sleeper(undef); sleeper(sub { require POSIX; POSIX::setsid(); });
say_to_test("ready"); sleep 86400;
"#;

fn assert_none_lives(processes: &[machine::HostProcess]) {
    let alive: Vec<_> = processes.iter().filter(|process| process.lives()).collect();
    assert!(alive.is_empty(), "{alive:?}");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_is_an_unprivileged_user_seen_from_outside() {
    let mut machine = Machine::start(
        r#"
        sleeper(undef);
        say_to_test(join("\n", slurp($option{'--token-file'}), slurp('/opt/agent/agent.txt'), slurp('/proc/self/status'),
            join(' ', sort map { s{^/}{}r } glob('/*')), join(' ', sort keys %ENV), slurp('/proc/net/dev')));
        sleep 86400;
        "#,
        Sandbox::Bubblewrap,
    );
    let mut lease = lease(1);
    lease.limits =
        Some(Limits { memory_bytes: 64 << 20, processes: 64, output_bytes: 0, file_bytes: 1 << 20 });
    machine.control_plane.offer(lease);
    let said = machine.said().await;
    assert!(said.starts_with(&format!("{TOKEN}\nthe agent's own file\n")), "{said}");
    assert!(said.contains("\nbin dev etc lib lib64 opt proc run sbin tmp usr work\n"), "{said}");
    assert!(said.contains("\nHOME LANG PATH PWD TMPDIR\n"), "{said}");
    assert!(said.contains("CapBnd:\t0000000000000000") && said.contains("NoNewPrivs:\t1"), "{said}");
    assert_eq!(
        said.lines().filter(|line| line.contains(':') && line.contains("eth")).count(),
        0,
        "no network"
    );

    let started = machine.control_plane.started().await;
    assert!(started.isolation.starts_with("bubblewrap, ") && !started.unsandboxed, "{started:?}");
    let processes = processes_of(machine.path());
    assert!(processes.len() >= 4, "two of bubblewrap, the runner, its child: {processes:?}");
    let first = processes.iter().find(|process| process.field("NSpid").ends_with("\t1")).unwrap();
    for (limit, most) in [
        ("Max processes", "64"),
        ("Max data size", "67108864"),
        ("Max file size", "1048576"),
        ("Max open files", "4096"),
        ("Max core file size", "0"),
    ] {
        assert_eq!(first.limit(limit), (most.to_owned(), most.to_owned()), "{limit}");
    }
    let runner = processes.iter().find(|process| process.field("PPid") == first.field("Pid")).unwrap();
    assert_eq!(runner.limit("Max file size").0, "unlimited", "the runner clones before it limits itself");
    for process in &processes {
        let ids: Vec<u32> = process.field("Uid").split_whitespace().map(|id| id.parse().unwrap()).collect();
        if is_root() {
            // The first that no other platform of the machine has.
            assert!(ids[0] >= SANDBOX_FIRST_UID && ids[0] < SANDBOX_FIRST_UID + 1000, "{ids:?}");
            assert_eq!(ids, [ids[0]; 4], "{}", process.command_line);
            let groups = process.field("Groups");
            assert!(groups.is_empty() || groups == SANDBOX_GID.to_string(), "{groups}");
        } else {
            assert_eq!(ids, [rustix::process::getuid().as_raw(); 4], "{}", process.command_line);
        }
        assert!(!process.command_line.contains(TOKEN) && !process.environment().contains(TOKEN));
    }
    machine.stop().await;
    assert_eq!(machine.control_plane.ended().await.outcome(), Outcome::Shutdown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_ends_every_process_at_once() {
    let mut machine = Machine::start(FAMILY, Sandbox::Bubblewrap);
    let lease = lease(2);
    machine.control_plane.offer(lease.clone());
    assert_eq!(machine.said().await, "ready");
    machine.control_plane.started().await;
    assert_eq!(machine.control_plane.beats.recv().await, Some(vec![lease.attempt_id.clone()]));
    let processes = processes_of(machine.path());
    assert!(processes.len() >= 5, "{processes:?}");

    machine.control_plane.stop(&lease.attempt_id, "cancelled");
    let ended = machine.control_plane.ended().await;
    assert_eq!((ended.outcome(), ended.message.as_str()), (Outcome::Stopped, "Stopped: cancelled."));
    assert_none_lives(&processes);
    assert_eq!(machine.workspaces(), 0);
    machine.stop().await;
    assert_eq!(machine.control_plane.more_reports(), 0, "an end is reported once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutting_down_leaves_nothing() {
    let mut machine = Machine::start(FAMILY, Sandbox::Bubblewrap);
    machine.control_plane.offer(lease(3));
    machine.control_plane.offer(lease(4));
    assert_eq!((machine.said().await, machine.said().await), ("ready".to_owned(), "ready".to_owned()));
    machine.control_plane.started().await;
    machine.control_plane.started().await;
    let processes = processes_of(machine.path());
    assert!(processes.len() >= 10, "{processes:?}");
    machine.stop().await;
    for _ in 0..2 {
        assert_eq!(machine.control_plane.ended().await.outcome(), Outcome::Shutdown);
    }
    assert_none_lives(&processes);
    assert_eq!(machine.workspaces(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_after_which_another_was_started_ends_with_all_it_had() {
    let mut machine = Machine::start(FAMILY, Sandbox::Bubblewrap);
    machine.control_plane.offer(lease(11));
    assert_eq!(machine.said().await, "ready");
    machine.control_plane.started().await;
    let processes = processes_of(machine.path());
    machine.control_plane.supersede(true);
    let why = machine.ended().await.expect_err("it says why");
    assert!(why.to_string().contains("another process of this worker"), "{why}");
    assert_none_lives(&processes);
    assert_eq!(machine.control_plane.more_reports(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_by_itself_is_reported_with_its_last_words() {
    let mut machine =
        Machine::start(r#"sleeper(undef); print STDERR "no gateway\n"; exit 3;"#, Sandbox::Bubblewrap);
    // A control plane that restarts is asked again.
    machine.control_plane.fail_reports(2);
    machine.control_plane.offer(lease(5));
    machine.control_plane.started().await;
    let ended = machine.control_plane.ended().await;
    assert_eq!((ended.outcome(), ended.exit_code), (Outcome::Exited, Some(3)));
    assert!(ended.message.ends_with("no gateway"), "{}", ended.message);
    assert!(processes_of(machine.path()).is_empty(), "its child ended with it");
    machine.stop().await;
    assert_eq!(machine.control_plane.more_reports(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_holds_without_the_control_plane() {
    let mut machine = Machine::start(FAMILY, Sandbox::Bubblewrap);
    let mut lease = lease(6);
    lease.deadline_seconds = 1;
    lease.limits = Some(Limits { memory_bytes: 64 << 20, processes: 64, output_bytes: 0, file_bytes: 0 });
    machine.control_plane.offer(lease);
    let started = machine.control_plane.started().await;
    assert!(started.isolation.contains("memory and processes limited by "), "{}", started.isolation);
    let ended = machine.control_plane.ended().await;
    assert_eq!((ended.outcome(), ended.message.as_str()), (Outcome::Stopped, "Stopped: deadline."));
    assert!(processes_of(machine.path()).is_empty());
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_runner_nothing_is_started() {
    let mut machine = Machine::prepare("");
    fs::remove_file(machine.path().join("runner")).unwrap();
    machine.begin(Sandbox::Bubblewrap);
    machine.control_plane.offer(lease(7));
    let ended = machine.control_plane.ended().await;
    assert_eq!(ended.outcome(), Outcome::NotStarted);
    assert!(ended.message.contains("agent-runner") || ended.message.contains("runner"), "{}", ended.message);
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_sandbox_it_is_said_and_still_all_ended() {
    // As a user of its own it cannot even hide what it leaves; as ours it could.
    let hidden = "if ($> >= 64200) { sleeper(sub { require POSIX; POSIX::setsid(); exec('env', '-i', 'sleep', '86399'); }); }";
    let mut machine = Machine::start(&format!("{hidden}{FAMILY}"), Sandbox::None);
    let lease = lease(8);
    machine.control_plane.offer(lease.clone());
    assert_eq!(machine.said().await, "ready");
    let started = machine.control_plane.started().await;
    assert!(started.unsandboxed && started.isolation.starts_with("no sandbox, "), "{started:?}");
    let processes = processes_of(machine.path());
    assert!(processes.len() >= 3, "{processes:?}");
    if is_root() {
        assert!(processes.len() >= 4, "{processes:?}");
        // The first user that no other platform of the machine has.
        let uid = processes[0].field("Uid").split_whitespace().next().unwrap();
        assert!(started.isolation.contains(&format!("host uid {uid}, ")), "{started:?}");
        assert!(processes.iter().all(|process| process.field("Uid").starts_with(uid)), "{processes:?}");
    }
    machine.control_plane.stop(&lease.attempt_id, "cancelled");
    assert_eq!(machine.control_plane.ended().await.outcome(), Outcome::Stopped);
    assert_none_lives(&processes);
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_of_any_depth_is_removed_with_its_attempt() {
    let dig = "for (1..20000) { mkdir('d') && chdir('d') or die; } say_to_test('ready'); exit 0;";
    let mut machine = Machine::start(dig, Sandbox::Bubblewrap);
    machine.control_plane.offer(lease(10));
    assert_eq!(machine.said().await, "ready");
    machine.control_plane.started().await;
    assert_eq!(machine.control_plane.ended().await.outcome(), Outcome::Exited);
    assert_eq!(machine.workspaces(), 0);
    machine.stop().await;
}

/// The platform that [`a_killed_platform_takes_its_sandboxes_along`] kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of another test"]
async fn platform_to_be_killed() {
    let folder = std::env::var_os("CALLBOARD_TEST_FOLDER").expect("started by the other test");
    let settings = settings(folder.as_ref(), Sandbox::Bubblewrap);
    worker::run(settings, tokio_util::sync::CancellationToken::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_platform_takes_its_sandboxes_along() {
    let mut machine = Machine::prepare(FAMILY);
    let mut platform = subprocess::command(std::env::current_exe().unwrap(), machine.path());
    platform
        .args(["--exact", "platform_to_be_killed", "--ignored"])
        .env("CALLBOARD_TEST_FOLDER", machine.path());
    let mut platform = platform.spawn().unwrap();
    machine.control_plane.offer(lease(9));
    assert_eq!(machine.said().await, "ready");
    machine.control_plane.started().await;
    let processes = processes_of(machine.path());
    assert!(processes.len() >= 5);
    let handles: Vec<_> =
        processes.iter().map(|process| pidfd_open(process.pid, PidfdFlags::empty()).unwrap()).collect();

    let pid = Pid::from_raw(i32::try_from(platform.id()).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    platform.wait().unwrap();
    for handle in handles {
        let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
        let gone = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&limit)).unwrap();
        assert_eq!(gone, 1, "a process of the sandbox outlived the platform");
    }

    // The next start clears up.
    assert_eq!(machine.workspaces(), 1);
    let over = tokio_util::sync::CancellationToken::new();
    over.cancel();
    worker::run(settings(machine.path(), Sandbox::Bubblewrap), over).await.unwrap();
    assert_eq!(machine.workspaces(), 0);
}
