//! Steering files are the default branch's, whatever the commit a run works on says: what a pull
//! request changes of them steers nobody before it is merged.

use std::{collections::BTreeSet, path::Path};

use anyhow::Context;
use domain::changeset::{Change, Changeset, FileChange, Mode, is_steering};
use proto::v1::Assignment;

use crate::{
    changeset::{Base, Entry, Kind},
    git::Git,
    restore,
};

/// What has to be put back in a clone.
#[derive(Debug)]
pub(crate) struct Steering {
    changes: Option<Changeset>,
}

impl Steering {
    /// What differs between the clone's commit and the default branch's; noted in `base`, so that
    /// it is no change of the agent's.
    pub(crate) async fn of(
        git: &Git,
        assignment: &Assignment,
        repo: &Path,
        base: &mut Base,
    ) -> anyhow::Result<Self> {
        let sha = assignment.steering_sha.as_str();
        if sha.is_empty() || sha == assignment.base_sha {
            return Ok(Self { changes: None });
        }
        let wanted = git.tree(repo, sha).await?;
        let paths: BTreeSet<&Vec<u8>> = base.iter().chain(wanted.iter()).map(|(path, _)| path).collect();
        let paths: Vec<Vec<u8>> = paths
            .into_iter()
            .filter(|path| is_steering(path) && base.get(path) != wanted.get(path) && !hidden(base, path))
            .cloned()
            .collect();
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let entry = wanted.get(&path).filter(|entry| entry.kind != Kind::Submodule);
            let change = match entry {
                Some(entry) => Change::Put { mode: mode(entry), content: git.blob(repo, &entry.id).await? },
                None => Change::Delete,
            };
            base.is_restored(path.clone(), entry.cloned());
            files.push(FileChange { path, change });
        }
        let changes = Changeset { base: assignment.base_sha.parse()?, files };
        Ok(Self { changes: Some(changes) })
    }

    /// How many files differ.
    pub(crate) fn files(&self) -> usize {
        self.changes.as_ref().map_or(0, |changes| changes.files.len())
    }

    /// Writes them into the clone as it is after a checkout.
    pub(crate) fn put_back(&self, repo: &Path) -> anyhow::Result<()> {
        let Some(changes) = &self.changes else { return Ok(()) };
        let written = changes.files.iter().filter(|file| matches!(file.change, Change::Put { .. }));
        // What is deleted was checked out by git, which knows no hostile paths.
        Changeset { base: changes.base.clone(), files: written.cloned().collect() }.restorable()?;
        restore::write(changes, repo).context("the steering files of the default branch")
    }
}

fn mode(entry: &Entry) -> Mode {
    match entry.kind {
        Kind::Executable => Mode::Executable,
        Kind::Symlink => Mode::Symlink,
        Kind::File | Kind::Submodule => Mode::Regular,
    }
}

/// True where a folder of the path is no folder in the clone: then there is nothing to steer.
fn hidden(base: &Base, path: &[u8]) -> bool {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.into_iter().any(|end| base.get(&path[..end]).is_some() && !is_steering(&path[..end]))
}
