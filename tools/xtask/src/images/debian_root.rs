//! Debian's packages as a root folder: their files, and what their installation would have made
//! of them. Scripts of packages are not run; what they do and our images need is done here.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};
use tar::{Archive, Entry, EntryType};

use super::{
    debian::Package,
    layer::{Access, Layer},
    recipe::{Group, Recipe, User},
};

/// What Debian's slim image leaves out of every package.
const LEFT_OUT: [&str; 5] =
    ["usr/share/info", "usr/share/linda", "usr/share/lintian", "usr/share/locale", "usr/share/man"];
/// Texts, of which licences stay.
const TEXTS: &str = "usr/share/doc";
const LICENCE: &str = "copyright";

const PASSWD: &str = "usr/share/base-passwd/passwd.master";
const GROUP: &str = "usr/share/base-passwd/group.master";
const AUTHORITIES: &str = "usr/share/ca-certificates";
/// Files that are copied when their package is installed.
const COPIED: [(&str, &str); 4] = [
    ("usr/share/base-files/profile", "etc/profile"),
    ("usr/share/base-files/dot.bashrc", "root/.bashrc"),
    ("usr/share/base-files/dot.profile", "root/.profile"),
    ("usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf"),
];
/// Names of which the administrator could choose what is behind them.
const ALTERNATIVES: [(&str, &str); 3] =
    [("awk", "/usr/bin/mawk"), ("pager", "/bin/more"), ("which", "/usr/bin/which.debianutils")];

/// Writes everything of `packages`, and the recipe's users.
///
/// # Errors
/// Names the package that cannot be unpacked.
pub(super) fn write<W: Write>(layer: &mut Layer<W>, packages: &[Package], recipe: &Recipe) -> Result<()> {
    let mut sources = BTreeMap::new();
    let mut status = String::new();
    for package in packages {
        let list = unpack(layer, package, recipe, &mut sources)
            .with_context(|| format!("package {}", package.name))?;
        layer.text(&format!("var/lib/dpkg/info/{}.list", package.name), list.as_bytes())?;
        // As dpkg writes it; scanners read this.
        let control = package.control()?;
        let (name, rest) = control.split_once('\n').context("a package says its name first")?;
        status.push_str(&format!("{name}\nStatus: install ok installed\n{}\n\n", rest.trim_end()));
    }
    layer.text("var/lib/dpkg/status", status.as_bytes())?;
    settle(layer, &sources, recipe)
}

/// The package's paths, one a line, as dpkg keeps them. What is needed later goes to `sources`.
fn unpack<W: Write>(
    layer: &mut Layer<W>,
    package: &Package,
    recipe: &Recipe,
    sources: &mut BTreeMap<String, Vec<u8>>,
) -> Result<String> {
    let mut child = package.files().stdout(Stdio::piped()).spawn().context("dpkg-deb cannot start")?;
    let mut archive = Archive::new(child.stdout.take().context("dpkg-deb has no output")?);
    let mut list = String::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path: PathBuf = entry.path()?.components().skip(1).collect();
        list.push_str(&format!(
            "/{}\n",
            if path.as_os_str().is_empty() { ".".into() } else { path.display().to_string() }
        ));
        if is_left_out(&path, recipe) {
            continue;
        }
        add(layer, &mut entry, &path, sources)?;
    }
    // The rest of the last block, so that dpkg-deb can end.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
    let status = child.wait()?;
    if status.success() { Ok(list) } else { bail!("dpkg-deb failed ({status})") }
}

fn add<W: Write>(
    layer: &mut Layer<W>,
    entry: &mut Entry<'_, impl std::io::Read>,
    path: &Path,
    sources: &mut BTreeMap<String, Vec<u8>>,
) -> Result<()> {
    let header = entry.header();
    let access = Access { mode: header.mode()? & 0o7777, owner: (header.uid()?, header.gid()?) };
    let target = entry.link_name()?.map(std::borrow::Cow::into_owned);
    match (header.entry_type(), target) {
        (EntryType::Directory, _) => layer.folder(path, access),
        (EntryType::Symlink, Some(target)) => layer.link(path, &target),
        (EntryType::Link, Some(target)) => layer.other_name(path, access, &target),
        (EntryType::Regular, _) => {
            let size = entry.size();
            let name = path.to_string_lossy().into_owned();
            let wanted = COPIED.iter().any(|(from, _)| *from == name)
                || [PASSWD, GROUP].contains(&name.as_str())
                || path.starts_with(AUTHORITIES);
            if !wanted {
                return layer.file(path, access, size, entry);
            }
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            layer.file(path, access, size, content.as_slice())?;
            sources.insert(name, content);
            Ok(())
        }
        (kind, _) => bail!("/{} is of a kind no image of ours has: {kind:?}", path.display()),
    }
}

fn is_left_out(path: &Path, recipe: &Recipe) -> bool {
    let below = |folder: &Path| path.starts_with(folder) && path != folder;
    let text = below(Path::new(TEXTS)) && path.file_name().is_none_or(|name| name != LICENCE);
    text && !is_folder_of_a_licence(path)
        || LEFT_OUT.iter().any(|folder| below(Path::new(folder)))
        || recipe.emptied.iter().any(|folder| folder.strip_prefix("/").is_ok_and(below))
}

/// `usr/share/doc/PACKAGE`: a folder, or a link to another package's.
fn is_folder_of_a_licence(path: &Path) -> bool {
    path.parent() == Some(Path::new(TEXTS))
}

/// What the packages' own scripts would have done.
fn settle<W: Write>(
    layer: &mut Layer<W>,
    sources: &BTreeMap<String, Vec<u8>>,
    recipe: &Recipe,
) -> Result<()> {
    let source = |path: &str| sources.get(path).with_context(|| format!("no package brought /{path}"));
    for (from, to) in COPIED {
        layer.text(to, source(from)?)?;
    }
    let text = |path: &str| anyhow::Ok(String::from_utf8_lossy(source(path)?).into_owned());
    layer.text("etc/passwd", (text(PASSWD)? + &passwd(&recipe.users)).as_bytes())?;
    layer.text("etc/group", (text(GROUP)? + &group(&recipe.groups)).as_bytes())?;
    for (name, program) in ALTERNATIVES {
        if !layer.has(&format!("usr/bin/{}", program.rsplit('/').next().unwrap_or_default())) {
            bail!("no package brought {program}");
        }
        layer.link(&Path::new("etc/alternatives").join(name), Path::new(program))?;
        layer.link(&Path::new("usr/bin").join(name), &Path::new("/etc/alternatives").join(name))?;
    }
    layer.link(Path::new("etc/localtime"), Path::new("/usr/share/zoneinfo/Etc/UTC"))?;
    layer.text("etc/timezone", b"Etc/UTC\n")?;
    authorities(layer, sources)
}

fn passwd(users: &[User]) -> String {
    let line =
        |user: &User| format!("{}:x:{}:{}::{}:{}\n", user.name, user.id, user.group, user.home, user.shell);
    users.iter().map(line).collect()
}

fn group(groups: &[Group]) -> String {
    groups.iter().map(|group| format!("{}:x:{}:\n", group.name, group.id)).collect()
}

/// As `update-ca-certificates`: a link to each, and all in one file. The links by hash are left
/// out; what reads the folder by them also reads the file.
fn authorities<W: Write>(layer: &mut Layer<W>, sources: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    let (mut all, mut names) = (Vec::new(), String::new());
    for (path, content) in sources {
        let Some(name) = path.strip_prefix(AUTHORITIES).and_then(|rest| rest.strip_prefix('/')) else {
            continue;
        };
        let certificate = Path::new(name).with_extension("pem");
        let link = Path::new("etc/ssl/certs").join(certificate.file_name().context("a certificate's name")?);
        layer.link(&link, &Path::new("/").join(path))?;
        names.push_str(&format!("{name}\n"));
        all.extend_from_slice(content.trim_ascii_end());
        all.push(b'\n');
    }
    layer.text("etc/ca-certificates.conf", names.as_bytes())?;
    layer.text("etc/ssl/certs/ca-certificates.crt", &all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_for_people_at_a_terminal_are_left_out_and_licences_are_not() {
        let recipe = Recipe { emptied: vec!["/var/cache".into()], ..Recipe::default() };
        let left_out = |path: &str| is_left_out(Path::new(path), &recipe);
        assert!(left_out("usr/share/man/man1/git.1.gz") && left_out("usr/share/doc/git/README"));
        assert!(left_out("usr/share/doc/git/contrib/hooks") && left_out("var/cache/apt"));
        assert!(!left_out("usr/share/doc/git/copyright") && !left_out("usr/share/doc/git"));
        assert!(!left_out("usr/share/man") && !left_out("var/cache") && !left_out("usr/bin/git"));
    }
}
