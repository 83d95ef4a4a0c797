//! SQL of retention. Each deletes one bounded batch and says how much it was.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use super::Kind;
use crate::objects::Objects;

/// Bodies and headers of deliveries that were decided on before the cutoff.
pub(super) async fn deliveries(
    tx: &mut PgConnection,
    cutoff: DateTime<Utc>,
    now: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "update deliveries set body = '', headers = '{}', body_deleted_at = $2
         where delivery_id in (select delivery_id from deliveries where decided_at < $1 and body_deleted_at is null
                               order by decided_at limit 200)",
        cutoff,
        now
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// Transcripts of runs that were over before the cutoff.
pub(super) async fn transcripts(
    tx: &mut PgConnection,
    cutoff: DateTime<Utc>,
    now: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let old = sqlx::query!(
        "with old as (select a.attempt_id, a.transcript_key from attempts a join runs r using (run_id)
                      where r.finished_at < $1 and a.transcript_deleted_at is null and a.output_bytes > 0
                      order by r.finished_at limit 20 for update of a),
              chunks as (delete from transcript_chunks c using old where c.attempt_id = old.attempt_id)
         update attempts a set transcript_deleted_at = $2, transcript_key = null
         from old where a.attempt_id = old.attempt_id returning old.transcript_key",
        cutoff,
        now
    )
    .fetch_all(&mut *tx)
    .await?;
    let count = old.len() as u64;
    Objects::let_go(tx, old.into_iter().map(|row| row.transcript_key), now).await?;
    Ok(count)
}

/// Changesets and sessions of runs that were over before the cutoff; their objects follow.
pub(super) async fn changesets(
    tx: &mut PgConnection,
    cutoff: DateTime<Utc>,
    now: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let old = sqlx::query!(
        "with old as (select a.attempt_id, a.changeset_key, a.session_key from attempts a join runs r using (run_id)
                      where r.finished_at < $1 and (a.changeset_key is not null or a.session_key is not null)
                      order by r.finished_at limit 200 for update of a)
         update attempts a set changeset_key = null, session_key = null, result_deleted_at = $2
         from old where a.attempt_id = old.attempt_id returning old.changeset_key, old.session_key",
        cutoff,
        now
    )
    .fetch_all(&mut *tx)
    .await?;
    let count = old.len() as u64;
    Objects::let_go(tx, old.into_iter().flat_map(|row| [row.changeset_key, row.session_key]), now).await?;
    Ok(count)
}

/// Checkpoints of runs that were over before the cutoff, unless a retry is under way; their
/// objects follow.
pub(super) async fn checkpoints(
    tx: &mut PgConnection,
    cutoff: DateTime<Utc>,
    now: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let old = sqlx::query!(
        "delete from checkpoints where attempt_id in
           (select c.attempt_id from checkpoints c join runs r using (run_id)
            where r.finished_at < $1
              and not exists (select from runs n where n.retry_of = r.run_id and n.finished_at is null)
            order by r.finished_at limit 200 for update of c)
         returning changeset_key, session_key",
        cutoff
    )
    .fetch_all(&mut *tx)
    .await?;
    let count = old.len() as u64;
    let keys = old.into_iter().flat_map(|row| [Some(row.changeset_key), row.session_key]);
    Objects::let_go(tx, keys, now).await?;
    Ok(count)
}

/// Prompts of runs that were over before the cutoff; their keys stay, because they end with
/// the digest, and their objects follow.
pub(super) async fn prompts(
    tx: &mut PgConnection,
    cutoff: DateTime<Utc>,
    now: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let old = sqlx::query_scalar!(
        "with old as (select run_id from runs
                      where finished_at < $1 and prompt_key is not null and prompt_deleted_at is null
                      order by finished_at limit 200 for update)
         update runs r set prompt_deleted_at = $2 from old where r.run_id = old.run_id returning r.prompt_key",
        cutoff,
        now
    )
    .fetch_all(&mut *tx)
    .await?;
    let count = old.len() as u64;
    Objects::let_go(tx, old, now).await?;
    Ok(count)
}

/// Effects that were applied or skipped before the cutoff, unless their run is not over.
pub(super) async fn effects(tx: &mut PgConnection, cutoff: DateTime<Utc>) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "delete from effects where effect_id in (
           select e.effect_id from effects e left join runs r using (run_id)
           where e.state in ('done', 'skipped') and e.finished_at < $1 and (e.run_id is null or r.finished_at < $1)
           order by e.finished_at limit 500)",
        cutoff
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// Objects in clusters that were noted before the cutoff.
pub(super) async fn foreign_objects(tx: &mut PgConnection, cutoff: DateTime<Utc>) -> sqlx::Result<u64> {
    let old = sqlx::query!(
        "delete from foreign_objects where uid in
           (select uid from foreign_objects where found_at < $1 order by found_at limit 500)",
        cutoff
    )
    .execute(tx)
    .await?;
    Ok(old.rows_affected())
}

/// Objects that were let go of before the cutoff.
pub(super) async fn unneeded(db: &PgPool, cutoff: DateTime<Utc>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "select object_key from unneeded_objects where since <= $1 order by since, object_key limit 200",
        cutoff
    )
    .fetch_all(db)
    .await
}

/// Locks the row of an object nobody needs. False when it is needed again.
pub(super) async fn lock_unneeded(tx: &mut PgConnection, key: &str) -> sqlx::Result<bool> {
    let row =
        sqlx::query_scalar!("select object_key from unneeded_objects where object_key = $1 for update", key)
            .fetch_optional(tx)
            .await?;
    Ok(row.is_some())
}

/// Does any row point at the object? Every column that holds an object's key is asked here.
pub(super) async fn is_needed(tx: &mut PgConnection, key: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from runs where prompt_key = $1 and prompt_deleted_at is null)
               or exists (select from attempts where changeset_key = $1)
               or exists (select from attempts where session_key = $1)
               or exists (select from attempts where transcript_key = $1)
               or exists (select from runs where input_changeset_key = $1 and finished_at is null)
               or exists (select from checkpoints where changeset_key = $1)
               or exists (select from checkpoints where session_key = $1) as "needed!""#,
        key
    )
    .fetch_one(tx)
    .await
}

/// The object is deleted, or needed.
pub(super) async fn forget_unneeded(tx: &mut PgConnection, key: &str) -> sqlx::Result<()> {
    sqlx::query!("delete from unneeded_objects where object_key = $1", key).execute(tx).await?;
    Ok(())
}

/// Notes how much of a kind was deleted in the round that began at `now`.
pub(super) async fn note(
    tx: &mut PgConnection,
    kind: Kind,
    now: DateTime<Utc>,
    deleted: u64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into retention as r (kind, ran_at, deleted, deleted_total) values ($1, $2, $3, $3)
         on conflict (kind) do update set ran_at = $2, deleted_total = r.deleted_total + $3,
           deleted = $3 + case when r.ran_at = $2 then r.deleted else 0 end",
        kind.name(),
        now,
        i64::try_from(deleted).unwrap_or(i64::MAX),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// When the last round was.
pub(super) async fn last_round(db: &PgPool) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!("select max(ran_at) from retention").fetch_one(db).await
}

/// What the job did with a kind.
pub(crate) struct Done {
    pub(crate) kind: String,
    pub(crate) ran_at: DateTime<Utc>,
    /// In the last round.
    pub(crate) deleted: i64,
    pub(crate) deleted_total: i64,
}

/// What the job did, per kind it ever looked at.
pub(crate) async fn done(db: &PgPool) -> sqlx::Result<Vec<Done>> {
    sqlx::query_as!(Done, "select kind, ran_at, deleted, deleted_total from retention order by kind")
        .fetch_all(db)
        .await
}
