//! A queued run that no worker can take says so, and fails when that lasts.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    ids::{Id, ProjectId, RunId},
    run::{FailureClass, RunState},
    workers::{Candidate, Labels, NoWorker, none_for},
};
use sqlx::types::Json;

use super::{
    ending::end,
    store::{self, Run, RunError},
};
use crate::{
    App,
    pauses::hold_off_pauses,
    publishing,
    steps::{self, Step},
    wake::Topic,
    workers,
};

/// What is to be done about a queued run.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Due {
    /// It says this from now on.
    Say(String),
    /// There is a worker again.
    Found,
    /// It waits for something else, which says so itself.
    Elsewhere,
    /// It fails with this.
    Fail(String),
}

/// Looks through the queue. That workers are silent counts once `are_heard`: it is neither said nor
/// taken back before.
pub(super) async fn look(app: &App, are_heard: bool) -> Result<(), RunError> {
    let now = app.clock.now();
    let queued = sqlx::query!(
        r#"select r.run_id, r.project_id, p.name as project, r.stage, r.no_worker, r.no_worker_since,
                  coalesce(r.definition -> 'worker_labels', '{}') as "wanted!: Json<Labels>",
                  (r.available_at <= $1 and o.enabled and o.no_access_since is null and o.archived_at is null and o.gone_at is null
                   and not exists (select from pauses s where (s.project_id is null or s.project_id = r.project_id)
                                                          and (s.stage is null or s.stage = r.stage))) as "waits_for_a_worker!"
           from runs r join projects p using (project_id) join repositories o on o.repository_id = r.repository_id
           where r.state = 'queued' and r.behind is null"#,
        now
    )
    .fetch_all(&app.db)
    .await?;
    if queued.is_empty() {
        return Ok(());
    }
    let workers = candidates(app).await?;
    for row in queued {
        let candidates =
            workers.get(&ProjectId::from_uuid(row.project_id)).map(Vec::as_slice).unwrap_or_default();
        let due = if row.waits_for_a_worker {
            let lacks = none_for(&row.wanted, candidates);
            if matches!(lacks, Some(NoWorker::Silent(_))) && !are_heard {
                continue;
            }
            let lacks = lacks.map(|why| why.sentence(&row.project, &row.stage));
            due(app, row.no_worker.as_deref(), row.no_worker_since, lacks, now)
        } else {
            // Its time does not pass; once it waits for a worker again, that begins anew.
            row.no_worker.is_some().then_some(Due::Elsewhere)
        };
        let Some(due) = due else { continue };
        // One that cannot be settled must not keep the others from it.
        if let Err(error) = settle(app, RunId::from_uuid(row.run_id), row.no_worker.as_deref(), due).await {
            tracing::warn!(run_id = %row.run_id, error = %telemetry::logging::chain(&error), "a run without a worker was not told of; trying again");
        }
    }
    Ok(())
}

fn due(
    app: &App,
    said: Option<&str>,
    since: Option<DateTime<Utc>>,
    lacks: Option<String>,
    now: DateTime<Utc>,
) -> Option<Due> {
    let minutes = app.limits.no_worker_minutes;
    let is_over = since.is_some_and(|since| since + TimeDelta::minutes(minutes.into()) <= now);
    match lacks {
        Some(why) if is_over => {
            let minutes = if minutes == 1 { "a minute".to_owned() } else { format!("{minutes} minutes") };
            Some(Due::Fail(format!("There was no worker for it for {minutes}. {why}")))
        }
        lacks if lacks.as_deref() == said => None,
        Some(why) => Some(Due::Say(why)),
        None => Some(Due::Found),
    }
}

/// The workers of each project that has some.
async fn candidates(app: &App) -> sqlx::Result<HashMap<ProjectId, Vec<Candidate>>> {
    let mut of = HashMap::<ProjectId, Vec<Candidate>>::new();
    for worker in workers::known(&app.db).await? {
        let candidate = Candidate {
            name: worker.name,
            labels: worker.labels.labels,
            is_cordoned: worker.is_cordoned,
            is_silent: worker.is_silent,
            heard_at: worker.heard_at,
        };
        for project in worker.projects {
            of.entry(project).or_default().push(candidate.clone());
        }
    }
    Ok(of)
}

async fn settle(app: &App, id: RunId, said: Option<&str>, due: Due) -> Result<(), RunError> {
    let mut tx = app.db.begin().await?;
    hold_off_pauses(&mut tx).await?;
    let run = store::lock(&mut tx, id).await?;
    // It may have been leased or cancelled meanwhile, or another control plane was faster.
    let Some(run) = run.filter(|run| run.state == RunState::Queued && run.no_worker.as_deref() == said)
    else {
        return Ok(());
    };
    let (lacks, event) = match due {
        Due::Say(why) => (Some(why.clone()), Some(why)),
        Due::Found => (None, Some("There is a worker for it.".to_owned())),
        Due::Elsewhere => (None, None),
        Due::Fail(why) => {
            end(&mut tx, app, &run, RunState::Failed(FailureClass::Infrastructure), "platform", &why).await?;
            return Ok(steps::commit(tx, Step::NoWorkerNoted).await?);
        }
    };
    let updated = sqlx::query!(
        "update runs set no_worker = $2,
                   no_worker_since = case when $2::text is not null then coalesce(no_worker_since, $3) end
                 where run_id = $1",
        id.uuid(),
        lacks,
        app.clock.now(),
    )
    .execute(&mut *tx)
    .await?;
    if updated.rows_affected() != 1 {
        return Err(RunError::Database(sqlx::Error::RowNotFound));
    }
    if let Some(text) = event {
        store::event(&mut tx, app, id, "no_worker", &text).await?;
    }
    publishing::say_status(&mut tx, app, &Run { no_worker: lacks, ..run }).await?;
    Topic::Runs.notify(&mut tx).await?;
    Ok(steps::commit(tx, Step::NoWorkerNoted).await?)
}
