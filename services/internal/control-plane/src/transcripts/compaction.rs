//! Chunks of attempts that are over become one object each.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use domain::ids::{AttemptId, Id, ProjectId};
use futures::FutureExt;
use sqlx::types::Json;
use telemetry::shutdown::Shutdown;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::object::{self, Line};
use crate::{
    App,
    objects::Kind,
    singleton::{self, Leads, Singleton},
    steps::{self, Step},
};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(2);
/// The last words of an attempt may still be on their way for this long after its end.
const LAST_WORDS: TimeDelta = TimeDelta::seconds(5);

/// Compacts for as long as this process leads.
pub(crate) fn spawn(app: &Arc<App>, shutdown: &Shutdown) {
    singleton::spawn(app, shutdown, Singleton::Compactor, |app, leads, ended| {
        compact_all(app, leads, ended).boxed()
    });
}

async fn compact_all(app: &App, leads: &mut Leads, ended: &CancellationToken) -> anyhow::Result<()> {
    loop {
        leads.still().await?;
        while let Some((attempt, project)) = next(app).await? {
            if ended.is_cancelled() {
                return Ok(());
            }
            compact(app, attempt, project).await?;
            leads.still().await?;
        }
        tokio::select! {
            () = ended.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// An attempt that is over and whose chunks are still there, and its project.
async fn next(app: &App) -> sqlx::Result<Option<(AttemptId, ProjectId)>> {
    let found = sqlx::query!(
        "select a.attempt_id, r.project_id from attempts a join runs r using (run_id)
         where a.transcript_key is null and a.ended_at < $1
           and a.attempt_id in (select attempt_id from transcript_chunks)
         order by a.ended_at limit 1",
        app.clock.now() - LAST_WORDS
    )
    .fetch_optional(&app.db)
    .await?;
    Ok(found.map(|row| (AttemptId::from_uuid(row.attempt_id), ProjectId::from_uuid(row.project_id))))
}

/// The object first; then one transaction in which it takes the place of exactly the chunks
/// that are in it.
async fn compact(app: &App, attempt: AttemptId, project: ProjectId) -> anyhow::Result<()> {
    let (lines, last) = lines(app, attempt.uuid()).await?;
    let count = lines.len();
    let object = tokio::task::spawn_blocking(move || object::write(&lines)).await??;
    let bytes = object.len();
    let key = app.objects.put(project, Kind::Transcript, object).await?;
    let mut tx = app.db.begin().await?;
    // Whoever stores a chunk updates this row first, so none comes in between.
    let moved = sqlx::query!(
        "update attempts set transcript_key = $2 where attempt_id = $1 and transcript_key is null",
        attempt.uuid(),
        key,
    )
    .execute(&mut *tx)
    .await?;
    let newest = sqlx::query_scalar!(
        "select max(sequence) from transcript_chunks where attempt_id = $1",
        attempt.uuid()
    )
    .fetch_one(&mut *tx)
    .await?;
    // A chunk was late, or somebody else was first: looked at again.
    if moved.rows_affected() != 1 || newest != last {
        return Ok(());
    }
    sqlx::query!("delete from transcript_chunks where attempt_id = $1", attempt.uuid())
        .execute(&mut *tx)
        .await?;
    steps::commit(tx, Step::TranscriptCompacted).await?;
    tracing::debug!(attempt_id = %attempt, lines = count, bytes, "transcript compacted");
    Ok(())
}

/// All lines, and the number of the last chunk.
async fn lines(app: &App, attempt: Uuid) -> sqlx::Result<(Vec<Line>, Option<i64>)> {
    let chunks = sqlx::query!(
        r#"select sequence, lines as "lines: Json<Vec<Line>>" from transcript_chunks where attempt_id = $1 order by sequence"#,
        attempt
    )
    .fetch_all(&app.db)
    .await?;
    let last = chunks.last().map(|chunk| chunk.sequence);
    let lines = chunks
        .into_iter()
        .flat_map(|chunk| {
            chunk.lines.0.into_iter().map(move |line| Line { sequence: Some(chunk.sequence), ..line })
        })
        .collect();
    Ok((lines, last))
}
