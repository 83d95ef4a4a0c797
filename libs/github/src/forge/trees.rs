//! Which files a commit has. Commits never change, so what was learnt once is kept: one listing
//! tells that there are no files of ours, and what a new commit is put on top of.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use domain::names::{CommitSha, RepositoryName};
use forge::{ForgeError, Result};
use serde::Deserialize;

use crate::client::{Endpoint, Scope};

/// Commits whose tree is remembered.
const MOST_COMMITS: usize = 200;
/// Listings that are remembered.
const MOST_LISTINGS: usize = 8;
/// A longer listing is not remembered: about 8 MB.
const MOST_FILES: usize = 50_000;

/// The files of a tree.
#[derive(Debug)]
pub(crate) struct Listing {
    files: Vec<ListedFile>,
    /// The host did not tell all of them.
    pub(crate) truncated: bool,
}

#[derive(Debug)]
struct ListedFile {
    path: String,
    /// Neither a link nor a submodule.
    is_regular: bool,
}

#[derive(Deserialize)]
struct TreeBody {
    tree: Vec<EntryBody>,
    #[serde(default)]
    truncated: bool,
}

#[derive(Deserialize)]
struct EntryBody {
    path: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    mode: String,
}

#[derive(Deserialize)]
struct CommitBody {
    tree: ObjectBody,
}

#[derive(Deserialize)]
struct ObjectBody {
    sha: String,
}

impl Listing {
    /// Paths of everything below a folder; links and submodules too.
    pub(crate) fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a str> {
        self.in_folder(folder).map(|file| file.path.as_str())
    }

    fn in_folder<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a ListedFile> {
        let inside = move |file: &&ListedFile| {
            file.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
        };
        self.files.iter().filter(inside)
    }

    fn has(&self, path: &str) -> bool {
        self.files.iter().any(|file| file.path == path)
    }
}

/// What is remembered, per repository, newest first.
#[derive(Debug, Default)]
pub(crate) struct Trees {
    commits: Mutex<VecDeque<(RepositoryName, CommitSha, String)>>,
    listings: Mutex<VecDeque<(RepositoryName, String, Arc<Listing>)>>,
}

impl Trees {
    /// A commit has this tree.
    pub(super) fn note(&self, repository: &RepositoryName, commit: &CommitSha, tree: &str) {
        let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        if !commits.iter().any(|(of, sha, _)| of == repository && sha == commit) {
            commits.push_front((repository.clone(), commit.clone(), tree.to_owned()));
            commits.truncate(MOST_COMMITS);
        }
    }

    fn known(&self, repository: &RepositoryName, commit: &CommitSha) -> Option<String> {
        let commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        commits.iter().find(|(of, sha, _)| of == repository && sha == commit).map(|(.., tree)| tree.clone())
    }

    /// The tree of a commit, asked for where it is not known.
    pub(crate) async fn of(
        &self,
        scope: &Scope<'_>,
        repository: &RepositoryName,
        commit: &CommitSha,
    ) -> Result<String> {
        if let Some(tree) = self.known(repository, commit) {
            return Ok(tree);
        }
        let body: CommitBody = scope.get(Endpoint::Commit, &[commit.as_str()], &[]).await?.json()?;
        self.note(repository, commit, &body.tree.sha);
        Ok(body.tree.sha)
    }

    /// The files of a tree, in one call where they are not known.
    pub(crate) async fn listing(
        &self,
        scope: &Scope<'_>,
        repository: &RepositoryName,
        tree: &str,
    ) -> Result<Arc<Listing>> {
        let find = || {
            let listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
            let found = listings.iter().find(|(of, sha, _)| of == repository && sha == tree);
            found.map(|(.., listing)| Arc::clone(listing))
        };
        if let Some(known) = find() {
            return Ok(known);
        }
        let body: TreeBody = scope.get(Endpoint::Tree, &[tree], &[("recursive", "1")]).await?.json()?;
        let truncated = body.truncated;
        let files = body.tree.into_iter().filter(|entry| !truncated && entry.kind != "tree");
        let files = files
            .map(|entry| ListedFile { is_regular: entry.mode.starts_with("100"), path: entry.path })
            .collect();
        let listing = Arc::new(Listing { files, truncated });
        if listing.files.len() <= MOST_FILES {
            let mut listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
            listings.push_front((repository.clone(), tree.to_owned(), Arc::clone(&listing)));
            listings.truncate(MOST_LISTINGS);
        }
        Ok(listing)
    }

    /// The whole listing of a commit whose tree is known from its branch; `None`: ask in another
    /// way.
    async fn whole(
        &self,
        scope: &Scope<'_>,
        repository: &RepositoryName,
        commit: &CommitSha,
    ) -> Result<Option<Arc<Listing>>> {
        let Some(tree) = self.known(repository, commit) else { return Ok(None) };
        match self.listing(scope, repository, &tree).await {
            Ok(listing) => Ok(Some(listing).filter(|listing| !listing.truncated)),
            Err(ForgeError::Missing { .. } | ForgeError::Unsupported { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// True when a commit is known not to have a file.
    pub(super) async fn lacks(
        &self,
        scope: &Scope<'_>,
        repository: &RepositoryName,
        commit: &CommitSha,
        path: &str,
    ) -> Result<bool> {
        Ok(self.whole(scope, repository, commit).await?.is_some_and(|listing| !listing.has(path)))
    }

    /// The files below a folder at a commit, without links and submodules; `None` where it takes
    /// another way to learn them.
    pub(super) async fn files_below(
        &self,
        scope: &Scope<'_>,
        repository: &RepositoryName,
        commit: &CommitSha,
        folder: &str,
    ) -> Result<Option<Vec<String>>> {
        let listing = self.whole(scope, repository, commit).await?;
        let files = |listing: Arc<Listing>| {
            let regular = listing.in_folder(folder).filter(|file| file.is_regular);
            regular.map(|file| file.path.clone()).collect()
        };
        Ok(listing.map(files))
    }
}
