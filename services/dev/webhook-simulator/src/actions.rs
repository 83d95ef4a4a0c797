//! What people and programs do on the stand-in: each one changes the state and makes the
//! deliveries GitHub would make. Rights are checked by the callers.

use domain::rights::Permission;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    git::{ZERO, diff::DiffStat},
    payload::{
        self,
        code::Push,
        issue::{comment, issue, label, pull},
    },
    refusal::Refusal,
    world::{Comment, Hook, Issue, Label, Pull, Reaction, World},
};

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
                .any(|i| i.open && i.pull.as_ref().is_some_and(|p| p.head == new.head && p.base == new.base))
        {
            let message =
                format!("A pull request already exists for {}:{}.", repository.name.owner(), new.head);
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
        let mut changes = json!({});
        if let Some(title) = edit.title.filter(|t| *t != issue.title) {
            changes["title"] = json!({ "from": std::mem::replace(&mut issue.title, title) });
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
        }
        if edited || moved.is_some() {
            issue.updated_at = now;
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
        self.label_event(key, number, "unlabeled", &name, actor)
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
        let id = self.next_id();
        let repository = self.repository_mut(key)?;
        if repository.label(name).is_some() {
            return Err(Refusal::invalid("Label", "name", "already_exists"));
        }
        let label = Label { id, name: name.to_owned(), color: color.to_owned(), description };
        repository.labels.push(label.clone());
        Ok(label)
    }

    pub(crate) fn add_comment(
        &mut self,
        key: &str,
        number: u64,
        author: &str,
        body: &str,
    ) -> Result<u64, Refusal> {
        check_text(body)?;
        let (id, now) = (self.next_id(), self.now());
        let issue = self.issue_mut(key, number)?;
        let author = author.to_owned();
        let comment =
            Comment { id, author: author.clone(), body: body.to_owned(), created_at: now, updated_at: now };
        issue.comments.push(comment);
        issue.updated_at = now;
        self.comment_event(key, id, "created", &author, None)?;
        Ok(id)
    }

    pub(crate) fn edit_comment(
        &mut self,
        key: &str,
        id: u64,
        body: &str,
        actor: &str,
    ) -> Result<(), Refusal> {
        check_text(body)?;
        let now = self.now();
        let comment = self.comment_mut(key, id)?;
        comment.updated_at = now;
        let from = std::mem::replace(&mut comment.body, body.to_owned());
        let changes = json!({ "body": { "from": from } });
        self.comment_event(key, id, "edited", actor, Some(("changes", changes)))
    }

    pub(crate) fn delete_comment(&mut self, key: &str, id: u64, actor: &str) -> Result<(), Refusal> {
        self.comment_event(key, id, "deleted", actor, None)?;
        for issue in self.repository_mut(key)?.issues.values_mut() {
            issue.comments.retain(|c| c.id != id);
        }
        Ok(())
    }

    /// Reacts; true when it is new, false when it was there.
    pub(crate) fn react(
        &mut self,
        key: &str,
        number: u64,
        login: &str,
        content: &str,
    ) -> Result<(Reaction, bool), Refusal> {
        if !payload::issue::CONTENTS.contains(&content) {
            return Err(Refusal::invalid("Reaction", "content", "invalid"));
        }
        let (id, now) = (self.next_id(), self.now());
        let issue = self.issue_mut(key, number)?;
        if let Some(same) = issue.reactions.iter().find(|r| r.login == login && r.content == content) {
            return Ok((same.clone(), false));
        }
        let reaction = Reaction { id, login: login.to_owned(), content: content.to_owned(), created_at: now };
        issue.reactions.push(reaction.clone());
        Ok((reaction, true))
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

    /// Records what a push did: a delivery, and news for the pull requests of the branch.
    /// `stats` are the new numbers of those that are still there.
    pub(crate) fn pushed(
        &mut self,
        key: &str,
        push: &Push,
        stats: &[(u64, DiffStat)],
        actor: &str,
    ) -> Result<(), Refusal> {
        let now = self.now();
        let repository = self.repository_mut(key)?;
        repository.pushed_at = now;
        let name = repository.name.clone();
        let parts = payload::code::push(self, &name, push, actor);
        self.emit(key, "push", None, actor, parts)?;
        for number in self.pulls_of(key, &push.name)? {
            if push.after == ZERO {
                self.edit_issue(key, number, Edit { open: Some(false), ..Edit::default() }, actor)?;
                continue;
            }
            let issue = self.issue_mut(key, number)?;
            issue.updated_at = now;
            if let Some(pull) = &mut issue.pull {
                pull.head_sha.clone_from(&push.after);
                if let Some((_, stat)) = stats.iter().find(|(n, _)| *n == number) {
                    pull.stat = *stat;
                }
            }
            let shas = Some(("before", json!(push.before)));
            self.issue_event(key, number, "synchronize", actor, shas)?;
        }
        Ok(())
    }

    /// Open pull requests whose head is the ref.
    pub(crate) fn pulls_of(&self, key: &str, reference: &str) -> Result<Vec<u64>, Refusal> {
        let Some(branch) = reference.strip_prefix("refs/heads/") else { return Ok(Vec::new()) };
        let issues = self.repository(key)?.issues.values();
        let of_branch = |i: &&Issue| i.open && i.pull.as_ref().is_some_and(|p| p.head == branch);
        Ok(issues.filter(of_branch).map(|i| i.number).collect())
    }

    /// May the account change this comment? Its author may, and who may write.
    pub(crate) fn may_edit(&self, key: &str, author: &str, login: &str) -> Result<bool, Refusal> {
        let repository = self.repository(key)?;
        Ok(author == login || self.permission(repository, Some(login)) >= Permission::Write)
    }

    fn comment_mut(&mut self, key: &str, id: u64) -> Result<&mut Comment, Refusal> {
        let issues = self.repository_mut(key)?.issues.values_mut();
        issues.flat_map(|i| &mut i.comments).find(|c| c.id == id).ok_or_else(Refusal::not_found)
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

    fn comment_event(
        &mut self,
        key: &str,
        id: u64,
        action: &str,
        actor: &str,
        more: Option<(&'static str, Value)>,
    ) -> Result<(), Refusal> {
        let repository = self.repository(key)?;
        let (on, found) = repository.comment(id).ok_or_else(Refusal::not_found)?;
        let mut parts =
            vec![("issue", issue(self, repository, on)), ("comment", comment(self, repository, on, found))];
        parts.extend(more);
        self.emit(key, "issue_comment", Some(action), actor, parts)
    }
}

fn check_text(body: &str) -> Result<(), Refusal> {
    let message = if body.trim().is_empty() {
        "Body cannot be blank"
    } else if body.chars().count() > LONGEST_TEXT {
        "Body is too long (maximum is 65536 characters)"
    } else {
        return Ok(());
    };
    Err(Refusal::validation(json!({
        "resource": "IssueComment", "code": "unprocessable", "field": "data", "message": message,
    })))
}
