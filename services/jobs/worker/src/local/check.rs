//! What `callboard check` says about running attempts on this machine.

use std::{fs, os::unix::fs::PermissionsExt};

use proto::admin::{Finding, finding::Level};

use super::{
    Refused, SANDBOX_FIRST_UID, SANDBOX_GID, bubblewrap::Bubblewrap, cgroup::Parent, disk::Space,
    users::Claim,
};
use crate::{LocalSettings, Sandbox};

/// Looks whether attempts can run on this machine and how they would be isolated. Starts an
/// empty sandbox to see; changes nothing.
pub async fn probe(settings: &LocalSettings) -> Vec<Finding> {
    let settings = settings.clone();
    tokio::task::spawn_blocking(move || findings(&settings)).await.unwrap_or_else(|error| {
        vec![finding(Level::Failure, "sandbox", "a probe that ends", error.to_string(), "Look at the log.")]
    })
}

fn findings(settings: &LocalSettings) -> Vec<Finding> {
    vec![sandbox(settings), host_user(settings), limits(), disk(settings), runner(settings), descriptors()]
}

fn finding(level: Level, probe: &str, expected: &str, found: impl Into<String>, next_step: &str) -> Finding {
    Finding {
        level: level.into(),
        probe: probe.to_owned(),
        expected: expected.to_owned(),
        found: found.into(),
        next_step: next_step.to_owned(),
    }
}

fn sandbox(settings: &LocalSettings) -> Finding {
    let expected = "bubblewrap starts with everything unshared";
    match settings.sandbox {
        Sandbox::None => finding(
            Level::Warning,
            "sandbox",
            expected,
            "`sandbox: none`: agents run without a sandbox",
            "Set `executor.local.sandbox: bubblewrap`.",
        ),
        Sandbox::Bubblewrap => {
            let probed = Claim::one()
                .map_err(|error| Refused::new(format!("{error}"), "End platforms that are not needed."))
                .and_then(|claim| Bubblewrap::probe(claim.user, &settings.state_dir.join("etc")));
            match probed {
                Ok(works) => finding(Level::Ok, "sandbox", expected, works.version, ""),
                Err(refused) => {
                    finding(Level::Failure, "sandbox", expected, refused.what, &refused.next_step)
                }
            }
        }
    }
}

fn host_user(settings: &LocalSettings) -> Finding {
    let expected = "agents are an unprivileged user of the machine";
    let own = rustix::process::geteuid();
    if own.is_root() {
        let found =
            format!("{} host uids from {SANDBOX_FIRST_UID} on, group {SANDBOX_GID}", settings.capacity);
        return finding(Level::Ok, "sandbox user", expected, found, "");
    }
    let boundary = match settings.sandbox {
        Sandbox::Bubblewrap => "what is mounted into the sandbox is the boundary",
        Sandbox::None => "there is no boundary: agents can read what that user can",
    };
    finding(
        if settings.sandbox == Sandbox::None { Level::Warning } else { Level::Note },
        "sandbox user",
        expected,
        format!("the platform's own uid {}: {boundary}", own.as_raw()),
        "Start the platform as root to give agents a user of their own.",
    )
}

fn limits() -> Finding {
    let expected = "memory and number of processes are limited per attempt";
    if Parent::find().is_some() {
        finding(Level::Ok, "limits", expected, "by cgroup v2", "")
    } else {
        finding(
            Level::Note,
            "limits",
            expected,
            "by rlimits: memory per process, not per attempt",
            "For a limit per attempt, run the platform in a delegated cgroup (systemd: `Delegate=yes`, `DelegateSubgroup=platform`).",
        )
    }
}

/// Nothing limits what one attempt writes; all of them are ended before the disk is full.
fn disk(settings: &LocalSettings) -> Finding {
    let expected = "the disk has room; it is watched, and attempts end before it is full";
    let next_step = "Free space on the disk of data_dir, or move data_dir to a larger one.";
    // `data_dir` is made at the first start.
    let space = settings.state_dir.ancestors().find_map(|folder| Space::of(folder).ok());
    match space {
        Some(space) if space.is_short() => {
            finding(Level::Failure, "disk", expected, space.to_string(), next_step)
        }
        Some(space) => finding(Level::Ok, "disk", expected, space.to_string(), ""),
        None => finding(Level::Warning, "disk", expected, "its free space cannot be read", next_step),
    }
}

fn runner(settings: &LocalSettings) -> Finding {
    let (expected, path) = ("the agent-runner binary is there", settings.runner.display().to_string());
    let next_step = "Build it with `cargo build --package agent-runner`.";
    match fs::metadata(&settings.runner) {
        Ok(file) if file.is_file() && file.permissions().mode() & 0o111 != 0 => {
            finding(Level::Ok, "agent runner", expected, path, "")
        }
        Ok(_) => finding(
            Level::Failure,
            "agent runner",
            expected,
            format!("{path} is not an executable file"),
            next_step,
        ),
        Err(error) => {
            finding(Level::Failure, "agent runner", expected, format!("{path}: {error}"), next_step)
        }
    }
}

/// Descriptors that whoever started the platform left open for its children would be
/// inherited by sandboxes, too.
fn descriptors() -> Finding {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let inherited = |name: &str| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{name}")).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        Some(u32::from_str_radix(flags.trim(), 8).ok()? & CLOSE_ON_EXEC == 0)
    };
    let open: Vec<String> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.parse().is_ok_and(|number: u32| number > 2) && inherited(name) == Some(true))
        .collect();
    let expected = "nothing of the platform is open in sandboxes";
    if open.is_empty() {
        return finding(Level::Ok, "open files", expected, "nothing is", "");
    }
    let found = format!("file descriptors {} were left open by what started the platform", open.join(", "));
    finding(
        Level::Warning,
        "open files",
        expected,
        found,
        "Start the platform without them (`callboard up 9>&-` closes number 9).",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_runner_and_no_sandbox_are_said() {
        let settings = LocalSettings {
            sandbox: Sandbox::None,
            capacity: 2,
            state_dir: "/nonexistent".into(),
            runner: "/nonexistent/agent-runner".into(),
            gateway_socket: "/nonexistent/agents.sock".into(),
            mounts: Vec::new(),
        };
        let found = probe(&settings).await;
        let level = |probe: &str| found.iter().find(|one| one.probe == probe).expect("probed").level();
        assert_eq!(level("sandbox"), Level::Warning);
        assert_eq!(level("agent runner"), Level::Failure);
        assert!(found.iter().all(|one| one.level() == Level::Ok || !one.next_step.is_empty()));
    }
}
