//! SQL of attempts, and the only function that changes their state.

use chrono::{DateTime, Utc};
use domain::{
    ids::{AttemptId, Id, RunId, WorkerId},
    run::AttemptState,
};
use serde_json::json;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::store::{Run, RunError};
use crate::{App, audit, wake::Topic};

/// An attempt.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) id: AttemptId,
    pub(crate) run: RunId,
    pub(crate) number: i32,
    pub(crate) worker: WorkerId,
    pub(crate) worker_name: String,
    /// Its worker's attempts run in a cluster.
    pub(crate) in_cluster: bool,
    pub(crate) state: AttemptState,
    pub(crate) fence: i64,
    pub(crate) deadline_at: DateTime<Utc>,
    pub(crate) isolation: Option<String>,
    pub(crate) unsandboxed: bool,
    pub(crate) message: String,
    /// Why it does not run yet, where its worker said so.
    pub(crate) waits_for: Option<String>,
    /// Told to leave its worker.
    pub(crate) is_drained: bool,
    pub(crate) summary: Option<String>,
    /// The attempt whose checkpoint it goes on from.
    pub(crate) restored_from: Option<AttemptId>,
    /// The attempt of an earlier run whose session it goes on with, where it has no checkpoint.
    pub(crate) session_from: Option<AttemptId>,
    /// Which it was, in a sentence; empty when there was nothing to go on from.
    pub(crate) start_note: String,
    pub(crate) leased_at: DateTime<Utc>,
    pub(crate) running_at: Option<DateTime<Utc>>,
    pub(crate) returned_at: Option<DateTime<Utc>>,
    pub(crate) ended_at: Option<DateTime<Utc>>,
}

impl Attempt {
    /// It lives, and is held by the same lease as it was then.
    pub(crate) fn is_held_as(&self, then: &Self) -> bool {
        self.state.is_live() && self.fence == then.fence
    }
}

struct AttemptRow {
    attempt_id: Uuid,
    run_id: Uuid,
    number: i32,
    worker_id: Uuid,
    worker_name: String,
    in_cluster: bool,
    state: String,
    fence: i64,
    deadline_at: DateTime<Utc>,
    isolation: Option<String>,
    unsandboxed: bool,
    message: String,
    waits_for: Option<String>,
    is_drained: bool,
    summary: Option<String>,
    restored_from: Option<Uuid>,
    session_from: Option<Uuid>,
    start_note: String,
    leased_at: DateTime<Utc>,
    running_at: Option<DateTime<Utc>>,
    returned_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
}

impl TryFrom<AttemptRow> for Attempt {
    type Error = RunError;
    fn try_from(row: AttemptRow) -> Result<Self, RunError> {
        let state = AttemptState::parse(&row.state).ok_or_else(|| RunError::Damaged {
            table: "attempts",
            id: row.attempt_id,
            problem: format!("state {} is not one", row.state),
        })?;
        Ok(Self {
            id: AttemptId::from_uuid(row.attempt_id),
            run: RunId::from_uuid(row.run_id),
            number: row.number,
            worker: WorkerId::from_uuid(row.worker_id),
            worker_name: row.worker_name,
            in_cluster: row.in_cluster,
            state,
            fence: row.fence,
            deadline_at: row.deadline_at,
            isolation: row.isolation,
            unsandboxed: row.unsandboxed,
            message: row.message,
            waits_for: row.waits_for,
            is_drained: row.is_drained,
            summary: row.summary,
            restored_from: row.restored_from.map(AttemptId::from_uuid),
            session_from: row.session_from.map(AttemptId::from_uuid),
            start_note: row.start_note,
            leased_at: row.leased_at,
            running_at: row.running_at,
            returned_at: row.returned_at,
            ended_at: row.ended_at,
        })
    }
}

/// All attempts of a run, oldest first.
pub(crate) async fn of_run(db: impl PgExecutor<'_>, run: RunId) -> Result<Vec<Attempt>, RunError> {
    sqlx::query_as!(
        AttemptRow,
        r#"select a.attempt_id, a.run_id, a.number, a.worker_id, w.name as worker_name, w.is_cluster as in_cluster, a.state, a.fence, a.deadline_at,
                a.isolation, a.unsandboxed, a.message, a.waits_for, a.drained_at is not null as "is_drained!", a.summary, a.restored_from, a.session_from, a.start_note, a.leased_at, a.running_at, a.returned_at, a.ended_at
         from attempts a join workers w using (worker_id) where a.run_id = $1 order by a.number"#,
        run.uuid()
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(Attempt::try_from)
    .collect()
}

/// One attempt.
pub(crate) async fn get(db: impl PgExecutor<'_>, id: AttemptId) -> Result<Option<Attempt>, RunError> {
    sqlx::query_as!(
        AttemptRow,
        r#"select a.attempt_id, a.run_id, a.number, a.worker_id, w.name as worker_name, w.is_cluster as in_cluster, a.state, a.fence, a.deadline_at,
                a.isolation, a.unsandboxed, a.message, a.waits_for, a.drained_at is not null as "is_drained!", a.summary, a.restored_from, a.session_from, a.start_note, a.leased_at, a.running_at, a.returned_at, a.ended_at
         from attempts a join workers w using (worker_id) where a.attempt_id = $1"#,
        id.uuid()
    )
    .fetch_optional(db)
    .await?
    .map(Attempt::try_from)
    .transpose()
}

/// The attempt of a run that may still have a process.
pub(crate) async fn live(tx: &mut PgConnection, run: RunId) -> Result<Option<Attempt>, RunError> {
    let id = sqlx::query_scalar!(
        "select attempt_id from attempts where run_id = $1 and state in ('leased', 'preparing', 'running')",
        run.uuid()
    )
    .fetch_optional(&mut *tx)
    .await?;
    match id {
        Some(id) => get(tx, AttemptId::from_uuid(id)).await,
        None => Ok(None),
    }
}

/// How long a phase of a run took.
pub(crate) fn phase(name: &'static str, from: DateTime<Utc>, to: DateTime<Utc>) {
    metrics::histogram!("callboard_run_phase_seconds", "phase" => name)
        .record((to - from).as_seconds_f64().max(0.0));
}

/// Moves an attempt whose run is locked. The only way an attempt changes state.
pub(crate) async fn move_attempt(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    attempt: &Attempt,
    next: AttemptState,
    message: &str,
) -> Result<Attempt, RunError> {
    let state = attempt.state.to(next)?;
    let now = app.clock.now();
    match state {
        AttemptState::Running => phase("start", attempt.leased_at, now),
        AttemptState::Returned => phase("agent", attempt.running_at.unwrap_or(attempt.leased_at), now),
        AttemptState::Leased | AttemptState::Preparing | AttemptState::Lost | AttemptState::Stopped => {}
    }
    let (running_at, returned_at, ended_at) = match state {
        AttemptState::Leased | AttemptState::Preparing => (attempt.running_at, None, None),
        AttemptState::Running => (Some(now), None, None),
        AttemptState::Returned => (attempt.running_at, Some(now), Some(now)),
        AttemptState::Lost | AttemptState::Stopped => (attempt.running_at, None, Some(now)),
    };
    let moved = sqlx::query!(
        "update attempts set state = $2, message = $3, running_at = $4, returned_at = $5, ended_at = $6, waits_for = null
         where attempt_id = $1 and state = $7",
        attempt.id.uuid(),
        state.as_str(),
        message,
        running_at,
        returned_at,
        ended_at,
        attempt.state.as_str(),
    )
    .execute(&mut *tx)
    .await?;
    if moved.rows_affected() != 1 {
        return Err(RunError::Damaged {
            table: "attempts",
            id: attempt.id.uuid(),
            problem: "changed although its run was locked".to_owned(),
        });
    }
    let said = if message.is_empty() { state.as_str() } else { message };
    audit::record_of_run(
        tx,
        &*app.clock,
        &app.ids,
        run.id,
        &format!("Attempt {}: {said}", attempt.number),
        audit::Entry {
            project: Some(run.project),
            actor: &format!("worker:{}", attempt.worker_name),
            action: &format!("attempt.{state}"),
            subject: format!("attempt:{}", attempt.id),
            detail: json!({ "run": run.id, "number": attempt.number, "from": attempt.state.as_str() }),
            trace_id: Some(&run.trace_id),
        },
    )
    .await?;
    if matches!(state, AttemptState::Stopped | AttemptState::Lost) {
        Topic::Stops.notify(tx).await?;
    }
    Topic::Runs.notify(tx).await?;
    tracing::info!(run_id = %run.id, attempt_id = %attempt.id, trace_id = %run.trace_id, from = %attempt.state, to = %state, message, "attempt moved");
    Ok(Attempt {
        state,
        message: message.to_owned(),
        waits_for: None,
        running_at,
        returned_at,
        ended_at,
        ..attempt.clone()
    })
}
