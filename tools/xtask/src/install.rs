//! What the machine has to have, and how it is installed: after a yes, by the system's own
//! package manager, with the command shown first.

use std::{
    io::{BufRead as _, IsTerminal as _, Write as _},
    path::Path,
};

use anyhow::{Result, bail};

use crate::{environment, steps::Steps};

/// Something a command of ours cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Server programs of Postgres, for the private cluster.
    Postgres,
    /// The local sandbox.
    Bubblewrap,
    /// Clones, and the stand-in's `git http-backend`.
    Git,
    /// aws-lc is written in C.
    Compiler,
    /// TLS to package registries and to GitHub.
    Certificates,
    /// Packages that only npm has.
    Npm,
    /// Packages that only PyPI has.
    Pip,
}

/// What every build and every local platform needs.
pub(crate) const PLATFORM: [Need; 5] =
    [Need::Postgres, Need::Bubblewrap, Need::Git, Need::Compiler, Need::Certificates];

/// A yes that is needed and was not given.
#[derive(Debug)]
pub(crate) struct NoConsent;

impl std::fmt::Display for NoConsent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nothing was installed; run the command above yourself, or this one again with `--yes`")
    }
}
impl std::error::Error for NoConsent {}

impl Need {
    /// Debian's names.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Postgres => &["postgresql"],
            Self::Bubblewrap => &["bubblewrap"],
            Self::Git => &["git"],
            Self::Compiler => &["gcc", "libc6-dev"],
            Self::Certificates => &["ca-certificates"],
            Self::Npm => &["npm"],
            Self::Pip => &["python3-pip"],
        }
    }

    fn what_for(self) -> &'static str {
        match self {
            Self::Postgres => "the private database server",
            Self::Bubblewrap => "the sandbox agents run in",
            Self::Git => "clones, and the stand-in for GitHub",
            Self::Compiler => "the C parts of the TLS library",
            Self::Certificates => "TLS to GitHub and to package registries",
            Self::Npm => "packages that only npm has",
            Self::Pip => "packages that only PyPI has",
        }
    }

    fn is_there(self) -> bool {
        let program = |names: &[&str]| subprocess::find(names).is_some();
        match self {
            Self::Postgres => private_postgres::find_binaries().is_some(),
            Self::Bubblewrap => program(&["bwrap"]),
            Self::Git => program(&["git"]),
            Self::Compiler => program(&["cc", "gcc", "clang"]) && Path::new("/usr/include/stdio.h").exists(),
            Self::Certificates => Path::new("/etc/ssl/certs/ca-certificates.crt").exists(),
            // Started with the caller's PATH, so a version manager's will do.
            Self::Npm => on_path("npm") && (on_path("node") || on_path("nodejs")),
            Self::Pip => has_pip(),
        }
    }
}

/// Python without it is common.
fn has_pip() -> bool {
    let mut pip = environment::inherited("python3", Path::new("/"));
    on_path("python3") && environment::output(pip.args(["-m", "pip", "--version"])).is_ok()
}

fn on_path(name: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(name).is_file())
}

/// Makes sure that all of `needs` are there.
///
/// # Errors
/// [`NoConsent`] when there was no yes, else what the package manager said.
pub(crate) fn provide(needs: &[Need], yes: bool, steps: &mut Steps) -> Result<()> {
    let missing: Vec<Need> = needs.iter().copied().filter(|need| !need.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprint!("{}", missing_sentence(&missing));
    if subprocess::find(&["apt-get"]).is_none() {
        bail!("there is no apt-get here; install these by your system's own means and run this again");
    }
    let script = script(&missing);
    let root = rustix::process::geteuid().is_root();
    let sudo = subprocess::find(&["sudo"]);
    let shown = if root { format!("sh -c '{script}'") } else { format!("sudo sh -c '{script}'") };
    eprintln!("They are installed by:\n\n  {shown}\n");
    if !root && sudo.is_none() {
        eprintln!("That takes root, and there is no sudo here.");
        return Err(NoConsent.into());
    }
    if !(yes || environment::is_ci() || ask()?) {
        return Err(NoConsent.into());
    }
    let packages = packages(&missing).join(", ");
    steps.run(&format!("install {packages}"), || {
        let mut command = match sudo {
            Some(sudo) if !root => {
                let mut command = environment::inherited(sudo, Path::new("/"));
                command.arg("sh");
                command
            }
            _ => environment::inherited("sh", Path::new("/")),
        };
        environment::output(command.args(["-c", &script])).map(drop)
    })?;
    match missing.iter().find(|need| !need.is_there()) {
        None => Ok(()),
        Some(need) => bail!("{} was installed and is still not found", need.packages().join(", ")),
    }
}

/// Only at a terminal somebody can answer.
fn ask() -> Result<bool> {
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Ok(false);
    }
    eprint!("Do that now? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn packages(missing: &[Need]) -> Vec<&'static str> {
    missing.iter().flat_map(|need| need.packages().iter().copied()).collect()
}

fn missing_sentence(missing: &[Need]) -> String {
    let rows = missing.iter().map(|need| format!("  {:18} {}\n", need.packages().join(" "), need.what_for()));
    std::iter::once("Missing on this machine:\n".to_owned()).chain(rows).collect()
}

/// What is run as root. No single quotes inside: it is shown in them.
fn script(missing: &[Need]) -> String {
    let mut script = String::new();
    if missing.contains(&Need::Postgres) {
        // Debian starts a cluster of its own as soon as the server is installed, unless this
        // stands before; an administrator's own choice is left alone.
        script.push_str(concat!(
            "mkdir -p /etc/postgresql-common && ",
            r#"{ grep -qsE "^ *create_main_cluster" /etc/postgresql-common/createcluster.conf || "#,
            r#"echo "create_main_cluster = false" >>/etc/postgresql-common/createcluster.conf; } && "#,
        ));
    }
    script.push_str("export DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 && apt-get update && ");
    script.push_str("apt-get install -y --no-install-recommends ");
    script.push_str(&packages(missing).join(" "));
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_its_purpose() {
        assert_eq!(
            missing_sentence(&[Need::Postgres, Need::Compiler]),
            "Missing on this machine:\n  postgresql         the private database server\n  gcc libc6-dev      the C parts of the TLS library\n"
        );
    }

    #[test]
    fn no_system_cluster_is_left_running() {
        let with = script(&[Need::Postgres]);
        let (cluster, install) = (with.find("create_main_cluster = false"), with.find("apt-get install"));
        assert!(cluster.is_some() && cluster < install, "{with}");
        assert!(!with.contains('\''), "it is shown in single quotes: {with}");
        let without = script(&[Need::Bubblewrap]);
        assert!(!without.contains("postgresql") && without.ends_with(" bubblewrap"), "{without}");
    }
}
