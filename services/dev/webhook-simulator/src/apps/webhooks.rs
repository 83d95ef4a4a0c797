//! What an App is told: everything about the repositories it is installed on, as far as it may
//! read it, and what becomes of its installations.

use serde_json::{Value, json};

use crate::{
    payload::{self, apps as shown, node_id},
    refusal::Refusal,
    world::{Repository, World},
};

/// Events an App on the stand-in subscribes to. Those about its installations come anyway.
pub(crate) const EVENTS: [&str; 7] = [
    "issue_comment",
    "issues",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "push",
    "repository",
];

/// Permissions one of which an event takes.
fn permissions_for(event: &str) -> &'static [&'static str] {
    match event {
        "issues" => &["issues"],
        "issue_comment" => &["issues", "pull_requests"],
        "pull_request" | "pull_request_review" | "pull_request_review_comment" => &["pull_requests"],
        "push" => &["contents"],
        _ => &["metadata"],
    }
}

impl World {
    /// Makes the delivery of every App that is installed on the repository and wants the event.
    pub(crate) fn tell_apps(
        &mut self,
        key: &str,
        event: &str,
        action: Option<&str>,
        payload: &Value,
    ) -> Result<(), Refusal> {
        let repository = self.repository(key)?;
        let wants = |i: &&super::Installation| {
            let may = |name: &&str| i.permissions.allow(name, super::Level::Read);
            let app = self.apps.registered.get(&i.app);
            i.suspended_at.is_none()
                && i.covers(repository)
                && permissions_for(event).iter().any(may)
                && app.is_some_and(|a| a.hook.wants(event))
        };
        let found: Vec<(u64, u64)> =
            self.apps.installations.values().filter(wants).map(|i| (i.id, i.app)).collect();
        for (installation, app) in found {
            let hook = self.app(app)?.hook.id;
            let mut payload = payload.clone();
            payload["installation"] =
                json!({ "id": installation, "node_id": node_id("Integration", installation) });
            self.deliver(hook, event, action, payload.to_string(), None)?;
        }
        Ok(())
    }

    /// `installation`
    pub(super) fn installation_event(&mut self, id: u64, action: &str, actor: &str) -> Result<(), Refusal> {
        let found = self.installation(id)?;
        let covered: Vec<Value> = self.covered_by(id).into_iter().map(short).collect();
        let mut body = json!({
            "action": action,
            "installation": shown::delivered_installation(self, found)?,
            "sender": payload::user(&self.urls, &self.user(actor)),
        });
        if matches!(action, "created" | "deleted" | "new_permissions_accepted") {
            body["repositories"] = json!(covered);
            body["requester"] = Value::Null;
        }
        self.tell_app_of(id, "installation", action, &body)
    }

    /// `installation_repositories`
    pub(crate) fn selection_event(
        &mut self,
        id: u64,
        key: &str,
        added: bool,
        actor: &str,
    ) -> Result<(), Refusal> {
        let found = self.installation(id)?;
        let one = vec![short(self.repository(key)?)];
        let (action, more, fewer) =
            if added { ("added", one, Vec::new()) } else { ("removed", Vec::new(), one) };
        let body = json!({
            "action": action,
            "installation": shown::delivered_installation(self, found)?,
            "repository_selection": found.selection.name(),
            "repositories_added": more,
            "repositories_removed": fewer,
            "requester": null,
            "sender": payload::user(&self.urls, &self.user(actor)),
        });
        self.tell_app_of(id, "installation_repositories", action, &body)
    }

    fn tell_app_of(&mut self, id: u64, event: &str, action: &str, body: &Value) -> Result<(), Refusal> {
        let app = self.installation(id)?.app;
        let hook = &self.app(app)?.hook;
        if !hook.active || hook.url.is_empty() {
            return Ok(());
        }
        self.deliver(hook.id, event, Some(action), body.to_string(), None).map(drop)
    }
}

/// A repository as installations name it.
fn short(repository: &Repository) -> Value {
    json!({
        "id": repository.id,
        "node_id": node_id("Repository", repository.id),
        "name": repository.name.name(),
        "full_name": repository.name.to_string(),
        "private": repository.private,
    })
}
