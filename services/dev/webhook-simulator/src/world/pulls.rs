//! Pull requests and their reviews.

use chrono::{DateTime, Utc};
use domain::names::RepositoryName;
use serde::Serialize;

use super::{Issue, Repository};
use crate::{git::diff::DiffStat, payload::Urls};

/// What makes an issue a pull request.
#[derive(Clone, Debug)]
pub(crate) struct Pull {
    pub(crate) head: String,
    pub(crate) base: String,
    pub(crate) head_sha: String,
    pub(crate) base_sha: String,
    pub(crate) draft: bool,
    pub(crate) stat: DiffStat,
    /// The fork the head lives in, `owner/name` in lower case; `None`: in the same repository.
    pub(crate) fork: Option<String>,
    /// Oldest first.
    pub(crate) reviews: Vec<Review>,
    pub(crate) merge: Option<Merge>,
}

/// How a pull request was merged.
#[derive(Clone, Debug)]
pub(crate) struct Merge {
    pub(crate) by: String,
    pub(crate) at: DateTime<Utc>,
    pub(crate) sha: String,
}

/// What a review says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
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

impl ReviewState {
    /// As the REST API writes it; deliveries have it in lower case.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Approved => "APPROVED",
            Self::ChangesRequested => "CHANGES_REQUESTED",
            Self::Commented => "COMMENTED",
            Self::Dismissed => "DISMISSED",
        }
    }
}

/// A review of a pull request.
#[derive(Clone, Debug, Serialize)]
pub struct Review {
    /// Id, unique on the stand-in.
    pub id: u64,
    /// Login of who wrote it.
    pub author: String,
    /// What it says.
    pub state: ReviewState,
    /// Markdown; empty when there is none.
    pub body: String,
    /// The head it was written about.
    pub commit: String,
    /// When it was submitted.
    pub submitted_at: DateTime<Utc>,
    /// Remarks on lines.
    pub remarks: Vec<Remark>,
}

/// A remark of a review on a line.
#[derive(Clone, Debug, Serialize)]
pub struct Remark {
    /// Id, unique on the stand-in.
    pub id: u64,
    /// The file.
    pub path: String,
    /// The line; `None` once the file was changed again.
    pub line: Option<u64>,
    /// The line it was written on.
    pub original_line: u64,
    /// Which version the line is of.
    pub side: Side,
    /// Markdown.
    pub body: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
}

/// A side of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Side {
    /// The old version.
    Left,
    /// The new version.
    Right,
}

/// A pull request as it is now.
#[derive(Clone, Debug, Serialize)]
pub struct PullRequest {
    /// Number.
    pub number: u64,
    /// Title.
    pub title: String,
    /// Markdown; empty when there is none.
    pub body: String,
    /// Login of who opened it.
    pub author: String,
    /// Branch with the changes.
    pub head: String,
    /// Branch to merge into.
    pub base: String,
    /// Head commit.
    pub head_sha: String,
    /// Commit of the base branch when it was opened.
    pub base_sha: String,
    /// True when the head lives in another repository.
    pub from_fork: bool,
    /// True while it is open.
    pub open: bool,
    /// True once it is merged.
    pub merged: bool,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// Address for people.
    pub html_url: String,
}

impl Issue {
    /// The view for tests; `None` for a plain issue.
    pub(crate) fn pull_request(&self, urls: &Urls, repository: &RepositoryName) -> Option<PullRequest> {
        let pull = self.pull.as_ref()?;
        Some(PullRequest {
            number: self.number,
            title: self.title.clone(),
            body: self.body.clone().unwrap_or_default(),
            author: self.author.clone(),
            head: pull.head.clone(),
            base: pull.base.clone(),
            head_sha: pull.head_sha.clone(),
            base_sha: pull.base_sha.clone(),
            from_fork: pull.fork.is_some(),
            open: self.open,
            merged: pull.merge.is_some(),
            labels: self.labels.clone(),
            html_url: urls.issue_web(repository, self),
        })
    }
}

impl Pull {
    /// True when it is between these branches, the head in this fork.
    pub(crate) fn is_of(&self, fork: &Option<String>, head: &str, base: &str) -> bool {
        self.fork == *fork && self.head == head && self.base == base
    }

    /// Where the head lives, `owner/name` in lower case.
    pub(crate) fn head_key(&self, home: &Repository) -> String {
        self.fork.clone().unwrap_or_else(|| home.name.key())
    }
}
