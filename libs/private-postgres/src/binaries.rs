//! Which PostgreSQL is installed, and where.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::error::Error;

/// One version's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installation {
    /// Major version.
    pub(crate) version: u32,
    /// The folder of initdb, postgres and pg_ctl.
    pub(crate) bin: PathBuf,
}

/// The folder with the newest server programs of this machine, if there are any.
pub fn find_binaries() -> Option<PathBuf> {
    installed().into_iter().next().map(|found| found.bin)
}

/// All installations, newest first.
pub(crate) fn installed() -> Vec<Installation> {
    let mut folders = versions_in(Path::new("/usr/lib/postgresql"), |_| true);
    folders.extend(versions_in(Path::new("/usr"), |name| name.starts_with("pgsql-")));
    // Distributions without folders per version, and links to the real place.
    let on_path = subprocess::find(&["initdb"]).and_then(|initdb| fs::canonicalize(initdb).ok());
    folders.extend(on_path.and_then(|initdb| initdb.parent().map(Path::to_owned)));

    let complete =
        |bin: &PathBuf| ["initdb", "postgres", "pg_ctl"].iter().all(|name| bin.join(name).is_file());
    let mut found: Vec<Installation> = folders
        .into_iter()
        .filter(complete)
        .filter_map(|bin| Some(Installation { version: version_of(&bin)?, bin }))
        .collect();
    found.sort_by_key(|installation| std::cmp::Reverse(installation.version));
    found
}

/// The installation that can open the cluster in `directory` made by `needed`, else the newest.
pub(crate) fn choose(directory: &Path, needed: Option<u32>) -> Result<Installation, Error> {
    let found = installed();
    let Some(newest) = found.first() else { return Err(Error::NotInstalled) };
    let Some(needed) = needed else { return Ok(newest.clone()) };
    found.iter().find(|installation| installation.version == needed).cloned().ok_or_else(|| Error::Version {
        directory: directory.to_owned(),
        needed,
        installed: found.iter().map(|i| i.version.to_string()).collect::<Vec<_>>().join(", "),
    })
}

fn versions_in(folder: &Path, named: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(&named))
        .map(|entry| entry.path().join("bin"))
        .collect()
}

fn version_of(bin: &Path) -> Option<u32> {
    let output = subprocess::command(bin.join("postgres"), bin).arg("--version").output().ok()?;
    major(std::str::from_utf8(&output.stdout).ok()?)
}

/// From `postgres (PostgreSQL) 15.18 (Debian …)` or `… 19beta1`.
fn major(words: &str) -> Option<u32> {
    let version = words.split_once("(PostgreSQL)")?.1.trim_start();
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_postgres_says() {
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(major("postgres: not found"), None);
    }
}
