//! SQL of decisions.

use chrono::{DateTime, Utc};
use domain::{
    decision::{Decided, Looked},
    ids::{DecisionId, DeliveryId, Id, ProjectId, RepositoryId},
};
use sqlx::{PgConnection, PgPool, types::Json};
use uuid::Uuid;

/// A decision to be written down.
#[derive(Debug)]
pub(crate) struct NewDecision<'a> {
    pub(crate) id: DecisionId,
    pub(crate) delivery: Option<DeliveryId>,
    pub(crate) project: Option<ProjectId>,
    pub(crate) repository: Option<RepositoryId>,
    pub(crate) issue: Option<u64>,
    /// The label the event is about.
    pub(crate) label: Option<&'a str>,
    pub(crate) channel: &'a str,
    pub(crate) actor: Option<&'a str>,
    pub(crate) subject: &'a str,
    pub(crate) decided: &'a Decided,
    pub(crate) now: DateTime<Utc>,
}

/// Writes a decision down.
pub(crate) async fn insert(tx: &mut PgConnection, new: &NewDecision<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into decisions (decision_id, delivery_id, project_id, repository_id, issue_number, channel, actor, subject,
                                decision, reason, rule, remedy, decided_at, trace, label)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        new.id.uuid(),
        new.delivery.map(Id::uuid),
        new.project.map(Id::uuid),
        new.repository.map(Id::uuid),
        new.issue.and_then(|n| i64::try_from(n).ok()),
        new.channel,
        new.actor,
        new.subject,
        new.decided.kind(),
        new.decided.reason.code(),
        new.decided.rule,
        new.decided.remedy,
        new.now,
        Json(&new.decided.trace) as _,
        new.label,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// One transaction at a time per issue.
pub(crate) async fn lock_issue(
    tx: &mut PgConnection,
    repository: RepositoryId,
    issue: u64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended($1, 0))",
        format!("issue {repository} {issue}")
    )
    .fetch_one(tx)
    .await?;
    Ok(())
}

/// A decision as `explain` shows it.
pub(crate) struct Explained {
    pub(crate) decided_at: DateTime<Utc>,
    pub(crate) subject: String,
    pub(crate) actor: Option<String>,
    pub(crate) decision: String,
    pub(crate) reason: String,
    pub(crate) rule: String,
    pub(crate) remedy: String,
    pub(crate) repository: Option<String>,
    pub(crate) issue_number: Option<i64>,
    pub(crate) delivery_id: Option<Uuid>,
    pub(crate) run_id: Option<Uuid>,
    /// Every rule that was looked at, in order.
    pub(crate) trace: Json<Vec<Looked>>,
}

/// Decisions about a delivery (by id or GUID), a run, or an issue; newest first.
pub(crate) async fn explain(
    db: &PgPool,
    id: Option<Uuid>,
    guid: Option<&str>,
    repository: Option<&str>,
    issue: Option<i64>,
) -> sqlx::Result<Vec<Explained>> {
    sqlx::query_as!(
        Explained,
        r#"select d.decided_at, d.subject, d.actor, d.decision, d.reason, d.rule, d.remedy, r.full_name as "repository?",
                  d.issue_number, d.delivery_id, u.run_id as "run_id?", d.trace as "trace: Json<Vec<Looked>>"
           from decisions d
           left join repositories r using (repository_id)
           left join runs u on u.decision_id = d.decision_id
           left join deliveries l on l.delivery_id = d.delivery_id
           where d.delivery_id = $1 or u.run_id = $1 or d.decision_id = $1
              or l.guid = $2
              or (d.issue_number = $4 and ($3::text is null or r.full_name_key = $3))
           order by d.decided_at desc, d.decision_id desc limit 100"#,
        id,
        guid,
        repository,
        issue
    )
    .fetch_all(db)
    .await
}

/// The last decision about an issue or pull request before this one that was more than taking
/// note.
pub(crate) async fn last_about(
    tx: &mut PgConnection,
    repository: RepositoryId,
    number: i64,
    before: DecisionId,
) -> sqlx::Result<Option<Explained>> {
    sqlx::query_as!(
        Explained,
        r#"select d.decided_at, d.subject, d.actor, d.decision, d.reason, d.rule, d.remedy, r.full_name as "repository?",
                  d.issue_number, d.delivery_id, null::uuid as run_id, d.trace as "trace: Json<Vec<Looked>>"
           from decisions d join repositories r using (repository_id)
           where d.repository_id = $1 and d.issue_number = $2 and d.decision_id <> $3 and d.decision not in ('ignore', 'answer')
           order by d.decided_at desc, d.decision_id desc limit 1"#,
        repository.uuid(),
        number,
        before.uuid(),
    )
    .fetch_optional(tx)
    .await
}

/// A stored delivery that has no decision yet.
pub(crate) struct Pending {
    pub(crate) delivery_id: Uuid,
    pub(crate) event: String,
    pub(crate) stored_at: DateTime<Utc>,
    pub(crate) retry_at: Option<DateTime<Utc>>,
    /// Why it was put off, where that is known.
    pub(crate) because: Option<String>,
}

/// Deliveries (by id or GUID) that wait for their decision.
pub(crate) async fn pending(db: &PgPool, id: Option<Uuid>, guid: Option<&str>) -> sqlx::Result<Vec<Pending>> {
    sqlx::query_as!(
        Pending,
        "select delivery_id, event, stored_at, retry_at, put_off_because as because from deliveries where decided_at is null and (delivery_id = $1 or guid = $2)",
        id,
        guid
    )
    .fetch_all(db)
    .await
}

/// Was the same label decided on because the issue's history told of it? The code host notes the
/// change of the issue within the second. That nobody knew who set it is no decision about it.
pub(super) async fn was_reconciled(
    tx: &mut PgConnection,
    (repository, number): (RepositoryId, u64),
    label: &str,
    changed_at: DateTime<Utc>,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from decisions d join deliveries l using (delivery_id)
                          where d.repository_id = $1 and d.issue_number = $2 and lower(d.label) = lower($3)
                            and l.provenance = 'reconciled' and d.reason <> 'setter_unknown'
                            and l.received_at between $4::timestamptz - interval '2 seconds' and $4 + interval '2 seconds') as "was!""#,
        repository.uuid(),
        i64::try_from(number).unwrap_or(i64::MAX),
        label,
        changed_at,
    )
    .fetch_one(tx)
    .await
}

/// Was this label decided on after that time? What was left to another webhook was not.
pub(super) async fn was_decided_since(
    tx: &mut PgConnection,
    (repository, number): (RepositoryId, u64),
    label: &str,
    since: DateTime<Utc>,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from decisions where repository_id = $1 and issue_number = $2 and lower(label) = lower($3)
                            and subject in ('issues.labeled', 'pull_request.labeled') and decided_at > $4
                            and reason not in ('own_hook', 'source_mismatch')) as "was!""#,
        repository.uuid(),
        i64::try_from(number).unwrap_or(i64::MAX),
        label,
        since,
    )
    .fetch_one(tx)
    .await
}
