//! What people do with issues.

use super::{Simulator, key};
use crate::{
    actions::Edit,
    world::{Comment, Issue, Reaction},
};

impl Simulator {
    /// Opens an issue and gives its number.
    ///
    /// # Errors
    /// When there is no such repository, or the title is empty.
    pub fn open_issue(&self, repository: &str, author: &str, title: &str, body: &str) -> anyhow::Result<u64> {
        let key = key(repository)?;
        Ok(self.change(|world| world.open_issue(&key, author, title, Some(body), None))?)
    }

    /// Puts a label on an issue or pull request; putting it on twice is one event.
    ///
    /// # Errors
    /// When there is no such issue.
    pub fn add_label(&self, repository: &str, number: u64, label: &str, actor: &str) -> anyhow::Result<()> {
        let key = key(repository)?;
        Ok(self.change(|world| world.add_labels(&key, number, &[label.to_owned()], actor))?)
    }

    /// Takes a label off.
    ///
    /// # Errors
    /// When it is not on, or there is no such issue.
    pub fn remove_label(
        &self,
        repository: &str,
        number: u64,
        label: &str,
        actor: &str,
    ) -> anyhow::Result<()> {
        let key = key(repository)?;
        Ok(self.change(|world| world.remove_label(&key, number, label, actor))?)
    }

    /// Changes title and body; what is `None` stays.
    ///
    /// # Errors
    /// When there is no such issue.
    pub fn edit_issue(
        &self,
        repository: &str,
        number: u64,
        actor: &str,
        title: Option<&str>,
        body: Option<&str>,
    ) -> anyhow::Result<()> {
        let key = key(repository)?;
        let edit = Edit { title: title.map(str::to_owned), body: body.map(str::to_owned), ..Edit::default() };
        Ok(self.change(|world| world.edit_issue(&key, number, edit, actor))?)
    }

    /// Changes the body.
    ///
    /// # Errors
    /// When there is no such issue.
    pub fn edit_issue_body(
        &self,
        repository: &str,
        number: u64,
        actor: &str,
        body: &str,
    ) -> anyhow::Result<()> {
        self.edit_issue(repository, number, actor, None, Some(body))
    }

    /// Takes an issue's history away: what is on it stays, and nobody can tell since when.
    ///
    /// # Errors
    /// When there is no such issue.
    pub fn forget_history(&self, repository: &str, number: u64) -> anyhow::Result<()> {
        let key = key(repository)?;
        self.change(|world| {
            world.issue_mut(&key, number)?.history.clear();
            Ok(())
        })
    }

    /// Deletes an issue; its number is not given again.
    ///
    /// # Errors
    /// When there is no such issue.
    pub fn delete_issue(&self, repository: &str, number: u64, actor: &str) -> anyhow::Result<()> {
        let key = key(repository)?;
        Ok(self.change(|world| world.delete_issue(&key, number, actor))?)
    }

    /// Moves an issue to another repository and gives its number there.
    ///
    /// # Errors
    /// When one of them is not there, or it is a pull request.
    pub fn transfer_issue(
        &self,
        repository: &str,
        number: u64,
        to: &str,
        actor: &str,
    ) -> anyhow::Result<u64> {
        let (from, to) = (key(repository)?, key(to)?);
        Ok(self.change(|world| world.transfer_issue(&from, number, &to, actor))?)
    }

    /// Closes an issue or pull request.
    ///
    /// # Errors
    /// When there is no such issue.
    pub fn close_issue(&self, repository: &str, number: u64, actor: &str) -> anyhow::Result<()> {
        let key = key(repository)?;
        let edit = Edit { open: Some(false), ..Edit::default() };
        Ok(self.change(|world| world.edit_issue(&key, number, edit, actor))?)
    }

    /// Writes a comment and gives its id.
    ///
    /// # Errors
    /// When there is no such issue, or the text is empty or too long.
    pub fn add_comment(
        &self,
        repository: &str,
        number: u64,
        author: &str,
        body: &str,
    ) -> anyhow::Result<u64> {
        let key = key(repository)?;
        Ok(self.change(|world| world.add_comment(&key, number, author, body))?)
    }

    /// Replaces a comment's text.
    ///
    /// # Errors
    /// When there is no such comment, or the text is empty or too long.
    pub fn edit_comment(&self, repository: &str, id: u64, actor: &str, body: &str) -> anyhow::Result<()> {
        let key = key(repository)?;
        Ok(self.change(|world| world.edit_comment(&key, id, body, actor))?)
    }

    /// Deletes a comment.
    ///
    /// # Errors
    /// When there is no such comment.
    pub fn delete_comment(&self, repository: &str, id: u64, actor: &str) -> anyhow::Result<()> {
        let key = key(repository)?;
        Ok(self.change(|world| world.delete_comment(&key, id, actor))?)
    }

    /// Comments of an issue, oldest first; none when there is no such issue.
    pub fn comments(&self, repository: &str, number: u64) -> Vec<Comment> {
        self.with_issue(repository, number, |issue| issue.comments.clone())
    }

    /// Names of the labels on an issue; none when there is no such issue.
    pub fn labels(&self, repository: &str, number: u64) -> Vec<String> {
        self.with_issue(repository, number, |issue| issue.labels.clone())
    }

    /// Reactions to an issue; none when there is no such issue.
    pub fn reactions(&self, repository: &str, number: u64) -> Vec<Reaction> {
        self.with_issue(repository, number, |issue| issue.reactions.clone())
    }

    pub(super) fn with_issue<T>(
        &self,
        repository: &str,
        number: u64,
        look: impl FnOnce(&Issue) -> Vec<T>,
    ) -> Vec<T> {
        let Ok(key) = key(repository) else { return Vec::new() };
        self.read(|world| world.issue(&key, number).map(|(_, issue)| look(issue)).unwrap_or_default())
    }
}
