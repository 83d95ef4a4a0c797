//! What happens to a repository itself.

use domain::names::RepositoryName;
use serde_json::json;

use crate::{refusal::Refusal, world::World};

impl World {
    /// Gives a repository another name. The old one leads to it until somebody else takes it.
    pub(crate) fn rename(&mut self, key: &str, name: &str, actor: &str) -> Result<(), Refusal> {
        let before = self.repository(key)?.name.clone();
        let invalid = || Refusal::invalid("Repository", "name", "invalid");
        let name: RepositoryName = format!("{}/{name}", before.owner()).parse().map_err(|_| invalid())?;
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
        let changes = json!({ "repository": { "name": { "from": before.name() } } });
        self.emit(&now, "repository", Some("renamed"), actor, vec![("changes", changes)])
    }

    /// Archives a repository, or takes it back.
    pub(crate) fn archive(&mut self, key: &str, archived: bool, actor: &str) -> Result<(), Refusal> {
        let repository = self.repository_mut(key)?;
        if std::mem::replace(&mut repository.archived, archived) == archived {
            return Ok(());
        }
        let action = if archived { "archived" } else { "unarchived" };
        self.emit(key, "repository", Some(action), actor, Vec::new())
    }
}
