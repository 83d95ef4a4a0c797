//! The queue: which worker gets which run next.

use chrono::TimeDelta;
use domain::{
    ids::{AttemptId, Id, RunId, WorkerId, WorkerProcessId},
    run::RunState,
    workers::{Labels, narrow},
};
use proto::v1::Declaration;
use sqlx::{PgConnection, types::Json};

use super::{
    attempts::{self, Attempt},
    store::{self, Run, RunError, move_run},
};
use crate::{
    App,
    pauses::hold_off_pauses,
    steps::{self, Step, around},
    workers,
};

/// Seconds a lease lives without a heartbeat. What a local worker has dies with it.
const LOCAL_LEASE_SECONDS: u32 = 20;
/// The same in a cluster: its attempts go on without their worker, and one that is put on another
/// node is back within this time and adopts them.
const CLUSTER_LEASE_SECONDS: u32 = 90;

/// Seconds a lease of such a worker lives without a heartbeat.
pub(super) fn lease_seconds(in_cluster: bool) -> u32 {
    if in_cluster { CLUSTER_LEASE_SECONDS } else { LOCAL_LEASE_SECONDS }
}

/// A worker, as the queue cares.
struct Asking {
    in_cluster: bool,
    /// What runs may ask of it.
    labels: Labels,
}

/// The worker, if it may have something new: it is not cordoned, and this is its present process.
/// Neither changes before the transaction ends.
async fn asking(
    tx: &mut PgConnection,
    worker: WorkerId,
    process: Option<WorkerProcessId>,
) -> sqlx::Result<Option<Asking>> {
    let row = sqlx::query!(
        r#"select is_cluster, labels as "labels: Json<Labels>", declared_labels as "declared_labels: Json<Labels>"
           from workers where worker_id = $1 and process_id is not distinct from $2 and cordoned_at is null for share"#,
        worker.uuid(),
        process.map(Id::uuid),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| {
        let declared = row.declared_labels.map(|Json(labels)| labels).unwrap_or_default();
        Asking { in_cluster: row.is_cluster, labels: narrow(&row.labels, &declared).labels }
    }))
}

/// Leases the next run this worker may have: by priority, then the project with the least
/// running, then the one whose turn with this worker is longest ago, then age; nothing that is
/// paused, and nothing that asks for labels it does not have. The lease is committed before
/// anything else happens.
pub(super) async fn lease(
    app: &App,
    worker: WorkerId,
    process: Option<WorkerProcessId>,
) -> Result<Option<(Run, Attempt)>, RunError> {
    let mut tx = app.db.begin().await?;
    // The worker, then pauses, then the run, then the worker's turns: the order of locks everywhere.
    let Some(asking) = asking(&mut tx, worker, process).await? else { return Ok(None) };
    hold_off_pauses(&mut tx).await?;
    let next = sqlx::query_scalar!(
        "select r.run_id from runs r
         join worker_projects wp on wp.project_id = r.project_id and wp.worker_id = $1
         join repositories o on o.repository_id = r.repository_id and o.enabled
                               and o.no_access_since is null and o.archived_at is null and o.gone_at is null
         where r.state = 'queued' and r.behind is null and r.available_at <= $2
           and $3::jsonb @> coalesce(r.definition -> 'worker_labels', '{}')
           and not exists (select from pauses p where (p.project_id is null or p.project_id = r.project_id)
                                                  and (p.stage is null or p.stage = r.stage))
         order by r.priority desc,
                  (select count(*) from attempts a join runs o using (run_id)
                    where o.project_id = r.project_id and a.state in ('leased', 'preparing', 'running')),
                  wp.last_turn_at nulls first,
                  r.created_at
         limit 1 for no key update of r skip locked",
        worker.uuid(),
        app.clock.now(),
        Json(&asking.labels) as _,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(id) = next else { return Ok(None) };
    let run = store::lock(&mut tx, RunId::from_uuid(id))
        .await?
        .ok_or(RunError::Database(sqlx::Error::RowNotFound))?;
    let attempt =
        insert_attempt(&mut tx, app, &run, worker, process, lease_seconds(asking.in_cluster)).await?;
    let turn = sqlx::query!(
        "update worker_projects set last_turn_at = clock_timestamp() where worker_id = $1 and project_id = $2",
        worker.uuid(),
        run.project.uuid(),
    )
    .execute(&mut *tx)
    .await?;
    if turn.rows_affected() != 1 {
        return Err(sqlx::Error::RowNotFound.into());
    }
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
    lease_seconds: u32,
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
        f64::from(lease_seconds),
        deadline,
        now,
        process.map(Id::uuid),
    )
    .execute(&mut *tx)
    .await?;
    attempts::get(&mut *tx, id).await?.ok_or(RunError::Database(sqlx::Error::RowNotFound))
}

/// What became of a sign of life for one lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// It lives on.
    Renewed,
    /// The same, and its attempt is to leave the worker.
    Drained,
    /// The attempt is over, or is another worker's.
    Over,
    /// The attempt goes on with another process of the worker.
    Adopted,
}

/// A worker's sign of life for one lease.
pub(super) async fn renew(
    app: &App,
    worker: WorkerId,
    attempt: AttemptId,
    fence: i64,
) -> sqlx::Result<Renewal> {
    let renew = sqlx::query_scalar!(
        r#"update attempts a
           set lease_expires_at = now() + make_interval(secs => case when w.is_cluster then $5::float8 else $4::float8 end)
           from workers w where w.worker_id = a.worker_id
             and a.attempt_id = $1 and a.worker_id = $2 and a.fence = $3 and a.state in ('leased', 'preparing', 'running')
           returning a.drained_at is not null as "is_drained!""#,
        attempt.uuid(),
        worker.uuid(),
        fence,
        f64::from(LOCAL_LEASE_SECONDS),
        f64::from(CLUSTER_LEASE_SECONDS),
    );
    match around(Step::LeaseRenewed, renew.fetch_optional(&app.db)).await? {
        Some(false) => return Ok(Renewal::Renewed),
        Some(true) => return Ok(Renewal::Drained),
        None => {}
    }
    // Adopted meanwhile, perhaps: whoever is told that it is over removes what runs.
    let goes_on = sqlx::query_scalar!(
        r#"select exists (select from attempts where attempt_id = $1 and worker_id = $2
                          and state in ('leased', 'preparing', 'running')) as "goes_on!""#,
        attempt.uuid(),
        worker.uuid(),
    );
    Ok(if goes_on.fetch_one(&app.db).await? { Renewal::Adopted } else { Renewal::Over })
}

/// Whether this is the present process of its worker.
pub(super) async fn is_present(
    app: &App,
    worker: WorkerId,
    process: Option<WorkerProcessId>,
) -> sqlx::Result<bool> {
    let present = sqlx::query_scalar!(
        r#"select process_id is not distinct from $2 as "present!" from workers where worker_id = $1"#,
        worker.uuid(),
        process.map(Id::uuid),
    );
    Ok(present.fetch_optional(&app.db).await?.unwrap_or(false))
}

/// Notes that a process of a worker was here, and with its first word what it says of itself. False
/// when another process of that worker started after it: what the earlier one had is lost.
pub(super) async fn seen(
    app: &App,
    worker: WorkerId,
    process: Option<WorkerProcessId>,
    declaration: Option<&Declaration>,
) -> sqlx::Result<bool> {
    let seen = sqlx::query!(
        "update workers set last_seen_at = $2, heard_at = now()
         where worker_id = $1 and process_id is not distinct from $3",
        worker.uuid(),
        app.clock.now(),
        process.map(Id::uuid),
    );
    if around(Step::WorkerSeen, seen.execute(&app.db)).await?.rows_affected() == 1 {
        return Ok(true);
    }
    let mut tx = app.db.begin().await?;
    match workers::arrive(&mut tx, app, worker, process, declaration).await? {
        workers::Arrival::New => {
            steps::commit(tx, Step::WorkerArrived).await?;
            Ok(true)
        }
        // Its own second call, which waited for the first.
        workers::Arrival::Present => Ok(true),
        workers::Arrival::Superseded => Ok(false),
    }
}
