//! What people do with pull requests.

use super::{Simulator, key};
use crate::{
    actions::{Edit, NewRemark, NewReview},
    pulls::{Method, NewPull},
    refusal::Refusal,
    world::{PullRequest, Repository, Review, ReviewState, Side},
};

impl Simulator {
    /// Opens a pull request and gives its number.
    ///
    /// # Errors
    /// When a branch is not there, or the head has nothing new.
    pub async fn open_pull_request(
        &self,
        repository: &str,
        author: &str,
        title: &str,
        head: &str,
        base: &str,
    ) -> anyhow::Result<u64> {
        let new = NewPull {
            title: title.to_owned(),
            body: None,
            head: head.to_owned(),
            base: base.to_owned(),
            draft: false,
        };
        Ok(self.open_pull(&key(repository)?, author, new).await?)
    }

    /// Opens a pull request from the author's fork, which is made when it is missing, with files
    /// changed on a branch of it. Gives its number. The fork is `{author}/{name}`: push to it with
    /// [`Self::push_to_branch`].
    ///
    /// # Errors
    /// When there is no such repository, or git fails.
    pub async fn open_pull_request_from_fork(
        &self,
        repository: &str,
        author: &str,
        title: &str,
        branch: &str,
        files: &[(&str, &str)],
    ) -> anyhow::Result<u64> {
        let fork = self.fork(repository, author).await?;
        self.push_to_branch(&fork, branch, author, title, files).await?;
        let base = self.read(|world| {
            let found = world.repository(&key(repository)?)?;
            Ok::<_, anyhow::Error>(found.default_branch.clone())
        })?;
        self.open_pull_request(repository, author, title, &format!("{author}:{branch}"), &base).await
    }

    /// Closes a pull request without merging it.
    ///
    /// # Errors
    /// When there is no such pull request.
    pub fn close_pull(&self, repository: &str, number: u64, actor: &str) -> anyhow::Result<()> {
        let key = key(repository)?;
        let edit = Edit { open: Some(false), ..Edit::default() };
        Ok(self.change(|world| {
            world.issue(&key, number)?.1.pull.as_ref().ok_or_else(Refusal::not_found)?;
            world.edit_issue(&key, number, edit, actor)
        })?)
    }

    /// Submits a review and gives its id. `verdict` is `approve`, `request_changes` or `comment`;
    /// remarks are path, line of the new version and text.
    ///
    /// # Errors
    /// When there is no such pull request, it is the actor's own, or a line is not part of the
    /// change.
    pub async fn review(
        &self,
        repository: &str,
        number: u64,
        actor: &str,
        verdict: &str,
        body: &str,
        remarks: &[(&str, u64, &str)],
    ) -> anyhow::Result<u64> {
        let key = key(repository)?;
        let state = match verdict {
            "approve" => ReviewState::Approved,
            "request_changes" => ReviewState::ChangesRequested,
            "comment" => ReviewState::Commented,
            other => anyhow::bail!("`{other}` is no review: use approve, request_changes or comment"),
        };
        let commit = self.read(|world| {
            let pull = world.issue(&key, number)?.1.pull.as_ref();
            pull.map(|p| p.head_sha.clone()).ok_or_else(Refusal::not_found)
        })?;
        let remark = |(path, line, body): &(&str, u64, &str)| NewRemark {
            path: (*path).to_owned(),
            line: *line,
            side: Side::Right,
            body: (*body).to_owned(),
        };
        let remarks = remarks.iter().map(remark).collect();
        let new = NewReview { state, body: body.to_owned(), commit, remarks };
        Ok(self.submit_review(&key, number, actor, new).await?)
    }

    /// Takes an approval, or a wish for changes, back.
    ///
    /// # Errors
    /// When there is no such review, or there is nothing to take back.
    pub fn dismiss_review(
        &self,
        repository: &str,
        number: u64,
        review: u64,
        actor: &str,
    ) -> anyhow::Result<()> {
        let key = key(repository)?;
        Ok(self.change(|world| world.dismiss_review(&key, number, review, actor))?)
    }

    /// Merges a pull request with a merge commit, whose id it gives.
    ///
    /// # Errors
    /// When there is no such pull request, it is closed, or its changes conflict.
    pub async fn merge(&self, repository: &str, number: u64, actor: &str) -> anyhow::Result<String> {
        Ok(self.merge_pull(&key(repository)?, number, actor, Method::Merge, None).await?)
    }

    /// Reviews of a pull request with their remarks, oldest first; none when there is no such pull
    /// request.
    pub fn reviews(&self, repository: &str, number: u64) -> Vec<Review> {
        self.with_issue(repository, number, |issue| {
            issue.pull.as_ref().map(|p| p.reviews.clone()).unwrap_or_default()
        })
    }

    /// Pull requests, oldest first; none when there is no such repository.
    pub fn pull_requests(&self, repository: &str) -> Vec<PullRequest> {
        let Ok(key) = key(repository) else { return Vec::new() };
        self.read(|world| {
            let found = world.repositories.get(&key);
            let view = |r: &Repository| {
                r.issues.values().filter_map(|i| i.pull_request(&world.urls, &r.name)).collect()
            };
            found.map(view).unwrap_or_default()
        })
    }

    /// What a pull request changes, as `git diff` prints it.
    ///
    /// # Errors
    /// When there is no such pull request, or git fails.
    pub async fn pull_request_diff(&self, repository: &str, number: u64) -> anyhow::Result<String> {
        let key = key(repository)?;
        let (bare, pull) = self.read(|world| {
            let (repository, issue) = world.issue(&key, number)?;
            let pull = issue.pull.clone().ok_or_else(Refusal::not_found)?;
            Ok::<_, Refusal>((repository.bare.clone(), pull))
        })?;
        let from = bare.merge_base(&pull.base_sha, &pull.head_sha).await?.unwrap_or(pull.base_sha);
        bare.diff(&from, &pull.head_sha).await
    }
}
