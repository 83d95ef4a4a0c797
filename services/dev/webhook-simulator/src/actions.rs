//! What people and programs do on the stand-in: each one changes the state and makes the
//! deliveries GitHub would make. Rights are checked by the callers.

mod comments;
mod pulls;
mod repositories;

use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    payload::{
        issue::{issue, label},
        pull::pull,
        repository,
    },
    refusal::Refusal,
    world::{Happening, Hook, Issue, Label, Pull, What, World},
};

pub(crate) use self::pulls::{NewRemark, NewReview};

/// Text longer than this is refused.
const LONGEST_TEXT: usize = 65_536;

/// New values of an issue's or pull request's own fields.
#[derive(Debug, Default)]
pub(crate) struct Edit {
    pub(crate) title: Option<String>,
    pub(crate) body: Option<String>,
    pub(crate) open: Option<bool>,
    pub(crate) state_reason: Option<String>,
    pub(crate) base: Option<(String, String)>,
}

impl World {
    pub(crate) fn open_issue(
        &mut self,
        key: &str,
        author: &str,
        title: &str,
        body: Option<&str>,
        pull: Option<Pull>,
    ) -> Result<u64, Refusal> {
        if title.trim().is_empty() {
            return Err(Refusal::invalid("Issue", "title", "missing_field"));
        }
        if body.is_some_and(|b| b.chars().count() > LONGEST_TEXT) {
            return Err(Refusal::validation(json!({
                "resource": "Issue", "code": "custom", "field": "body",
                "message": "body is too long (maximum is 65536 characters)",
            })));
        }
        let (id, now) = (self.next_id(), self.now());
        let repository = self.repository_mut(key)?;
        if let Some(new) = &pull
            && repository
                .issues
                .values()
                .any(|i| i.open && i.pull.as_ref().is_some_and(|p| p.is_of(&new.fork, &new.head, &new.base)))
        {
            let owner = new.fork.as_deref().and_then(|key| key.split('/').next());
            let owner = owner.unwrap_or_else(|| repository.name.owner());
            let message = format!("A pull request already exists for {owner}:{}.", new.head);
            return Err(Refusal::custom("PullRequest", &message));
        }
        let number = repository.next_number();
        let issue = Issue {
            id,
            number,
            title: title.to_owned(),
            body: body.map(str::to_owned),
            author: author.to_owned(),
            open: true,
            state_reason: None,
            labels: Vec::new(),
            comments: Vec::new(),
            reactions: Vec::new(),
            history: Vec::new(),
            created_at: now,
            updated_at: now,
            closed_at: None,
            pull,
        };
        repository.issues.insert(number, issue);
        self.issue_event(key, number, "opened", author, None)?;
        Ok(number)
    }

    /// Changes fields, and says what changed: `edited`, `closed`, `reopened`.
    pub(crate) fn edit_issue(
        &mut self,
        key: &str,
        number: u64,
        edit: Edit,
        actor: &str,
    ) -> Result<(), Refusal> {
        let now = self.now();
        let issue = self.issue_mut(key, number)?;
        if edit.open == Some(true) && issue.pull.as_ref().is_some_and(|p| p.merge.is_some()) {
            return Err(Refusal::custom(
                "PullRequest",
                "state cannot be changed. The pull request was merged.",
            ));
        }
        let mut changes = json!({});
        let mut happened = Vec::new();
        if let Some(title) = edit.title.filter(|t| *t != issue.title) {
            let from = std::mem::replace(&mut issue.title, title.clone());
            changes["title"] = json!({ "from": from });
            happened.push(What::Renamed { from, to: title });
        }
        if let Some(body) = edit.body.filter(|b| Some(b) != issue.body.as_ref()) {
            changes["body"] = json!({ "from": issue.body.replace(body).unwrap_or_default() });
        }
        if let (Some((base, sha)), Some(pull)) = (edit.base, &mut issue.pull)
            && base != pull.base
        {
            changes["base"] = json!({ "ref": { "from": pull.base }, "sha": { "from": pull.base_sha } });
            (pull.base, pull.base_sha) = (base, sha);
        }
        let edited = changes.as_object().is_some_and(|c| !c.is_empty());
        let moved = edit.open.filter(|open| *open != issue.open);
        if let Some(open) = moved {
            issue.open = open;
            issue.closed_at = (!open).then_some(now);
            let reason =
                edit.state_reason.unwrap_or_else(|| if open { "reopened" } else { "completed" }.to_owned());
            issue.state_reason = issue.pull.is_none().then_some(reason);
            let reason = issue.state_reason.clone();
            happened.push(if open { What::Reopened } else { What::Closed { reason } });
        }
        if edited || moved.is_some() {
            issue.updated_at = now;
        }
        for what in happened {
            self.record(key, number, actor, what)?;
        }
        if edited {
            self.issue_event(key, number, "edited", actor, Some(("changes", changes)))?;
        }
        if let Some(open) = moved {
            self.issue_event(key, number, if open { "reopened" } else { "closed" }, actor, None)?;
        }
        Ok(())
    }

    /// Puts labels on; those the repository does not have are made.
    pub(crate) fn add_labels(
        &mut self,
        key: &str,
        number: u64,
        names: &[String],
        actor: &str,
    ) -> Result<(), Refusal> {
        for name in names {
            let name = match self.repository(key)?.label(name) {
                Some(label) => label.name.clone(),
                None => self.create_label(key, name, "ededed", None)?.name,
            };
            let now = self.now();
            let issue = self.issue_mut(key, number)?;
            if !issue.labels.contains(&name) {
                issue.labels.push(name.clone());
                issue.updated_at = now;
                let color = self.color_of(key, &name)?;
                self.record(key, number, actor, What::Labeled { name: name.clone(), color })?;
                self.label_event(key, number, "labeled", &name, actor)?;
            }
        }
        Ok(())
    }

    /// Takes a label off; refused when it is not on.
    pub(crate) fn remove_label(
        &mut self,
        key: &str,
        number: u64,
        name: &str,
        actor: &str,
    ) -> Result<(), Refusal> {
        let now = self.now();
        let issue = self.issue_mut(key, number)?;
        let Some(at) = issue.labels.iter().position(|l| l.eq_ignore_ascii_case(name)) else {
            return Err(Refusal::new(http::StatusCode::NOT_FOUND, "Label does not exist"));
        };
        let name = issue.labels.remove(at);
        issue.updated_at = now;
        let color = self.color_of(key, &name)?;
        self.record(key, number, actor, What::Unlabeled { name: name.clone(), color })?;
        self.label_event(key, number, "unlabeled", &name, actor)
    }

    fn color_of(&self, key: &str, label: &str) -> Result<String, Refusal> {
        Ok(self.repository(key)?.label(label).map(|l| l.color.clone()).unwrap_or_default())
    }

    /// Writes into an issue's history.
    fn record(&mut self, key: &str, number: u64, actor: &str, what: What) -> Result<(), Refusal> {
        let happening = Happening { id: self.next_id(), actor: actor.to_owned(), at: self.now(), what };
        self.issue_mut(key, number)?.history.push(happening);
        Ok(())
    }

    /// Makes a label of the repository; refused when there is one of that name.
    pub(crate) fn create_label(
        &mut self,
        key: &str,
        name: &str,
        color: &str,
        description: Option<String>,
    ) -> Result<Label, Refusal> {
        if name.trim().is_empty() {
            return Err(Refusal::invalid("Label", "name", "missing_field"));
        }
        check_label(color, description.as_deref())?;
        let id = self.next_id();
        let repository = self.repository_mut(key)?;
        if repository.label(name).is_some() {
            return Err(Refusal::invalid("Label", "name", "already_exists"));
        }
        let label = Label { id, name: name.to_owned(), color: color.to_owned(), description };
        repository.labels.push(label.clone());
        Ok(label)
    }

    /// Changes a label of the repository, also where it is on.
    pub(crate) fn update_label(
        &mut self,
        key: &str,
        name: &str,
        new_name: Option<String>,
        color: Option<String>,
        description: Option<String>,
    ) -> Result<Label, Refusal> {
        check_label(color.as_deref().unwrap_or("ededed"), description.as_deref())?;
        let repository = self.repository_mut(key)?;
        let taken = |new: &String| !new.eq_ignore_ascii_case(name) && repository.label(new).is_some();
        if new_name.as_ref().is_some_and(taken) {
            return Err(Refusal::invalid("Label", "name", "already_exists"));
        }
        let found = repository.labels.iter_mut().find(|l| l.name.eq_ignore_ascii_case(name));
        let label = found.ok_or_else(Refusal::not_found)?;
        let before = label.name.clone();
        label.name = new_name.unwrap_or_else(|| before.clone());
        label.color = color.unwrap_or_else(|| label.color.clone());
        label.description = description.or_else(|| label.description.clone());
        let label = label.clone();
        for on in repository.issues.values_mut().flat_map(|i| &mut i.labels).filter(|on| **on == before) {
            on.clone_from(&label.name);
        }
        Ok(label)
    }

    /// Takes an issue away, with all that hangs on it.
    pub(crate) fn delete_issue(&mut self, key: &str, number: u64, actor: &str) -> Result<(), Refusal> {
        self.issue_event(key, number, "deleted", actor, None)?;
        let repository = self.repository_mut(key)?;
        repository.issues.remove(&number);
        repository.deleted.insert(number);
        Ok(())
    }

    /// Moves an issue to another repository, where it gets a number of its own.
    pub(crate) fn transfer_issue(
        &mut self,
        key: &str,
        number: u64,
        to: &str,
        actor: &str,
    ) -> Result<u64, Refusal> {
        let mut moved = self.issue(key, number)?.1.clone();
        if moved.pull.is_some() {
            return Err(Refusal::custom("PullRequest", "A pull request cannot be transferred."));
        }
        (moved.id, moved.number) = (self.next_id(), self.repository_mut(to)?.next_number());
        let there = moved.number;
        self.repository_mut(to)?.issues.insert(there, moved);
        let (new_repository, new_issue) = self.issue(to, there)?;
        let changes = json!({
            "new_issue": issue(self, new_repository, new_issue),
            "new_repository": repository(self, new_repository),
        });
        self.issue_event(key, number, "transferred", actor, Some(("changes", changes)))?;
        self.repository_mut(key)?.issues.remove(&number);
        self.issue_event(to, there, "opened", actor, None)?;
        Ok(there)
    }

    /// Makes a hook and pings it.
    pub(crate) fn add_hook(
        &mut self,
        key: &str,
        url: &str,
        secret: Option<SecretString>,
        events: Vec<String>,
        active: bool,
        actor: &str,
    ) -> Result<u64, Refusal> {
        if url::Url::parse(url).is_err() {
            return Err(Refusal::custom("Hook", "Config url is missing or not an address"));
        }
        let (id, now) = (self.next_id(), self.now());
        let hooks = &mut self.repository_mut(key)?.hooks;
        if hooks.iter().any(|h| h.url == url && h.events == events) {
            return Err(Refusal::custom("Hook", "Hook already exists on this repository"));
        }
        hooks.push(Hook {
            id,
            url: url.to_owned(),
            secret,
            events,
            active,
            created_at: now,
            updated_at: now,
            last_response: None,
        });
        self.ping(key, id, actor)?;
        Ok(id)
    }

    fn label_event(
        &mut self,
        key: &str,
        number: u64,
        action: &str,
        name: &str,
        actor: &str,
    ) -> Result<(), Refusal> {
        let repository = self.repository(key)?;
        let found = repository.label(name).map(|l| ("label", label(self, repository, l)));
        self.issue_event(key, number, action, actor, found)
    }

    /// `issues`, or `pull_request` when it is one.
    fn issue_event(
        &mut self,
        key: &str,
        number: u64,
        action: &str,
        actor: &str,
        more: Option<(&'static str, Value)>,
    ) -> Result<(), Refusal> {
        let (repository, found) = self.issue(key, number)?;
        let (event, mut parts) = match &found.pull {
            Some(p) => {
                let mut parts =
                    vec![("number", json!(number)), ("pull_request", pull(self, repository, found, p, true))];
                if action == "synchronize" {
                    parts.push(("after", json!(p.head_sha)));
                }
                ("pull_request", parts)
            }
            None => ("issues", vec![("issue", issue(self, repository, found))]),
        };
        parts.extend(more);
        self.emit(key, event, Some(action), actor, parts)
    }
}

/// Six hex digits, and at most 100 characters.
fn check_label(color: &str, description: Option<&str>) -> Result<(), Refusal> {
    if color.len() != 6 || !color.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Refusal::invalid("Label", "color", "invalid"));
    }
    if description.is_some_and(|d| d.chars().count() > 100) {
        return Err(Refusal::validation(json!({
            "resource": "Label", "code": "custom", "field": "description",
            "message": "description is too long (maximum is 100 characters)",
        })));
    }
    Ok(())
}
