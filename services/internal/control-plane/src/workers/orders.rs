//! A person tells a worker to rest, to leave what it has to others, or to go on.

use domain::ids::{Id, RunId};
use proto::admin::order_worker_request::Order;
use serde_json::json;
use sqlx::PgConnection;
use tonic::Status;

use crate::{
    App, audit,
    runs::{self, RunError},
    serving::internal,
    steps::{self, Step},
    wake::Topic,
};

/// Obeys, unless it is so already; says what is so then.
pub(crate) async fn order(app: &App, name: &str, order: Order, by: &str) -> Result<String, Status> {
    let obeyed = match order {
        Order::Cordon => cordon(app, name, by).await,
        Order::Uncordon => uncordon(app, name, by).await,
        Order::Drain => drain(app, name, by).await,
        Order::Unspecified => return Err(Status::invalid_argument("say what the worker is to do")),
    };
    obeyed.map_err(|e| internal("workers.order", &e))?.ok_or_else(|| {
        let name: String = name.chars().take(60).collect();
        Status::not_found(format!("there is no worker `{name}`; `callboard worker list` shows them"))
    })
}

struct Worker {
    id: domain::ids::WorkerId,
    is_cordoned: bool,
    is_drained: bool,
}

/// The worker, locked: nothing is leased to it before the transaction ends. It comes before any run.
async fn lock(tx: &mut PgConnection, name: &str) -> sqlx::Result<Option<Worker>> {
    let row = sqlx::query!(
        r#"select worker_id, cordoned_at is not null as "is_cordoned!", drained_at is not null as "is_drained!"
           from workers where name = $1 for no key update"#,
        name
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| Worker {
        id: Id::from_uuid(row.worker_id),
        is_cordoned: row.is_cordoned,
        is_drained: row.is_drained,
    }))
}

async fn set(
    tx: &mut PgConnection,
    app: &App,
    worker: &Worker,
    cordoned: bool,
    drained: bool,
) -> sqlx::Result<()> {
    let now = app.clock.now();
    let updated = sqlx::query!(
        "update workers set cordoned_at = case when $2 then coalesce(cordoned_at, $4) end,
           drained_at = case when $3 then coalesce(drained_at, $4) end where worker_id = $1",
        worker.id.uuid(),
        cordoned,
        drained,
        now,
    )
    .execute(tx)
    .await?;
    if updated.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

async fn record(
    tx: &mut PgConnection,
    app: &App,
    worker: &Worker,
    name: &str,
    action: &str,
    by: &str,
) -> sqlx::Result<()> {
    let entry = audit::Entry {
        project: None,
        actor: by,
        action,
        subject: format!("worker:{}", worker.id),
        detail: json!({ "name": name }),
        trace_id: None,
    };
    audit::record(tx, &*app.clock, &app.ids, entry).await
}

async fn cordon(app: &App, name: &str, by: &str) -> Result<Option<String>, RunError> {
    let mut tx = app.db.begin().await?;
    let Some(worker) = lock(&mut tx, name).await? else { return Ok(None) };
    if worker.is_cordoned {
        return Ok(Some(format!("Worker `{name}` was cordoned already.")));
    }
    set(&mut tx, app, &worker, true, false).await?;
    record(&mut tx, app, &worker, name, "worker.cordoned", by).await?;
    steps::commit(tx, Step::WorkerOrdered).await?;
    tracing::warn!(worker = name, by, "cordoned");
    Ok(Some(format!(
        "Worker `{name}` gets nothing new; what it has goes on. `callboard worker uncordon {name}` ends it."
    )))
}

async fn uncordon(app: &App, name: &str, by: &str) -> Result<Option<String>, RunError> {
    let mut tx = app.db.begin().await?;
    let Some(worker) = lock(&mut tx, name).await? else { return Ok(None) };
    if !worker.is_cordoned {
        return Ok(Some(format!("Worker `{name}` was not cordoned.")));
    }
    set(&mut tx, app, &worker, false, false).await?;
    record(&mut tx, app, &worker, name, "worker.uncordoned", by).await?;
    Topic::Queue.notify(&mut tx).await?;
    steps::commit(tx, Step::WorkerOrdered).await?;
    tracing::info!(worker = name, by, "uncordoned");
    Ok(Some(format!("Worker `{name}` gets runs again.")))
}

async fn drain(app: &App, name: &str, by: &str) -> Result<Option<String>, RunError> {
    let mut tx = app.db.begin().await?;
    let Some(worker) = lock(&mut tx, name).await? else { return Ok(None) };
    if worker.is_drained {
        return Ok(Some(format!("Worker `{name}` was told to drain already.")));
    }
    set(&mut tx, app, &worker, true, true).await?;
    let live = sqlx::query!(
        "select attempt_id, run_id, number from attempts
         where worker_id = $1 and state in ('leased', 'preparing', 'running') order by run_id",
        worker.id.uuid()
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut leaving = 0;
    for row in live {
        let run = RunId::from_uuid(row.run_id);
        runs::lock(&mut tx, run).await?;
        let told = sqlx::query!(
            "update attempts set drained_at = $2 where attempt_id = $1 and state in ('leased', 'preparing', 'running')",
            row.attempt_id,
            app.clock.now(),
        )
        .execute(&mut *tx)
        .await?;
        // It may have ended while this waited for its run.
        if told.rows_affected() == 1 {
            let text = format!("Attempt {} is to leave worker `{name}`, which is drained.", row.number);
            runs::event(&mut tx, app, run, "drained", &text).await?;
            leaving += 1;
        }
    }
    record(&mut tx, app, &worker, name, "worker.drained", by).await?;
    Topic::Stops.notify(&mut tx).await?;
    steps::commit(tx, Step::WorkerOrdered).await?;
    tracing::warn!(worker = name, by, leaving, "drained");
    let what = match leaving {
        0 => "It has none.".to_owned(),
        1 => "One attempt leaves it with its last checkpoint.".to_owned(),
        n => format!("{n} attempts leave it with their last checkpoints."),
    };
    Ok(Some(format!("Worker `{name}` gets nothing new. {what} `callboard worker uncordon {name}` ends it.")))
}
