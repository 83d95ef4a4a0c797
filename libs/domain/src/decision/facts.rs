//! What the platform knows when it decides.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::{
    names::CommitSha,
    rights::{Permission, ProjectRole},
    run::RunKind,
    stage::Policy,
};

/// Everything a decision may look at besides the event.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The repository's rules.
    pub policy: &'a Policy,
    /// What the actor may do with the repository, asked for this decision. `None`: not asked, or
    /// no answer.
    pub permission: Option<Permission>,
    /// The actor's role in the project.
    pub role: Option<ProjectRole>,
    /// Bots that may do what a person with their permission may, in lower case.
    pub bots: &'a BTreeSet<String>,
    /// True when the event is the echo of an effect of ours.
    pub own_effect: bool,
    /// How the event came to be known.
    pub told: Told,
    /// How the repository stands.
    pub repository: RepositoryStanding,
    /// The repository's default branch, where it is known.
    pub default_branch: Option<&'a str>,
    /// What our records say about the issue or pull request.
    pub record: Record,
    /// How much was started already, and how much may be.
    pub admission: Admission,
}

/// How an event came to be known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// By a delivery, sent or fetched: what it says is of that time.
    #[default]
    Delivered,
    /// By a delivery that came late: text that it does not tell itself is the one of now, and may
    /// have been changed since by somebody without write permission.
    LateEdited,
    /// By a delivery or a history, and it was decided on before by the other.
    Twice,
    /// By the issue's history, for a label that no delivery told of: the text is the one of now,
    /// and it did not change since, or whoever wrote it may write here.
    History,
    /// The same, and the text may have been changed since by somebody without write permission.
    HistoryEdited,
    /// By nothing: the label stands, and the history does not tell who set it.
    Nobody,
}

/// How a repository stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepositoryStanding {
    /// It is in the configuration and takes changes.
    Enabled,
    /// It is no longer in the configuration.
    Disabled,
    /// It is archived at the code host.
    Archived,
    /// It was transferred or deleted at the code host.
    Gone,
    /// The code host does not let us at it: the App is suspended or not installed there, or the
    /// token cannot see it.
    NoAccess,
}

/// What our records say about an issue (or a pull request, and the issue it is linked to).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The issue a pull request is for: the one its run was for.
    pub linked_issue: Option<u64>,
    /// True when the pull request was opened by a run of ours.
    pub ours: bool,
    /// The run that is not over and does not wait behind another.
    pub under_way: Option<RunRef>,
    /// The run that waits behind it.
    pub behind: Option<RunRef>,
    /// Published results of the issue, oldest first.
    pub results: Vec<ResultRecord>,
    /// Stages of the labels on the linked issue, where it is a pull request.
    pub issue_labels: Vec<String>,
    /// The last run that touched the pull request.
    pub last_of_pull: Option<RunRef>,
    /// The last work on the issue.
    pub last_of_issue: Option<RunRef>,
    /// The discussion that is open on the issue.
    pub discussion: Option<OpenDiscussion>,
    /// Who last set the parameter labels (model, reasoning) that are on, and with what right.
    pub parameters: Vec<Parameter>,
    /// Labels of ours that should be on the thread the event is about, by our records.
    pub kept_labels: BTreeSet<String>,
    /// The run of a comment's author that asked last for the same; for `retry`.
    pub last_final: Option<RunRef>,
}

/// A run, as far as decisions and their sentences care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRef {
    /// Its id.
    pub id: String,
    /// Its stage.
    pub stage: String,
    /// What it is.
    pub kind: RunKind,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Who asked for it.
    pub actor: String,
    /// The pull request it works on or opened.
    pub pull: Option<u64>,
    /// True once it is over.
    pub is_final: bool,
}

/// A published result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultRecord {
    /// The run.
    pub run: String,
    /// Its stage.
    pub stage: String,
    /// Who asked for it.
    pub asked_by: String,
    /// Its pull request.
    pub pull: u64,
    /// The head of the pull request as we last knew it.
    pub head: Option<CommitSha>,
    /// True while the pull request is open.
    pub open: bool,
    /// True once it is merged.
    pub merged: bool,
    /// The approval that stands.
    pub approval: Option<ApprovalRecord>,
}

/// An approval that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRecord {
    /// Who approved.
    pub by: String,
    /// The head that was approved.
    pub head: CommitSha,
    /// The review, at the code host.
    pub review: u64,
}

/// A discussion that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenDiscussion {
    /// Who opened it.
    pub opened_by: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// A parameter label and who set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The label.
    pub label: String,
    /// Who set it last; `None` when we never saw it being set.
    pub setter: Option<String>,
    /// What that account may do now; `None` when it could not be learnt.
    pub permission: Option<Permission>,
}

/// How much was started already, and how much may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Runs the actor asked for in the last 24 hours, and the most.
    pub actor_today: (u32, u32),
    /// Runs of the repository in the last 24 hours, and the most.
    pub repository_today: (u32, u32),
    /// Runs of the issue, and the most.
    pub of_issue: (u32, u32),
    /// How many runs led one to the other up to this one, and the most.
    pub chain: (u32, u32),
}

impl Default for Admission {
    /// Nothing started yet, and the usual limits.
    fn default() -> Self {
        Self { actor_today: (0, 100), repository_today: (0, 500), of_issue: (0, 100), chain: (0, 20) }
    }
}
