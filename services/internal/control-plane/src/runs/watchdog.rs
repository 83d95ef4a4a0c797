//! Deadlines and leases: what ran out of time is ended, what went silent is lost.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use domain::ids::{AttemptId, Id};
use telemetry::shutdown::Shutdown;

use super::{
    attempts,
    ending::{lose, out_of_time},
    no_worker,
    store::{self, RunError},
};
use crate::{
    App,
    steps::{self, Step},
    wake::Outage,
};

/// How often it looks.
const TICK: Duration = Duration::from_millis(250);
/// How often gauges are set.
const GAUGES_EVERY: u32 = 20;
/// How often it looks for runs without a worker, in ticks.
const WORKERS_EVERY: u32 = 4;
/// How long workers have to be heard of again, once this process is up and has its database: they may
/// have waited for it, and try every ten seconds.
const WORKERS_RETURN: Duration = Duration::from_secs(30);

/// Looks until the process ends. Every control plane may: a row is locked before it is changed.
pub(crate) fn spawn(app: &Arc<App>, shutdown: &Shutdown) {
    let (app, ended) = (Arc::clone(app), shutdown.token());
    shutdown.spawn(async move {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut round = 0_u32;
        let mut answers_since = Instant::now();
        let mut outage = Outage::new("watchdog");
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // Until then nobody could be heard of, and attempts in a cluster went on well.
            let are_heard = answers_since.elapsed() >= WORKERS_RETURN;
            let looked = look(&app, are_heard).await;
            outage.note(looked.as_ref().err().map(|e| e as _));
            if looked.is_err() {
                answers_since = Instant::now();
            }
            if round.is_multiple_of(WORKERS_EVERY) && !outage.lasts() {
                let looked = no_worker::look(&app, are_heard).await;
                outage.note(looked.as_ref().err().map(|e| e as _));
            }
            if round.is_multiple_of(GAUGES_EVERY) && !outage.lasts() {
                outage.note(gauges(&app).await.as_ref().err().map(|e| e as _));
            }
            round = round.wrapping_add(1);
        }
    });
}

/// Silence of a worker in a cluster counts once `are_heard`.
async fn look(app: &App, are_heard: bool) -> Result<(), RunError> {
    let over = sqlx::query_scalar!(
        "select attempt_id from attempts a join workers w using (worker_id)
         where state in ('leased', 'preparing', 'running')
           and (deadline_at <= $1 or lease_expires_at < now() and ($2 or not w.is_cluster)
                or a.process_id is distinct from w.process_id)",
        app.clock.now(),
        are_heard,
    )
    .fetch_all(&app.db)
    .await?;
    for id in over {
        // One that cannot be ended must not keep the others alive.
        if let Err(error) = settle(app, AttemptId::from_uuid(id), are_heard).await {
            tracing::warn!(attempt_id = %id, error = %telemetry::logging::chain(&error), "attempt not ended; trying again");
        }
    }
    Ok(())
}

/// Ends one attempt that is out of time or silent.
async fn settle(app: &App, id: AttemptId, are_heard: bool) -> Result<(), RunError> {
    let mut tx = app.db.begin().await?;
    let Some(attempt) = attempts::get(&mut *tx, id).await? else { return Ok(()) };
    let Some(run) = store::lock(&mut tx, attempt.run).await? else { return Ok(()) };
    // Read again under the lock: it may have ended or been renewed meanwhile.
    let Some(attempt) = attempts::get(&mut *tx, id).await?.filter(|a| a.state.is_live()) else {
        return Ok(());
    };
    if attempt.deadline_at <= app.clock.now() {
        out_of_time(&mut tx, app, &run, &attempt).await?;
        return Ok(steps::commit(tx, Step::AttemptSettled).await?);
    }
    let worker = sqlx::query!(
        r#"select lease_expires_at < now() and ($2 or not w.is_cluster) as "silent!", a.process_id is distinct from w.process_id as "restarted!"
           from attempts a join workers w using (worker_id) where attempt_id = $1"#,
        id.uuid(),
        are_heard,
    )
    .fetch_one(&mut *tx)
    .await?;
    let what = match (worker.restarted, worker.silent) {
        (true, _) => Some("was restarted"),
        (false, true) => Some("went silent"),
        (false, false) => None,
    };
    if let Some(what) = what {
        lose(&mut tx, app, &run, &attempt, &format!("worker `{}` {what}", attempt.worker_name)).await?;
        steps::commit(tx, Step::AttemptSettled).await?;
    }
    Ok(())
}

async fn gauges(app: &App) -> sqlx::Result<()> {
    let states = sqlx::query!(
        r#"select s.state as "state!", count(r.run_id) as "n!" from unnest(array['queued', 'active', 'waiting', 'succeeded', 'failed', 'cancelled']) s(state)
           left join runs r on r.state = s.state group by s.state"#
    )
    .fetch_all(&app.db)
    .await?;
    for row in states {
        #[expect(clippy::cast_precision_loss, reason = "a gauge; nobody has 2^52 runs")]
        metrics::gauge!("callboard_runs", "state" => row.state).set(row.n as f64);
    }
    let pending = sqlx::query_scalar!(r#"select count(*) as "n!" from effects where state = 'pending'"#)
        .fetch_one(&app.db)
        .await?;
    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    metrics::gauge!("callboard_effects_pending").set(pending as f64);
    let dead = sqlx::query_scalar!(r#"select count(*) as "n!" from effects where state = 'dead'"#)
        .fetch_one(&app.db)
        .await?;
    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    metrics::gauge!("callboard_effects_dead").set(dead as f64);
    Ok(())
}
