//! What a worker may say and ask.

use std::{pin::Pin, sync::Arc, time::Duration};

use domain::{
    cluster::Verdict,
    ids::{AttemptId, Id, WorkerId, WorkerProcessId},
    run::{AttemptState, FailureClass, RunState},
    workers::DRAIN,
};
use futures::Stream;
use proto::v1::{
    AdoptRequest, AdoptResponse, AdoptedAttempt, AttemptLease, Declaration, Directive, DirectivesRequest,
    HeartbeatRequest, HeartbeatResponse, JudgeRequest, JudgeResponse, LeaseRequest, LeaseResponse, Limits,
    ReportRequest, ReportResponse, judge_response, report_request::What,
    worker_service_server::WorkerService,
};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    agent_runs,
    attempts::{self, Attempt, move_attempt},
    ending::{Setback, again, end, lose},
    lease::{self, Renewal, lease_seconds},
    placement,
    prepare::{NotPrepared, of_forge, prepare},
    reports::{self, Heard},
    store::{self, Run, RunError},
};
use crate::{
    App,
    access::Caller,
    checkpoints,
    installations::{Learnt, learn},
    serving::internal,
    steps::{self, Step},
    wake::{Topic, news},
    workers,
};

/// How much later than the deadline the worker's own timer goes off.
const BACKSTOP_SECONDS: i64 = 5;
/// How long a run may take to be prepared while its lease is kept alive.
const PREPARE_WITHIN: Duration = Duration::from_secs(25);
/// A limit that is over this soon costs a run no attempt: it keeps its place, and waits there.
const WAITED_FOR: Duration = Duration::from_secs(5);

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
                    attempts::get(&self.app.db, attempt.id).await.map_err(|e| internal("runs.lease", &e))?;
                Ok(now.filter(|a| a.is_held_as(&attempt)).map(|_| self.describe(&run, &attempt)))
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
                    Ok(Renewal::Renewed | Renewal::Drained) => {}
                    Ok(Renewal::Over | Renewal::Adopted) => {
                        return NotPrepared::later("the lease was lost meanwhile");
                    }
                    Err(error) => return NotPrepared::from(error),
                }
            }
        };
        let prepared = async {
            loop {
                match prepare(&self.app, run).await {
                    Ok(_) => break,
                    Err(NotPrepared::Later { at_least: Some(wait), .. }) if wait <= WAITED_FOR => {
                        tokio::time::sleep(wait).await;
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(checkpoints::decide(&self.app, run.id, attempt.id).await?)
        };
        tokio::select! {
            prepared = prepared => prepared,
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
        let Some(attempt) = attempts::get(&mut *tx, attempt.id).await?.filter(|a| a.is_held_as(attempt))
        else {
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
            lease_seconds: lease_seconds(attempt.in_cluster),
            namespace: domain::cluster::namespace(&run.project_name, run.project),
            placement: Some(placement::of(run)),
        }
    }
}

/// Attempts of a worker that ended a short while ago and whose process must go, and those that are
/// to leave it.
async fn stops(app: &App, worker: WorkerId) -> sqlx::Result<Vec<Directive>> {
    let rows = sqlx::query!(
        r#"select attempt_id, state as "state!", message, ended_at is null as "is_drained!" from attempts
           where worker_id = $1 and (state in ('stopped', 'lost') and ended_at > $2
                                     or state in ('leased', 'preparing', 'running') and drained_at is not null)"#,
        worker.uuid(),
        app.clock.now() - chrono::TimeDelta::minutes(5)
    )
    .fetch_all(&app.db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|r| Directive {
            attempt_id: r.attempt_id.to_string(),
            reason: if r.is_drained { DRAIN.to_owned() } else { format!("{}: {}", r.state, r.message) },
        })
        .collect())
}

fn attempt_id(text: &str) -> Result<AttemptId, Status> {
    text.parse().map_err(|e| Status::invalid_argument(format!("{e}")))
}

/// The process has nothing any more, and must not touch what it had: nothing else has this code.
fn superseded() -> Status {
    Status::failed_precondition("another process of this worker was started after this one")
}

fn process_id(text: &str) -> Result<Option<WorkerProcessId>, Status> {
    // A worker of an earlier release does not say.
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|e| Status::invalid_argument(format!("{e}")))
}

/// What a worker says of itself, if it may be believed at all.
fn sound(declaration: Option<&Declaration>) -> Result<(), Status> {
    declaration.map_or(Ok(()), workers::is_sound).map_err(Status::invalid_argument)
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
        let declaration = request.get_ref().declaration.as_ref();
        sound(declaration)?;
        let seen = lease::seen(&self.app, worker, process, declaration).await;
        if !seen.map_err(|e| internal("runs.seen", &e))? {
            return Err(superseded());
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

    async fn adopt(&self, request: Request<AdoptRequest>) -> Result<Response<AdoptResponse>, Status> {
        let worker = Caller::worker(&request)?;
        let AdoptRequest { process_id: process, declaration } = request.into_inner();
        sound(declaration.as_ref())?;
        let declaration = declaration.unwrap_or_default();
        let process = process_id(&process)?
            .ok_or_else(|| Status::invalid_argument("a process that adopts says which it is"))?;
        if !declaration.cluster {
            return Err(Status::invalid_argument(
                "only attempts in a cluster outlive their worker's process",
            ));
        }
        let adopted = agent_runs::adopt(&self.app, worker, process, &declaration)
            .await
            .map_err(|e| internal("runs.adopt", &e))?
            .ok_or_else(superseded)?;
        let attempts = adopted.attempts.iter().map(|(run, attempt, object)| AdoptedAttempt {
            lease: Some(self.describe(run, attempt)),
            object: Some(object.clone()),
        });
        Ok(Response::new(AdoptResponse { attempts: attempts.collect(), namespaces: adopted.namespaces }))
    }

    async fn judge(&self, request: Request<JudgeRequest>) -> Result<Response<JudgeResponse>, Status> {
        let worker = Caller::worker(&request)?;
        let JudgeRequest { found, process_id: process } = request.into_inner();
        // What an earlier process found may be what the present one has just made.
        let process = process_id(&process)?;
        let present = lease::is_present(&self.app, worker, process).await;
        if !present.map_err(|e| internal("runs.judge", &e))? {
            return Err(superseded());
        }
        let found = found.filter(agent_runs::is_possible).ok_or_else(|| {
            Status::invalid_argument("an object that was found has a namespace, a name and a uid")
        })?;
        let verdict =
            agent_runs::judge(&self.app, worker, &found).await.map_err(|e| internal("runs.judge", &e))?;
        let verdict = match verdict {
            Verdict::Ours => judge_response::Verdict::Ours,
            Verdict::Recreate => judge_response::Verdict::Recreate,
            Verdict::Over => judge_response::Verdict::Over,
            Verdict::Foreign => judge_response::Verdict::Foreign,
        };
        Ok(Response::new(JudgeResponse { verdict: verdict.into() }))
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        let worker = Caller::worker(&request)?;
        let request = request.into_inner();
        let process = process_id(&request.process_id)?;
        let seen = lease::seen(&self.app, worker, process, None).await;
        if !seen.map_err(|e| internal("runs.seen", &e))? {
            return Err(superseded());
        }
        let mut stop = Vec::new();
        for held in request.held {
            let id = attempt_id(&held.attempt_id)?;
            let renewed = lease::renew(&self.app, worker, id, held.fence).await;
            let reason = match renewed.map_err(|e| internal("runs.renew", &e))? {
                Renewal::Renewed => continue,
                Renewal::Drained => DRAIN,
                Renewal::Over => "the attempt is over",
                Renewal::Adopted => return Err(superseded()),
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
                            ready.extend(
                                all.into_iter()
                                    .filter(|d| told.insert((d.attempt_id.clone(), d.reason.clone()))),
                            );
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
        let app = &self.app;
        let attempt = attempts::get(&app.db, id).await.map_err(|e| internal("runs.report", &e))?;
        let Some(attempt) = attempt.filter(|a| a.worker == worker) else {
            tracing::warn!(attempt_id = %id, worker_id = %worker, "report about another worker's attempt changes nothing");
            return Ok(Response::new(ReportResponse { accepted: false, greeted: false }));
        };
        if attempt.fence != report.fence {
            tracing::warn!(attempt_id = %id, fence = report.fence, worker_id = %worker, "report under an old fence changes nothing");
            // Whoever hears that it is over removes what runs.
            return match attempt.state.is_live() {
                true => Err(superseded()),
                false => Ok(Response::new(ReportResponse { accepted: false, greeted: false })),
            };
        }
        let heard = match &report.what {
            Some(What::Planned(object)) => reports::planned(app, &attempt, object).await,
            Some(What::Created(object)) => reports::created(app, &attempt, object).await,
            Some(What::Waits(waits)) => reports::waits(app, &attempt, waits).await,
            Some(What::Started(started)) => reports::started(app, &attempt, started).await,
            Some(What::Ended(ended)) => reports::ended(app, &attempt, ended).await,
            None => return Err(Status::invalid_argument("a report says what happened")),
        };
        // Hello is what makes it run.
        let greeted = match attempt.state {
            AttemptState::Running | AttemptState::Returned => true,
            AttemptState::Leased | AttemptState::Preparing | AttemptState::Lost | AttemptState::Stopped => {
                false
            }
        };
        match heard.map_err(|e| internal("runs.report", &e))? {
            Heard::Accepted => Ok(Response::new(ReportResponse { accepted: true, greeted })),
            Heard::Over => Ok(Response::new(ReportResponse { accepted: false, greeted })),
            Heard::Adopted => Err(superseded()),
            Heard::Contradicts(why) => Err(Status::invalid_argument(why)),
        }
    }
}
