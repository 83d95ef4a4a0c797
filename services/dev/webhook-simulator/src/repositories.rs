//! Repositories and what is committed to them, for tests.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context;
use chrono::Utc;
use domain::names::RepositoryName;

use crate::{
    Simulator,
    git::{
        Bare,
        commit::{NewCommit, Signature},
        tree::Change,
    },
    refusal::Refusal,
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
        self.write(&bare, name.owner(), None, "Initial commit", files).await?;
        let now = self.read(World::now);
        self.change(|world| {
            world.add_user(name.owner(), false);
            let repository = Repository {
                id: world.next_id(),
                private,
                archived: false,
                default_branch: "main".to_owned(),
                created_at: now,
                pushed_at: now,
                permissions: BTreeMap::new(),
                labels: Vec::new(),
                issues: BTreeMap::new(),
                hooks: Vec::new(),
                statuses: Vec::new(),
                bare,
                refs: Arc::default(),
                name,
            };
            world.repositories.insert(repository.name.key(), repository);
        });
        Ok(())
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
        let key = repository.parse::<RepositoryName>()?.key();
        let (bare, refs, owner) = self.read(|world| {
            let repository = world.repository(&key)?;
            let owner = repository.name.owner().to_owned();
            Ok::<_, Refusal>((repository.bare.clone(), Arc::clone(&repository.refs), owner))
        })?;
        let _guard = refs.lock().await;
        let parent = bare.branch("main").await?.context("there is no branch main")?;
        self.write(&bare, &owner, Some(parent), message, files).await
    }

    /// One commit on `main`. A file that starts with `#!` is executable.
    async fn write(
        &self,
        bare: &Bare,
        author: &str,
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
        let author = Signature {
            name: author.to_owned(),
            email: format!("{author}@users.noreply.github.com"),
            date: self.read(World::now).with_timezone(&Utc).fixed_offset(),
        };
        let base = match &parent {
            Some(parent) => bare.resolve_tree(parent).await?,
            None => None,
        };
        let tree =
            bare.write_tree(base.as_deref(), &changes).await?.context("git refused one of the paths")?;
        let (parents, committer) = (parent.into_iter().collect(), author.clone());
        let commit = NewCommit { tree, parents, message: message.to_owned(), author, committer };
        let sha = bare.write_commit(&commit).await?.context("git refused the commit")?;
        bare.set_ref("refs/heads/main", &sha).await?;
        Ok(sha)
    }
}
