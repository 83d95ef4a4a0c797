//! What an attempt starts from: a checkpoint, whole, or afresh; and people are told which.

use chrono::{DateTime, Utc};
use domain::{
    changeset::{Change, Changeset, Mode},
    ids::{AttemptId, RunId},
    names::CommitSha,
};
use futures::Stream;
use proto::v1::{
    CheckpointHead, CheckpointPart, FileChange, RestorePoint, checkpoint_part::Part, file_change,
};
use serde_json::json;
use sqlx::PgConnection;
use tonic::Status;

use super::{
    receive::{content, counted},
    store::{self, Checkpoint},
};
use crate::{
    App, audit, publishing,
    runs::{self, Attempt, Run, RunError},
    serving::internal,
    steps::{self, Step},
};

/// Bytes of one part.
const PART_BYTES: usize = 512 * 1024;

/// The commit the checkpoint of a retried run was made on: base and files stay together, so the
/// retry is pinned to it as long as it can be fetched.
pub(crate) async fn base_to_go_on_from(app: &App, run: &Run) -> Result<Option<CommitSha>, RunError> {
    // Pinned anew because the branch moved: an older checkpoint is of no use.
    if run.retry_of.is_none() || run.input_changeset_key.is_some() {
        return Ok(None);
    }
    Ok(store::newest(&app.db, run.id).await?.map(|checkpoint| checkpoint.base))
}

/// Decides what an attempt of a prepared run starts from, before the attempt is handed out.
pub(crate) async fn decide(app: &App, run: RunId, attempt: AttemptId) -> Result<(), RunError> {
    let Some(attempt) = runs::attempt(&app.db, attempt).await? else { return Ok(()) };
    let mut tx = app.db.begin().await?;
    let Some(run) = runs::lock(&mut tx, run).await? else { return Ok(()) };
    if attempt.number == 1 && run.retry_of.is_none() {
        return Ok(());
    }
    let of_this_pin = |c: &Checkpoint| run.base_sha.as_ref() == Some(&c.base);
    let found = store::newest(&mut *tx, run.id)
        .await?
        .filter(|checkpoint| run.input_changeset_key.is_none() || of_this_pin(checkpoint));
    let (from, note) = match &found {
        Some(checkpoint) if of_this_pin(checkpoint) => {
            (Some(checkpoint.attempt), goes_on(&run, &attempt, checkpoint, app.clock.now()))
        }
        Some(checkpoint) => {
            let why = format!(
                "commit `{}`, on which the checkpoint of {} was made, cannot be fetched any more",
                checkpoint.base.short(),
                whose(&run, checkpoint)
            );
            (None, starts_afresh(&attempt, &why))
        }
        None if run.input_changeset_key.is_some() => {
            let note = format!(
                "Attempt {} works on the branch as it is now, with what an earlier attempt changed beside it.",
                attempt.number
            );
            (None, note)
        }
        None if attempt.number > 1 => {
            let before = match attempt.number {
                2 => "attempt 1".to_owned(),
                3 => "attempts 1 and 2".to_owned(),
                n => format!("attempts 1 to {}", n - 1),
            };
            (None, starts_afresh(&attempt, &format!("{before} left no checkpoint")))
        }
        None => match run.retry_of {
            Some(earlier) => {
                (None, starts_afresh(&attempt, &format!("run `{earlier}` left nothing to go on from")))
            }
            None => return Ok(()),
        },
    };
    if !record(&mut tx, app, &run, &attempt, from, &note).await? {
        return Ok(());
    }
    Ok(steps::commit(tx, Step::RestoreDecided).await?)
}

/// The runner could not restore what it was given: the attempt starts afresh, and people are
/// told. `reason` is limited and censored already.
pub(crate) async fn afresh(app: &App, attempt: &Attempt, reason: &str) -> Result<(), RunError> {
    let mut tx = app.db.begin().await?;
    let Some(run) = runs::lock(&mut tx, attempt.run).await? else { return Ok(()) };
    let Some(attempt) = runs::attempt(&mut *tx, attempt.id).await?.filter(|a| a.state.is_live()) else {
        return Ok(());
    };
    let Some(from) = attempt.restored_from else { return Ok(()) };
    let of = match store::of_attempt(&mut *tx, from).await? {
        Some(checkpoint) => format!("the checkpoint of {}", whose(&run, &checkpoint)),
        None => "the checkpoint".to_owned(),
    };
    let why = format!("{of} could not be restored: {}", reason.trim_end_matches('.'));
    let note = starts_afresh(&attempt, &why);
    if !record(&mut tx, app, &run, &attempt, None, &note).await? {
        return Ok(());
    }
    publishing::say_status(&mut tx, app, &run).await?;
    Ok(steps::commit(tx, Step::RestoreFailed).await?)
}

/// What an attempt starts from, with its event and its audit row. False when it is over.
async fn record(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    attempt: &Attempt,
    from: Option<AttemptId>,
    note: &str,
) -> Result<bool, RunError> {
    if !store::note_start(&mut *tx, attempt.id, from, note).await? {
        return Ok(false);
    }
    let kind = if from.is_some() { "restored" } else { "afresh" };
    runs::event(&mut *tx, app, run.id, kind, note).await?;
    audit::record(
        tx,
        &*app.clock,
        &app.ids,
        audit::Entry {
            project: Some(run.project),
            actor: "platform",
            action: &format!("attempt.{kind}"),
            subject: format!("attempt:{}", attempt.id),
            detail: json!({ "run": run.id, "number": attempt.number, "from": from, "message": note }),
            trace_id: Some(&run.trace_id),
        },
    )
    .await?;
    Ok(true)
}

fn whose(run: &Run, checkpoint: &Checkpoint) -> String {
    if checkpoint.run == run.id {
        format!("attempt {}", checkpoint.attempt_number)
    } else {
        format!("attempt {} of run `{}`", checkpoint.attempt_number, checkpoint.run)
    }
}

fn goes_on(run: &Run, attempt: &Attempt, checkpoint: &Checkpoint, now: DateTime<Utc>) -> String {
    let files =
        if checkpoint.files == 1 { "1 file".to_owned() } else { format!("{} files", checkpoint.files) };
    let same_day = checkpoint.taken_at.date_naive() == now.date_naive();
    let taken = checkpoint.taken_at.format(if same_day { "%H:%M UTC" } else { "%Y-%m-%d %H:%M UTC" });
    format!(
        "Attempt {} goes on from the checkpoint of {} ({files}, taken {taken}).",
        attempt.number,
        whose(run, checkpoint)
    )
}

fn starts_afresh(attempt: &Attempt, why: &str) -> String {
    format!("Attempt {} starts afresh: {why}.", attempt.number)
}

/// What the assignment says about it.
pub(crate) async fn point(app: &App, attempt: &Attempt) -> Result<Option<RestorePoint>, RunError> {
    let Some(from) = attempt.restored_from else { return Ok(None) };
    let checkpoint = store::of_attempt(&app.db, from).await?;
    // Without it restoring fails, and that is said.
    Ok(Some(checkpoint.map_or_else(RestorePoint::default, |c| RestorePoint {
        files: u32::try_from(c.files).unwrap_or_default(),
        taken_at_ms: c.taken_at.timestamp_millis(),
    })))
}

/// The checkpoint an attempt goes on from, or else what an earlier attempt changed before the
/// branch moved, in parts.
///
/// # Errors
/// `not_found` when there is none, or it is not kept any more.
pub(crate) async fn stream(
    app: &App,
    run: &Run,
    attempt: &Attempt,
) -> Result<impl Stream<Item = Result<CheckpointPart, Status>> + use<>, Status> {
    let gone = || Status::not_found("it is not kept any more");
    let Some(from) = attempt.restored_from else {
        let earlier =
            runs::input_changeset(app, run).await.map_err(|e| internal("checkpoints.earlier", &e))?;
        let earlier = earlier.ok_or_else(|| Status::not_found("the attempt starts afresh"))?;
        return Ok(futures::stream::iter(parts(earlier, &[])));
    };
    let checkpoint = store::of_attempt(&app.db, from)
        .await
        .map_err(|e| internal("checkpoints.restore", &e))?
        .ok_or_else(gone)?;
    let object = async |key: &str| match app.objects.get(key).await {
        Ok(bytes) => Ok(bytes),
        Err(object_store::Error::NotFound { .. }) => Err(gone()),
        Err(error) => Err(internal("checkpoints.restore", &error)),
    };
    let stored = object(&checkpoint.changeset_key).await?;
    let changeset = Changeset::from_bytes(&stored).map_err(|e| internal("checkpoints.restore", &e))?;
    let session = match &checkpoint.session_key {
        Some(key) => object(key).await?,
        None => Vec::new(),
    };
    Ok(futures::stream::iter(parts(changeset, &session)))
}

fn parts(changeset: Changeset, session: &[u8]) -> Vec<Result<CheckpointPart, Status>> {
    let end = Part::End(counted(&changeset, session));
    let head = Part::Head(CheckpointHead { base_sha: changeset.base.to_string() });
    let files = changeset.files.into_iter().flat_map(|file| {
        let mode = match &file.change {
            Change::Put { mode: Mode::Regular, .. } => file_change::Mode::File,
            Change::Put { mode: Mode::Executable, .. } => file_change::Mode::Executable,
            Change::Put { mode: Mode::Symlink, .. } => file_change::Mode::Symlink,
            Change::Delete => file_change::Mode::Deleted,
            Change::Submodule => file_change::Mode::Submodule,
        };
        let content = content(&file.change);
        let mut pieces = content.chunks(PART_BYTES).map(<[u8]>::to_vec);
        let first = FileChange {
            path: file.path.clone(),
            mode: mode.into(),
            content: pieces.next().unwrap_or_default(),
            size: content.len() as u64,
        };
        std::iter::once(Part::File(first)).chain(pieces.map(Part::MoreContent)).collect::<Vec<_>>()
    });
    let session = session.chunks(PART_BYTES).map(|piece| Part::Session(piece.to_vec()));
    std::iter::once(head)
        .chain(files)
        .chain(session)
        .chain(std::iter::once(end))
        .map(|part| Ok(CheckpointPart { part: Some(part) }))
        .collect()
}
