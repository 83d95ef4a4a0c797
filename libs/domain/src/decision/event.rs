//! What happened, as far as decisions care.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::names::{CommitSha, RepositoryName};

/// An account as an event names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Login name.
    pub login: String,
    /// True for apps and bots, as the code host says.
    pub is_bot: bool,
}

/// An issue or a pull request, as the event shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Number; issues and pull requests share them.
    pub number: u64,
    /// True while it is open.
    pub open: bool,
    /// Who opened it.
    pub author: String,
    /// Names of its labels after the event.
    pub labels: Vec<String>,
    /// What makes it a pull request; an event about an issue does not tell its branches.
    pub pull: Option<Pull>,
}

/// What an event tells about a pull request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pull {
    /// Head commit; none where the event does not tell: an event about the issue side of a pull
    /// request, such as a comment on it, tells neither head nor branches. `from_fork` is true
    /// then, until the code host was asked.
    pub head: Option<CommitSha>,
    /// Head branch.
    pub branch: Option<String>,
    /// Branch it is to be merged into.
    pub base: Option<String>,
    /// True when the head lives in another repository, or it is not told where.
    pub from_fork: bool,
    /// True once it is merged.
    pub merged: bool,
}

/// A comment, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// Id at the code host.
    pub id: u64,
    /// Who wrote it.
    pub author: String,
    /// Markdown.
    pub body: String,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// A review of a pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// Id at the code host.
    pub id: u64,
    /// Who wrote it.
    pub author: String,
    /// What it says.
    pub verdict: ReviewVerdict,
    /// The head it was written about.
    pub commit: Option<CommitSha>,
}

/// What a review says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewVerdict {
    /// Approves.
    Approved,
    /// Wants changes.
    ChangesRequested,
    /// Neither.
    Commented,
}

/// What happened to a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepositoryChange {
    /// It has a new name; the event's repository is the new one.
    Renamed {
        /// Its name before, without the owner.
        from: String,
    },
    /// It has a new owner; the event's repository is the new one.
    Transferred {
        /// Its owner before, where the event says so.
        from: Option<String>,
    },
    /// It takes no changes any more.
    Archived,
    /// It takes changes again.
    Unarchived,
    /// Only who was let in sees it any more.
    MadePrivate,
    /// Everybody sees it.
    MadePublic,
    /// It is gone.
    Deleted,
}

/// What happened to an installation of the App; the event has its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// What happened.
    pub change: InstallationChange,
    /// The account it is in, where the event says so.
    pub account: Option<String>,
    /// Repositories the event names: those the App reaches, or those that came or went.
    pub repositories: Vec<RepositoryName>,
}

/// What happened to an installation of the App.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallationChange {
    /// The App was installed.
    Created,
    /// It was removed.
    Deleted,
    /// It may do nothing until it is unsuspended.
    Suspended,
    /// It may work again.
    Unsuspended,
    /// Permissions it asked for were granted.
    PermissionsAccepted,
    /// It reaches more repositories.
    RepositoriesAdded,
    /// It reaches fewer repositories.
    RepositoriesRemoved,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A label was put on.
    Labeled {
        /// Issue or pull request.
        on: Thread,
        /// The label.
        label: String,
    },
    /// A label was taken off.
    Unlabeled {
        /// Issue or pull request.
        on: Thread,
        /// The label.
        label: String,
    },
    /// Closed, or merged.
    Closed {
        /// Issue or pull request.
        on: Thread,
    },
    /// An issue was deleted.
    Deleted {
        /// The issue.
        on: Thread,
    },
    /// An issue went to another repository.
    TransferredAway {
        /// The issue.
        on: Thread,
    },
    /// A comment was written on an issue or pull request.
    Commented {
        /// Issue or pull request.
        on: Thread,
        /// The comment.
        comment: Comment,
    },
    /// A pull request has a new head.
    Synchronized {
        /// The pull request.
        on: Thread,
    },
    /// A pull request that was closed is open again.
    Reopened {
        /// The pull request.
        on: Thread,
    },
    /// A review was submitted.
    Reviewed {
        /// The pull request.
        on: Thread,
        /// The review.
        review: Review,
    },
    /// A review was dismissed.
    ReviewDismissed {
        /// The pull request.
        on: Thread,
        /// The review. What it said before is not told: its verdict is `Commented`.
        review: Review,
    },
    /// A branch was pushed to.
    Pushed {
        /// The branch; none for a tag.
        branch: Option<String>,
        /// The branch's new head; none when it was deleted.
        head: Option<CommitSha>,
    },
    /// The App was installed, suspended, narrowed or removed.
    Installation {
        /// What, and where.
        installation: Installation,
    },
    /// Something happened to the repository itself.
    Repository {
        /// What.
        change: RepositoryChange,
    },
    /// An event we know and do nothing with, or do not know at all.
    Other,
}

impl Happening {
    /// The issue or pull request it is about.
    pub fn on(&self) -> Option<&Thread> {
        match self {
            Self::Labeled { on, .. }
            | Self::Unlabeled { on, .. }
            | Self::Closed { on }
            | Self::Deleted { on }
            | Self::TransferredAway { on }
            | Self::Commented { on, .. }
            | Self::Synchronized { on }
            | Self::Reopened { on }
            | Self::Reviewed { on, .. }
            | Self::ReviewDismissed { on, .. } => Some(on),
            Self::Pushed { .. } | Self::Installation { .. } | Self::Repository { .. } | Self::Other => None,
        }
    }

    /// Its number.
    pub fn number(&self) -> Option<u64> {
        self.on().map(|on| on.number)
    }

    /// The label it is about.
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::Labeled { label, .. } | Self::Unlabeled { label, .. } => Some(label),
            Self::Closed { .. }
            | Self::Deleted { .. }
            | Self::TransferredAway { .. }
            | Self::Commented { .. }
            | Self::Synchronized { .. }
            | Self::Reopened { .. }
            | Self::Reviewed { .. }
            | Self::ReviewDismissed { .. }
            | Self::Pushed { .. }
            | Self::Installation { .. }
            | Self::Repository { .. }
            | Self::Other => None,
        }
    }
}

/// One event from the code host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Name of the event, "issues".
    pub name: String,
    /// Its action, "labeled".
    pub action: Option<String>,
    /// Repository in the body.
    pub repository: Option<RepositoryName>,
    /// Its id at the code host, which a new name or owner does not change.
    pub repository_id: Option<u64>,
    /// Its default branch, where the event tells.
    pub default_branch: Option<String>,
    /// App installation in the body.
    pub installation: Option<u64>,
    /// Who did it.
    pub actor: Option<Account>,
    /// What it was.
    pub happening: Happening,
}
