//! Pull requests: what a push means for them, reviews, the end.

use std::collections::HashSet;

use serde_json::json;

use super::Edit;
use crate::{
    git::{ZERO, diff::DiffStat},
    payload::{code, code::Push, pull as payload},
    refusal::Refusal,
    world::{Issue, Merge, Pull, Remark, Repository, Review, ReviewState, Side, What, World},
};

/// The repository a pull request is in, and its number.
pub(crate) type PullId = (String, u64);

/// A review to be added.
#[derive(Debug)]
pub(crate) struct NewReview {
    pub(crate) state: ReviewState,
    pub(crate) body: String,
    /// The commit it is about.
    pub(crate) commit: String,
    pub(crate) remarks: Vec<NewRemark>,
}

/// A remark to be added.
#[derive(Debug)]
pub(crate) struct NewRemark {
    pub(crate) path: String,
    pub(crate) line: u64,
    pub(crate) side: Side,
    pub(crate) body: String,
}

impl World {
    /// Records what a push did: a delivery, and news for the pull requests of the branch.
    /// `stats` are the new numbers of those that are still there.
    pub(crate) fn pushed(
        &mut self,
        key: &str,
        push: &Push,
        stats: &[(PullId, DiffStat)],
        actor: &str,
    ) -> Result<(), Refusal> {
        let now = self.now();
        let repository = self.repository_mut(key)?;
        repository.pushed_at = now;
        let name = repository.name.clone();
        let parts = code::push(self, &name, push, actor);
        self.emit(key, "push", None, actor, parts)?;
        let paths: HashSet<&str> =
            push.commits.iter().flat_map(|(_, files)| files).map(|f| f.path.as_str()).collect();
        for (home, number) in self.pulls_of(key, &push.name) {
            if push.after == ZERO {
                self.edit_issue(&home, number, Edit { open: Some(false), ..Edit::default() }, actor)?;
                continue;
            }
            let issue = self.issue_mut(&home, number)?;
            issue.updated_at = now;
            if let Some(pull) = &mut issue.pull {
                pull.head_sha.clone_from(&push.after);
                if let Some((_, stat)) = stats.iter().find(|((k, n), _)| *k == home && *n == number) {
                    pull.stat = *stat;
                }
                // GitHub follows the lines of a file; here a change to the file outdates them all.
                for remark in pull.reviews.iter_mut().flat_map(|r| &mut r.remarks) {
                    remark.line = remark.line.filter(|_| !paths.contains(remark.path.as_str()));
                }
            }
            let shas = Some(("before", json!(push.before)));
            self.issue_event(&home, number, "synchronize", actor, shas)?;
        }
        Ok(())
    }

    /// Open pull requests whose head is the ref, in whichever repository they are.
    pub(crate) fn pulls_of(&self, key: &str, reference: &str) -> Vec<PullId> {
        let Some(branch) = reference.strip_prefix("refs/heads/") else { return Vec::new() };
        let mut found = Vec::new();
        for (home, repository) in &self.repositories {
            let of_branch = |i: &&Issue| {
                let follows = |p: &Pull| p.head == branch && p.head_key(repository) == key;
                i.open && i.pull.as_ref().is_some_and(follows)
            };
            found.extend(repository.issues.values().filter(of_branch).map(|i| (home.clone(), i.number)));
        }
        found
    }

    /// Adds a review that was checked, and tells of it and of its remarks.
    pub(crate) fn add_review(
        &mut self,
        key: &str,
        number: u64,
        new: NewReview,
        actor: &str,
    ) -> Result<u64, Refusal> {
        let (id, now) = (self.next_id(), self.now());
        let remarks: Vec<Remark> = new
            .remarks
            .into_iter()
            .map(|remark| Remark {
                id: self.next_id(),
                path: remark.path,
                line: Some(remark.line),
                original_line: remark.line,
                side: remark.side,
                body: remark.body,
                created_at: now,
            })
            .collect();
        let ids: Vec<u64> = remarks.iter().map(|r| r.id).collect();
        let review = Review {
            id,
            author: actor.to_owned(),
            state: new.state,
            body: new.body,
            commit: new.commit,
            submitted_at: now,
            remarks,
        };
        let issue = self.issue_mut(key, number)?;
        issue.updated_at = now;
        issue.pull.as_mut().ok_or_else(Refusal::not_found)?.reviews.push(review);
        self.review_event(key, number, id, "submitted", actor)?;
        for remark in ids {
            self.remark_event(key, number, id, remark, actor)?;
        }
        Ok(id)
    }

    /// Takes an approval, or a wish for changes, back.
    pub(crate) fn dismiss_review(
        &mut self,
        key: &str,
        number: u64,
        id: u64,
        actor: &str,
    ) -> Result<(), Refusal> {
        let pull = self.issue_mut(key, number)?.pull.as_mut().ok_or_else(Refusal::not_found)?;
        let review = pull.reviews.iter_mut().find(|r| r.id == id).ok_or_else(Refusal::not_found)?;
        match review.state {
            ReviewState::Approved | ReviewState::ChangesRequested => review.state = ReviewState::Dismissed,
            ReviewState::Commented | ReviewState::Dismissed => {
                let message = format!(
                    "Can not dismiss a {} pull request review",
                    review.state.name().to_lowercase().replace('_', " ")
                );
                return Err(Refusal::errors(&message));
            }
        }
        self.review_event(key, number, id, "dismissed", actor)
    }

    /// Records that a pull request was merged, and tells of it.
    pub(crate) fn merged(&mut self, key: &str, number: u64, sha: &str, actor: &str) -> Result<(), Refusal> {
        let at = self.now();
        let issue = self.issue_mut(key, number)?;
        let pull = issue.pull.as_mut().ok_or_else(Refusal::not_found)?;
        pull.merge = Some(Merge { by: actor.to_owned(), at, sha: sha.to_owned() });
        self.record(key, number, actor, What::Merged { sha: sha.to_owned() })?;
        self.edit_issue(key, number, Edit { open: Some(false), ..Edit::default() }, actor)
    }

    fn review_event(
        &mut self,
        key: &str,
        number: u64,
        id: u64,
        action: &str,
        actor: &str,
    ) -> Result<(), Refusal> {
        let (repository, on, pull, review) = self.find_review(key, number, id)?;
        let parts = vec![
            ("review", payload::delivered_review(self, repository, on, review)),
            ("pull_request", payload::pull(self, repository, on, pull, false)),
        ];
        self.emit(key, "pull_request_review", Some(action), actor, parts)
    }

    fn remark_event(
        &mut self,
        key: &str,
        number: u64,
        review: u64,
        id: u64,
        actor: &str,
    ) -> Result<(), Refusal> {
        let (repository, on, pull, review) = self.find_review(key, number, review)?;
        let remark = review.remarks.iter().find(|r| r.id == id).ok_or_else(Refusal::not_found)?;
        let parts = vec![
            ("comment", payload::remark(self, repository, on, review, remark)),
            ("pull_request", payload::pull(self, repository, on, pull, false)),
        ];
        self.emit(key, "pull_request_review_comment", Some("created"), actor, parts)
    }

    /// A review, and what it is about.
    pub(crate) fn find_review(
        &self,
        key: &str,
        number: u64,
        id: u64,
    ) -> Result<(&Repository, &Issue, &Pull, &Review), Refusal> {
        let (repository, on) = self.issue(key, number)?;
        let pull = on.pull.as_ref().ok_or_else(Refusal::not_found)?;
        let review = pull.reviews.iter().find(|r| r.id == id).ok_or_else(Refusal::not_found)?;
        Ok((repository, on, pull, review))
    }
}
