//! `cargo xtask sqlx`: the stored descriptions of the control plane's queries, from a
//! database that has seen all migrations.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::environment::{cargo, output, run as run_to_end, workspace_root};

/// What to do with the stored queries.
#[derive(Args)]
pub(crate) struct Options {
    /// Compare only, and fail when they are not up to date
    #[arg(long)]
    check: bool,
}

/// The crate with the SQL.
const CRATE: &str = "services/internal/control-plane";

/// Refreshes `.sqlx`, or compares.
///
/// # Errors
/// What the compiler or Postgres said, or that the stored queries are not up to date.
pub(crate) fn run(options: &Options) -> Result<()> {
    let root = workspace_root()?;
    if options.check { check(&root) } else { refresh(&root) }
}

/// Fails when `.sqlx` is not what the queries are.
///
/// # Errors
/// Names the files that differ.
pub(crate) fn check(root: &Path) -> Result<()> {
    let fresh = describe(root)?;
    let stored = read(&root.join(".sqlx"))?;
    let mut names: Vec<_> =
        fresh.keys().chain(stored.keys()).filter(|name| fresh.get(*name) != stored.get(*name)).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    let list = names.iter().map(|name| format!("\n  {name}")).collect::<String>();
    bail!(".sqlx is not up to date; run cargo xtask sqlx and commit the result:{list}")
}

fn refresh(root: &Path) -> Result<()> {
    let fresh = describe(root)?;
    let folder = root.join(".sqlx");
    fs::create_dir_all(&folder)?;
    for name in read(&folder)?.into_keys().filter(|name| !fresh.contains_key(name)) {
        fs::remove_file(folder.join(name))?;
    }
    for (name, content) in &fresh {
        fs::write(folder.join(name), content)?;
    }
    eprintln!("{} queries are described in .sqlx", fresh.len());
    Ok(())
}

/// Files with descriptions, by name.
type Descriptions = BTreeMap<String, Vec<u8>>;

fn read(folder: &Path) -> Result<Descriptions> {
    if !folder.exists() {
        return Ok(Descriptions::new());
    }
    let files = fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    let named = |file: &fs::DirEntry| file.file_name().to_string_lossy().into_owned();
    files
        .iter()
        .filter(|file| named(file).starts_with("query-"))
        .map(|file| Ok((named(file), fs::read(file.path())?)))
        .collect()
}

/// Compiles the crate against a database of its own; the macros write what they learnt.
fn describe(root: &Path) -> Result<Descriptions> {
    // Postgres runs as another user when this is root, and has to get in.
    let folder = tempfile::Builder::new().prefix("callboard-sqlx-").tempdir_in("/tmp")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
    let settings = private_postgres::Settings { directory: folder.path().join("postgres"), durable: false };
    let server = private_postgres::start(&settings).context("the private Postgres does not start")?;
    let database = server.url("callboard");
    // The client beside the server; the one in /usr/bin is a wrapper that picks by its own rules.
    let psql = private_postgres::find_binaries().context("there is no Postgres")?.join("psql");
    for migration in migrations(root)? {
        let mut command = subprocess::command(&psql, root);
        command.args([
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            "--single-transaction",
            "--dbname",
            &database,
        ]);
        output(command.arg("--file").arg(migration))?;
    }

    let described = folder.path().join("described");
    fs::create_dir(&described)?;
    // The macros run again only when the file is newer than what was built from it. Its own
    // time is given back afterwards, so that other builds stay fresh.
    let source = fs::File::open(root.join(CRATE).join("src/lib.rs"))?;
    let changed = source.metadata()?.modified()?;
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    rustix::fs::futimens(&source, &rustix::fs::Timestamps { last_access: now, last_modification: now })?;
    let mut check = cargo(root);
    check.args(["check", "--quiet", "--package", "control-plane", "--all-targets"]);
    check.env("DATABASE_URL", &database).env("SQLX_OFFLINE", "false").env("SQLX_OFFLINE_DIR", &described);
    let checked = run_to_end(&mut check);
    source.set_modified(changed)?;
    checked?;
    read(&described)
}

fn migrations(root: &Path) -> Result<Vec<PathBuf>> {
    let folder = root.join(CRATE).join("migrations");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<_> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "sql")).collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_descriptions_are_compared() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("query-1.json"), "{}").expect("written");
        fs::write(folder.path().join("README"), "").expect("written");
        assert_eq!(read(folder.path()).expect("readable").into_keys().collect::<Vec<_>>(), ["query-1.json"]);
        assert!(read(&folder.path().join("none")).expect("no folder, no files").is_empty());
    }
}
