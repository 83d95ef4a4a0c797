//! The parts of payloads, as GitHub writes them, and what they are in our words.

use chrono::{DateTime, Utc};
use domain::{
    decision::{Comment, Happening, Installation, InstallationChange, Pull, Review, ReviewVerdict, Thread},
    names::{CommitSha, RepositoryName},
};
use serde::Deserialize;

#[derive(Default, Deserialize)]
pub(super) struct RepositoryBody {
    pub(super) id: Option<u64>,
    pub(super) full_name: Option<RepositoryName>,
    pub(super) default_branch: Option<String>,
}

#[derive(Deserialize)]
struct UserBody {
    login: String,
}

/// What is shown for an account that was deleted.
fn login(user: Option<UserBody>) -> String {
    user.map_or_else(|| "ghost".to_owned(), |user| user.login)
}

#[derive(Deserialize)]
pub(super) struct LabelBody {
    pub(super) name: String,
}

fn names(labels: Vec<LabelBody>) -> Vec<String> {
    labels.into_iter().map(|label| label.name).collect()
}

#[derive(Deserialize)]
pub(super) struct IssueBody {
    number: u64,
    state: Option<String>,
    user: Option<UserBody>,
    #[serde(default)]
    labels: Vec<LabelBody>,
    pull_request: Option<PullSideBody>,
}

/// What an issue says about the pull request it is.
#[derive(Deserialize)]
struct PullSideBody {
    merged_at: Option<serde::de::IgnoredAny>,
}

impl IssueBody {
    pub(super) fn thread(self) -> Thread {
        // Nothing here tells where the head lives, so it counts as a fork's until GitHub was
        // asked; that the head is missing says that it was not told.
        let pull = |side: PullSideBody| Pull {
            from_fork: true,
            merged: side.merged_at.is_some(),
            ..Pull::default()
        };
        Thread {
            number: self.number,
            open: self.state.as_deref() == Some("open"),
            author: login(self.user),
            labels: names(self.labels),
            pull: self.pull_request.map(pull),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct CommentBody {
    id: u64,
    user: Option<UserBody>,
    body: Option<String>,
    created_at: DateTime<Utc>,
}

impl From<CommentBody> for Comment {
    fn from(body: CommentBody) -> Self {
        Self {
            id: body.id,
            author: login(body.user),
            body: body.body.unwrap_or_default(),
            created_at: body.created_at,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct PullRequestBody {
    number: u64,
    state: Option<String>,
    user: Option<UserBody>,
    #[serde(default)]
    labels: Vec<LabelBody>,
    head: Option<SideBody>,
    base: Option<SideBody>,
    /// Missing where GitHub shows pull requests in short, with reviews.
    merged: Option<bool>,
    merged_at: Option<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
struct SideBody {
    #[serde(rename = "ref")]
    branch: Option<String>,
    sha: Option<CommitSha>,
    repo: Option<RepositoryBody>,
}

impl PullRequestBody {
    pub(super) fn thread(self) -> Thread {
        let (head, base) = (self.head.unwrap_or_default(), self.base.unwrap_or_default());
        let name = |repository: Option<RepositoryBody>| repository?.full_name;
        // A head whose repository is gone or not said counts as a fork.
        let from_fork = match (name(head.repo), name(base.repo)) {
            (Some(head), Some(base)) => head != base,
            (None, _) | (_, None) => true,
        };
        let pull = Pull {
            head: head.sha,
            branch: head.branch,
            base: base.branch,
            from_fork,
            merged: self.merged == Some(true) || self.merged_at.is_some(),
        };
        Thread {
            number: self.number,
            open: self.state.as_deref() == Some("open"),
            author: login(self.user),
            labels: names(self.labels),
            pull: Some(pull),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct ReviewBody {
    id: u64,
    user: Option<UserBody>,
    /// In lower case in a delivery, in upper case in answers.
    state: String,
    commit_id: Option<CommitSha>,
}

impl ReviewBody {
    /// The review, and what it says where it says something.
    pub(super) fn read(self) -> (Review, Option<ReviewVerdict>) {
        let verdict = match self.state.to_ascii_lowercase().as_str() {
            "approved" => Some(ReviewVerdict::Approved),
            "changes_requested" => Some(ReviewVerdict::ChangesRequested),
            "commented" => Some(ReviewVerdict::Commented),
            _ => None,
        };
        let review = Review {
            id: self.id,
            author: login(self.user),
            // What a dismissed review said before is not told.
            verdict: verdict.unwrap_or(ReviewVerdict::Commented),
            commit: self.commit_id,
        };
        (review, verdict)
    }
}

#[derive(Deserialize)]
pub(super) struct PushBody {
    #[serde(rename = "ref")]
    name: String,
    after: CommitSha,
    #[serde(default)]
    deleted: bool,
}

impl PushBody {
    pub(super) fn happening(self) -> Happening {
        let Some(branch) = self.name.strip_prefix("refs/heads/") else {
            return Happening::Pushed { branch: None, head: None };
        };
        let gone = self.deleted || self.after.as_str().bytes().all(|digit| digit == b'0');
        Happening::Pushed { branch: Some(branch.to_owned()), head: (!gone).then_some(self.after) }
    }
}

/// `changes.repository.name.from`
#[derive(Deserialize)]
pub(super) struct Renamed {
    repository: RenamedRepository,
}

#[derive(Deserialize)]
struct RenamedRepository {
    name: Before<String>,
}

#[derive(Deserialize)]
struct Before<T> {
    from: T,
}

impl Renamed {
    pub(super) fn from(self) -> String {
        self.repository.name.from
    }
}

/// `changes.owner.from.user.login`, or `….organization.login`.
#[derive(Deserialize)]
pub(super) struct Transferred {
    owner: Option<Before<OwnerBody>>,
}

#[derive(Deserialize)]
struct OwnerBody {
    user: Option<UserBody>,
    organization: Option<UserBody>,
}

impl Transferred {
    pub(super) fn from(self) -> Option<String> {
        let owner = self.owner?.from;
        Some(owner.user.or(owner.organization)?.login)
    }
}

/// An event about the App's installation, or the repositories it reaches.
#[derive(Deserialize)]
pub(super) struct AboutInstallation {
    installation: Option<InstallationDetails>,
    #[serde(default)]
    repositories: Vec<RepositoryBody>,
    #[serde(default)]
    repositories_added: Vec<RepositoryBody>,
    #[serde(default)]
    repositories_removed: Vec<RepositoryBody>,
}

#[derive(Deserialize)]
struct InstallationDetails {
    account: Option<UserBody>,
}

impl AboutInstallation {
    pub(super) fn of(self, change: InstallationChange) -> Installation {
        let named = self.repositories.into_iter().chain(self.repositories_added);
        Installation {
            change,
            account: self.installation.and_then(|details| details.account).map(|account| account.login),
            repositories: named.chain(self.repositories_removed).filter_map(|r| r.full_name).collect(),
        }
    }
}
