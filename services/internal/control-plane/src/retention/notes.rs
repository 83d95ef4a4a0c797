//! What people are told in place of what was deleted.

use chrono::{DateTime, Utc};
use domain::ids::{Id, RunId};
use sqlx::PgPool;

/// `on 2026-12-21, 30 days after the run ended`
fn when(deleted: DateTime<Utc>, ended: Option<DateTime<Utc>>) -> String {
    let days = ended.map_or(0, |ended| (deleted - ended).num_days());
    let unit = if days == 1 { "day" } else { "days" };
    format!("on {}, {days} {unit} after the run ended", deleted.format("%Y-%m-%d"))
}

/// A sentence for each attempt whose transcript was deleted, with the attempt's number.
pub(crate) async fn transcripts(db: &PgPool, run: RunId) -> sqlx::Result<Vec<(i32, String)>> {
    let rows = sqlx::query!(
        r#"select a.number, a.transcript_deleted_at as "deleted!", r.finished_at
           from attempts a join runs r using (run_id)
           where a.run_id = $1 and a.transcript_deleted_at is not null order by a.number"#,
        run.uuid()
    )
    .fetch_all(db)
    .await?;
    let sentence = |number, deleted, ended| {
        (number, format!("The transcript of attempt {number} was deleted {}.", when(deleted, ended)))
    };
    Ok(rows.into_iter().map(|r| sentence(r.number, r.deleted, r.finished_at)).collect())
}

/// A sentence for everything of a run that was deleted.
pub(crate) async fn of_run(db: &PgPool, run: RunId) -> sqlx::Result<Vec<String>> {
    let row = sqlx::query!(
        r#"select r.finished_at, r.prompt_deleted_at,
                  (select max(a.result_deleted_at) from attempts a where a.run_id = r.run_id) as result_deleted_at,
                  exists (select from effects e where e.run_id = r.run_id) as "effects!",
                  exists (select from events e where e.run_id = r.run_id) as "events!"
           from runs r where r.run_id = $1"#,
        run.uuid()
    )
    .fetch_one(db)
    .await?;
    let mut sentences: Vec<String> = transcripts(db, run).await?.into_iter().map(|(_, s)| s).collect();
    for (what, deleted) in
        [("Its changeset and session were", row.result_deleted_at), ("Its prompt was", row.prompt_deleted_at)]
    {
        sentences.extend(deleted.map(|at| format!("{what} deleted {}.", when(at, row.finished_at))));
    }
    if row.finished_at.is_some() {
        // Every run has both; these rows cannot be marked, because they are gone.
        if !row.effects {
            sentences.push("Its effects were deleted, as `retention.effects` says.".to_owned());
        }
        if !row.events {
            sentences.push("Its events were deleted, as `retention.events` says.".to_owned());
        }
    }
    Ok(sentences)
}
