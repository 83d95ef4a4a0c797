//! Finding processes that outlived their attempt. Only for `sandbox: none`: a sandbox's
//! processes end with the first of them.

use std::{fs, time::Duration};

use domain::ids::AttemptId;
use rustix::process::{Pid, Signal, kill_process};

/// The variable every process of an attempt inherits.
pub(crate) const MARK: &str = "CALLBOARD_ATTEMPT_ID";
/// How often new processes of an attempt that is being ended are looked for.
const ROUNDS: u32 = 50;

/// Ends every process that carries the attempt's mark. False when some remain. Blocks for
/// at most half a second.
pub(crate) fn end(attempt: AttemptId) -> bool {
    for _ in 0..ROUNDS {
        let found = marked(attempt);
        if found.is_empty() {
            return true;
        }
        for pid in found {
            // It may have ended by itself meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn marked(attempt: AttemptId) -> Vec<Pid> {
    let mark = format!("{MARK}={attempt}").into_bytes();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|pid| {
            // Empty for a process that has ended but was not waited for.
            let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark)
        })
        .collect()
}
