//! Puts binaries where the sandbox's user can reach them.
//!
//! A runner below `/root`, say, cannot be opened by an unprivileged user, and no mode outside
//! `data_dir` is ever changed: such files are copied to `data_dir/bin`.

use std::{
    fs::{self, FileTimes, Permissions},
    io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
};

use super::{Bind, Refused};
use crate::LocalSettings;

/// Everything an attempt needs from the host, within reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Staged {
    pub(crate) runner: PathBuf,
    pub(crate) mounts: Vec<Bind>,
}

impl Staged {
    /// Copies what the sandbox's user could not reach. Blocks; quick when nothing changed.
    pub(crate) fn prepare(settings: &LocalSettings) -> Result<Self, Refused> {
        let bin = settings.state_dir.join("bin");
        let staged = |host: &Path, what: &str| {
            within_reach(host, &bin).map_err(|error| {
                Refused::new(
                    format!("{what} {} cannot be used: {error}.", host.display()),
                    "Correct the path in the configuration, or build what is missing.",
                )
            })
        };
        let runner = staged(&settings.runner, "The agent runner")?;
        let executable = fs::metadata(&runner)
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
        if !executable {
            return Err(Refused::new(
                format!("The agent runner {} is not an executable file.", settings.runner.display()),
                "Build it with `cargo build --package agent-runner`.",
            ));
        }
        let mounts = settings.mounts.iter().map(|mount| {
            if !allowed(&mount.inside) {
                return Err(Refused::new(
                    format!("{} is no place for an agent's files in the sandbox.", mount.inside.display()),
                    "Choose an absolute path outside /usr, /etc, /proc, /dev and /work, such as /opt/agent.",
                ));
            }
            Ok(Bind { host: staged(&mount.host, "The agent's")?, inside: mount.inside.clone() })
        });
        Ok(Self { runner, mounts: mounts.collect::<Result<_, _>>()? })
    }
}

/// True for a path that hides nothing of the sandbox's own.
fn allowed(inside: &Path) -> bool {
    let taken = [
        "/usr",
        "/etc",
        "/proc",
        "/dev",
        "/sys",
        "/bin",
        "/sbin",
        "/lib",
        "/lib32",
        "/lib64",
        "/work",
        "/tmp",
        "/run/callboard/gateway",
    ];
    let own = ["/run/callboard/agent-runner", "/run/callboard/token"];
    let plain = inside.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    // A folder above one of ours would hide it.
    let above = |path: &&str| Path::new(path).starts_with(inside);
    inside.is_absolute()
        && plain
        && !taken.iter().any(|path| inside.starts_with(path))
        && !taken.iter().chain(&own).any(above)
}

/// `host` itself where every user can read it or no user is changed, else a copy in `bin`.
fn within_reach(host: &Path, bin: &Path) -> io::Result<PathBuf> {
    let real = fs::canonicalize(host)?;
    if !rustix::process::geteuid().is_root() || reachable(&real)? {
        return Ok(real);
    }
    let name: Vec<u8> = real
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .map(|byte| if byte.is_ascii_alphanumeric() || b"._-".contains(byte) { *byte } else { b'_' })
        .collect();
    let name = String::from_utf8_lossy(&name).trim_start_matches('_').to_owned();
    let copy = bin.join(name);
    copy_changed(&real, &copy)?;
    Ok(copy)
}

/// Whether any user may pass through all folders above `path` and read everything in it.
fn reachable(path: &Path) -> io::Result<bool> {
    for folder in path.ancestors().skip(1) {
        if fs::metadata(folder)?.permissions().mode() & 0o001 == 0 {
            return Ok(false);
        }
    }
    readable(path)
}

fn readable(path: &Path) -> io::Result<bool> {
    let found = fs::symlink_metadata(path)?;
    let mode = found.permissions().mode();
    if found.is_symlink() {
        return Ok(true);
    }
    // A file its owner may execute must be executable for others, too.
    let wanted = if found.is_dir() || mode & 0o100 != 0 { 0o005 } else { 0o004 };
    if mode & wanted != wanted {
        return Ok(false);
    }
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            if !readable(&entry?.path())? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Makes `to` like `from`; files of the same size and age are left alone.
fn copy_changed(from: &Path, to: &Path) -> io::Result<()> {
    let wanted = fs::symlink_metadata(from)?;
    let existing = fs::symlink_metadata(to).ok();
    if wanted.is_dir() {
        if existing.is_some_and(|found| !found.is_dir()) {
            fs::remove_file(to)?;
        }
        fs::create_dir_all(to)?;
        fs::set_permissions(to, Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy_changed(&from.join(&name), &to.join(&name))?;
        }
        for entry in fs::read_dir(to)? {
            let entry = entry?;
            if fs::symlink_metadata(from.join(entry.file_name())).is_err() {
                let gone = entry.path();
                if entry.file_type()?.is_dir() { fs::remove_dir_all(gone)? } else { fs::remove_file(gone)? }
            }
        }
        return Ok(());
    }
    if existing.as_ref().is_some_and(fs::Metadata::is_dir) {
        fs::remove_dir_all(to)?;
    }
    if wanted.is_symlink() {
        if existing.is_some() {
            fs::remove_file(to)?;
        }
        return symlink(fs::read_link(from)?, to);
    }
    let same = existing.is_some_and(|found| {
        found.is_file() && found.len() == wanted.len() && found.modified().ok() == wanted.modified().ok()
    });
    if same {
        return Ok(());
    }
    // A binary that is being run can be replaced, but not written to.
    let mut next = to.as_os_str().to_owned();
    next.push(".new");
    let next = PathBuf::from(next);
    fs::copy(from, &next)?;
    let mode = if wanted.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
    fs::set_permissions(&next, Permissions::from_mode(mode))?;
    fs::File::options()
        .write(true)
        .open(&next)?
        .set_times(FileTimes::new().set_modified(wanted.modified()?))?;
    fs::rename(&next, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_our_own_are_taken() {
        for path in
            ["/usr/bin/x", "/etc", "/", "/work/repo", "/run/callboard", "/run", "opt/a", "/opt/../etc"]
        {
            assert!(!allowed(Path::new(path)), "{path}");
        }
        assert!(allowed(Path::new("/opt/agent")) && allowed(Path::new("/run/callboard/agent/x.sh")));
    }

    #[test]
    fn a_folder_nobody_may_enter_is_copied_and_kept_in_step() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("lib")).expect("made");
        fs::write(from.join("lib/a"), "one").expect("written");
        fs::write(from.join("run"), "#!/bin/sh").expect("written");
        fs::set_permissions(from.join("run"), Permissions::from_mode(0o700)).expect("set");
        symlink("lib/a", from.join("link")).expect("linked");
        // A temporary folder has mode 0700.
        assert!(!reachable(&from).expect("looked"));

        copy_changed(&from, &to).expect("copied");
        assert_eq!(fs::metadata(to.join("run")).expect("there").permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::read_link(to.join("link")).expect("a link"), Path::new("lib/a"));

        fs::write(from.join("lib/a"), "three").expect("written");
        fs::remove_file(from.join("link")).expect("removed");
        copy_changed(&from, &to).expect("copied again");
        assert_eq!(fs::read(to.join("lib/a")).expect("there"), b"three");
        assert!(!to.join("link").exists());
        assert!(readable(&to).expect("looked"));
    }
}
