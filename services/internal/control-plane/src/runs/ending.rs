//! How attempts and runs end: returned, failed, lost, out of time, cancelled.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    ids::Id,
    retry::{self, RetryPolicy},
    run::{AttemptState, FailureClass, PublicationState, RunState},
};
use sqlx::PgConnection;

use super::{
    attempts::{self, Attempt, move_attempt},
    store::{Run, RunError, move_run},
};
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
    if let Some(attempt) = attempts::live(tx, run.id).await? {
        move_attempt(tx, app, run, &attempt, AttemptState::Stopped, message).await?;
    }
    if let Some(publication) = publishing::publication(&mut *tx, run.id).await?
        && matches!(publication.state, PublicationState::Publishing | PublicationState::Held)
    {
        publishing::move_publication(tx, app, run, publication.state, PublicationState::Refused).await?;
    }
    publishing::drop_pending(tx, app, run.id).await?;
    let run = move_run(tx, app, run, state, actor, message).await?;
    publishing::say_status(tx, app, &run).await?;
    Ok(run)
}

/// The deadline has passed.
pub(crate) async fn out_of_time(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    attempt: &Attempt,
) -> Result<Run, RunError> {
    let had = attempt.deadline_at - attempt.leased_at;
    let had = if had < TimeDelta::minutes(2) {
        format!("{} seconds", had.num_seconds())
    } else {
        format!("{} minutes", had.num_minutes())
    };
    let message = format!("The attempt took longer than the {had} it had, and was ended.");
    end(tx, app, run, RunState::Failed(FailureClass::TimedOut), "platform", &message).await
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

/// Why an attempt has to be made again. Each kind has its own tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setback {
    /// Worker, sandbox or runner.
    Infrastructure,
    /// The model backend.
    Provider,
    /// What the run needs could not be read from the code host.
    Preparing,
    /// The code host asked to wait.
    Limited,
}

impl Setback {
    fn name(self) -> &'static str {
        match self {
            Self::Infrastructure => "infrastructure",
            Self::Provider => "provider",
            Self::Preparing => "preparing",
            Self::Limited => "limited",
        }
    }

    fn policy(self) -> RetryPolicy {
        match self {
            Self::Infrastructure => retry::INFRASTRUCTURE,
            Self::Provider => retry::PROVIDER,
            Self::Preparing => retry::PREPARING,
            Self::Limited => retry::LIMITED,
        }
    }
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
    again(tx, app, run, attempt, Setback::Infrastructure, None, why).await
}

/// The attempt leaves a worker that is drained, with its last checkpoint: the run is queued again at
/// once, and it costs no try.
pub(crate) async fn hand_back(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    attempt: &Attempt,
) -> Result<(), RunError> {
    let why = format!("worker `{}` is drained", attempt.worker_name);
    move_attempt(tx, app, run, attempt, AttemptState::Stopped, &why).await?;
    let message = format!("Attempt {} was stopped: {why}. The run goes on on another one.", attempt.number);
    queue_again(tx, app, run, app.clock.now(), &message).await
}

/// Queues the run again after a wait (at least what the code host asked for), or ends it.
pub(crate) async fn again(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    attempt: &Attempt,
    setback: Setback,
    at_least: Option<Duration>,
    why: &str,
) -> Result<(), RunError> {
    let tries = sqlx::query_scalar!(
        r#"with noted as (update attempts set setback = $2 where attempt_id = $1)
           select count(*) + 1 as "tries!" from attempts where run_id = $3 and setback = $2 and attempt_id <> $1"#,
        attempt.id.uuid(),
        setback.name(),
        run.id.uuid(),
    )
    .fetch_one(&mut *tx)
    .await?;
    let tries = u32::try_from(tries).unwrap_or(u32::MAX);
    let why = why.trim_end_matches('.');
    let Some(wait) = setback.policy().wait(tries, app.ids.fraction()) else {
        let message = format!("Tried {tries} times, and this was the last: {why}.");
        end(tx, app, run, RunState::Failed(FailureClass::RetriesSpent), "platform", &message).await?;
        return Ok(());
    };
    let wait = wait.max(at_least.unwrap_or_default());
    let available_at = app.clock.now() + TimeDelta::from_std(wait).unwrap_or(TimeDelta::minutes(1));
    let message = match setback {
        Setback::Infrastructure | Setback::Provider | Setback::Preparing => {
            format!("Attempt {} failed: {why}. Trying again.", attempt.number)
        }
        Setback::Limited => {
            let at = publishing::minute_of(available_at);
            format!("Attempt {} could not begin: {why}. The run goes on by itself at {at}.", attempt.number)
        }
    };
    queue_again(tx, app, run, available_at, &message).await
}

/// The run waits for a worker again, from that time on.
async fn queue_again(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    available_at: DateTime<Utc>,
    message: &str,
) -> Result<(), RunError> {
    let run = move_run(tx, app, run, RunState::Queued, "platform", message).await?;
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
