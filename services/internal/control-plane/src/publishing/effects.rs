//! The effects table: what is to change in the outside world.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    ids::{EffectId, Id, RepositoryId, RunId},
    names::CommitSha,
    retry::{self, RetryPolicy},
    review::ReviewFinding,
};
use forge::{ProgressState, Reaction};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};

use crate::{App, installations, runs::Run, steps::Step, wake::Topic};

/// One change in the outside world.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Effect {
    /// The run's one comment on its issue: written, then edited.
    StatusComment { issue: i64, body: String },
    /// A comment that stays as it is.
    Comment { number: i64, body: String, mark: String },
    /// Of our comments with that mark, made since then, only one stays: a second one may have
    /// been written by a call of unknown outcome.
    SoleComment { number: i64, mark: String, since: DateTime<Utc>, keep: i64 },
    /// A label comes off.
    RemoveLabel { number: i64, label: String },
    /// Labels go on.
    AddLabels { number: i64, labels: Vec<String> },
    /// A small sign on an issue.
    React { number: i64, reaction: Reaction },
    /// A small sign on a comment.
    ReactToComment { number: i64, comment: i64, reaction: Reaction },
    /// Blobs, tree and commit of the run's changeset.
    Commit { message: String },
    /// A branch at that commit; the first free of `name`, `name-2`, ….
    Branch { name: String },
    /// The pull request of that branch.
    PullRequest { title: String, body: String },
    /// The branch of a pull request goes on to that commit.
    MoveBranch { name: String, number: i64 },
    /// A block goes into the text of a pull request, once.
    UpdatePullRequest { number: i64, block: String },
    /// A review of what was the head; it approves nothing.
    Review { number: i64, head: CommitSha, said: String, findings: Vec<ReviewFinding>, mark: String },
    /// Where the run is, on a commit.
    Progress { head: CommitSha, name: String, progress: ProgressState, title: String, summary: String },
}

/// Who waits for an effect. What nobody waits for gives way when the code host's limits are near,
/// and of each run what is of one kind is applied in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    /// The result itself.
    Result,
    /// What people read: comments, and the text of a pull request.
    Word,
    /// Labels.
    Label,
    /// What nobody misses for a while.
    Nicety,
}

impl Effect {
    /// Kinds without which a run has no result.
    pub(super) const OF_RESULTS: [&str; 5] = ["commit", "branch", "pull_request", "move_branch", "review"];

    /// The stable name.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::StatusComment { .. } => "status_comment",
            Self::Comment { .. } => "comment",
            Self::SoleComment { .. } => "sole_comment",
            Self::RemoveLabel { .. } => "remove_label",
            Self::AddLabels { .. } => "add_labels",
            Self::React { .. } => "react",
            Self::ReactToComment { .. } => "react_to_comment",
            Self::Commit { .. } => "commit",
            Self::Branch { .. } => "branch",
            Self::PullRequest { .. } => "pull_request",
            Self::MoveBranch { .. } => "move_branch",
            Self::UpdatePullRequest { .. } => "update_pull_request",
            Self::Review { .. } => "review",
            Self::Progress { .. } => "progress",
        }
    }

    /// The step its call is.
    pub(crate) fn step(&self) -> Step {
        match self {
            Self::StatusComment { .. } => Step::CallStatusComment,
            Self::Comment { .. } => Step::CallComment,
            Self::SoleComment { .. } => Step::CallSoleComment,
            Self::RemoveLabel { .. } => Step::CallRemoveLabel,
            Self::AddLabels { .. } => Step::CallAddLabels,
            Self::React { .. } => Step::CallReact,
            Self::ReactToComment { .. } => Step::CallReactToComment,
            Self::Commit { .. } => Step::CallCommit,
            Self::Branch { .. } => Step::CallBranch,
            Self::PullRequest { .. } => Step::CallPullRequest,
            Self::MoveBranch { .. } => Step::CallMoveBranch,
            Self::UpdatePullRequest { .. } => Step::CallUpdatePullRequest,
            Self::Review { .. } => Step::CallReview,
            Self::Progress { .. } => Step::CallProgress,
        }
    }

    /// Nice to have: a server that does not offer it, or a right that is missing, is said
    /// and does not stop the run.
    pub(crate) fn is_nicety(&self) -> bool {
        match self {
            Self::RemoveLabel { .. }
            | Self::AddLabels { .. }
            | Self::React { .. }
            | Self::ReactToComment { .. }
            | Self::Comment { .. }
            | Self::SoleComment { .. }
            | Self::UpdatePullRequest { .. }
            | Self::Progress { .. } => true,
            Self::StatusComment { .. }
            | Self::Commit { .. }
            | Self::Branch { .. }
            | Self::PullRequest { .. }
            | Self::MoveBranch { .. }
            | Self::Review { .. } => false,
        }
    }

    /// Who waits for it.
    pub(crate) fn priority(&self) -> Priority {
        match self {
            Self::Commit { .. }
            | Self::Branch { .. }
            | Self::PullRequest { .. }
            | Self::MoveBranch { .. }
            | Self::Review { .. } => Priority::Result,
            Self::StatusComment { .. } | Self::Comment { .. } | Self::UpdatePullRequest { .. } => {
                Priority::Word
            }
            Self::RemoveLabel { .. } | Self::AddLabels { .. } => Priority::Label,
            Self::SoleComment { .. }
            | Self::React { .. }
            | Self::ReactToComment { .. }
            | Self::Progress { .. } => Priority::Nicety,
        }
    }

    /// How long it is tried.
    pub(crate) fn retry_policy(&self) -> RetryPolicy {
        match self {
            Self::React { .. } | Self::ReactToComment { .. } => retry::NICETY,
            Self::StatusComment { .. }
            | Self::Comment { .. }
            | Self::SoleComment { .. }
            | Self::RemoveLabel { .. }
            | Self::AddLabels { .. }
            | Self::Commit { .. }
            | Self::Branch { .. }
            | Self::PullRequest { .. }
            | Self::MoveBranch { .. }
            | Self::UpdatePullRequest { .. }
            | Self::Review { .. }
            | Self::Progress { .. } => retry::EFFECT,
        }
    }

    /// Without it its run has no result.
    pub(crate) fn is_of_result(&self) -> bool {
        self.priority() == Priority::Result
    }

    /// How long after a call of unknown outcome nothing is known about it yet.
    pub(crate) fn in_doubt_for(&self, list_lag: Duration) -> Duration {
        match self {
            // Found again in a list, and lists lag.
            Self::StatusComment { .. }
            | Self::Comment { .. }
            | Self::PullRequest { .. }
            | Self::Review { .. }
            | Self::Progress { .. } => list_lag,
            // The answer to a repeated call tells, whenever it is made.
            Self::SoleComment { .. }
            | Self::RemoveLabel { .. }
            | Self::AddLabels { .. }
            | Self::React { .. }
            | Self::ReactToComment { .. }
            | Self::Commit { .. }
            | Self::Branch { .. }
            | Self::MoveBranch { .. }
            | Self::UpdatePullRequest { .. } => Duration::ZERO,
        }
    }

    /// How long it waits before it is applied.
    fn wait(&self, list_lag: Duration) -> Duration {
        match self {
            // By then the list is sure to show both, and calls that were out have come in.
            Self::SoleComment { .. } => list_lag * 6,
            // What is over by then is not worth a call.
            Self::Progress { progress: ProgressState::InProgress, .. } => PROGRESS_IS_NEWS,
            Self::StatusComment { .. }
            | Self::Comment { .. }
            | Self::RemoveLabel { .. }
            | Self::AddLabels { .. }
            | Self::React { .. }
            | Self::ReactToComment { .. }
            | Self::Commit { .. }
            | Self::Branch { .. }
            | Self::PullRequest { .. }
            | Self::MoveBranch { .. }
            | Self::UpdatePullRequest { .. }
            | Self::Review { .. }
            | Self::Progress { .. } => Duration::ZERO,
        }
    }
}

/// How long work goes on before its commit says so.
const PROGRESS_IS_NEWS: Duration = Duration::from_secs(10);

/// That much later.
pub(crate) fn after(now: DateTime<Utc>, wait: Duration) -> DateTime<Utc> {
    now + TimeDelta::from_std(wait).unwrap_or(TimeDelta::minutes(5))
}

/// An effect to be stored.
#[derive(Debug)]
pub(crate) struct NewEffect<'a> {
    pub(crate) run: Option<RunId>,
    pub(crate) repository: RepositoryId,
    pub(crate) trace_id: &'a str,
    pub(crate) effect: &'a Effect,
}

/// Stores an effect in the caller's transaction. A newer status comment replaces one that
/// was not sent yet or was given up, and so does newer progress on the same commit.
pub(crate) async fn insert(tx: &mut PgConnection, app: &App, new: &NewEffect<'_>) -> sqlx::Result<()> {
    let now = app.clock.now();
    let replaces = match new.effect {
        Effect::StatusComment { .. } => Some(None),
        Effect::Progress { head, .. } => Some(Some(head.as_str())),
        Effect::Comment { .. }
        | Effect::SoleComment { .. }
        | Effect::RemoveLabel { .. }
        | Effect::AddLabels { .. }
        | Effect::React { .. }
        | Effect::ReactToComment { .. }
        | Effect::Commit { .. }
        | Effect::Branch { .. }
        | Effect::PullRequest { .. }
        | Effect::MoveBranch { .. }
        | Effect::UpdatePullRequest { .. }
        | Effect::Review { .. } => None,
    };
    if let (Some(head), Some(run)) = (replaces, new.run) {
        sqlx::query!(
            "update effects set state = 'skipped', last_error = 'a newer one replaced it', finished_at = $2
             where run_id = $1 and kind = $3 and ($4::text is null or payload ->> 'head' = $4)
               and (state = 'dead' or state = 'pending' and tried_at is null)",
            run.uuid(),
            now,
            new.effect.kind(),
            head,
        )
        .execute(&mut *tx)
        .await?;
    }
    sqlx::query!(
        "insert into effects (effect_id, run_id, repository_id, kind, payload, state, available_at, trace_id, created_at, priority)
         values ($1, $2, $3, $4, $5, 'pending', $6, $7, $8, $9)",
        app.ids.next::<EffectId>().uuid(),
        new.run.map(Id::uuid),
        new.repository.uuid(),
        new.effect.kind(),
        censored(app, new.effect).map_err(|e| sqlx::Error::Encode(Box::new(e)))?,
        after(now, new.effect.wait(app.forge.list_lag())),
        new.trace_id,
        now,
        new.effect.priority() as i16,
    )
    .execute(&mut *tx)
    .await?;
    Topic::Effects.notify(tx).await
}

/// Stores effects of a run, in their order.
pub(crate) async fn insert_for_run(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    effects: impl IntoIterator<Item = Effect>,
) -> sqlx::Result<()> {
    for effect in effects {
        let new = NewEffect {
            run: Some(run.id),
            repository: run.repository_id,
            trace_id: &run.trace_id,
            effect: &effect,
        };
        insert(tx, app, &new).await?;
    }
    Ok(())
}

/// Nothing we know to be secret is stored for posting, whatever text it came in with.
fn censored(app: &App, effect: &Effect) -> serde_json::Result<Value> {
    let mut payload = serde_json::to_value(effect)?;
    let censor = |text: Option<&mut Value>| {
        if let Some(Value::String(text)) = text {
            *text = app.censor.censor_for_posting(text).into_owned();
        }
    };
    for key in ["title", "body", "message", "block", "said", "summary"] {
        censor(payload.get_mut(key));
    }
    for finding in payload.get_mut("findings").and_then(Value::as_array_mut).into_iter().flatten() {
        for key in ["path", "body"] {
            censor(finding.get_mut(key));
        }
    }
    Ok(payload)
}

/// How an effect ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    Skipped,
    Dead,
}

impl End {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Dead => "dead",
        }
    }
}

/// What an effect made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Made {
    /// Where people find it.
    pub(crate) url: Option<String>,
    /// The comment, where it is one.
    pub(crate) comment: Option<i64>,
    /// The check run, where it is one.
    pub(crate) check_run: Option<i64>,
}

impl Made {
    /// What is kept of it, to find it by.
    fn result(&self) -> Option<Value> {
        let comment = self.comment.map(|id| json!({ "comment": id }));
        comment.or_else(|| self.check_run.map(|id| json!({ "check_run": id })))
    }
}

/// Ends an effect. False when somebody else did.
pub(crate) async fn end(
    tx: &mut PgConnection,
    id: EffectId,
    end: End,
    now: DateTime<Utc>,
    made: &Made,
    error: Option<&str>,
) -> sqlx::Result<bool> {
    let ended = sqlx::query!(
        "update effects set state = $2, finished_at = $3, result_url = $4, last_error = $5, result = $6
         where effect_id = $1 and state = 'pending'",
        id.uuid(),
        end.name(),
        now,
        made.url,
        error,
        made.result(),
    )
    .execute(&mut *tx)
    .await?;
    Topic::Effects.notify(tx).await?;
    Ok(ended.rows_affected() == 1)
}

/// The comment that is recorded as what an effect made.
pub(crate) async fn recorded_comment(tx: &mut PgConnection, id: EffectId) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!("select (result ->> 'comment')::bigint from effects where effect_id = $1", id.uuid())
        .fetch_one(tx)
        .await
}

/// An effect as people see it.
pub(crate) struct EffectView {
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) tries: i32,
    pub(crate) last_error: Option<String>,
    pub(crate) result_url: Option<String>,
}

/// Effects of a run in their order. One that waits for the repository says so.
pub(crate) async fn of_run(db: &PgPool, run: RunId) -> sqlx::Result<Vec<EffectView>> {
    let closed = installations::closed(db).await?;
    let rows = sqlx::query!(
        "select kind, state, tries, last_error, result_url, repository_id from effects where run_id = $1 order by ordinal",
        run.uuid()
    )
    .fetch_all(db)
    .await?;
    let view = rows.into_iter().map(|row| EffectView {
        last_error: closed.waits(row.repository_id, &row.state).or(row.last_error),
        kind: row.kind,
        state: row.state,
        tries: row.tries,
        result_url: row.result_url,
    });
    Ok(view.collect())
}
