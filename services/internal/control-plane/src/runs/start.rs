//! A run comes into being: decided, queued, and said, in the caller's transaction.

use chrono::{DateTime, Utc};
use domain::ids::{DecisionId, Id, RunId};
use serde_json::json;
use sqlx::{PgConnection, types::Json};

use super::store::{self, IssueSnapshot, Run, RunError};
use crate::{App, audit, projects::store::Repository, publishing, wake::Topic};

/// What a new run is about.
#[derive(Debug)]
pub(crate) struct NewRun<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) issue_number: i64,
    pub(crate) stage: &'a str,
    pub(crate) priority: i32,
    pub(crate) decision: DecisionId,
    pub(crate) actor: &'a str,
    pub(crate) retry_of: Option<RunId>,
    pub(crate) issue: Option<IssueSnapshot>,
    pub(crate) trace_id: &'a str,
    pub(crate) received_at: DateTime<Utc>,
    /// The trigger label, to be taken off.
    pub(crate) label: Option<&'a str>,
}

/// Queues a run with everything that belongs to it: its event, and the effects that tell people.
pub(crate) async fn start(tx: &mut PgConnection, app: &App, new: &NewRun<'_>) -> Result<Run, RunError> {
    let id: RunId = app.ids.next();
    let now = app.clock.now();
    let message = "Waiting for a worker.";
    sqlx::query!(
        "insert into runs (run_id, project_id, repository_id, issue_number, stage, decision_id, retry_of, actor, state, message,
                           priority, trace_id, issue, received_at, created_at, available_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, 'queued', $9, $10, $11, $12, $13, $14, $14)",
        id.uuid(),
        new.repository.project.uuid(),
        new.repository.id.uuid(),
        new.issue_number,
        new.stage,
        new.decision.uuid(),
        new.retry_of.map(Id::uuid),
        new.actor,
        message,
        new.priority,
        new.trace_id,
        new.issue.as_ref().map(Json) as _,
        new.received_at,
        now,
    )
    .execute(&mut *tx)
    .await?;
    audit::record_of_run(
        tx,
        &*app.clock,
        &app.ids,
        id,
        &format!("Asked for by {}.", new.actor),
        audit::Entry {
            project: Some(new.repository.project),
            actor: new.actor,
            action: "run.queued",
            subject: format!("run:{id}"),
            detail: json!({
                "repository": new.repository.name.to_string(), "issue": new.issue_number, "stage": new.stage,
                "decision": new.decision, "retry_of": new.retry_of,
            }),
            trace_id: Some(new.trace_id),
        },
    )
    .await?;
    let run = store::get(&mut *tx, id).await?.ok_or_else(|| RunError::Database(sqlx::Error::RowNotFound))?;
    publishing::say_status(tx, app, &run).await?;
    publishing::acknowledge(tx, app, &run, new.label).await?;
    Topic::Queue.notify(tx).await?;
    Topic::Runs.notify(tx).await?;
    tracing::info!(run_id = %id, trace_id = new.trace_id, repository = %new.repository.name, issue = new.issue_number, stage = new.stage, "run queued");
    Ok(run)
}
