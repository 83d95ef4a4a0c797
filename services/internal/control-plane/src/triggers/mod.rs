//! Triggers: every stored delivery gets one decision, and every decision is explained.

pub(crate) mod store;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::TimeDelta;
use domain::{
    decision::{
        Admission, Decided, Decision, Event, Facts, Reason, Record, RepositoryStanding, decide,
        needs_permission,
    },
    ids::{DecisionId, DeliveryId},
    rights::Permission,
};
use forge::ForgeError;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;
use telemetry::shutdown::Shutdown;

use crate::{
    App, audit,
    deliveries::store::{Undecided, load, mark_decided, put_off, undecided},
    projects::store::{Repository, by_source},
    publishing,
    runs::{self, IssueSnapshot, NewRun, Run, RunError},
    steps::{self, Step},
    wake::{Outage, Topic, news},
};

/// How often undecided deliveries are looked for without a wake-up.
const SWEEP: Duration = Duration::from_secs(2);
/// Deliveries decided at the same time; each may wait for the code host.
const AT_ONCE: usize = 8;
/// How often the code host is asked for a permission before it counts as unknown.
const PERMISSION_TRIES: i32 = 5;

/// Decides on deliveries until the process ends.
pub(crate) fn spawn(app: &Arc<App>, shutdown: &Shutdown) {
    let (app, ended) = (Arc::clone(app), shutdown.token());
    shutdown.spawn(async move {
        let mut wake = app.wake.subscribe(Topic::Deliveries);
        let mut outage = Outage::new("triggers");
        while !ended.is_cancelled() {
            wake.mark_unchanged();
            let batch = undecided(&app.db, app.clock.now(), 100).await;
            outage.note(batch.as_ref().err().map(|e| e as _));
            let batch = batch.unwrap_or_default();
            if !batch.is_empty() {
                let handled =
                    futures::stream::iter(batch).for_each_concurrent(AT_ONCE, |id| handle(&app, id));
                // What is cut off here is undecided and found again at the next start.
                tokio::select! {
                    () = handled => continue,
                    () = ended.cancelled() => return,
                }
            }
            tokio::select! {
                () = ended.cancelled() => {}
                () = news(&mut wake, SWEEP) => {}
            }
        }
    });
}

/// Decides on one delivery; what fails on our side is tried again.
async fn handle(app: &App, id: DeliveryId) {
    let (error, tries) = match load(&app.db, id).await {
        Ok(Some(delivery)) => match settle(app, &delivery).await {
            Ok(()) => return,
            Err(error) => (error, delivery.tries),
        },
        Ok(None) => return,
        Err(error) => (error.into(), 0),
    };
    tracing::warn!(delivery_id = %id, error = %telemetry::logging::chain(&error), "delivery not decided; trying again");
    let (wait, counts) = match &error {
        // Waiting for what the code host asked for is not a try.
        Unsettled::Permission(ForgeError::Limited { retry_after }) => {
            (TimeDelta::from_std(*retry_after).unwrap_or(TimeDelta::minutes(1)), false)
        }
        Unsettled::Permission(_) | Unsettled::Run(_) | Unsettled::Database(_) => {
            (TimeDelta::seconds(1 << tries.clamp(0, 6)), true)
        }
    };
    if put_off(&app.db, id, app.clock.now() + wait, counts).await.is_err() {
        // Postgres is away: do not spin. The sweep finds it again.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Why a decision could not be made yet.
#[derive(Debug, thiserror::Error)]
enum Unsettled {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the code host did not tell the permission: {0}")]
    Permission(ForgeError),
}

/// The parts of an `issues` payload that a run keeps.
#[derive(Deserialize)]
struct IssuePayload {
    issue: IssueFields,
}
#[derive(Deserialize)]
struct IssueFields {
    title: String,
    body: Option<String>,
    html_url: String,
    user: Option<UserFields>,
}
#[derive(Deserialize)]
struct UserFields {
    login: String,
}

fn issue_snapshot(body: &[u8]) -> Option<IssueSnapshot> {
    let IssuePayload { issue } = serde_json::from_slice(body).ok()?;
    Some(IssueSnapshot {
        title: issue.title,
        body: issue.body.unwrap_or_default(),
        author: issue.user.map(|u| u.login).unwrap_or_default(),
        url: issue.html_url,
    })
}

async fn settle(app: &App, delivery: &Undecided) -> Result<(), Unsettled> {
    let repository = by_source(&app.db, &delivery.source).await?;
    let event = match github::payload::parse(&delivery.event, &delivery.body) {
        Ok(event) => event,
        Err(error) => {
            let decided = Decided::ignore(
                Reason::UnreadablePayload,
                format!(
                    "The payload does not have the shape of a `{}` event: {error}",
                    short(&delivery.event)
                ),
            );
            return commit(app, delivery, repository.as_ref(), None, &decided, None).await;
        }
    };
    let Some(repository) = repository.filter(|r| r.enabled) else {
        let decided = Decided::ignore(
            Reason::SourceMismatch,
            "No repository of the configuration uses this source any more.",
        );
        return commit(app, delivery, None, Some(&event), &decided, None).await;
    };
    match &event.repository {
        Some(name) if *name == repository.name => {}
        Some(name) => {
            let decided = Decided::ignore(
                Reason::SourceMismatch,
                format!(
                    "The source `{}` belongs to {}, and the delivery names {name}.",
                    delivery.source, repository.name
                ),
            );
            return commit(app, delivery, Some(&repository), Some(&event), &decided, None).await;
        }
        None => {
            let decided = Decided::ignore(Reason::NoRepository, "The delivery names no repository.");
            return commit(app, delivery, Some(&repository), Some(&event), &decided, None).await;
        }
    }
    let permission = if needs_permission(&event, &app.stages) {
        permission(app, delivery, &repository, &event).await?
    } else {
        None
    };
    decide_and_commit(app, delivery, &repository, &event, permission).await
}

/// Asks the code host now; the payload is never believed.
async fn permission(
    app: &App,
    delivery: &Undecided,
    repository: &Repository,
    event: &Event,
) -> Result<Option<Permission>, Unsettled> {
    let Some(actor) = &event.actor else { return Ok(None) };
    match app.forge.permission(&repository.name, &actor.login).await {
        Ok(permission) => Ok(Some(permission)),
        Err(error @ ForgeError::Limited { .. }) => Err(Unsettled::Permission(error)),
        Err(error @ ForgeError::Outage { .. }) if delivery.tries < PERMISSION_TRIES => {
            Err(Unsettled::Permission(error))
        }
        Err(error) => {
            tracing::warn!(delivery_id = %delivery.id, trace_id = delivery.trace_id, %error, "permission unknown");
            Ok(None)
        }
    }
}

async fn decide_and_commit(
    app: &App,
    delivery: &Undecided,
    repository: &Repository,
    event: &Event,
    permission: Option<Permission>,
) -> Result<(), Unsettled> {
    let mut tx = app.db.begin().await?;
    let issue = event.happening.number();
    let mut run_under_way = None;
    let mut own_effect = false;
    if let Some(issue) = issue {
        // One decision at a time about an issue: the second sees the first one's run.
        store::lock_issue(&mut tx, repository.id, issue).await?;
        run_under_way =
            runs::under_way(&mut tx, repository.id, i64::try_from(issue).unwrap_or(i64::MAX)).await?;
        own_effect = match event.happening.label() {
            Some(label) => publishing::is_own_label(&mut tx, repository.id, issue, label).await?,
            None => false,
        };
    }
    let facts = Facts {
        policy: &app.stages,
        permission,
        role: None,
        bots: &BTreeSet::new(),
        own_effect,
        repository: RepositoryStanding::Enabled,
        default_branch: repository.default_branch.as_deref(),
        record: Record { under_way: run_under_way.as_ref().map(Run::reference), ..Record::default() },
        admission: Admission::default(),
    };
    let decided = decide(event, &facts);
    commit(app, delivery, Some(repository), Some(event), &decided, Some(tx)).await
}

/// One transaction: decision, event, and what follows from it.
async fn commit(
    app: &App,
    delivery: &Undecided,
    repository: Option<&Repository>,
    event: Option<&Event>,
    decided: &Decided,
    tx: Option<sqlx::Transaction<'static, sqlx::Postgres>>,
) -> Result<(), Unsettled> {
    let mut tx = match tx {
        Some(tx) => tx,
        None => app.db.begin().await?,
    };
    if !mark_decided(&mut tx, delivery.id, app.clock.now()).await? {
        return Ok(());
    }
    let subject = match event.and_then(|e| e.action.as_deref()) {
        Some(action) => format!("{}.{action}", short(&delivery.event)),
        None => short(&delivery.event),
    };
    let actor = event.and_then(|e| e.actor.as_ref()).map(|a| a.login.clone());
    let id: DecisionId = app.ids.next();
    store::insert(
        &mut tx,
        &store::NewDecision {
            id,
            delivery: Some(delivery.id),
            project: repository.map(|r| r.project),
            repository: repository.map(|r| r.id),
            issue: event.and_then(|e| e.happening.number()),
            channel: "webhook",
            actor: actor.as_deref(),
            subject: &subject,
            decided,
            now: app.clock.now(),
        },
    )
    .await?;
    audit::record(
        &mut tx,
        &*app.clock,
        &app.ids,
        audit::Entry {
            project: repository.map(|r| r.project),
            actor: actor.as_deref().unwrap_or("unknown"),
            action: &format!("decision.{}", decided.kind()),
            subject: format!("decision:{id}"),
            detail: json!({ "delivery": delivery.id, "guid": delivery.guid, "event": subject, "reason": decided.reason.code(), "rule": decided.rule }),
            trace_id: Some(&delivery.trace_id),
        },
    )
    .await?;
    if let Some(repository) = repository {
        match &decided.decision {
            Decision::Start(start) => {
                if let Some(definition) = app.stages.get(&start.stage) {
                    let new = NewRun {
                        repository,
                        start,
                        definition,
                        language: &app.stages.language,
                        decision: id,
                        actor: actor.as_deref().unwrap_or("unknown"),
                        issue: issue_snapshot(&delivery.body),
                        trace_id: &delivery.trace_id,
                        received_at: delivery.received_at,
                        continues: None,
                        chain: 0,
                    };
                    runs::start(&mut tx, app, &new).await?;
                }
            }
            Decision::Reject { on, label, need: _ } => {
                let number = event.and_then(|e| e.happening.number());
                publishing::say_rejection(
                    &mut tx,
                    app,
                    repository,
                    id,
                    decided,
                    *on,
                    number.zip(label.as_deref()),
                    &delivery.trace_id,
                )
                .await?;
            }
            Decision::Preview { .. }
            | Decision::Approve { .. }
            | Decision::WithdrawApproval { .. }
            | Decision::RecordEnd { .. }
            | Decision::EndDiscussion { .. }
            | Decision::KeepLabels { .. }
            | Decision::NoteParameter { .. }
            | Decision::Answer { .. }
            | Decision::NoteRepository { .. }
            | Decision::RefreshPolicy
            | Decision::Ignore
            | Decision::Cancel { .. }
            | Decision::Release => {}
        }
    }
    steps::commit(tx, Step::DeliveryDecided).await?;
    metrics::counter!("callboard_decisions_total", "decision" => decided.kind(), "reason" => decided.reason.code()).increment(1);
    tracing::info!(
        delivery_id = %delivery.id, guid = delivery.guid, trace_id = delivery.trace_id, event = subject,
        decision = decided.kind(), reason = decided.reason.code(), "delivery decided"
    );
    Ok(())
}

/// Event names come from outside; at most 60 plain characters of them go anywhere.
fn short(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(60).collect()
}

/// A person's decision about a run by command line, recorded like any other.
pub(crate) async fn record_command(
    tx: &mut sqlx::PgConnection,
    app: &App,
    repository: &Repository,
    run: &Run,
    actor: &str,
    subject: &str,
    decided: &Decided,
) -> sqlx::Result<DecisionId> {
    let id: DecisionId = app.ids.next();
    store::insert(
        tx,
        &store::NewDecision {
            id,
            delivery: None,
            project: Some(repository.project),
            repository: Some(repository.id),
            issue: u64::try_from(run.issue_number).ok(),
            channel: "command_line",
            actor: Some(actor),
            subject,
            decided,
            now: app.clock.now(),
        },
    )
    .await?;
    audit::record(
        tx,
        &*app.clock,
        &app.ids,
        audit::Entry {
            project: Some(repository.project),
            actor,
            action: &format!("decision.{}", decided.kind()),
            subject: format!("decision:{id}"),
            detail: json!({ "command": subject, "run": run.id, "reason": decided.reason.code(), "rule": decided.rule }),
            trace_id: Some(&run.trace_id),
        },
    )
    .await?;
    metrics::counter!("callboard_decisions_total", "decision" => decided.kind(), "reason" => decided.reason.code()).increment(1);
    Ok(id)
}
