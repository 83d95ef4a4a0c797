//! Which commits a run is fixed to, when its first attempt begins.

use domain::{
    ids::{Id, RepositoryId},
    names::{CommitSha, RepositoryName},
    run::RunKind,
};
use forge::{ForgeError, PullRequestDetails};

use super::prepare::{NotPrepared, Wanted, of_forge};
use crate::{App, projects::default_head};

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
    /// Where the pull request's branch left the branch it is to be merged into.
    pub(super) review_base: Option<CommitSha>,
}

/// Looks up the commits as they are now.
pub(super) async fn pin(app: &App, wanted: &Wanted<'_>) -> Result<Pin, NotPrepared> {
    let name = &wanted.repository.name;
    match wanted.kind {
        RunKind::Work | RunKind::Discussion => {
            let (branch, head) = default_branch(app, wanted).await?;
            let base = fetchable(app, name, wanted.base.as_ref()).await?.unwrap_or(head);
            Ok(Pin { steering: base.clone(), base, branch, pull: None, review_base: None })
        }
        RunKind::Revise | RunKind::Review => {
            let pull = pull_request(app, wanted).await?;
            let (steering, review_base) = futures::join!(
                default_branch(app, wanted),
                app.forge.merge_base(name, &pull.base_sha, &pull.head_sha)
            );
            let review_base =
                review_base.map_err(|e| of_forge("The pull request's history cannot be read", &e))?;
            Ok(Pin {
                base: pull.head_sha.clone(),
                branch: pull.branch.clone(),
                steering: steering?.1,
                pull: Some(pull),
                review_base: Some(review_base),
            })
        }
    }
}

async fn default_branch(app: &App, wanted: &Wanted<'_>) -> Result<(String, CommitSha), NotPrepared> {
    let read = default_head(app, wanted.repository).await;
    let (branch, head) = read.map_err(|e| of_forge("The default branch cannot be read", &e))?;
    let missing =
        || NotPrepared::Never(format!("There is no branch `{branch}` in {}.", wanted.repository.name));
    let head = head.ok_or_else(missing)?;
    Ok((branch, head))
}

/// The pull request, while it is one that such a run may be about.
async fn pull_request(app: &App, wanted: &Wanted<'_>) -> Result<PullRequestDetails, NotPrepared> {
    let name = &wanted.repository.name;
    let number = wanted.pull.ok_or_else(|| {
        NotPrepared::Never(format!("There is no pull request for this {}.", wanted.kind.as_str()))
    })?;
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
    if wanted.kind == RunKind::Revise && !is_ours(app, wanted.repository.id, number).await? {
        return Err(NotPrepared::Never(format!(
            "Pull request #{number} was not opened by a run, so nothing is pushed to its branch."
        )));
    }
    Ok(pull)
}

/// Did a run of ours open the pull request?
async fn is_ours(app: &App, repository: RepositoryId, number: u64) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from publications p join runs r using (run_id)
             where r.repository_id = $1 and p.pull_request_number = $2) as "ours!""#,
        repository.uuid(),
        i64::try_from(number).unwrap_or(i64::MAX),
    )
    .fetch_one(&app.db)
    .await
}

/// The commit of the checkpoint a retry goes on from, while it can be fetched.
async fn fetchable(
    app: &App,
    name: &RepositoryName,
    base: Option<&CommitSha>,
) -> Result<Option<CommitSha>, NotPrepared> {
    let Some(base) = base else { return Ok(None) };
    match app.forge.commit(name, base).await {
        Ok(_) => Ok(Some(base.clone())),
        Err(ForgeError::Missing { .. }) => Ok(None),
        Err(error) => Err(of_forge("The checkpoint's commit cannot be read", &error)),
    }
}
