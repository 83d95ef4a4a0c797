//! Months of the log: each is a partition, made ahead and dropped whole.

use chrono::{DateTime, Months as Count, NaiveDate, NaiveTime, Utc};
use sqlx::PgPool;

use super::{checkpoints, sealer::month_of, store};
use crate::{
    App,
    steps::{self, Step, around},
};

/// Months that are made ahead of the one that is.
const AHEAD: u32 = 3;

/// Which months are known to be there.
#[derive(Debug, Default)]
pub(crate) struct Months {
    /// The month for which it was last made sure.
    sure: Option<NaiveDate>,
}

impl Months {
    /// Makes this month and the next ones where they are missing.
    pub(crate) async fn make_ahead(&mut self, db: &PgPool, now: DateTime<Utc>) -> sqlx::Result<()> {
        let this = month_of(now);
        if self.sure == Some(this) {
            return Ok(());
        }
        let there = all(db).await?;
        for month in (0..=AHEAD).filter_map(|n| this.checked_add_months(Count::new(n))) {
            if !there.contains(&month) {
                let made = sqlx::query_scalar!(
                    "select events_make_month($1)",
                    month.and_time(NaiveTime::MIN).and_utc()
                );
                around(Step::MonthMade, made.fetch_one(db)).await?;
            }
        }
        self.sure = Some(this);
        Ok(())
    }
}

/// The months that are there, oldest first.
pub(super) async fn all(db: &PgPool) -> sqlx::Result<Vec<NaiveDate>> {
    sqlx::query_scalar!(r#"select events_months() as "month!""#).fetch_all(db).await
}

/// Drops the oldest month when it was over before `cutoff`, with the seals that nothing follows
/// from any more. In the same transaction every chain's end and beginning are signed. False
/// when there is nothing to drop.
pub(crate) async fn drop_oldest(app: &App, cutoff: DateTime<Utc>) -> anyhow::Result<bool> {
    let Some(oldest) = all(&app.db).await?.first().copied() else { return Ok(false) };
    let Some(kept_from) = oldest.checked_add_months(Count::new(1)).filter(|next| *next <= month_of(cutoff))
    else {
        return Ok(false);
    };
    let mut tx = app.db.begin().await?;
    store::lock_sealer(&mut tx).await?;
    // Locked again: another process may have dropped it meanwhile.
    let still = sqlx::query_scalar!(
        r#"select exists (select from events_months() m where m = $1) and not exists (
             select from events where sequence is null and happened_at < $2) as "still!""#,
        oldest,
        kept_from.and_time(NaiveTime::MIN).and_utc(),
    )
    .fetch_one(&mut *tx)
    .await?;
    if !still {
        return Ok(false);
    }
    checkpoints::sign_ends(&mut tx, app, kept_from).await?;
    checkpoints::let_go(&mut tx, app, kept_from).await?;
    sqlx::query!("select events_drop_month($1)", oldest).execute(&mut *tx).await?;
    steps::commit(tx, Step::MonthDropped).await?;
    tracing::info!(month = %oldest, "month dropped from the log");
    Ok(true)
}
