//! Comments, and reactions to anything.

use domain::rights::Permission;
use serde_json::{Value, json};

use super::LONGEST_TEXT;
use crate::{
    payload::issue::{CONTENTS, comment, issue},
    refusal::Refusal,
    world::{Comment, Reaction, World},
};

impl World {
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
        let comment = Comment {
            id,
            author: author.clone(),
            body: body.to_owned(),
            created_at: now,
            updated_at: now,
            reactions: Vec::new(),
        };
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
        self.touch(key, id)?;
        let comment = self.comment_mut(key, id)?;
        comment.updated_at = now;
        let from = std::mem::replace(&mut comment.body, body.to_owned());
        let changes = json!({ "body": { "from": from } });
        self.comment_event(key, id, "edited", actor, Some(("changes", changes)))
    }

    pub(crate) fn delete_comment(&mut self, key: &str, id: u64, actor: &str) -> Result<(), Refusal> {
        self.touch(key, id)?;
        self.comment_event(key, id, "deleted", actor, None)?;
        for issue in self.repository_mut(key)?.issues.values_mut() {
            issue.comments.retain(|c| c.id != id);
        }
        Ok(())
    }

    /// Reacts to an issue or pull request; true when it is new, false when it was there.
    pub(crate) fn react(
        &mut self,
        key: &str,
        number: u64,
        login: &str,
        content: &str,
    ) -> Result<(Reaction, bool), Refusal> {
        let new = self.new_reaction(login, content)?;
        Ok(put(&mut self.issue_mut(key, number)?.reactions, new))
    }

    /// Reacts to a comment; true when it is new, false when it was there.
    pub(crate) fn react_to_comment(
        &mut self,
        key: &str,
        id: u64,
        login: &str,
        content: &str,
    ) -> Result<(Reaction, bool), Refusal> {
        let new = self.new_reaction(login, content)?;
        Ok(put(&mut self.comment_mut(key, id)?.reactions, new))
    }

    fn new_reaction(&mut self, login: &str, content: &str) -> Result<Reaction, Refusal> {
        if !CONTENTS.contains(&content) {
            return Err(Refusal::invalid("Reaction", "content", "invalid"));
        }
        let (id, created_at) = (self.next_id(), self.now());
        Ok(Reaction { id, login: login.to_owned(), content: content.to_owned(), created_at })
    }

    /// May the account change this comment? Its author may, and who may write.
    pub(crate) fn may_edit(&self, key: &str, author: &str, login: &str) -> Result<bool, Refusal> {
        let repository = self.repository(key)?;
        Ok(author == login || self.permission(repository, Some(login)) >= Permission::Write)
    }

    /// Its issue changed with it.
    fn touch(&mut self, key: &str, id: u64) -> Result<(), Refusal> {
        let now = self.now();
        let issues = self.repository_mut(key)?.issues.values_mut();
        let mut of = issues.filter(|i| i.comments.iter().any(|c| c.id == id));
        of.next().ok_or_else(Refusal::not_found)?.updated_at = now;
        Ok(())
    }

    fn comment_mut(&mut self, key: &str, id: u64) -> Result<&mut Comment, Refusal> {
        let issues = self.repository_mut(key)?.issues.values_mut();
        issues.flat_map(|i| &mut i.comments).find(|c| c.id == id).ok_or_else(Refusal::not_found)
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

/// The same person reacts in the same way once.
fn put(reactions: &mut Vec<Reaction>, new: Reaction) -> (Reaction, bool) {
    if let Some(same) = reactions.iter().find(|r| r.login == new.login && r.content == new.content) {
        return (same.clone(), false);
    }
    reactions.push(new.clone());
    (new, true)
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
