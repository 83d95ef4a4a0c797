//! Projects, their repositories and members: owned by Postgres, seeded from the file.

mod branches;
pub(crate) mod store;

use std::collections::HashSet;

use domain::ids::{Id, ProjectId, RepositoryId};
use secrecy::ExposeSecret;
use serde_json::json;
use uuid::Uuid;

pub(crate) use self::branches::{DefaultBranches, default_head};
use crate::{
    App, audit,
    settings::ProjectSeed,
    steps::{self, Step},
};

/// Applies the configuration's projects: adds, updates, and disables what is no longer
/// there. History stays.
pub(crate) async fn apply_seed(app: &App, projects: &[ProjectSeed]) -> anyhow::Result<()> {
    let mut tx = app.db.begin().await?;
    // Two control planes that start at once apply the same file one after the other.
    sqlx::query!("select pg_advisory_xact_lock(hashtext('callboard projects'))").fetch_one(&mut *tx).await?;
    let mut kept: HashSet<Uuid> = HashSet::new();
    for project in projects {
        let project_id = store::upsert_project(&mut tx, app, project).await?;
        sqlx::query!("delete from members where project_id = $1 and managed = 'file'", project_id.uuid())
            .execute(&mut *tx)
            .await?;
        for (login, role) in &project.members {
            let role = serde_json::to_value(role)?.as_str().unwrap_or_default().to_owned();
            sqlx::query!(
                "insert into members (project_id, login_key, role, managed) values ($1, $2, $3, 'file')
                 on conflict (project_id, login_key) do update set role = excluded.role, managed = 'file'",
                project_id.uuid(),
                login.to_lowercase(),
                role,
            )
            .execute(&mut *tx)
            .await?;
        }
        for repository in &project.repositories {
            // Without a webhook of its own it has the App's secrets, and no address.
            let name = repository.name.key();
            let (source, secrets) = match (&repository.hook, &app.app_hook) {
                (Some(hook), _) => (hook.source.as_str(), &hook.secrets),
                (None, Some(secrets)) => (name.as_str(), secrets),
                (None, None) => anyhow::bail!("{name} has no webhook, and the platform is no App"),
            };
            let current = app
                .envelope
                .store(&mut tx, &*app.clock, &app.ids, secrets.current.expose_secret().as_bytes())
                .await?;
            let previous = match &secrets.previous {
                Some(secret) => Some(
                    app.envelope
                        .store(&mut tx, &*app.clock, &app.ids, secret.expose_secret().as_bytes())
                        .await?,
                ),
                None => None,
            };
            let stored = store::upsert_repository(
                &mut tx,
                &store::NewRepository {
                    id: app.ids.next::<RepositoryId>(),
                    project: project_id,
                    name: &repository.name,
                    source,
                    own_hook: repository.hook.is_some(),
                    default_branch: repository.default_branch.as_deref(),
                    current_secret: current,
                    previous_secret: previous,
                    now: app.clock.now(),
                },
            )
            .await?;
            kept.insert(stored);
        }
        audit::record(
            &mut tx,
            &*app.clock,
            &app.ids,
            audit::Entry {
                project: Some(project_id),
                actor: "configuration file",
                action: "project.applied",
                subject: format!("project:{project_id}"),
                detail: json!({
                    "name": project.name.as_str(),
                    "repositories": project.repositories.iter().map(|r| r.name.to_string()).collect::<Vec<_>>(),
                }),
                trace_id: None,
            },
        )
        .await?;
    }
    let kept: Vec<Uuid> = kept.into_iter().collect();
    sqlx::query!(
        "update repositories set enabled = false where managed = 'file' and not (repository_id = any($1))",
        &kept
    )
    .execute(&mut *tx)
    .await?;
    // Secrets that nothing points at any more are really deleted.
    sqlx::query!(
        "delete from secrets s where not exists (select from repositories r where s.secret_id in (r.current_secret_id, r.previous_secret_id))
         and not exists (select from platform_keys k where k.secret_id = s.secret_id)"
    )
    .execute(&mut *tx)
    .await?;
    Ok(steps::commit(tx, Step::ProjectsApplied).await?)
}

/// Every project by its name.
pub(crate) async fn all(app: &App) -> sqlx::Result<Vec<(String, ProjectId)>> {
    let rows = sqlx::query!("select name, project_id from projects order by name").fetch_all(&app.db).await?;
    Ok(rows.into_iter().map(|row| (row.name, ProjectId::from_uuid(row.project_id))).collect())
}

/// The projects of the configuration, also those whose repositories are still to be added, and
/// every other one with a repository that is on.
pub(crate) async fn project_ids(app: &App, seed: &[ProjectSeed]) -> sqlx::Result<Vec<ProjectId>> {
    let names: Vec<String> = seed.iter().map(|project| project.name.to_string()).collect();
    let ids = sqlx::query_scalar!(
        r#"select project_id as "id!" from projects where name = any($1)
           union select project_id from repositories where enabled"#,
        &names
    )
    .fetch_all(&app.db)
    .await?;
    Ok(ids.into_iter().map(ProjectId::from_uuid).collect())
}
