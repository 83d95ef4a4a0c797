//! SQL of events, seals and the ends of chains.

use chrono::{DateTime, Utc};
use domain::ids::{Id, ProjectId};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::seal::Seal;

/// A row of the log, as it is.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: Uuid,
    pub(crate) happened_at: DateTime<Utc>,
    pub(crate) ordinal: i64,
    pub(crate) project: Option<Uuid>,
    pub(crate) run: Option<Uuid>,
    pub(crate) actor: String,
    pub(crate) action: String,
    pub(crate) subject: String,
    pub(crate) text: String,
    /// JSON, as Postgres prints it.
    pub(crate) detail: String,
    pub(crate) trace_id: Option<String>,
    /// 0 until it is sealed.
    pub(crate) sequence: i64,
}

impl Event {
    /// The chain it belongs to.
    pub(super) fn chain(&self) -> Uuid {
        self.project.unwrap_or_default()
    }
}

/// The next numbered rows, of a project where that is asked. What is not there yet gets higher
/// numbers than everything that is, so whoever goes on from the last one misses nothing.
pub(crate) async fn sealed_after(
    db: impl PgExecutor<'_>,
    sequence: i64,
    limit: i64,
    project: Option<ProjectId>,
) -> sqlx::Result<Vec<Event>> {
    sqlx::query_as!(
        Event,
        r#"select event_id as id, happened_at, ordinal, project_id as project, run_id as run, actor, action, subject, text,
                  detail::text as "detail!", trace_id, sequence as "sequence!"
           from events where sequence > $1 and ($3::uuid is null or project_id = $3) order by sequence limit $2"#,
        sequence,
        limit,
        project.map(Id::uuid)
    )
    .fetch_all(db)
    .await
}

/// The oldest rows without a number.
pub(super) async fn unsealed(tx: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Event>> {
    sqlx::query_as!(
        Event,
        r#"select event_id as id, happened_at, ordinal, project_id as project, run_id as run, actor, action, subject, text,
                  detail::text as "detail!", trace_id, 0::bigint as "sequence!"
           from events where sequence is null order by ordinal limit $1"#,
        limit
    )
    .fetch_all(tx)
    .await
}

/// Rows with these numbers, whatever project they name, and rows of this chain numbered between.
pub(super) async fn rows(
    tx: &mut PgConnection,
    sequences: &[i64],
    chain: Uuid,
    from: i64,
    to: i64,
) -> sqlx::Result<Vec<Event>> {
    let project = (!chain.is_nil()).then_some(chain);
    sqlx::query_as!(
        Event,
        r#"select event_id as id, happened_at, ordinal, project_id as project, run_id as run, actor, action, subject, text,
                  detail::text as "detail!", trace_id, sequence as "sequence!"
           from events
           where sequence = any($1)
              or (project_id = $2 and sequence between $3 and $4)
              or (project_id is null and $2::uuid is null and sequence between $3 and $4)
           order by sequence, event_id"#,
        sequences,
        project,
        from,
        to
    )
    .fetch_all(tx)
    .await
}

/// A stored seal, with the hash it was stored with.
pub(super) struct StoredSeal {
    pub(super) seal: Seal,
    pub(super) hash: Vec<u8>,
}

/// Seals of a chain in their order, from a number on.
pub(super) async fn seals(
    tx: &mut PgConnection,
    chain: Uuid,
    from: i64,
    limit: i64,
) -> sqlx::Result<Vec<StoredSeal>> {
    let rows = sqlx::query!(
        "select number, month, sequences, digests, previous, hash from seals
         where chain = $1 and number >= $2 order by number limit $3",
        chain,
        from,
        limit
    )
    .fetch_all(tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|r| StoredSeal {
            seal: Seal {
                chain,
                number: r.number,
                month: r.month,
                sequences: r.sequences,
                digests: r.digests,
                previous: r.previous,
            },
            hash: r.hash,
        })
        .collect())
}

/// The end of a chain.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) chain: Uuid,
    pub(super) number: i64,
    /// Number of its last row.
    pub(super) sequence: i64,
    pub(super) hash: Vec<u8>,
}

/// The ends of all chains.
pub(super) async fn heads(tx: &mut PgConnection) -> sqlx::Result<Vec<Head>> {
    sqlx::query_as!(Head, "select chain, number, sequence, hash from chains order by chain")
        .fetch_all(tx)
        .await
}

/// Locks the sealer's row until the transaction ends: nobody else seals or drops meanwhile.
/// Returns the last number given.
pub(super) async fn lock_sealer(tx: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!("select sequence from sealer for update").fetch_one(tx).await
}

/// What a chain is called for people.
pub(super) async fn chain_name(tx: &mut PgConnection, chain: Uuid) -> sqlx::Result<String> {
    if chain.is_nil() {
        return Ok("the platform".to_owned());
    }
    let name = sqlx::query_scalar!("select name from projects where project_id = $1", chain)
        .fetch_optional(tx)
        .await?;
    Ok(name.map_or_else(|| format!("project {chain}"), |name| format!("project {name}")))
}
