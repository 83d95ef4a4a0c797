//! What became of published results: approved by whom at which head, merged or closed. Labels
//! follow these records and are never read.

mod labels;

use std::collections::HashMap;

use domain::{
    decision::ApprovalRecord,
    ids::{ApprovalId, DecisionId, Id, RepositoryId, RunId},
    names::CommitSha,
};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

pub(crate) use self::labels::{follow, kept};
use crate::{App, audit, projects::store::Repository};

/// A decision about a pull request, as its records name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) pull: i64,
    pub(crate) decision: DecisionId,
    pub(crate) actor: &'a str,
    pub(crate) trace_id: &'a str,
}

/// The approvals that stand, by pull request.
pub(crate) async fn standing(
    tx: &mut PgConnection,
    repository: RepositoryId,
    pulls: &[i64],
) -> sqlx::Result<HashMap<i64, ApprovalRecord>> {
    let rows = sqlx::query!(
        "select pull_request, approved_by, head_sha, review_id, approval_id from approvals
         where repository_id = $1 and pull_request = any($2) and withdrawn_at is null",
        repository.uuid(),
        pulls
    )
    .fetch_all(tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let head = row
                .head_sha
                .parse()
                .map_err(|e| sqlx::Error::Decode(format!("approvals {}: {e}", row.approval_id).into()))?;
            let review = u64::try_from(row.review_id).unwrap_or_default();
            Ok((row.pull_request, ApprovalRecord { by: row.approved_by, head, review }))
        })
        .collect()
}

/// Records that a result is approved; an earlier approval of the pull request gives way.
pub(crate) async fn approve(
    tx: &mut PgConnection,
    app: &App,
    about: About<'_>,
    (run, head, review, right): (RunId, &CommitSha, u64, &str),
) -> sqlx::Result<()> {
    withdraw_standing(tx, app, about, "A newer review approves.").await?;
    sqlx::query!(
        "insert into approvals (approval_id, repository_id, pull_request, run_id, head_sha, review_id, approved_by, by_right, decision_id, approved_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        app.ids.next::<ApprovalId>().uuid(),
        about.repository.id.uuid(),
        about.pull,
        run.uuid(),
        head.as_str(),
        i64::try_from(review).unwrap_or(i64::MAX),
        about.actor,
        right,
        about.decision.uuid(),
        app.clock.now(),
    )
    .execute(&mut *tx)
    .await?;
    let text = format!("Approved by {} at {}.", about.actor, head.short());
    let detail = json!({ "pull_request": about.pull, "head": head, "review": review, "right": right, "decision": about.decision });
    record(tx, app, about, run.uuid(), "result.approved", &text, detail).await
}

/// Records that no approval of the pull request stands any more.
pub(crate) async fn withdraw(
    tx: &mut PgConnection,
    app: &App,
    about: About<'_>,
    why: &str,
) -> sqlx::Result<()> {
    for run in withdraw_standing(tx, app, about, why).await? {
        let detail = json!({ "pull_request": about.pull, "why": why, "decision": about.decision });
        record(tx, app, about, run, "result.approval_withdrawn", why, detail).await?;
    }
    Ok(())
}

async fn withdraw_standing(
    tx: &mut PgConnection,
    app: &App,
    about: About<'_>,
    why: &str,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "update approvals set withdrawn_at = $3, withdrawn_why = $4
         where repository_id = $1 and pull_request = $2 and withdrawn_at is null returning run_id",
        about.repository.id.uuid(),
        about.pull,
        app.clock.now(),
        why,
    )
    .fetch_all(tx)
    .await
}

/// Notes the head a pull request of ours has by now.
pub(crate) async fn note_head(
    tx: &mut PgConnection,
    repository: RepositoryId,
    pull: i64,
    head: &CommitSha,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update publications p set head_sha = $3 from runs r
         where r.run_id = p.run_id and r.repository_id = $1 and p.pull_request_number = $2",
        repository.uuid(),
        pull,
        head.as_str(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Records how a pull request of ours ended.
pub(crate) async fn end(
    tx: &mut PgConnection,
    app: &App,
    about: About<'_>,
    merged: bool,
) -> sqlx::Result<()> {
    let runs = sqlx::query_scalar!(
        "update publications p set ended_at = $3, merged = $4, merged_by = case when $4 then $5 end from runs r
         where r.run_id = p.run_id and r.repository_id = $1 and p.pull_request_number = $2 returning p.run_id",
        about.repository.id.uuid(),
        about.pull,
        app.clock.now(),
        merged,
        about.actor,
    )
    .fetch_all(&mut *tx)
    .await?;
    let (action, text) = if merged {
        ("result.merged", format!("Pull request #{} was merged by {}.", about.pull, about.actor))
    } else {
        (
            "result.closed",
            format!("Pull request #{} was closed by {} without being merged.", about.pull, about.actor),
        )
    };
    for run in runs {
        let detail = json!({ "pull_request": about.pull, "decision": about.decision });
        record(tx, app, about, run, action, &text, detail).await?;
    }
    Ok(())
}

/// Records that a pull request of ours is open again.
pub(crate) async fn reopen(tx: &mut PgConnection, app: &App, about: About<'_>) -> sqlx::Result<()> {
    let runs = sqlx::query_scalar!(
        "update publications p set ended_at = null, merged = false, merged_by = null from runs r
         where r.run_id = p.run_id and r.repository_id = $1 and p.pull_request_number = $2 returning p.run_id",
        about.repository.id.uuid(),
        about.pull,
    )
    .fetch_all(&mut *tx)
    .await?;
    let text = format!("Pull request #{} was reopened by {}.", about.pull, about.actor);
    for run in runs {
        let detail = json!({ "pull_request": about.pull, "decision": about.decision });
        record(tx, app, about, run, "result.reopened", &text, detail).await?;
    }
    Ok(())
}

async fn record(
    tx: &mut PgConnection,
    app: &App,
    about: About<'_>,
    run: Uuid,
    action: &str,
    text: &str,
    detail: serde_json::Value,
) -> sqlx::Result<()> {
    let entry = audit::Entry {
        project: Some(about.repository.project),
        actor: about.actor,
        action,
        subject: format!("run:{run}"),
        detail,
        trace_id: Some(about.trace_id),
    };
    audit::record_of_run(tx, &*app.clock, &app.ids, RunId::from_uuid(run), text, entry).await
}
