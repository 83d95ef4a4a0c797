//! Limits on the sandbox's first process.
//!
//! The runner limits itself and what it starts. bubblewrap's process above it is the same
//! user: an agent that takes it over must find the same limits there.

use std::{io, os::fd::OwnedFd, path::Path, time::Duration};

use proto::v1::Limits;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Resource, getrlimit},
};

use super::{HostUser, cgroup::family};

/// As many as the runner allows itself.
const OPEN_FILES: u64 = 4096;
const PAUSE: Duration = Duration::from_millis(1);
/// How long the sandbox may take to start the runner.
const STARTED_WITHIN: Duration = Duration::from_secs(10);

/// Puts `limits` on the process `first`, which `handle` holds, as soon as it has started the
/// runner: the runner clones before it limits files and memory, and must not inherit those.
///
/// # Errors
/// When the runner is not started in time or a limit cannot be set.
pub(crate) async fn put_on(first: Pid, handle: &OwnedFd, user: HostUser, limits: &Limits) -> io::Result<()> {
    let started = async {
        while !ended(handle) && family(first.as_raw_nonzero().get()).len() < 2 {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(STARTED_WITHIN, started).await?;
    // As the sandbox's user: another's limits take a capability that root in a container lacks.
    let mut command = subprocess::command("prlimit", Path::new("/"));
    command.args(["--pid", &first.as_raw_nonzero().to_string()]);
    for (resource, option, wanted) in wanted(limits) {
        // Only ever lower: what we inherited ourselves holds for the sandbox, too.
        let most = getrlimit(resource).maximum.map_or(wanted, |hard| hard.min(wanted));
        command.arg(format!("--{option}={most}:{most}"));
    }
    user.apply(&mut command);
    let output = tokio::process::Command::from(command).output().await?;
    if output.status.success() || ended(handle) {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// What the runner sets for itself; 0 means no limit from the stage.
fn wanted(limits: &Limits) -> Vec<(Resource, &'static str, u64)> {
    let mut wanted = vec![(Resource::Core, "core", 0), (Resource::Nofile, "nofile", OPEN_FILES)];
    let staged = [
        (Resource::Nproc, "nproc", u64::from(limits.processes)),
        (Resource::Fsize, "fsize", limits.file_bytes),
        (Resource::Data, "data", limits.memory_bytes),
    ];
    wanted.extend(staged.into_iter().filter(|(_, _, most)| *most > 0));
    wanted
}

fn ended(process: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}
