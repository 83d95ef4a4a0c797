//! What the agent changed, found out without trusting anything it could write to but the
//! files themselves: its `.git` (configuration, hooks, index, attributes) is not looked at.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ffi::OsStr,
    fs,
    io::{self, Read},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use proto::v1::file_change::Mode;
use rustix::fs::OFlags;
use sha1::{Digest, Sha1};

use crate::git::Git;

/// More files than this are no working tree we can look through.
const MOST_FILES: usize = 1_000_000;

/// What an entry of a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Executable,
    Symlink,
    Submodule,
}

/// One entry of the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// Git's id of the content.
    pub(crate) id: Vec<u8>,
    /// Bytes of the content.
    pub(crate) size: u64,
}

/// The commit the agent started from, by path. Made before the agent starts, kept in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Base {
    entries: BTreeMap<Vec<u8>, Entry>,
    /// Paths that were put to another version before the agent began: that version, or that
    /// there is none.
    restored: BTreeMap<Vec<u8>, Option<Entry>>,
}

impl Base {
    pub(crate) fn new(entries: BTreeMap<Vec<u8>, Entry>) -> Self {
        Self { entries, restored: BTreeMap::new() }
    }
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Vec<u8>, &Entry)> {
        self.entries.iter()
    }
    pub(crate) fn get(&self, path: &[u8]) -> Option<&Entry> {
        self.entries.get(path)
    }
    /// Notes that the agent finds this at `path` and not what the commit has there.
    pub(crate) fn is_restored(&mut self, path: Vec<u8>, entry: Option<Entry>) {
        self.restored.insert(path, entry);
    }
}

/// One changed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Relative to the repository's root.
    pub(crate) path: Vec<u8>,
    pub(crate) mode: Mode,
    /// The whole content; a symlink's target; empty for deletions and nested repositories.
    pub(crate) content: Vec<u8>,
}

/// All changes, by path, and what was left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changeset {
    pub(crate) changes: Vec<Change>,
    /// Sentences for the transcript.
    pub(crate) notes: Vec<String>,
}

impl Changeset {
    /// Bytes of all contents.
    pub(crate) fn bytes(&self) -> usize {
        self.changes.iter().map(|change| change.content.len()).sum()
    }
}

/// Why there is no changeset.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The agent left something that cannot be returned: a sentence.
    Agent(String),
    /// Our own doing.
    Runner(anyhow::Error),
}

/// What becomes of pipes, sockets and devices in the working tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Specials {
    /// They are removed; the agent is done.
    Remove,
    /// They stay; the agent goes on afterwards.
    LeaveOut,
}

/// Compares the working tree in `repo` with `base`. Nothing of the agent may be running.
/// `most_bytes` bounds the contents; 0 for no bound.
pub(crate) async fn compute(
    git: &Git,
    base: &Base,
    repo: &Path,
    most_bytes: u64,
    specials: Specials,
) -> Result<Changeset, Failure> {
    let root = repo.to_owned();
    let walked = tokio::task::spawn_blocking(move || walk(&root, specials))
        .await
        .map_err(|error| Failure::Runner(error.into()))?;
    let tree = walked?;
    let listed = git.not_ignored(repo).await.map_err(Failure::Runner)?;
    let (base, repo) = (base.clone(), repo.to_owned());
    tokio::task::spawn_blocking(move || compare(&base, &tree, &listed, &repo, most_bytes))
        .await
        .map_err(|error| Failure::Runner(error.into()))?
}

/// What is in the working tree.
#[derive(Debug, Default)]
struct Tree {
    files: BTreeMap<Vec<u8>, Found>,
    folders: BTreeSet<Vec<u8>>,
    notes: Vec<String>,
}

/// A file or symlink as it is on disk.
#[derive(Clone, Copy, Debug)]
struct Found {
    kind: Kind,
    size: u64,
}

fn shown(path: &[u8]) -> String {
    format!("`{}`", String::from_utf8_lossy(path).replace('`', "'"))
}

fn unreadable(path: &[u8], error: &io::Error) -> Failure {
    Failure::Agent(format!(
        "The agent left {} in the repository, which cannot be read: {error}.",
        shown(path)
    ))
}

/// Lists everything below `root`, following no links and looking into no `.git`. Of what is
/// neither file, folder nor link, `.gitignore` must go: git would wait for such a pipe for ever.
fn walk(root: &Path, specials: Specials) -> Result<Tree, Failure> {
    if !fs::symlink_metadata(root).is_ok_and(|found| found.is_dir()) {
        return Err(Failure::Agent("The agent removed the repository's folder.".to_owned()));
    }
    let mut tree = Tree::default();
    let mut waiting = vec![Vec::new()];
    while let Some(folder) = waiting.pop() {
        let entries = fs::read_dir(at(root, &folder)).map_err(|error| unreadable(&folder, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&folder, &error))?;
            let name = entry.file_name().into_vec();
            if name == b".git" {
                continue;
            }
            let path = if folder.is_empty() { name } else { [folder.as_slice(), b"/", &name].concat() };
            let found = fs::symlink_metadata(entry.path()).map_err(|error| unreadable(&path, &error))?;
            let size = found.len();
            if found.is_dir() {
                tree.folders.insert(path.clone());
                waiting.push(path);
            } else if found.is_symlink() {
                tree.files.insert(path, Found { kind: Kind::Symlink, size });
            } else if found.is_file() {
                let kind = if found.mode() & 0o100 == 0 { Kind::File } else { Kind::Executable };
                tree.files.insert(path, Found { kind, size });
            } else {
                tree.notes
                    .push(format!("Left out {}: it is neither a file, a folder nor a link.", shown(&path)));
                match specials {
                    Specials::Remove => {
                        fs::remove_file(entry.path()).map_err(|error| unreadable(&path, &error))?;
                    }
                    Specials::LeaveOut if path.ends_with(b".gitignore") => {
                        return Err(Failure::Agent(format!("{} is not a file.", shown(&path))));
                    }
                    Specials::LeaveOut => {}
                }
            }
            if tree.files.len() + tree.folders.len() > MOST_FILES {
                return Err(Failure::Agent(format!(
                    "The agent left more than {MOST_FILES} files in the repository."
                )));
            }
        }
    }
    Ok(tree)
}

fn at(root: &Path, path: &[u8]) -> PathBuf {
    root.join(OsStr::from_bytes(path))
}

fn compare(
    base: &Base,
    tree: &Tree,
    listed: &HashSet<Vec<u8>>,
    repo: &Path,
    most_bytes: u64,
) -> Result<Changeset, Failure> {
    let mut contents = Contents { repo, most: if most_bytes == 0 { u64::MAX } else { most_bytes }, used: 0 };
    let same = |path: &[u8], entry: &Entry, found: Found| {
        let alike = entry.kind == found.kind && entry.size == found.size;
        let id =
            if alike { Some(id(repo, path, found).map_err(|error| unreadable(path, &error))?) } else { None };
        Ok::<_, Failure>(id.as_ref() == Some(&entry.id))
    };
    // What was put to another version, and the agent left alone, is no change of its.
    let left_alone = |path: &Vec<u8>| match (base.restored.get(path), tree.files.get(path)) {
        (None, _) => Ok(false),
        (Some(None), found) => Ok(found.is_none()),
        (Some(Some(_)), None) => Ok(false),
        (Some(Some(entry)), Some(found)) => same(path, entry, *found),
    };
    let mut changes = BTreeMap::new();
    let mut submodules = BTreeSet::new();
    for (path, entry) in base.iter() {
        if left_alone(path)? {
            continue;
        }
        let found = tree.files.get(path);
        let changed =
            match (entry.kind, found) {
                // Submodules are not fetched: an empty folder stands for one.
                (Kind::Submodule, None) if tree.folders.contains(path) => {
                    submodules.insert(path.clone());
                    continue;
                }
                (_, None) => Some((Mode::Deleted, Vec::new())),
                (Kind::Submodule, Some(found)) => Some(contents.read(path, *found)?),
                (Kind::File | Kind::Executable | Kind::Symlink, Some(found)) => {
                    if same(path, entry, *found)? { None } else { Some(contents.read(path, *found)?) }
                }
            };
        if let Some(change) = changed {
            changes.insert(path.clone(), change);
        }
    }
    let in_submodule = |path: &[u8]| {
        submodules
            .iter()
            .find(|folder| path.starts_with(folder) && path.get(folder.len()) == Some(&b'/'))
            .cloned()
    };
    for path in listed {
        // "folder/" is a repository inside the repository.
        if let Some(nested) = path.strip_suffix(b"/") {
            changes.insert(nested.to_vec(), (Mode::Submodule, Vec::new()));
        } else if let Some(folder) = in_submodule(path) {
            changes.insert(folder, (Mode::Submodule, Vec::new()));
        } else if !base.entries.contains_key(path)
            && !left_alone(path)?
            && let Some(found) = tree.files.get(path)
        {
            changes.insert(path.clone(), contents.read(path, *found)?);
        }
    }
    let changes = changes.into_iter().map(|(path, (mode, content))| Change { path, mode, content }).collect();
    Ok(Changeset { changes, notes: tree.notes.clone() })
}

/// Reads contents up to a bound.
struct Contents<'a> {
    repo: &'a Path,
    most: u64,
    used: u64,
}

impl Contents<'_> {
    fn read(&mut self, path: &[u8], found: Found) -> Result<(Mode, Vec<u8>), Failure> {
        self.used = self.used.saturating_add(found.size);
        if self.used > self.most {
            return Err(Failure::Agent(format!(
                "The changes are larger than {} bytes, which is the most this stage may publish; {} alone has {} bytes.",
                self.most,
                shown(path),
                found.size
            )));
        }
        let (mode, content) = match found.kind {
            Kind::Symlink => (Mode::Symlink, target(self.repo, path)),
            Kind::Executable => (Mode::Executable, self.content(path)),
            Kind::File | Kind::Submodule => (Mode::File, self.content(path)),
        };
        Ok((mode, content.map_err(|error| unreadable(path, &error))?))
    }

    fn content(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        open(self.repo, path)?.read_to_end(&mut content)?;
        Ok(content)
    }
}

fn open(repo: &Path, path: &[u8]) -> io::Result<fs::File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(at(repo, path))
}

fn target(repo: &Path, path: &[u8]) -> io::Result<Vec<u8>> {
    fs::read_link(at(repo, path)).map(|target| target.into_os_string().into_vec())
}

/// Git's id of what is on disk.
fn id(repo: &Path, path: &[u8], found: Found) -> io::Result<Vec<u8>> {
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", found.size));
    if found.kind == Kind::Symlink {
        hash.update(target(repo, path)?);
    } else {
        let mut file = open(repo, path)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
        }
    }
    Ok(hash.finalize().to_vec())
}

#[cfg(test)]
mod tests;
