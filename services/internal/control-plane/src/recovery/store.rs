//! SQL of recovery.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, SubsecRound, Utc};
use domain::ids::{GapId, Id, RepositoryId};
use sqlx::{PgConnection, PgPool};

use super::{
    hooks::{State, source},
    missed::Seen,
};
use crate::{
    App,
    deliveries::store::{Recovered, insert_recovered},
    projects::store::Repository,
    steps::{self, Step, around},
};

/// What is known of a source's webhook.
#[derive(Debug)]
pub(super) struct KnownHook {
    pub(super) state: State,
    pub(super) hook_id: Option<u64>,
    pub(super) looked_to: Option<DateTime<Utc>>,
    pub(super) asked_at: DateTime<Utc>,
    /// A delivery came after nothing could be seen.
    pub(super) was_heard_of: bool,
}

pub(super) async fn hook(db: &PgPool, repository: &Repository) -> sqlx::Result<Option<KnownHook>> {
    let row = sqlx::query!(
        r#"select hook_id, looked_to, asked_at, state,
                  state = 'no_hook' and exists (select from deliveries d where d.source = $2 and d.provenance = 'webhook'
                                                and d.stored_at > h.asked_at) as "was_heard_of!"
           from recovery_hooks h where repository_id = $1"#,
        repository.id.uuid(),
        source(repository),
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        let damaged =
            || sqlx::Error::Decode(format!("recovery_hooks {}: {}", repository.id, row.state).into());
        Ok(KnownHook {
            state: State::parse(&row.state).ok_or_else(damaged)?,
            hook_id: row.hook_id.and_then(|id| u64::try_from(id).ok()),
            looked_to: row.looked_to,
            asked_at: row.asked_at,
            was_heard_of: row.was_heard_of,
        })
    })
    .transpose()
}

/// Notes which webhook it is, or that there is none to be seen.
pub(super) async fn note_hook(
    app: &App,
    repository: &Repository,
    state: State,
    id: Option<u64>,
) -> sqlx::Result<()> {
    let noted = sqlx::query!(
        "insert into recovery_hooks (repository_id, hook_id, asked_at, state) values ($1, $2, $3, $4)
         on conflict (repository_id) do update set hook_id = excluded.hook_id, asked_at = excluded.asked_at, state = excluded.state",
        repository.id.uuid(),
        id.and_then(|id| i64::try_from(id).ok()),
        app.clock.now(),
        state.name(),
    );
    around(Step::RecoveryHookNoted, noted.execute(&app.db)).await?;
    Ok(())
}

/// When the platform began to look after the repository, in whole seconds like all times of the
/// code host: what happened in that second happened to us. What came before, or while it was taken
/// out, is nobody's.
pub(super) async fn added_at(db: &PgPool, repository: RepositoryId) -> sqlx::Result<DateTime<Utc>> {
    let added_at = sqlx::query_scalar!(
        r#"select coalesce(enabled_since, created_at) as "added_at!" from repositories where repository_id = $1"#,
        repository.uuid()
    )
    .fetch_one(db)
    .await?;
    Ok(added_at.trunc_subsecs(0))
}

/// The gap that is open for a repository, which reaches to this time.
async fn gap(
    tx: &mut PgConnection,
    app: &App,
    repository: RepositoryId,
    at: DateTime<Utc>,
) -> sqlx::Result<GapId> {
    let id = sqlx::query_scalar!(
        "insert into gaps as g (gap_id, repository_id, started_at, ended_at) values ($1, $2, $3, $3)
         on conflict (repository_id) where closed_at is null
         do update set started_at = least(g.started_at, excluded.started_at), ended_at = greatest(g.ended_at, excluded.ended_at)
         returning gap_id",
        app.ids.next::<GapId>().uuid(),
        repository.uuid(),
        at,
    )
    .fetch_one(tx)
    .await?;
    Ok(GapId::from_uuid(id))
}

/// Writes down what was sent and is not here, and how far was looked.
pub(super) async fn note_missing(
    app: &App,
    repository: &Repository,
    sent: &BTreeMap<String, Seen>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let guids: Vec<String> = sent.keys().cloned().collect();
    let mut tx = app.db.begin().await?;
    let known = sqlx::query_scalar!(
        r#"select guid as "guid!" from deliveries where source = $1 and guid = any($2)
           union select guid from missed_deliveries where source = $1 and guid = any($2)"#,
        source(repository),
        &guids
    )
    .fetch_all(&mut *tx)
    .await?;
    let known: HashSet<String> = known.into_iter().collect();
    let missing: Vec<_> = sent.iter().filter(|(guid, _)| !known.contains(*guid)).collect();
    for (guid, seen) in &missing {
        let gap = gap(&mut tx, app, repository.id, seen.first_at).await?;
        sqlx::query!(
            "insert into missed_deliveries (source, guid, gap_id, host_id, event, delivered_at) values ($1, $2, $3, $4, $5, $6)",
            source(repository),
            guid,
            gap.uuid(),
            i64::try_from(seen.newest.id).unwrap_or(i64::MAX),
            seen.newest.event,
            seen.first_at,
        )
        .execute(&mut *tx)
        .await?;
    }
    let looked = sqlx::query!(
        "update recovery_hooks set looked_to = $2, asked_at = $2 where repository_id = $1 and state = 'on'",
        repository.id.uuid(),
        now
    )
    .execute(&mut *tx)
    .await?;
    if looked.rows_affected() != 1 {
        return Err(sqlx::Error::RowNotFound);
    }
    steps::commit(tx, Step::DeliveriesLooked).await?;
    if !missing.is_empty() {
        tracing::warn!(repository = %repository.name, deliveries = missing.len(), "deliveries were missed; they are asked for again");
    }
    Ok(())
}

/// A missed delivery that is looked after.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) guid: String,
    pub(super) host_id: u64,
    pub(super) event: String,
    pub(super) delivered_at: DateTime<Utc>,
    pub(super) asked_at: Option<DateTime<Utc>>,
    /// It came meanwhile.
    pub(super) is_here: bool,
}

/// What is looked after, the oldest first.
pub(super) async fn open(db: &PgPool, repository: &Repository) -> sqlx::Result<Vec<Open>> {
    let rows = sqlx::query!(
        r#"select guid, host_id, event, delivered_at, asked_at,
                  exists (select from deliveries d where d.source = m.source and d.guid = m.guid) as "is_here!"
           from missed_deliveries m join gaps using (gap_id)
           where source = $1 and repository_id = $2 and recovered_at is null and given_up_at is null
           order by delivered_at, guid"#,
        source(repository),
        repository.id.uuid(),
    )
    .fetch_all(db)
    .await?;
    let read = rows.into_iter().map(|row| Open {
        guid: row.guid,
        host_id: u64::try_from(row.host_id).unwrap_or_default(),
        event: row.event,
        delivered_at: row.delivered_at,
        asked_at: row.asked_at,
        is_here: row.is_here,
    });
    Ok(read.collect())
}

fn one(done: &sqlx::postgres::PgQueryResult) -> sqlx::Result<()> {
    if done.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

fn recovered(how: &'static str) {
    metrics::counter!("callboard_deliveries_recovered_total", "how" => how).increment(1);
}

/// It was sent again, and is here.
pub(super) async fn note_recovered(app: &App, repository: &Repository, missed: &Open) -> sqlx::Result<()> {
    let noted = sqlx::query!(
        "update missed_deliveries set recovered_at = $3 where source = $1 and guid = $2 and recovered_at is null and given_up_at is null",
        source(repository),
        missed.guid,
        app.clock.now(),
    );
    one(&around(Step::MissedSettled, noted.execute(&app.db)).await?)?;
    recovered("redelivered");
    Ok(())
}

/// The code host was asked to send it again.
pub(super) async fn note_asked(app: &App, repository: &Repository, missed: &Open) -> sqlx::Result<()> {
    let noted = sqlx::query!(
        "update missed_deliveries set asked_at = $3 where source = $1 and guid = $2 and recovered_at is null and given_up_at is null",
        source(repository),
        missed.guid,
        app.clock.now(),
    );
    one(&around(Step::RedeliveryAsked, noted.execute(&app.db)).await?)
}

/// Stores what was fetched, unless it came meanwhile.
pub(super) async fn note_fetched(
    app: &App,
    repository: &Repository,
    missed: &Open,
    new: &Recovered<'_>,
) -> sqlx::Result<()> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let stored = insert_recovered(&mut tx, app, new).await?;
    let noted = sqlx::query!(
        "update missed_deliveries set recovered_at = $3, fetched_at = $4
         where source = $1 and guid = $2 and recovered_at is null and given_up_at is null",
        source(repository),
        missed.guid,
        now,
        stored.then_some(now),
    )
    .execute(&mut *tx)
    .await?;
    one(&noted)?;
    steps::commit(tx, Step::DeliveryFetched).await?;
    recovered(if stored { "fetched" } else { "redelivered" });
    Ok(())
}

/// It cannot be had; `words` are the code host's.
pub(super) async fn give_up(
    app: &App,
    repository: &Repository,
    missed: &Open,
    words: &str,
) -> sqlx::Result<()> {
    let words = app.censor.censor(words).into_owned();
    tracing::warn!(repository = %repository.name, guid = missed.guid, event = missed.event, words, "a missed delivery cannot be recovered");
    let noted = sqlx::query!(
        "update missed_deliveries set given_up_at = $3, words = $4
         where source = $1 and guid = $2 and recovered_at is null and given_up_at is null",
        source(repository),
        missed.guid,
        app.clock.now(),
        words,
    );
    one(&around(Step::MissedSettled, noted.execute(&app.db)).await?)
}

/// Up to when the repository's issues were looked through.
pub(super) async fn labels_looked_to(
    db: &PgPool,
    repository: RepositoryId,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    let looked_to = sqlx::query_scalar!(
        "select looked_to from recovery_labels where repository_id = $1",
        repository.uuid()
    );
    looked_to.fetch_optional(db).await
}

/// Notes up to when they were.
pub(super) async fn note_labels_looked(
    app: &App,
    repository: RepositoryId,
    to: DateTime<Utc>,
) -> sqlx::Result<()> {
    let noted = sqlx::query!(
        "insert into recovery_labels (repository_id, looked_to) values ($1, $2)
         on conflict (repository_id) do update set looked_to = excluded.looked_to",
        repository.uuid(),
        to
    );
    around(Step::LabelsLooked, noted.execute(&app.db)).await?;
    Ok(())
}

/// Is a delivery of the source about to be decided? One that was put off may wait for an hour, and
/// for another repository of the App's.
pub(super) async fn is_undecided(db: &PgPool, source: &str, now: DateTime<Utc>) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from deliveries where source = $1 and decided_at is null
             and (retry_at is null or retry_at <= $2)) as "undecided!""#,
        source,
        now
    )
    .fetch_one(db)
    .await
}

/// When events of this label on this thread arrived that were decided on; what was left to another
/// webhook was not. Rows of before labels were written down count for any label.
pub(super) async fn decided(
    db: &PgPool,
    repository: RepositoryId,
    number: u64,
    label: &str,
) -> sqlx::Result<Vec<DateTime<Utc>>> {
    sqlx::query_scalar!(
        "select l.received_at from decisions d join deliveries l using (delivery_id)
         where d.repository_id = $1 and d.issue_number = $2 and d.subject in ('issues.labeled', 'pull_request.labeled')
           and (d.label is null or lower(d.label) = lower($3)) and d.reason not in ('own_hook', 'source_mismatch')",
        repository.uuid(),
        i64::try_from(number).unwrap_or(i64::MAX),
        label,
    )
    .fetch_all(db)
    .await
}

/// Stores what an issue's history told of a label, once.
pub(super) async fn reconcile(
    app: &App,
    repository: &Repository,
    new: &Recovered<'_>,
    in_gap: bool,
) -> sqlx::Result<bool> {
    let mut tx = app.db.begin().await?;
    if !insert_recovered(&mut tx, app, new).await? {
        return Ok(false);
    }
    if in_gap {
        let gap = gap(&mut tx, app, repository.id, new.received_at).await?;
        let counted =
            sqlx::query!("update gaps set reconciled = reconciled + 1 where gap_id = $1", gap.uuid());
        one(&counted.execute(&mut *tx).await?)?;
    }
    steps::commit(tx, Step::LabelReconciled).await?;
    recovered("reconciled");
    Ok(true)
}
