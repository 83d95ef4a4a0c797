//! The log of events: a row with every decision and every transition, in the same transaction,
//! never changed afterwards (the database refuses it). The sealer numbers the rows without a
//! gap and chains them by hash; readers read numbered rows. See `docs/architecture/events.md`.

pub(crate) mod checkpoints;
pub(crate) mod health;
pub(crate) mod months;
mod seal;
mod sealer;
mod store;
mod verify;

use domain::{
    clock::Clock,
    ids::{EventId, Id, Ids, ProjectId, RunId},
};
use serde_json::Value;
use sqlx::PgConnection;

pub(crate) use self::{
    sealer::spawn,
    store::{Event, sealed_after},
    verify::{ChainReport, Report, verify},
};

/// One row.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// Absent for what concerns the whole platform.
    pub(crate) project: Option<ProjectId>,
    /// Who: a login, `uid:0`, `worker:local`, `platform`.
    pub(crate) actor: &'a str,
    /// `run.active`
    pub(crate) action: &'a str,
    /// `run:0198…`
    pub(crate) subject: String,
    pub(crate) detail: Value,
    pub(crate) trace_id: Option<&'a str>,
}

/// Adds a row to the transaction.
pub(crate) async fn record(
    tx: &mut PgConnection,
    clock: &dyn Clock,
    ids: &Ids,
    entry: Entry<'_>,
) -> sqlx::Result<()> {
    add(tx, clock, ids, None, "", entry).await
}

/// Adds a row to the transaction with a sentence for people.
pub(crate) async fn record_sentence(
    tx: &mut PgConnection,
    clock: &dyn Clock,
    ids: &Ids,
    text: &str,
    entry: Entry<'_>,
) -> sqlx::Result<()> {
    add(tx, clock, ids, None, text, entry).await
}

/// Adds a row about a run to the transaction; `text` is a sentence for people, who see it with
/// the run, or empty.
pub(crate) async fn record_of_run(
    tx: &mut PgConnection,
    clock: &dyn Clock,
    ids: &Ids,
    run: RunId,
    text: &str,
    entry: Entry<'_>,
) -> sqlx::Result<()> {
    add(tx, clock, ids, Some(run), text, entry).await
}

async fn add(
    tx: &mut PgConnection,
    clock: &dyn Clock,
    ids: &Ids,
    run: Option<RunId>,
    text: &str,
    entry: Entry<'_>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "select events_add($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        ids.next::<EventId>().uuid(),
        clock.now(),
        entry.project.map(Id::uuid),
        run.map(Id::uuid),
        entry.actor,
        entry.action,
        entry.subject,
        text,
        entry.detail,
        entry.trace_id,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Something that happened to a run, as people see it with the run.
pub(crate) struct OfRun {
    pub(crate) happened_at: chrono::DateTime<chrono::Utc>,
    /// `queued`, `attempt_lost`
    pub(crate) kind: String,
    pub(crate) text: String,
}

/// What happened to a run, oldest first: also what has no number yet, because the run is shown
/// in the state that came with it.
pub(crate) async fn of_run(db: &sqlx::PgPool, run: RunId) -> sqlx::Result<Vec<OfRun>> {
    let rows = sqlx::query!(
        "select happened_at, action, text from events where run_id = $1 and text <> '' order by ordinal",
        run.uuid()
    )
    .fetch_all(db)
    .await?;
    let kind = |action: String| match action.strip_prefix("run.") {
        Some(kind) => kind.to_owned(),
        None => action.replace('.', "_"),
    };
    Ok(rows
        .into_iter()
        .map(|r| OfRun { happened_at: r.happened_at, kind: kind(r.action), text: r.text })
        .collect())
}
