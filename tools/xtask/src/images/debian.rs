//! Debian's packages: found and fetched by apt, with folders of its own, without root, and
//! without a change to the machine. apt checks what it fetches by Debian's signatures.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock};

use crate::environment::{inherited, output};

/// Debian 12.
pub(super) const RELEASE: &str = "bookworm";
/// What Debian's own slim image has: every required package, and this in place of the one that
/// merges `/bin` into `/usr` when it is installed.
const BESIDE_REQUIRED: &str = "usr-is-merged";

/// apt with folders of its own. One process has it at a time.
pub(super) struct Debian {
    folder: PathBuf,
    /// The packages of the base.
    required: BTreeSet<String>,
    _lock: File,
}

/// A package that was fetched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) file: PathBuf,
}

impl Debian {
    /// Reads Debian's package lists; what is fetched is kept in `folder`.
    ///
    /// # Errors
    /// What apt said.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        for inside in ["lists/partial", "cache/archives/partial", "sources"] {
            fs::create_dir_all(folder.join(inside))
                .with_context(|| format!("{} cannot be made", folder.display()))?;
        }
        // apt's own user reads what is in there.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        let lock = File::create(folder.join("lock"))?;
        flock(&lock, FlockOperation::LockExclusive).context("the package cache cannot be locked")?;
        fs::write(folder.join("status"), "")?;
        fs::write(folder.join("sources/debian.sources"), sources(&machine_sources()?)?)?;
        fs::write(folder.join("apt.conf"), settings(folder, &machine_settings()?))?;
        let mut debian = Self { folder: folder.to_owned(), required: BTreeSet::new(), _lock: lock };
        debian.apt("apt-get", &["-qq", "update"])?;
        debian.required = required(&debian.apt("apt-cache", &["dumpavail"])?);
        Ok(debian)
    }

    /// The base, `packages`, and all that they depend on, by name.
    ///
    /// # Errors
    /// What apt said; a package it does not know.
    pub(super) fn fetch(&self, packages: &BTreeSet<String>) -> Result<Vec<Package>> {
        let wanted = || self.required.union(packages).map(String::as_str);
        let install = |options: &[&'static str]| {
            let words: Vec<_> = options.iter().copied().chain(["install"]).chain(wanted()).collect();
            self.apt("apt-get", &words)
        };
        install(&["-qq", "--yes", "--no-install-recommends", "--download-only"])?;
        let plan = install(&["--no-install-recommends", "--simulate"])?;
        let mut fetched: Vec<_> = plan.lines().filter_map(planned).collect();
        fetched.sort();
        if fetched.is_empty() {
            bail!("apt plans to install nothing:\n{plan}");
        }
        let package = |(name, file): (String, String)| {
            let file = self.folder.join("cache/archives").join(file);
            if file.exists() { Ok(Package { name, file }) } else { bail!("{} is missing", file.display()) }
        };
        fetched.into_iter().map(package).collect()
    }

    fn apt(&self, program: &str, words: &[&str]) -> Result<String> {
        let mut command = inherited(program, &self.folder);
        command.env("APT_CONFIG", self.folder.join("apt.conf")).env("LC_ALL", "C.UTF-8");
        output(command.args(words))
    }
}

impl Package {
    /// Its `data.tar`, unpacked while it is read from the command's output.
    pub(super) fn files(&self) -> Command {
        let mut command = subprocess::command("dpkg-deb", Path::new("/"));
        command.arg("--fsys-tarfile").arg(&self.file);
        command
    }

    /// What Debian says of it: name, version, dependencies.
    ///
    /// # Errors
    /// What dpkg said.
    pub(super) fn control(&self) -> Result<String> {
        output(subprocess::command("dpkg-deb", Path::new("/")).arg("--field").arg(&self.file))
    }

    /// When Debian built it, in seconds since 1970: what the archive says of its first member.
    ///
    /// # Errors
    /// When it is no package.
    pub(super) fn built(&self) -> Result<u64> {
        let mut head = [0; 36];
        File::open(&self.file)?.read_exact(&mut head)?;
        let seconds = std::str::from_utf8(&head[24..]).ok().and_then(|text| text.trim().parse().ok());
        seconds.with_context(|| format!("{} is not a Debian package", self.file.display()))
    }
}

/// What the machine's apt would read of its mirrors: known without having read it.
fn machine_sources() -> Result<String> {
    output(inherited("apt-get", Path::new("/")).args(["update", "--print-uris"]))
}

/// How the machine reaches its mirrors: proxies, certificates, patience.
fn machine_settings() -> Result<String> {
    output(inherited("apt-config", Path::new("/")).args(["dump", "Acquire"]))
}

/// The machine's mirrors of Debian.
fn sources(machine: &str) -> Result<String> {
    let site = |release: &str| {
        let end = format!("/dists/{release}/InRelease'");
        machine.lines().find_map(|line| line.split(' ').next()?.strip_prefix('\'')?.strip_suffix(&end))
    };
    // Others have a release of that name, too; nobody else has updates to it.
    let main = site(&format!("{RELEASE}-updates")).or_else(|| site(RELEASE));
    let (Some(main), Some(security)) = (main, site(&format!("{RELEASE}-security"))) else {
        bail!(
            "apt on this machine knows no mirrors of Debian's {RELEASE} and {RELEASE}-security; images are made of their packages"
        );
    };
    let stanza = |site: &str, suites: String| {
        format!(
            "Types: deb\nURIs: {site}\nSuites: {suites}\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        )
    };
    Ok(format!(
        "{}\n{}",
        stanza(main, format!("{RELEASE} {RELEASE}-updates")),
        stanza(security, format!("{RELEASE}-security"))
    ))
}

fn settings(folder: &Path, machine: &str) -> String {
    let folder = folder.display();
    // Hooks of the machine's configuration are not ours, so nothing but `Acquire` is taken over.
    format!(
        r#"{machine}
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{folder}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{folder}";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Acquire::Languages "none";
APT::Sandbox::User "";
"#
    )
}

/// Names of required and essential packages among all.
fn required(all: &str) -> BTreeSet<String> {
    let mut required = BTreeSet::from([BESIDE_REQUIRED.to_owned()]);
    let mut name = "";
    for line in all.lines() {
        if let Some(package) = line.strip_prefix("Package: ") {
            name = package;
        } else if matches!(line, "Priority: required" | "Essential: yes") {
            required.insert(name.to_owned());
        }
    }
    required
}

/// Name and file of `Inst NAME (VERSION ORIGIN [ARCHITECTURE])`.
fn planned(line: &str) -> Option<(String, String)> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
    let (version, rest) = rest.split_once(')')?.0.split_once(' ')?;
    let architecture = rest.rsplit_once('[')?.1.strip_suffix(']')?;
    // An epoch's colon cannot stand in the name of a file.
    Some((name.to_owned(), format!("{name}_{}_{architecture}.deb", version.replace(':', "%3a"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_mirrors_are_used_and_nothing_else_it_installs_from() {
        let machine = concat!(
            "'https://download.docker.com/linux/debian/dists/bookworm/InRelease' docker_InRelease 0 \n",
            "'http://mirror/debian/dists/bookworm/InRelease' debian_InRelease 0 \n",
            "'http://mirror/debian/dists/bookworm-updates/InRelease' updates_InRelease 0 \n",
            "'http://safe/debian-security/dists/bookworm-security/InRelease' security_InRelease 0 \n",
            "'http://mirror/debian/dists/bookworm/main/binary-amd64/Packages.xz' packages 0 \n",
        );
        let found = sources(machine).expect("both are known");
        assert!(found.contains("URIs: http://mirror/debian\nSuites: bookworm bookworm-updates\n"), "{found}");
        assert!(found.contains("URIs: http://safe/debian-security\nSuites: bookworm-security\n"), "{found}");
        assert!(!found.contains("docker"), "{found}");
        assert!(sources("'http://archive/ubuntu/dists/noble/InRelease' noble_InRelease 0 \n").is_err());
    }

    #[test]
    fn the_plan_names_files() {
        let line = "Inst git (1:2.39.5-0+deb12u3 Debian:12.15/oldstable [amd64]) []";
        let file = "git_1%3a2.39.5-0+deb12u3_amd64.deb";
        assert_eq!(planned(line), Some(("git".to_owned(), file.to_owned())));
        assert_eq!(planned("Conf git (1:2.39.5-0+deb12u3 Debian:12.15/oldstable [amd64])"), None);
    }
}
