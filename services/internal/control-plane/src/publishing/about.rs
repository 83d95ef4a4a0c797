//! What the texts about a run are made from, besides the run itself.

use std::sync::Arc;

use domain::{
    decision::Reason,
    ids::{Id, RunId},
    run::RunState,
    stage::Policy,
};
use sqlx::PgConnection;

use super::{Publication, publication};
use crate::{
    App,
    pauses::{self, Pause},
    policies,
    projects::store::by_id,
    runs::{self, Attempt, Run, RunError},
};

/// Everything about a run that people are told.
#[derive(Clone, Debug)]
pub(super) struct About {
    /// Oldest first.
    pub(super) attempts: Vec<Attempt>,
    /// The newest.
    pub(super) publication: Option<Publication>,
    /// What keeps a queued run from starting.
    pub(super) pause: Option<Pause>,
    pub(super) asked: Asked,
    /// The rules of its repository now: for the names of labels, and what may come next. What
    /// the run itself does was fixed when it was asked for.
    pub(super) policy: Arc<Policy>,
}

/// How a run was asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) how: How,
    /// Where people see it.
    pub(super) url: Option<String>,
}

/// The channel a run was asked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Label,
    /// A command in a comment.
    Command,
    /// A review that requests changes.
    Review,
    /// A comment in a discussion.
    Comment,
    CommandLine,
}

impl How {
    fn of(reason: &str) -> Self {
        let is = |known: Reason| known.code() == reason;
        if is(Reason::CommentCommand) {
            Self::Command
        } else if is(Reason::ChangesRequested) {
            Self::Review
        } else if is(Reason::DiscussionComment) {
            Self::Comment
        } else if is(Reason::CommandLine) {
            Self::CommandLine
        } else {
            Self::Label
        }
    }
}

/// Reads it, as it is in this transaction.
pub(super) async fn about(tx: &mut PgConnection, app: &App, run: &Run) -> Result<About, RunError> {
    let pause = match run.state {
        RunState::Queued => pauses::of(&mut *tx, run).await?,
        RunState::Active
        | RunState::Waiting(_)
        | RunState::Succeeded
        | RunState::Failed(_)
        | RunState::Cancelled => None,
    };
    let repository = by_id(&mut *tx, run.repository_id).await?;
    Ok(About {
        attempts: runs::attempts::of_run(&mut *tx, run.id).await?,
        publication: publication(&mut *tx, run.id).await?,
        pause,
        asked: asked(&mut *tx, run.id).await?,
        policy: policies::known(tx, app, &repository).await?.policy,
    })
}

async fn asked(tx: &mut PgConnection, run: RunId) -> sqlx::Result<Asked> {
    let row = sqlx::query!(
        "select d.reason, r.asked_url from runs r join decisions d using (decision_id) where r.run_id = $1",
        run.uuid()
    )
    .fetch_one(tx)
    .await?;
    Ok(Asked { how: How::of(&row.reason), url: row.asked_url })
}
