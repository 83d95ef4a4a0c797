//! GitHub as a [`Forge`].

mod access;
mod branches;
mod contents;
mod deliveries;
mod hooks;
mod issues;
mod labels;
mod progress;
mod pulls;
mod repositories;
mod reviews;
#[cfg(test)]
pub(crate) mod tests;
mod trees;

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    names::{CommitSha, RepositoryName},
    rights::Permission,
};
use forge::{
    Access, Allowance, Comment, Commit, FetchedDelivery, Forge, Hook, HookOf, Issue, LabelDefinition,
    LabelEvent, NewCommit, NewHook, NewPullRequest, NewReview, Progress, PullRequest, PullRequestDetails,
    Reaction, Repository, Result, Review, SentDelivery,
};
use secrecy::SecretString;
use serde::Deserialize;
use tokio::sync::OnceCell;

pub(crate) use self::access::grants;
pub(crate) use self::trees::{Listing, Trees};
use crate::{
    client::{Client, Endpoint, GithubSettings, Purpose, Scope, SetupError},
    commit,
};

/// One identity on GitHub or a server that speaks its API.
#[derive(Debug)]
pub struct GithubForge {
    client: Client,
    list_lag: Duration,
    identity: OnceCell<String>,
    trees: Trees,
}

impl GithubForge {
    /// Sets the client up; nothing is called yet. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`SetupError`] when the settings cannot work.
    pub fn new(settings: GithubSettings) -> std::result::Result<Self, SetupError> {
        let list_lag = settings.list_lag;
        Ok(Self {
            client: Client::new(settings)?,
            list_lag,
            identity: OnceCell::new(),
            trees: Trees::default(),
        })
    }

    /// Tells of every token that is minted, before it is used: it is a secret nobody configured.
    #[must_use]
    pub fn telling(mut self, told: impl Fn(&SecretString) + Send + Sync + 'static) -> Self {
        self.client.tell(told);
        self
    }

    fn at<'a>(&'a self, repository: &'a RepositoryName, purpose: Purpose) -> Scope<'a> {
        self.client.for_repository(repository, purpose)
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
        if self.client.is_app() {
            return Ok(format!("{}[bot]", self.client.app_slug().await?));
        }
        let ask = || async {
            Ok(self.client.for_ourselves().get(Endpoint::User, &[], &[]).await?.json::<User>()?.login)
        };
        self.identity.get_or_try_init(ask).await.cloned()
    }

    async fn repository(&self, repository: &RepositoryName) -> Result<Repository> {
        repositories::read(self.at(repository, Purpose::Read)).await
    }

    async fn permission(&self, repository: &RepositoryName, login: &str) -> Result<Permission> {
        repositories::permission(self.at(repository, Purpose::Read), login).await
    }

    async fn issue(&self, repository: &RepositoryName, number: u64) -> Result<Issue> {
        issues::read(self.at(repository, Purpose::Read), number).await
    }

    async fn comments(&self, repository: &RepositoryName, number: u64) -> Result<Vec<Comment>> {
        issues::comments(self.at(repository, Purpose::Read), number).await
    }

    async fn create_comment(&self, repository: &RepositoryName, number: u64, body: &str) -> Result<Comment> {
        issues::create_comment(self.at(repository, Purpose::Talk), number, body).await
    }

    async fn delete_comment(&self, repository: &RepositoryName, comment: u64) -> Result<()> {
        issues::delete_comment(self.at(repository, Purpose::Talk), comment).await
    }

    async fn update_comment(&self, repository: &RepositoryName, comment: u64, body: &str) -> Result<Comment> {
        issues::update_comment(self.at(repository, Purpose::Talk), comment, body).await
    }

    async fn add_labels(&self, repository: &RepositoryName, number: u64, labels: &[String]) -> Result<()> {
        issues::add_labels(self.at(repository, Purpose::Talk), number, labels).await
    }

    async fn remove_label(&self, repository: &RepositoryName, number: u64, label: &str) -> Result<()> {
        issues::remove_label(self.at(repository, Purpose::Talk), number, label).await
    }

    async fn react(&self, repository: &RepositoryName, number: u64, reaction: Reaction) -> Result<()> {
        issues::react(self.at(repository, Purpose::Talk), number, reaction).await
    }

    async fn react_to_comment(
        &self,
        repository: &RepositoryName,
        comment: u64,
        reaction: Reaction,
    ) -> Result<()> {
        issues::react_to_comment(self.at(repository, Purpose::Talk), comment, reaction).await
    }

    async fn branch_head(&self, repository: &RepositoryName, branch: &str) -> Result<Option<CommitSha>> {
        let head = branches::head(self.at(repository, Purpose::Read), branch).await?;
        Ok(head.map(|head| {
            self.trees.note(repository, &head.commit, &head.tree);
            head.commit
        }))
    }

    async fn changed_paths(
        &self,
        repository: &RepositoryName,
        base: &CommitSha,
        head: &CommitSha,
    ) -> Result<Option<Vec<String>>> {
        branches::changed_paths(self.at(repository, Purpose::Read), base, head).await
    }

    async fn create_commit(&self, repository: &RepositoryName, commit: &NewCommit) -> Result<CommitSha> {
        commit::create(&self.at(repository, Purpose::Publish), repository, &self.trees, commit).await
    }

    async fn commit(&self, repository: &RepositoryName, sha: &CommitSha) -> Result<Commit> {
        commit::read(&self.at(repository, Purpose::Read), sha).await
    }

    async fn create_branch(&self, repository: &RepositoryName, branch: &str, at: &CommitSha) -> Result<()> {
        branches::create(self.at(repository, Purpose::Publish), branch, at).await
    }

    async fn move_branch(&self, repository: &RepositoryName, branch: &str, to: &CommitSha) -> Result<()> {
        branches::advance(self.at(repository, Purpose::Publish), branch, to).await
    }

    async fn create_pull_request(
        &self,
        repository: &RepositoryName,
        new: &NewPullRequest,
    ) -> Result<PullRequest> {
        pulls::create(self.at(repository, Purpose::Talk), new).await
    }

    async fn pull_requests_of(&self, repository: &RepositoryName, head: &str) -> Result<Vec<PullRequest>> {
        pulls::of_branch(self.at(repository, Purpose::Read), repository, head).await
    }

    async fn pull_request(&self, repository: &RepositoryName, number: u64) -> Result<PullRequestDetails> {
        pulls::read(self.at(repository, Purpose::Read), repository, number).await
    }

    async fn files_of_pull_request(&self, repository: &RepositoryName, number: u64) -> Result<Vec<String>> {
        pulls::files(self.at(repository, Purpose::Read), number).await
    }

    async fn reviewable_lines(
        &self,
        repository: &RepositoryName,
        number: u64,
    ) -> Result<BTreeMap<String, Vec<(u64, u64)>>> {
        pulls::reviewable_lines(self.at(repository, Purpose::Read), number).await
    }

    async fn merge_base(
        &self,
        repository: &RepositoryName,
        one: &CommitSha,
        other: &CommitSha,
    ) -> Result<CommitSha> {
        branches::merge_base(self.at(repository, Purpose::Read), one, other).await
    }

    async fn update_pull_request(&self, repository: &RepositoryName, number: u64, body: &str) -> Result<()> {
        pulls::update(self.at(repository, Purpose::Talk), number, body).await
    }

    async fn reviews(&self, repository: &RepositoryName, number: u64) -> Result<Vec<Review>> {
        reviews::list(self.at(repository, Purpose::Read), number).await
    }

    async fn create_review(
        &self,
        repository: &RepositoryName,
        number: u64,
        review: &NewReview,
    ) -> Result<Review> {
        reviews::create(self.at(repository, Purpose::Talk), number, review).await
    }

    async fn file(&self, repository: &RepositoryName, path: &str, at: &CommitSha) -> Result<Option<Vec<u8>>> {
        let scope = self.at(repository, Purpose::Read);
        if self.trees.lacks(&scope, repository, at, path).await? {
            return Ok(None);
        }
        contents::file(scope, path, at).await
    }

    async fn files_below(
        &self,
        repository: &RepositoryName,
        folder: &str,
        at: &CommitSha,
    ) -> Result<Vec<String>> {
        let scope = self.at(repository, Purpose::Read);
        match self.trees.files_below(&scope, repository, at, folder).await? {
            Some(files) => Ok(files),
            None => contents::below(scope, folder, at).await,
        }
    }

    async fn labels(&self, repository: &RepositoryName) -> Result<Vec<LabelDefinition>> {
        repositories::labels(self.at(repository, Purpose::Read)).await
    }

    async fn create_label(&self, repository: &RepositoryName, label: &LabelDefinition) -> Result<()> {
        repositories::create_label(self.at(repository, Purpose::Talk), label).await
    }

    async fn update_label(&self, repository: &RepositoryName, label: &LabelDefinition) -> Result<()> {
        repositories::update_label(self.at(repository, Purpose::Talk), label).await
    }

    async fn access(&self, repository: &RepositoryName) -> Result<Access> {
        access::read(&self.client, repository).await
    }

    fn forget_access(&self, repository: &RepositoryName) {
        self.client.forget(repository);
    }

    fn allowance(&self, repository: &RepositoryName) -> Allowance {
        self.client.allowance(repository)
    }

    async fn git_credential(&self, repository: &RepositoryName) -> Result<SecretString> {
        self.client.credential(repository, Purpose::Clone).await
    }

    async fn hooks(&self, repository: &RepositoryName) -> Result<Vec<Hook>> {
        hooks::list(self.at(repository, Purpose::Hooks)).await
    }

    async fn create_hook(&self, repository: &RepositoryName, hook: &NewHook) -> Result<Hook> {
        hooks::create(self.at(repository, Purpose::Hooks), hook).await
    }

    async fn update_hook(&self, repository: &RepositoryName, id: u64, hook: &NewHook) -> Result<Hook> {
        hooks::update(self.at(repository, Purpose::Hooks), id, hook).await
    }

    async fn ping_hook(&self, repository: &RepositoryName, id: u64) -> Result<()> {
        hooks::ping(self.at(repository, Purpose::Hooks), id).await
    }

    async fn deliveries(&self, of: &HookOf, since: DateTime<Utc>) -> Result<Vec<SentDelivery>> {
        deliveries::list(&self.client, of, since).await
    }

    async fn redeliver(&self, of: &HookOf, delivery: u64) -> Result<()> {
        deliveries::redeliver(&self.client, of, delivery).await
    }

    async fn fetch_delivery(&self, of: &HookOf, delivery: u64) -> Result<FetchedDelivery> {
        deliveries::fetch(&self.client, of, delivery).await
    }

    async fn changed_since(&self, repository: &RepositoryName, since: DateTime<Utc>) -> Result<Vec<Issue>> {
        labels::changed_since(self.at(repository, Purpose::Read), since).await
    }

    async fn label_events(&self, repository: &RepositoryName, number: u64) -> Result<Vec<LabelEvent>> {
        labels::label_events(self.at(repository, Purpose::Read), number).await
    }

    async fn report_progress(&self, repository: &RepositoryName, progress: &Progress) -> Result<Option<u64>> {
        let scope = self.at(repository, Purpose::Progress);
        if self.client.is_app() {
            progress::check_run(scope, progress).await
        } else {
            progress::status(scope, progress).await
        }
    }
}
