//! What an attempt starts from: a checkpoint, whole, or afresh; and people are told which.

use chrono::{DateTime, Utc};
use domain::{
    changeset::{Change, Changeset, Mode},
    ids::{AttemptId, RunId},
    names::CommitSha,
    run::RunKind,
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
    store::{self, Beginning, Checkpoint},
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
    let Some(attempt) = runs::attempts::get(&app.db, attempt).await? else { return Ok(()) };
    let mut tx = app.db.begin().await?;
    let Some(run) = runs::lock(&mut tx, run).await? else { return Ok(()) };
    if attempt.number == 1 && run.retry_of.is_none() && run.continues.is_none() {
        return Ok(());
    }
    let of_this_pin = |c: &Checkpoint| run.base_sha.as_ref() == Some(&c.base);
    let found = store::newest(&mut *tx, run.id)
        .await?
        .filter(|checkpoint| run.input_changeset_key.is_none() || of_this_pin(checkpoint));
    let (from, mut note) = match &found {
        Some(checkpoint) if of_this_pin(checkpoint) => {
            (Some(checkpoint.attempt), goes_on(&run, &attempt, checkpoint, app.clock.now()))
        }
        Some(checkpoint) => (None, starts_afresh(&attempt, &left_behind(&run, checkpoint))),
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
            None => (None, String::new()),
        },
    };
    // A checkpoint has the session in it.
    let session = match run.continues {
        Some(continues) if from.is_none() => {
            let session = store::newest_session(&mut *tx, continues).await?;
            let said = match session {
                Some(_) => format!("It goes on with the agent's session of run `{continues}`."),
                None => format!("Run `{continues}` left no session to go on with."),
            };
            note = if note.is_empty() { said } else { format!("{note} {said}") };
            session
        }
        Some(_) | None => None,
    };
    let beginning = Beginning { checkpoint: from, session, note };
    if !record(&mut tx, app, &run, &attempt, &beginning).await? {
        return Ok(());
    }
    Ok(steps::commit(tx, Step::RestoreDecided).await?)
}

/// Why a checkpoint is of no use on the commit the run works on.
fn left_behind(run: &Run, checkpoint: &Checkpoint) -> String {
    let (base, whose) = (checkpoint.base.short(), whose(run, checkpoint));
    match run.kind {
        RunKind::Work | RunKind::Discussion => {
            format!(
                "commit `{base}`, on which the checkpoint of {whose} was made, cannot be fetched any more"
            )
        }
        RunKind::Revise | RunKind::Review => {
            format!(
                "the pull request has moved on from `{base}`, on which the checkpoint of {whose} was made"
            )
        }
    }
}

/// The runner could not restore what it was given: the attempt starts afresh, and people are
/// told. `reason` is limited and censored already.
pub(crate) async fn afresh(app: &App, attempt: &Attempt, reason: &str) -> Result<(), RunError> {
    let mut tx = app.db.begin().await?;
    let Some(run) = runs::lock(&mut tx, attempt.run).await? else { return Ok(()) };
    let Some(attempt) = runs::attempts::get(&mut *tx, attempt.id).await?.filter(|a| a.state.is_live()) else {
        return Ok(());
    };
    let of = match (attempt.restored_from, attempt.session_from) {
        (Some(from), _) => match store::of_attempt(&mut *tx, from).await? {
            Some(checkpoint) => format!("the checkpoint of {}", whose(&run, &checkpoint)),
            None => "the checkpoint".to_owned(),
        },
        (None, Some(_)) => "the agent's session of the earlier run".to_owned(),
        (None, None) => return Ok(()),
    };
    let why = format!("{of} could not be restored: {}", reason.trim_end_matches('.'));
    let beginning = Beginning { checkpoint: None, session: None, note: starts_afresh(&attempt, &why) };
    if !record(&mut tx, app, &run, &attempt, &beginning).await? {
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
    beginning: &Beginning,
) -> Result<bool, RunError> {
    if !store::note_start(&mut *tx, attempt.id, beginning).await? {
        return Ok(false);
    }
    let Beginning { checkpoint: from, session, note } = beginning;
    let kind = if from.or(*session).is_some() { "restored" } else { "afresh" };
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
            detail: json!({ "run": run.id, "number": attempt.number, "from": from, "session": session, "message": note }),
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
    let Some(from) = attempt.restored_from else {
        let session_only = attempt.session_from.is_some();
        return Ok(session_only.then(|| RestorePoint { session_only, ..RestorePoint::default() }));
    };
    let checkpoint = store::of_attempt(&app.db, from).await?;
    // Without it restoring fails, and that is said.
    Ok(Some(checkpoint.map_or_else(RestorePoint::default, |c| RestorePoint {
        files: u32::try_from(c.files).unwrap_or_default(),
        taken_at_ms: c.taken_at.timestamp_millis(),
        session_only: false,
    })))
}

/// The checkpoint an attempt goes on from, or else what an earlier attempt changed before the
/// branch moved and the session of an earlier run, in parts.
///
/// # Errors
/// `not_found` when there is none, or it is not kept any more.
pub(crate) async fn stream(
    app: &App,
    run: &Run,
    attempt: &Attempt,
) -> Result<impl Stream<Item = Result<CheckpointPart, Status>> + use<>, Status> {
    let gone = || Status::not_found("it is not kept any more");
    let object = async |key: &str| match app.objects.get(key).await {
        Ok(bytes) => Ok(bytes),
        Err(object_store::Error::NotFound { .. }) => Err(gone()),
        Err(error) => Err(internal("checkpoints.restore", &error)),
    };
    let Some(from) = attempt.restored_from else {
        let session = match attempt.session_from {
            Some(from) => {
                let key = store::session_key(&app.db, from).await;
                let key = key.map_err(|e| internal("checkpoints.session", &e))?.ok_or_else(gone)?;
                Some(object(&key).await?)
            }
            None => None,
        };
        let earlier =
            runs::input_changeset(app, run).await.map_err(|e| internal("checkpoints.earlier", &e))?;
        let files = match (earlier, &session, &run.base_sha) {
            (Some(earlier), _, _) => earlier,
            (None, Some(_), Some(base)) => Changeset { base: base.clone(), files: Vec::new() },
            (None, _, _) => return Err(Status::not_found("the attempt starts afresh")),
        };
        return Ok(futures::stream::iter(parts(files, &session.unwrap_or_default())));
    };
    let checkpoint = store::of_attempt(&app.db, from)
        .await
        .map_err(|e| internal("checkpoints.restore", &e))?
        .ok_or_else(gone)?;
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
