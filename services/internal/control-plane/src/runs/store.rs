//! SQL of runs, and the only function that changes their state.

use chrono::{DateTime, Utc};
use domain::{
    decision::RunRef,
    ids::{Id, ProjectId, RepositoryId, RunId},
    names::{CommitSha, RepositoryName},
    run::{IllegalMove, RunKind, RunState},
    stage::{Policy, Reasoning, Stage},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{PgConnection, PgExecutor, types::Json};
use uuid::Uuid;

use super::waiting;
use crate::{App, audit, wake::Topic};

/// Why a change of state did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Illegal(#[from] IllegalMove),
    /// A row says something that cannot be.
    #[error("{table} {id}: {problem}")]
    Damaged { table: &'static str, id: Uuid, problem: String },
}

/// The issue as it was when the run was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IssueSnapshot {
    pub(crate) title: String,
    pub(crate) body: String,
    pub(crate) author: String,
    pub(crate) url: String,
}

impl IssueSnapshot {
    /// As the code host has it, without a secret of ours that somebody pasted there.
    pub(crate) fn of(app: &App, issue: forge::Issue) -> Self {
        Self {
            title: app.censor.without_known(issue.title),
            body: app.censor.without_known(issue.body),
            author: issue.author,
            url: issue.html_url,
        }
    }
}

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) project: ProjectId,
    pub(crate) project_name: String,
    pub(crate) repository_id: RepositoryId,
    pub(crate) repository: RepositoryName,
    pub(crate) issue_number: i64,
    pub(crate) stage: String,
    pub(crate) kind: RunKind,
    /// The pull request it goes on with or reviews.
    pub(crate) pull_request: Option<i64>,
    /// The run whose session it goes on with.
    pub(crate) continues: Option<RunId>,
    /// The run it waits for.
    pub(crate) behind: Option<RunId>,
    /// The stage as the rules had it when the run was asked for.
    pub(crate) definition: Stage,
    /// What labels asked for.
    pub(crate) model: Option<String>,
    pub(crate) reasoning: Option<Reasoning>,
    /// Of prompts: `en` or `ru`.
    pub(crate) language: String,
    /// How many runs led one to the other up to this one.
    pub(crate) chain: i32,
    /// Head of the default branch when the run was pinned.
    pub(crate) steering_sha: Option<CommitSha>,
    /// Where the branch of its pull request left the branch it is to be merged into.
    pub(crate) review_base_sha: Option<CommitSha>,
    pub(crate) state: RunState,
    pub(crate) message: String,
    pub(crate) actor: String,
    pub(crate) trace_id: String,
    pub(crate) retry_of: Option<RunId>,
    pub(crate) base_branch: Option<String>,
    pub(crate) base_sha: Option<CommitSha>,
    pub(crate) issue: Option<IssueSnapshot>,
    pub(crate) prompt_key: Option<String>,
    /// What an earlier attempt changed on another commit; see [`super::head_moved`].
    pub(crate) input_changeset_key: Option<String>,
    /// Why there is no worker for it, while it is queued; see [`super::no_worker`].
    pub(crate) no_worker: Option<String>,
    pub(crate) received_at: DateTime<Utc>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
}

impl Run {
    /// The run, as far as decisions and their sentences care.
    pub(crate) fn reference(&self) -> RunRef {
        RunRef {
            id: self.id.to_string(),
            stage: self.stage.clone(),
            kind: self.kind,
            since: self.created_at,
            actor: self.actor.clone(),
            pull: self.pull_request.and_then(|pull| u64::try_from(pull).ok()),
            is_final: self.state.is_final(),
        }
    }

    /// The issue or pull request its status comment is on: a review's is where it was asked for.
    pub(crate) fn thread(&self) -> i64 {
        match self.kind {
            RunKind::Review => self.pull_request.unwrap_or(self.issue_number),
            RunKind::Work | RunKind::Revise | RunKind::Discussion => self.issue_number,
        }
    }

    /// SHA-256 of the prompt, as the object store's key ends with.
    pub(crate) fn prompt_digest(&self) -> Option<&str> {
        self.prompt_key.as_deref().and_then(|key| key.rsplit('/').next())
    }
}

struct RunRow {
    run_id: Uuid,
    project_id: Uuid,
    project_name: String,
    repository_id: Uuid,
    full_name: String,
    issue_number: i64,
    stage: String,
    state: String,
    state_kind: Option<String>,
    message: String,
    actor: String,
    trace_id: String,
    retry_of: Option<Uuid>,
    base_branch: Option<String>,
    base_sha: Option<String>,
    issue: Option<Json<IssueSnapshot>>,
    prompt_key: Option<String>,
    input_changeset_key: Option<String>,
    received_at: DateTime<Utc>,
    created_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    kind: String,
    pull_request: Option<i64>,
    continues: Option<Uuid>,
    behind: Option<Uuid>,
    definition: Option<Json<Stage>>,
    model: Option<String>,
    reasoning: Option<String>,
    language: String,
    chain: i32,
    steering_sha: Option<String>,
    review_base_sha: Option<String>,
    no_worker: Option<String>,
}

impl TryFrom<RunRow> for Run {
    type Error = RunError;
    fn try_from(row: RunRow) -> Result<Self, RunError> {
        let damaged = |problem: String| RunError::Damaged { table: "runs", id: row.run_id, problem };
        let sha = |text: Option<&str>| -> Result<Option<CommitSha>, RunError> {
            text.map(str::parse).transpose().map_err(|e| damaged(format!("{e}")))
        };
        Ok(Self {
            id: RunId::from_uuid(row.run_id),
            project: ProjectId::from_uuid(row.project_id),
            repository_id: RepositoryId::from_uuid(row.repository_id),
            repository: row.full_name.parse().map_err(|e| damaged(format!("{e}")))?,
            state: RunState::from_columns(&row.state, row.state_kind.as_deref())
                .ok_or_else(|| damaged(format!("state {} {:?} is not one", row.state, row.state_kind)))?,
            base_sha: sha(row.base_sha.as_deref())?,
            steering_sha: sha(row.steering_sha.as_deref())?,
            review_base_sha: sha(row.review_base_sha.as_deref())?,
            kind: RunKind::parse(&row.kind)
                .ok_or_else(|| damaged(format!("kind {} is not one", row.kind)))?,
            pull_request: row.pull_request,
            continues: row.continues.map(RunId::from_uuid),
            behind: row.behind.map(RunId::from_uuid),
            // A run of the release before this one has none.
            definition: row
                .definition
                .map(|Json(stage)| stage)
                .or_else(|| Policy::built_in().stages.remove(&row.stage))
                .ok_or_else(|| damaged(format!("stage {} is not one", row.stage)))?,
            model: row.model,
            reasoning: row.reasoning.as_deref().and_then(Reasoning::parse),
            language: row.language,
            chain: row.chain,
            retry_of: row.retry_of.map(RunId::from_uuid),
            issue: row.issue.map(|Json(issue)| issue),
            project_name: row.project_name,
            issue_number: row.issue_number,
            stage: row.stage,
            message: row.message,
            actor: row.actor,
            trace_id: row.trace_id,
            base_branch: row.base_branch,
            prompt_key: row.prompt_key,
            input_changeset_key: row.input_changeset_key,
            no_worker: row.no_worker,
            received_at: row.received_at,
            created_at: row.created_at,
            finished_at: row.finished_at,
        })
    }
}

/// The run, locked until the transaction ends; rows that refer to it may be written meanwhile.
pub(crate) async fn lock(tx: &mut PgConnection, id: RunId) -> Result<Option<Run>, RunError> {
    sqlx::query_scalar!("select run_id from runs where run_id = $1 for no key update", id.uuid())
        .fetch_optional(&mut *tx)
        .await?;
    get(tx, id).await
}

/// The run as it is.
pub(crate) async fn get(db: impl PgExecutor<'_>, id: RunId) -> Result<Option<Run>, RunError> {
    sqlx::query_as!(
        RunRow,
        r#"select r.run_id, r.project_id, p.name as project_name, r.repository_id, o.full_name, r.issue_number, r.stage, r.state,
                  r.state_kind, r.message, r.actor, r.trace_id, r.retry_of, r.base_branch, r.base_sha,
                  r.issue as "issue: Json<IssueSnapshot>", r.prompt_key, r.input_changeset_key, r.received_at, r.created_at, r.finished_at,
                  r.kind, r.pull_request, r.continues, r.behind, r.definition as "definition: Json<Stage>", r.model, r.reasoning,
                  r.language, r.chain, r.steering_sha, r.review_base_sha, r.no_worker
           from runs r join projects p using (project_id) join repositories o on o.repository_id = r.repository_id
           where r.run_id = $1"#,
        id.uuid()
    )
    .fetch_optional(db)
    .await?
    .map(Run::try_from)
    .transpose()
}

/// The newest runs, of a project and in a state where that is asked.
pub(crate) async fn list(
    db: impl PgExecutor<'_>,
    project: Option<&str>,
    state: Option<&str>,
    limit: i64,
) -> Result<Vec<Run>, RunError> {
    sqlx::query_as!(
        RunRow,
        r#"select r.run_id, r.project_id, p.name as project_name, r.repository_id, o.full_name, r.issue_number, r.stage, r.state,
                  r.state_kind, r.message, r.actor, r.trace_id, r.retry_of, r.base_branch, r.base_sha,
                  r.issue as "issue: Json<IssueSnapshot>", r.prompt_key, r.input_changeset_key, r.received_at, r.created_at, r.finished_at,
                  r.kind, r.pull_request, r.continues, r.behind, r.definition as "definition: Json<Stage>", r.model, r.reasoning,
                  r.language, r.chain, r.steering_sha, r.review_base_sha, r.no_worker
           from runs r join projects p using (project_id) join repositories o on o.repository_id = r.repository_id
           where ($1::text is null or p.name = $1) and ($2::text is null or r.state = $2)
           order by r.created_at desc, r.run_id desc limit $3"#,
        project,
        state,
        limit
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(Run::try_from)
    .collect()
}

/// The newest runs of an issue, newest first.
pub(crate) async fn of_issue(
    tx: &mut PgConnection,
    repository: RepositoryId,
    issue: i64,
) -> Result<Vec<Run>, RunError> {
    let ids = sqlx::query_scalar!(
        "select run_id from runs where repository_id = $1 and issue_number = $2 order by created_at desc, run_id desc limit 20",
        repository.uuid(),
        issue
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut runs = Vec::with_capacity(ids.len());
    for id in ids {
        runs.extend(get(&mut *tx, RunId::from_uuid(id)).await?);
    }
    Ok(runs)
}

/// Moves a locked run, with its event. The only way a run changes state.
pub(crate) async fn move_run(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    next: RunState,
    actor: &str,
    message: &str,
) -> Result<Run, RunError> {
    let state = run.state.to(next)?;
    let (name, kind) = state.columns();
    let (was, was_kind) = run.state.columns();
    let now = app.clock.now();
    let finished_at = state.is_final().then_some(now);
    let moved = sqlx::query!(
        "update runs set state = $2, state_kind = $3, message = $4, finished_at = $5, no_worker = null, no_worker_since = null
         where run_id = $1 and state = $6 and state_kind is not distinct from $7",
        run.id.uuid(),
        name,
        kind,
        message,
        finished_at,
        was,
        was_kind,
    )
    .execute(&mut *tx)
    .await?;
    if moved.rows_affected() != 1 {
        return Err(RunError::Damaged {
            table: "runs",
            id: run.id.uuid(),
            problem: "changed although it was locked".to_owned(),
        });
    }
    audit::record_of_run(
        tx,
        &*app.clock,
        &app.ids,
        run.id,
        message,
        audit::Entry {
            project: Some(run.project),
            actor,
            action: &format!("run.{name}"),
            subject: format!("run:{}", run.id),
            detail: json!({ "from": run.state.to_string(), "to": state.to_string() }),
            trace_id: Some(&run.trace_id),
        },
    )
    .await?;
    Topic::Runs.notify(tx).await?;
    if state.is_final() {
        waiting::let_go(tx, app, run.id).await?;
    }
    tracing::info!(run_id = %run.id, trace_id = %run.trace_id, from = %run.state, to = %state, message, "run moved");
    Ok(Run { state, message: message.to_owned(), finished_at, no_worker: None, ..run.clone() })
}

/// Notes something that happened to a run.
pub(crate) async fn event(
    tx: &mut PgConnection,
    app: &App,
    run: RunId,
    kind: &str,
    text: &str,
) -> sqlx::Result<()> {
    let of = sqlx::query!("select project_id, trace_id from runs where run_id = $1", run.uuid())
        .fetch_one(&mut *tx)
        .await?;
    let entry = audit::Entry {
        project: Some(ProjectId::from_uuid(of.project_id)),
        actor: "platform",
        action: &format!("run.{kind}"),
        subject: format!("run:{run}"),
        detail: json!({}),
        trace_id: Some(&of.trace_id),
    };
    audit::record_of_run(tx, &*app.clock, &app.ids, run, text, entry).await
}
