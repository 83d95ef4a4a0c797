//! Where a run is, shown on the commits it is about: those of its pull request from the start, our
//! own once the branch is there.

use domain::{
    ids::Id,
    names::CommitSha,
    run::{RunKind, RunState, Waiting},
};
use forge::ProgressState;
use serde_json::Value;
use sqlx::PgConnection;

use super::{
    about::About,
    comments,
    effects::{self, Effect},
};
use crate::{
    App,
    runs::{Run, RunError},
};

/// What was shown last on a commit.
struct Shown {
    head: CommitSha,
    state: Option<ProgressState>,
    /// The code host would not have it, or could not be told.
    given_up: bool,
}

/// Brings progress up to date with the run as it is in this transaction. What a commit says
/// already is not said again.
pub(super) async fn say(tx: &mut PgConnection, app: &App, run: &Run, about: &About) -> Result<(), RunError> {
    let Some(progress) = state(run.state) else { return Ok(()) };
    let shown = shown(&mut *tx, run).await?;
    let mut heads = heads(run, about);
    // One that was worked on before the branch moved ends with the run.
    let open = |shown: &&Shown| shown.state.is_some_and(|state| !is_final(state));
    for left in shown.iter().filter(open).filter(|_| is_final(progress)) {
        if !heads.contains(&left.head) {
            heads.push(left.head.clone());
        }
    }
    let (title, summary) = comments::progress(run);
    let effects = heads.into_iter().filter(|head| {
        let last = shown.iter().find(|shown| shown.head == *head);
        last.is_none_or(|last| last.state != Some(progress) && !last.given_up)
    });
    let effects = effects.map(|head| Effect::Progress {
        head,
        name: format!("callboard/{}", run.stage),
        progress,
        title: title.clone(),
        summary: summary.clone(),
    });
    Ok(effects::insert_for_run(tx, app, run, effects).await?)
}

/// What a run's state means on a commit; `None`: nothing began yet.
fn state(run: RunState) -> Option<ProgressState> {
    match run {
        RunState::Queued => None,
        RunState::Active | RunState::Waiting(Waiting::RateLimit) => Some(ProgressState::InProgress),
        RunState::Waiting(Waiting::Held | Waiting::Approval | Waiting::Input | Waiting::Budget) => {
            Some(ProgressState::ActionRequired)
        }
        RunState::Succeeded => Some(ProgressState::Succeeded),
        RunState::Failed(_) => Some(ProgressState::Failed),
        RunState::Cancelled => Some(ProgressState::Cancelled),
    }
}

fn is_final(progress: ProgressState) -> bool {
    match progress {
        ProgressState::Succeeded | ProgressState::Failed | ProgressState::Cancelled => true,
        ProgressState::Queued | ProgressState::InProgress | ProgressState::ActionRequired => false,
    }
}

/// The commits the run is about now.
fn heads(run: &Run, about: &About) -> Vec<CommitSha> {
    let published = about.publication.as_ref().filter(|p| p.branch.is_some()).and_then(|p| p.commit.clone());
    let (base, ours) = match run.kind {
        RunKind::Work => (None, published),
        RunKind::Revise => (run.base_sha.clone(), published),
        RunKind::Review => (run.base_sha.clone(), None),
        RunKind::Discussion => (None, None),
    };
    base.into_iter().chain(ours).collect()
}

async fn shown(tx: &mut PgConnection, run: &Run) -> Result<Vec<Shown>, RunError> {
    let rows = sqlx::query!(
        r#"select distinct on (payload ->> 'head') payload ->> 'head' as "head!", payload -> 'progress' as "progress!",
                  state in ('skipped', 'dead') as "given_up!"
           from effects where run_id = $1 and kind = 'progress' order by payload ->> 'head', ordinal desc"#,
        run.id.uuid()
    )
    .fetch_all(tx)
    .await?;
    let read = |head: &str, progress: Value, given_up| {
        let head = head.parse().map_err(|e| RunError::Damaged {
            table: "effects",
            id: run.id.uuid(),
            problem: format!("progress on a commit that is none: {e}"),
        })?;
        Ok(Shown { head, state: serde_json::from_value(progress).ok(), given_up })
    };
    rows.into_iter().map(|row| read(&row.head, row.progress, row.given_up)).collect()
}
