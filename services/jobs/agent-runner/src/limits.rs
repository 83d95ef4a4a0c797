//! Limits the runner puts on itself, and so on everything it starts.

use anyhow::Context;
use proto::v1::Assignment;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const OPEN_FILES: u64 = 4096;

/// No core dumps, a bound on open files and on processes.
///
/// The kernel counts processes and threads by user, not by process tree. So the limit holds what
/// it promises where the attempt has a user of its own: in the sandbox of this machine the host
/// user of its slot, in a pod [`domain::cluster::user`].
pub(crate) fn before_cloning(assignment: &Assignment, limit_processes: bool) -> anyhow::Result<()> {
    limit(Resource::Core, 0)?;
    limit(Resource::Nofile, OPEN_FILES)?;
    if limit_processes && assignment.max_processes > 0 {
        limit(Resource::Nproc, u64::from(assignment.max_processes))?;
    }
    Ok(())
}

/// Bounds that git has no part in: a pack may be larger than any file an agent may write.
pub(crate) fn before_the_agent(assignment: &Assignment) -> anyhow::Result<()> {
    if assignment.max_file_bytes > 0 {
        limit(Resource::Fsize, assignment.max_file_bytes)?;
    }
    if assignment.max_memory_bytes > 0 {
        // What is written to, not what is reserved: Node and codex reserve far more than they use.
        limit(Resource::Data, assignment.max_memory_bytes)?;
    }
    Ok(())
}

/// Lowers a limit; one that is lower already stays.
fn limit(resource: Resource, wanted: u64) -> anyhow::Result<()> {
    let most = getrlimit(resource).maximum.map_or(wanted, |hard| hard.min(wanted));
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
        .with_context(|| format!("the limit {resource:?} cannot be set to {most}"))
}
