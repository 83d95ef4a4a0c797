//! How the log is doing, for `callboard check`.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::{checkpoints, months, seal::digest, store};
use crate::App;

/// How the log is doing.
#[derive(Debug)]
pub(crate) struct Health {
    /// The last number given.
    pub(crate) sealed: i64,
    /// Rows that wait for a number for more than a minute.
    pub(crate) late: i64,
    /// The oldest month that is kept.
    pub(crate) oldest: Option<NaiveDate>,
    /// The newest checkpoint.
    pub(crate) checkpoint_at: Option<DateTime<Utc>>,
    /// Chains whose last seal is not what their head and their rows say, by name.
    pub(crate) broken: Vec<String>,
}

/// Looks at the end of every chain; `audit verify` looks at everything.
pub(crate) async fn health(app: &App) -> sqlx::Result<Health> {
    let mut tx = app.db.begin().await?;
    sqlx::query!("set transaction isolation level repeatable read read only").execute(&mut *tx).await?;
    let sealed = sqlx::query_scalar!("select sequence from sealer").fetch_one(&mut *tx).await?;
    let late = sqlx::query_scalar!(
        r#"select count(*) as "n!" from events where sequence is null and happened_at < $1"#,
        app.clock.now() - TimeDelta::minutes(1)
    )
    .fetch_one(&mut *tx)
    .await?;
    let (checkpoints, _) = checkpoints::signed(&mut tx, app).await?;
    let kept_from = checkpoints::kept_from(&checkpoints);
    let mut broken = Vec::new();
    for head in store::heads(&mut tx).await? {
        // A chain all of whose months were dropped has no seal, and its rows need none.
        let Some(last) = store::seals(&mut tx, head.chain, head.number, 1).await?.pop() else { continue };
        let numbers = &last.seal.sequences;
        let rows = store::rows(&mut tx, numbers, head.chain, i64::MAX, i64::MAX).await?;
        let digests: Vec<u8> = rows.iter().flat_map(digest).collect();
        let dropped = rows.is_empty() && last.seal.month < kept_from;
        if last.hash != head.hash
            || last.seal.hash().as_slice() != head.hash
            || (last.seal.digests != digests && !dropped)
        {
            broken.push(store::chain_name(&mut tx, head.chain).await?);
        }
    }
    drop(tx);
    let oldest = months::all(&app.db).await?.first().copied();
    let checkpoint_at = checkpoints.iter().map(|c| c.taken_at).max();
    Ok(Health { sealed, late, oldest, checkpoint_at, broken })
}
