//! What any code host can do for us, in our words.
//!
//! The control plane speaks to a [`Forge`] and never to GitHub. Every failure is one of the
//! [`ForgeError`] kinds, so that what happens next (wait, tell a person, look before
//! repeating) is decided by kind and not by status code.

mod access;
mod hooks;
mod labels;
mod progress;

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    names::{CommitSha, RepositoryName},
    rights::Permission,
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

pub use self::{
    access::{Access, Allowance, Capability, Identity, Level, Limit},
    hooks::{FetchedDelivery, Hook, HookOf, NewHook, SentDelivery},
    labels::LabelEvent,
    progress::{Progress, ProgressState, Reported},
};

/// Why a call did not do what it should.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ForgeError {
    /// The code host asks us to wait.
    #[error("the code host's {limit} is reached, free again in {} s", retry_after.as_secs())]
    Limited {
        /// How long, as the host says; a minute when it does not say.
        retry_after: Duration,
        /// Which of its limits.
        limit: Limit,
    },
    /// The credential itself is refused (401): it expired or was revoked. Nothing was done, and
    /// nothing of ours will be before it is good again.
    #[error("the code host refuses our credential: {message}")]
    BadCredential {
        /// The host's words.
        message: String,
    },
    /// The credential is good, but not for this.
    #[error("not allowed: {message}")]
    Denied {
        /// The host's words.
        message: String,
    },
    /// It is not there, or the credential may not see it.
    #[error("not found: {message}")]
    Missing {
        /// The host's words.
        message: String,
    },
    /// It exists already or has changed meanwhile.
    #[error("conflict: {message}")]
    Conflict {
        /// The host's words.
        message: String,
    },
    /// The host understood and will not do it.
    #[error("refused as invalid: {message}")]
    Invalid {
        /// The host's words, field by field.
        message: String,
    },
    /// The host does not offer this at all (405, 410, 501).
    #[error("not offered by this server: {message}")]
    Unsupported {
        /// The host's words.
        message: String,
    },
    /// No answer, or an answer that says nothing. Whether a write happened is unknown.
    #[error("no usable answer: {message}")]
    Outage {
        /// What was seen.
        message: String,
    },
}

impl ForgeError {
    /// How often a call is tried again that failed because of the credential. A person replaces it,
    /// or the host was wrong for a moment.
    pub const CREDENTIAL_WAIT: Duration = Duration::from_secs(60);

    /// How long nothing is to be tried of which it is sure that nothing was done: the host asks us
    /// to wait, or does not know us. It counts as no try.
    pub fn no_try(&self) -> Option<Duration> {
        match self {
            Self::Limited { retry_after, .. } => Some(*retry_after),
            Self::BadCredential { .. } => Some(Self::CREDENTIAL_WAIT),
            Self::Denied { .. }
            | Self::Missing { .. }
            | Self::Conflict { .. }
            | Self::Invalid { .. }
            | Self::Unsupported { .. }
            | Self::Outage { .. } => None,
        }
    }

    /// What a person can do about it; empty where there is nothing to be done.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Limited { .. } | Self::Outage { .. } => "",
            Self::BadCredential { .. } => {
                "Put a credential in its place that works; what waits goes on by itself."
            }
            Self::Denied { .. } => "Our credential may not do this; `callboard check` names what it lacks.",
            Self::Missing { .. } => "It was deleted, or our credential may not see it any more.",
            Self::Conflict { .. } => "Something else is in its place.",
            Self::Invalid { .. } => "A rule of the repository may forbid it.",
            Self::Unsupported { .. } => "It is switched off there, or was deleted.",
        }
    }
}

/// Result of a call.
pub type Result<T> = std::result::Result<T, ForgeError>;

/// A repository as it is now.
#[derive(Clone, Debug)]
pub struct Repository {
    /// Its number at the host, which outlives names.
    pub id: u64,
    /// Spelled as the host spells it.
    pub name: RepositoryName,
    /// Branch that work starts from.
    pub default_branch: String,
    /// True for private repositories.
    pub private: bool,
    /// True when it takes no changes any more.
    pub archived: bool,
    /// What our credential may do with it, as far as the host says.
    pub our_permission: Option<Permission>,
}

/// An issue as it is now.
#[derive(Clone, Debug)]
pub struct Issue {
    /// Number.
    pub number: u64,
    /// Title.
    pub title: String,
    /// Body, empty when there is none.
    pub body: String,
    /// Who opened it.
    pub author: String,
    /// True while it is open.
    pub open: bool,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// Address for people.
    pub html_url: String,
    /// True when the number is a pull request's.
    pub is_pull_request: bool,
    /// When anything about it was last changed: text, labels, comments.
    pub updated_at: DateTime<Utc>,
}

/// A comment on an issue or pull request.
#[derive(Clone, Debug)]
pub struct Comment {
    /// Id, unique in the repository.
    pub id: u64,
    /// Who wrote it.
    pub author: String,
    /// How the author stands to the repository ("OWNER", "NONE", …), as the host says.
    pub author_association: String,
    /// Markdown.
    pub body: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Address for people.
    pub html_url: String,
}

/// What kind of file a change leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileMode {
    /// `100644`
    Regular,
    /// `100755`
    Executable,
    /// `120000`; the content is the target.
    Symlink,
}

/// One path of a commit.
#[derive(Clone, Debug)]
pub struct TreeChange {
    /// Path from the root, `/` between parts.
    pub path: String,
    /// New content, or `None` to delete the path.
    pub content: Option<(FileMode, Vec<u8>)>,
}

/// A commit to be made on top of another.
#[derive(Clone, Debug)]
pub struct NewCommit {
    /// Its only parent.
    pub parent: CommitSha,
    /// Message with trailers.
    pub message: String,
    /// Everything that differs from the parent.
    pub changes: Vec<TreeChange>,
    /// Author and committer date; the same input then gives the same commit. Where the host signs
    /// for us it sets both itself.
    pub date: DateTime<Utc>,
}

/// A commit as the host has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Hash of its tree.
    pub tree: String,
    /// Its parents, in order.
    pub parents: Vec<CommitSha>,
    /// Message with trailers.
    pub message: String,
}

/// A pull request to be opened.
#[derive(Clone, Debug)]
pub struct NewPullRequest {
    /// Title.
    pub title: String,
    /// Markdown.
    pub body: String,
    /// Branch with the changes, in the same repository.
    pub head: String,
    /// Branch to merge into.
    pub base: String,
}

/// A pull request.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// Number.
    pub number: u64,
    /// Address for people.
    pub html_url: String,
    /// Head commit.
    pub head_sha: CommitSha,
    /// True while it is open.
    pub open: bool,
}

/// What a pull request is and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequestDetails {
    /// Number.
    pub number: u64,
    /// Title.
    pub title: String,
    /// Body, empty when there is none.
    pub body: String,
    /// Who opened it.
    pub author: String,
    /// Address for people.
    pub html_url: String,
    /// Head branch.
    pub branch: String,
    /// Head commit.
    pub head_sha: CommitSha,
    /// Branch it is to be merged into.
    pub base: String,
    /// Head of that branch, when the host last looked.
    pub base_sha: CommitSha,
    /// True when the head lives in another repository.
    pub from_fork: bool,
    /// True while it is open.
    pub open: bool,
    /// True once it is merged.
    pub merged: bool,
    /// Names of its labels.
    pub labels: Vec<String>,
}

/// What a review says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewState {
    /// Approves.
    Approved,
    /// Wants changes.
    ChangesRequested,
    /// Neither.
    Commented,
    /// Was taken back.
    Dismissed,
}

/// A submitted review of a pull request, with its remarks.
#[derive(Clone, Debug)]
pub struct Review {
    /// Id, unique in the repository.
    pub id: u64,
    /// Who wrote it.
    pub author: String,
    /// What it says.
    pub state: ReviewState,
    /// Markdown, empty when there is none.
    pub body: String,
    /// The head it was written about.
    pub commit: Option<CommitSha>,
    /// When it was submitted.
    pub submitted_at: DateTime<Utc>,
    /// Address for people.
    pub html_url: String,
    /// Remarks on lines and files.
    pub remarks: Vec<Remark>,
}

/// A remark of a review on a line or file.
#[derive(Clone, Debug)]
pub struct Remark {
    /// Who wrote it.
    pub author: String,
    /// The file.
    pub path: String,
    /// Line of the new version; none when it is about the file, or outdated.
    pub line: Option<u64>,
    /// Markdown.
    pub body: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// A review to be written: a summary and remarks, neither approving nor requesting changes.
#[derive(Clone, Debug)]
pub struct NewReview {
    /// The head it is about.
    pub head: CommitSha,
    /// Markdown.
    pub body: String,
    /// On lines that are part of the pull request's difference; others are refused by the host.
    pub remarks: Vec<NewRemark>,
}

/// A remark to be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRemark {
    /// The file.
    pub path: String,
    /// Line of the new version; none: about the whole file.
    pub line: Option<u64>,
    /// Markdown.
    pub body: String,
}

/// A label of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelDefinition {
    /// Its name.
    pub name: String,
    /// Six hex digits.
    pub color: String,
    /// At most 100 characters; empty when there is none.
    pub description: String,
}

/// A small sign on an issue or a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    /// 👀: seen.
    Eyes,
    /// 👍: done.
    ThumbsUp,
}

/// A code host. One value is one identity on it.
#[async_trait::async_trait]
pub trait Forge: Send + Sync + std::fmt::Debug + 'static {
    /// How long a list may not show yet what was made. Before that time has passed, not being
    /// listed says nothing.
    fn list_lag(&self) -> Duration;
    /// Login of the identity we act as.
    async fn identity(&self) -> Result<String>;
    /// The repository as it is now.
    async fn repository(&self, repository: &RepositoryName) -> Result<Repository>;
    /// What an account may do with the repository, asked now.
    async fn permission(&self, repository: &RepositoryName, login: &str) -> Result<Permission>;
    /// The issue as it is now.
    async fn issue(&self, repository: &RepositoryName, number: u64) -> Result<Issue>;
    /// All comments, oldest first.
    async fn comments(&self, repository: &RepositoryName, number: u64) -> Result<Vec<Comment>>;
    /// Writes a comment.
    async fn create_comment(&self, repository: &RepositoryName, number: u64, body: &str) -> Result<Comment>;
    /// Deletes a comment; one that is not there is fine.
    async fn delete_comment(&self, repository: &RepositoryName, comment: u64) -> Result<()>;
    /// Replaces a comment's text.
    async fn update_comment(&self, repository: &RepositoryName, comment: u64, body: &str) -> Result<Comment>;
    /// Puts labels on an issue or pull request, creating those that do not exist.
    async fn add_labels(&self, repository: &RepositoryName, number: u64, labels: &[String]) -> Result<()>;
    /// Takes a label off; one that is not there is fine.
    async fn remove_label(&self, repository: &RepositoryName, number: u64, label: &str) -> Result<()>;
    /// Reacts to an issue; a second time is the same as once.
    async fn react(&self, repository: &RepositoryName, number: u64, reaction: Reaction) -> Result<()>;
    /// Head of a branch, or `None` when there is no such branch.
    async fn branch_head(&self, repository: &RepositoryName, branch: &str) -> Result<Option<CommitSha>>;
    /// Every path that differs between two commits, renamed ones under both names. `None` when
    /// the host does not tell them all, or `head` does not go on from `base`.
    async fn changed_paths(
        &self,
        repository: &RepositoryName,
        base: &CommitSha,
        head: &CommitSha,
    ) -> Result<Option<Vec<String>>>;
    /// Stores a commit (blobs, tree, commit) that no branch points at yet.
    async fn create_commit(&self, repository: &RepositoryName, commit: &NewCommit) -> Result<CommitSha>;
    /// A commit by its hash.
    async fn commit(&self, repository: &RepositoryName, sha: &CommitSha) -> Result<Commit>;
    /// Points a new branch at a commit.
    async fn create_branch(&self, repository: &RepositoryName, branch: &str, at: &CommitSha) -> Result<()>;
    /// Opens a pull request.
    async fn create_pull_request(
        &self,
        repository: &RepositoryName,
        new: &NewPullRequest,
    ) -> Result<PullRequest>;
    /// The pull requests of a branch of this repository, open and closed, newest first.
    async fn pull_requests_of(&self, repository: &RepositoryName, head: &str) -> Result<Vec<PullRequest>>;
    /// The content of a file at a commit; `None` when there is none, or it is no file. One of
    /// more than a mebibyte is invalid.
    async fn file(&self, repository: &RepositoryName, path: &str, at: &CommitSha) -> Result<Option<Vec<u8>>>;
    /// Paths of the files below a folder at a commit, from the root of the repository; none when
    /// there is no such folder. Links and submodules are not among them; a folder that is not
    /// listed whole is invalid.
    async fn files_below(
        &self,
        repository: &RepositoryName,
        folder: &str,
        at: &CommitSha,
    ) -> Result<Vec<String>>;
    /// A pull request as it is now.
    async fn pull_request(&self, repository: &RepositoryName, number: u64) -> Result<PullRequestDetails>;
    /// Every path a pull request changes, renamed ones under both names, as far as the host
    /// lists them: 3,000 files at GitHub.
    async fn files_of_pull_request(&self, repository: &RepositoryName, number: u64) -> Result<Vec<String>>;
    /// Lines of the new version that remarks of a review may stand on, per file a pull request
    /// changes: first and last of each stretch. A file the host shows no lines of has none.
    async fn reviewable_lines(
        &self,
        repository: &RepositoryName,
        number: u64,
    ) -> Result<BTreeMap<String, Vec<(u64, u64)>>>;
    /// The newest commit that two commits both go on from.
    async fn merge_base(
        &self,
        repository: &RepositoryName,
        one: &CommitSha,
        other: &CommitSha,
    ) -> Result<CommitSha>;
    /// Its submitted reviews with their remarks, oldest first.
    async fn reviews(&self, repository: &RepositoryName, number: u64) -> Result<Vec<Review>>;
    /// Writes a review, whole or not at all. A remark on a line that is not part of the change is
    /// invalid; where the host has no remarks on whole files, those stand in the review's text.
    async fn create_review(
        &self,
        repository: &RepositoryName,
        number: u64,
        review: &NewReview,
    ) -> Result<Review>;
    /// Replaces the text of a pull request.
    async fn update_pull_request(&self, repository: &RepositoryName, number: u64, body: &str) -> Result<()>;
    /// Moves a branch forward to a commit that goes on from its head; anything else is a conflict.
    /// Moving it there again is fine; a branch that is not there is missing.
    async fn move_branch(&self, repository: &RepositoryName, branch: &str, to: &CommitSha) -> Result<()>;
    /// Reacts to a comment; a second time is the same as once.
    async fn react_to_comment(
        &self,
        repository: &RepositoryName,
        comment: u64,
        reaction: Reaction,
    ) -> Result<()>;
    /// Every label of the repository.
    async fn labels(&self, repository: &RepositoryName) -> Result<Vec<LabelDefinition>>;
    /// Makes a label.
    async fn create_label(&self, repository: &RepositoryName, label: &LabelDefinition) -> Result<()>;
    /// Changes colour and description of the label of that name.
    async fn update_label(&self, repository: &RepositoryName, label: &LabelDefinition) -> Result<()>;

    /// What our credential may do with a repository, asked now.
    async fn access(&self, repository: &RepositoryName) -> Result<Access>;
    /// What was learnt about our access to a repository (tokens, installation) is asked again:
    /// the host refused it.
    fn forget_access(&self, repository: &RepositoryName);
    /// What is left of the host's limits to calls about a repository, as far as we know.
    fn allowance(&self, repository: &RepositoryName) -> Allowance;
    /// A credential that reads the repository's git and is good for some minutes at least.
    async fn git_credential(&self, repository: &RepositoryName) -> Result<SecretString>;

    /// Every webhook of the repository; an App's own is not among them.
    async fn hooks(&self, repository: &RepositoryName) -> Result<Vec<Hook>>;
    /// Makes a webhook.
    async fn create_hook(&self, repository: &RepositoryName, hook: &NewHook) -> Result<Hook>;
    /// Makes a webhook what it should be.
    async fn update_hook(&self, repository: &RepositoryName, id: u64, hook: &NewHook) -> Result<Hook>;
    /// Has a `ping` delivered.
    async fn ping_hook(&self, repository: &RepositoryName, id: u64) -> Result<()>;
    /// What was sent since then, newest first, also what did not arrive. The host forgets after
    /// some days.
    async fn deliveries(&self, of: &HookOf, since: DateTime<Utc>) -> Result<Vec<SentDelivery>>;
    /// Has the host send it once more, under the same id of the event.
    async fn redeliver(&self, of: &HookOf, delivery: u64) -> Result<()>;
    /// Reads the content of a delivery.
    async fn fetch_delivery(&self, of: &HookOf, delivery: u64) -> Result<FetchedDelivery>;

    /// Open issues and pull requests that changed since then.
    async fn changed_since(&self, repository: &RepositoryName, since: DateTime<Utc>) -> Result<Vec<Issue>>;
    /// Every time a label was put on an issue or pull request, oldest first.
    async fn label_events(&self, repository: &RepositoryName, number: u64) -> Result<Vec<LabelEvent>>;

    /// Shows progress on a commit; the same again changes nothing. Tells the id under which the
    /// host keeps it, where a later report needs it.
    async fn report_progress(&self, repository: &RepositoryName, progress: &Progress) -> Result<Option<u64>>;
}
