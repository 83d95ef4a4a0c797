//! Commit, branch and pull request.

use domain::{
    changeset::{Change, Changeset, Mode},
    ids::RunId,
    names::CommitSha,
    run::{PublicationState, RunKind, RunState},
};
use forge::{Commit, FileMode, ForgeError, NewCommit, NewPullRequest, PullRequest, TreeChange};

use super::{Applied, Failure, unsigned};
use crate::{
    App,
    projects::store::Repository,
    publishing::{Publication, changesets::stored_changeset, comments, head, publication, queue::Pending},
    runs::{self, Run},
};

/// Branches tried before a run gives up: `name`, `name-2`, ….
const MOST_BRANCHES: u32 = 100;

/// The run and its publication while it is being published.
pub(super) async fn publishing(app: &App, pending: &Pending) -> Result<Option<(Run, Publication)>, Failure> {
    let Some(id) = pending.run else { return Ok(None) };
    let run = runs::get(&app.db, id).await?;
    let publication = publication(&app.db, id).await?;
    Ok(run
        .zip(publication)
        .filter(|(run, p)| run.state == RunState::Active && p.state == PublicationState::Publishing))
}

pub(super) const ENDED: Applied = Applied::Pointless("the run ended first");

/// Blobs, tree and commit. Repeated without a look: no branch points at it yet, and the same
/// input makes the same commit, or one that nobody ever sees.
pub(super) async fn commit(
    app: &App,
    pending: &Pending,
    repository: &Repository,
    message: &str,
) -> Result<Applied, Failure> {
    let Some((run, publication)) = publishing(app, pending).await? else { return Ok(ENDED) };
    let key = publication.changeset_key.as_deref().ok_or_else(|| Failure::Changeset("no key".to_owned()))?;
    let changeset = read_changeset(app, key).await?;
    if let (RunKind::Revise, Some(number)) = (run.kind, run.pull_request) {
        let pull = app.forge.pull_request(&repository.name, unsigned(number)).await?;
        if !pull.open {
            return Ok(Applied::PullRequestEnded(pull));
        }
    }
    if let Some(moved) = head::moved(app, &repository.name, &run, &publication, &changeset).await? {
        return Ok(Applied::HeadMoved(moved));
    }
    let commit = NewCommit {
        parent: parent(app, repository, &run, &changeset).await?,
        message: message.to_owned(),
        changes: tree_changes(changeset)?,
        date: pending.created_at,
    };
    let sha = app.forge.create_commit(&repository.name, &commit).await?;
    tracing::debug!(run_id = %run.id, %sha, "commit made");
    Ok(Applied::Commit(sha))
}

/// What the commit goes on from: the pin. A branch that moved on under a result that a person
/// released all the same goes on from where it is, as long as nobody else changed these files.
async fn parent(
    app: &App,
    repository: &Repository,
    run: &Run,
    changeset: &Changeset,
) -> Result<CommitSha, Failure> {
    let pin = &changeset.base;
    let branch = match run.kind {
        RunKind::Revise => run.base_branch.as_deref(),
        RunKind::Work | RunKind::Review | RunKind::Discussion => None,
    };
    let Some(branch) = branch else { return Ok(pin.clone()) };
    let Some(head) = app.forge.branch_head(&repository.name, branch).await?.filter(|head| head != pin) else {
        return Ok(pin.clone());
    };
    let changed = app.forge.changed_paths(&repository.name, pin, &head).await?;
    match changed {
        Some(paths) if changeset.touched_by(&paths).is_empty() => Ok(head),
        Some(_) | None => {
            let message = format!(
                "branch `{branch}` moved on to `{}` in files of this result; merge it by hand (`callboard run changeset {}`)",
                head.short(),
                run.id
            );
            Err(ForgeError::Conflict { message }.into())
        }
    }
}

/// The first free name at the commit; a name that is taken may be taken by us.
pub(super) async fn branch(
    app: &App,
    pending: &Pending,
    repository: &Repository,
    wanted: &str,
) -> Result<Applied, Failure> {
    let Some((run, publication)) = publishing(app, pending).await? else {
        return left_behind(app, pending, repository, wanted).await;
    };
    let sha = publication.commit.ok_or_else(|| Failure::Changeset("no commit".to_owned()))?;
    for n in 1..=MOST_BRANCHES {
        let name = numbered(wanted, n);
        match app.forge.create_branch(&repository.name, &name, &sha).await {
            Ok(()) => return Ok(Applied::Branch { name, head: sha }),
            Err(ForgeError::Conflict { .. }) => {
                if let Some(head) = our_head(app, repository, &run, &name, &sha).await? {
                    return Ok(Applied::Branch { name, head });
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    let message = format!("`{wanted}` and {} numbered ones exist", MOST_BRANCHES - 1);
    Err(ForgeError::Conflict { message }.into())
}

/// The run ended while a call was out that may have made the branch: then it is known and said.
async fn left_behind(
    app: &App,
    pending: &Pending,
    repository: &Repository,
    wanted: &str,
) -> Result<Applied, Failure> {
    let (Some(id), true) = (pending.run, pending.tried_at.is_some()) else { return Ok(ENDED) };
    let run = runs::get(&app.db, id).await?;
    let commit = publication(&app.db, id).await?.and_then(|p| p.commit);
    let (Some(run), Some(commit)) = (run, commit) else { return Ok(ENDED) };
    for n in 1..=MOST_BRANCHES {
        let name = numbered(wanted, n);
        if let Some(head) = our_head(app, repository, &run, &name, &commit).await? {
            return Ok(Applied::Branch { name, head });
        }
        if app.forge.branch_head(&repository.name, &name).await?.is_none() {
            break;
        }
    }
    Ok(ENDED)
}

fn numbered(wanted: &str, n: u32) -> String {
    if n == 1 { wanted.to_owned() } else { format!("{wanted}-{n}") }
}

/// Where that branch is, if it is ours: at our commit, or at one with the same content, made
/// by an earlier call for the same run.
async fn our_head(
    app: &App,
    repository: &Repository,
    run: &Run,
    branch: &str,
    ours: &CommitSha,
) -> Result<Option<CommitSha>, Failure> {
    let Some(head) = app.forge.branch_head(&repository.name, branch).await? else { return Ok(None) };
    if head == *ours {
        return Ok(Some(head));
    }
    let (found, made) =
        (app.forge.commit(&repository.name, &head).await?, app.forge.commit(&repository.name, ours).await?);
    Ok(is_same_work(&found, &made, run.id).then_some(head))
}

/// The same tree, on the same commit and nothing else, with the run's trailer.
pub(super) fn is_same_work(found: &Commit, made: &Commit, run: RunId) -> bool {
    let trailer = comments::trailer(run);
    found.tree == made.tree
        && found.parents == made.parents
        && found.message.lines().any(|line| line.trim_end() == trailer)
}

/// Opens the pull request, or finds it.
pub(super) async fn pull_request(
    app: &App,
    pending: &Pending,
    repository: &Repository,
    title: &str,
    body: &str,
) -> Result<Applied, Failure> {
    // After a call of unknown outcome it may be there, whatever became of the run.
    if let (Some(run), true) = (pending.run, pending.tried_at.is_some())
        && let Some(publication) = publication(&app.db, run).await?
        && let Some(found) = our_pull_request(app, repository, &publication).await?
    {
        return Ok(Applied::PullRequest(found));
    }
    let Some((run, publication)) = publishing(app, pending).await? else { return Ok(ENDED) };
    let head = publication.branch.clone().ok_or_else(|| Failure::Changeset("no branch".to_owned()))?;
    let base = run.base_branch.unwrap_or_default();
    let new = NewPullRequest { title: title.to_owned(), body: body.to_owned(), head, base };
    match app.forge.create_pull_request(&repository.name, &new).await {
        Ok(made) => Ok(Applied::PullRequest(made)),
        Err(error @ ForgeError::Conflict { .. }) => {
            let found = our_pull_request(app, repository, &publication).await?;
            Ok(Applied::PullRequest(found.ok_or(error)?))
        }
        Err(error) => Err(error.into()),
    }
}

/// The pull request of our branch. A closed one must be at our commit: the branch of an
/// earlier run may have had the same name.
async fn our_pull_request(
    app: &App,
    repository: &Repository,
    publication: &Publication,
) -> Result<Option<PullRequest>, Failure> {
    let Some(head) = &publication.branch else { return Ok(None) };
    let found = app.forge.pull_requests_of(&repository.name, head).await?;
    let at_our_commit = |pull: &PullRequest| publication.commit.as_ref() == Some(&pull.head_sha);
    let open = found.iter().find(|pull| pull.open);
    Ok(open.or_else(|| found.iter().find(|pull| at_our_commit(pull))).cloned())
}

pub(in crate::publishing) async fn read_changeset(app: &App, key: &str) -> Result<Changeset, Failure> {
    stored_changeset(app, key).await.map_err(|e| Failure::Changeset(e.to_string()))
}

fn tree_changes(changeset: Changeset) -> Result<Vec<TreeChange>, Failure> {
    changeset
        .files
        .into_iter()
        .map(|file| {
            let path = String::from_utf8(file.path)
                .map_err(|_| Failure::Changeset("a path that is not UTF-8".to_owned()))?;
            let content = match file.change {
                Change::Delete => None,
                Change::Put { mode: Mode::Regular, content } => Some((FileMode::Regular, content)),
                Change::Put { mode: Mode::Executable, content } => Some((FileMode::Executable, content)),
                Change::Put { mode: Mode::Symlink, content } => Some((FileMode::Symlink, content)),
                Change::Submodule => {
                    return Err(Failure::Changeset("a submodule, which the checks refuse".to_owned()));
                }
            };
            Ok(TreeChange { path, content })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use domain::ids::Id;

    use super::*;

    const RUN: &str = "01980000-0000-7000-8000-000000000007";

    fn sha(digit: char) -> CommitSha {
        digit.to_string().repeat(40).parse().expect("a hash")
    }

    fn made() -> Commit {
        Commit {
            tree: "t".to_owned(),
            parents: vec![sha('a')],
            message: format!("Add a greeting\n\nCallboard-Run: {RUN}\n"),
        }
    }

    #[test]
    fn a_branch_is_ours_by_tree_parent_and_trailer_together() {
        let run = RunId::from_uuid(RUN.parse().expect("an id"));
        let same = |found: &Commit| is_same_work(found, &made(), run);
        // Signed by the server: other bytes, another hash, the same work.
        assert!(same(&Commit { message: format!("Add a greeting\n\nCallboard-Run: {RUN}"), ..made() }));
        for other in [
            Commit { tree: "u".to_owned(), ..made() },
            Commit { parents: vec![sha('b')], ..made() },
            Commit { parents: vec![sha('a'), sha('b')], ..made() },
            Commit { parents: Vec::new(), ..made() },
            Commit { message: "Add a greeting".to_owned(), ..made() },
            Commit { message: format!("See Callboard-Run: {RUN}"), ..made() },
            Commit { message: format!("x\n\nCallboard-Run: {RUN}0"), ..made() },
        ] {
            assert!(!same(&other), "{other:?}");
        }
    }
}
