//! A checkpoint comes in: bounded, checked, and stored whole or not at all.

use domain::{
    censor::Censor,
    changeset::{Change, Changeset},
    ids::Id,
    names::CommitSha,
    run::{AttemptState, RunState},
};
use futures::{Stream, TryStreamExt};
use proto::v1::{CheckpointEnd, CheckpointPart, CheckpointResponse, checkpoint_part::Part};
use tonic::Status;

use super::store;
use crate::{
    App,
    objects::Kind,
    runs::{self, Attempt, Incoming, Run, RunError},
    serving::internal,
    steps::{self, Step},
};

/// How many more than its time explains an attempt may send: planned stops, and a clock that
/// is read at two places.
const SPARE: i64 = 10;

/// Reads a checkpoint to its end and stores it in place of the one before.
///
/// # Errors
/// When it breaks off, is larger than a changeset may be, does not count up to what its end
/// says, or the attempt is over. Then nothing has changed.
pub(crate) async fn receive(
    app: &App,
    run: &Run,
    attempt: &Attempt,
    censor: &Censor,
    parts: impl Stream<Item = Result<CheckpointPart, Status>>,
) -> Result<CheckpointResponse, Status> {
    let limit = run.definition.max_changeset_bytes;
    let (changeset, session) = read(limit, parts).await?;
    if run.base_sha.as_ref() != Some(&changeset.base) {
        return Err(Status::invalid_argument("the checkpoint was made on another commit than the pin"));
    }
    let refused = |message: String| Ok(CheckpointResponse { stored: false, message });
    if leaks(&changeset, &session, censor) {
        return refused("There is a secret of this platform in it.".to_owned());
    }
    if let Err(error) = changeset.restorable() {
        return refused(error.to_string());
    }
    let failed = |e: &RunError| internal("checkpoints.receive", e);
    if !is_due(app, attempt).await.map_err(|e| failed(&e))? {
        return refused("There were more of them than the attempt's time allows.".to_owned());
    }
    if keep(app, run, attempt, &changeset, session).await.map_err(|e| failed(&e))? {
        Ok(CheckpointResponse { stored: true, message: String::new() })
    } else {
        Err(Status::permission_denied("the attempt is over"))
    }
}

/// Everything between head and end.
async fn read(
    limit: u64,
    parts: impl Stream<Item = Result<CheckpointPart, Status>>,
) -> Result<(Changeset, Vec<u8>), Status> {
    let mut parts = std::pin::pin!(parts);
    let wrong = |what: &str| Status::invalid_argument(what.to_owned());
    let Some(Part::Head(head)) = parts.try_next().await?.and_then(|p| p.part) else {
        return Err(wrong("a checkpoint begins with its head"));
    };
    let base: CommitSha = head.base_sha.parse().map_err(|_| wrong("the base is not a commit"))?;
    let mut incoming = Incoming::new(limit);
    loop {
        match parts.try_next().await?.and_then(|p| p.part) {
            Some(Part::File(file)) => incoming.file(file)?,
            Some(Part::MoreContent(more)) => incoming.more(more)?,
            Some(Part::Session(session)) => incoming.session(session)?,
            Some(Part::End(end)) => {
                if parts.try_next().await?.is_some() {
                    return Err(wrong("a checkpoint goes on after its end"));
                }
                let (files, session) = incoming.complete();
                let changeset = Changeset { base, files };
                return if end == counted(&changeset, &session) {
                    Ok((changeset, session))
                } else {
                    Err(wrong("a part of the checkpoint is missing"))
                };
            }
            Some(Part::Head(_)) => return Err(wrong("a checkpoint has one head")),
            None => return Err(wrong("a checkpoint without its end")),
        }
    }
}

/// What the end of a checkpoint has to say.
pub(super) fn counted(changeset: &Changeset, session: &[u8]) -> CheckpointEnd {
    CheckpointEnd {
        files: u32::try_from(changeset.files.len()).unwrap_or(u32::MAX),
        bytes: changeset.files.iter().map(|f| content(&f.change).len() as u64).sum(),
        session_bytes: session.len() as u64,
    }
}

pub(super) fn content(change: &Change) -> &[u8] {
    match change {
        Change::Put { content, .. } => content,
        Change::Delete | Change::Submodule => &[],
    }
}

fn leaks(changeset: &Changeset, session: &[u8], censor: &Censor) -> bool {
    censor.found_in(session)
        || changeset.files.iter().any(|f| censor.found_in(&f.path) || censor.found_in(content(&f.change)))
}

/// An attempt cannot fill the store by sending one after the other.
async fn is_due(app: &App, attempt: &Attempt) -> Result<bool, RunError> {
    let every = i64::from(app.agents.checkpoint_seconds);
    if every == 0 {
        return Ok(false);
    }
    let most = SPARE + 2 * (app.clock.now() - attempt.leased_at).num_seconds() / every;
    Ok(store::of_attempt(&app.db, attempt.id).await?.is_none_or(|c| i64::from(c.number) < most))
}

/// Objects first, then the one row that points at both. False when the attempt is over.
async fn keep(
    app: &App,
    run: &Run,
    attempt: &Attempt,
    changeset: &Changeset,
    session: Vec<u8>,
) -> Result<bool, RunError> {
    let store_error = |e: object_store::Error| RunError::Damaged {
        table: "objects",
        id: run.id.uuid(),
        problem: e.to_string(),
    };
    let count = counted(changeset, &session);
    let changeset_key =
        app.objects.put(run.project, Kind::Changeset, changeset.to_bytes()).await.map_err(store_error)?;
    let session_key = if session.is_empty() {
        None
    } else {
        Some(app.objects.put(run.project, Kind::Session, session).await.map_err(store_error)?)
    };
    let mut tx = app.db.begin().await?;
    let live = runs::lock(&mut tx, run.id).await?.is_some_and(|r| r.state == RunState::Active)
        && runs::attempts::get(&mut *tx, attempt.id).await?.is_some_and(|a| a.state == AttemptState::Running);
    if !live {
        return Ok(false);
    }
    let new = store::New {
        attempt: attempt.id,
        run: run.id,
        base: &changeset.base,
        changeset_key: &changeset_key,
        session_key: session_key.as_deref(),
        files: i32::try_from(count.files).unwrap_or(i32::MAX),
        bytes: i64::try_from(count.bytes + count.session_bytes).unwrap_or(i64::MAX),
        taken_at: app.clock.now(),
    };
    let number = store::replace(&mut tx, &new).await?;
    steps::commit(tx, Step::CheckpointStored).await?;
    tracing::info!(run_id = %run.id, attempt_id = %attempt.id, trace_id = run.trace_id, number, files = new.files, bytes = new.bytes, "checkpoint stored");
    Ok(true)
}
