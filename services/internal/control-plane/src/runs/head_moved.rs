//! The branch moved under a finished attempt: the run goes on from its new head, and the next
//! attempt gets what the one before it changed.

use domain::{changeset::Changeset, ids::Id, run::RunState};
use sqlx::PgConnection;

use super::store::{Run, RunError, move_run};
use crate::{
    App,
    objects::Objects,
    publishing::{self, Unreadable},
    wake::Topic,
};

/// What an earlier attempt changed, on the commit the changeset names as its base: the input of
/// the attempts to come.
pub(crate) async fn input_changeset(app: &App, run: &Run) -> Result<Option<Changeset>, Unreadable> {
    match &run.input_changeset_key {
        Some(key) => publishing::stored_changeset(app, key).await.map(Some),
        None => Ok(None),
    }
}

/// Queues an active run again; it is pinned anew when its next attempt begins.
pub(crate) async fn again_on_new_head(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    input_changeset_key: &str,
    message: &str,
) -> Result<Run, RunError> {
    let run = move_run(tx, app, run, RunState::Queued, "platform", message).await?;
    // The prompt of the old state is let go.
    Objects::let_go(tx, [run.prompt_key.clone()], app.clock.now()).await?;
    let updated = sqlx::query!(
        "update runs set base_sha = null, steering_sha = null, review_base_sha = null, prompt_key = null, input_changeset_key = $2, available_at = $3
         where run_id = $1",
        run.id.uuid(),
        input_changeset_key,
        app.clock.now(),
    )
    .execute(&mut *tx)
    .await?;
    if updated.rows_affected() != 1 {
        return Err(RunError::Database(sqlx::Error::RowNotFound));
    }
    Topic::Queue.notify(tx).await?;
    Ok(Run {
        base_sha: None,
        steering_sha: None,
        review_base_sha: None,
        prompt_key: None,
        input_changeset_key: Some(input_changeset_key.to_owned()),
        ..run
    })
}
