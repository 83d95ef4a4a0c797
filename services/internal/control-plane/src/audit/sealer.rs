//! The sealer: one process at a time gives events their numbers, in commit order and without a
//! gap, and closes them under a seal per chain.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use sqlx::PgConnection;
use telemetry::shutdown::Shutdown;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    checkpoints,
    months::Months,
    seal::{GENESIS, Hash, Seal},
    store::{self, Event},
};
use crate::{
    App,
    singleton::{self, Leads, Singleton},
    steps::{self, Step},
    wake::{Topic, news},
};

/// How often it looks without a wake-up.
const SWEEP: Duration = Duration::from_secs(1);
/// Rows of one transaction.
const BATCH: i64 = 500;

/// Seals until the process ends.
pub(crate) fn spawn(app: &Arc<App>, shutdown: &Shutdown) {
    singleton::spawn(app, shutdown, Singleton::Sealer, |app, leads, ended| Box::pin(work(app, leads, ended)));
}

async fn work(app: &App, leads: &mut Leads, ended: &CancellationToken) -> anyhow::Result<()> {
    let mut wake = app.wake.subscribe(Topic::Events);
    let mut months = Months::default();
    let mut checkpoint_due = checkpoints::due(app).await?;
    while !ended.is_cancelled() {
        wake.mark_unchanged();
        leads.still().await?;
        months.make_ahead(&app.db, app.clock.now()).await?;
        while !ended.is_cancelled() && seal_batch(app).await? {}
        if app.clock.now() >= checkpoint_due {
            checkpoint_due = checkpoints::write(app).await?;
        }
        tokio::select! {
            () = news(&mut wake, SWEEP) => {}
            () = ended.cancelled() => {}
        }
    }
    Ok(())
}

/// First day of the month, in UTC.
pub(super) fn month_of(at: DateTime<Utc>) -> NaiveDate {
    let date = at.date_naive();
    date.with_day(1).unwrap_or(date)
}

/// Seals the oldest rows that have no number. True when there may be more.
async fn seal_batch(app: &App) -> anyhow::Result<bool> {
    let mut tx = app.db.begin().await?;
    let before = store::lock_sealer(&mut tx).await?;
    let mut rows = store::unsealed(&mut tx, BATCH).await?;
    if rows.is_empty() {
        return Ok(false);
    }
    for (row, sequence) in rows.iter_mut().zip(before + 1..) {
        row.sequence = sequence;
    }
    number(&mut tx, &rows).await?;
    let mut chains = BTreeMap::<Uuid, Vec<&Event>>::new();
    for row in &rows {
        chains.entry(row.chain()).or_default().push(row);
    }
    for (chain, rows) in chains {
        extend(&mut tx, chain, &rows, app.clock.now()).await?;
    }
    let last = before + i64::try_from(rows.len())?;
    let moved = sqlx::query!("update sealer set sequence = $1", last).execute(&mut *tx).await?;
    anyhow::ensure!(moved.rows_affected() == 1, "the sealer's row is gone");
    Topic::Sealed.notify(&mut tx).await?;
    steps::commit(tx, Step::EventsSealed).await?;
    Ok(i64::try_from(rows.len())? == BATCH)
}

async fn number(tx: &mut PgConnection, rows: &[Event]) -> anyhow::Result<()> {
    let ids: Vec<Uuid> = rows.iter().map(|r| r.id).collect();
    let times: Vec<DateTime<Utc>> = rows.iter().map(|r| r.happened_at).collect();
    let sequences: Vec<i64> = rows.iter().map(|r| r.sequence).collect();
    let numbered = sqlx::query!(
        "update events e set sequence = n.sequence
         from unnest($1::uuid[], $2::timestamptz[], $3::bigint[]) n (event_id, happened_at, sequence)
         where e.event_id = n.event_id and e.happened_at = n.happened_at",
        &ids,
        &times,
        &sequences
    )
    .execute(tx)
    .await?;
    anyhow::ensure!(
        numbered.rows_affected() == rows.len() as u64,
        "{} rows were to get a number, and {} did",
        rows.len(),
        numbered.rows_affected()
    );
    Ok(())
}

/// Adds seals to the end of a chain: one for each stretch of rows of the same month, so that a
/// month can be dropped with its seals.
async fn extend(
    tx: &mut PgConnection,
    chain: Uuid,
    rows: &[&Event],
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let head = sqlx::query!("select number, hash from chains where chain = $1", chain)
        .fetch_optional(&mut *tx)
        .await?;
    let (mut number, mut hash): (i64, Hash) = match head {
        Some(head) => {
            let hash = head.hash.try_into();
            (head.number, hash.map_err(|_| anyhow::anyhow!("the head of chain {chain} is no hash"))?)
        }
        None => (0, GENESIS),
    };
    for stretch in rows.chunk_by(|a, b| month_of(a.happened_at) == month_of(b.happened_at)) {
        let Some(first) = stretch.first() else { continue };
        number += 1;
        let seal = Seal::of(chain, number, month_of(first.happened_at), hash, stretch);
        hash = seal.hash();
        sqlx::query!(
            "insert into seals (chain, number, month, sequences, digests, previous, hash, sealed_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
            chain,
            number,
            seal.month,
            &seal.sequences,
            seal.digests,
            seal.previous,
            hash.as_slice(),
            now,
        )
        .execute(&mut *tx)
        .await?;
    }
    let last = rows.last().map_or(0, |r| r.sequence);
    sqlx::query!(
        "insert into chains (chain, number, sequence, hash) values ($1, $2, $3, $4)
         on conflict (chain) do update set number = $2, sequence = $3, hash = $4",
        chain,
        number,
        last,
        hash.as_slice(),
    )
    .execute(tx)
    .await?;
    Ok(())
}
