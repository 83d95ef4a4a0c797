//! SQL of projects and repositories.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use domain::{
    ids::{Id, ProjectId, RepositoryId, SecretId},
    names::{ProjectName, RepositoryName},
    rights::ProjectRole,
    stage::{Ceilings, Pod, PodCeilings},
};
use sqlx::{PgConnection, PgExecutor, types::Json};
use uuid::Uuid;

use crate::{App, settings::ProjectSeed};

/// What runs of an archived repository say.
pub(crate) const ARCHIVED: &str =
    "The repository is archived. Take it out of the archive, and what waits goes on.";

/// What is said when it takes changes again.
pub(crate) const TAKEN_OUT: &str = "The repository was taken out of the archive: what waited goes on.";

/// What is said about a repository that is not there any more.
pub(crate) const GONE: &str = "The repository was transferred or deleted.";

/// A repository of a project.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    pub(crate) id: RepositoryId,
    pub(crate) project: ProjectId,
    /// Its name at the code host, as far as it told us.
    pub(crate) name: RepositoryName,
    pub(crate) source: String,
    pub(crate) default_branch: Option<String>,
    pub(crate) enabled: bool,
    /// It takes no changes any more.
    pub(crate) archived: bool,
    /// It was transferred or deleted.
    pub(crate) gone: bool,
    /// Its number at the code host, which outlives names.
    pub(crate) forge_id: Option<i64>,
    /// It has a webhook of its own; otherwise its deliveries come by the App's.
    pub(crate) own_hook: bool,
    /// The App's installation that covers it, as far as it was told.
    pub(crate) installation: Option<i64>,
    /// Why the code host does not let us at it, a sentence.
    pub(crate) no_access: Option<String>,
}

struct Row {
    repository_id: Uuid,
    project_id: Uuid,
    full_name: String,
    source: String,
    default_branch: Option<String>,
    enabled: bool,
    archived: bool,
    gone: bool,
    forge_id: Option<i64>,
    own_hook: bool,
    installation: Option<i64>,
    no_access: Option<String>,
}

/// A row that does not read as what it is: which one, and why.
pub(crate) fn damaged(table: &str, id: Uuid, error: &dyn std::fmt::Display) -> sqlx::Error {
    sqlx::Error::Decode(format!("{table} {id}: {error}").into())
}

impl TryFrom<Row> for Repository {
    type Error = sqlx::Error;
    fn try_from(row: Row) -> sqlx::Result<Self> {
        Ok(Self {
            id: RepositoryId::from_uuid(row.repository_id),
            project: ProjectId::from_uuid(row.project_id),
            name: row.full_name.parse().map_err(|e| damaged("repositories", row.repository_id, &e))?,
            source: row.source,
            default_branch: row.default_branch,
            enabled: row.enabled,
            archived: row.archived,
            gone: row.gone,
            forge_id: row.forge_id,
            own_hook: row.own_hook,
            installation: row.installation,
            no_access: row.no_access,
        })
    }
}

/// The repository behind a webhook address of its own.
pub(crate) async fn by_source(db: impl PgExecutor<'_>, source: &str) -> sqlx::Result<Option<Repository>> {
    sqlx::query_as!(
        Row,
        r#"select repository_id, project_id, full_name, source, default_branch, enabled, archived_at is not null as "archived!",
                  gone_at is not null as "gone!", forge_id,
                  own_hook, installation_id as installation, no_access_why as no_access from repositories where source = $1 and own_hook"#,
        source
    )
    .fetch_optional(db)
    .await?
    .map(Repository::try_from)
    .transpose()
}

/// A repository by its id.
pub(crate) async fn by_id(db: impl PgExecutor<'_>, id: RepositoryId) -> sqlx::Result<Repository> {
    sqlx::query_as!(
        Row,
        r#"select repository_id, project_id, full_name, source, default_branch, enabled, archived_at is not null as "archived!",
                  gone_at is not null as "gone!", forge_id,
                  own_hook, installation_id as installation, no_access_why as no_access from repositories where repository_id = $1"#,
        id.uuid()
    )
    .fetch_one(db)
    .await?
    .try_into()
}

/// A repository by its name.
pub(crate) async fn by_name(
    db: impl PgExecutor<'_>,
    name: &RepositoryName,
) -> sqlx::Result<Option<Repository>> {
    sqlx::query_as!(
        Row,
        r#"select repository_id, project_id, full_name, source, default_branch, enabled, archived_at is not null as "archived!",
                  gone_at is not null as "gone!", forge_id,
                  own_hook, installation_id as installation, no_access_why as no_access from repositories where full_name_key = $1"#,
        name.key()
    )
    .fetch_optional(db)
    .await?
    .map(Repository::try_from)
    .transpose()
}

/// The enabled repository with that number at the code host; one whose number was not told yet
/// is known by its name, or by the one it had before what the event tells.
pub(crate) async fn by_number_or_name(
    db: impl PgExecutor<'_>,
    number: Option<i64>,
    names: &[String],
) -> sqlx::Result<Option<Repository>> {
    sqlx::query_as!(
        Row,
        r#"select repository_id, project_id, full_name, source, default_branch, enabled, archived_at is not null as "archived!",
                  gone_at is not null as "gone!", forge_id,
                  own_hook, installation_id as installation, no_access_why as no_access from repositories
           where enabled and (forge_id = $1 or (forge_id is null or $1::bigint is null) and full_name_key = any($2))
           order by forge_id = $1 desc nulls last limit 1"#,
        number,
        names
    )
    .fetch_optional(db)
    .await?
    .map(Repository::try_from)
    .transpose()
}

/// Every enabled repository.
pub(crate) async fn enabled(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Repository>> {
    sqlx::query_as!(
        Row,
        r#"select repository_id, project_id, full_name, source, default_branch, enabled, archived_at is not null as "archived!",
                  gone_at is not null as "gone!", forge_id,
                  own_hook, installation_id as installation, no_access_why as no_access from repositories where enabled order by full_name_key"#
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(Repository::try_from)
    .collect()
}

/// What the configuration says about a project's events.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProjectRules {
    /// What its own files can only narrow.
    pub(crate) ceilings: Ceilings,
    /// What its stages ask of a cluster that do not say it themselves.
    pub(crate) pods: Pod,
    /// Bots that may ask like people, in lower case.
    pub(crate) bots: BTreeSet<String>,
}

/// The rules of a project.
pub(crate) async fn rules(db: impl PgExecutor<'_>, project: ProjectId) -> sqlx::Result<ProjectRules> {
    let row = sqlx::query!(
        r#"select ceilings as "ceilings: Json<Ceilings>", pods as "pods: Json<Pod>",
                  pod_ceilings as "pod_ceilings: Json<PodCeilings>", bots
           from projects where project_id = $1"#,
        project.uuid()
    )
    .fetch_one(db)
    .await?;
    Ok(ProjectRules {
        ceilings: Ceilings { pods: row.pod_ceilings.0, ..row.ceilings.0 },
        pods: row.pods.0,
        bots: row.bots.into_iter().collect(),
    })
}

/// A person's role in a project.
pub(crate) async fn role(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    login: &str,
) -> sqlx::Result<Option<ProjectRole>> {
    let role = sqlx::query_scalar!(
        "select role from members where project_id = $1 and login_key = $2",
        project.uuid(),
        login.to_lowercase()
    )
    .fetch_optional(db)
    .await?;
    role.map(|role| serde_json::from_value(role.into()).map_err(|e| damaged("members", project.uuid(), &e)))
        .transpose()
}

/// Adds a project or finds it.
pub(crate) async fn upsert_project(
    tx: &mut PgConnection,
    app: &App,
    project: &ProjectSeed,
) -> sqlx::Result<ProjectId> {
    let name: &ProjectName = &project.name;
    let bots: Vec<String> = project.bots.iter().map(|login| login.to_lowercase()).collect();
    let id = sqlx::query_scalar!(
        "insert into projects (project_id, name, managed, created_at, ceilings, bots, pods, pod_ceilings)
         values ($1, $2, 'file', $3, $4, $5, $6, $7)
         on conflict (name) do update set managed = 'file', ceilings = excluded.ceilings, bots = excluded.bots,
                                          pods = excluded.pods, pod_ceilings = excluded.pod_ceilings
         returning project_id",
        app.ids.next::<ProjectId>().uuid(),
        name.as_str(),
        app.clock.now(),
        Json(&project.ceilings) as _,
        &bots,
        Json(&project.pods) as _,
        Json(&project.ceilings.pods) as _,
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
    pub(crate) own_hook: bool,
    pub(crate) default_branch: Option<&'a str>,
    pub(crate) current_secret: SecretId,
    pub(crate) previous_secret: Option<SecretId>,
    pub(crate) now: DateTime<Utc>,
}

/// Adds or updates a repository; returns its id. One that was renamed at the code host is found
/// under the name the configuration still has.
pub(crate) async fn upsert_repository(tx: &mut PgConnection, new: &NewRepository<'_>) -> sqlx::Result<Uuid> {
    let key = new.name.key();
    let renamed = sqlx::query_scalar!(
        "update repositories set project_id = $2, source = $3, default_branch = $4, current_secret_id = $5,
                previous_secret_id = $6, managed = 'file', enabled = true, own_hook = $7,
                enabled_since = case when enabled then enabled_since else $8 end
         where renamed_from = $1 returning repository_id",
        key,
        new.project.uuid(),
        new.source,
        new.default_branch,
        new.current_secret.uuid(),
        new.previous_secret.map(Id::uuid),
        new.own_hook,
        new.now,
    )
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(id) = renamed {
        return Ok(id);
    }
    // A source that moves to another repository must not clash with the row it leaves.
    sqlx::query!(
        "update repositories set source = source || ' (was)' || repository_id, enabled = false
         where source = $1 and full_name_key <> $2",
        new.source,
        key
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query_scalar!(
        "insert into repositories (repository_id, project_id, full_name, full_name_key, source, default_branch,
                                   current_secret_id, previous_secret_id, managed, created_at, own_hook)
         values ($1, $2, $3, $4, $5, $6, $7, $8, 'file', $9, $10)
         on conflict (full_name_key) do update set project_id = excluded.project_id, full_name = excluded.full_name,
             source = excluded.source, default_branch = excluded.default_branch,
             current_secret_id = excluded.current_secret_id, previous_secret_id = excluded.previous_secret_id,
             managed = 'file', enabled = true, renamed_from = null, own_hook = excluded.own_hook,
             enabled_since = case when repositories.enabled then repositories.enabled_since else excluded.created_at end
         returning repository_id",
        new.id.uuid(),
        new.project.uuid(),
        new.name.to_string(),
        key,
        new.source,
        new.default_branch,
        new.current_secret.uuid(),
        new.previous_secret.map(Id::uuid),
        new.now,
        new.own_hook,
    )
    .fetch_one(tx)
    .await
}

/// Takes note of the installation the App's first delivery about a repository names.
pub(crate) async fn note_installation(tx: &mut PgConnection, repository: &Repository) -> sqlx::Result<()> {
    sqlx::query!(
        "update repositories set installation_id = $2 where repository_id = $1 and installation_id is null and $2::bigint is not null",
        repository.id.uuid(),
        repository.installation,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What the code host said about a repository.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing<'a> {
    /// Its name now.
    pub(crate) name: Option<&'a RepositoryName>,
    pub(crate) forge_id: Option<i64>,
    pub(crate) archived: Option<bool>,
    pub(crate) gone: Option<bool>,
}

/// Takes note of it; what is `None` stays. A name that another repository has is not taken.
pub(crate) async fn note(
    tx: &mut PgConnection,
    id: RepositoryId,
    standing: &Standing<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let noted = sqlx::query!(
        "update repositories r set
             forge_id = coalesce($2, forge_id),
             archived_at = case when $3 then coalesce(archived_at, $5) when not $3 then null else archived_at end,
             gone_at = case when $4 then coalesce(gone_at, $5) when not $4 then null else gone_at end
         where repository_id = $1",
        id.uuid(),
        standing.forge_id,
        standing.archived,
        standing.gone,
        now,
    )
    .execute(&mut *tx)
    .await?;
    if noted.rows_affected() != 1 {
        return Err(sqlx::Error::RowNotFound);
    }
    let Some(name) = standing.name else { return Ok(()) };
    // The configuration knows it by its first name until somebody changes the file.
    sqlx::query!(
        "update repositories set full_name = $2, full_name_key = $3,
                renamed_from = case when coalesce(renamed_from, full_name_key) = $3 then null else coalesce(renamed_from, full_name_key) end
         where repository_id = $1 and not exists (select from repositories o where o.full_name_key = $3 and o.repository_id <> $1)",
        id.uuid(),
        name.to_string(),
        name.key(),
    )
    .execute(&mut *tx)
    .await?;
    Ok(())
}
