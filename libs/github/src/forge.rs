//! GitHub as a [`Forge`].

mod branches;
mod contents;
mod issues;
mod pulls;
mod repositories;
mod reviews;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use domain::{
    names::{CommitSha, RepositoryName},
    rights::Permission,
};
use forge::{
    Comment, Commit, Forge, Issue, LabelDefinition, NewCommit, NewPullRequest, NewReview, PullRequest,
    PullRequestDetails, Reaction, Repository, Result, Review,
};
use serde::Deserialize;
use tokio::sync::OnceCell;

use crate::{
    client::{Client, GithubSettings, Scope, SetupError},
    commit,
};

/// One identity on GitHub or a server that speaks its API.
#[derive(Debug)]
pub struct GithubForge {
    client: Client,
    list_lag: Duration,
    identity: OnceCell<String>,
}

impl GithubForge {
    /// Sets the client up; nothing is called yet. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`SetupError`] when the settings cannot work.
    pub fn new(settings: GithubSettings) -> std::result::Result<Self, SetupError> {
        let list_lag = settings.list_lag;
        Ok(Self { client: Client::new(settings)?, list_lag, identity: OnceCell::new() })
    }

    fn at<'a>(&'a self, repository: &'a RepositoryName) -> Scope<'a> {
        self.client.for_repository(repository)
    }
}

#[derive(Clone, Deserialize)]
struct User {
    login: String,
}

/// What is shown for an account that was deleted.
fn login(user: Option<User>) -> String {
    user.map_or_else(|| "ghost".to_owned(), |user| user.login)
}

#[async_trait::async_trait]
impl Forge for GithubForge {
    fn list_lag(&self) -> Duration {
        self.list_lag
    }

    async fn identity(&self) -> Result<String> {
        let ask =
            || async { Ok(self.client.for_ourselves().get(&["user"], &[]).await?.json::<User>()?.login) };
        self.identity.get_or_try_init(ask).await.cloned()
    }

    async fn repository(&self, repository: &RepositoryName) -> Result<Repository> {
        repositories::read(self.at(repository)).await
    }

    async fn permission(&self, repository: &RepositoryName, login: &str) -> Result<Permission> {
        repositories::permission(self.at(repository), login).await
    }

    async fn issue(&self, repository: &RepositoryName, number: u64) -> Result<Issue> {
        issues::read(self.at(repository), number).await
    }

    async fn comments(&self, repository: &RepositoryName, number: u64) -> Result<Vec<Comment>> {
        issues::comments(self.at(repository), number).await
    }

    async fn create_comment(&self, repository: &RepositoryName, number: u64, body: &str) -> Result<Comment> {
        issues::create_comment(self.at(repository), number, body).await
    }

    async fn delete_comment(&self, repository: &RepositoryName, comment: u64) -> Result<()> {
        issues::delete_comment(self.at(repository), comment).await
    }

    async fn update_comment(&self, repository: &RepositoryName, comment: u64, body: &str) -> Result<Comment> {
        issues::update_comment(self.at(repository), comment, body).await
    }

    async fn add_labels(&self, repository: &RepositoryName, number: u64, labels: &[String]) -> Result<()> {
        issues::add_labels(self.at(repository), number, labels).await
    }

    async fn remove_label(&self, repository: &RepositoryName, number: u64, label: &str) -> Result<()> {
        issues::remove_label(self.at(repository), number, label).await
    }

    async fn react(&self, repository: &RepositoryName, number: u64, reaction: Reaction) -> Result<()> {
        issues::react(self.at(repository), number, reaction).await
    }

    async fn react_to_comment(
        &self,
        repository: &RepositoryName,
        comment: u64,
        reaction: Reaction,
    ) -> Result<()> {
        issues::react_to_comment(self.at(repository), comment, reaction).await
    }

    async fn branch_head(&self, repository: &RepositoryName, branch: &str) -> Result<Option<CommitSha>> {
        branches::head(self.at(repository), branch).await
    }

    async fn changed_paths(
        &self,
        repository: &RepositoryName,
        base: &CommitSha,
        head: &CommitSha,
    ) -> Result<Option<Vec<String>>> {
        branches::changed_paths(self.at(repository), base, head).await
    }

    async fn create_commit(&self, repository: &RepositoryName, commit: &NewCommit) -> Result<CommitSha> {
        commit::create(&self.at(repository), commit).await
    }

    async fn commit(&self, repository: &RepositoryName, sha: &CommitSha) -> Result<Commit> {
        commit::read(&self.at(repository), sha).await
    }

    async fn create_branch(&self, repository: &RepositoryName, branch: &str, at: &CommitSha) -> Result<()> {
        branches::create(self.at(repository), branch, at).await
    }

    async fn move_branch(&self, repository: &RepositoryName, branch: &str, to: &CommitSha) -> Result<()> {
        branches::advance(self.at(repository), branch, to).await
    }

    async fn create_pull_request(
        &self,
        repository: &RepositoryName,
        new: &NewPullRequest,
    ) -> Result<PullRequest> {
        pulls::create(self.at(repository), new).await
    }

    async fn pull_requests_of(&self, repository: &RepositoryName, head: &str) -> Result<Vec<PullRequest>> {
        pulls::of_branch(self.at(repository), repository, head).await
    }

    async fn pull_request(&self, repository: &RepositoryName, number: u64) -> Result<PullRequestDetails> {
        pulls::read(self.at(repository), repository, number).await
    }

    async fn files_of_pull_request(&self, repository: &RepositoryName, number: u64) -> Result<Vec<String>> {
        pulls::files(self.at(repository), number).await
    }

    async fn update_pull_request(&self, repository: &RepositoryName, number: u64, body: &str) -> Result<()> {
        pulls::update(self.at(repository), number, body).await
    }

    async fn reviews(&self, repository: &RepositoryName, number: u64) -> Result<Vec<Review>> {
        reviews::list(self.at(repository), number).await
    }

    async fn create_review(
        &self,
        repository: &RepositoryName,
        number: u64,
        review: &NewReview,
    ) -> Result<Review> {
        reviews::create(self.at(repository), number, review).await
    }

    async fn file(&self, repository: &RepositoryName, path: &str, at: &CommitSha) -> Result<Option<Vec<u8>>> {
        contents::file(self.at(repository), path, at).await
    }

    async fn files_below(
        &self,
        repository: &RepositoryName,
        folder: &str,
        at: &CommitSha,
    ) -> Result<Vec<String>> {
        contents::below(self.at(repository), folder, at).await
    }

    async fn labels(&self, repository: &RepositoryName) -> Result<Vec<LabelDefinition>> {
        repositories::labels(self.at(repository)).await
    }

    async fn create_label(&self, repository: &RepositoryName, label: &LabelDefinition) -> Result<()> {
        repositories::create_label(self.at(repository), label).await
    }

    async fn update_label(&self, repository: &RepositoryName, label: &LabelDefinition) -> Result<()> {
        repositories::update_label(self.at(repository), label).await
    }
}
