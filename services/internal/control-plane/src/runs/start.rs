//! A run comes into being: decided, queued, and said, in the caller's transaction.

use chrono::{DateTime, Utc};
use domain::{
    decision::Start,
    ids::{DecisionId, Id, RunId},
    stage::{Reasoning, Stage},
};
use serde_json::json;
use sqlx::{PgConnection, types::Json};

use super::store::{self, IssueSnapshot, Run, RunError};
use crate::{App, audit, projects::store::Repository, publishing, wake::Topic};

/// What a new run is about.
#[derive(Debug)]
pub(crate) struct NewRun<'a> {
    pub(crate) repository: &'a Repository,
    /// What was decided.
    pub(crate) start: &'a Start,
    /// The stage as the rules have it now.
    pub(crate) definition: &'a Stage,
    /// Of its prompt.
    pub(crate) language: &'a str,
    pub(crate) decision: DecisionId,
    pub(crate) actor: &'a str,
    pub(crate) issue: Option<IssueSnapshot>,
    pub(crate) trace_id: &'a str,
    pub(crate) received_at: DateTime<Utc>,
    /// The run whose session it goes on with.
    pub(crate) continues: Option<RunId>,
    /// How many runs led one to the other up to this one.
    pub(crate) chain: i32,
}

/// Where people see what a decision was about, when it was an event.
async fn asked_at(tx: &mut PgConnection, decision: DecisionId) -> sqlx::Result<Option<String>> {
    let body = sqlx::query_scalar!(
        "select l.body from decisions d join deliveries l using (delivery_id) where d.decision_id = $1",
        decision.uuid()
    )
    .fetch_optional(tx)
    .await?;
    Ok(body.and_then(|body| github::link::link(&body)))
}

/// Queues a run with everything that belongs to it: its event, and the effects that tell people.
pub(crate) async fn start(tx: &mut PgConnection, app: &App, new: &NewRun<'_>) -> Result<Run, RunError> {
    let id: RunId = app.ids.next();
    let now = app.clock.now();
    let Start { kind, stage, issue, pull, label, behind, supersedes: _, retry_of, model, reasoning } =
        new.start;
    let message = match behind {
        Some(run) => format!("Waiting for the end of run {run}."),
        None => "Waiting for a worker.".to_owned(),
    };
    let referred =
        |id: &Option<String>| -> Result<Option<RunId>, RunError> {
            id.as_deref().map(str::parse).transpose().map_err(|error: domain::ids::InvalidId| {
                RunError::Damaged { table: "decisions", id: new.decision.uuid(), problem: error.to_string() }
            })
        };
    let (behind, retry_of) = (referred(behind)?, referred(retry_of)?);
    let asked_url = asked_at(&mut *tx, new.decision).await?;
    sqlx::query!(
        "insert into runs (run_id, project_id, repository_id, issue_number, stage, decision_id, retry_of, actor, state, message,
                           priority, trace_id, issue, received_at, created_at, available_at, kind, pull_request, continues,
                           behind, definition, model, reasoning, language, chain, asked_url)
         values ($1, $2, $3, $4, $5, $6, $7, $8, 'queued', $9, $10, $11, $12, $13, $14, $14, $15, $16, $17, $18, $19, $20,
                 $21, $22, $23, $24)",
        id.uuid(),
        new.repository.project.uuid(),
        new.repository.id.uuid(),
        i64::try_from(*issue).unwrap_or(i64::MAX),
        stage,
        new.decision.uuid(),
        retry_of.map(Id::uuid),
        new.actor,
        message,
        new.definition.priority,
        new.trace_id,
        new.issue.as_ref().map(Json) as _,
        new.received_at,
        now,
        kind.as_str(),
        pull.map(|pull| i64::try_from(pull).unwrap_or(i64::MAX)),
        new.continues.map(Id::uuid),
        behind.map(Id::uuid),
        Json(new.definition) as _,
        model.as_deref(),
        reasoning.map(Reasoning::as_str),
        new.language,
        new.chain,
        asked_url,
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
                "repository": new.repository.name.to_string(), "issue": issue, "stage": stage, "kind": kind,
                "decision": new.decision, "retry_of": retry_of, "behind": behind, "pull_request": pull,
            }),
            trace_id: Some(new.trace_id),
        },
    )
    .await?;
    let run = store::get(&mut *tx, id).await?.ok_or_else(|| RunError::Database(sqlx::Error::RowNotFound))?;
    publishing::say_status(tx, app, &run).await?;
    publishing::acknowledge(tx, app, &run, label.as_ref()).await?;
    Topic::Queue.notify(tx).await?;
    Topic::Runs.notify(tx).await?;
    tracing::info!(run_id = %id, trace_id = new.trace_id, repository = %new.repository.name, issue, stage, "run queued");
    Ok(run)
}
