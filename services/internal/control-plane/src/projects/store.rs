//! SQL of projects and repositories.

use chrono::{DateTime, Utc};
use domain::{
    ids::{Id, ProjectId, RepositoryId, SecretId},
    names::{ProjectName, RepositoryName},
};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::App;

/// A repository of a project.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    pub(crate) id: RepositoryId,
    pub(crate) project: ProjectId,
    pub(crate) name: RepositoryName,
    pub(crate) source: String,
    pub(crate) default_branch: Option<String>,
    pub(crate) enabled: bool,
}

/// A row that does not read as what it is: which one, and why.
fn damaged(table: &str, id: Uuid, error: &dyn std::fmt::Display) -> sqlx::Error {
    sqlx::Error::Decode(format!("{table} {id}: {error}").into())
}

macro_rules! repository {
    ($row:expr) => {{
        let row = $row;
        let name = row.full_name.parse().map_err(|e| damaged("repositories", row.repository_id, &e))?;
        Repository {
            id: RepositoryId::from_uuid(row.repository_id),
            project: ProjectId::from_uuid(row.project_id),
            name,
            source: row.source,
            default_branch: row.default_branch,
            enabled: row.enabled,
        }
    }};
}

/// The repository behind a webhook address.
pub(crate) async fn by_source(db: impl PgExecutor<'_>, source: &str) -> sqlx::Result<Option<Repository>> {
    let row = sqlx::query!(
        "select r.repository_id, r.project_id, r.full_name, r.source, r.default_branch, r.enabled from repositories r where r.source = $1",
        source
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| Ok(repository!(row))).transpose()
}

/// A repository by its id.
pub(crate) async fn by_id(db: impl PgExecutor<'_>, id: RepositoryId) -> sqlx::Result<Repository> {
    let row = sqlx::query!(
        "select r.repository_id, r.project_id, r.full_name, r.source, r.default_branch, r.enabled from repositories r where r.repository_id = $1",
        id.uuid()
    )
    .fetch_one(db)
    .await?;
    Ok(repository!(row))
}

/// Every enabled repository.
pub(crate) async fn enabled(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Repository>> {
    sqlx::query!(
        "select r.repository_id, r.project_id, r.full_name, r.source, r.default_branch, r.enabled from repositories r where r.enabled order by r.full_name_key"
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(|row| Ok(repository!(row)))
    .collect()
}

/// Adds a project or finds it.
pub(crate) async fn upsert_project(
    tx: &mut PgConnection,
    app: &App,
    name: &ProjectName,
) -> sqlx::Result<ProjectId> {
    let id = sqlx::query_scalar!(
        "insert into projects (project_id, name, managed, created_at) values ($1, $2, 'file', $3)
         on conflict (name) do update set managed = 'file' returning project_id",
        app.ids.next::<ProjectId>().uuid(),
        name.as_str(),
        app.clock.now(),
    )
    .fetch_one(tx)
    .await?;
    Ok(ProjectId::from_uuid(id))
}

/// A repository as the configuration has it.
#[derive(Debug)]
pub(crate) struct NewRepository<'a> {
    pub(crate) id: RepositoryId,
    pub(crate) project: ProjectId,
    pub(crate) name: &'a RepositoryName,
    pub(crate) source: &'a str,
    pub(crate) default_branch: Option<&'a str>,
    pub(crate) current_secret: SecretId,
    pub(crate) previous_secret: Option<SecretId>,
    pub(crate) now: DateTime<Utc>,
}

/// Adds or updates a repository; returns its id.
pub(crate) async fn upsert_repository(tx: &mut PgConnection, new: &NewRepository<'_>) -> sqlx::Result<Uuid> {
    // A source that moves to another repository must not clash with the row it leaves.
    sqlx::query!(
        "update repositories set source = source || ' (was)' || repository_id, enabled = false
         where source = $1 and full_name_key <> $2",
        new.source,
        new.name.key()
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query_scalar!(
        "insert into repositories (repository_id, project_id, full_name, full_name_key, source, default_branch,
                                   current_secret_id, previous_secret_id, managed, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, 'file', $9)
         on conflict (full_name_key) do update set project_id = excluded.project_id, full_name = excluded.full_name,
             source = excluded.source, default_branch = excluded.default_branch,
             current_secret_id = excluded.current_secret_id, previous_secret_id = excluded.previous_secret_id,
             managed = 'file', enabled = true
         returning repository_id",
        new.id.uuid(),
        new.project.uuid(),
        new.name.to_string(),
        new.name.key(),
        new.source,
        new.default_branch,
        new.current_secret.uuid(),
        new.previous_secret.map(Id::uuid),
        new.now,
    )
    .fetch_one(tx)
    .await
}
