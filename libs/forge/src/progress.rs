//! Where a run is, shown on the commit it works on.

use domain::names::CommitSha;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgressState {
    /// Not begun.
    Queued,
    /// Under way.
    InProgress,
    /// Done, and well.
    Succeeded,
    /// Done, and not well.
    Failed,
    /// Ended by a person.
    Cancelled,
    /// Somebody has to decide.
    ActionRequired,
}

/// What is known of an earlier report of the same commit, name and run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// There is none.
    Never,
    /// It is the host's object of that id.
    As(u64),
    /// A call of unknown outcome may have made one: it is looked for first.
    Perhaps,
}

/// Progress on a commit: a check run where we are an App, otherwise a commit status. There is one
/// per commit, name and run; a later one replaces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The commit.
    pub head: CommitSha,
    /// What people see it under, `callboard/dev`.
    pub name: String,
    /// The run's id: how it is found again.
    pub run: String,
    /// How far it is.
    pub state: ProgressState,
    /// One line.
    pub title: String,
    /// Markdown; shown by hosts that have room for it.
    pub summary: String,
    /// Where to read on.
    pub url: Option<String>,
    /// What it may replace.
    pub earlier: Reported,
}
