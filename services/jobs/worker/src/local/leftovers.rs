//! Ending processes that outlived their attempt.

use std::{fs, path::Path, time::Duration};

use domain::ids::AttemptId;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::HostUser;

/// The variable every process of an attempt without a sandbox inherits, unless it clears its
/// environment.
pub(crate) const MARK: &str = "CALLBOARD_ATTEMPT_ID";
/// How often processes that are being ended are looked for.
const ROUNDS: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);

/// Ends every process that carries the attempt's mark. False when some remain. Blocks for
/// some seconds at most.
pub(crate) fn end_marked(attempt: AttemptId) -> bool {
    let mark = format!("{MARK}={attempt}").into_bytes();
    let carries_mark = |pid: Pid| {
        // Empty for a process that has ended but was not waited for.
        let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark)
    };
    (0..ROUNDS).any(|_| none_left(carries_mark))
}

/// Ends every process of a slot's user, whatever it did to hide. False when some remain.
/// Blocks for some seconds at most. Does nothing for a user that is our own.
pub(crate) fn end_all_of(user: HostUser) -> bool {
    if !user.dropped {
        return true;
    }
    let belongs = |pid: Pid| {
        fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))
            .is_ok_and(|status| lives_as(&status, user.uid))
    };
    (0..ROUNDS).any(|_| {
        // At once for all that this user may signal: what forks faster than one can look
        // at `/proc` does not get away. The shell itself is spared by the kernel.
        let mut all = subprocess::command("/bin/sh", Path::new("/"));
        all.args(["-c", "kill -s KILL -- -1"]).stderr(std::process::Stdio::null());
        user.apply(&mut all);
        let asked = all.status().is_ok();
        none_left(belongs) && asked
    })
}

/// Kills what `wanted` is true for. True when there was nothing.
fn none_left(wanted: impl Fn(Pid) -> bool) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    let found = processes
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|pid| wanted(*pid));
    let mut none = true;
    for pid in found {
        none = false;
        // The number may be another's by now: take hold of it first, then look again.
        if let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
            && wanted(pid)
        {
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    }
    if !none {
        std::thread::sleep(PAUSE);
    }
    none
}

/// Whether `/proc/<pid>/status` is that of a process which runs with `uid` in any role.
fn lives_as(status: &str, uid: u32) -> bool {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim()
    };
    // A process whose first thread has ended looks like a zombie while others run.
    let over = field("State").starts_with('Z') && field("Threads") == "1";
    !over && field("Uid").split_whitespace().any(|id| id.parse() == Ok(uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_its_users_in_any_role_until_its_last_thread_ends() {
        let status = |state: &str, uids: &str, threads: u32| {
            format!("Name:\tx\nState:\t{state}\nUid:\t{uids}\nThreads:\t{threads}\n")
        };
        assert!(lives_as(&status("S (sleeping)", "64200\t0\t0\t0", 1), 64200));
        assert!(lives_as(&status("Z (zombie)", "64200\t64200\t64200\t64200", 2), 64200));
        assert!(!lives_as(&status("Z (zombie)", "64200\t64200\t64200\t64200", 1), 64200));
        assert!(!lives_as(&status("S (sleeping)", "64201\t64201\t64201\t64201", 1), 64200));
        assert!(!lives_as("", 0));
    }
}
