//! Workers: enrolled by the operator for named projects; they lease for no others.

use std::sync::Arc;

use domain::ids::{Id, ProjectId, WorkerId};
use serde_json::json;
use telemetry::identity::{Identity, Subject};
use tonic::Status;
use uuid::Uuid;

use crate::{
    App, audit, projects,
    serving::internal,
    settings::ProjectSeed,
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
        "insert into workers (worker_id, name, public_key, enrolled_by, enrolled_at) values ($1, $2, $3, $4, $5)
         on conflict (worker_id) do update set public_key = excluded.public_key, last_seen_at = null",
        new.id.uuid(),
        new.name,
        new.public_key,
        new.by,
        app.clock.now(),
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
            detail: json!({ "name": new.name, "projects": projects }),
            trace_id: None,
        },
    )
    .await?;
    steps::commit(tx, Step::WorkerEnrolled).await
}

/// The worker of `callboard up`: enrolled at each start for the projects of the file.
pub(crate) async fn enroll_local(
    app: &App,
    identity: &Arc<Identity>,
    seed: &[ProjectSeed],
) -> anyhow::Result<()> {
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
    match store(app, &Enrolment { id, name, public_key: key.as_bytes(), projects: &ids, by }).await {
        Ok(()) => Ok((id, identity)),
        Err(e) if e.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation) => {
            Err(Status::already_exists(format!("there is a worker `{name}` already; choose another name")))
        }
        Err(e) => Err(internal("workers.enroll", &e)),
    }
}

/// Every worker with what it may do and when it was last here.
pub(crate) async fn list(app: &App) -> sqlx::Result<Vec<proto::admin::Worker>> {
    let rows = sqlx::query!(
        r#"select w.worker_id, w.name, w.enrolled_at, w.last_seen_at,
                  coalesce(array_agg(p.name order by p.name) filter (where p.name is not null), '{}') as "projects!: Vec<String>",
                  (select count(*) from attempts a where a.worker_id = w.worker_id
                     and a.state in ('leased', 'preparing', 'running')) as "running!"
           from workers w left join worker_projects wp using (worker_id) left join projects p using (project_id)
           group by w.worker_id order by w.name"#
    )
    .fetch_all(&app.db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|r| proto::admin::Worker {
            id: r.worker_id.to_string(),
            name: r.name,
            projects: r.projects,
            enrolled_at: r.enrolled_at.to_rfc3339(),
            last_seen_at: r.last_seen_at.map(|t| t.to_rfc3339()).unwrap_or_default(),
            running: u32::try_from(r.running).unwrap_or(u32::MAX),
        })
        .collect())
}
