//! Other processes, and ways out through the kernel.

use std::{env, fs, path::Path};

use rustix::process::{Pid, getpid, test_kill_process};

use super::{Finding, Outcome, files::secrets_in};

/// Who and where we are.
pub(super) fn facts() -> Vec<Finding> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut findings: Vec<_> = ["Uid", "Gid", "Groups", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp"]
        .iter()
        .map(|name| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            Finding::new(format!("read {name}"), Outcome::Noted, value.unwrap_or_default().trim())
        })
        .collect();
    let open: Vec<_> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some(format!(
                "{} -> {}",
                entry.file_name().display(),
                fs::read_link(entry.path()).ok()?.display()
            ))
        })
        .collect();
    findings.push(Finding::new("list open files", Outcome::Noted, open.join(", ")));
    findings.push(Finding::new("list mounts", Outcome::Noted, mounts()));
    let names: Vec<_> = env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
    findings.push(Finding::new("list the environment", Outcome::Noted, names.join(" ")));
    for (name, value) in env::vars() {
        findings.extend(secrets_in(&format!("environment {name}"), value.as_bytes()));
    }
    for (number, argument) in env::args().enumerate() {
        findings.extend(secrets_in(&format!("argument {number}"), argument.as_bytes()));
    }
    findings
}

/// What is mounted where, and whether it may be written to: `"/ ro, /work rw"`.
fn mounts() -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts: Vec<_> = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (place, options) = (fields.next()?, fields.nth(1)?);
            Some(format!("{place} {}", options.split(',').next()?))
        })
        .collect();
    mounts.join(", ")
}

/// Every process that can be seen: its environment, arguments, root, and whether it can be signalled.
pub(super) fn processes() -> Vec<Finding> {
    let pids: Vec<i32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != getpid().as_raw_nonzero().get())
        .collect();
    let mut findings = Vec::new();
    for pid in &pids {
        let folder = format!("/proc/{pid}");
        let read = |name: &str| fs::read(format!("{folder}/{name}")).unwrap_or_default();
        let command_line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let command_line = command_line.trim().to_owned();
        findings.push(Finding::new(format!("see process {pid}"), Outcome::Noted, command_line.as_str()));
        let environment = read("environ");
        let names: Vec<_> = environment
            .split(|byte| *byte == 0)
            .map(|variable| {
                String::from_utf8_lossy(variable.split(|byte| *byte == b'=').next().unwrap_or_default())
                    .into_owned()
            })
            .collect();
        findings.push(Finding::new(format!("read {folder}/environ"), Outcome::Noted, names.join(" ")));
        for name in ["environ", "cmdline"] {
            findings.extend(secrets_in(&format!("{folder}/{name}"), &read(name)));
        }
        let root = Path::new(&folder).join("root/etc/shadow");
        findings.push(Finding::of(format!("read {}", root.display()), fs::read(&root), |text| {
            format!("{} bytes", text.len())
        }));
    }
    // Numbers a host has processes under, and a sandbox has not.
    let outside = [100, 1000, 5000, 20_000]
        .into_iter()
        .filter(|pid| !pids.contains(pid))
        .filter_map(Pid::from_raw)
        .filter(|pid| *pid != getpid());
    findings.extend(outside.map(|pid| {
        Finding::of(format!("signal process {}", pid.as_raw_nonzero()), test_kill_process(pid), |()| {
            "could be signalled".into()
        })
    }));
    findings
}

/// Programs that would give more rights, each run in the hope that it works.
pub(super) fn escapes() -> Vec<Finding> {
    let attempts: [&[&str]; 7] = [
        &["unshare", "--user", "--map-root-user", "true"],
        &["unshare", "--mount", "true"],
        &["mount", "-t", "tmpfs", "none", "/mnt"],
        &["mount", "-o", "remount,rw", "/usr"],
        &["nsenter", "--target", "1", "--mount", "true"],
        &["chroot", "/", "true"],
        &["sudo", "-n", "true"],
    ];
    attempts
        .iter()
        .map(|attempt| {
            let output = subprocess::command(attempt[0], Path::new("/")).args(&attempt[1..]).output();
            let attempt = format!("run {}", attempt.join(" "));
            match output {
                Ok(output) if output.status.success() => Finding::new(attempt, Outcome::Reached, "it worked"),
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stderr);
                    Finding::new(attempt, Outcome::Refused, said.lines().next().unwrap_or("it failed"))
                }
                Err(error) => Finding::new(attempt, Outcome::Refused, error.to_string()),
            }
        })
        .collect()
}
