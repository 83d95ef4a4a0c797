//! SQL of pauses.

use chrono::{DateTime, Utc};
use domain::ids::{Id, PauseId, ProjectId};
use sqlx::{PgConnection, PgExecutor};

use super::Subject;
use crate::App;

/// A pause that stands.
#[derive(Clone, Debug)]
pub(crate) struct Pause {
    pub(crate) subject: Subject,
    pub(crate) paused_by: String,
    pub(crate) reason: String,
    pub(crate) paused_at: DateTime<Utc>,
}

/// Taken shared by whoever leases or queues, so that nothing starts once a pause is committed.
const LOCK: &str = "pauses";

/// No pause begins or ends before this transaction does. Taken before a queued run is locked.
pub(crate) async fn hold_off_pauses(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock_shared(hashtextextended($1, 0))", LOCK).fetch_one(tx).await?;
    Ok(())
}

/// Waits for those who lease or queue, and keeps others from it until the transaction ends.
pub(super) async fn lock(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1, 0))", LOCK).fetch_one(tx).await?;
    Ok(())
}

/// Every pause, the widest first.
pub(crate) async fn standing(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Pause>> {
    let rows = sqlx::query!(
        r#"select p.project_id, o.name as "project?", p.stage, p.paused_by, p.reason, p.paused_at
           from pauses p left join projects o using (project_id)
           order by num_nonnulls(p.project_id, p.stage), p.paused_at"#
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Pause {
            subject: match (row.project_id.zip(row.project), row.stage) {
                (Some((id, name)), _) => Subject::Project { id: ProjectId::from_uuid(id), name },
                (None, Some(stage)) => Subject::Stage(stage),
                (None, None) => Subject::Platform,
            },
            paused_by: row.paused_by,
            reason: row.reason,
            paused_at: row.paused_at,
        })
        .collect())
}

/// A project by its name.
pub(super) async fn project(db: impl PgExecutor<'_>, name: &str) -> sqlx::Result<Option<ProjectId>> {
    let id = sqlx::query_scalar!("select project_id from projects where name = $1", name);
    Ok(id.fetch_optional(db).await?.map(ProjectId::from_uuid))
}

/// Adds a pause; false when there is one of this subject.
pub(super) async fn insert(tx: &mut PgConnection, app: &App, pause: &Pause) -> sqlx::Result<bool> {
    let (project, stage) = pause.subject.columns();
    let added = sqlx::query!(
        "insert into pauses (pause_id, project_id, stage, paused_by, reason, paused_at)
         values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
        app.ids.next::<PauseId>().uuid(),
        project.map(Id::uuid),
        stage,
        pause.paused_by,
        pause.reason,
        pause.paused_at,
    )
    .execute(tx)
    .await?;
    Ok(added.rows_affected() == 1)
}

/// Takes a pause away.
pub(super) async fn delete(tx: &mut PgConnection, subject: &Subject) -> sqlx::Result<()> {
    let (project, stage) = subject.columns();
    let gone = sqlx::query!(
        "delete from pauses where project_id is not distinct from $1 and stage is not distinct from $2",
        project.map(Id::uuid),
        stage,
    )
    .execute(tx)
    .await?;
    if gone.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}
