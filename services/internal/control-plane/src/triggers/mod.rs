//! Triggers: every stored delivery gets one decision, and every decision is explained.

mod applying;
mod asked;
mod deciding;
mod installed;
mod permissions;
mod records;
mod simulating;
mod sources;
mod starting;
pub(crate) mod store;
mod told;

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use domain::{
    decision::{Decided, Decision, Event},
    ids::{DecisionId, DeliveryId},
};
use forge::ForgeError;
use futures::StreamExt;
use serde_json::json;
use telemetry::shutdown::Shutdown;

use self::{
    applying::{Case, apply},
    asked::{Question, answer, ask, completed},
    deciding::decided,
    sources::{Confirmed, Ignored, Read, confirm, read},
    told::Came,
};
pub(crate) use self::{
    deciding::standing,
    permissions::Permissions,
    simulating::{NotSimulated, simulate},
};
use crate::{
    App, audit,
    deliveries::store::{Undecided, load, mark_decided, put_off, undecided},
    installations,
    projects::{
        self,
        store::{Repository, Standing},
    },
    runs::{IssueSnapshot, Run, RunError},
    steps::{self, Step},
    wake::{Outage, Topic, news},
};

/// How often undecided deliveries are looked for without a wake-up.
const SWEEP: Duration = Duration::from_secs(2);
/// Deliveries decided at the same time; each may wait for the code host.
const AT_ONCE: usize = 8;
/// How long a decision waits for an event that may be on its way.
const MOMENT: TimeDelta = TimeDelta::seconds(1);

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
    let soon = TimeDelta::seconds(1 << tries.clamp(0, 6));
    let (wait, counts) = match &error {
        // Waiting for what the code host asked for is not a try.
        Unsettled::Forge(error) => match error.no_try() {
            Some(wait) => (TimeDelta::from_std(wait).unwrap_or(TimeDelta::minutes(1)), false),
            None => (soon, true),
        },
        Unsettled::UnknownSetter => (MOMENT, true),
        Unsettled::Run(_) | Unsettled::Database(_) => (soon, true),
    };
    let why = app.censor.censor(&error.to_string()).into_owned();
    if put_off(&app.db, id, app.clock.now() + wait, counts, &why).await.is_err() {
        // Postgres is away: do not spin. The sweep finds it again.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Why a decision could not be made yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsettled {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the code host did not tell what the decision takes: {0}")]
    Forge(ForgeError),
    #[error("it is not known yet who set a label that asks for a model or a level")]
    UnknownSetter,
}

async fn settle(app: &App, delivery: &Undecided) -> Result<(), Unsettled> {
    let (mut repository, event) = match read(app, delivery).await? {
        Read::Event(repository, event) => (repository, event),
        Read::Installation(installation, event) => {
            return installed::settle(app, delivery, &installation, &event).await;
        }
        Read::Ignored(ignored) => {
            let Ignored { repository, event, decided } = *ignored;
            return put_down(app, delivery, repository.as_ref(), event.as_ref(), &decided).await;
        }
    };
    let (reach, now) = match confirm(app, &mut repository, &event, delivery).await? {
        Confirmed::Told { reach, now } => (reach, now),
        Confirmed::Foreign(decided) => {
            return put_down(app, delivery, Some(&repository), Some(&event), &decided).await;
        }
    };
    let mut came = Came::by(app, &event, delivery);
    let event = completed(app, &repository, event, delivery.tries, came.is_fresh()).await?;
    let question = Question {
        repository: &repository,
        event: &event,
        tries: delivery.tries,
        delivery: Some(delivery.id),
    };
    let asked = ask(app, question).await?;
    came.compare(app, &repository, &event, delivery.tries).await?;
    let mut preview: Option<String> = None;
    // Read at most once; it may not be there.
    let mut issue: Option<Option<IssueSnapshot>> = None;
    loop {
        let mut tx = app.db.begin().await?;
        let (decided, record) = decided(&mut tx, app, &repository, &event, &asked, came).await?;
        if let (Decision::Preview { start }, None) = (&decided.decision, &preview) {
            // Its prompt is gathered from the code host, for which no transaction waits.
            drop(tx);
            preview = Some(simulating::preview_of(app, &repository, &asked, &decided, start, &event).await);
            continue;
        }
        if let (Decision::Start(start), None) = (&decided.decision, &issue)
            && !starting::tells_issue(&delivery.body, start.issue)
        {
            // What a run may read is fixed now, not when it is prepared.
            drop(tx);
            let read = answer(app.forge.issue(&repository.name, start.issue).await, delivery.tries)?;
            came.compare_read(app, &repository, &read, delivery.tries).await?;
            issue = Some(read.ok().map(|issue| IssueSnapshot::of(app, issue)));
            continue;
        }
        if !mark_decided(&mut tx, delivery.id, app.clock.now()).await? {
            return Ok(());
        }
        note_number(&mut tx, app, &repository, &event).await?;
        match &reach {
            Some(reach) => installations::note(&mut tx, app, &repository, reach).await?,
            None => projects::store::note_installation(&mut tx, &repository).await?,
        }
        let decision = write_down(&mut tx, app, delivery, Some(&repository), Some(&event), &decided).await?;
        let case = Case {
            app,
            repository: &repository,
            delivery,
            event: &event,
            asked: &asked,
            record: &record,
            decided: &decided,
            decision,
            actor: actor(Some(&event)).unwrap_or("unknown"),
            issue: issue.as_ref().and_then(Option::as_ref),
            preview: preview.as_deref(),
            reach: reach.as_ref(),
            now: now.as_ref(),
        };
        apply(&mut tx, &case).await?;
        return settled(tx, delivery, Some(&event), &decided).await;
    }
}

/// A delivery that is decided without looking at more.
async fn put_down(
    app: &App,
    delivery: &Undecided,
    repository: Option<&Repository>,
    event: Option<&Event>,
    decided: &Decided,
) -> Result<(), Unsettled> {
    let mut tx = app.db.begin().await?;
    if mark_decided(&mut tx, delivery.id, app.clock.now()).await? {
        write_down(&mut tx, app, delivery, repository, event, decided).await?;
        settled(tx, delivery, event, decided).await?;
    }
    Ok(())
}

/// Learns the repository's number at the code host from the first event that tells it.
async fn note_number(
    tx: &mut sqlx::PgConnection,
    app: &App,
    repository: &Repository,
    event: &Event,
) -> sqlx::Result<()> {
    let forge_id = event.repository_id.and_then(|id| i64::try_from(id).ok());
    if forge_id.is_none() || forge_id == repository.forge_id {
        return Ok(());
    }
    let standing = Standing { forge_id, ..Standing::default() };
    projects::store::note(tx, repository.id, &standing, app.clock.now()).await
}

fn actor(event: Option<&Event>) -> Option<&str> {
    event.and_then(|event| event.actor.as_ref()).map(|actor| actor.login.as_str())
}

fn subject(delivery: &Undecided, event: Option<&Event>) -> String {
    match event.and_then(|e| e.action.as_deref()) {
        Some(action) => format!("{}.{action}", short(&delivery.event)),
        None => short(&delivery.event),
    }
}

/// The decision's row and its event.
async fn write_down(
    tx: &mut sqlx::PgConnection,
    app: &App,
    delivery: &Undecided,
    repository: Option<&Repository>,
    event: Option<&Event>,
    decided: &Decided,
) -> sqlx::Result<DecisionId> {
    let (id, subject) = (app.ids.next::<DecisionId>(), subject(delivery, event));
    store::insert(
        tx,
        &store::NewDecision {
            id,
            delivery: Some(delivery.id),
            project: repository.map(|r| r.project),
            repository: repository.map(|r| r.id),
            issue: event.and_then(|e| e.happening.number()),
            label: event.and_then(|e| e.happening.label()),
            channel: "webhook",
            actor: actor(event),
            subject: &subject,
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
            project: repository.map(|r| r.project),
            actor: actor(event).unwrap_or("unknown"),
            action: &format!("decision.{}", decided.kind()),
            subject: format!("decision:{id}"),
            detail: json!({ "delivery": delivery.id, "guid": delivery.guid, "event": subject, "reason": decided.reason.code(), "rule": decided.rule }),
            trace_id: Some(&delivery.trace_id),
        },
    )
    .await?;
    Ok(id)
}

/// One transaction: decision, event, and what follows from it.
async fn settled(
    tx: sqlx::Transaction<'static, sqlx::Postgres>,
    delivery: &Undecided,
    event: Option<&Event>,
    decided: &Decided,
) -> Result<(), Unsettled> {
    steps::commit(tx, Step::DeliveryDecided).await?;
    metrics::counter!("callboard_decisions_total", "decision" => decided.kind(), "reason" => decided.reason.code()).increment(1);
    tracing::info!(
        delivery_id = %delivery.id, guid = delivery.guid, trace_id = delivery.trace_id, event = subject(delivery, event),
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
            label: None,
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
