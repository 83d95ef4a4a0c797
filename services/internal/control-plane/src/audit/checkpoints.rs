//! Checkpoints: the platform's signature under a seal. Whoever can write to the database and
//! has no key cannot write the log anew before the last one, and a chain whose beginning was
//! dropped begins at one.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use sqlx::PgConnection;
use telemetry::signing::VerifyingKey;
use uuid::Uuid;

use super::{
    seal::day,
    store::{self, Head},
};
use crate::{
    App,
    steps::{self, Step},
};

/// Time between checkpoints.
const EVERY: TimeDelta = TimeDelta::days(1);

/// Name of the platform's key that signs them.
pub(crate) const KEY_NAME: &str = "audit";
const DOMAIN: &[u8] = b"callboard checkpoint 1\0";

/// A signed word about a seal.
#[derive(Clone, Debug)]
pub(super) struct Checkpoint {
    pub(super) chain: Uuid,
    pub(super) number: i64,
    pub(super) sequence: i64,
    pub(super) hash: Vec<u8>,
    /// Rows of months before this one are gone.
    pub(super) kept_from: NaiveDate,
    /// The chain begins after this seal: it and the ones before were dropped.
    pub(super) begins: bool,
    pub(super) taken_at: DateTime<Utc>,
    pub(super) signature: Vec<u8>,
}

impl Checkpoint {
    fn message(&self) -> Vec<u8> {
        [
            DOMAIN,
            self.chain.as_bytes(),
            &self.number.to_be_bytes(),
            &self.sequence.to_be_bytes(),
            &day(self.kept_from),
            &[u8::from(self.begins)],
            &self.taken_at.timestamp_micros().to_be_bytes(),
            &self.hash,
        ]
        .concat()
    }

    fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        key.signed(&self.message(), &self.signature)
    }
}

/// All of them, of a chain in their order.
async fn all(tx: &mut PgConnection) -> sqlx::Result<Vec<Checkpoint>> {
    sqlx::query_as!(
        Checkpoint,
        "select chain, number, sequence, hash, kept_from, begins, taken_at, signature from audit_checkpoints
         order by chain, number, kept_from, begins"
    )
    .fetch_all(tx)
    .await
}

/// The month from which rows are kept, by the platform's own word and not by what a row says.
pub(super) fn kept_from(signed: &[Checkpoint]) -> NaiveDate {
    signed.iter().map(|c| c.kept_from).max().unwrap_or_default()
}

/// The checkpoints whose signature is ours, and the others.
pub(super) async fn signed(
    tx: &mut PgConnection,
    app: &App,
) -> sqlx::Result<(Vec<Checkpoint>, Vec<Checkpoint>)> {
    let key = app.audit_key.public();
    Ok(all(tx).await?.into_iter().partition(|c| c.is_signed_by(&key)))
}

/// When the next one is to be written.
pub(super) async fn due(app: &App) -> sqlx::Result<DateTime<Utc>> {
    let last = sqlx::query_scalar!("select max(taken_at) from audit_checkpoints").fetch_one(&app.db).await?;
    let now = app.clock.now();
    // Without one: now, so that a young log has a signature too. One of the future is from a
    // clock that was wrong, and must not keep the next one away.
    Ok(last.filter(|last| *last <= now).map_or(now, |last| last + EVERY))
}

/// Signs the end of every chain; returns when to do it again.
pub(super) async fn write(app: &App) -> anyhow::Result<DateTime<Utc>> {
    let next = app.clock.now() + EVERY;
    let mut tx = app.db.begin().await?;
    store::lock_sealer(&mut tx).await?;
    let kept_from = kept_from(&signed(&mut tx, app).await?.0);
    sign_ends(&mut tx, app, kept_from).await?;
    steps::commit(tx, Step::CheckpointWritten).await?;
    Ok(next)
}

/// Signs the end of every chain; the sealer's row is locked.
pub(super) async fn sign_ends(tx: &mut PgConnection, app: &App, kept_from: NaiveDate) -> sqlx::Result<()> {
    for head in store::heads(tx).await? {
        sign(tx, app, head, kept_from, false).await?;
    }
    Ok(())
}

async fn sign(
    tx: &mut PgConnection,
    app: &App,
    seal: Head,
    kept_from: NaiveDate,
    begins: bool,
) -> sqlx::Result<()> {
    let Head { chain, number, sequence, hash } = seal;
    // Postgres keeps microseconds, and what is signed is what is kept.
    let taken_at = DateTime::from_timestamp_micros(app.clock.now().timestamp_micros()).unwrap_or_default();
    let signature = Vec::new();
    let mut checkpoint = Checkpoint { chain, number, sequence, hash, kept_from, begins, taken_at, signature };
    checkpoint.signature = app.audit_key.sign_bytes(&checkpoint.message());
    sqlx::query!(
        "insert into audit_checkpoints (chain, number, sequence, hash, kept_from, begins, taken_at, signature)
         values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing",
        checkpoint.chain,
        checkpoint.number,
        checkpoint.sequence,
        checkpoint.hash,
        checkpoint.kept_from,
        checkpoint.begins,
        checkpoint.taken_at,
        checkpoint.signature,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Deletes the seals at the beginning of each chain whose rows are all of months before
/// `kept_from`, after signing the last of them: the chain begins there from now on.
pub(super) async fn let_go(tx: &mut PgConnection, app: &App, kept_from: NaiveDate) -> sqlx::Result<()> {
    let last = sqlx::query_as!(
        Head,
        r#"select distinct on (chain) chain, number, sequences[cardinality(sequences)] as "sequence!", hash
           from seals s
           where number < coalesce((select min(k.number) from seals k where k.chain = s.chain and k.month >= $1), number + 1)
           order by chain, number desc"#,
        kept_from
    )
    .fetch_all(&mut *tx)
    .await?;
    for seal in last {
        sqlx::query!("delete from seals where chain = $1 and number <= $2", seal.chain, seal.number)
            .execute(&mut *tx)
            .await?;
        sign(tx, app, seal, kept_from, true).await?;
    }
    Ok(())
}
