//! The log of events for the command line: streamed, and verified.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use domain::ids::{Id, ProjectId};
use futures::Stream;
use proto::admin::{AuditEvent, EventsRequest, VerifiedChain, VerifyAuditRequest, VerifyAuditResponse};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use super::views::text;
use crate::{
    App, audit,
    serving::internal,
    wake::{Topic, news},
};

/// Events that are read at a time.
const PAGE: i64 = 500;

/// A stream of events.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<AuditEvent, Status>> + Send>>;

/// The project of that name; empty: all.
async fn project(app: &App, name: &str) -> Result<Option<ProjectId>, Status> {
    if name.is_empty() {
        return Ok(None);
    }
    let id = sqlx::query_scalar!("select project_id from projects where name = $1", name)
        .fetch_optional(&app.db)
        .await
        .map_err(|e| internal("admin.audit", &e))?;
    let unknown = || Status::not_found(format!("there is no project `{name}`; leave --project out for all"));
    id.map(ProjectId::from_uuid).map(Some).ok_or_else(unknown)
}

fn view(event: audit::Event, names: &HashMap<Uuid, String>) -> AuditEvent {
    AuditEvent {
        sequence: event.sequence,
        id: event.id.to_string(),
        at: event.happened_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
        project: event
            .project
            .map(|id| names.get(&id).cloned().unwrap_or_else(|| id.to_string()))
            .unwrap_or_default(),
        run_id: event.run.map(|id| id.to_string()).unwrap_or_default(),
        actor: event.actor,
        action: event.action,
        subject: event.subject,
        text: event.text,
        detail: event.detail,
        trace_id: event.trace_id.unwrap_or_default(),
    }
}

/// The next events after a sequence number.
async fn page(app: &App, after: i64, project: Option<ProjectId>) -> sqlx::Result<Vec<AuditEvent>> {
    let events = audit::sealed_after(&app.db, after, PAGE, project).await?;
    let ids: Vec<Uuid> = events.iter().filter_map(|e| e.project).collect();
    let names = sqlx::query!("select project_id, name from projects where project_id = any($1)", &ids)
        .fetch_all(&app.db)
        .await?;
    let names = names.into_iter().map(|r| (r.project_id, r.name)).collect();
    Ok(events.into_iter().map(|e| view(e, &names)).collect())
}

struct Reader {
    app: Arc<App>,
    ended: CancellationToken,
    wake: watch::Receiver<u64>,
    after: i64,
    project: Option<ProjectId>,
    follow: bool,
    ready: VecDeque<AuditEvent>,
    over: bool,
}

impl Reader {
    async fn next(mut self) -> Option<(Result<AuditEvent, Status>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.after = event.sequence;
                return Some((Ok(event), self));
            }
            if self.over || self.ended.is_cancelled() {
                return None;
            }
            self.wake.mark_unchanged();
            match page(&self.app, self.after, self.project).await {
                Ok(events) => self.ready.extend(events),
                Err(error) => {
                    self.over = true;
                    return Some((Err(internal("admin.events", &error)), self));
                }
            }
            if self.ready.is_empty() {
                if !self.follow {
                    return None;
                }
                tokio::select! {
                    () = self.ended.cancelled() => {}
                    () = news(&mut self.wake, Duration::from_secs(5)) => {}
                }
            }
        }
    }
}

/// Events after a number, and those to come where that is asked.
pub(super) async fn events(
    app: &Arc<App>,
    ended: CancellationToken,
    asked: EventsRequest,
) -> Result<Events, Status> {
    let reader = Reader {
        project: project(app, &asked.project).await?,
        wake: app.wake.subscribe(Topic::Sealed),
        app: Arc::clone(app),
        ended,
        after: asked.after,
        follow: asked.follow,
        ready: VecDeque::new(),
        over: false,
    };
    Ok(Box::pin(futures::stream::unfold(reader, Reader::next)))
}

/// Is the log what was sealed?
pub(super) async fn verify(app: &App, asked: &VerifyAuditRequest) -> Result<VerifyAuditResponse, Status> {
    let project = project(app, &asked.project).await?;
    let report = audit::verify(app, project).await.map_err(|e| internal("admin.verify", &e))?;
    let audit::Report { chains, problems, unsealed } = report;
    let chain = |c: audit::ChainReport| VerifiedChain {
        name: c.name,
        seals: c.seals,
        events: c.events,
        sequence: c.sequence,
        hash: c.hash,
        checkpoint_at: text(c.checkpoint_at),
    };
    Ok(VerifyAuditResponse {
        chains: chains.into_iter().map(chain).collect(),
        problems: problems.sentences,
        more_problems: problems.more,
        unsealed: u64::try_from(unsealed).unwrap_or_default(),
    })
}
