//! What a worker and a runner say about an attempt.

use domain::{
    cluster::{self, After, Cause, Word},
    ids::{AttemptId, Id},
    neutralise::visible,
    run::{AttemptState, FailureClass, RunState},
};
use proto::v1::{
    AttemptEnded, AttemptStarted, AttemptWaits, ClusterObject,
    attempt_ended::{self, Outcome},
};
use sqlx::PgConnection;

use super::{
    agent_runs,
    attempt_calls::{MAX_MESSAGE_BYTES, cut},
    attempts::{self, Attempt, move_attempt},
    ending::{end, hand_back, lose, out_of_time},
    store::{self, Run, RunError},
};
use crate::{
    App, publishing,
    steps::{self, Step},
};

/// Bytes of why an attempt does not run yet that are kept.
const MAX_WAIT_BYTES: usize = 500;

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Accepted,
    /// The attempt is over: its process must go.
    Over,
    /// It goes on with another process of the worker.
    Adopted,
    /// It says something else than what was said before; why, in words.
    Contradicts(&'static str),
}

/// The run, locked, and its attempt as it is now, while that is held by the same lease. Otherwise
/// what its report comes to.
async fn held(tx: &mut PgConnection, attempt: &Attempt) -> Result<Result<(Run, Attempt), Heard>, RunError> {
    let Some(run) = store::lock(&mut *tx, attempt.run).await? else { return Ok(Err(Heard::Over)) };
    let Some(now) = attempts::get(&mut *tx, attempt.id).await? else { return Ok(Err(Heard::Over)) };
    Ok(match (now.state.is_live(), now.fence == attempt.fence) {
        (false, _) => Err(Heard::Over),
        (true, false) => Err(Heard::Adopted),
        (true, true) => Ok((run, now)),
    })
}

/// The worker is going to make this object for the attempt.
pub(super) async fn planned(app: &App, attempt: &Attempt, object: &ClusterObject) -> Result<Heard, RunError> {
    let mut tx = app.db.begin().await?;
    let (run, attempt) = match held(&mut tx, attempt).await? {
        Ok(held) => held,
        Err(heard) => return Ok(heard),
    };
    if !agent_runs::is_of(object, &run, attempt.id) {
        return Ok(Heard::Contradicts("an attempt's object has the namespace of its lease and its own name"));
    }
    if !agent_runs::is_digest(&object.digest) {
        return Ok(Heard::Contradicts("a digest is 64 hexadecimal digits"));
    }
    let stored = agent_runs::stored(&mut tx, attempt.id).await?;
    match cluster::planned(stored.as_ref(), &object.digest) {
        Word::Known => return Ok(Heard::Accepted),
        Word::Contradicts => return Ok(Heard::Contradicts("another object was made for this attempt")),
        Word::New => agent_runs::plan(&mut tx, attempt.id, object).await?,
    }
    steps::commit(tx, Step::ObjectPlanned).await?;
    Ok(Heard::Accepted)
}

/// The object was made, and the cluster calls it so.
pub(super) async fn created(app: &App, attempt: &Attempt, object: &ClusterObject) -> Result<Heard, RunError> {
    let mut tx = app.db.begin().await?;
    let (run, attempt) = match held(&mut tx, attempt).await? {
        Ok(held) => held,
        Err(heard) => return Ok(heard),
    };
    if !agent_runs::is_of(object, &run, attempt.id) || !agent_runs::is_uid(&object.uid) {
        return Ok(Heard::Contradicts(
            "an attempt's object has the namespace of its lease, its own name and a uid",
        ));
    }
    let stored = agent_runs::stored(&mut tx, attempt.id).await?;
    match cluster::created(stored.as_ref(), &agent_runs::found(object)) {
        Word::Known => return Ok(Heard::Accepted),
        Word::Contradicts => {
            return Ok(Heard::Contradicts("this is not the object that was planned for this attempt"));
        }
        Word::New => agent_runs::name(&mut tx, attempt.id, &object.uid).await?,
    }
    steps::commit(tx, Step::ObjectCreated).await?;
    Ok(Heard::Accepted)
}

/// The attempt cannot run yet. People are told when it waits for something else than before.
pub(super) async fn waits(app: &App, attempt: &Attempt, waits: &AttemptWaits) -> Result<Heard, RunError> {
    let why = claim(app, cut(&waits.message, MAX_WAIT_BYTES));
    let mut tx = app.db.begin().await?;
    let (run, attempt) = match held(&mut tx, attempt).await? {
        Ok(held) => held,
        Err(heard) => return Ok(heard),
    };
    // Once it is being prepared it does not wait, however late this word comes.
    if attempt.state != AttemptState::Leased || attempt.waits_for.as_ref() == Some(&why) || why.is_empty() {
        return Ok(Heard::Accepted);
    }
    let noted =
        sqlx::query!("update attempts set waits_for = $2 where attempt_id = $1", attempt.id.uuid(), why)
            .execute(&mut *tx)
            .await?;
    if noted.rows_affected() != 1 {
        return Err(RunError::Database(sqlx::Error::RowNotFound));
    }
    if attempt.waits_for.as_deref().map(cluster::kind_of_wait) != Some(cluster::kind_of_wait(&why)) {
        let text = format!("Attempt {} waits: {why}", attempt.number);
        store::event(&mut tx, app, run.id, "attempt_waits", &text).await?;
        publishing::say_status(&mut tx, app, &run).await?;
    }
    steps::commit(tx, Step::AttemptWaits).await?;
    Ok(Heard::Accepted)
}

/// The attempt has a process.
pub(super) async fn started(
    app: &App,
    attempt: &Attempt,
    started: &AttemptStarted,
) -> Result<Heard, RunError> {
    let isolation = claim(app, &started.isolation);
    let mut tx = app.db.begin().await?;
    // The run first, then its attempt: the order of locks everywhere.
    let (run, now) = match held(&mut tx, attempt).await? {
        Ok(held) => held,
        Err(heard) => return Ok(heard),
    };
    sqlx::query!(
        "update attempts set isolation = $2, unsandboxed = $3 where attempt_id = $1",
        attempt.id.uuid(),
        isolation,
        started.unsandboxed
    )
    .execute(&mut *tx)
    .await?;
    // The runner's hello may have been faster than this report.
    if now.state == AttemptState::Leased {
        move_attempt(&mut tx, app, &run, &now, AttemptState::Preparing, &isolation).await?;
        // Its runner may never say hello; that it waits is not so any more.
        if now.waits_for.is_some() {
            publishing::say_status(&mut tx, app, &run).await?;
        }
    }
    steps::commit(tx, Step::AttemptStarted).await?;
    Ok(Heard::Accepted)
}

/// The attempt has no process any more. One that was over already changes nothing.
pub(super) async fn ended(app: &App, attempt: &Attempt, ended: &AttemptEnded) -> Result<Heard, RunError> {
    let message = claim(app, &ended.message);
    let mut tx = app.db.begin().await?;
    let Some(run) = store::lock(&mut tx, attempt.run).await? else { return Ok(Heard::Over) };
    let fence = attempt.fence;
    // Under the lock: a result or a stop may have come first, or another process has adopted it.
    let Some(attempt) = attempts::get(&mut *tx, attempt.id).await? else { return Ok(Heard::Over) };
    match attempt.state {
        AttemptState::Leased | AttemptState::Preparing | AttemptState::Running if attempt.fence != fence => {
            return Ok(Heard::Adopted);
        }
        AttemptState::Leased | AttemptState::Preparing | AttemptState::Running => {}
        // The usual end of one that returned or was told to stop.
        AttemptState::Returned | AttemptState::Stopped => return Ok(Heard::Accepted),
        AttemptState::Lost => {
            late_word(&mut tx, app, &attempt, &message).await?;
            steps::commit(tx, Step::LateWordNoted).await?;
            return Ok(Heard::Over);
        }
    }
    settle(&mut tx, app, &run, &attempt, ended, &message).await?;
    steps::commit(tx, Step::AttemptEnded).await?;
    Ok(Heard::Accepted)
}

/// What follows from how a live attempt ended.
async fn settle(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    attempt: &Attempt,
    ended: &AttemptEnded,
    message: &str,
) -> Result<(), RunError> {
    let fail = |class| RunState::Failed(class);
    match (ended.outcome(), cause(ended.cause()).map(Cause::after)) {
        (Outcome::Shutdown, _) if attempt.is_drained => hand_back(tx, app, run, attempt).await?,
        // Its worker's process died while it ended it gently, and the next one found it gone.
        (_, Some(After::Again)) if attempt.is_drained && ended.cause() == attempt_ended::Cause::Deleted => {
            hand_back(tx, app, run, attempt).await?;
        }
        (Outcome::Shutdown, _) => lose(tx, app, run, attempt, "the worker was shut down").await?,
        (_, Some(After::Again)) => lose(tx, app, run, attempt, message).await?,
        (_, Some(After::Fail(class))) => {
            end(tx, app, run, fail(class), "platform", message).await?;
        }
        (_, Some(After::OutOfTime)) if attempt.deadline_at <= app.clock.now() => {
            out_of_time(tx, app, run, attempt).await?;
        }
        // Whoever may change Jobs may give one another deadline.
        (_, Some(After::OutOfTime)) => {
            lose(tx, app, run, attempt, "its Job was ended at a deadline that is not the platform's").await?;
        }
        (Outcome::NotStarted, None) => {
            end(tx, app, run, fail(FailureClass::Infrastructure), "platform", message).await?;
        }
        // The worker's own clock ended it, or a call of its runner was refused for being late: the
        // deadline is the platform's to say.
        (Outcome::Stopped | Outcome::Exited, None) if attempt.deadline_at <= app.clock.now() => {
            out_of_time(tx, app, run, attempt).await?;
        }
        (Outcome::Exited, None) => {
            lose(tx, app, run, attempt, &format!("the runner ended without a result: {message}")).await?;
        }
        (Outcome::Died | Outcome::Stopped | Outcome::Unspecified, None) => {
            lose(tx, app, run, attempt, message).await?;
        }
    }
    Ok(())
}

/// In our words; `None` when a cluster did nothing to it.
fn cause(cause: attempt_ended::Cause) -> Option<Cause> {
    use attempt_ended::Cause as Said;
    match cause {
        Said::Unspecified => None,
        Said::Unschedulable => Some(Cause::Unschedulable),
        Said::Image => Some(Cause::Image),
        Said::OutOfMemory => Some(Cause::OutOfMemory),
        Said::Evicted => Some(Cause::Evicted),
        Said::NodeLost => Some(Cause::NodeLost),
        Said::Deadline => Some(Cause::Deadline),
        Said::Deleted => Some(Cause::Deleted),
        Said::Denied => Some(Cause::Denied),
        Said::Quota => Some(Cause::Quota),
    }
}

/// Word of an attempt that was given up: kept for people, and it changes nothing.
pub(super) async fn late_word(
    tx: &mut PgConnection,
    app: &App,
    attempt: &Attempt,
    message: &str,
) -> Result<(), RunError> {
    let text = format!("Attempt {} was heard of after it was {}: {message}", attempt.number, attempt.state);
    Ok(store::event(tx, app, attempt.run, "late_word", &text).await?)
}

/// A sentence of a worker: bounded, without what cannot be stored or seen.
fn claim(app: &App, text: &str) -> String {
    app.censor.censor(&visible(cut(text, MAX_MESSAGE_BYTES))).replace('\0', "")
}

/// The runner said hello: the attempt runs, and people are told.
pub(super) async fn hello(app: &App, id: AttemptId) -> Result<Option<(Run, Attempt)>, RunError> {
    let mut tx = app.db.begin().await?;
    let Some(attempt) = attempts::get(&mut *tx, id).await? else { return Ok(None) };
    let Some(run) = store::lock(&mut tx, attempt.run).await? else { return Ok(None) };
    let Some(mut attempt) = attempts::get(&mut *tx, id).await?.filter(|a| a.state.is_live()) else {
        return Ok(None);
    };
    if attempt.state == AttemptState::Leased {
        attempt = move_attempt(&mut tx, app, &run, &attempt, AttemptState::Preparing, "").await?;
    }
    if attempt.state == AttemptState::Preparing {
        attempt = move_attempt(&mut tx, app, &run, &attempt, AttemptState::Running, "").await?;
        publishing::say_status(&mut tx, app, &run).await?;
    }
    steps::commit(tx, Step::AttemptGreeted).await?;
    Ok(Some((run, attempt)))
}
