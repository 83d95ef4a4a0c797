//! SQL of repositories that are set up.

use chrono::{DateTime, Utc};
use domain::{
    ids::{Id, ProjectId, RepositoryId, SecretId},
    names::RepositoryName,
};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{
    projects::store::{Repository, by_name, damaged},
    steps::{Step, around},
};

/// Who says what a repository is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Managed {
    /// The configuration file, at every start.
    File,
    /// `callboard repo`.
    Command,
}

/// A repository and its webhook as we have them.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) repository: Repository,
    pub(super) managed: Managed,
    /// Absent only in a plan: none was made yet.
    pub(super) current_secret: Option<Uuid>,
    pub(super) previous_secret: Option<Uuid>,
    /// The webhook at the code host that is ours.
    pub(super) hook: Option<u64>,
    /// The secret it was given last, by us.
    pub(super) hook_secret: Option<Uuid>,
    /// Since when both secrets are good.
    pub(super) rotated_at: Option<DateTime<Utc>>,
}

impl Record {
    /// True when the webhook has another secret than ours, or may have.
    pub(super) fn owes_secret(&self) -> bool {
        self.managed == Managed::Command
            && (self.hook_secret.is_none() || self.hook_secret != self.current_secret)
    }
}

/// Nobody else adds, rotates or applies a file meanwhile.
pub(super) async fn lock(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('callboard projects'))").fetch_one(tx).await?;
    Ok(())
}

/// The repository of that name, also one that is switched off.
pub(super) async fn get(db: &mut PgConnection, name: &RepositoryName) -> sqlx::Result<Option<Record>> {
    let Some(repository) = by_name(&mut *db, name).await? else { return Ok(None) };
    let row = sqlx::query!(
        "select managed, current_secret_id, previous_secret_id, hook_id, hook_secret_id, secret_rotated_at
         from repositories where repository_id = $1",
        repository.id.uuid()
    )
    .fetch_one(db)
    .await?;
    let managed = match row.managed.as_str() {
        "file" => Managed::File,
        "command" => Managed::Command,
        other => return Err(damaged("repositories", repository.id.uuid(), &format!("managed by {other}"))),
    };
    Ok(Some(Record {
        repository,
        managed,
        current_secret: Some(row.current_secret_id),
        previous_secret: row.previous_secret_id,
        hook: row.hook_id.and_then(|id| u64::try_from(id).ok()),
        hook_secret: row.hook_secret_id,
        rotated_at: row.secret_rotated_at,
    }))
}

/// Every project: id and name.
pub(super) async fn projects(db: &mut PgConnection) -> sqlx::Result<Vec<(ProjectId, String)>> {
    let rows = sqlx::query!("select project_id, name from projects order by name").fetch_all(db).await?;
    Ok(rows.into_iter().map(|r| (ProjectId::from_uuid(r.project_id), r.name)).collect())
}

/// Which other repository has this source.
pub(super) async fn holder_of_source(
    db: &mut PgConnection,
    source: &str,
    name: &RepositoryName,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "select full_name from repositories where source = $1 and full_name_key <> $2",
        source,
        name.key()
    )
    .fetch_optional(db)
    .await
}

/// A repository as a command has it.
#[derive(Debug)]
pub(super) struct New<'a> {
    pub(super) id: RepositoryId,
    pub(super) project: ProjectId,
    pub(super) name: &'a RepositoryName,
    pub(super) source: &'a str,
    pub(super) secret: SecretId,
    /// False: its deliveries come by the App's webhook.
    pub(super) own_hook: bool,
    /// Its number at the code host.
    pub(super) forge_id: Option<i64>,
    pub(super) now: DateTime<Utc>,
}

/// Adds a repository, or switches one on again that was off.
pub(super) async fn add(tx: &mut PgConnection, new: &New<'_>) -> sqlx::Result<()> {
    let added = sqlx::query!(
        "insert into repositories (repository_id, project_id, full_name, full_name_key, source, current_secret_id, managed, created_at, own_hook, forge_id)
         values ($1, $2, $3, $4, $5, $6, 'command', $7, $8, $9)
         on conflict (full_name_key) do update set project_id = excluded.project_id, full_name = excluded.full_name,
             source = excluded.source, current_secret_id = excluded.current_secret_id, previous_secret_id = null,
             hook_secret_id = null, secret_rotated_at = null, managed = 'command', enabled = true,
             enabled_since = $7, archived_at = null, gone_at = null, renamed_from = null,
             own_hook = excluded.own_hook, forge_id = excluded.forge_id
         where not repositories.enabled",
        new.id.uuid(),
        new.project.uuid(),
        new.name.to_string(),
        new.name.key(),
        new.source,
        new.secret.uuid(),
        new.now,
        new.own_hook,
        new.forge_id,
    )
    .execute(tx)
    .await?;
    one(added.rows_affected())
}

/// The webhook has this secret now.
pub(super) async fn note_hook(
    tx: &mut PgConnection,
    id: RepositoryId,
    hook: u64,
    secret: Option<Uuid>,
) -> sqlx::Result<()> {
    let noted = sqlx::query!(
        "update repositories set hook_id = $2, hook_secret_id = $3 where repository_id = $1",
        id.uuid(),
        i64::try_from(hook).ok(),
        secret
    )
    .execute(tx)
    .await?;
    one(noted.rows_affected())
}

/// The current secret becomes the previous one. Fails when a rotation is open already.
pub(super) async fn rotate(
    tx: &mut PgConnection,
    id: RepositoryId,
    new: SecretId,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let rotated = sqlx::query!(
        "update repositories set previous_secret_id = current_secret_id, current_secret_id = $2, secret_rotated_at = $3
         where repository_id = $1 and managed = 'command' and previous_secret_id is null",
        id.uuid(),
        new.uuid(),
        now
    )
    .execute(tx)
    .await?;
    one(rotated.rows_affected())
}

/// The previous secret is good no more, and deleted. Fails when the webhook does not have the
/// current one.
pub(super) async fn end_rotation(tx: &mut PgConnection, id: RepositoryId) -> sqlx::Result<()> {
    let ended = sqlx::query!(
        "with ended as (
             update repositories r set previous_secret_id = null, secret_rotated_at = null
             from (select repository_id, previous_secret_id from repositories where repository_id = $1 for update) old
             where r.repository_id = old.repository_id and r.managed = 'command' and r.hook_secret_id = r.current_secret_id
               and old.previous_secret_id is not null
             returning old.previous_secret_id as secret_id)
         select secret_id from ended",
        id.uuid()
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(ended) = ended else { return Err(sqlx::Error::RowNotFound) };
    let deleted =
        sqlx::query!("delete from secrets where secret_id = $1", ended.secret_id).execute(tx).await?;
    one(deleted.rows_affected())
}

/// Webhooks that somebody made by hand have the new secret once a delivery was signed with it. A
/// gateway may not know for half a minute that there is a new one.
pub(super) async fn note_proven(db: &PgPool) -> sqlx::Result<()> {
    let proven = sqlx::query!(
        "update repositories r set hook_secret_id = current_secret_id
         where managed = 'command' and enabled and previous_secret_id is not null
           and hook_secret_id is distinct from current_secret_id
           and exists (select from deliveries d where d.source = r.source and d.provenance = 'webhook'
             and d.received_at > r.secret_rotated_at + interval '1 minute' and not d.headers ? $1)",
        proto::SIGNED_WITH,
    );
    around(Step::HookRecorded, proven.execute(db)).await?;
    Ok(())
}

/// Repositories whose rotation is open since before then, with the new secret at the webhook.
pub(super) async fn old_rotations(db: &PgPool, before: DateTime<Utc>) -> sqlx::Result<Vec<RepositoryName>> {
    let names = sqlx::query_scalar!(
        "select full_name from repositories where managed = 'command' and previous_secret_id is not null
            and enabled and secret_rotated_at <= $1 and hook_secret_id = current_secret_id",
        before
    )
    .fetch_all(db)
    .await?;
    Ok(names.into_iter().filter_map(|name| name.parse().ok()).collect())
}

/// Switches a repository off that a command added.
pub(super) async fn remove(tx: &mut PgConnection, id: RepositoryId) -> sqlx::Result<()> {
    let removed = sqlx::query!(
        "update repositories set enabled = false where repository_id = $1 and managed = 'command' and enabled",
        id.uuid()
    )
    .execute(tx)
    .await?;
    one(removed.rows_affected())
}

fn one(rows: u64) -> sqlx::Result<()> {
    if rows == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// The newest ping a source took, and whether the previous secret signed it.
pub(super) async fn newest_ping(db: &PgPool, source: &str) -> sqlx::Result<Option<(Uuid, bool)>> {
    let row = sqlx::query!(
        r#"select delivery_id, coalesce(headers ->> $2 = $3, false) as "previous!"
           from deliveries where source = $1 and event = 'ping' order by delivery_id desc limit 1"#,
        source,
        proto::SIGNED_WITH,
        proto::PREVIOUS_SECRET,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|r| (r.delivery_id, r.previous)))
}

/// Every secret a webhook has or had, also of repositories that are off.
pub(super) async fn secrets(db: &PgPool) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select secret_id from secrets s
         where exists (select from repositories r where s.secret_id in (r.current_secret_id, r.previous_secret_id))"
    )
    .fetch_all(db)
    .await
}

/// When a source delivered last.
pub(super) async fn last_delivery(db: &PgPool, source: &str) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!("select max(received_at) from deliveries where source = $1", source)
        .fetch_one(db)
        .await
}

/// A repository as `repo list` shows it.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) project: String,
    pub(crate) managed: String,
    pub(crate) enabled: bool,
    pub(crate) source: String,
    pub(crate) own_hook: bool,
    pub(crate) rotated_at: Option<DateTime<Utc>>,
    pub(crate) last_delivery_at: Option<DateTime<Utc>>,
}

/// Every repository, also those that are switched off.
pub(crate) async fn list(db: &PgPool) -> sqlx::Result<Vec<Listed>> {
    sqlx::query_as!(
        Listed,
        r#"select r.full_name as name, p.name as project, r.managed, r.enabled, r.source, r.own_hook,
                  case when r.managed = 'command' then r.secret_rotated_at end as rotated_at,
                  (select max(received_at) from deliveries d where d.source = r.source) as last_delivery_at
           from repositories r join projects p using (project_id) order by r.full_name_key"#
    )
    .fetch_all(db)
    .await
}
