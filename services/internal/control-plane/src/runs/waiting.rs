//! What runs wait for: one run of an issue at a time, and one waits for its end; a worker; room in a
//! cluster.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use domain::ids::{Id, RepositoryId, RunId};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::store::{self, Run, RunError};
use crate::{App, pauses::hold_off_pauses, publishing, wake::Topic};

/// The run of an issue that is not over, locked, so that what is decided about it stays true.
pub(crate) async fn under_way(
    tx: &mut PgConnection,
    repository: RepositoryId,
    issue: i64,
) -> Result<Option<Run>, RunError> {
    loop {
        let id = sqlx::query_scalar!(
            "select run_id from runs where repository_id = $1 and issue_number = $2 and behind is null
               and state in ('queued', 'active', 'waiting')",
            repository.uuid(),
            issue
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(id) = id else { return Ok(None) };
        // It may have ended while this waited for the lock, and another one may have come forward.
        match store::lock(tx, RunId::from_uuid(id)).await? {
            Some(run) if !run.state.is_final() => return Ok(Some(run)),
            Some(_) | None => {}
        }
    }
}

/// The run that waits for the end of this one, which is locked.
pub(crate) async fn behind(tx: &mut PgConnection, front: RunId) -> Result<Option<Run>, RunError> {
    let id = sqlx::query_scalar!(
        "select run_id from runs where behind = $1 and state = 'queued' for no key update",
        front.uuid()
    )
    .fetch_optional(&mut *tx)
    .await?;
    match id {
        Some(id) => store::get(tx, RunId::from_uuid(id)).await,
        None => Ok(None),
    }
}

/// Lets the run go that waits for the end of this one.
pub(super) async fn let_go(tx: &mut PgConnection, app: &App, front: RunId) -> Result<(), RunError> {
    let waits = sqlx::query_scalar!(
        r#"select exists (select from runs where behind = $1 and state = 'queued') as "waits!""#,
        front.uuid()
    );
    if !waits.fetch_one(&mut *tx).await? {
        return Ok(());
    }
    // Its comment says whether it is paused, and pauses lock before they look at queued runs.
    hold_off_pauses(tx).await?;
    let Some(run) = behind(tx, front).await? else { return Ok(()) };
    let freed = sqlx::query!(
        "update runs set behind = null, message = 'Waiting for a worker.', available_at = $2
         where run_id = $1 and behind is not null",
        run.id.uuid(),
        app.clock.now(),
    )
    .execute(&mut *tx)
    .await?;
    if freed.rows_affected() != 1 {
        return Err(RunError::Database(sqlx::Error::RowNotFound));
    }
    store::event(tx, app, run.id, "let_go", &format!("Run {front} is over: this one is next.")).await?;
    let run = store::get(&mut *tx, run.id).await?.ok_or(RunError::Database(sqlx::Error::RowNotFound))?;
    publishing::say_status(tx, app, &run).await?;
    Topic::Queue.notify(tx).await?;
    Ok(())
}

/// Runs whose attempt does not run yet, with the sentence of their worker.
pub(crate) async fn waits(db: &PgPool) -> sqlx::Result<HashMap<RunId, String>> {
    let rows = sqlx::query!(
        r#"select run_id, waits_for as "why!" from attempts
           where state in ('leased', 'preparing', 'running') and waits_for is not null"#
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (RunId::from_uuid(row.run_id), row.why)).collect())
}

/// A run that waits for a worker or for room in a cluster.
pub(crate) struct ThatWaits {
    pub(crate) id: RunId,
    pub(crate) stage: String,
    pub(crate) repository: String,
    pub(crate) issue: i64,
    /// `no_worker` or `cluster`.
    pub(crate) reason: &'static str,
    pub(crate) why: String,
    pub(crate) since: Option<DateTime<Utc>>,
}

/// Those that are asked for: one by its id, or all of an issue.
pub(crate) async fn that_wait(
    db: &PgPool,
    run: Option<Uuid>,
    repository: Option<&str>,
    issue: Option<i64>,
) -> sqlx::Result<Vec<ThatWaits>> {
    let rows = sqlx::query!(
        r#"select r.run_id, r.stage, o.full_name, r.issue_number, r.no_worker, r.no_worker_since,
                  a.waits_for as "waits_for?", a.leased_at as "leased_at?"
           from runs r join repositories o on o.repository_id = r.repository_id
           left join attempts a on a.run_id = r.run_id and a.state in ('leased', 'preparing', 'running')
           where (r.run_id = $1 or r.issue_number = $3 and ($2::text is null or o.full_name_key = $2))
             and r.state in ('queued', 'active') and (r.no_worker is not null or a.waits_for is not null)
           order by r.created_at desc"#,
        run,
        repository,
        issue,
    )
    .fetch_all(db)
    .await?;
    let what = |no_worker: Option<String>, since, waits_for: Option<String>, leased_at| match no_worker {
        Some(why) => ("no_worker", why, since),
        None => ("cluster", waits_for.unwrap_or_default(), leased_at),
    };
    Ok(rows
        .into_iter()
        .map(|row| {
            let (reason, why, since) = what(row.no_worker, row.no_worker_since, row.waits_for, row.leased_at);
            let id = RunId::from_uuid(row.run_id);
            ThatWaits {
                id,
                stage: row.stage,
                repository: row.full_name,
                issue: row.issue_number,
                reason,
                why,
                since,
            }
        })
        .collect())
}
