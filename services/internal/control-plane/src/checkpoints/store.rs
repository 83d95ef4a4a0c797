//! SQL of checkpoints.

use chrono::{DateTime, Utc};
use domain::{
    ids::{AttemptId, Id, RunId},
    names::CommitSha,
    run::RunState,
};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::{objects::Objects, runs::RunError};

/// Retries of retries that are followed back to a checkpoint.
const LONGEST_LINE: i32 = 20;

/// The newest checkpoint of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) attempt: AttemptId,
    pub(crate) attempt_number: i32,
    pub(crate) run: RunId,
    pub(crate) base: CommitSha,
    pub(crate) changeset_key: String,
    pub(crate) session_key: Option<String>,
    /// Counts from 1 per attempt.
    pub(crate) number: i32,
    pub(crate) files: i32,
    /// Of all contents and the session.
    pub(crate) bytes: i64,
    pub(crate) taken_at: DateTime<Utc>,
}

struct Row {
    attempt_id: Uuid,
    attempt_number: i32,
    run_id: Uuid,
    base_sha: String,
    changeset_key: String,
    session_key: Option<String>,
    number: i32,
    files: i32,
    bytes: i64,
    taken_at: DateTime<Utc>,
}

impl TryFrom<Row> for Checkpoint {
    type Error = RunError;
    fn try_from(row: Row) -> Result<Self, RunError> {
        Ok(Self {
            attempt: AttemptId::from_uuid(row.attempt_id),
            attempt_number: row.attempt_number,
            run: RunId::from_uuid(row.run_id),
            base: row.base_sha.parse().map_err(|e| RunError::Damaged {
                table: "checkpoints",
                id: row.attempt_id,
                problem: format!("{e}"),
            })?,
            changeset_key: row.changeset_key,
            session_key: row.session_key,
            number: row.number,
            files: row.files,
            bytes: row.bytes,
            taken_at: row.taken_at,
        })
    }
}

/// The checkpoint a new attempt of this run goes on from: the newest of its attempts, or else
/// of the run it retries, as long as that ended for no fault of its work.
pub(super) async fn newest(db: impl PgExecutor<'_>, run: RunId) -> Result<Option<Checkpoint>, RunError> {
    let classes: Vec<String> = RunState::all()
        .filter(|state| matches!(state, RunState::Failed(class) if class.leaves_good_work()))
        .filter_map(|state| state.columns().1.map(str::to_owned))
        .collect();
    sqlx::query_as!(
        Row,
        r#"with recursive line as (
               select run_id, retry_of, 0 as steps from runs where run_id = $1
               union all
               select r.run_id, r.retry_of, l.steps + 1 from line l join runs r on r.run_id = l.retry_of
               where r.state = 'failed' and r.state_kind = any($2) and l.steps < $3)
           select c.attempt_id, a.number as attempt_number, c.run_id, c.base_sha, c.changeset_key, c.session_key, c.number, c.files,
                  c.bytes, c.taken_at
           from line l join checkpoints c on c.run_id = l.run_id join attempts a on a.attempt_id = c.attempt_id
           order by l.steps, a.number desc limit 1"#,
        run.uuid(),
        &classes,
        LONGEST_LINE,
    )
    .fetch_optional(db)
    .await?
    .map(Checkpoint::try_from)
    .transpose()
}

/// The checkpoint of one attempt.
pub(super) async fn of_attempt(
    db: impl PgExecutor<'_>,
    attempt: AttemptId,
) -> Result<Option<Checkpoint>, RunError> {
    sqlx::query_as!(
        Row,
        "select c.attempt_id, a.number as attempt_number, c.run_id, c.base_sha, c.changeset_key, c.session_key, c.number, c.files,
                c.bytes, c.taken_at
         from checkpoints c join attempts a using (attempt_id) where c.attempt_id = $1",
        attempt.uuid()
    )
    .fetch_optional(db)
    .await?
    .map(Checkpoint::try_from)
    .transpose()
}

/// The checkpoints of a run's attempts.
pub(crate) async fn of_run(db: impl PgExecutor<'_>, run: RunId) -> Result<Vec<Checkpoint>, RunError> {
    sqlx::query_as!(
        Row,
        "select c.attempt_id, a.number as attempt_number, c.run_id, c.base_sha, c.changeset_key, c.session_key, c.number, c.files,
                c.bytes, c.taken_at
         from checkpoints c join attempts a using (attempt_id) where c.run_id = $1",
        run.uuid()
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(Checkpoint::try_from)
    .collect()
}

/// What replaces an attempt's checkpoint: all of it, never parts of two.
#[derive(Debug)]
pub(super) struct New<'a> {
    pub(super) attempt: AttemptId,
    pub(super) run: RunId,
    pub(super) base: &'a CommitSha,
    pub(super) changeset_key: &'a str,
    pub(super) session_key: Option<&'a str>,
    pub(super) files: i32,
    pub(super) bytes: i64,
    pub(super) taken_at: DateTime<Utc>,
}

/// Puts the newest in the place of the one before, whose objects are let go, and counts.
pub(super) async fn replace(tx: &mut PgConnection, new: &New<'_>) -> sqlx::Result<i32> {
    let before = sqlx::query!(
        "select changeset_key, session_key from checkpoints where attempt_id = $1 for update",
        new.attempt.uuid()
    )
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(before) = before {
        // One that the new checkpoint names too is needed, whatever is noted.
        Objects::let_go(tx, [Some(before.changeset_key), before.session_key], new.taken_at).await?;
    }
    sqlx::query_scalar!(
        "insert into checkpoints (attempt_id, run_id, base_sha, changeset_key, session_key, number, files, bytes, taken_at)
         values ($1, $2, $3, $4, $5, 1, $6, $7, $8)
         on conflict (attempt_id) do update set base_sha = excluded.base_sha, changeset_key = excluded.changeset_key,
           session_key = excluded.session_key, number = checkpoints.number + 1, files = excluded.files, bytes = excluded.bytes,
           taken_at = excluded.taken_at
         returning number",
        new.attempt.uuid(),
        new.run.uuid(),
        new.base.as_str(),
        new.changeset_key,
        new.session_key,
        new.files,
        new.bytes,
        new.taken_at,
    )
    .fetch_one(tx)
    .await
}

/// The newest session of a run, or else of the run that one went on with, and so on.
pub(super) async fn newest_session(db: impl PgExecutor<'_>, run: RunId) -> sqlx::Result<Option<AttemptId>> {
    let attempt = sqlx::query_scalar!(
        r#"with recursive line as (
               select run_id, continues, 0 as steps from runs where run_id = $1
               union all
               select r.run_id, r.continues, l.steps + 1 from line l join runs r on r.run_id = l.continues where l.steps < $2)
           select a.attempt_id as "attempt_id!" from line l join attempts a using (run_id) where a.session_key is not null
           order by l.steps, a.number desc limit 1"#,
        run.uuid(),
        LONGEST_LINE,
    )
    .fetch_optional(db)
    .await?;
    Ok(attempt.map(AttemptId::from_uuid))
}

/// Is there a session for a run that goes on with this one?
pub(crate) async fn has_session(db: impl PgExecutor<'_>, run: RunId) -> sqlx::Result<bool> {
    Ok(newest_session(db, run).await?.is_some())
}

/// Where the session of an attempt is kept, while it is.
pub(super) async fn session_key(db: impl PgExecutor<'_>, attempt: AttemptId) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!("select session_key from attempts where attempt_id = $1", attempt.uuid())
        .fetch_one(db)
        .await
}

/// What an attempt starts from.
#[derive(Debug)]
pub(super) struct Beginning {
    /// The attempt whose checkpoint it goes on from: files and session.
    pub(super) checkpoint: Option<AttemptId>,
    /// The attempt whose session it goes on with, where there is no checkpoint.
    pub(super) session: Option<AttemptId>,
    /// Which, in a sentence.
    pub(super) note: String,
}

/// Notes what an attempt starts from. False when it is over.
pub(super) async fn note_start(
    tx: &mut PgConnection,
    attempt: AttemptId,
    beginning: &Beginning,
) -> sqlx::Result<bool> {
    let noted = sqlx::query!(
        "update attempts set restored_from = $2, session_from = $3, start_note = $4
         where attempt_id = $1 and state in ('leased', 'preparing', 'running')",
        attempt.uuid(),
        beginning.checkpoint.map(Id::uuid),
        beginning.session.map(Id::uuid),
        beginning.note,
    )
    .execute(tx)
    .await?;
    Ok(noted.rows_affected() == 1)
}
