//! What the agent gateway asks and passes on for one attempt. What it carries is a claim.

use std::{pin::Pin, sync::Arc};

use domain::{
    censor::Censor,
    changeset::{Change, Changeset, Searched},
    ids::{AttemptId, Id, RunId},
    names::CommitSha,
    neutralise::visible,
    run::{AttemptState, FailureClass, RunKind, RunState},
};
use futures::{Stream, StreamExt, TryStreamExt};
use proto::v1::{
    AfreshResponse, Assignment, AttemptAfresh, AttemptCheckpointPart, AttemptRef, AttemptReturnPart,
    AttemptTranscript, AttemptTranscriptResponse, AuthorizeRequest, AuthorizeResponse, CheckpointPart,
    CheckpointResponse, GitFetchPart, GitFetchRequest, KeysRequest, KeysResponse, ReturnOutcome,
    ReturnResponse, attempt_service_server::AttemptService, return_outcome, return_part,
};
use sqlx::{PgConnection, types::Json};
use tonic::{Request, Response, Status, Streaming};

use super::{
    agent,
    attempts::{self, Attempt, move_attempt},
    ending::{Setback, again, end},
    head_moved::input_changeset,
    incoming::Incoming,
    placement,
    prepare::prepare,
    reports::{hello, late_word},
    store::{self, Run, RunError},
};
use crate::{
    App, checkpoints,
    git_upstream::FetchStep,
    installations::learn,
    objects::Kind,
    publishing::{self, Reviewed},
    serving::internal,
    steps::{self, Step},
    transcripts,
};

/// Bytes of a summary that are kept.
const MAX_SUMMARY_BYTES: usize = 64 * 1024;
/// Lines of one chunk; the runner sends far fewer.
const MAX_CHUNK_LINES: usize = 1024;
/// Bytes of why a checkpoint could not be restored that are kept.
const MAX_REASON_BYTES: usize = 300;
/// Bytes of a one-sentence message that are kept.
pub(super) const MAX_MESSAGE_BYTES: usize = 2000;

/// The attempt service.
#[derive(Debug)]
pub(crate) struct AttemptCalls(pub(crate) Arc<App>);

fn over() -> Status {
    Status::permission_denied("the attempt is over")
}

fn ids(reference: Option<&AttemptRef>) -> Result<(AttemptId, RunId), Status> {
    let reference = reference.ok_or_else(|| Status::invalid_argument("an attempt is required"))?;
    let bad = |e: domain::ids::InvalidId| Status::invalid_argument(e.to_string());
    Ok((reference.attempt_id.parse().map_err(bad)?, reference.run_id.parse().map_err(bad)?))
}

impl AttemptCalls {
    /// The attempt, while it lives and belongs to that run.
    async fn live(&self, reference: Option<&AttemptRef>) -> Result<Attempt, Status> {
        let (attempt, run) = ids(reference)?;
        let attempt = attempts::get(&self.0.db, attempt).await.map_err(|e| internal("attempts.live", &e))?;
        attempt
            .filter(|a| a.run == run && a.state.is_live() && a.deadline_at > self.0.clock.now())
            .ok_or_else(over)
    }

    /// A result of an attempt that is over is noted and changes nothing.
    async fn too_late(&self, reference: Option<&AttemptRef>, status: Status) -> Result<Status, Status> {
        let (id, run) = ids(reference)?;
        let noted = async {
            let mut tx = self.0.db.begin().await?;
            if let Some(attempt) =
                attempts::get(&mut *tx, id).await?.filter(|a| a.run == run && !a.state.is_live())
            {
                late_word(&mut tx, &self.0, &attempt, "it returned a result").await?;
                steps::commit(tx, Step::LateWordNoted).await?;
            }
            Ok::<_, RunError>(status)
        };
        noted.await.map_err(|e| internal("attempts.too_late", &e))
    }

    async fn run(&self, id: RunId) -> Result<Run, Status> {
        store::get(&self.0.db, id).await.map_err(|e| internal("attempts.run", &e))?.ok_or_else(over)
    }

    /// Everything that must not be stored or posted, this attempt's token included.
    fn censor(&self, attempt: &Attempt) -> Censor {
        let token = self.0.run_tokens.mint(attempt.run, attempt.id, attempt.leased_at, attempt.deadline_at);
        self.0.censor.with(token)
    }
}

type RestoreStream = Pin<Box<dyn Stream<Item = Result<CheckpointPart, Status>> + Send>>;
type GitStream = Pin<Box<dyn Stream<Item = Result<GitFetchPart, Status>> + Send>>;

#[tonic::async_trait]
impl AttemptService for AttemptCalls {
    type GitFetchStream = GitStream;
    type RestoreStream = RestoreStream;

    async fn keys(&self, _: Request<KeysRequest>) -> Result<Response<KeysResponse>, Status> {
        Ok(Response::new(KeysResponse { ed25519: vec![self.0.run_tokens.public()] }))
    }

    async fn authorize(
        &self,
        request: Request<AuthorizeRequest>,
    ) -> Result<Response<AuthorizeResponse>, Status> {
        match self.live(request.get_ref().attempt.as_ref()).await {
            Ok(attempt) => {
                let run = self.run(attempt.run).await?;
                Ok(Response::new(AuthorizeResponse {
                    live: true,
                    repository: run.repository.to_string(),
                    model: agent::model(&self.0, &run).to_owned(),
                    trace_id: run.trace_id,
                }))
            }
            Err(status) if status.code() == tonic::Code::PermissionDenied => {
                Ok(Response::new(AuthorizeResponse::default()))
            }
            Err(status) => Err(status),
        }
    }

    async fn assignment(&self, request: Request<AttemptRef>) -> Result<Response<Assignment>, Status> {
        let app = &self.0;
        self.live(Some(request.get_ref())).await?;
        let (id, _) = ids(Some(request.get_ref()))?;
        let (run, attempt) =
            hello(app, id).await.map_err(|e| internal("attempts.hello", &e))?.ok_or_else(over)?;
        let sha = |sha: Option<CommitSha>| sha.map(|sha| sha.to_string()).unwrap_or_default();
        let prepared = prepare(app, &run).await.map_err(|e| internal("attempts.prepare", &e))?;
        Ok(Response::new(Assignment {
            run_id: run.id.to_string(),
            attempt_id: attempt.id.to_string(),
            repository: run.repository.to_string(),
            base_sha: prepared.base_sha.to_string(),
            base_branch: prepared.base_branch,
            prompt: prepared.prompt,
            agent: Some(agent::spec(app, &run)),
            steering_sha: sha(prepared.steering_sha),
            review_base_sha: sha(prepared.review_base_sha),
            deadline_seconds: u32::try_from((attempt.deadline_at - app.clock.now()).num_seconds().max(1))
                .unwrap_or(u32::MAX),
            max_processes: app.agents.processes,
            max_file_bytes: app.agents.file_bytes,
            max_memory_bytes: placement::memory_bytes(app, &run),
            max_changeset_bytes: run.definition.max_changeset_bytes,
            max_output_bytes: app.agents.output_bytes,
            checkpoint_seconds: app.agents.checkpoint_seconds,
            earlier_base_sha: match attempt.restored_from {
                // Its files have what the earlier attempt did in them.
                Some(_) => String::new(),
                None => input_changeset(app, &run)
                    .await
                    .map_err(|e| internal("attempts.hello", &e))?
                    .map(|earlier| earlier.base.to_string())
                    .unwrap_or_default(),
            },
            restore: checkpoints::point(app, &attempt).await.map_err(|e| internal("attempts.hello", &e))?,
        }))
    }

    async fn transcript(
        &self,
        request: Request<AttemptTranscript>,
    ) -> Result<Response<AttemptTranscriptResponse>, Status> {
        let request = request.into_inner();
        let attempt = self.live(request.attempt.as_ref()).await?;
        let chunk = request.chunk.unwrap_or_default();
        if chunk.lines.is_empty() || chunk.lines.len() > MAX_CHUNK_LINES {
            return Err(Status::invalid_argument(format!("a chunk has 1 to {MAX_CHUNK_LINES} lines")));
        }
        let stored = transcripts::store(&self.0, &attempt, &self.censor(&attempt), &chunk)
            .await
            .map_err(|e| internal("attempts.transcript", &e))?;
        let over_limit = stored == transcripts::Stored::OverLimit;
        if over_limit {
            let limit = self.0.agents.output_bytes;
            let message =
                format!("The agent wrote more than the {limit} bytes of output it may, and was ended.");
            failed(&self.0, &attempt, &message).await.map_err(|e| internal("attempts.transcript", &e))?;
        }
        Ok(Response::new(AttemptTranscriptResponse { over_limit }))
    }

    async fn checkpoint(
        &self,
        request: Request<Streaming<AttemptCheckpointPart>>,
    ) -> Result<Response<CheckpointResponse>, Status> {
        let mut parts = request.into_inner();
        let first = parts.message().await?.ok_or_else(|| Status::invalid_argument("an empty checkpoint"))?;
        let attempt = self.live(first.attempt.as_ref()).await?;
        let run = self.run(attempt.run).await?;
        let parts = futures::stream::once(async { Ok(first) })
            .chain(parts)
            .map_ok(|part| part.part.unwrap_or_default());
        let censor = self.censor(&attempt);
        Ok(Response::new(checkpoints::receive(&self.0, &run, &attempt, &censor, parts).await?))
    }

    async fn restore(&self, request: Request<AttemptRef>) -> Result<Response<RestoreStream>, Status> {
        let attempt = self.live(Some(request.get_ref())).await?;
        let run = self.run(attempt.run).await?;
        Ok(Response::new(checkpoints::stream(&self.0, &run, &attempt).await?.boxed()))
    }

    async fn afresh(&self, request: Request<AttemptAfresh>) -> Result<Response<AfreshResponse>, Status> {
        let request = request.into_inner();
        let attempt = self.live(request.attempt.as_ref()).await?;
        let reason = request.request.unwrap_or_default().reason;
        let reason = self.censor(&attempt).censor(&visible(cut(&reason, MAX_REASON_BYTES))).replace('\0', "");
        checkpoints::afresh(&self.0, &attempt, &reason).await.map_err(|e| internal("attempts.afresh", &e))?;
        Ok(Response::new(AfreshResponse {}))
    }

    async fn r#return(
        &self,
        request: Request<Streaming<AttemptReturnPart>>,
    ) -> Result<Response<ReturnResponse>, Status> {
        let app = &self.0;
        let mut parts = request.into_inner();
        let mut first =
            parts.message().await?.ok_or_else(|| Status::invalid_argument("nothing was returned"))?;
        let attempt = match self.live(first.attempt.as_ref()).await {
            Ok(attempt) => attempt,
            Err(status) => return Err(self.too_late(first.attempt.as_ref(), status).await?),
        };
        let run = self.run(attempt.run).await?;
        let limit = run.definition.max_changeset_bytes;
        let mut returned = Returned { outcome: None, incoming: Incoming::new(limit) };
        if let Some(part) = first.part.take().and_then(|p| p.part) {
            returned.take(part)?;
        }
        while let Some(next) = parts.message().await? {
            if let Some(part) = next.part.and_then(|p| p.part) {
                returned.take(part)?;
            }
        }
        let message = settle(app, &run, &attempt, &self.censor(&attempt), returned)
            .await
            .map_err(|e| internal("attempts.return", &e))?;
        Ok(Response::new(ReturnResponse { message: message.ok_or_else(over)? }))
    }

    async fn git_fetch(&self, request: Request<GitFetchRequest>) -> Result<Response<GitStream>, Status> {
        let request = request.into_inner();
        let attempt = self.live(request.attempt.as_ref()).await?;
        let run = self.run(attempt.run).await?;
        let step = match request.path.as_str() {
            "info/refs" => FetchStep::Refs,
            "git-upload-pack" => FetchStep::UploadPack(request.body),
            _ => return Err(Status::permission_denied("only fetching is allowed")),
        };
        let fetched = self.0.git.fetch(&*self.0.forge, &run.repository, step, &request.headers).await;
        let refused = match &fetched {
            Ok((status, _)) => matches!(status.as_u16(), 301 | 302 | 307 | 308 | 401 | 403 | 404),
            Err(status) => status.code() == tonic::Code::PermissionDenied,
        };
        // Nobody but a change of our access, or of its name, makes a repository unreadable that was
        // just read. The next attempt asks by the name that is learnt here.
        if refused {
            learn(&self.0, run.repository_id).await.map_err(|e| internal("attempts.git", &e))?;
        }
        let (_, stream) = fetched?;
        Ok(Response::new(stream.boxed()))
    }
}

pub(super) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// What came back.
#[derive(Debug)]
struct Returned {
    outcome: Option<ReturnOutcome>,
    incoming: Incoming,
}

impl Returned {
    /// Adds a part.
    fn take(&mut self, part: return_part::Part) -> Result<(), Status> {
        match part {
            return_part::Part::Outcome(outcome) => self.outcome = Some(outcome),
            return_part::Part::File(file) => self.incoming.file(file)?,
            return_part::Part::MoreContent(more) => self.incoming.more(more)?,
            return_part::Part::Session(session) => self.incoming.session(session)?,
        }
        Ok(())
    }
}

/// Records what an attempt returned, and what follows. `None` when the attempt is over.
async fn settle(
    app: &App,
    run: &Run,
    attempt: &Attempt,
    censor: &Censor,
    returned: Returned,
) -> Result<Option<String>, RunError> {
    let store_error = |e: object_store::Error| RunError::Damaged {
        table: "objects",
        id: run.id.uuid(),
        problem: e.to_string(),
    };
    let outcome = returned.outcome.unwrap_or_default();
    let (files, session) = returned.incoming.complete();
    let base = match outcome.base_sha.parse() {
        Ok(sha) => sha,
        // A claim we cannot read is a failed attempt, not a broken platform.
        Err(_) => match &run.base_sha {
            Some(pin) if files.is_empty() => pin.clone(),
            Some(_) | None => return failed(app, attempt, "The runner returned no base commit.").await,
        },
    };
    let changeset = Changeset { base, files };
    let done = outcome.status() == return_outcome::Status::Done;
    // A changeset with a secret in it is refused below; nothing of it is kept.
    let leaks = changeset.files.iter().any(|f| {
        censor.found_in(&f.path)
            || matches!(&f.change, Change::Put { content, .. } if censor.found_in(content))
    });
    // Objects first: what the rows point at exists before they do.
    let kept = done && run.kind.publishes_changes();
    let changeset_key = if kept && !changeset.files.is_empty() && !leaks {
        Some(app.objects.put(run.project, Kind::Changeset, changeset.to_bytes()).await.map_err(store_error)?)
    } else {
        None
    };
    let session_key = if session.is_empty() || censor.found_in(&session) {
        None
    } else {
        Some(app.objects.put(run.project, Kind::Session, session).await.map_err(store_error)?)
    };
    let posted = |text: &str, bytes| censor.censor_for_posting(&visible(cut(text, bytes))).replace('\0', "");
    let summary = posted(&outcome.summary, MAX_SUMMARY_BYTES);
    let message = posted(&outcome.message, MAX_MESSAGE_BYTES);
    let reviewed = (done && run.kind == RunKind::Review)
        .then(|| Reviewed::read(&outcome.findings_json, &summary, censor));
    let changed = changeset.files.len();
    // Before the run is locked: the largest take seconds.
    let searched = tokio::task::spawn_blocking(move || changeset.searched());
    let changeset = searched.await.map_err(|e| RunError::Damaged {
        table: "attempts",
        id: attempt.id.uuid(),
        problem: format!("its changeset could not be searched for secrets: {e}"),
    })?;

    let mut tx = app.db.begin().await?;
    let Some(run) = store::lock(&mut tx, run.id).await?.filter(|r| r.state == RunState::Active) else {
        return Ok(None);
    };
    let Some(live) = attempts::get(&mut *tx, attempt.id).await?.filter(|a| a.state == AttemptState::Running)
    else {
        return Ok(None);
    };
    let updated = sqlx::query!(
        "update attempts set summary = $2, changeset_key = $3, session_key = $4, findings = $5 where attempt_id = $1",
        live.id.uuid(),
        summary,
        changeset_key,
        session_key,
        reviewed.as_ref().map(|reviewed| Json(&reviewed.findings)) as _,
    )
    .execute(&mut *tx)
    .await?;
    if updated.rows_affected() != 1 {
        return Err(RunError::Database(sqlx::Error::RowNotFound));
    }
    let attempt = move_attempt(&mut tx, app, &run, &live, AttemptState::Returned, &message).await?;
    let attempt = Attempt { summary: Some(summary), ..attempt };
    let output = match &reviewed {
        Some(reviewed) => Output::Review(reviewed, changed),
        None if run.kind.publishes_changes() => Output::Changes(&changeset, censor),
        None => Output::Answer(changed),
    };
    follow(&mut tx, app, &run, &attempt, &output, outcome.status(), &message).await?;
    steps::commit(tx, Step::ResultReturned).await?;
    let said = store::get(&app.db, run.id).await?.map(|r| r.message).unwrap_or_default();
    Ok(Some(said))
}

/// What an attempt came to, by what its run is for.
enum Output<'a> {
    /// Files to be published, and what must not be in them.
    Changes(&'a Searched, &'a Censor),
    /// Findings, and how many files were changed for nothing.
    Review(&'a Reviewed, usize),
    /// Its summary is the answer; and how many files were changed for nothing.
    Answer(usize),
}

async fn follow(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    attempt: &Attempt,
    output: &Output<'_>,
    status: return_outcome::Status,
    message: &str,
) -> Result<(), RunError> {
    match status {
        return_outcome::Status::Done => match output {
            Output::Changes(changeset, secrets) => {
                publishing::publish(tx, app, run, attempt, changeset, secrets).await
            }
            Output::Review(reviewed, ignored) => {
                publishing::post_review(tx, app, run, reviewed, *ignored).await
            }
            Output::Answer(ignored) => publishing::post_answer(tx, app, run, attempt, *ignored).await,
        },
        return_outcome::Status::AgentFailed | return_outcome::Status::Unspecified => {
            let message = if message.is_empty() { "The agent failed without a word." } else { message };
            end(tx, app, run, RunState::Failed(FailureClass::Agent), "platform", message).await?;
            Ok(())
        }
        return_outcome::Status::RunnerFailed => {
            again(tx, app, run, attempt, Setback::Infrastructure, None, message).await
        }
        // As when its whole pod ran out of it.
        return_outcome::Status::OutOfMemory => {
            end(tx, app, run, RunState::Failed(FailureClass::User), "platform", message).await?;
            Ok(())
        }
        return_outcome::Status::ProviderFailed => {
            again(tx, app, run, attempt, Setback::Provider, None, message).await
        }
    }
}

/// Ends the run because of its attempt, unless that is over already.
async fn failed(app: &App, attempt: &Attempt, message: &str) -> Result<Option<String>, RunError> {
    let mut tx = app.db.begin().await?;
    let Some(run) = store::lock(&mut tx, attempt.run).await?.filter(|r| r.state == RunState::Active) else {
        return Ok(None);
    };
    // Under the lock: another attempt may be at work by now, and this one has no say in it.
    if attempts::get(&mut *tx, attempt.id).await?.is_none_or(|a| !a.state.is_live()) {
        return Ok(None);
    }
    end(&mut tx, app, &run, RunState::Failed(FailureClass::Agent), "platform", message).await?;
    steps::commit(tx, Step::AttemptFailed).await?;
    Ok(Some(message.to_owned()))
}
