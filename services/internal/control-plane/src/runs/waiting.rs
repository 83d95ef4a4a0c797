//! One run of an issue at a time, and one that waits for its end.

use domain::ids::{Id, RepositoryId, RunId};
use sqlx::PgConnection;

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
        "select run_id from runs where behind = $1 and state = 'queued' for update",
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
