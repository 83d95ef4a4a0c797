//! Limits on memory and processes by cgroup v2, where this process may make cgroups.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use domain::ids::AttemptId;
use proto::v1::Limits;

/// bubblewrap's own processes and the runner are not the agent's.
const OWN_PROCESSES: u64 = 8;

/// A cgroup in which cgroups with limits can be made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parent(PathBuf);

impl Parent {
    /// Finds one: our own cgroup, or the unit above it when systemd has put us into a
    /// subgroup of a delegated unit. A cgroup that has processes of its own cannot pass on
    /// controllers, so most of the time there is none.
    pub(crate) fn find() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own_cgroup(&mounts, &own)?;
        let above = own.parent().filter(|above| {
            let delegated = above.extension().is_some_and(|extension| extension == "service");
            delegated
                && fs::metadata(above).is_ok_and(|found| found.uid() == rustix::process::geteuid().as_raw())
        });
        [Some(own.as_path()), above].into_iter().flatten().find_map(Self::try_in)
    }

    fn try_in(folder: &Path) -> Option<Self> {
        let available = fs::read_to_string(folder.join("cgroup.controllers")).ok()?;
        let both =
            ["memory", "pids"].iter().all(|wanted| available.split_whitespace().any(|name| name == *wanted));
        if !both {
            return None;
        }
        fs::write(folder.join("cgroup.subtree_control"), "+memory +pids").ok()?;
        let probe = folder.join(format!("callboard-probe-{}", std::process::id()));
        fs::create_dir(&probe).ok()?;
        let works = probe.join("pids.max").exists() && probe.join("memory.max").exists();
        fs::remove_dir(&probe).ok()?;
        works.then(|| Self(folder.to_owned()))
    }

    /// A cgroup with the attempt's limits; `None` when it cannot be made.
    pub(crate) fn make(&self, attempt: AttemptId, limits: &Limits) -> Option<Cgroup> {
        let cgroup = Cgroup(self.0.join(format!("callboard-{attempt}")));
        let set = || -> io::Result<()> {
            fs::create_dir(&cgroup.0)?;
            if limits.memory_bytes > 0 {
                fs::write(cgroup.0.join("memory.max"), limits.memory_bytes.to_string())?;
                // Absent without swap accounting.
                let _ = fs::write(cgroup.0.join("memory.swap.max"), "0");
            }
            if limits.processes > 0 {
                let most = u64::from(limits.processes) + OWN_PROCESSES;
                fs::write(cgroup.0.join("pids.max"), most.to_string())?;
            }
            Ok(())
        };
        match set() {
            Ok(()) => Some(cgroup),
            Err(error) => {
                tracing::warn!(%error, "no cgroup for the attempt; rlimits hold");
                None
            }
        }
    }
}

/// Our cgroup's folder in the v2 hierarchy.
fn own_cgroup(mounts: &str, own: &str) -> Option<PathBuf> {
    let mount = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        after.starts_with("cgroup2 ").then(|| before.split(' ').nth(4))?
    })?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(Path::new(mount).join(path.trim_start_matches('/')))
}

/// One attempt's cgroup, removed when dropped.
#[derive(Debug)]
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Moves a process and all its descendants in. What they start from now on is in it from
    /// the beginning, so after a round that finds nobody outside, nobody is.
    pub(crate) fn take_in(&self, root: i32) -> io::Result<()> {
        let mut inside = Vec::new();
        loop {
            let outside: Vec<i32> = family(root).into_iter().filter(|pid| !inside.contains(pid)).collect();
            if outside.is_empty() {
                return Ok(());
            }
            for pid in outside {
                match fs::write(self.0.join("cgroup.procs"), pid.to_string()) {
                    // ESRCH: it has ended meanwhile.
                    Err(error) if error.raw_os_error() != Some(rustix::io::Errno::SRCH.raw_os_error()) => {
                        return Err(error);
                    }
                    Ok(()) | Err(_) => inside.push(pid),
                }
            }
        }
    }

    /// Kills every process in it, where the kernel can do that at once (5.14).
    pub(crate) fn kill(&self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            tracing::warn!(cgroup = %self.0.display(), %error, "a cgroup could not be removed");
        }
    }
}

/// `root` and all processes below it.
pub(super) fn family(root: i32) -> Vec<i32> {
    let mut family = vec![root];
    let mut next = 0;
    while let Some(parent) = family.get(next) {
        let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        let children: Vec<i32> = tasks
            .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
            .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>())
            .collect();
        family.extend(children);
        next += 1;
    }
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_our_cgroup_among_the_mounts() {
        let mounts = "31 25 0:26 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                      30 25 0:25 / /sys/fs/cgroup/unified rw shared:8 - cgroup2 cgroup2 rw\n";
        let own = "8:pids:/\n0::/system.slice/callboard.service\n";
        assert_eq!(
            own_cgroup(mounts, own),
            Some("/sys/fs/cgroup/unified/system.slice/callboard.service".into())
        );
        assert_eq!(own_cgroup("", own), None);
    }

    #[test]
    fn a_family_starts_with_its_root() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert_eq!(family(own).first(), Some(&own));
    }
}
