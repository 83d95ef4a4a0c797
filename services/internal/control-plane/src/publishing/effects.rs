//! The effects table: what is to change in the outside world.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    ids::{EffectId, Id, RepositoryId, RunId},
    names::CommitSha,
    retry::{self, RetryPolicy},
    review::ReviewFinding,
};
use forge::Reaction;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};

use crate::{
    App, installations,
    runs::Run,
    steps::{Step, around},
    wake::Topic,
};

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
            | Self::UpdatePullRequest { .. } => true,
            Self::StatusComment { .. }
            | Self::Commit { .. }
            | Self::Branch { .. }
            | Self::PullRequest { .. }
            | Self::MoveBranch { .. }
            | Self::Review { .. } => false,
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
            | Self::Review { .. } => retry::EFFECT,
        }
    }

    /// Without it its run has no result.
    pub(crate) fn is_of_result(&self) -> bool {
        Self::OF_RESULTS.contains(&self.kind())
    }

    /// How long after a call of unknown outcome nothing is known about it yet.
    pub(crate) fn in_doubt_for(&self, list_lag: Duration) -> Duration {
        match self {
            // Found again in a list, and lists lag.
            Self::StatusComment { .. } | Self::Comment { .. } | Self::Review { .. } => list_lag,
            // The answer to a repeated call tells, whenever it is made.
            Self::SoleComment { .. }
            | Self::RemoveLabel { .. }
            | Self::AddLabels { .. }
            | Self::React { .. }
            | Self::ReactToComment { .. }
            | Self::Commit { .. }
            | Self::Branch { .. }
            | Self::PullRequest { .. }
            | Self::MoveBranch { .. }
            | Self::UpdatePullRequest { .. } => Duration::ZERO,
        }
    }

    /// How long it waits before it is applied.
    fn wait(&self, list_lag: Duration) -> Duration {
        match self {
            // By then the list is sure to show both, and calls that were out have come in.
            Self::SoleComment { .. } => list_lag * 6,
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
            | Self::Review { .. } => Duration::ZERO,
        }
    }
}

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
/// was not sent yet or was given up.
pub(crate) async fn insert(tx: &mut PgConnection, app: &App, new: &NewEffect<'_>) -> sqlx::Result<()> {
    let now = app.clock.now();
    if let (Effect::StatusComment { .. }, Some(run)) = (new.effect, new.run) {
        sqlx::query!(
            "update effects set state = 'skipped', last_error = 'a newer one replaced it', finished_at = $2
             where run_id = $1 and kind = 'status_comment'
               and (state = 'dead' or state = 'pending' and tried_at is null)",
            run.uuid(),
            now,
        )
        .execute(&mut *tx)
        .await?;
    }
    sqlx::query!(
        "insert into effects (effect_id, run_id, repository_id, kind, payload, state, available_at, trace_id, created_at)
         values ($1, $2, $3, $4, $5, 'pending', $6, $7, $8)",
        app.ids.next::<EffectId>().uuid(),
        new.run.map(Id::uuid),
        new.repository.uuid(),
        new.effect.kind(),
        censored(app, new.effect).map_err(|e| sqlx::Error::Encode(Box::new(e)))?,
        after(now, new.effect.wait(app.forge.list_lag())),
        new.trace_id,
        now,
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
    for key in ["title", "body", "message", "block", "said"] {
        censor(payload.get_mut(key));
    }
    for finding in payload.get_mut("findings").and_then(Value::as_array_mut).into_iter().flatten() {
        for key in ["path", "body"] {
            censor(finding.get_mut(key));
        }
    }
    Ok(payload)
}

/// An effect that waits.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) id: EffectId,
    pub(crate) run: Option<RunId>,
    pub(crate) repository: RepositoryId,
    pub(crate) effect: Effect,
    pub(crate) tries: i32,
    pub(crate) tried_at: Option<DateTime<Utc>>,
    pub(crate) trace_id: String,
    pub(crate) created_at: DateTime<Utc>,
}

/// The next effect of every run that may be applied now, and of those without a run every one,
/// but labels of a thread one after the other: the last word about a label is the last. While
/// a part of a publication is given up, the parts after it wait for a person; while a repository
/// is out of reach or archived, all of it waits.
pub(crate) async fn due(db: &PgPool, now: DateTime<Utc>) -> sqlx::Result<Vec<Pending>> {
    let rows = sqlx::query!(
        r#"select effect_id as "effect_id!", run_id, repository_id as "repository_id!", payload as "payload!",
                  tries as "tries!", tried_at, trace_id as "trace_id!", created_at as "created_at!"
           from (select distinct on (lane) * from (select *, coalesce(run_id::text,
                     case when kind in ('add_labels', 'remove_label') then repository_id || ' ' || (payload ->> 'number') end,
                     effect_id::text) as lane from effects) e where state = 'pending'
                 and not (kind = any($2) and exists (select from effects d
                   where d.run_id = e.run_id and d.state = 'dead' and d.kind = any($2)))
                 and not exists (select from repositories o where o.repository_id = e.repository_id
                   and (o.no_access_since is not null or o.archived_at is not null or o.gone_at is not null))
                 order by lane, ordinal) first
           where available_at <= $1 order by ordinal limit 100"#,
        now,
        &Effect::OF_RESULTS.map(str::to_owned),
    )
    .fetch_all(db)
    .await?;
    let mut due = Vec::with_capacity(rows.len());
    for row in rows {
        let id = EffectId::from_uuid(row.effect_id);
        match serde_json::from_value(row.payload) {
            Ok(effect) => due.push(Pending {
                id,
                run: row.run_id.map(RunId::from_uuid),
                repository: RepositoryId::from_uuid(row.repository_id),
                effect,
                tries: row.tries,
                tried_at: row.tried_at,
                trace_id: row.trace_id,
                created_at: row.created_at,
            }),
            // One row of a newer version must not stop all the others.
            Err(error) => {
                tracing::error!(effect_id = %id, %error, "an effect that cannot be read is given up");
                end(
                    &mut *db.acquire().await?,
                    id,
                    End::Dead,
                    now,
                    &Made::default(),
                    Some(&error.to_string()),
                )
                .await?;
            }
        }
    }
    Ok(due)
}

/// Notes that a call is about to go out. Nothing is known about it before `known_at`, whatever
/// becomes of this process. False when the effect is not pending any more, or another
/// publisher was first.
pub(crate) async fn mark_tried(
    db: &PgPool,
    pending: &Pending,
    now: DateTime<Utc>,
    known_at: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let mark = sqlx::query!(
        "update effects set tried_at = $2, available_at = $3, tries = tries + 1
         where effect_id = $1 and state = 'pending' and tries = $4",
        pending.id.uuid(),
        now,
        known_at,
        pending.tries
    );
    let marked = around(Step::EffectTried, mark.execute(db)).await?;
    Ok(marked.rows_affected() == 1)
}

/// Tries again later. When the code host asked to wait, nothing happened, and it was no try;
/// otherwise the outcome is unknown.
pub(crate) async fn put_off(
    db: &PgPool,
    pending: &Pending,
    until: DateTime<Utc>,
    error: &str,
    limited: bool,
) -> sqlx::Result<()> {
    let put_off = sqlx::query!(
        "update effects set available_at = $2, last_error = $3, tries = tries - $4,
                tried_at = case when $5 then $6 else tried_at end
         where effect_id = $1 and state = 'pending' and tries = $7",
        pending.id.uuid(),
        until,
        error,
        i32::from(limited),
        limited,
        // As it was before this call.
        pending.tried_at,
        // Another publisher may have its own call out by now.
        pending.tries + 1,
    );
    around(Step::EffectPutOff, put_off.execute(db)).await?;
    Ok(())
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
        made.comment.map(|comment| json!({ "comment": comment })),
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
