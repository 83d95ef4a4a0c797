//! A layer: one tar, in which every entry stands once and after the folder it is in, with the
//! same time on all of them.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// Folders of the root that are links into `/usr`.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];
/// Set-user-id and set-group-id.
const SETUID: u32 = 0o6000;

/// Content in the order it is added in.
pub(super) struct Layer<W: Write> {
    tar: Builder<Measured<W>>,
    there: BTreeSet<PathBuf>,
    /// Seconds since 1970, of everything.
    time: u64,
    /// Files lose their set-user-id and set-group-id bits.
    without_setuid: bool,
}

/// Permissions and who has them, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) mode: u32,
    pub(super) owner: (u64, u64),
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// SHA-256, hexadecimal.
    pub(super) digest: String,
    /// In bytes.
    pub(super) size: u64,
}

impl<W: Write> Layer<W> {
    /// An empty root with the links into `/usr`.
    pub(super) fn new(into: W, time: u64, without_setuid: bool) -> Result<Self> {
        let into = Measured { into, hash: Sha256::new(), size: 0 };
        let mut layer = Self { tar: Builder::new(into), there: BTreeSet::new(), time, without_setuid };
        for name in MERGED {
            let target = Path::new("usr").join(name);
            layer.folder(&target, Access::FOLDER)?;
            layer.entry(Path::new(name), EntryType::Symlink, Access::LINK, Some(&target), 0, io::empty())?;
        }
        Ok(layer)
    }

    /// A folder; the first who makes one says whose it is.
    pub(super) fn folder(&mut self, path: &Path, access: Access) -> Result<()> {
        let path = merged(path)?;
        if path.as_os_str().is_empty() || self.there.contains(&path) {
            return Ok(());
        }
        self.entry(&path, EntryType::Directory, access, None, 0, io::empty())
    }

    /// A file of `size` bytes.
    pub(super) fn file(&mut self, path: &Path, access: Access, size: u64, content: impl Read) -> Result<()> {
        let kept = if self.without_setuid { access.mode & !SETUID } else { access.mode };
        let access = Access { mode: kept, ..access };
        self.entry(&merged(path)?, EntryType::Regular, access, None, size, content)
    }

    /// A small file of root's that everybody may read.
    pub(super) fn text(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.file(Path::new(path), Access::FILE, content.len() as u64, content)
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, path: &Path, target: &Path) -> Result<()> {
        self.entry(&merged(path)?, EntryType::Symlink, Access::LINK, Some(target), 0, io::empty())
    }

    /// Another name for a file that is there.
    pub(super) fn other_name(&mut self, path: &Path, access: Access, target: &Path) -> Result<()> {
        let (path, target) = (merged(path)?, merged(target)?);
        if !self.there.contains(&target) {
            bail!("/{} is to be /{}, which is not there", path.display(), target.display());
        }
        self.entry(&path, EntryType::Link, access, Some(&target), 0, io::empty())
    }

    /// Whether something is at that path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.there.contains(Path::new(path))
    }

    /// Ends the tar.
    pub(super) fn finish(self) -> Result<Written> {
        let mut end = self.tar.into_inner().context("the layer cannot be ended")?;
        end.into.flush()?;
        Ok(Written { digest: hex::encode(end.hash.finalize()), size: end.size })
    }

    fn entry(
        &mut self,
        path: &Path,
        kind: EntryType,
        access: Access,
        target: Option<&Path>,
        size: u64,
        content: impl Read,
    ) -> Result<()> {
        if let Some(parent) = path.parent() {
            self.folder(parent, Access::FOLDER)?;
        }
        if !self.there.insert(path.to_owned()) {
            bail!("/{} is there twice", path.display());
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(access.mode);
        header.set_uid(access.owner.0);
        header.set_gid(access.owner.1);
        header.set_mtime(self.time);
        header.set_size(size);
        let written = match target {
            Some(target) => self.tar.append_link(&mut header, path, target),
            None => self.tar.append_data(&mut header, path, content),
        };
        written.with_context(|| format!("/{} cannot be written", path.display()))
    }
}

impl Access {
    /// A program or folder of root's.
    pub(super) const FOLDER: Self = Self { mode: 0o755, owner: (0, 0) };
    const FILE: Self = Self { mode: 0o644, owner: (0, 0) };
    const LINK: Self = Self { mode: 0o777, owner: (0, 0) };
}

/// The path from the root, with what has moved into `/usr` there.
fn merged(path: &Path) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir | Component::RootDir => {}
            Component::Normal(name) => {
                if clean.as_os_str().is_empty() && MERGED.iter().any(|merged| name == *merged) {
                    clean.push("usr");
                }
                clean.push(name);
            }
            Component::ParentDir | Component::Prefix(_) => bail!("{} leaves the image", path.display()),
        }
    }
    Ok(clean)
}

/// Counts and hashes what passes.
struct Measured<W> {
    into: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Measured<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.into.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}
