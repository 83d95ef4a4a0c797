//! What our own effects cause at the code host comes back as events. They are recognised by
//! their rows, not by a login: behind a personal access token is a person, who may do the same.

use chrono::{DateTime, TimeDelta, Utc};
use domain::ids::{Id, RepositoryId};
use sqlx::PgConnection;

/// Clocks of our machines may differ by this much.
const SKEW: TimeDelta = TimeDelta::minutes(1);
/// An event comes within this time, or never.
const LATEST: TimeDelta = TimeDelta::hours(1);

/// A label that was put on or taken off, as an event tells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LabelChange<'a> {
    pub(crate) repository: RepositoryId,
    pub(crate) number: u64,
    pub(crate) label: &'a str,
    /// False when it was taken off.
    pub(crate) put_on: bool,
    /// When its delivery arrived.
    pub(crate) at: DateTime<Utc>,
}

/// Is this change the echo of an effect of ours? Each effect has one: its row is marked, so that
/// the same change by hand is not taken for it. The caller has seen that the sender is our
/// identity.
pub(crate) async fn note_own_label(tx: &mut PgConnection, change: LabelChange<'_>) -> sqlx::Result<bool> {
    let kind = if change.put_on { "add_labels" } else { "remove_label" };
    let noted = sqlx::query!(
        "update effects set echoed_at = $7 where effect_id = (
           select effect_id from effects
           where repository_id = $1 and kind = $2 and (payload ->> 'number')::bigint = $3
             and (lower(payload ->> 'label') = lower($4) or lower(payload -> 'labels' ->> 0) = lower($4))
             and echoed_at is null and state <> 'skipped' and tried_at between $5 and $6
           order by ordinal limit 1)",
        change.repository.uuid(),
        kind,
        i64::try_from(change.number).unwrap_or(i64::MAX),
        change.label,
        change.at - LATEST,
        change.at + SKEW,
        change.at,
    )
    .execute(tx)
    .await?;
    Ok(noted.rows_affected() == 1)
}

/// Is this comment ours? By its id where that is recorded; before that by the mark at its very
/// beginning. The caller has seen that its author is our identity.
pub(crate) async fn is_own_comment(
    tx: &mut PgConnection,
    repository: RepositoryId,
    comment: u64,
    body: &str,
) -> sqlx::Result<bool> {
    if body.starts_with("<!-- callboard:") {
        return Ok(true);
    }
    sqlx::query_scalar!(
        r#"select exists (select from effects where repository_id = $1 and (result ->> 'comment')::bigint = $2) as "ours!""#,
        repository.uuid(),
        i64::try_from(comment).unwrap_or(i64::MAX),
    )
    .fetch_one(tx)
    .await
}
