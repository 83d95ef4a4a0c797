//! Workers: enrolled by the operator for named projects; they lease for no others, and nothing while
//! they are cordoned.

mod arriving;
mod orders;

use chrono::{DateTime, Utc};
use domain::{
    ids::{Id, ProjectId, WorkerId},
    workers::{Labels, Narrowed, Standing, label, narrow},
};
use serde_json::json;
use sqlx::{PgExecutor, types::Json};
use telemetry::identity::{Identity, Subject};
use tonic::Status;
use uuid::Uuid;

pub(crate) use self::{
    arriving::{Arrival, arrive, is_sound},
    orders::order,
};
use crate::{
    App, audit, projects,
    serving::internal,
    settings::{LocalWorker, ProjectSeed},
    steps::{self, Step},
};

/// Name of the worker of `callboard up`.
const LOCAL: &str = "local";

/// A new worker.
#[derive(Debug)]
struct Enrolment<'a> {
    id: WorkerId,
    name: &'a str,
    public_key: &'a [u8],
    projects: &'a [ProjectId],
    labels: &'a Labels,
    by: &'a str,
}

async fn store(app: &App, new: &Enrolment<'_>) -> sqlx::Result<()> {
    let mut tx = app.db.begin().await?;
    // Another data_dir on the same database has another local worker; the old name moves aside.
    if new.name == LOCAL {
        sqlx::query!("select pg_advisory_xact_lock(hashtextextended('the local worker', 0))")
            .execute(&mut *tx)
            .await?;
        sqlx::query!(
            "update workers set name = name || '-' || worker_id where name = $2 and worker_id <> $1",
            new.id.uuid(),
            LOCAL
        )
        .execute(&mut *tx)
        .await?;
    }
    sqlx::query!(
        "insert into workers (worker_id, name, public_key, enrolled_by, enrolled_at, labels, heard_at)
         values ($1, $2, $3, $4, $5, $6, now())
         on conflict (worker_id) do update set public_key = excluded.public_key, last_seen_at = null,
           labels = excluded.labels, heard_at = excluded.heard_at",
        new.id.uuid(),
        new.name,
        new.public_key,
        new.by,
        app.clock.now(),
        Json(new.labels) as _,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!("delete from worker_projects where worker_id = $1", new.id.uuid()).execute(&mut *tx).await?;
    let projects: Vec<Uuid> = new.projects.iter().map(|p| p.uuid()).collect();
    sqlx::query!(
        "insert into worker_projects (worker_id, project_id) select $1, unnest($2::uuid[])",
        new.id.uuid(),
        &projects
    )
    .execute(&mut *tx)
    .await?;
    audit::record(
        &mut tx,
        &*app.clock,
        &app.ids,
        audit::Entry {
            project: None,
            actor: new.by,
            action: "worker.enrolled",
            subject: format!("worker:{}", new.id),
            detail: json!({ "name": new.name, "projects": projects, "labels": new.labels }),
            trace_id: None,
        },
    )
    .await?;
    steps::commit(tx, Step::WorkerEnrolled).await
}

/// The worker of `callboard up`: enrolled at each start for the projects of the file, with the
/// labels of the file.
pub(crate) async fn enroll_local(app: &App, local: &LocalWorker, seed: &[ProjectSeed]) -> anyhow::Result<()> {
    let LocalWorker { identity, labels } = local;
    let Subject::Worker(id) = identity.subject() else {
        anyhow::bail!("the local worker's identity is not a worker's")
    };
    let projects = projects::project_ids(app, seed).await?;
    let key = identity.public();
    store(
        app,
        &Enrolment {
            id,
            name: LOCAL,
            public_key: key.as_bytes(),
            projects: &projects,
            labels,
            by: "configuration file",
        },
    )
    .await?;
    Ok(())
}

/// `callboard worker enroll`: returns the id and the identity, which is kept nowhere.
pub(crate) async fn enroll(
    app: &App,
    name: &str,
    project_names: &[String],
    labels: &Labels,
    by: &str,
) -> Result<(WorkerId, Identity), Status> {
    if name.is_empty()
        || name.len() > 60
        || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    {
        return Err(Status::invalid_argument(
            "give the worker a name of letters, digits, - and _, at most 60",
        ));
    }
    if project_names.is_empty() {
        return Err(Status::invalid_argument("name at least one project with --project"));
    }
    for (key, value) in labels {
        label(&format!("{key}={value}")).map_err(|e| Status::invalid_argument(e.to_string()))?;
    }
    let mut ids = Vec::new();
    for project in project_names {
        let id = sqlx::query_scalar!("select project_id from projects where name = $1", project)
            .fetch_optional(&app.db)
            .await
            .map_err(|e| internal("workers.project", &e))?
            .ok_or_else(|| {
                Status::not_found(format!(
                    "there is no project `{project}`; projects come from `projects:` in callboard.yaml"
                ))
            })?;
        ids.push(ProjectId::from_uuid(id));
    }
    let id: WorkerId = app.ids.next();
    let identity = Identity::generate(Subject::Worker(id));
    let key = identity.public();
    match store(app, &Enrolment { id, name, public_key: key.as_bytes(), projects: &ids, labels, by }).await {
        Ok(()) => Ok((id, identity)),
        Err(e) if e.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation) => {
            Err(Status::already_exists(format!("there is a worker `{name}` already; choose another name")))
        }
        Err(e) => Err(internal("workers.enroll", &e)),
    }
}

/// A worker, as it stands.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    id: WorkerId,
    pub(crate) name: String,
    enrolled_at: DateTime<Utc>,
    last_seen_at: Option<DateTime<Utc>>,
    /// Its last sign of life, by the database's clock.
    pub(crate) heard_at: Option<DateTime<Utc>>,
    /// The last one is longer ago than any that lives lets pass: one that waits for a run says so
    /// every twenty seconds, one that is busy every three.
    pub(crate) is_silent: bool,
    in_cluster: bool,
    pub(crate) labels: Narrowed,
    pub(crate) is_cordoned: bool,
    is_drained: bool,
    pub(crate) projects: Vec<ProjectId>,
    project_names: Vec<String>,
    running: i64,
}

/// Every worker, by name.
pub(crate) async fn known(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Known>> {
    let rows = sqlx::query!(
        r#"select w.worker_id, w.name, w.enrolled_at, w.last_seen_at, w.heard_at, w.is_cluster,
                  coalesce(w.heard_at < now() - interval '2 minutes', true) as "is_silent!",
                  w.labels as "labels: Json<Labels>", w.declared_labels as "declared_labels: Json<Labels>",
                  w.cordoned_at is not null as "is_cordoned!", w.drained_at is not null as "is_drained!",
                  coalesce(array_agg(p.project_id order by p.name) filter (where p.name is not null), '{}') as "projects!: Vec<Uuid>",
                  coalesce(array_agg(p.name order by p.name) filter (where p.name is not null), '{}') as "project_names!: Vec<String>",
                  (select count(*) from attempts a where a.worker_id = w.worker_id
                     and a.state in ('leased', 'preparing', 'running')) as "running!"
           from workers w left join worker_projects wp using (worker_id) left join projects p using (project_id)
           group by w.worker_id order by w.name"#
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Known {
            id: WorkerId::from_uuid(row.worker_id),
            name: row.name,
            enrolled_at: row.enrolled_at,
            last_seen_at: row.last_seen_at,
            heard_at: row.heard_at,
            is_silent: row.is_silent,
            in_cluster: row.is_cluster,
            labels: narrow(&row.labels, &row.declared_labels.map(|Json(labels)| labels).unwrap_or_default()),
            is_cordoned: row.is_cordoned,
            is_drained: row.is_drained,
            projects: row.projects.into_iter().map(ProjectId::from_uuid).collect(),
            project_names: row.project_names,
            running: row.running,
        })
        .collect())
}

/// Every worker with what it may do, how it stands, and when it was last here.
pub(crate) async fn list(app: &App) -> sqlx::Result<Vec<proto::admin::Worker>> {
    let view = |worker: Known| proto::admin::Worker {
        id: worker.id.to_string(),
        name: worker.name,
        projects: worker.project_names,
        enrolled_at: worker.enrolled_at.to_rfc3339(),
        last_seen_at: worker.last_seen_at.map(|t| t.to_rfc3339()).unwrap_or_default(),
        running: u32::try_from(worker.running).unwrap_or(u32::MAX),
        state: Standing::of(worker.is_cordoned, worker.is_drained, worker.running).as_str().to_owned(),
        labels: worker.labels.labels,
        ignored_labels: worker.labels.ignored,
        cluster: worker.in_cluster,
    };
    Ok(known(&app.db).await?.into_iter().map(view).collect())
}
