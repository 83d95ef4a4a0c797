//! What exists at the start, as a file.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context;
use domain::{names::RepositoryName, rights::Permission};
use serde::{Deserialize, Serialize};

use crate::Simulator;

/// Accounts and repositories to begin with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// Accounts. The first one owns the token the program writes.
    #[serde(default)]
    pub users: Vec<SeedUser>,
    /// Repositories; missing owners are added.
    #[serde(default)]
    pub repositories: Vec<SeedRepository>,
}

/// An account.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedUser {
    /// Login.
    pub login: String,
    /// True for a bot.
    #[serde(default)]
    pub bot: bool,
}

/// A repository.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedRepository {
    /// `owner/name`.
    pub name: String,
    /// True when only those with a permission see it.
    #[serde(default)]
    pub private: bool,
    /// Content by path.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Permission by login.
    #[serde(default)]
    pub permissions: BTreeMap<String, Permission>,
    /// Hooks.
    #[serde(default)]
    pub hooks: Vec<SeedHook>,
}

/// A hook.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedHook {
    /// Where deliveries go.
    pub url: String,
    /// File that holds the secret they are signed with.
    pub secret_file: PathBuf,
}

impl Default for Seed {
    /// `octocat` with `octocat/hello-world`.
    fn default() -> Self {
        let files = [
            ("README.md", "# Hello, world\n\nA small repository to try things on.\n"),
            ("src/greeting.sh", "#!/bin/sh\necho \"Hello, ${1:-world}!\"\n"),
        ];
        Self {
            users: vec![SeedUser { login: "octocat".to_owned(), bot: false }],
            repositories: vec![SeedRepository {
                name: "octocat/hello-world".to_owned(),
                private: false,
                files: files.map(|(path, content)| (path.to_owned(), content.to_owned())).into(),
                permissions: BTreeMap::new(),
                hooks: Vec::new(),
            }],
        }
    }
}

/// A secret from a file, without the line break at its end.
pub(crate) fn secret(file: &std::path::Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let secret = text.trim_end();
    anyhow::ensure!(!secret.is_empty(), "{} is empty; it should hold the webhook secret", file.display());
    Ok(secret.to_owned())
}

impl Simulator {
    /// Makes what is missing; what is there already stays as it is.
    ///
    /// # Errors
    /// When a name is none, a secret's file cannot be read, or git fails.
    pub async fn seed(&self, seed: &Seed) -> anyhow::Result<()> {
        for user in &seed.users {
            self.add_user(&user.login, user.bot);
        }
        for repository in &seed.repositories {
            let name: RepositoryName = repository.name.parse()?;
            if self.read(|world| world.repository(&name.key()).is_err()) {
                let files: Vec<(&str, &str)> = repository
                    .files
                    .iter()
                    .map(|(path, content)| (path.as_str(), content.as_str()))
                    .collect();
                self.create_repository(&repository.name, repository.private, &files).await?;
            }
            for (login, permission) in &repository.permissions {
                self.add_user(login, false);
                self.set_permission(&repository.name, login, *permission)?;
            }
            for hook in &repository.hooks {
                self.ensure_hook(&repository.name, &hook.url, &secret(&hook.secret_file)?)?;
            }
        }
        Ok(())
    }

    /// The hook with this address, made when it is missing; its secret is set either way.
    pub(crate) fn ensure_hook(&self, repository: &str, url: &str, secret: &str) -> anyhow::Result<u64> {
        let key = repository.parse::<RepositoryName>()?.key();
        let there = self.change(|world| {
            let hooks = &mut world.repository_mut(&key)?.hooks;
            let hook = hooks.iter_mut().find(|h| h.url == url);
            Ok::<_, anyhow::Error>(hook.map(|hook| {
                hook.secret = Some(secret.to_owned().into());
                hook.id
            }))
        })?;
        there.map_or_else(|| self.add_hook(repository, url, secret), Ok)
    }
}
