//! SQL of installations, and of whether repositories are within reach.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use domain::ids::{Id, RepositoryId};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::Reach;
use crate::projects::store::{ARCHIVED, GONE};

/// Why nothing goes on in repositories, by repository.
#[derive(Debug)]
pub(crate) struct Closed(HashMap<Uuid, String>);

impl Closed {
    /// Why nothing goes on in this one.
    pub(crate) fn why(&self, repository: RepositoryId) -> Option<&str> {
        self.0.get(&repository.uuid()).map(String::as_str)
    }

    /// What an effect in that state waits for, where it is the repository.
    pub(crate) fn waits(&self, repository: Uuid, state: &str) -> Option<String> {
        self.0.get(&repository).filter(|_| state == "pending").cloned()
    }
}

/// Every repository in which nothing goes on, and why.
pub(crate) async fn closed(db: impl PgExecutor<'_>) -> sqlx::Result<Closed> {
    let rows = sqlx::query!(
        r#"select repository_id, coalesce(case when gone_at is not null then $2 end, no_access_why, $1) as "why!"
           from repositories where no_access_since is not null or archived_at is not null or gone_at is not null"#,
        ARCHIVED,
        GONE,
    )
    .fetch_all(db)
    .await?;
    Ok(Closed(rows.into_iter().map(|row| (row.repository_id, row.why)).collect()))
}

/// Notes what the code host said; true when the repository was out of reach before.
pub(super) async fn note_reach(
    tx: &mut PgConnection,
    id: RepositoryId,
    reach: &Reach,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let was_closed = sqlx::query_scalar!(
        r#"select no_access_since is not null as "was_closed!" from repositories where repository_id = $1 for no key update"#,
        id.uuid()
    )
    .fetch_one(&mut *tx)
    .await?;
    let noted = sqlx::query!(
        "update repositories set no_access_why = $2, access_asked_at = $3, installation_id = coalesce($4, installation_id),
                no_access_since = case when $2::text is not null then coalesce(no_access_since, $3) end
         where repository_id = $1",
        id.uuid(),
        reach.closed(),
        now,
        reach.installation(),
    )
    .execute(tx)
    .await?;
    if noted.rows_affected() != 1 {
        return Err(sqlx::Error::RowNotFound);
    }
    Ok(was_closed)
}

/// Runs of the repository that are not over, those that wait behind another first.
pub(super) async fn runs_under_way(tx: &mut PgConnection, id: RepositoryId) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select run_id from runs where repository_id = $1 and state in ('queued', 'active', 'waiting')
         order by behind is null, created_at",
        id.uuid()
    )
    .fetch_all(tx)
    .await
}

/// Nothing is made in the repository any more.
pub(super) async fn drop_effects(
    tx: &mut PgConnection,
    id: RepositoryId,
    why: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update effects set state = 'skipped', last_error = $2, finished_at = $3
         where repository_id = $1 and state in ('pending', 'dead')",
        id.uuid(),
        why,
        now
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Repositories that an installation covers, by what we know and by what an event names.
pub(super) async fn covered(
    db: impl PgExecutor<'_>,
    installation: Option<i64>,
    account: Option<&str>,
    names: &[String],
) -> sqlx::Result<Vec<RepositoryId>> {
    let ids = sqlx::query_scalar!(
        "select repository_id from repositories
         where enabled and (installation_id = $1 or split_part(full_name_key, '/', 1) = $2 or full_name_key = any($3))
         order by full_name_key",
        installation,
        account,
        names,
    )
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(RepositoryId::from_uuid).collect())
}

/// Repositories out of reach, or archived, that were not asked about for so long. One that is off
/// counts while something waits to be made there.
pub(super) async fn to_ask(
    db: impl PgExecutor<'_>,
    now: DateTime<Utc>,
    every: TimeDelta,
    every_archived: TimeDelta,
) -> sqlx::Result<Vec<RepositoryId>> {
    let ids = sqlx::query_scalar!(
        "select repository_id from repositories
         where gone_at is null
           and (no_access_since is not null and coalesce(access_asked_at, no_access_since) <= $1
             or archived_at is not null and no_access_since is null and coalesce(access_asked_at, archived_at) <= $2)
           and (enabled or exists (select from effects e
             where e.repository_id = repositories.repository_id and e.state = 'pending'))
         order by coalesce(access_asked_at, no_access_since, archived_at) limit 20",
        now - every,
        now - every_archived,
    )
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(RepositoryId::from_uuid).collect())
}

/// It was asked, and there was no answer.
pub(super) async fn note_asked(
    tx: &mut PgConnection,
    id: RepositoryId,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let noted =
        sqlx::query!("update repositories set access_asked_at = $2 where repository_id = $1", id.uuid(), now)
            .execute(tx)
            .await?;
    if noted.rows_affected() != 1 {
        return Err(sqlx::Error::RowNotFound);
    }
    Ok(())
}
