//! Keeping hold of everything the agent starts.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process, set_child_subreaper,
    set_parent_process_death_signal, waitpid,
};

/// How long processes that are being ended are looked for. A pod whose processor time is limited
/// takes a while to end many.
const ENDED_WITHIN: Duration = Duration::from_secs(30);
/// How long it is looked for processes that are not held still yet.
const PAUSED_WITHIN: Duration = Duration::from_millis(500);

/// The runner ends with the process that started it. The first process of a container has none
/// that it could see: it ends with its pod.
pub(crate) fn die_with_parent() -> io::Result<()> {
    if getppid().is_none() {
        return Ok(());
    }
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Processes whose parents end become ours, wherever they have gone: none escapes
/// [`end_descendants`].
pub(crate) fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Takes note of children of ours that have ended, except `known`, for which somebody else waits.
pub(crate) fn reap(known: Option<Pid>) {
    let own = getpid();
    for process in all().into_iter().filter(|process| process.parent == own && process.ended) {
        if Some(process.pid) != known {
            // Whether it was there is all that matters.
            let _ = waitpid(Some(process.pid), WaitOptions::NOHANG);
        }
    }
}

/// Kills everything below us. Call it when nobody waits for a child. Blocks for some seconds at
/// most; false when something remains.
pub(crate) fn end_descendants() -> bool {
    let begun = Instant::now();
    while begun.elapsed() < ENDED_WITHIN {
        // Processes that keep starting others would win against being killed one by one. Held
        // still they fill the limit on processes, and no other can be started.
        let _held = pause();
        let alive = descendants();
        if alive.is_empty() {
            reap(None);
            return true;
        }
        for pid in alive {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
        reap(None);
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// Everything below us, held still; it goes on when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Paused(Vec<Pid>);

/// Stops everything below us until no process is left that runs: one may have been started by
/// another that was not stopped yet. What had been stopped before stays so afterwards.
pub(crate) fn pause() -> Paused {
    let mut paused = Paused::default();
    let begun = Instant::now();
    while begun.elapsed() < PAUSED_WITHIN {
        let running: Vec<_> =
            family().into_iter().filter(|process| !process.ended && !process.stopped).collect();
        if running.is_empty() {
            break;
        }
        for process in running {
            // It may have ended meanwhile; and a stop takes a moment to be seen.
            if kill_process(process.pid, Signal::STOP).is_ok() && !paused.0.contains(&process.pid) {
                paused.0.push(process.pid);
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    paused
}

impl Drop for Paused {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill_process(*pid, Signal::CONT);
        }
    }
}

/// One line of `/proc/<pid>/stat`.
struct Process {
    pid: Pid,
    parent: Pid,
    ended: bool,
    stopped: bool,
}

fn descendants() -> Vec<Pid> {
    family().into_iter().filter(|process| !process.ended).map(|process| process.pid).collect()
}

/// Everything below us, parents before their children.
fn family() -> Vec<Process> {
    let mut others = all();
    let mut parents = vec![getpid()];
    let mut family = Vec::new();
    while !parents.is_empty() {
        let (children, rest): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|process| parents.contains(&process.parent));
        parents = children.iter().map(|process| process.pid).collect();
        family.extend(children);
        others = rest;
    }
    family
}

fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| parse(&fs::read_to_string(entry.path().join("stat")).ok()?))
        .collect()
}

/// `12 (a name) S 1 …`; the name may contain anything.
fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let mut fields = rest.rsplit_once(") ")?.1.split(' ');
    let (state, parent) = (fields.next()?, fields.next()?);
    Some(Process {
        pid: Pid::from_raw(pid.parse().ok()?)?,
        parent: Pid::from_raw(parent.parse().ok()?)?,
        ended: matches!(state, "Z" | "X"),
        stopped: matches!(state, "T" | "t"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Processes that do not outlive their test, however it ends.
    struct Family(std::process::Child, Vec<Pid>);

    impl Drop for Family {
        fn drop(&mut self) {
            for pid in &self.1 {
                let _ = kill_process(*pid, Signal::KILL);
            }
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn what_is_paused_goes_on_afterwards() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = "sleep 60 & setsid sh -c 'while :; do echo x >> beat; done' & wait";
        let mut command = subprocess::command("/bin/sh", folder.path());
        let child = command.args(["-c", script]).spawn().expect("started");
        let mut tree = Family(child, Vec::new());
        let beats = || fs::metadata(folder.path().join("beat")).map_or(0, |found| found.len());
        let beaten_since = |before| {
            let patience = Instant::now() + Duration::from_secs(10);
            while beats() <= before && Instant::now() < patience {
                std::thread::yield_now();
            }
            beats() > before
        };
        assert!(beaten_since(0), "it works");
        // Other tests of this process have children too.
        let root = i32::try_from(tree.0.id()).ok().and_then(Pid::from_raw).expect("a pid");
        let of_ours = |process: &Process| process.pid == root || process.parent == root;
        tree.1 = family().into_iter().filter(of_ours).map(|process| process.pid).collect();
        assert!(tree.1.len() >= 3, "the shell, a sleeper and a loop in a session of its own");
        let paused = pause();
        assert!(tree.1.iter().all(|pid| paused.0.contains(pid)), "all of them");
        let before = beats();
        for _ in 0..1000 {
            std::thread::yield_now();
            assert_eq!(beats(), before, "nothing moves");
        }
        drop(paused);
        assert!(beaten_since(before), "it goes on");
    }

    #[test]
    fn a_name_with_brackets_and_spaces_is_read_over() {
        let process = parse("12 (a) b) Z 7 1 1 0 -1").expect("a process");
        assert_eq!((process.pid.as_raw_nonzero().get(), process.parent.as_raw_nonzero().get()), (12, 7));
        assert!(process.ended);
        assert!(parse("1 (init) S 0 1").is_none());
    }
}
