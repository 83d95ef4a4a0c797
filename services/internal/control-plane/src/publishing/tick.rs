//! While an agent works, the status comment of its run is refreshed, so that its timings live.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    ids::{Id, RunId},
    run::RunState,
    tick::tick_interval,
};

use super::{
    effects::{Priority, after},
    limits, say_status,
};
use crate::{
    App,
    runs::{self, Run, RunError},
    steps::{self, Step},
};

/// Writes in an hour that the code host's secondary limits leave to one identity. One
/// credential is configured, so all runs share it.
const HOURLY_BUDGET: u32 = 500;
/// What a comment shows changes once a minute; an edit before that would change nothing.
const RESOLUTION: Duration = Duration::from_secs(60);

/// Refreshes what is due by `now`; nothing while the code host has us wait.
pub(super) async fn tick(app: &App, now: DateTime<Utc>) -> sqlx::Result<()> {
    let working = sqlx::query!(
        r#"select r.run_id, e.created_at as "said_at!", e.state = 'pending' as "pending!"
           from runs r join attempts a using (run_id) join status_comments c using (run_id)
           cross join lateral (select created_at, state from effects
             where run_id = r.run_id and kind = 'status_comment' order by ordinal desc limit 1) e
           where r.state = 'active' and a.state = 'running'
           order by e.created_at"#
    )
    .fetch_all(&app.db)
    .await?;
    let interval = tick_interval(working.len(), HOURLY_BUDGET).max(RESOLUTION);
    // What waits to be sent says all there is.
    for run in working.iter().filter(|run| !run.pending && after(run.said_at, interval) <= now) {
        // One that cannot be told of must not keep the others from it.
        if let Err(error) = refresh(app, RunId::from_uuid(run.run_id)).await {
            tracing::warn!(run_id = %run.run_id, error = %telemetry::logging::chain(&error), "status comment not refreshed");
        }
    }
    Ok(())
}

async fn refresh(app: &App, id: RunId) -> Result<(), RunError> {
    let mut tx = app.db.begin().await?;
    let run = runs::lock(&mut tx, id).await?.filter(|run| run.state == RunState::Active);
    // Nobody waits for a refresh: it stops first when the code host's limits are near.
    let may_go = |run: &Run| {
        limits::wait(Priority::Nicety, &app.forge.allowance(&run.repository), app.clock.now()).is_none()
    };
    if let Some(run) = run.filter(may_go) {
        say_status(&mut tx, app, &run).await?;
        steps::commit(tx, Step::StatusRefreshed).await?;
    }
    Ok(())
}
