//! How attempts and runs end: returned, failed, lost, out of time, cancelled.

use chrono::TimeDelta;
use domain::{
    ids::Id,
    retry::{self, RetryPolicy},
    run::{AttemptState, FailureClass, PublicationState, RunState},
};
use sqlx::PgConnection;

use super::store::{self, Attempt, Run, RunError, move_attempt, move_run};
use crate::{App, publishing, wake::Topic};

/// Ends a run for good and says so. Its live attempt is stopped at once.
pub(crate) async fn end(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    state: RunState,
    actor: &str,
    message: &str,
) -> Result<Run, RunError> {
    if let Some(attempt) = store::live_attempt(tx, run.id).await? {
        move_attempt(tx, app, run, &attempt, AttemptState::Stopped, message).await?;
    }
    if let Some(publication) = publishing::publication(&mut *tx, run.id).await?
        && matches!(publication.state, PublicationState::Publishing | PublicationState::Held)
    {
        publishing::move_publication(tx, app, run, publication.state, PublicationState::Refused).await?;
        publishing::drop_pending(tx, app, run.id).await?;
    }
    let run = move_run(tx, app, run, state, actor, message).await?;
    publishing::say_status(tx, app, &run).await?;
    Ok(run)
}

/// A person ends a run.
pub(crate) async fn cancel(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    actor: &str,
    reason: &str,
) -> Result<Run, RunError> {
    let message = if reason.is_empty() {
        format!("Cancelled by {actor}.")
    } else {
        format!("Cancelled by {actor}: {reason}")
    };
    end(tx, app, run, RunState::Cancelled, actor, &message).await
}

/// The attempt is over without a result, through no fault of the agent: another one is
/// queued, or the run ends because its tries are spent.
pub(crate) async fn lose(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    attempt: &Attempt,
    why: &str,
) -> Result<(), RunError> {
    move_attempt(tx, app, run, attempt, AttemptState::Lost, why).await?;
    again(tx, app, run, attempt.number, retry::INFRASTRUCTURE, why).await
}

/// Queues the run again after a wait, or ends it.
pub(crate) async fn again(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    tries: i32,
    policy: RetryPolicy,
    why: &str,
) -> Result<(), RunError> {
    let tries = u32::try_from(tries).unwrap_or(u32::MAX);
    let Some(wait) = policy.wait(tries, app.ids.fraction()) else {
        let message = format!("Tried {tries} times, and this was the last: {why}");
        end(tx, app, run, RunState::Failed(FailureClass::RetriesSpent), "platform", &message).await?;
        return Ok(());
    };
    let message = format!("Attempt {tries} was lost ({}). Trying again.", why.trim_end_matches('.'));
    let run = move_run(tx, app, run, RunState::Queued, "platform", &message).await?;
    let available_at = app.clock.now() + TimeDelta::from_std(wait).unwrap_or(TimeDelta::minutes(1));
    let updated =
        sqlx::query!("update runs set available_at = $2 where run_id = $1", run.id.uuid(), available_at)
            .execute(&mut *tx)
            .await?;
    if updated.rows_affected() != 1 {
        return Err(RunError::Database(sqlx::Error::RowNotFound));
    }
    publishing::say_status(tx, app, &run).await?;
    Ok(Topic::Queue.notify(tx).await?)
}
