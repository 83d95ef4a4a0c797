//! SQL of publications: a run's way to the code host. The newest one counts.

use chrono::{DateTime, Utc};
use domain::{
    changeset::Finding,
    ids::{AttemptId, Id, PublicationId, RunId},
    names::CommitSha,
    run::PublicationState,
};
use serde_json::Value;
use sqlx::{PgConnection, PgExecutor, types::Json};
use uuid::Uuid;

use crate::runs::RunError;

/// A run's way to the code host.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    pub(crate) id: PublicationId,
    /// The attempt whose result it is.
    pub(crate) attempt: AttemptId,
    pub(crate) state: PublicationState,
    pub(crate) findings: Vec<Finding>,
    pub(crate) branch: Option<String>,
    pub(crate) commit: Option<CommitSha>,
    pub(crate) pull_request_number: Option<i64>,
    pub(crate) pull_request_url: Option<String>,
    /// When it was checked.
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) published_at: Option<DateTime<Utc>>,
    pub(crate) changeset_key: Option<String>,
    /// Head of the branch when it had moved in files of the changeset.
    pub(crate) head_moved_to: Option<CommitSha>,
    /// Who released it, when it was held.
    pub(crate) released_by: Option<String>,
}

/// The newest publication of a run, when there is one.
pub(crate) async fn publication(
    db: impl PgExecutor<'_>,
    run: RunId,
) -> Result<Option<Publication>, RunError> {
    let row = sqlx::query!(
        r#"select p.publication_id, p.state, p.findings as "findings: Json<Vec<Finding>>", p.branch, p.commit_sha, p.pull_request_number,
                  p.pull_request_url, p.created_at, p.published_at, p.attempt_id, a.changeset_key, p.head_moved_to, p.released_by
           from publications p join attempts a using (attempt_id) where p.run_id = $1
           order by a.number desc limit 1"#,
        run.uuid()
    )
    .fetch_optional(db)
    .await?;
    let damaged = |problem: String| RunError::Damaged { table: "publications", id: run.uuid(), problem };
    row.map(|r| {
        let sha = |text: Option<String>| {
            text.as_deref().map(str::parse).transpose().map_err(|e| damaged(format!("{e}")))
        };
        Ok(Publication {
            id: PublicationId::from_uuid(r.publication_id),
            attempt: AttemptId::from_uuid(r.attempt_id),
            state: PublicationState::parse(&r.state)
                .ok_or_else(|| damaged(format!("state {} is not one", r.state)))?,
            findings: r.findings.0,
            branch: r.branch,
            commit: sha(r.commit_sha)?,
            pull_request_number: r.pull_request_number,
            pull_request_url: r.pull_request_url,
            created_at: r.created_at,
            published_at: r.published_at,
            changeset_key: r.changeset_key,
            head_moved_to: sha(r.head_moved_to)?,
            released_by: r.released_by,
        })
    })
    .transpose()
}

/// A new publication, in its first state.
pub(super) async fn insert_publication(
    tx: &mut PgConnection,
    id: PublicationId,
    run: RunId,
    attempt: Uuid,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into publications (publication_id, run_id, attempt_id, state, created_at) values ($1, $2, $3, 'checking', $4)",
        id.uuid(),
        run.uuid(),
        attempt,
        now,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What the checks found.
pub(super) async fn set_findings(
    tx: &mut PgConnection,
    id: PublicationId,
    findings: &Value,
) -> sqlx::Result<()> {
    let kept =
        sqlx::query!("update publications set findings = $2 where publication_id = $1", id.uuid(), findings)
            .execute(tx)
            .await?;
    if kept.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// What became of the newest publication of a run. Each field that is `None` stays as it is.
#[derive(Debug, Default)]
pub(super) struct Made<'a> {
    pub(super) commit: Option<&'a CommitSha>,
    pub(super) branch: Option<&'a str>,
    /// Number and address.
    pub(super) pull_request: Option<(i64, &'a str)>,
    /// Head of the pull request, once it is published.
    pub(super) head: Option<&'a CommitSha>,
}

/// Notes what was made of the newest publication of a run.
pub(super) async fn note_made(tx: &mut PgConnection, run: RunId, made: &Made<'_>) -> Result<(), RunError> {
    let gone = || RunError::Damaged { table: "publications", id: run.uuid(), problem: "is gone".to_owned() };
    let publication = publication(&mut *tx, run).await?.ok_or_else(gone)?;
    let noted = sqlx::query!(
        "update publications set commit_sha = coalesce($2, commit_sha), branch = coalesce($3, branch),
                pull_request_number = coalesce($4, pull_request_number), pull_request_url = coalesce($5, pull_request_url),
                head_sha = coalesce($6, head_sha)
         where publication_id = $1",
        publication.id.uuid(),
        made.commit.map(CommitSha::as_str),
        made.branch,
        made.pull_request.map(|(number, _)| number),
        made.pull_request.map(|(_, url)| url),
        made.head.map(CommitSha::as_str),
    )
    .execute(tx)
    .await?;
    if noted.rows_affected() == 1 { Ok(()) } else { Err(gone()) }
}
