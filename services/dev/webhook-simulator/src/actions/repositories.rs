//! What happens to a repository itself.

use domain::names::RepositoryName;
use serde_json::json;

use crate::{
    apps::Selection,
    payload::user,
    refusal::Refusal,
    world::{Repository, World},
};

impl World {
    /// Gives a repository another name. The old one leads to it until somebody else takes it.
    pub(crate) fn rename(&mut self, key: &str, name: &str, actor: &str) -> Result<(), Refusal> {
        let before = self.repository(key)?.name.clone();
        let name = parse(before.owner(), name)?;
        let now = self.relocate(key, name)?;
        let changes = json!({ "repository": { "name": { "from": before.name() } } });
        self.emit(&now, "repository", Some("renamed"), actor, vec![("changes", changes)])
    }

    /// Gives a repository to somebody else. Its hooks go with it; an App goes on only where it is
    /// installed on the new owner's account.
    pub(crate) fn transfer(&mut self, key: &str, owner: &str, actor: &str) -> Result<(), Refusal> {
        let before = self.repository(key)?.name.clone();
        let name = parse(owner, before.name())?;
        self.add_user(owner, false);
        let was = self.installations_on(key)?;
        let now = self.relocate(key, name)?;
        let is = self.installations_on(&now)?;
        let from = user(&self.urls, &self.user(before.owner()));
        let changes = json!({ "owner": { "from": { "user": from } } });
        self.emit(&now, "repository", Some("transferred"), actor, vec![("changes", changes)])?;
        for gone in was.iter().filter(|id| !is.contains(id)) {
            self.selection_event(*gone, &now, false, actor)?;
        }
        for new in is.iter().filter(|id| !was.contains(id)) {
            self.selection_event(*new, &now, true, actor)?;
        }
        Ok(())
    }

    fn installations_on(&self, key: &str) -> Result<Vec<u64>, Refusal> {
        let repository = self.repository(key)?;
        Ok(self.apps.installations.values().filter(|i| i.covers(repository)).map(|i| i.id).collect())
    }

    /// Moves everything that is known by a repository's name to another name.
    fn relocate(&mut self, key: &str, name: RepositoryName) -> Result<String, Refusal> {
        if self.repositories.contains_key(&name.key()) {
            return Err(Refusal::custom("Repository", "name already exists on this account"));
        }
        let Some(mut repository) = self.repositories.remove(key) else { return Err(Refusal::not_found()) };
        let now = name.key();
        repository.name = name;
        self.repositories.insert(now.clone(), repository);
        self.moved.remove(&now);
        self.moved.insert(key.to_owned(), now.clone());
        for other in self.repositories.values_mut() {
            let renamed = |it: &mut Option<String>| {
                if it.as_deref() == Some(key) {
                    *it = Some(now.clone());
                }
            };
            renamed(&mut other.fork_of);
            other.issues.values_mut().filter_map(|i| i.pull.as_mut()).for_each(|p| renamed(&mut p.fork));
        }
        for delivery in self.deliveries.values_mut().filter(|d| d.repository.as_deref() == Some(key)) {
            delivery.repository = Some(now.clone());
        }
        Ok(now)
    }

    /// Archives a repository, or takes it back.
    pub(crate) fn archive(&mut self, key: &str, archived: bool, actor: &str) -> Result<(), Refusal> {
        let action = if archived { "archived" } else { "unarchived" };
        self.switch(key, |r| &mut r.archived, archived, action, actor)
    }

    /// Hides a repository from the public, or shows it.
    pub(crate) fn set_private(&mut self, key: &str, private: bool, actor: &str) -> Result<(), Refusal> {
        let action = if private { "privatized" } else { "publicized" };
        self.switch(key, |r| &mut r.private, private, action, actor)
    }

    fn switch(
        &mut self,
        key: &str,
        of: impl FnOnce(&mut Repository) -> &mut bool,
        value: bool,
        action: &str,
        actor: &str,
    ) -> Result<(), Refusal> {
        if std::mem::replace(of(self.repository_mut(key)?), value) == value {
            return Ok(());
        }
        self.emit(key, "repository", Some(action), actor, Vec::new())
    }

    /// Takes a repository away. Whoever had a hook is told for the last time.
    pub(crate) fn delete_repository(&mut self, key: &str, actor: &str) -> Result<(), Refusal> {
        self.emit(key, "repository", Some("deleted"), actor, Vec::new())?;
        let Some(gone) = self.repositories.remove(key) else { return Err(Refusal::not_found()) };
        for installation in self.apps.installations.values_mut() {
            match &mut installation.selection {
                Selection::All => {}
                Selection::Some(numbers) => {
                    numbers.remove(&gone.id);
                }
            }
        }
        Ok(())
    }
}

fn parse(owner: &str, name: &str) -> Result<RepositoryName, Refusal> {
    format!("{owner}/{name}").parse().map_err(|_| Refusal::invalid("Repository", "name", "invalid"))
}
