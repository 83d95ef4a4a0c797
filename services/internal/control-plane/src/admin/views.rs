//! Runs and explanations as the CLI shows them.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    changeset::{Change, FileChange, Mode},
    decision::Looked,
    ids::{Id, RunId},
    neutralise::neutralise_line,
    run::RunState,
};
use proto::admin::{self, Explanation, LogLine, RunDetail, Timings};
use tonic::Status;
use uuid::Uuid;

use crate::{
    App, audit, checkpoints, installations,
    pauses::{self, Pause},
    publishing, retention,
    runs::{self, Run, RunError},
    serving::internal,
    triggers,
};

/// Files of a changeset that are shown.
const LISTED_FILES: usize = 1000;

pub(super) fn text(at: Option<DateTime<Utc>>) -> String {
    at.map(|t| t.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)).unwrap_or_default()
}

fn view(app: &App, run: &Run, pull_request_url: String, waits: &Waits) -> admin::Run {
    let (state, kind) = run.state.columns();
    let issue_url = run.issue.as_ref().map_or_else(
        || {
            format!(
                "{}/{}/issues/{}",
                app.upstream.web_url.as_str().trim_end_matches('/'),
                run.repository,
                run.issue_number
            )
        },
        |i| i.url.clone(),
    );
    admin::Run {
        id: run.id.to_string(),
        project: run.project_name.clone(),
        repository: run.repository.to_string(),
        issue: u64::try_from(run.issue_number).unwrap_or_default(),
        stage: run.stage.clone(),
        state: state.to_owned(),
        class: kind.unwrap_or_default().to_owned(),
        message: waits_for(run, waits).unwrap_or_else(|| run.message.clone()),
        actor: run.actor.clone(),
        created_at: text(Some(run.created_at)),
        finished_at: text(run.finished_at),
        pull_request_url,
        issue_url,
    }
}

/// What runs may wait for.
struct Waits {
    pauses: Vec<Pause>,
    closed: installations::Closed,
    /// Runs whose attempt does not run yet, with why.
    attempts: HashMap<RunId, String>,
}

impl Waits {
    async fn now(app: &App) -> sqlx::Result<Self> {
        let (pauses, closed) = (pauses::standing(&app.db).await?, installations::closed(&app.db).await?);
        Ok(Self { pauses, closed, attempts: runs::waits(&app.db).await? })
    }
}

/// Why a run does not start, or does not go on.
fn waits_for(run: &Run, waits: &Waits) -> Option<String> {
    if run.state.is_final() {
        return None;
    }
    if let Some(why) = waits.closed.why(run.repository_id) {
        return Some(why.to_owned());
    }
    if let Some(pause) = waits.pauses.iter().find(|p| run.state == RunState::Queued && p.covers(run)) {
        return Some(pause.sentence());
    }
    // How the last attempt went stands among the events.
    run.no_worker.as_ref().or_else(|| waits.attempts.get(&run.id)).cloned()
}

/// Runs for a list.
pub(super) async fn runs(app: &App, runs: &[Run]) -> Result<Vec<admin::Run>, RunError> {
    let ids: Vec<Uuid> = runs.iter().map(|r| r.id.uuid()).collect();
    let urls: HashMap<Uuid, String> = sqlx::query!(
        r#"select run_id, pull_request_url as "url!" from publications where run_id = any($1) and pull_request_url is not null"#,
        &ids
    )
    .fetch_all(&app.db)
    .await?
    .into_iter()
    .map(|r| (r.run_id, r.url))
    .collect();
    let waits = Waits::now(app).await?;
    let url = |run: &Run| urls.get(&run.id.uuid()).cloned().unwrap_or_default();
    Ok(runs.iter().map(|run| view(app, run, url(run), &waits)).collect())
}

fn since(start: DateTime<Utc>, at: Option<DateTime<Utc>>) -> Option<f64> {
    at.map(|at| (at - start).max(TimeDelta::zero()).as_seconds_f64() * 1000.0)
}

/// What is kept of an attempt's work, for a look at it. Paths are an agent's: made readable.
async fn changeset(app: &App, run: &Run, key: &str) -> Option<admin::Changeset> {
    let changeset = match publishing::stored_changeset(app, key).await {
        Ok(changeset) => changeset,
        // The rest of the run can still be shown.
        Err(error) => {
            tracing::warn!(run_id = %run.id, error = %telemetry::logging::chain(&error), "a kept changeset cannot be read");
            return None;
        }
    };
    let file = |file: &FileChange| {
        let (change, mode, bytes) = match &file.change {
            Change::Delete => ("deleted", "", 0),
            Change::Submodule => ("submodule", "160000", 0),
            Change::Put { mode, content } => {
                let mode = match mode {
                    Mode::Regular => "100644",
                    Mode::Executable => "100755",
                    Mode::Symlink => "120000",
                };
                ("written", mode, content.len())
            }
        };
        let path = String::from_utf8_lossy(&file.path);
        admin::ChangedFile {
            path: app.censor.censor(&neutralise_line(&path, 300)).into_owned(),
            change: change.to_owned(),
            mode: mode.to_owned(),
            bytes: bytes as u64,
        }
    };
    Some(admin::Changeset {
        base_sha: changeset.base.to_string(),
        digest: publishing::digest(key).to_owned(),
        files: changeset.files.iter().take(LISTED_FILES).map(file).collect(),
        files_total: u32::try_from(changeset.files.len()).unwrap_or(u32::MAX),
    })
}

/// Everything about one run.
pub(super) async fn detail(app: &App, run: &Run) -> Result<RunDetail, RunError> {
    let attempts = runs::attempts::of_run(&app.db, run.id).await?;
    let mut checkpoints = checkpoints::of_run(&app.db, run.id).await?;
    let publication = publishing::publication(&app.db, run.id).await?;
    let effects = publishing::of_run(&app.db, run.id).await?;
    let comment =
        sqlx::query!("select url, created_at from status_comments where run_id = $1", run.id.uuid())
            .fetch_optional(&app.db)
            .await?;
    let decided_at = sqlx::query_scalar!(
        "select d.decided_at from decisions d join runs r using (decision_id) where r.run_id = $1",
        run.id.uuid()
    )
    .fetch_one(&app.db)
    .await?;
    let events = audit::of_run(&app.db, run.id).await?;
    let timings = Timings {
        received_to_decided: since(run.received_at, Some(decided_at)),
        received_to_leased: since(run.received_at, attempts.first().map(|a| a.leased_at)),
        received_to_comment: since(run.received_at, comment.as_ref().map(|c| c.created_at)),
        received_to_running: since(run.received_at, attempts.last().and_then(|a| a.running_at)),
        received_to_returned: since(run.received_at, attempts.last().and_then(|a| a.returned_at)),
        received_to_pull_request: since(run.received_at, publication.as_ref().and_then(|p| p.published_at)),
        received_to_finished: since(run.received_at, run.finished_at),
    };
    let waits = Waits::now(app).await?;
    let changeset = match publication.as_ref().and_then(|p| p.changeset_key.as_deref()) {
        Some(key) => changeset(app, run, key).await,
        None => None,
    };
    Ok(RunDetail {
        run: Some(view(
            app,
            run,
            publication.as_ref().and_then(|p| p.pull_request_url.clone()).unwrap_or_default(),
            &waits,
        )),
        changeset,
        summary: attempts.last().and_then(|a| a.summary.clone()).unwrap_or_default(),
        attempts: attempts
            .into_iter()
            .map(|a| admin::Attempt {
                id: a.id.to_string(),
                number: u32::try_from(a.number).unwrap_or_default(),
                state: a.state.to_string(),
                worker: a.worker_name,
                isolation: a.isolation.unwrap_or_default(),
                message: a.message,
                waits_for: a.waits_for.unwrap_or_default(),
                leased_at: text(Some(a.leased_at)),
                ended_at: text(a.ended_at),
                start_note: a.start_note,
                restored_from: a.restored_from.map(|id| id.to_string()).unwrap_or_default(),
                checkpoint: checkpoints.iter().position(|c| c.attempt == a.id).map(|at| {
                    let checkpoint = checkpoints.swap_remove(at);
                    admin::Checkpoint {
                        number: u32::try_from(checkpoint.number).unwrap_or_default(),
                        files: u32::try_from(checkpoint.files).unwrap_or_default(),
                        bytes: u64::try_from(checkpoint.bytes).unwrap_or_default(),
                        taken_at: text(Some(checkpoint.taken_at)),
                    }
                }),
            })
            .collect(),
        events: events
            .into_iter()
            .map(|e| admin::Event { at: text(Some(e.happened_at)), kind: e.kind, text: e.text })
            .collect(),
        comment_url: comment.map(|c| c.url).unwrap_or_default(),
        publication_state: publication.as_ref().map(|p| p.state.to_string()).unwrap_or_default(),
        findings: publication
            .map(|p| p.findings.into_iter().map(|f| f.sentence).collect())
            .unwrap_or_default(),
        prompt_digest: run.prompt_digest().unwrap_or_default().to_owned(),
        base_sha: run.base_sha.as_ref().map(ToString::to_string).unwrap_or_default(),
        trace_id: run.trace_id.clone(),
        retry_of: run.retry_of.map(|r| r.to_string()).unwrap_or_default(),
        notes: retention::notes::of_run(&app.db, run.id).await?,
        timings_ms: Some(timings),
        effects: effects
            .into_iter()
            .map(|e| admin::Effect {
                kind: e.kind,
                state: e.state,
                attempts: u32::try_from(e.tries).unwrap_or_default(),
                last_error: e.last_error.unwrap_or_default(),
                result_url: e.result_url.unwrap_or_default(),
            })
            .collect(),
    })
}

/// A line in place of each transcript that was deleted.
pub(super) async fn deleted_transcripts(app: &App, run: RunId) -> sqlx::Result<VecDeque<LogLine>> {
    let line = |(number, text)| LogLine {
        attempt: u32::try_from(number).unwrap_or_default(),
        stream: "platform".to_owned(),
        text,
        at: String::new(),
    };
    Ok(retention::notes::transcripts(&app.db, run).await?.into_iter().map(line).collect())
}

/// A rule that was looked at.
pub(super) fn looked(looked: Looked) -> admin::Looked {
    admin::Looked { rule: looked.rule, passed: looked.passed, found: looked.found }
}

/// What a delivery, an issue or a run led to, newest first.
pub(super) async fn explain(app: &App, subject: &str) -> Result<Vec<Explanation>, Status> {
    let id = Uuid::parse_str(subject).ok();
    let (repository, issue) = match subject.split_once('#') {
        Some((repository, number)) => {
            let number: i64 = number.parse().map_err(|_| {
                Status::invalid_argument(format!("`{subject}` is not an issue: write owner/name#7 or #7"))
            })?;
            ((!repository.is_empty()).then(|| repository.to_lowercase()), Some(number))
        }
        None => (None, None),
    };
    let guid = issue.is_none().then_some(subject);
    let error = |e: sqlx::Error| internal("admin.explain", &e);
    let mut found: Vec<Explanation> =
        triggers::store::explain(&app.db, id, guid, repository.as_deref(), issue)
            .await
            .map_err(error)?
            .into_iter()
            .map(|d| Explanation {
                at: text(Some(d.decided_at)),
                kind: "decision".to_owned(),
                subject: match (d.repository, d.issue_number) {
                    (Some(repository), Some(number)) => {
                        format!("{} on {repository}#{number} by {}", d.subject, d.actor.unwrap_or_default())
                    }
                    (_, _) => d.subject,
                },
                outcome: d.decision,
                reason: d.reason,
                rule: d.rule,
                remedy: d.remedy,
                run_id: d.run_id.map(|r| r.to_string()).unwrap_or_default(),
                delivery_id: d.delivery_id.map(|r| r.to_string()).unwrap_or_default(),
                trace: d.trace.0.into_iter().map(looked).collect(),
            })
            .collect();
    for pending in triggers::store::pending(&app.db, id, guid).await.map_err(error)? {
        found.push(Explanation {
            at: text(Some(pending.stored_at)),
            kind: "delivery".to_owned(),
            subject: pending.event,
            outcome: "undecided".to_owned(),
            reason: "waiting".to_owned(),
            rule: pending.retry_at.map_or_else(
                || "It is being looked at.".to_owned(),
                |t| {
                    let why = pending.because.map(|why| format!(": {why}")).unwrap_or_default();
                    format!("It could not be decided yet{why}. Tried again at {}.", text(Some(t)))
                },
            ),
            delivery_id: pending.delivery_id.to_string(),
            ..Explanation::default()
        });
    }
    for run in runs::that_wait(&app.db, id, repository.as_deref(), issue).await.map_err(error)? {
        found.push(Explanation {
            at: text(run.since),
            kind: "run".to_owned(),
            subject: format!("{} on {}#{}", run.stage, run.repository, run.issue),
            outcome: "waiting".to_owned(),
            reason: run.reason.to_owned(),
            rule: run.why,
            run_id: run.id.to_string(),
            ..Explanation::default()
        });
    }
    if found.is_empty() {
        return Err(Status::not_found(format!(
            "nothing is known about `{subject}`; write a delivery's id or GUID, owner/name#7, #7, or a run's id"
        )));
    }
    Ok(found)
}
