//! What a worker may say and ask.

use std::{pin::Pin, sync::Arc, time::Duration};

use domain::{
    ids::{AttemptId, Id, WorkerId, WorkerProcessId},
    neutralise::visible,
    run::{AttemptState, FailureClass, RunState},
};
use futures::Stream;
use proto::v1::{
    AdoptRequest, AdoptResponse, AttemptEnded, AttemptLease, AttemptStarted, Directive, DirectivesRequest,
    HeartbeatRequest, HeartbeatResponse, JudgeRequest, JudgeResponse, LeaseRequest, LeaseResponse, Limits,
    ReportRequest, ReportResponse, attempt_ended::Outcome, report_request::What,
    worker_service_server::WorkerService,
};
use secrecy::ExposeSecret;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    attempt_calls::{MAX_MESSAGE_BYTES, cut},
    ending::{Setback, again, end, lose, out_of_time},
    lease::{self, LEASE_SECONDS},
    placement,
    prepare::{NotPrepared, of_forge, prepare},
    store::{self, Attempt, Run, RunError, move_attempt},
};
use crate::{
    App,
    access::Caller,
    checkpoints,
    installations::{Learnt, learn},
    publishing,
    serving::internal,
    steps::{self, Step},
    wake::{Topic, news},
};

/// How much later than the deadline the worker's own timer goes off.
const BACKSTOP_SECONDS: i64 = 5;
/// How long a run may take to be prepared while its lease is kept alive.
const PREPARE_WITHIN: Duration = Duration::from_secs(25);

/// The worker service.
#[derive(Debug)]
pub(crate) struct WorkerCalls {
    app: Arc<App>,
    /// Long polls end with the process, so that shutdown does not wait for them.
    ended: CancellationToken,
}

impl WorkerCalls {
    pub(crate) fn new(app: Arc<App>, ended: CancellationToken) -> Self {
        Self { app, ended }
    }

    async fn next(
        &self,
        worker: WorkerId,
        process: Option<WorkerProcessId>,
    ) -> Result<Option<AttemptLease>, Status> {
        let Some((run, attempt)) =
            lease::lease(&self.app, worker, process).await.map_err(|e| internal("runs.lease", &e))?
        else {
            return Ok(None);
        };
        match self.prepare(worker, &run, &attempt).await {
            Ok(()) => {
                // It may have been cancelled meanwhile; then there is nothing to hand out.
                let now =
                    store::attempt(&self.app.db, attempt.id).await.map_err(|e| internal("runs.lease", &e))?;
                Ok(now.filter(|a| a.state.is_live()).map(|_| self.describe(&run, &attempt)))
            }
            Err(error) => {
                self.not_prepared(&attempt, error).await.map_err(|e| internal("runs.not_prepared", &e))?;
                Ok(None)
            }
        }
    }

    /// Prepares the run and keeps its lease alive meanwhile: the worker does not know it yet.
    async fn prepare(&self, worker: WorkerId, run: &Run, attempt: &Attempt) -> Result<(), NotPrepared> {
        let keep_alive = async {
            let mut beats = tokio::time::interval(Duration::from_secs(5));
            loop {
                beats.tick().await;
                match lease::renew(&self.app, worker, attempt.id, attempt.fence).await {
                    Ok(true) => {}
                    Ok(false) => return NotPrepared::later("the lease was lost meanwhile"),
                    Err(error) => return NotPrepared::from(error),
                }
            }
        };
        tokio::select! {
            prepared = async {
                prepare(&self.app, run).await?;
                Ok(checkpoints::decide(&self.app, run.id, attempt.id).await?)
            } => prepared,
            error = keep_alive => Err(error),
            () = tokio::time::sleep(PREPARE_WITHIN) => {
                Err(NotPrepared::later("the code host answers too slowly"))
            }
        }
    }

    /// The run cannot start: it is tried again, or ends with a sentence.
    async fn not_prepared(&self, attempt: &Attempt, error: NotPrepared) -> Result<(), RunError> {
        let app = &self.app;
        let error = match error {
            // It waits where the repository is out of reach.
            NotPrepared::Never(why) => match store::get(&app.db, attempt.run).await? {
                Some(run) => match learn(app, run.repository_id).await? {
                    Learnt::Closed(closed) => NotPrepared::later(closed),
                    Learnt::Moved => NotPrepared::later(why),
                    Learnt::Unknown(error) => of_forge(&why, &error),
                    Learnt::Nothing => NotPrepared::Never(why),
                },
                None => NotPrepared::Never(why),
            },
            NotPrepared::Later { .. } | NotPrepared::Run(_) => error,
        };
        let mut tx = app.db.begin().await?;
        let Some(run) = store::lock(&mut tx, attempt.run).await?.filter(|r| !r.state.is_final()) else {
            return Ok(());
        };
        // This one and no other: while it was prepared it may have been given up, and another made.
        let Some(attempt) = store::attempt(&mut *tx, attempt.id).await?.filter(|a| a.state.is_live()) else {
            return Ok(());
        };
        match error {
            NotPrepared::Later { why, at_least } => {
                move_attempt(&mut tx, app, &run, &attempt, AttemptState::Lost, &why).await?;
                let setback = if at_least.is_some() { Setback::Limited } else { Setback::Preparing };
                again(&mut tx, app, &run, &attempt, setback, at_least, &why).await?;
            }
            NotPrepared::Run(error) => {
                tracing::warn!(run_id = %run.id, error = %telemetry::logging::chain(&error), "run not prepared");
                lose(&mut tx, app, &run, &attempt, "the run could not be prepared").await?;
            }
            NotPrepared::Never(why) => {
                end(&mut tx, app, &run, RunState::Failed(FailureClass::User), "platform", &why).await?;
            }
        }
        Ok(steps::commit(tx, Step::RunNotPrepared).await?)
    }

    fn describe(&self, run: &Run, attempt: &Attempt) -> AttemptLease {
        let app = &self.app;
        let token = app.run_tokens.mint(run.id, attempt.id, attempt.leased_at, attempt.deadline_at);
        AttemptLease {
            attempt_id: attempt.id.to_string(),
            run_id: run.id.to_string(),
            project: run.project_name.clone(),
            stage: run.stage.clone(),
            number: u32::try_from(attempt.number).unwrap_or_default(),
            fence: attempt.fence,
            run_token: token.expose_secret().to_owned(),
            // The control plane ends it; the worker's timer is the backstop and comes after.
            deadline_seconds: u32::try_from(
                (attempt.deadline_at - app.clock.now()).num_seconds().max(0) + BACKSTOP_SECONDS,
            )
            .unwrap_or(u32::MAX),
            limits: Some(Limits {
                memory_bytes: placement::memory_bytes(app, run),
                processes: app.agents.processes,
                output_bytes: app.agents.output_bytes,
                file_bytes: app.agents.file_bytes,
            }),
            trace_id: run.trace_id.clone(),
            lease_seconds: LEASE_SECONDS,
            namespace: domain::cluster::namespace(&run.project_name, run.project),
            placement: Some(placement::of(run)),
        }
    }

    /// False when the attempt is over: its process must go.
    async fn started(
        &self,
        run: &Run,
        attempt: &Attempt,
        started: &AttemptStarted,
    ) -> Result<bool, RunError> {
        let app = &self.app;
        let isolation = claim(app, &started.isolation);
        let mut tx = app.db.begin().await?;
        // The run first, then its attempt: the order of locks everywhere.
        store::lock(&mut tx, run.id).await?;
        let Some(now) = store::attempt(&mut *tx, attempt.id).await?.filter(|a| a.state.is_live()) else {
            return Ok(false);
        };
        sqlx::query!(
            "update attempts set isolation = $2, unsandboxed = $3 where attempt_id = $1",
            attempt.id.uuid(),
            isolation,
            started.unsandboxed
        )
        .execute(&mut *tx)
        .await?;
        // The runner's hello may have been faster than this report.
        if now.state == AttemptState::Leased {
            move_attempt(&mut tx, app, run, &now, AttemptState::Preparing, &isolation).await?;
        }
        steps::commit(tx, Step::AttemptStarted).await?;
        Ok(true)
    }

    /// False when the attempt was over already: then this changes nothing.
    async fn ended(&self, attempt: &Attempt, ended: &AttemptEnded) -> Result<bool, RunError> {
        let app = &self.app;
        let message = claim(app, &ended.message);
        let mut tx = app.db.begin().await?;
        let Some(run) = store::lock(&mut tx, attempt.run).await? else { return Ok(false) };
        // Under the lock: a result or a stop may have come first.
        let Some(attempt) = store::attempt(&mut *tx, attempt.id).await? else { return Ok(false) };
        match attempt.state {
            AttemptState::Leased | AttemptState::Preparing | AttemptState::Running => {}
            // The usual end of one that returned or was told to stop.
            AttemptState::Returned | AttemptState::Stopped => return Ok(true),
            AttemptState::Lost => {
                late_word(&mut tx, app, &attempt, &message).await?;
                steps::commit(tx, Step::LateWordNoted).await?;
                return Ok(false);
            }
        }
        match ended.outcome() {
            Outcome::NotStarted => {
                end(&mut tx, app, &run, RunState::Failed(FailureClass::Infrastructure), "platform", &message)
                    .await?;
            }
            Outcome::Exited => {
                lose(&mut tx, app, &run, &attempt, &format!("the runner ended without a result: {message}"))
                    .await?;
            }
            Outcome::Shutdown => lose(&mut tx, app, &run, &attempt, "the worker was shut down").await?,
            // The worker's own clock ended it; the deadline is the platform's to say.
            Outcome::Stopped if attempt.deadline_at <= app.clock.now() => {
                out_of_time(&mut tx, app, &run, &attempt).await?;
            }
            Outcome::Died | Outcome::Stopped | Outcome::Unspecified => {
                lose(&mut tx, app, &run, &attempt, &message).await?;
            }
        }
        steps::commit(tx, Step::AttemptEnded).await?;
        Ok(true)
    }
}

/// Word of an attempt that was given up: kept for people, and it changes nothing.
pub(super) async fn late_word(
    tx: &mut PgConnection,
    app: &App,
    attempt: &Attempt,
    message: &str,
) -> Result<(), RunError> {
    let text = format!("Attempt {} was heard of after it was {}: {message}", attempt.number, attempt.state);
    Ok(store::event(tx, app, attempt.run, "late_word", &text).await?)
}

/// A sentence of a worker: bounded, without what cannot be stored or seen.
fn claim(app: &App, text: &str) -> String {
    app.censor.censor(&visible(cut(text, MAX_MESSAGE_BYTES))).replace('\0', "")
}

/// Attempts of a worker that ended a short while ago and whose process must go.
async fn stops(app: &App, worker: WorkerId) -> sqlx::Result<Vec<Directive>> {
    let rows = sqlx::query!(
        r#"select attempt_id, state as "state!", message from attempts
           where worker_id = $1 and state in ('stopped', 'lost') and ended_at > $2"#,
        worker.uuid(),
        app.clock.now() - chrono::TimeDelta::minutes(5)
    )
    .fetch_all(&app.db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|r| Directive {
            attempt_id: r.attempt_id.to_string(),
            reason: format!("{}: {}", r.state, r.message),
        })
        .collect())
}

fn attempt_id(text: &str) -> Result<AttemptId, Status> {
    text.parse().map_err(|e| Status::invalid_argument(format!("{e}")))
}

fn process_id(text: &str) -> Result<Option<WorkerProcessId>, Status> {
    // A worker of an earlier release does not say.
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|e| Status::invalid_argument(format!("{e}")))
}

type Directives = Pin<Box<dyn Stream<Item = Result<Directive, Status>> + Send>>;

#[tonic::async_trait]
impl WorkerService for WorkerCalls {
    type DirectivesStream = Directives;

    async fn lease(&self, request: Request<LeaseRequest>) -> Result<Response<LeaseResponse>, Status> {
        let worker = Caller::worker(&request)?;
        let wait = Duration::from_millis(u64::from(request.get_ref().wait_ms.min(60_000)));
        let until = tokio::time::Instant::now() + wait;
        let mut wake = self.app.wake.subscribe(Topic::Queue);
        let process = process_id(&request.get_ref().process_id)?;
        if !lease::seen(&self.app, worker, process).await.map_err(|e| internal("runs.seen", &e))? {
            return Err(Status::failed_precondition(
                "another process of this worker was started after this one",
            ));
        }
        loop {
            wake.mark_unchanged();
            if self.ended.is_cancelled() {
                return Err(Status::unavailable("shutting down"));
            }
            if let Some(lease) = self.next(worker, process).await? {
                return Ok(Response::new(LeaseResponse { lease: Some(lease) }));
            }
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                return Ok(Response::new(LeaseResponse { lease: None }));
            }
            // A run whose backoff ends, or that was locked for a moment, is found by looking again.
            tokio::select! {
                () = self.ended.cancelled() => {}
                () = news(&mut wake, left.min(Duration::from_millis(250))) => {}
            }
        }
    }

    async fn adopt(&self, _request: Request<AdoptRequest>) -> Result<Response<AdoptResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn judge(&self, _request: Request<JudgeRequest>) -> Result<Response<JudgeResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        let worker = Caller::worker(&request)?;
        let request = request.into_inner();
        let process = process_id(&request.process_id)?;
        let present = lease::seen(&self.app, worker, process).await.map_err(|e| internal("runs.seen", &e))?;
        let mut stop = Vec::new();
        for held in request.held {
            let id = attempt_id(&held.attempt_id)?;
            let reason = if !present {
                "another process of this worker was started after this one"
            } else if lease::renew(&self.app, worker, id, held.fence)
                .await
                .map_err(|e| internal("runs.renew", &e))?
            {
                continue;
            } else {
                "the attempt is over"
            };
            stop.push(Directive { attempt_id: held.attempt_id, reason: reason.to_owned() });
        }
        Ok(Response::new(HeartbeatResponse { stop }))
    }

    async fn directives(&self, request: Request<DirectivesRequest>) -> Result<Response<Directives>, Status> {
        let worker = Caller::worker(&request)?;
        let (app, ended) = (Arc::clone(&self.app), self.ended.clone());
        let wake = app.wake.subscribe(Topic::Stops);
        let stream = futures::stream::unfold(
            (app, wake, ended, Vec::<Directive>::new(), std::collections::HashSet::new()),
            move |state| async move {
                let (app, mut wake, ended, mut ready, mut told) = state;
                loop {
                    if let Some(directive) = ready.pop() {
                        return Some((Ok(directive), (app, wake, ended, ready, told)));
                    }
                    if ended.is_cancelled() {
                        return None;
                    }
                    wake.mark_unchanged();
                    match stops(&app, worker).await {
                        Ok(all) => {
                            ready.extend(all.into_iter().filter(|d| told.insert(d.attempt_id.clone())));
                        }
                        Err(error) => {
                            return Some((
                                Err(internal("runs.directives", &error)),
                                (app, wake, ended, ready, told),
                            ));
                        }
                    }
                    if ready.is_empty() {
                        tokio::select! {
                            () = ended.cancelled() => {}
                            () = news(&mut wake, Duration::from_secs(10)) => {}
                        }
                    }
                }
            },
        );
        Ok(Response::new(Box::pin(stream)))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let worker = Caller::worker(&request)?;
        let report = request.into_inner();
        let id = attempt_id(&report.attempt_id)?;
        let attempt = store::attempt(&self.app.db, id).await.map_err(|e| internal("runs.report", &e))?;
        let Some(attempt) = attempt.filter(|a| a.worker == worker && a.fence == report.fence) else {
            tracing::warn!(attempt_id = %id, fence = report.fence, worker_id = %worker, "report under an old fence changes nothing");
            return Ok(Response::new(ReportResponse { accepted: false }));
        };
        let run = store::get(&self.app.db, attempt.run)
            .await
            .map_err(|e| internal("runs.report", &e))?
            .ok_or_else(|| Status::not_found("no such run"))?;
        let accepted = match &report.what {
            Some(What::Started(started)) => self.started(&run, &attempt, started).await,
            Some(What::Ended(ended)) => self.ended(&attempt, ended).await,
            Some(What::Planned(_) | What::Created(_) | What::Waits(_)) => {
                return Err(Status::unimplemented("not yet"));
            }
            None => return Err(Status::invalid_argument("a report says what happened")),
        }
        .map_err(|e| internal("runs.report", &e))?;
        Ok(Response::new(ReportResponse { accepted }))
    }
}

/// The runner said hello: the attempt runs, and people are told.
pub(super) async fn hello(app: &App, id: AttemptId) -> Result<Option<(Run, Attempt)>, RunError> {
    let mut tx = app.db.begin().await?;
    let Some(attempt) = store::attempt(&mut *tx, id).await? else { return Ok(None) };
    let Some(run) = store::lock(&mut tx, attempt.run).await? else { return Ok(None) };
    let Some(mut attempt) = store::attempt(&mut *tx, id).await?.filter(|a| a.state.is_live()) else {
        return Ok(None);
    };
    if attempt.state == AttemptState::Leased {
        attempt = move_attempt(&mut tx, app, &run, &attempt, AttemptState::Preparing, "").await?;
    }
    if attempt.state == AttemptState::Preparing {
        attempt = move_attempt(&mut tx, app, &run, &attempt, AttemptState::Running, "").await?;
        publishing::say_status(&mut tx, app, &run).await?;
    }
    steps::commit(tx, Step::AttemptGreeted).await?;
    Ok(Some((run, attempt)))
}
