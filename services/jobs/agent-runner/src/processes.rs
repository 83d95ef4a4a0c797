//! Keeping hold of everything the agent starts.

use std::{fs, io, time::Duration};

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, set_parent_process_death_signal,
    waitpid,
};

/// How often processes that are being ended are looked for.
const ROUNDS: u32 = 200;

/// The runner ends with the process that started it.
pub(crate) fn die_with_parent() -> io::Result<()> {
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

/// Kills everything below us. Call it when nobody waits for a child. Blocks for at most two
/// seconds; false when something remains.
pub(crate) fn end_descendants() -> bool {
    for _ in 0..ROUNDS {
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

/// One line of `/proc/<pid>/stat`.
struct Process {
    pid: Pid,
    parent: Pid,
    ended: bool,
}

fn descendants() -> Vec<Pid> {
    let all = all();
    let mut family = vec![getpid()];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(all.iter().filter(|process| process.parent == parent).map(|process| process.pid));
        next += 1;
    }
    let ended = |pid: &Pid| all.iter().any(|process| process.pid == *pid && process.ended);
    family.split_off(1).into_iter().filter(|pid| !ended(pid)).collect()
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_is_read_over() {
        let process = parse("12 (a) b) Z 7 1 1 0 -1").expect("a process");
        assert_eq!((process.pid.as_raw_nonzero().get(), process.parent.as_raw_nonzero().get()), (12, 7));
        assert!(process.ended);
        assert!(parse("1 (init) S 0 1").is_none());
    }
}
