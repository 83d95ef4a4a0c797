//! SQL of deliveries.

use chrono::{DateTime, Utc};
use domain::ids::{DeliveryId, Id};
use proto::v1::StoreDeliveryRequest;
use sqlx::{PgConnection, PgPool, types::Json};
use uuid::Uuid;

use super::{Provenance, without_secrets};
use crate::{
    App,
    steps::{self, Step, around},
    wake::Topic,
};

/// Secrets of a source.
pub(crate) struct SourceRow {
    pub(crate) source: String,
    pub(crate) current_secret_id: Uuid,
    pub(crate) previous_secret_id: Option<Uuid>,
}

/// Every enabled source with an address of its own.
pub(crate) async fn sources(db: &PgPool) -> sqlx::Result<Vec<SourceRow>> {
    sqlx::query_as!(
        SourceRow,
        "select source, current_secret_id, previous_secret_id from repositories where enabled and own_hook order by source"
    )
    .fetch_all(db)
    .await
}

/// Stores a delivery; the second result says that it was there before. One that was missed and
/// is sent again counts from when it was sent first: what it asks for is of that time.
pub(crate) async fn insert(
    db: &PgPool,
    id: DeliveryId,
    new: &StoreDeliveryRequest,
    received_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> sqlx::Result<(DeliveryId, bool)> {
    let mut tx = db.begin().await?;
    let inserted = sqlx::query!(
        "insert into deliveries (delivery_id, source, guid, event, headers, body, trace_id, received_at, stored_at)
         values ($1, $2, $3, $4, $5, $6, $7,
                 least($8, (select delivered_at from missed_deliveries m where m.source = $2 and m.guid = $3)), $9)
         on conflict (source, guid) do nothing",
        id.uuid(),
        new.source,
        new.guid,
        new.event,
        Json(&new.headers) as _,
        &new.body[..],
        new.trace_id,
        received_at,
        now,
    )
    .execute(&mut *tx)
    .await?
    .rows_affected();
    if inserted == 0 {
        let stored = sqlx::query_scalar!(
            "select delivery_id from deliveries where source = $1 and guid = $2",
            new.source,
            new.guid
        )
        .fetch_one(&mut *tx)
        .await?;
        return Ok((DeliveryId::from_uuid(stored), true));
    }
    Topic::Deliveries.notify(&mut tx).await?;
    steps::commit(tx, Step::DeliveryStored).await?;
    Ok((id, false))
}

/// A delivery that nobody sent to us.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recovered<'a> {
    pub(crate) source: &'a str,
    pub(crate) guid: &'a str,
    pub(crate) event: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) provenance: Provenance,
    /// When it should have been here.
    pub(crate) received_at: DateTime<Utc>,
}

/// Stores it; false when it is here already.
pub(crate) async fn insert_recovered(
    tx: &mut PgConnection,
    app: &App,
    new: &Recovered<'_>,
) -> sqlx::Result<bool> {
    let inserted = sqlx::query!(
        "insert into deliveries (delivery_id, source, guid, event, headers, body, trace_id, received_at, stored_at, provenance)
         values ($1, $2, $3, $4, '{}', $5, $6, $7, $8, $9) on conflict (source, guid) do nothing",
        app.ids.next::<DeliveryId>().uuid(),
        new.source,
        new.guid,
        new.event,
        &*without_secrets(app, new.body),
        app.ids.trace_id(),
        new.received_at,
        app.clock.now(),
        new.provenance.name(),
    )
    .execute(&mut *tx)
    .await?;
    let is_new = inserted.rows_affected() == 1;
    if is_new {
        Topic::Deliveries.notify(tx).await?;
    }
    Ok(is_new)
}

/// A delivery to decide on.
#[derive(Clone, Debug)]
pub(crate) struct Undecided {
    pub(crate) id: DeliveryId,
    pub(crate) source: String,
    pub(crate) guid: String,
    pub(crate) event: String,
    pub(crate) body: Vec<u8>,
    pub(crate) trace_id: String,
    pub(crate) received_at: DateTime<Utc>,
    pub(crate) stored_at: DateTime<Utc>,
    pub(crate) provenance: Provenance,
    pub(crate) tries: i32,
    /// It waited, and others may have been decided before it.
    pub(crate) put_off: bool,
    /// It was looked for, because it did not come when it was sent.
    pub(crate) was_missed: bool,
}

/// The oldest deliveries without a decision. Bodies are read one by one: each may have 25 MiB.
pub(crate) async fn undecided(db: &PgPool, now: DateTime<Utc>, limit: i64) -> sqlx::Result<Vec<DeliveryId>> {
    let ids = sqlx::query_scalar!(
        "select delivery_id from deliveries
         where decided_at is null and (retry_at is null or retry_at <= $1) order by received_at limit $2",
        now,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(DeliveryId::from_uuid).collect())
}

/// A delivery that still waits for its decision.
pub(crate) async fn load(db: &PgPool, id: DeliveryId) -> sqlx::Result<Option<Undecided>> {
    let row = sqlx::query!(
        r#"select delivery_id, source, guid, event, body, trace_id, received_at, stored_at, provenance, tries, retry_at,
                  exists (select from missed_deliveries m where m.source = d.source and m.guid = d.guid) as "was_missed!"
           from deliveries d where delivery_id = $1 and decided_at is null"#,
        id.uuid()
    )
    .fetch_optional(db)
    .await?;
    row.map(|r| {
        let damaged = || sqlx::Error::Decode(format!("deliveries {id}: {}", r.provenance).into());
        Ok(Undecided {
            id: DeliveryId::from_uuid(r.delivery_id),
            provenance: Provenance::parse(&r.provenance).ok_or_else(damaged)?,
            source: r.source,
            guid: r.guid,
            event: r.event,
            body: r.body,
            trace_id: r.trace_id,
            received_at: r.received_at,
            stored_at: r.stored_at,
            tries: r.tries,
            put_off: r.retry_at.is_some(),
            was_missed: r.was_missed,
        })
    })
    .transpose()
}

/// Does another delivery of its source wait for its decision?
pub(crate) async fn others_undecided(db: &PgPool, id: DeliveryId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from deliveries o join deliveries d using (source)
             where d.delivery_id = $1 and o.delivery_id <> $1 and o.decided_at is null) as "others!""#,
        id.uuid()
    )
    .fetch_one(db)
    .await
}

/// Marks a delivery as decided. False when somebody else was first.
pub(crate) async fn mark_decided(
    tx: &mut PgConnection,
    id: DeliveryId,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let marked = sqlx::query!(
        "update deliveries set decided_at = $2 where delivery_id = $1 and decided_at is null",
        id.uuid(),
        now
    )
    .execute(tx)
    .await?;
    Ok(marked.rows_affected() == 1)
}

/// Puts a decision off, and says why; a wait the code host asked for does not count as a try.
pub(crate) async fn put_off(
    db: &PgPool,
    id: DeliveryId,
    until: DateTime<Utc>,
    counts: bool,
    why: &str,
) -> sqlx::Result<()> {
    let put_off = sqlx::query!(
        "update deliveries set retry_at = $2, tries = tries + $3, put_off_because = $4
         where delivery_id = $1 and decided_at is null",
        id.uuid(),
        until,
        i32::from(counts),
        why,
    );
    around(Step::DeliveryPutOff, put_off.execute(db)).await?;
    Ok(())
}
