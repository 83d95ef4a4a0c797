//! What who asks may do with a repository, for the request at hand.

use std::collections::HashMap;

use domain::rights::Permission;
use http::{Method, StatusCode};

use crate::{
    apps::{
        Route,
        tokens::{Grant, not_accessible},
    },
    caller::Caller,
    refusal::Refusal,
    world::{Repository, UserToken, World},
};

/// A request about a repository.
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    /// The path without `/api/v3`, with names for its parts.
    pub(super) template: &'a str,
    pub(super) parts: &'a HashMap<String, String>,
}

impl Asked<'_> {
    /// The permission the caller has; a refusal when the repository is not for them to see.
    pub(super) fn permission(
        &self,
        world: &World,
        repository: &Repository,
        caller: &Caller,
    ) -> Result<Permission, Refusal> {
        let permission = match caller {
            Caller::Installation(grant) => self.of_installation(repository, grant)?,
            Caller::User(token) => self.of_token(world, repository, token)?,
            // An App asks which of its installations covers a repository, and nothing else.
            Caller::App(app) if self.template.ends_with("}/installation") => {
                let covers = |i: &crate::apps::Installation| i.app == *app && i.covers(repository);
                let is_installed = world.apps.installations.values().any(covers);
                if is_installed { Permission::Read } else { world.permission(repository, None) }
            }
            Caller::App(_) => return Err(Refusal::unauthenticated()),
            Caller::Anonymous | Caller::Refused(_) => world.permission(repository, None),
        };
        if permission >= Permission::Read { Ok(permission) } else { Err(Refusal::not_found()) }
    }

    /// The App's permissions are per kind of thing; where they are enough, no role is asked for.
    fn of_installation(&self, repository: &Repository, grant: &Grant) -> Result<Permission, Refusal> {
        let covered = grant.covers(repository);
        let route = Route::find(self.method, self.template);
        if covered
            && route.is_some_and(|route| route.accepts(&grant.permissions, self.is_on_pull(repository)))
        {
            return Ok(Permission::Admin);
        }
        if !repository.private && route.is_some_and(Route::is_public) {
            return Ok(Permission::Read);
        }
        if repository.private && !covered {
            return Err(Refusal::not_found());
        }
        Err(not_accessible())
    }

    /// A token can do less than its owner.
    fn of_token(
        &self,
        world: &World,
        repository: &Repository,
        token: &UserToken,
    ) -> Result<Permission, Refusal> {
        let permission = world.permission(repository, Some(&token.login));
        let writes = *self.method != Method::GET;
        let on_hooks = self.template.starts_with("/repos/{owner}/{repo}/hooks");
        let hooks = token.has("admin:repo_hook") || (!writes && token.has("read:repo_hook"));
        if token.has("repo") || (on_hooks && hooks) {
            return Ok(permission);
        }
        let open = token.has("public_repo") && !repository.private && !on_hooks;
        if open || !(writes || repository.private || on_hooks) {
            Ok(permission)
        } else {
            Err(Refusal::not_found())
        }
    }

    /// True when it is about a pull request.
    fn is_on_pull(&self, repository: &Repository) -> bool {
        let number = |name: &str| self.parts.get(name).and_then(|n| n.parse::<u64>().ok());
        let on = |comment| repository.comment(comment).map(|(issue, _)| issue.number);
        number("number").or_else(|| number("comment").and_then(on)).is_some_and(|n| repository.is_pull(n))
    }

    /// Refuses what is about issues where they are disabled; pull requests stay.
    pub(super) fn check_issues(&self, repository: &Repository) -> Result<(), Refusal> {
        let about = self.template.starts_with("/repos/{owner}/{repo}/issues");
        if about && !repository.has_issues && !self.is_on_pull(repository) {
            return Err(Refusal::new(StatusCode::GONE, "Issues has been disabled in this repository."));
        }
        Ok(())
    }
}
