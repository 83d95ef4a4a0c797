//! The queue: which worker gets which run next.

use chrono::TimeDelta;
use domain::{
    ids::{AttemptId, Id, RunId, WorkerId, WorkerProcessId},
    run::RunState,
};
use sqlx::PgConnection;

use super::store::{self, Attempt, Run, RunError, move_run};
use crate::{
    App,
    pauses::hold_off_pauses,
    steps::{self, Step, around},
};

/// Seconds a lease lives without a heartbeat.
pub(super) const LEASE_SECONDS: u32 = 20;

/// Leases the next run this worker may have: by priority, then the project with the least
/// running, then age; nothing that is paused. The lease is committed before anything else happens.
pub(super) async fn lease(
    app: &App,
    worker: WorkerId,
    process: Option<WorkerProcessId>,
) -> Result<Option<(Run, Attempt)>, RunError> {
    let mut tx = app.db.begin().await?;
    hold_off_pauses(&mut tx).await?;
    let next = sqlx::query_scalar!(
        "select r.run_id from runs r
         join worker_projects wp on wp.project_id = r.project_id and wp.worker_id = $1
         join repositories o on o.repository_id = r.repository_id and o.enabled
                               and o.no_access_since is null and o.archived_at is null and o.gone_at is null
         where r.state = 'queued' and r.behind is null and r.available_at <= $2
           and not exists (select from pauses p where (p.project_id is null or p.project_id = r.project_id)
                                                  and (p.stage is null or p.stage = r.stage))
         order by r.priority desc,
                  (select count(*) from attempts a join runs o using (run_id)
                    where o.project_id = r.project_id and a.state in ('leased', 'preparing', 'running')),
                  r.created_at
         limit 1 for update of r skip locked",
        worker.uuid(),
        app.clock.now()
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(id) = next else { return Ok(None) };
    let run = store::lock(&mut tx, RunId::from_uuid(id))
        .await?
        .ok_or(RunError::Database(sqlx::Error::RowNotFound))?;
    let attempt = insert_attempt(&mut tx, app, &run, worker, process).await?;
    let message = format!("Attempt {} is on worker `{}`.", attempt.number, attempt.worker_name);
    let run =
        move_run(&mut tx, app, &run, RunState::Active, &format!("worker:{}", attempt.worker_name), &message)
            .await?;
    steps::commit(tx, Step::RunLeased).await?;
    if attempt.number == 1 {
        let waited = (attempt.leased_at - run.created_at).as_seconds_f64();
        metrics::histogram!("callboard_queue_wait_seconds").record(waited.max(0.0));
    }
    Ok(Some((run, attempt)))
}

async fn insert_attempt(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    worker: WorkerId,
    process: Option<WorkerProcessId>,
) -> Result<Attempt, RunError> {
    let id: AttemptId = app.ids.next();
    let now = app.clock.now();
    let stage_limit = run.definition.time_limit();
    let limit = app.agents.time_limit.map_or(stage_limit, |operator| operator.min(stage_limit));
    let deadline = now + TimeDelta::from_std(limit).unwrap_or(TimeDelta::hours(1));
    sqlx::query!(
        "insert into attempts (attempt_id, run_id, number, worker_id, state, fence, lease_expires_at, deadline_at, leased_at, process_id)
         select $1, $2, coalesce(max(number), 0) + 1, $3, 'leased', coalesce(max(fence), 0) + 1, now() + make_interval(secs => $4), $5, $6, $7
         from attempts where run_id = $2",
        id.uuid(),
        run.id.uuid(),
        worker.uuid(),
        f64::from(LEASE_SECONDS),
        deadline,
        now,
        process.map(Id::uuid),
    )
    .execute(&mut *tx)
    .await?;
    store::attempt(&mut *tx, id).await?.ok_or(RunError::Database(sqlx::Error::RowNotFound))
}

/// A worker's sign of life for one lease. False when the lease is not its any more.
pub(super) async fn renew(app: &App, worker: WorkerId, attempt: AttemptId, fence: i64) -> sqlx::Result<bool> {
    let renew = sqlx::query!(
        "update attempts set lease_expires_at = now() + make_interval(secs => $4)
         where attempt_id = $1 and worker_id = $2 and fence = $3 and state in ('leased', 'preparing', 'running')",
        attempt.uuid(),
        worker.uuid(),
        fence,
        f64::from(LEASE_SECONDS),
    );
    let renewed = around(Step::LeaseRenewed, renew.execute(&app.db)).await?;
    Ok(renewed.rows_affected() == 1)
}

/// Notes that a process of a worker was here. False when another process of that worker
/// started after it: what the earlier one had is lost.
pub(super) async fn seen(
    app: &App,
    worker: WorkerId,
    process: Option<WorkerProcessId>,
) -> sqlx::Result<bool> {
    let (now, process) = (app.clock.now(), process.map(Id::uuid));
    let seen = sqlx::query!(
        "update workers set last_seen_at = $2 where worker_id = $1 and process_id is not distinct from $3",
        worker.uuid(),
        now,
        process,
    );
    if around(Step::WorkerSeen, seen.execute(&app.db)).await?.rows_affected() == 1 {
        return Ok(true);
    }
    let mut tx = app.db.begin().await?;
    sqlx::query!("select worker_id from workers where worker_id = $1 for update", worker.uuid())
        .fetch_one(&mut *tx)
        .await?;
    if let Some(process) = process {
        let new = sqlx::query!(
            "insert into worker_processes (process_id, worker_id, first_seen_at) values ($1, $2, $3) on conflict do nothing",
            process,
            worker.uuid(),
            now,
        )
        .execute(&mut *tx)
        .await?;
        if new.rows_affected() == 0 {
            // Known, and not the present one; or its own second call, which waited for this lock.
            return sqlx::query_scalar!(
                r#"select process_id is not distinct from $2 as "present!" from workers where worker_id = $1"#,
                worker.uuid(),
                process,
            )
            .fetch_one(&mut *tx)
            .await;
        }
    }
    let updated = sqlx::query!(
        "update workers set last_seen_at = $2, process_id = $3 where worker_id = $1",
        worker.uuid(),
        now,
        process,
    )
    .execute(&mut *tx)
    .await?;
    if updated.rows_affected() != 1 {
        return Err(sqlx::Error::RowNotFound);
    }
    steps::commit(tx, Step::WorkerArrived).await?;
    Ok(true)
}
