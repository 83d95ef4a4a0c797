//! The branch moved under a finished changeset. Where nobody else touched its files it is
//! published all the same: it merges. Where somebody did, one new attempt is made on the new
//! head; the second time a person is asked.

use domain::{
    changeset::Changeset,
    ids::Id,
    names::{CommitSha, RepositoryName},
    run::{PublicationState, RunKind, RunState, Waiting},
};
use forge::ForgeError;
use sqlx::PgConnection;

use super::{Publication, comments, move_publication, publication, say_status};
use crate::{
    App,
    runs::{self, Run, RunError},
};

/// Where the branch moved, and which files of the changeset it changed on the way.
pub(super) struct Moved {
    to: CommitSha,
    /// `None`: the code host did not tell all that changed.
    files: Option<Vec<String>>,
}

/// Asked before anything of a changeset reaches the code host. What a person released is not
/// asked about again.
pub(super) async fn moved(
    app: &App,
    repository: &RepositoryName,
    run: &Run,
    publication: &Publication,
    changeset: &Changeset,
) -> Result<Option<Moved>, ForgeError> {
    let Some(branch) = run.base_branch.as_deref().filter(|_| publication.released_by.is_none()) else {
        return Ok(None);
    };
    // A branch that is gone is said when the pull request cannot be opened.
    let Some(to) = app.forge.branch_head(repository, branch).await?.filter(|head| *head != changeset.base)
    else {
        return Ok(None);
    };
    match run.kind {
        // Nothing is put on top of what a run has not seen.
        RunKind::Revise => return Ok(Some(Moved::pushed(to))),
        RunKind::Work | RunKind::Review | RunKind::Discussion => {}
    }
    let changed = app.forge.changed_paths(repository, &changeset.base, &to).await?;
    let files =
        changed.map(|paths| changeset.touched_by(&paths).into_iter().map(str::to_owned).collect::<Vec<_>>());
    Ok(Some(Moved { to, files }).filter(|moved| moved.files.as_ref().is_none_or(|f| !f.is_empty())))
}

impl Moved {
    /// Somebody pushed to the branch of the pull request.
    pub(super) fn pushed(to: CommitSha) -> Self {
        Self { to, files: None }
    }

    fn sentence(&self, run: &Run) -> String {
        let branch = run.base_branch.as_deref().unwrap_or("?");
        match run.kind {
            RunKind::Revise => {
                return format!(
                    "Somebody pushed to branch `{branch}`, which is at `{}` now.",
                    self.to.short()
                );
            }
            RunKind::Work | RunKind::Review | RunKind::Discussion => {}
        }
        let what = match &self.files {
            Some(files) => {
                let files: Vec<&str> = files.iter().map(String::as_str).collect();
                format!("changed files that this run changes too: {}", comments::paths(&files))
            }
            None => "the code host does not list all that changed".to_owned(),
        };
        format!("Branch `{branch}` moved on to `{}` and {what}.", self.to.short())
    }
}

/// The first time the run goes back into the queue, the second time it is held. Nothing when
/// the run ended meanwhile.
pub(super) async fn give_way(
    tx: &mut PgConnection,
    app: &App,
    run: &Run,
    moved: &Moved,
) -> Result<(), RunError> {
    let publication = publication(&mut *tx, run.id).await?;
    let Some(publication) =
        publication.filter(|p| p.state == PublicationState::Publishing && run.state == RunState::Active)
    else {
        return Ok(());
    };
    super::drop_pending(tx, app, run.id).await?;
    let damaged = |problem: &str| RunError::Damaged {
        table: "publications",
        id: publication.id.uuid(),
        problem: problem.to_owned(),
    };
    let noted = sqlx::query!(
        "update publications set head_moved_to = $2 where publication_id = $1",
        publication.id.uuid(),
        moved.to.as_str(),
    )
    .execute(&mut *tx)
    .await?;
    if noted.rows_affected() != 1 {
        return Err(damaged("is gone"));
    }
    let sentence = moved.sentence(run);
    let first = run.input_changeset_key.is_none();
    let next = if first { PublicationState::Refused } else { PublicationState::Held };
    move_publication(tx, app, run, PublicationState::Publishing, next).await?;
    let run = if first {
        let key = publication.changeset_key.as_deref().ok_or_else(|| damaged("no changeset is kept"))?;
        let message = format!("{sentence} Nothing was published; a new attempt works on the new state.");
        runs::again_on_new_head(tx, app, run, key, &message).await?
    } else {
        let message = format!(
            "{sentence} It is the second time: nothing was published, and the changeset is kept for a person to decide."
        );
        runs::move_run(tx, app, run, RunState::Waiting(Waiting::Held), "platform", &message).await?
    };
    say_status(tx, app, &run).await
}
