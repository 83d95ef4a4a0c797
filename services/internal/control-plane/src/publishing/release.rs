//! A person lets a held changeset be published.

use domain::{
    ids::Id,
    run::{PublicationState, RunState},
};
use serde_json::json;
use sqlx::PgConnection;

use super::{
    changesets::{digest, stored_changeset},
    comments::Released,
    judging::send,
    move_publication, publication, say_status,
};
use crate::{
    App, audit,
    runs::{self, Run, RunError},
};

/// Publishes what is held, as it is and against the commit it was made on; the run is locked.
pub(crate) async fn release(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    actor: &str,
    reason: &str,
) -> Result<Run, RunError> {
    let damaged = |problem: String| RunError::Damaged { table: "publications", id: run.id.uuid(), problem };
    let publication =
        publication(&mut *tx, run.id).await?.ok_or_else(|| damaged("nothing is there".to_owned()))?;
    let key =
        publication.changeset_key.as_deref().ok_or_else(|| damaged("no changeset is kept".to_owned()))?;
    let changeset = stored_changeset(app, key).await.map_err(|e| damaged(e.to_string()))?;
    let attempts = runs::attempts::of_run(&mut *tx, run.id).await?;
    let attempt = attempts.last().ok_or_else(|| damaged("no attempt made it".to_owned()))?;

    let noted = sqlx::query!(
        "update publications set released_by = $2, release_reason = $3
         where publication_id = $1 and state = 'held'",
        publication.id.uuid(),
        actor,
        reason,
    )
    .execute(&mut *tx)
    .await?;
    if noted.rows_affected() != 1 {
        return Err(damaged("is not held any more".to_owned()));
    }
    let entry = audit::Entry {
        project: Some(run.project),
        actor,
        action: "publication.released",
        subject: format!("run:{}", run.id),
        detail: json!({ "publication": publication.id, "changeset": digest(key), "reason": reason }),
        trace_id: Some(&run.trace_id),
    };
    audit::record(tx, &*app.clock, &app.ids, entry).await?;
    move_publication(tx, app, run, PublicationState::Held, PublicationState::Publishing).await?;
    let message = if reason.is_empty() {
        format!("Released by {actor}; publishing.")
    } else {
        format!("Released by {actor}; publishing. The reason: {reason}")
    };
    let run = runs::move_run(tx, app, run, RunState::Active, actor, &message).await?;
    let released = Released { by: actor, reason, publication: &publication };
    send(tx, app, &run, attempt, &changeset, Some(&released)).await?;
    say_status(tx, app, &run).await?;
    Ok(run)
}
