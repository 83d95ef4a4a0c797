//! Comments: written once, found again by author, mark and time together.

use chrono::{DateTime, TimeDelta, Utc};
use domain::ids::{Id, RunId};
use forge::{Comment, ForgeError};
use sqlx::PgConnection;
use telemetry::steps::without;

use super::{Applied, Failure, unsigned};
use crate::{
    App,
    projects::store::Repository,
    publishing::{
        comments,
        effects::{self, Effect, NewEffect},
        queue::Pending,
    },
};

/// Our clock and the code host's may differ by this much.
const SKEW: TimeDelta = TimeDelta::hours(1);

/// The name of the check that keeps a comment single, where tests switch it off.
const ONE_COMMENT: &str = "one_comment";

/// The run's status comment: edited where it is known, else written once.
pub(super) async fn status(
    app: &App,
    pending: &Pending,
    repository: &Repository,
    issue: u64,
    body: &str,
) -> Result<Applied, Failure> {
    let Some(run) = pending.run else {
        return Ok(Applied::Pointless("a status comment without a run"));
    };
    let stored = sqlx::query_scalar!("select comment_id from status_comments where run_id = $1", run.uuid())
        .fetch_optional(&app.db)
        .await?;
    if let Some(id) = stored {
        return match app.forge.update_comment(&repository.name, unsigned(id), body).await {
            Ok(comment) => Ok(Applied::Edited(comment)),
            Err(ForgeError::Missing { .. }) => {
                // Or the repository is out of reach: then that is the failure, and this waits.
                app.forge.repository(&repository.name).await?;
                Ok(Applied::Pointless("the status comment was deleted by a person"))
            }
            Err(error) => Err(error.into()),
        };
    }
    // An earlier one that was given up may have been written all the same.
    let earlier = sqlx::query_scalar!(
        r#"select exists (select from effects where run_id = $1 and kind = 'status_comment' and effect_id <> $2
             and tried_at is not null and state in ('dead', 'skipped')) as "tried!""#,
        run.uuid(),
        pending.id.uuid(),
    )
    .fetch_one(&app.db)
    .await?;
    let mark = comments::mark_of_run(run);
    let since = begin_of(&mut *app.db.acquire().await?, run).await?;
    once(app, repository, issue, body, &mark, since, earlier || pending.tried_at.is_some()).await
}

/// When a run was asked for: its status comment is younger, whichever effect wrote it.
async fn begin_of(db: &mut PgConnection, run: RunId) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!("select created_at from runs where run_id = $1", run.uuid()).fetch_one(db).await
}

/// Writes a comment; where an earlier call may have written it, looks before it repeats.
pub(super) async fn once(
    app: &App,
    repository: &Repository,
    number: u64,
    body: &str,
    mark: &str,
    since: DateTime<Utc>,
    doubtful: bool,
) -> Result<Applied, Failure> {
    if doubtful && !without(ONE_COMMENT) {
        let ours = ours(app, repository, number, mark, since).await?;
        if let Some(mut comment) = ours.into_iter().next() {
            // It may be of an earlier effect, with an earlier text.
            if comment.body.trim_end() != body.trim_end() {
                comment = app.forge.update_comment(&repository.name, comment.id, body).await?;
            }
            return Ok(Applied::Written { comment, doubtful });
        }
    }
    let comment = app.forge.create_comment(&repository.name, number, body).await?;
    Ok(Applied::Written { comment, doubtful })
}

/// Our comments with this mark, oldest first. Mark, author and time together: anybody can copy
/// a mark, and one of ours is always at the very beginning.
async fn ours(
    app: &App,
    repository: &Repository,
    number: u64,
    mark: &str,
    since: DateTime<Utc>,
) -> Result<Vec<Comment>, ForgeError> {
    let identity = app.forge.identity().await?;
    let mut comments = app.forge.comments(&repository.name, number).await?;
    comments.retain(|c| {
        c.author.eq_ignore_ascii_case(&identity) && c.body.starts_with(mark) && c.created_at >= since - SKEW
    });
    Ok(comments)
}

/// Deletes our other comments with this mark.
pub(super) async fn delete_others(
    app: &App,
    repository: &Repository,
    number: u64,
    mark: &str,
    since: DateTime<Utc>,
    keep: u64,
) -> Result<Applied, Failure> {
    for comment in ours(app, repository, number, mark, since).await? {
        if comment.id != keep {
            tracing::warn!(repository = %repository.name, number, comment = comment.id, kept = keep, "a second comment of ours is deleted");
            app.forge.delete_comment(&repository.name, comment.id).await?;
        }
    }
    Ok(Applied::Done)
}

/// Has second comments of this effect looked for later on; `keep` is the recorded one. Not in
/// its run's order: nothing has to wait for it.
pub(in crate::publishing) async fn sole_comment(
    tx: &mut PgConnection,
    app: &App,
    pending: &Pending,
    keep: i64,
) -> sqlx::Result<()> {
    let (number, mark, since) = match (&pending.effect, pending.run) {
        (Effect::StatusComment { issue, .. }, Some(run)) => {
            (*issue, comments::mark_of_run(run), begin_of(tx, run).await?)
        }
        (Effect::Comment { number, mark, .. }, _) => (*number, mark.clone(), pending.created_at),
        (
            Effect::StatusComment { .. }
            | Effect::SoleComment { .. }
            | Effect::RemoveLabel { .. }
            | Effect::AddLabels { .. }
            | Effect::React { .. }
            | Effect::ReactToComment { .. }
            | Effect::Commit { .. }
            | Effect::Branch { .. }
            | Effect::PullRequest { .. }
            | Effect::MoveBranch { .. }
            | Effect::UpdatePullRequest { .. }
            | Effect::Review { .. }
            | Effect::Progress { .. },
            _,
        ) => return Ok(()),
    };
    if without(ONE_COMMENT) {
        return Ok(());
    }
    let effect = Effect::SoleComment { number, mark, since, keep };
    let new =
        NewEffect { run: None, repository: pending.repository, trace_id: &pending.trace_id, effect: &effect };
    effects::insert(tx, app, &new).await
}
