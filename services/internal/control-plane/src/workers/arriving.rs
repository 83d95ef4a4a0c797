//! A process of a worker is here for the first time, and says what it is.

use domain::{
    ids::{Id, WorkerId, WorkerProcessId},
    workers::{Labels, label, narrow, written},
};
use proto::v1::Declaration;
use sqlx::{PgConnection, types::Json};

use crate::App;

/// Labels a worker may say that it has.
const MOST_LABELS: usize = 64;

/// Whether what a worker says of itself may be stored and shown: a few labels, and nothing else.
///
/// # Errors
/// What is wrong with it, a sentence.
pub(crate) fn is_sound(declaration: &Declaration) -> Result<(), String> {
    if declaration.labels.len() > MOST_LABELS {
        return Err(format!("a worker may say that it has {MOST_LABELS} labels, and not more"));
    }
    let labels = declaration.labels.iter();
    labels
        .map(|(key, value)| label(&format!("{key}={value}")))
        .try_for_each(|it| it.map(drop))
        .map_err(|e| e.to_string())
}

/// What a process of a worker is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// From now on the present one.
    New,
    /// The present one already.
    Present,
    /// Another one was started after it.
    Superseded,
}

/// Makes a process the present one of its worker, unless it was here before. The worker's row is
/// locked until the transaction ends; it comes before any run.
pub(crate) async fn arrive(
    tx: &mut PgConnection,
    app: &App,
    worker: WorkerId,
    process: Option<WorkerProcessId>,
    declaration: Option<&Declaration>,
) -> sqlx::Result<Arrival> {
    let now = app.clock.now();
    let process = process.map(Id::uuid);
    let known = sqlx::query!(
        r#"select name, process_id, labels as "labels: Json<Labels>" from workers where worker_id = $1 for no key update"#,
        worker.uuid()
    )
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
            let is_present = known.process_id == Some(process);
            return Ok(if is_present { Arrival::Present } else { Arrival::Superseded });
        }
    }
    let declared: Option<Labels> = declaration.map(|d| d.labels.clone().into_iter().collect());
    let ignored = declared.as_ref().map(|declared| narrow(&known.labels, declared).ignored);
    if let Some(ignored) = ignored.filter(|ignored| !ignored.is_empty()) {
        tracing::warn!(
            worker = known.name,
            ignored = written(&ignored),
            "a worker says that it has labels it was not enrolled with; they do not count"
        );
    }
    // A sign of life does not say what it is; what was said before holds until it asks for work.
    let updated = sqlx::query!(
        "update workers set last_seen_at = $2, heard_at = now(), process_id = $3,
           is_cluster = coalesce($4, is_cluster), declared_labels = coalesce($5, declared_labels)
         where worker_id = $1",
        worker.uuid(),
        now,
        process,
        declaration.map(|d| d.cluster),
        declared.map(Json) as _,
    )
    .execute(&mut *tx)
    .await?;
    if updated.rows_affected() != 1 {
        return Err(sqlx::Error::RowNotFound);
    }
    Ok(Arrival::New)
}
