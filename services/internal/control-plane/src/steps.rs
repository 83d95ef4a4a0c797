//! How the control plane writes: every transaction ends through [`commit`], which names the
//! step it is (`clippy.toml` bans the other way), and every other write is taken with
//! [`around`].

use sqlx::{Postgres, Transaction};
use telemetry::steps::{Moment, point};
pub(crate) use telemetry::steps::{Step, around};

/// Commits a transaction.
pub(crate) async fn commit(tx: Transaction<'_, Postgres>, step: Step) -> sqlx::Result<()> {
    point(step, Moment::Before);
    #[expect(clippy::disallowed_methods, reason = "this is the one place that commits")]
    tx.commit().await?;
    point(step, Moment::After);
    Ok(())
}
