//! What an event leads to: one pure function for every channel.

mod about_runs;
mod event;
mod facts;
#[cfg(test)]
mod hostile_tests;
mod limits;
mod release;
mod rules;

use serde::{Deserialize, Serialize};

pub use about_runs::{decide_cancel, decide_retry};
pub use event::{
    Account, Comment, Event, Happening, Installation, InstallationChange, Pull, RepositoryChange, Review,
    ReviewVerdict, Thread,
};
pub use facts::{
    Admission, ApprovalRecord, Facts, OpenDiscussion, Parameter, Record, RepositoryStanding, ResultRecord,
    RunRef, Told,
};
pub use limits::Limits;
pub use release::decide_release;
use rules::Trace;
pub use rules::{decide, needs_permission};

use crate::{names::CommitSha, run::RunKind, stage::Reasoning};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// Why something was done or not. The names are stable: people filter by them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable name.
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }
        }
    };
}

reasons! {
    /// A label started a run.
    TriggerLabel = "trigger_label",
    /// A person asked for it by command line.
    CommandLine = "command_line",
    /// A person asked for it by a command in a comment.
    CommentCommand = "comment_command",
    /// A review that requests changes.
    ChangesRequested = "changes_requested",
    /// A comment in an open discussion.
    DiscussionComment = "discussion_comment",
    /// A label asks what would happen.
    PreviewLabel = "preview_label",
    /// An approving review by somebody with the right.
    ReviewApproved = "review_approved",
    /// A review that approves, by somebody without the right.
    NoApproveRight = "no_approve_right",
    /// Who asked for the result may not approve it.
    OwnResult = "own_result",
    /// The review is about an older head.
    StaleReview = "stale_review",
    /// The approval was taken back.
    ReviewDismissed = "review_dismissed",
    /// A new head made the approval stale.
    NewHead = "new_head",
    /// The pull request was merged.
    Merged = "merged",
    /// The pull request was closed without being merged.
    PullRequestClosed = "pull_request_closed",
    /// The pull request was closed and is open again.
    PullRequestReopened = "pull_request_reopened",
    /// The issue was closed, deleted or transferred.
    IssueEnded = "issue_ended",
    /// The discussion label was taken off.
    DiscussionEnded = "discussion_ended",
    /// A label of ours was changed by somebody and is put back.
    LabelPutBack = "label_put_back",
    /// A label that asks for a model or a level.
    ParameterNoted = "parameter_noted",
    /// The default branch changed: the project's files are read anew.
    PolicyChanged = "policy_changed",
    /// Something happened to the repository or the installation.
    RepositoryNoted = "repository_noted",
    /// We take note of this event and do nothing with it.
    EventNotUsed = "event_not_used",
    /// The body names a repository or installation that is not this source's.
    SourceMismatch = "source_mismatch",
    /// The body does not say which repository.
    NoRepository = "no_repository",
    /// The body is JSON, but not the shape its event has.
    UnreadablePayload = "unreadable_payload",
    /// The label does not trigger anything.
    LabelNotATrigger = "label_not_a_trigger",
    /// `run:<stage>` with a stage that does not exist.
    UnknownStage = "unknown_stage",
    /// The project's file spoils the stage.
    BrokenStage = "broken_stage",
    /// The operator does not allow the stage here.
    StageNotAllowed = "stage_not_allowed",
    /// The stage cannot be revised.
    NotRevisable = "not_revisable",
    /// It is not clear which stage is to be revised.
    StageAmbiguous = "stage_ambiguous",
    /// There is no pull request to revise.
    NoPullRequest = "no_pull_request",
    /// The pull request was not opened by a run of ours.
    NotOurs = "not_ours",
    /// Several trigger labels stand at once.
    TriggerConflict = "trigger_conflict",
    /// Several parameter labels of one kind stand at once.
    ParameterConflict = "parameter_conflict",
    /// A parameter label was set by somebody without the right, or nobody knows by whom.
    ParameterNotAllowed = "parameter_not_allowed",
    /// The model or level may not be asked for here.
    ModelNotAllowed = "model_not_allowed",
    /// What the stage requires of earlier stages is not there.
    NotYet = "not_yet",
    /// The actor, the repository or the issue started enough for now.
    TooMany = "too_many",
    /// Too many runs led one to the other.
    ChainTooLong = "chain_too_long",
    /// The body does not say who did it.
    NoActor = "no_actor",
    /// A bot did it.
    BotActor = "bot_actor",
    /// The account has less than the permission it takes.
    NoWritePermission = "no_write_permission",
    /// The code host did not tell what the account may do.
    PermissionUnknown = "permission_unknown",
    /// The head lives in a fork.
    ForkHead = "fork_head",
    /// `run:*` was put on a pull request instead of an issue.
    NotOnPullRequests = "not_on_pull_requests",
    /// It means something on pull requests only.
    OnlyOnPullRequests = "only_on_pull_requests",
    /// The issue or pull request is closed.
    IssueClosed = "issue_closed",
    /// A run of this issue is under way.
    RunUnderWay = "run_under_way",
    /// A discussion is open on the issue already.
    AlreadyOpen = "already_open",
    /// Another one waits already.
    AlreadyWaiting = "already_waiting",
    /// There is no run the command could be about.
    NoRun = "no_run",
    /// The run is over already.
    RunIsFinal = "run_is_final",
    /// The run is not over yet.
    RunNotFinal = "run_not_final",
    /// Nothing of the run is held.
    RunNotHeld = "run_not_held",
    /// The changeset was refused for good.
    ChangesetRefused = "changeset_refused",
    /// The account may not release what is held.
    NoReleaseRight = "no_release_right",
    /// The comment holds no command.
    NoCommand = "no_command",
    /// The command does not exist or does not read.
    UnknownCommand = "unknown_command",
    /// A change of ours came back as an event.
    OwnEffect = "own_effect",
    /// The issue's history told of the label before its delivery came, or the other way round.
    DecidedBefore = "decided_before",
    /// The label was missed, and the text was changed after it was set.
    EditedSince = "edited_since",
    /// The label stands, and nobody knows who set it.
    SetterUnknown = "setter_unknown",
    /// The repository is no longer in the configuration.
    RepositoryDisabled = "repository_disabled",
    /// The repository is archived.
    RepositoryArchived = "repository_archived",
    /// The repository was transferred or deleted.
    RepositoryGone = "repository_gone",
    /// The code host does not let us at the repository.
    RepositoryNoAccess = "repository_no_access",
    /// The repository has a webhook of its own, which brings the same event.
    OwnHook = "own_hook",
}

/// A run to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// What it is.
    pub kind: RunKind,
    /// The stage.
    pub stage: String,
    /// The issue it counts to; the pull request's own number when it is linked to none.
    pub issue: u64,
    /// The pull request it goes on with or reviews.
    pub pull: Option<u64>,
    /// The label that asked for it, to be taken off, and where it stands; none for other channels.
    pub label: Option<(u64, String)>,
    /// The run under way that it waits for.
    pub behind: Option<String>,
    /// The run under way that is cancelled for it. An open discussion ends with a start of work.
    pub supersedes: Option<String>,
    /// The final run it repeats.
    pub retry_of: Option<String>,
    /// Model to ask for, where a label says so.
    pub model: Option<String>,
    /// How hard to think, where a label says so.
    pub reasoning: Option<Reasoning>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start a run.
    Start(Box<Start>),
    /// Show what a start would do.
    Preview {
        /// What would be started.
        start: Box<Start>,
    },
    /// Record that a result is approved.
    Approve {
        /// The pull request.
        pull: u64,
        /// The run whose result it is.
        run: String,
        /// The approved head.
        head: CommitSha,
        /// The review, at the code host.
        review: u64,
        /// The right it was given by, in a word: "maintain", "approver".
        right: String,
    },
    /// Record that no approval of the pull request's head stands any more.
    WithdrawApproval {
        /// The pull request.
        pull: u64,
        /// Its head now.
        head: Option<CommitSha>,
    },
    /// Record how a pull request ended.
    RecordEnd {
        /// The pull request.
        pull: u64,
        /// True when it was merged.
        merged: bool,
    },
    /// Record that a pull request is open again.
    RecordReopened {
        /// The pull request.
        pull: u64,
    },
    /// Cancel a run; for a command line, the one it names. When the issue ended, whatever waits
    /// behind the run and the issue's discussion end with it.
    Cancel {
        /// The run, where the command line does not name it.
        run: Option<String>,
    },
    /// Close a discussion; its run is cancelled.
    EndDiscussion {
        /// The issue.
        issue: u64,
    },
    /// Put labels as our records have them.
    KeepLabels {
        /// Issue or pull request.
        number: u64,
        /// To be put on.
        add: Vec<String>,
        /// To be taken off.
        remove: Vec<String>,
    },
    /// Remember who set a parameter label.
    NoteParameter {
        /// Issue or pull request.
        number: u64,
        /// The label.
        label: String,
        /// False when it was taken off.
        set: bool,
    },
    /// Answer a question with a comment.
    Answer {
        /// Issue or pull request.
        number: u64,
        /// The question.
        question: Question,
    },
    /// Take note of what happened to the repository.
    NoteRepository {
        /// What happened.
        change: RepositoryChange,
    },
    /// Take note of what happened to an installation of the App, and of the repositories it
    /// reaches now.
    NoteInstallation {
        /// What happened.
        change: InstallationChange,
    },
    /// Read the project's files anew.
    RefreshPolicy,
    /// Publish a run's held changeset.
    Release,
    /// Nothing, and nobody needs a word about it.
    Ignore,
    /// Nothing, and the person who asked is told why.
    Reject {
        /// Issue or pull request to tell it on.
        on: Option<u64>,
        /// The label that asked for it, to be taken off.
        label: Option<String>,
        /// Labels that say what is needed.
        need: Vec<String>,
    },
}

/// What a comment command asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `/callboard status`
    Status,
    /// `/callboard explain`
    Explain,
}

/// One rule that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// The rule, in a few words: "The issue is open".
    pub rule: String,
    /// How it came out: true when it let the event pass.
    pub passed: bool,
    /// What was found, for people.
    pub found: String,
}

/// A decision with its grounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// What to do.
    pub decision: Decision,
    /// Stable code.
    pub reason: Reason,
    /// The rule, one sentence for people.
    pub rule: String,
    /// What to do next, one sentence for people; empty when nothing is to be done.
    pub remedy: String,
    /// Every rule that was looked at, in order.
    pub trace: Vec<Looked>,
}

impl Decided {
    pub(crate) fn new(
        decision: Decision,
        reason: Reason,
        rule: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { decision, reason, rule: rule.into(), remedy: remedy.into(), trace: Vec::new() }
    }

    /// Nothing to do and nobody to tell.
    pub fn ignore(reason: Reason, rule: impl Into<String>) -> Self {
        Self::new(Decision::Ignore, reason, rule, "")
    }

    /// Nothing to do, and the caller tells why.
    pub(crate) fn refuse(reason: Reason, rule: impl Into<String>, remedy: impl Into<String>) -> Self {
        let decision = Decision::Reject { on: None, label: None, need: Vec::new() };
        Self::new(decision, reason, rule, remedy)
    }

    /// The stable name of the decision.
    pub fn kind(&self) -> &'static str {
        match &self.decision {
            Decision::Start(start) => match start.kind {
                RunKind::Work => "start",
                RunKind::Revise => "revise",
                RunKind::Review => "review",
                RunKind::Discussion => "discuss",
            },
            Decision::Preview { .. } => "preview",
            Decision::Approve { .. } => "approve",
            Decision::WithdrawApproval { .. } => "withdraw_approval",
            Decision::RecordEnd { .. } => "record_end",
            Decision::RecordReopened { .. } => "record_reopened",
            Decision::Cancel { .. } => "cancel",
            Decision::EndDiscussion { .. } => "end_discussion",
            Decision::KeepLabels { .. } => "keep_labels",
            Decision::NoteParameter { .. } => "note_parameter",
            Decision::Answer { .. } => "answer",
            Decision::NoteRepository { .. } => "note_repository",
            Decision::NoteInstallation { .. } => "note_installation",
            Decision::RefreshPolicy => "refresh_policy",
            Decision::Release => "release",
            Decision::Ignore => "ignore",
            Decision::Reject { .. } => "reject",
        }
    }
}
