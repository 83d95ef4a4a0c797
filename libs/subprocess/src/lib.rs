//! The one way to start another program.
//!
//! A program inherits nothing by accident: its environment starts empty but for `PATH` and
//! `LANG`, and whoever starts it has to say where it runs. So no token of ours
//! ends up in a child's environment.

use std::{ffi::OsStr, path::Path, process::Command};

/// A command that runs in `directory` with an empty environment, a `PATH`, and nothing on
/// standard input.
#[expect(clippy::disallowed_methods, reason = "this is the one place that makes commands")]
pub fn command(program: impl AsRef<OsStr>, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).env_clear().stdin(std::process::Stdio::null()).env("LANG", "C.UTF-8");
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// The first of `names` that is an executable file in the usual folders.
pub fn find(names: &[&str]) -> Option<std::path::PathBuf> {
    const FOLDERS: [&str; 6] =
        ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"];
    names.iter().flat_map(|n| FOLDERS.map(|f| Path::new(f).join(n))).find(|p| p.is_file())
}
