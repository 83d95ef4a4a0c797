//! Discussions on issues: opened by a label, answered run by run, ended by taking the label off,
//! by work on the issue, or with the issue.

use domain::{
    decision::OpenDiscussion,
    ids::{DiscussionId, Id, RepositoryId},
};
use serde_json::json;
use sqlx::{PgConnection, PgExecutor};

use crate::{App, audit, projects::store::Repository};

/// The discussion that is open on an issue.
pub(crate) async fn open_on(
    db: impl PgExecutor<'_>,
    repository: RepositoryId,
    issue: i64,
) -> sqlx::Result<Option<OpenDiscussion>> {
    sqlx::query_as!(
        OpenDiscussion,
        "select opened_by, opened_at as since from discussions
         where repository_id = $1 and issue_number = $2 and closed_at is null",
        repository.uuid(),
        issue
    )
    .fetch_optional(db)
    .await
}

/// Opens one, unless one is open.
pub(crate) async fn open(
    tx: &mut PgConnection,
    app: &App,
    repository: &Repository,
    issue: i64,
    actor: &str,
) -> sqlx::Result<()> {
    let opened = sqlx::query!(
        "insert into discussions (discussion_id, repository_id, issue_number, opened_by, opened_at)
         values ($1, $2, $3, $4, $5) on conflict do nothing",
        app.ids.next::<DiscussionId>().uuid(),
        repository.id.uuid(),
        issue,
        actor,
        app.clock.now(),
    )
    .execute(&mut *tx)
    .await?;
    if opened.rows_affected() == 1 {
        record(tx, app, repository, issue, actor, "discussion.opened").await?;
    }
    Ok(())
}

/// Ends the one that is open; says whether one was.
pub(crate) async fn end(
    tx: &mut PgConnection,
    app: &App,
    repository: &Repository,
    issue: i64,
    actor: &str,
) -> sqlx::Result<bool> {
    let ended = sqlx::query!(
        "update discussions set closed_at = $3 where repository_id = $1 and issue_number = $2 and closed_at is null",
        repository.id.uuid(),
        issue,
        app.clock.now(),
    )
    .execute(&mut *tx)
    .await?;
    let was_open = ended.rows_affected() == 1;
    if was_open {
        record(tx, app, repository, issue, actor, "discussion.ended").await?;
    }
    Ok(was_open)
}

async fn record(
    tx: &mut PgConnection,
    app: &App,
    repository: &Repository,
    issue: i64,
    actor: &str,
    action: &str,
) -> sqlx::Result<()> {
    let entry = audit::Entry {
        project: Some(repository.project),
        actor,
        action,
        subject: format!("issue:{}#{issue}", repository.name),
        detail: json!({}),
        trace_id: None,
    };
    audit::record(tx, &*app.clock, &app.ids, entry).await
}
