//! The one exception to empty environments: what builds and installs gets the caller's.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// A command with the caller's whole environment. cargo, npm, pip and apt are configured by it
/// (homes, caches, proxies, certificates), and which variables that takes differs from
/// machine to machine; nothing of the platform's is in it. What `cargo run` added for
/// xtask itself is left out, for a cargo below would take it for its own.
pub(crate) fn inherited(program: impl AsRef<OsStr>, directory: &Path) -> Command {
    let mut command = subprocess::command(program, directory);
    command.env_remove("LANG").envs(env::vars_os().filter(|(name, _)| !is_cargo_runs(name)));
    command
}

fn is_cargo_runs(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_BIN_")
}

/// The cargo that runs xtask, in the workspace, building where [`target_directory`] says.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = inherited(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")), root);
    if let Some(directory) = target_directory() {
        command.env("CARGO_TARGET_DIR", directory);
    }
    command
}

/// The workspace's folder.
///
/// # Errors
/// When xtask was not started through cargo.
pub(crate) fn workspace_root() -> Result<PathBuf> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    manifest
        .as_deref()
        .and_then(|m| m.ancestors().nth(2))
        .map(Path::to_path_buf)
        .context("started without cargo; run `cargo xtask …` inside the repository")
}

/// True where nobody is at the keyboard by definition.
pub(crate) fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| value == "true")
}

/// Where builds go when nobody said so: in CI a folder outside the clone, so that the next
/// clean clone starts warm. `None` leaves it to cargo.
fn target_directory() -> Option<PathBuf> {
    if env::var_os("CARGO_TARGET_DIR").is_some() || !is_ci() {
        return None;
    }
    let directory = cache_root()?.join("target");
    fs::create_dir_all(&directory).ok()?;
    Some(directory)
}

/// The folder for what survives a clone: `CALLBOARD_BUILD_CACHE`, else `~/.cache/callboard`.
/// `None` when there is no home; nothing requires it.
pub(crate) fn cache_root() -> Option<PathBuf> {
    env::var_os("CALLBOARD_BUILD_CACHE")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache/callboard")))
        .filter(|path| path.is_absolute())
}

/// Runs to the end; what it prints goes to stderr, because stdout belongs to results.
///
/// # Errors
/// Names the command when it cannot start or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    use std::os::fd::AsFd as _;
    let shown = shown(command);
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().context("stderr cannot be shared")?;
    let status = command.stdout(stderr).status().with_context(|| format!("`{shown}` cannot start"))?;
    if status.success() { Ok(()) } else { bail!("`{shown}` failed ({status})") }
}

/// Runs to the end in silence and returns stdout.
///
/// # Errors
/// Names the command and ends with what it printed last.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("`{shown}` cannot start"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let all = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
    bail!("`{shown}` failed ({}):\n{}", output.status, last_lines(&all, 20))
}

/// The end of a longer text.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words =
        std::iter::once(program).chain(command.get_args()).map(|word| word.to_string_lossy().into_owned());
    let line = words.collect::<Vec<_>>().join(" ");
    if line.chars().count() > 160 { line.chars().take(160).chain(['…']).collect() } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_runs_own_variables_are_not_passed_on() {
        assert!(is_cargo_runs(OsStr::new("CARGO_PKG_NAME")));
        assert!(is_cargo_runs(OsStr::new("CARGO_MANIFEST_DIR")));
        assert!(!is_cargo_runs(OsStr::new("CARGO_HOME")));
        assert!(!is_cargo_runs(OsStr::new("CARGO_TARGET_DIR")));
    }

    #[test]
    fn the_end_of_a_log() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("", 2), "");
    }

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error =
            output(subprocess::command("sh", Path::new("/")).args(["-c", "echo no such thing >&2; exit 3"]));
        let sentence = error.expect_err("it fails").to_string();
        assert!(sentence.contains("`sh -c") && sentence.ends_with("no such thing"), "{sentence}");
    }
}
