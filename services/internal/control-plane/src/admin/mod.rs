//! The CLI's calls: whoever the kernel says is at the other end of the socket.

pub(crate) mod check;
mod log;
mod outbox;
mod process;
mod setup;
mod views;

use std::{collections::BTreeSet, pin::Pin, sync::Arc, time::Duration};

use domain::{
    decision::{
        Admission, Decided, Decision, Facts, Record, Start, Told, decide_cancel, decide_release, decide_retry,
    },
    ids::{Id, ProjectId, RunId},
    outbox::Order,
    rights::{Action, Principal, authorise},
};
use futures::Stream;
use proto::admin::{
    AddRepositoryRequest, CheckRequest, CheckResponse, EffectActionRequest, EffectActionResponse,
    EnrollWorkerRequest, EnrollWorkerResponse, EventsRequest, ExplainRequest, ExplainResponse, Explanation,
    GetRunRequest, ListEffectsRequest, ListEffectsResponse, ListProjectsRequest, ListProjectsResponse,
    ListRepositoriesRequest, ListRepositoriesResponse, ListRunsRequest, ListRunsResponse, ListWorkersRequest,
    ListWorkersResponse, LogLine, LogsRequest, OrderWorkerRequest, OrderWorkerResponse, PauseRequest,
    PauseResponse, ProjectView, RenderPromptRequest, RenderPromptResponse, RepositoryRequest,
    RotateSecretRequest, RunActionRequest, RunActionResponse, RunDetail, SimulateRequest, SyncLabelsRequest,
    SyncLabelsResponse, VerifyAuditRequest, VerifyAuditResponse, WebhookSecretResponse,
    admin_service_server::AdminService,
};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::server::UdsConnectInfo};

use crate::{
    App, pauses, policies,
    projects::{self, store::by_id},
    publishing,
    runs::{self, NewRun, Run, RunError},
    serving::internal,
    steps::{self, Step},
    transcripts, triggers,
    wake::{Topic, news},
    workers,
};

/// The admin service.
#[derive(Debug)]
pub(crate) struct AdminCalls {
    app: Arc<App>,
    ended: CancellationToken,
}

impl AdminCalls {
    pub(crate) fn new(app: Arc<App>, ended: CancellationToken) -> Self {
        Self { app, ended }
    }
}

/// Lets in the user this process runs as, and root; the kernel says who is calling.
pub(crate) fn prove_operator(mut request: Request<()>) -> Result<Request<()>, Status> {
    let credentials = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    let uid = credentials
        .map(|c| c.uid())
        .ok_or_else(|| Status::unauthenticated("the kernel did not say who is calling"))?;
    if !may_operate(uid, rustix::process::geteuid().as_raw()) {
        tracing::warn!(uid, "admin call refused");
        return Err(Status::permission_denied("only the user this platform runs as may do this"));
    }
    request.extensions_mut().insert(Operator(Principal::PlatformOperator { uid }));
    Ok(request)
}

fn may_operate(uid: u32, own: u32) -> bool {
    uid == own || uid == 0
}

#[derive(Clone, Debug)]
struct Operator(Principal);

/// The caller, allowed to do `action`.
fn operator<T>(request: &Request<T>, action: Action) -> Result<Principal, Status> {
    let Operator(principal) = request
        .extensions()
        .get::<Operator>()
        .cloned()
        .ok_or_else(|| Status::unauthenticated("no caller"))?;
    authorise(&principal, action).map_err(|_| Status::permission_denied("you may not do this"))?;
    Ok(principal)
}

fn failed(error: &RunError) -> Status {
    internal("admin", error)
}

fn run_id(text: &str) -> Result<RunId, Status> {
    text.parse().map_err(|e| Status::invalid_argument(format!("{e}; `callboard run list` shows the ids")))
}

/// A refusal in words, with what to do next.
fn refusal(decided: &Decided) -> Status {
    Status::failed_precondition(format!("{} {}", decided.rule, decided.remedy).trim().to_owned())
}

impl AdminCalls {
    async fn cancel(
        &self,
        principal: &Principal,
        id: RunId,
        reason: &str,
    ) -> Result<RunActionResponse, CommandError> {
        let app = &self.app;
        let mut tx = app.db.begin().await?;
        // What waits behind it may come forward, and says whether it is paused.
        pauses::hold_off_pauses(&mut tx).await?;
        let run = runs::lock(&mut tx, id).await?.ok_or(CommandError::NoSuchRun(id))?;
        let decided = decide_cancel(principal, run.state.is_final());
        let repository = by_id(&mut *tx, run.repository_id).await?;
        triggers::record_command(&mut tx, app, &repository, &run, &principal.name(), "run cancel", &decided)
            .await?;
        let message = if let Decision::Cancel { .. } = decided.decision {
            Some(runs::cancel(&mut tx, app, &run, &principal.name(), reason).await?.message)
        } else {
            None
        };
        steps::commit(tx, Step::RunCancelled).await?;
        match message {
            Some(message) => Ok(RunActionResponse { run_id: id.to_string(), message }),
            None => Err(CommandError::Refused(decided)),
        }
    }

    async fn retry(&self, principal: &Principal, id: RunId) -> Result<RunActionResponse, CommandError> {
        let app = &self.app;
        let run = runs::get(&app.db, id).await?.ok_or(CommandError::NoSuchRun(id))?;
        let repository = by_id(&app.db, run.repository_id).await?;
        let policy = policies::current(app, &repository).await?;
        let mut tx = app.db.begin().await?;
        // Pauses first, then the issue, then the run: the order of locks everywhere.
        pauses::hold_off_pauses(&mut tx).await?;
        let issue = u64::try_from(run.issue_number).unwrap_or_default();
        triggers::store::lock_issue(&mut tx, run.repository_id, issue).await?;
        let run = runs::lock(&mut tx, id).await?.ok_or(CommandError::NoSuchRun(id))?;
        let other = runs::under_way(&mut tx, run.repository_id, run.issue_number).await?;
        let facts = Facts {
            policy: &policy,
            permission: None,
            role: None,
            bots: &BTreeSet::new(),
            own_effect: false,
            told: Told::Delivered,
            repository: triggers::standing(&repository),
            default_branch: repository.default_branch.as_deref(),
            record: Record { under_way: other.as_ref().map(Run::reference), ..Record::default() },
            admission: Admission::default(),
        };
        let decided = decide_retry(principal, &facts, &run.reference(), issue);
        let decision = triggers::record_command(
            &mut tx,
            app,
            &repository,
            &run,
            &principal.name(),
            "run retry",
            &decided,
        )
        .await?;
        let started = if let Decision::Start(start) = &decided.decision {
            // What labels asked for then is asked for again.
            let again = Start { model: run.model.clone(), reasoning: run.reasoning, ..(**start).clone() };
            let new = NewRun {
                repository: &repository,
                start: &again,
                definition: policy.get(&start.stage).unwrap_or(&run.definition),
                language: &run.language,
                decision,
                actor: &principal.name(),
                continues: run.continues,
                chain: run.chain,
                // Read again: a retry is asked for now, about the issue as it is now.
                issue: None,
                trace_id: &app.ids.trace_id(),
                received_at: app.clock.now(),
            };
            Some(runs::start(&mut tx, app, &new).await?)
        } else {
            None
        };
        steps::commit(tx, Step::RunRetried).await?;
        match started {
            Some(new) => Ok(RunActionResponse {
                run_id: new.id.to_string(),
                message: format!("Queued as run {}.", new.id),
            }),
            None => Err(CommandError::Refused(decided)),
        }
    }

    async fn release(
        &self,
        principal: &Principal,
        id: RunId,
        reason: &str,
    ) -> Result<RunActionResponse, CommandError> {
        let app = &self.app;
        let mut tx = app.db.begin().await?;
        let run = runs::lock(&mut tx, id).await?.ok_or(CommandError::NoSuchRun(id))?;
        let publication = publishing::publication(&mut *tx, id).await?;
        let decided = decide_release(principal, run.state, publication.map(|p| p.state));
        let repository = by_id(&mut *tx, run.repository_id).await?;
        triggers::record_command(&mut tx, app, &repository, &run, &principal.name(), "run release", &decided)
            .await?;
        let message = if decided.decision == Decision::Release {
            let reason = app.censor.censor(reason.trim());
            Some(publishing::release(&mut tx, app, &run, &principal.name(), &reason).await?.message)
        } else {
            None
        };
        steps::commit(tx, Step::RunReleased).await?;
        match message {
            Some(message) => Ok(RunActionResponse { run_id: id.to_string(), message }),
            None => Err(CommandError::Refused(decided)),
        }
    }

    async fn find(&self, id: &str) -> Result<Run, Status> {
        let id = run_id(id)?;
        runs::get(&self.app.db, id)
            .await
            .map_err(|e| failed(&e))?
            .ok_or_else(|| CommandError::NoSuchRun(id).into())
    }
}

/// How often a run is read that moves while it is read.
const READS: usize = 5;

/// Why a command did not happen.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error("there is no run {0}; `callboard run list` shows the newest")]
    NoSuchRun(RunId),
    #[error("refused")]
    Refused(Decided),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Rules(#[from] policies::Unread),
}

impl From<CommandError> for Status {
    fn from(error: CommandError) -> Self {
        match &error {
            CommandError::NoSuchRun(_) => Self::not_found(error.to_string()),
            CommandError::Refused(decided) => refusal(decided),
            CommandError::Run(inner) => failed(inner),
            CommandError::Database(inner) => internal("admin", inner),
            CommandError::Rules(policies::Unread::Database(inner)) => internal("admin", inner),
            CommandError::Rules(policies::Unread::Forge(_)) => {
                Self::failed_precondition(format!("{error}; nothing starts on a guess. Try again later."))
            }
        }
    }
}

impl From<pauses::NoSubject> for Status {
    fn from(error: pauses::NoSubject) -> Self {
        match &error {
            pauses::NoSubject::Ambiguous(_) => Self::invalid_argument(error.to_string()),
            pauses::NoSubject::Unknown { .. } => Self::not_found(error.to_string()),
            pauses::NoSubject::Database(inner) => internal("admin.pause", inner),
        }
    }
}

type Logs = Pin<Box<dyn Stream<Item = Result<LogLine, Status>> + Send>>;

#[tonic::async_trait]
impl AdminService for AdminCalls {
    type LogsStream = Logs;
    type EventsStream = log::Events;
    type AddRepositoryStream = setup::Steps;
    type RotateSecretStream = setup::Steps;
    type RemoveRepositoryStream = setup::Steps;

    async fn list_runs(
        &self,
        request: Request<ListRunsRequest>,
    ) -> Result<Response<ListRunsResponse>, Status> {
        operator(&request, Action::View)?;
        let asked = request.into_inner();
        let some = |text: String| (!text.is_empty()).then_some(text);
        let (project, state) = (some(asked.project), some(asked.state));
        let limit = if asked.limit == 0 { 20 } else { i64::from(asked.limit.min(1000)) };
        let runs = runs::list(&self.app.db, project.as_deref(), state.as_deref(), limit)
            .await
            .map_err(|e| failed(&e))?;
        Ok(Response::new(ListRunsResponse {
            runs: views::runs(&self.app, &runs).await.map_err(|e| failed(&e))?,
        }))
    }

    async fn get_run(&self, request: Request<GetRunRequest>) -> Result<Response<RunDetail>, Status> {
        operator(&request, Action::View)?;
        let id = &request.get_ref().id;
        let mut run = self.find(id).await?;
        // A run and its attempts are shown as they were at one time: what moved while they were read is
        // read again. One that never rests is shown as it was last.
        for _ in 1..READS {
            let detail = views::detail(&self.app, &run).await.map_err(|e| failed(&e))?;
            let now = self.find(id).await?;
            if (now.state, &now.message) == (run.state, &run.message) {
                return Ok(Response::new(detail));
            }
            run = now;
        }
        Ok(Response::new(views::detail(&self.app, &run).await.map_err(|e| failed(&e))?))
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<Logs>, Status> {
        operator(&request, Action::View)?;
        let LogsRequest { run_id, follow } = request.into_inner();
        let run = self.find(&run_id).await?.id;
        let app = Arc::clone(&self.app);
        let wake = app.wake.subscribe(Topic::Runs);
        let deleted = views::deleted_transcripts(&app, run).await.map_err(|e| internal("admin.logs", &e))?;
        let state = (app, wake, self.ended.clone(), transcripts::Cursor::default(), deleted, false);
        let stream = futures::stream::unfold(
            state,
            move |(app, mut wake, ended, mut cursor, mut ready, mut last)| async move {
                loop {
                    if let Some(line) = ready.pop_front() {
                        return Some((Ok(line), (app, wake, ended, cursor, ready, last)));
                    }
                    if last || ended.is_cancelled() {
                        return None;
                    }
                    wake.mark_unchanged();
                    // The state is read before the lines: what comes with the end is not missed.
                    let over = match runs::get(&app.db, run).await {
                        Ok(run) => run.is_none_or(|r| r.state.is_final()),
                        Err(error) => {
                            return Some((Err(failed(&error)), (app, wake, ended, cursor, ready, true)));
                        }
                    };
                    match transcripts::next_lines(&app, run, &mut cursor).await {
                        Ok((lines, read)) => {
                            ready.extend(lines);
                            // Only a look that found nothing new can have been the last one.
                            last = !read && (over || !follow);
                        }
                        Err(error) => {
                            return Some((
                                Err(internal("admin.logs", &error)),
                                (app, wake, ended, cursor, ready, true),
                            ));
                        }
                    }
                    if ready.is_empty() && !last {
                        tokio::select! {
                            () = ended.cancelled() => {}
                            () = news(&mut wake, Duration::from_secs(5)) => {}
                        }
                    }
                }
            },
        );
        Ok(Response::new(Box::pin(stream)))
    }

    async fn cancel_run(
        &self,
        request: Request<RunActionRequest>,
    ) -> Result<Response<RunActionResponse>, Status> {
        let principal = operator(&request, Action::Cancel)?;
        let asked = request.into_inner();
        Ok(Response::new(self.cancel(&principal, run_id(&asked.id)?, &asked.reason).await?))
    }

    async fn retry_run(
        &self,
        request: Request<RunActionRequest>,
    ) -> Result<Response<RunActionResponse>, Status> {
        let principal = operator(&request, Action::Start)?;
        let asked = request.into_inner();
        Ok(Response::new(self.retry(&principal, run_id(&asked.id)?).await?))
    }

    async fn release_run(
        &self,
        request: Request<RunActionRequest>,
    ) -> Result<Response<RunActionResponse>, Status> {
        let principal = operator(&request, Action::Release)?;
        let asked = request.into_inner();
        Ok(Response::new(self.release(&principal, run_id(&asked.id)?, &asked.reason).await?))
    }

    async fn pause(&self, request: Request<PauseRequest>) -> Result<Response<PauseResponse>, Status> {
        let principal = operator(&request, Action::Pause)?;
        let asked = request.into_inner();
        let subject = pauses::subject(&self.app, &asked.subject).await?;
        let message = pauses::pause(&self.app, subject, &principal.name(), &asked.reason)
            .await
            .map_err(|e| failed(&e))?;
        Ok(Response::new(PauseResponse { message }))
    }

    async fn resume(&self, request: Request<PauseRequest>) -> Result<Response<PauseResponse>, Status> {
        let principal = operator(&request, Action::Pause)?;
        let asked = request.into_inner();
        let subject = pauses::subject(&self.app, &asked.subject).await?;
        let message = pauses::resume(&self.app, subject, &principal.name(), &asked.reason)
            .await
            .map_err(|e| failed(&e))?;
        Ok(Response::new(PauseResponse { message }))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        operator(&request, Action::View)?;
        let explanations = views::explain(&self.app, request.get_ref().subject.trim()).await?;
        Ok(Response::new(ExplainResponse { explanations }))
    }

    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        operator(&request, Action::View)?;
        Ok(Response::new(CheckResponse { findings: check::findings(&self.app).await }))
    }

    async fn enroll_worker(
        &self,
        request: Request<EnrollWorkerRequest>,
    ) -> Result<Response<EnrollWorkerResponse>, Status> {
        let principal = operator(&request, Action::ManageWorkers)?;
        let asked = request.into_inner();
        let (id, identity) =
            workers::enroll(&self.app, &asked.name, &asked.projects, &asked.labels, &principal.name())
                .await?;
        Ok(Response::new(EnrollWorkerResponse {
            worker_id: id.uuid().to_string(),
            identity: identity.to_json().expose_secret().to_owned(),
        }))
    }

    async fn list_workers(
        &self,
        request: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        operator(&request, Action::ManageWorkers)?;
        let workers = workers::list(&self.app).await.map_err(|e| internal("admin.workers", &e))?;
        Ok(Response::new(ListWorkersResponse { workers }))
    }

    async fn order_worker(
        &self,
        request: Request<OrderWorkerRequest>,
    ) -> Result<Response<OrderWorkerResponse>, Status> {
        let principal = operator(&request, Action::ManageWorkers)?;
        let asked = request.into_inner();
        let message = workers::order(&self.app, &asked.name, asked.order(), &principal.name()).await?;
        Ok(Response::new(OrderWorkerResponse { message }))
    }

    async fn events(&self, request: Request<EventsRequest>) -> Result<Response<log::Events>, Status> {
        operator(&request, Action::View)?;
        let events = log::events(&self.app, self.ended.clone(), request.into_inner()).await?;
        Ok(Response::new(events))
    }

    async fn verify_audit(
        &self,
        request: Request<VerifyAuditRequest>,
    ) -> Result<Response<VerifyAuditResponse>, Status> {
        operator(&request, Action::View)?;
        Ok(Response::new(log::verify(&self.app, request.get_ref()).await?))
    }

    async fn list_effects(
        &self,
        request: Request<ListEffectsRequest>,
    ) -> Result<Response<ListEffectsResponse>, Status> {
        operator(&request, Action::ManageOutbox)?;
        let effects = outbox::list(&self.app, request.get_ref().wanted()).await?;
        Ok(Response::new(ListEffectsResponse { effects }))
    }

    async fn retry_effect(
        &self,
        request: Request<EffectActionRequest>,
    ) -> Result<Response<EffectActionResponse>, Status> {
        let principal = operator(&request, Action::ManageOutbox)?;
        let id = request.into_inner().id;
        Ok(Response::new(outbox::order(&self.app, &principal, Order::Retry, &id).await?))
    }

    async fn drop_effect(
        &self,
        request: Request<EffectActionRequest>,
    ) -> Result<Response<EffectActionResponse>, Status> {
        let principal = operator(&request, Action::ManageOutbox)?;
        let id = request.into_inner().id;
        Ok(Response::new(outbox::order(&self.app, &principal, Order::Drop, &id).await?))
    }

    async fn sync_labels(
        &self,
        request: Request<SyncLabelsRequest>,
    ) -> Result<Response<SyncLabelsResponse>, Status> {
        let principal = operator(&request, Action::ManageOutbox)?;
        let labels = process::sync_labels(&self.app, &principal, &request.into_inner()).await?;
        Ok(Response::new(SyncLabelsResponse { labels }))
    }

    async fn add_repository(
        &self,
        request: Request<AddRepositoryRequest>,
    ) -> Result<Response<setup::Steps>, Status> {
        let actor = operator(&request, Action::ManageRepositories)?.name();
        Ok(Response::new(setup::add(&self.app, actor, request.into_inner())?))
    }

    async fn rotate_secret(
        &self,
        request: Request<RotateSecretRequest>,
    ) -> Result<Response<setup::Steps>, Status> {
        let actor = operator(&request, Action::ManageRepositories)?.name();
        let RotateSecretRequest { repository, finish } = request.into_inner();
        Ok(Response::new(setup::rotate(&self.app, actor, &repository, finish)?))
    }

    async fn remove_repository(
        &self,
        request: Request<RepositoryRequest>,
    ) -> Result<Response<setup::Steps>, Status> {
        let actor = operator(&request, Action::ManageRepositories)?.name();
        Ok(Response::new(setup::remove(&self.app, actor, &request.get_ref().repository)?))
    }

    async fn check_repository(
        &self,
        request: Request<RepositoryRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        operator(&request, Action::View)?;
        let findings = setup::check(&self.app, &request.get_ref().repository).await?;
        Ok(Response::new(CheckResponse { findings }))
    }

    async fn list_projects(
        &self,
        request: Request<ListProjectsRequest>,
    ) -> Result<Response<ListProjectsResponse>, Status> {
        operator(&request, Action::View)?;
        let projects = projects::all(&self.app).await.map_err(|e| internal("admin.projects", &e))?;
        let view = |(name, id): (String, ProjectId)| ProjectView {
            namespace: domain::cluster::namespace(&name, id),
            name,
        };
        Ok(Response::new(ListProjectsResponse { projects: projects.into_iter().map(view).collect() }))
    }

    async fn list_repositories(
        &self,
        request: Request<ListRepositoriesRequest>,
    ) -> Result<Response<ListRepositoriesResponse>, Status> {
        operator(&request, Action::View)?;
        Ok(Response::new(ListRepositoriesResponse { repositories: setup::list(&self.app).await? }))
    }

    async fn webhook_secret(
        &self,
        request: Request<RepositoryRequest>,
    ) -> Result<Response<WebhookSecretResponse>, Status> {
        let actor = operator(&request, Action::ManageRepositories)?.name();
        Ok(Response::new(setup::secret(&self.app, &actor, &request.get_ref().repository).await?))
    }

    async fn simulate(&self, request: Request<SimulateRequest>) -> Result<Response<Explanation>, Status> {
        operator(&request, Action::View)?;
        Ok(Response::new(process::simulate(&self.app, &request.into_inner()).await?))
    }

    async fn render_prompt(
        &self,
        request: Request<RenderPromptRequest>,
    ) -> Result<Response<RenderPromptResponse>, Status> {
        operator(&request, Action::View)?;
        let prompt = process::render_prompt(&self.app, &request.into_inner()).await?;
        Ok(Response::new(RenderPromptResponse { prompt }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_platforms_user_and_root_operate_it() {
        assert!(may_operate(1000, 1000) && may_operate(0, 1000) && may_operate(0, 0));
        assert!(!may_operate(1001, 1000) && !may_operate(64200, 0));
    }
}
