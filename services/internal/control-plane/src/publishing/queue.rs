//! The effects that wait: which one is next, and what becomes of it around its call.

use chrono::{DateTime, Utc};
use domain::ids::{EffectId, Id, RepositoryId, RunId};
use sqlx::{PgConnection, PgPool};

use super::effects::{Effect, End, Made, end};
use crate::steps::{Step, around};

/// An effect that waits.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) id: EffectId,
    pub(crate) run: Option<RunId>,
    pub(crate) repository: RepositoryId,
    pub(crate) effect: Effect,
    pub(crate) tries: i32,
    pub(crate) tried_at: Option<DateTime<Utc>>,
    pub(crate) trace_id: String,
    pub(crate) created_at: DateTime<Utc>,
    /// What is in the same lane is applied one after the other.
    pub(crate) lane: String,
}

/// What may be applied now, what people wait for most first. Of each run that is the next effect
/// of every priority, so that a result never waits for a reaction; of those without a run every
/// one, but labels of a thread one after the other: the last word about a label is the last.
/// While a part of a publication is given up, the parts after it wait for a person; while a
/// repository is out of reach or archived, all of it waits.
pub(crate) async fn due(db: &PgPool, now: DateTime<Utc>) -> sqlx::Result<Vec<Pending>> {
    let rows = sqlx::query!(
        r#"select effect_id as "effect_id!", run_id, repository_id as "repository_id!", payload as "payload!",
                  tries as "tries!", tried_at, trace_id as "trace_id!", created_at as "created_at!", lane as "lane!"
           from (select distinct on (lane) * from (select *, coalesce(run_id || ' ' || priority,
                     case when kind in ('add_labels', 'remove_label') then repository_id || ' ' || (payload ->> 'number') end,
                     effect_id::text) as lane from effects) e where state = 'pending'
                 and not (kind = any($2) and exists (select from effects d
                   where d.run_id = e.run_id and d.state = 'dead' and d.kind = any($2)))
                 and not exists (select from repositories o where o.repository_id = e.repository_id
                   and (o.no_access_since is not null or o.archived_at is not null or o.gone_at is not null))
                 order by lane, ordinal) first
           where available_at <= $1 order by priority, ordinal limit 100"#,
        now,
        &Effect::OF_RESULTS.map(str::to_owned),
    )
    .fetch_all(db)
    .await?;
    let mut due = Vec::with_capacity(rows.len());
    for row in rows {
        let id = EffectId::from_uuid(row.effect_id);
        match serde_json::from_value(row.payload) {
            Ok(effect) => due.push(Pending {
                id,
                run: row.run_id.map(RunId::from_uuid),
                repository: RepositoryId::from_uuid(row.repository_id),
                effect,
                tries: row.tries,
                tried_at: row.tried_at,
                trace_id: row.trace_id,
                created_at: row.created_at,
                lane: row.lane,
            }),
            // One row of a newer version must not stop all the others.
            Err(error) => {
                tracing::error!(effect_id = %id, %error, "an effect that cannot be read is given up");
                end(
                    &mut *db.acquire().await?,
                    id,
                    End::Dead,
                    now,
                    &Made::default(),
                    Some(&error.to_string()),
                )
                .await?;
            }
        }
    }
    Ok(due)
}

/// Notes that a call is about to go out. Nothing is known about it before `known_at`, whatever
/// becomes of this process. False when the effect is not pending any more, or another
/// publisher was first.
pub(crate) async fn mark_tried(
    tx: &mut PgConnection,
    pending: &Pending,
    now: DateTime<Utc>,
    known_at: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let marked = sqlx::query!(
        "update effects set tried_at = $2, available_at = $3, tries = tries + 1
         where effect_id = $1 and state = 'pending' and tries = $4",
        pending.id.uuid(),
        now,
        known_at,
        pending.tries
    )
    .execute(tx)
    .await?;
    Ok(marked.rows_affected() == 1)
}

/// Tries again later; the outcome of the call is unknown.
pub(crate) async fn put_off(
    db: &PgPool,
    pending: &Pending,
    until: DateTime<Utc>,
    error: &str,
) -> sqlx::Result<()> {
    let put_off = sqlx::query!(
        "update effects set available_at = $2, last_error = $3
         where effect_id = $1 and state = 'pending' and tries = $4",
        pending.id.uuid(),
        until,
        error,
        // Another publisher may have its own call out by now.
        pending.tries + 1,
    );
    around(Step::EffectPutOff, put_off.execute(db)).await?;
    Ok(())
}

/// Waits for the code host's limits: nothing happened, and it was no try. False when somebody
/// else has it by now.
pub(crate) async fn hold_back(
    tx: &mut PgConnection,
    pending: &Pending,
    until: DateTime<Utc>,
    why: &str,
    was_tried: bool,
) -> sqlx::Result<bool> {
    let held = sqlx::query!(
        "update effects set available_at = $2, last_error = $3, tries = $4, tried_at = $5
         where effect_id = $1 and state = 'pending' and tries = $6",
        pending.id.uuid(),
        until,
        why,
        // As it was before this call.
        pending.tries,
        pending.tried_at,
        pending.tries + i32::from(was_tried),
    )
    .execute(tx)
    .await?;
    Ok(held.rows_affected() == 1)
}
