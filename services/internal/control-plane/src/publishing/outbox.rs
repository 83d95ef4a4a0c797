//! The outbox as a person sees it, and what a person does about effects that were given up.

use chrono::{DateTime, Utc};
use domain::{
    ids::{EffectId, Id, ProjectId, RunId},
    outbox::{EffectState, Facts, Order, Reach, Refusal, decide},
    rights::Principal,
    run::{FailureClass, PublicationState, RunState},
};
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{Effect, drop_pending, move_publication, publication, say_status};
use crate::{
    App, audit, installations,
    runs::{self, Run, RunError},
    steps::{self, Step},
    wake::Topic,
};

/// Effects shown at most.
const MOST: i64 = 200;

/// Which effects are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Dead,
    Pending,
    All,
}

/// An effect in the list.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) effect_id: Uuid,
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) repository: String,
    pub(crate) repository_id: Uuid,
    pub(crate) number: Option<i64>,
    pub(crate) run_id: Option<Uuid>,
    pub(crate) tries: i32,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) tried_at: Option<DateTime<Utc>>,
    pub(crate) available_at: DateTime<Utc>,
    pub(crate) last_error: Option<String>,
    pub(crate) result_url: Option<String>,
}

/// Effects, newest first. One that waits for its repository says so.
pub(crate) async fn list(db: &PgPool, wanted: Wanted) -> sqlx::Result<Vec<Listed>> {
    let state = match wanted {
        Wanted::Dead => Some("dead"),
        Wanted::Pending => Some("pending"),
        Wanted::All => None,
    };
    let closed = installations::closed(db).await?;
    let mut listed = sqlx::query_as!(
        Listed,
        r#"select e.effect_id, e.kind, e.state, o.full_name as repository, e.repository_id,
                  coalesce(r.issue_number, (e.payload ->> 'number')::bigint) as number, e.run_id,
                  e.tries, e.created_at, e.tried_at, e.available_at, e.last_error, e.result_url
           from effects e join repositories o using (repository_id) left join runs r using (run_id)
           where $1::text is null or e.state = $1 order by e.ordinal desc limit $2"#,
        state,
        MOST
    )
    .fetch_all(db)
    .await?;
    for effect in &mut listed {
        if let Some(why) = closed.waits(effect.repository_id, &effect.state) {
            effect.last_error = Some(why);
        }
    }
    Ok(listed)
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboxError {
    #[error("there is no effect {0}; `callboard outbox list --all` shows the newest")]
    NoSuchEffect(EffectId),
    #[error("{} {}", .0.rule, .0.remedy)]
    Refused(Refusal),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// An effect that an order is about.
struct Subject {
    id: EffectId,
    kind: String,
    last_error: String,
    project: ProjectId,
    trace_id: String,
}

/// What was done, in a sentence, and the run it was done to.
#[derive(Debug)]
pub(crate) struct Obeyed {
    pub(crate) run: Option<RunId>,
    pub(crate) message: String,
}

/// Carries out a person's order, with the audit row that says whose it was.
pub(crate) async fn obey(
    app: &App,
    principal: &Principal,
    order: Order,
    id: EffectId,
) -> Result<Obeyed, OutboxError> {
    let mut tx = app.db.begin().await?;
    let run_id = sqlx::query_scalar!("select run_id from effects where effect_id = $1", id.uuid())
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(OutboxError::NoSuchEffect(id))?;
    // The run is locked first, as everywhere.
    let run = match run_id {
        Some(run) => runs::lock(&mut tx, RunId::from_uuid(run)).await?,
        None => None,
    };
    let row = sqlx::query!(
        r#"select e.kind, e.state, coalesce(e.last_error, '') as "last_error!", e.trace_id, o.project_id
           from effects e join repositories o using (repository_id) where e.effect_id = $1 for update of e"#,
        id.uuid()
    )
    .fetch_one(&mut *tx)
    .await?;
    let state = EffectState::parse(&row.state).ok_or_else(|| RunError::Damaged {
        table: "effects",
        id: id.uuid(),
        problem: format!("state {} is not one", row.state),
    })?;
    let publication = match &run {
        Some(run) => publication(&mut *tx, run.id).await?,
        None => None,
    };
    let facts = Facts {
        state,
        publishes: Effect::OF_RESULTS.contains(&row.kind.as_str()),
        run: run.as_ref().map(|run| run.state),
        publication: publication.map(|p| p.state),
    };
    let reach = decide(principal, order, &facts).map_err(OutboxError::Refused)?;
    let subject = Subject {
        id,
        kind: row.kind.replace('_', " "),
        last_error: row.last_error,
        project: ProjectId::from_uuid(row.project_id),
        trace_id: row.trace_id,
    };
    let waiting = match reach {
        Reach::Run => run.as_ref(),
        Reach::Effect => None,
    };
    let (who, step) = (
        principal.name(),
        match order {
            Order::Retry => Step::EffectRetried,
            Order::Drop => Step::EffectDropped,
        },
    );
    let message = match order {
        Order::Retry => retry(&mut tx, app, &subject, waiting, &who).await?,
        Order::Drop => forget(&mut tx, app, &subject, waiting, &who).await?,
    };
    steps::commit(tx, step).await?;
    tracing::info!(effect_id = %id, order = ?order, actor = who, "outbox");
    Ok(Obeyed { run: run.map(|run| run.id), message })
}

async fn retry(
    tx: &mut PgConnection,
    app: &App,
    subject: &Subject,
    waiting: Option<&Run>,
    who: &str,
) -> Result<String, RunError> {
    // What an earlier call may have done is still not known: `tried_at` stays, and lists lag.
    let updated = sqlx::query!(
        "update effects set state = 'pending', tries = 0, finished_at = null,
                available_at = greatest($2, tried_at + make_interval(secs => $3))
         where effect_id = $1 and state = 'dead'",
        subject.id.uuid(),
        app.clock.now(),
        app.forge.list_lag().as_secs_f64(),
    )
    .execute(&mut *tx)
    .await?;
    one(&updated, subject)?;
    record(tx, app, subject, "effect.retried", who).await?;
    Topic::Effects.notify(tx).await?;
    let message = format!("The {} is tried again, asked for by {who}.", subject.kind);
    if let Some(run) = waiting {
        let run = runs::move_run(tx, app, run, RunState::Active, who, &message).await?;
        say_status(tx, app, &run).await?;
    }
    Ok(message)
}

async fn forget(
    tx: &mut PgConnection,
    app: &App,
    subject: &Subject,
    waiting: Option<&Run>,
    who: &str,
) -> Result<String, RunError> {
    let updated = sqlx::query!(
        "update effects set state = 'skipped', last_error = $2, finished_at = $3
         where effect_id = $1 and state = 'dead'",
        subject.id.uuid(),
        format!("dropped by {who}: {}", subject.last_error),
        app.clock.now(),
    )
    .execute(&mut *tx)
    .await?;
    one(&updated, subject)?;
    record(tx, app, subject, "effect.dropped", who).await?;
    Topic::Effects.notify(tx).await?;
    let Some(run) = waiting else { return Ok(format!("The {} was dropped by {who}.", subject.kind)) };
    drop_pending(tx, app, run.id).await?;
    if publication(&mut *tx, run.id).await?.is_some() {
        move_publication(tx, app, run, PublicationState::Publishing, PublicationState::Refused).await?;
    }
    let message = format!(
        "The result was not published: the {} failed ({}), and {who} dropped it.",
        subject.kind, subject.last_error
    );
    let failed = RunState::Failed(FailureClass::Infrastructure);
    let run = runs::move_run(tx, app, run, failed, who, &message).await?;
    say_status(tx, app, &run).await?;
    Ok(message)
}

fn one(result: &sqlx::postgres::PgQueryResult, subject: &Subject) -> Result<(), RunError> {
    if result.rows_affected() == 1 {
        return Ok(());
    }
    let problem = "changed although it was locked".to_owned();
    Err(RunError::Damaged { table: "effects", id: subject.id.uuid(), problem })
}

async fn record(
    tx: &mut PgConnection,
    app: &App,
    subject: &Subject,
    action: &str,
    who: &str,
) -> sqlx::Result<()> {
    let entry = audit::Entry {
        project: Some(subject.project),
        actor: who,
        action,
        subject: format!("effect:{}", subject.id),
        detail: json!({ "kind": subject.kind, "error": subject.last_error }),
        trace_id: Some(&subject.trace_id),
    };
    audit::record(tx, &*app.clock, &app.ids, entry).await
}
