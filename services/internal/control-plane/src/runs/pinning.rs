//! Which commits a run is fixed to, when its first attempt begins.

use domain::{
    ids::Id,
    names::{CommitSha, RepositoryName},
    run::RunKind,
};
use forge::{ForgeError, PullRequestDetails};

use super::{
    prepare::{NotPrepared, of_forge},
    store::Run,
};
use crate::{App, checkpoints, projects::store::Repository};

/// The commits.
#[derive(Clone, Debug)]
pub(super) struct Pin {
    /// What is checked out, and what a changeset is against.
    pub(super) base: CommitSha,
    /// The branch it was the head of.
    pub(super) branch: String,
    /// Whose steering files hold.
    pub(super) steering: CommitSha,
    /// The pull request it goes on with or reviews.
    pub(super) pull: Option<PullRequestDetails>,
}

impl Pin {
    /// Where the pull request's branch left the branch it is to be merged into.
    pub(super) fn review_base(&self) -> Option<&CommitSha> {
        self.pull.as_ref().map(|pull| &pull.base_sha)
    }
}

/// Looks up the commits as they are now.
pub(super) async fn pin(app: &App, run: &Run, repository: &Repository) -> Result<Pin, NotPrepared> {
    let name = &repository.name;
    let default = match &repository.default_branch {
        Some(branch) => branch.clone(),
        None => {
            let read = app.forge.repository(name).await;
            read.map_err(|e| of_forge("The repository cannot be read", &e))?.default_branch
        }
    };
    match run.kind {
        RunKind::Work | RunKind::Discussion => {
            let base = match base_to_go_on_from(app, run, name).await? {
                Some(base) => base,
                None => head_of(app, name, &default).await?,
            };
            Ok(Pin { steering: base.clone(), base, branch: default, pull: None })
        }
        RunKind::Revise | RunKind::Review => {
            let pull = pull_request(app, run, name).await?;
            let steering = head_of(app, name, &default).await?;
            Ok(Pin { base: pull.head_sha.clone(), branch: pull.branch.clone(), steering, pull: Some(pull) })
        }
    }
}

async fn head_of(app: &App, name: &RepositoryName, branch: &str) -> Result<CommitSha, NotPrepared> {
    app.forge
        .branch_head(name, branch)
        .await
        .map_err(|e| of_forge("The branch cannot be read", &e))?
        .ok_or_else(|| NotPrepared::Never(format!("There is no branch `{branch}` in {name}.")))
}

/// The pull request, while it is one that such a run may be about.
async fn pull_request(
    app: &App,
    run: &Run,
    name: &RepositoryName,
) -> Result<PullRequestDetails, NotPrepared> {
    let number = run.pull_request.and_then(|number| u64::try_from(number).ok());
    let number = number
        .ok_or_else(|| NotPrepared::Never(format!("This {} names no pull request.", run.kind.as_str())))?;
    let pull = match app.forge.pull_request(name, number).await {
        Ok(pull) => pull,
        Err(ForgeError::Missing { .. }) => {
            return Err(NotPrepared::Never(format!("There is no pull request #{number} any more.")));
        }
        Err(error) => return Err(of_forge("The pull request cannot be read", &error)),
    };
    if !pull.open {
        let how = if pull.merged { "merged" } else { "closed" };
        return Err(NotPrepared::Never(format!(
            "Pull request #{number} was {how} before the run could begin. Open it again, or start a new run on the issue."
        )));
    }
    if pull.from_fork {
        return Err(NotPrepared::Never(format!(
            "The branch of pull request #{number} is in another repository, which runs do not work on."
        )));
    }
    if run.kind == RunKind::Revise && !is_ours(app, run, number).await? {
        return Err(NotPrepared::Never(format!(
            "Pull request #{number} was not opened by a run, so nothing is pushed to its branch."
        )));
    }
    Ok(pull)
}

/// Did a run of ours open the pull request?
async fn is_ours(app: &App, run: &Run, number: u64) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from publications p join runs r using (run_id)
             where r.repository_id = $1 and p.pull_request_number = $2) as "ours!""#,
        run.repository_id.uuid(),
        i64::try_from(number).unwrap_or(i64::MAX),
    )
    .fetch_one(&app.db)
    .await
}

/// The commit of the checkpoint a retry goes on from, while it can be fetched.
async fn base_to_go_on_from(
    app: &App,
    run: &Run,
    repository: &RepositoryName,
) -> Result<Option<CommitSha>, NotPrepared> {
    let Some(base) = checkpoints::base_to_go_on_from(app, run).await? else { return Ok(None) };
    match app.forge.commit(repository, &base).await {
        Ok(_) => Ok(Some(base)),
        Err(ForgeError::Missing { .. }) => Ok(None),
        Err(error) => Err(of_forge("The checkpoint's commit cannot be read", &error)),
    }
}
