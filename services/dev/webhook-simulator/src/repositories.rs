//! Repositories and what is committed to them, for tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::Context;
use domain::names::RepositoryName;

use crate::{
    Simulator,
    git::{
        Bare, ZERO,
        commit::{NewCommit, Signature},
        tree::Change,
    },
    refusal::Refusal,
    simulator::key,
    world::{Repository, World},
};

impl Simulator {
    /// Adds a repository with one commit on `main`, and its owner when missing. A file
    /// that starts with `#!` is executable.
    ///
    /// # Errors
    /// When there is one of that name, or git fails.
    pub async fn create_repository(
        &self,
        name: &str,
        private: bool,
        files: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let name: RepositoryName = name.parse()?;
        let path = self.data().join(format!("{}.git", name.key()));
        let bare = Bare::create(path, "main").await?;
        let author = self.author(name.owner());
        let sha = write(&bare, author, None, "Initial commit", files).await?;
        bare.set_ref("refs/heads/main", &sha).await?;
        self.change(|world| world.add_repository(name, private, "main", None, bare));
        Ok(())
    }

    /// The fork an account has of a repository, made when it is missing. Gives its name. All
    /// branches are copied, and none follows later.
    pub(crate) async fn fork(&self, repository: &str, owner: &str) -> anyhow::Result<String> {
        let key = key(repository)?;
        let (bare, branch, private, name) = self.read(|world| {
            let of = world.repository(&key)?;
            let name = format!("{owner}/{}", of.name.name());
            Ok::<_, Refusal>((of.bare.clone(), of.default_branch.clone(), of.private, name))
        })?;
        let name: RepositoryName = name.parse()?;
        if self.read(|world| world.repository(&name.key()).is_err()) {
            let path = self.data().join(format!("{}.git", name.key()));
            let fork = bare.fork(path, &branch).await?;
            self.change(|world| world.add_repository(name.clone(), private, &branch, Some(key), fork));
        }
        Ok(name.to_string())
    }

    /// Gives a repository another name; the old one leads to it.
    ///
    /// # Errors
    /// When there is no such repository, or the name is taken or is none.
    pub fn rename_repository(&self, repository: &str, name: &str, actor: &str) -> anyhow::Result<()> {
        let key = key(repository)?;
        Ok(self.change(|world| world.rename(&key, name, actor))?)
    }

    /// Archives a repository, as its owner: it can be read and not written.
    ///
    /// # Errors
    /// When there is no such repository.
    pub fn archive(&self, repository: &str) -> anyhow::Result<()> {
        self.set_archived(repository, true)
    }

    /// Takes a repository out of the archive, as its owner.
    ///
    /// # Errors
    /// When there is no such repository.
    pub fn unarchive(&self, repository: &str) -> anyhow::Result<()> {
        self.set_archived(repository, false)
    }

    fn set_archived(&self, repository: &str, archived: bool) -> anyhow::Result<()> {
        let name: RepositoryName = repository.parse()?;
        Ok(self.change(|world| world.archive(&name.key(), archived, name.owner()))?)
    }

    /// Gives a repository to another account, which is added when it is missing; the old name
    /// leads to it.
    ///
    /// # Errors
    /// When there is no such repository, or the account has one of that name.
    pub fn transfer_repository(&self, repository: &str, new_owner: &str) -> anyhow::Result<()> {
        let name: RepositoryName = repository.parse()?;
        Ok(self.change(|world| world.transfer(&name.key(), new_owner, name.owner()))?)
    }

    /// Hides a repository from all who have no permission, or shows it to everybody.
    ///
    /// # Errors
    /// When there is no such repository.
    pub fn set_private(&self, repository: &str, private: bool) -> anyhow::Result<()> {
        let name: RepositoryName = repository.parse()?;
        Ok(self.change(|world| world.set_private(&name.key(), private, name.owner()))?)
    }

    /// Deletes a repository, as its owner.
    ///
    /// # Errors
    /// When there is no such repository.
    pub fn delete_repository(&self, repository: &str) -> anyhow::Result<()> {
        let name: RepositoryName = repository.parse()?;
        Ok(self.change(|world| world.delete_repository(&name.key(), name.owner()))?)
    }

    /// Switches a repository's issues off, or on again. Pull requests stay.
    ///
    /// # Errors
    /// When there is no such repository.
    pub fn set_issues_enabled(&self, repository: &str, enabled: bool) -> anyhow::Result<()> {
        let key = key(repository)?;
        self.change(|world| {
            world.repository_mut(&key)?.has_issues = enabled;
            Ok(())
        })
    }

    /// Commits files on `main`, as its owner's push would, without a delivery. Gives the commit.
    ///
    /// # Errors
    /// When there is no such repository, or git fails.
    pub async fn commit(
        &self,
        repository: &str,
        message: &str,
        files: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let name: RepositoryName = repository.parse()?;
        let (bare, refs) = self.place(&name.key())?;
        let _guard = refs.lock().await;
        let parent = bare.branch("main").await?.context("there is no branch main")?;
        let sha = write(&bare, self.author(name.owner()), Some(parent), message, files).await?;
        bare.set_ref("refs/heads/main", &sha).await?;
        Ok(sha)
    }

    /// Commits files on a branch, as an account's push would, with all that follows: a delivery,
    /// and news for its pull requests. A branch that is missing starts from the default branch.
    /// Gives the commit.
    ///
    /// # Errors
    /// When there is no such repository, or git fails.
    pub async fn push_to_branch(
        &self,
        repository: &str,
        branch: &str,
        actor: &str,
        message: &str,
        files: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let key = key(repository)?;
        let (bare, refs) = self.place(&key)?;
        let _guard = refs.lock().await;
        let default = self.read(|world| world.repository(&key).map(|r| r.default_branch.clone()))?;
        let old = bare.branch(branch).await?;
        let parent = match &old {
            Some(sha) => sha.clone(),
            None => bare.branch(&default).await?.context("there is no default branch")?,
        };
        let sha = write(&bare, self.author(actor), Some(parent), message, files).await?;
        let name = format!("refs/heads/{branch}");
        anyhow::ensure!(bare.set_ref(&name, &sha).await?, "`{branch}` is no name for a branch");
        let moved = (name, old.unwrap_or_else(|| ZERO.to_owned()), sha.clone());
        self.refs_moved(&key, vec![moved], actor).await?;
        Ok(sha)
    }

    fn place(&self, key: &str) -> Result<(Bare, Arc<tokio::sync::Mutex<()>>), Refusal> {
        self.read(|world| world.repository(key).map(|r| (r.bare.clone(), Arc::clone(&r.refs))))
    }

    fn author(&self, login: &str) -> Signature {
        Signature {
            name: login.to_owned(),
            email: format!("{login}@users.noreply.github.com"),
            date: self.read(World::now).fixed_offset(),
        }
    }
}

impl World {
    fn add_repository(
        &mut self,
        name: RepositoryName,
        private: bool,
        default_branch: &str,
        fork_of: Option<String>,
        bare: Bare,
    ) {
        self.add_user(name.owner(), false);
        let (id, now) = (self.next_id(), self.now());
        let repository = Repository {
            id,
            private,
            archived: false,
            has_issues: true,
            default_branch: default_branch.to_owned(),
            created_at: now,
            pushed_at: now,
            permissions: BTreeMap::new(),
            labels: Vec::new(),
            issues: BTreeMap::new(),
            deleted: BTreeSet::new(),
            last_number: 0,
            fork_of,
            hooks: Vec::new(),
            statuses: Vec::new(),
            check_runs: Vec::new(),
            bare,
            refs: Arc::default(),
            name,
        };
        self.moved.remove(&repository.name.key());
        self.repositories.insert(repository.name.key(), repository);
    }
}

/// One commit that no branch has yet. A file that starts with `#!` is executable.
async fn write(
    bare: &Bare,
    author: Signature,
    parent: Option<String>,
    message: &str,
    files: &[(&str, &str)],
) -> anyhow::Result<String> {
    let mut changes = Vec::new();
    for (path, content) in files {
        let mode = if content.starts_with("#!") { "100755" } else { "100644" };
        let sha = bare.write_blob(content.as_bytes()).await?;
        changes.push(Change { path: (*path).to_owned(), content: Some((mode.to_owned(), sha)) });
    }
    let base = match &parent {
        Some(parent) => bare.resolve_tree(parent).await?,
        None => None,
    };
    let tree = bare.write_tree(base.as_deref(), &changes).await?.context("git refused one of the paths")?;
    let (parents, committer) = (parent.into_iter().collect(), author.clone());
    let commit = NewCommit { tree, parents, message: message.to_owned(), author, committer };
    bare.write_commit(&commit).await?.context("git refused the commit")
}
