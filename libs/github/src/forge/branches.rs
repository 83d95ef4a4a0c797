//! Branches, and what differs between commits.

use domain::names::CommitSha;
use forge::{ForgeError, Result};
use serde::Deserialize;
use serde_json::json;

use crate::client::{Endpoint, Scope};

/// Files GitHub names in a comparison; one that has more looks like one that has as many.
const MAX_COMPARED_FILES: usize = 300;

#[derive(Deserialize)]
struct BranchBody {
    name: String,
    commit: HeadBody,
}

#[derive(Deserialize)]
struct HeadBody {
    sha: CommitSha,
    commit: HeadCommitBody,
}

#[derive(Deserialize)]
struct HeadCommitBody {
    tree: TreeBody,
}

#[derive(Deserialize)]
struct TreeBody {
    sha: String,
}

/// Where a branch is.
pub(super) struct Head {
    pub(super) commit: CommitSha,
    pub(super) tree: String,
}

#[derive(Deserialize)]
struct ObjectBody {
    sha: CommitSha,
}

#[derive(Deserialize)]
struct ComparisonBody {
    status: String,
    files: Option<Vec<ChangedFileBody>>,
}

/// A file in a comparison or a pull request.
#[derive(Deserialize)]
pub(super) struct ChangedFileBody {
    filename: String,
    previous_filename: Option<String>,
}

impl ChangedFileBody {
    /// Every path; a renamed file counts under both names.
    pub(super) fn paths(files: Vec<Self>) -> Vec<String> {
        files.into_iter().flat_map(|f| [Some(f.filename), f.previous_filename]).flatten().collect()
    }
}

fn reference(branch: &str) -> String {
    format!("heads/{branch}")
}

pub(super) async fn head(repository: Scope<'_>, branch: &str) -> Result<Option<Head>> {
    let body: BranchBody = match repository.get(Endpoint::Branch, &[branch], &[]).await {
        Ok(answer) => answer.json()?,
        Err(ForgeError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    // A branch that was renamed is answered under its new name.
    let head = Head { commit: body.commit.sha, tree: body.commit.commit.tree.sha };
    Ok(Some(head).filter(|_| body.name == branch))
}

pub(super) async fn create(repository: Scope<'_>, branch: &str, at: &CommitSha) -> Result<()> {
    let body = json!({ "ref": format!("refs/heads/{branch}"), "sha": at });
    repository.write(Endpoint::CreateRef, &[], &body).await.map(drop)
}

pub(super) async fn advance(repository: Scope<'_>, branch: &str, to: &CommitSha) -> Result<()> {
    let body = json!({ "sha": to, "force": false });
    repository.write(Endpoint::UpdateRef, &[&reference(branch)], &body).await.map(drop)
}

#[derive(Deserialize)]
struct ForkBody {
    merge_base_commit: ObjectBody,
}

pub(super) async fn merge_base(
    repository: Scope<'_>,
    one: &CommitSha,
    other: &CommitSha,
) -> Result<CommitSha> {
    let range = format!("{one}...{other}");
    let query = [("per_page", "1"), ("page", "1")];
    Ok(repository.get(Endpoint::Compare, &[&range], &query).await?.json::<ForkBody>()?.merge_base_commit.sha)
}

pub(super) async fn changed_paths(
    repository: Scope<'_>,
    base: &CommitSha,
    head: &CommitSha,
) -> Result<Option<Vec<String>>> {
    let range = format!("{base}...{head}");
    // The files come with the first page of commits, whatever its size.
    let query = [("per_page", "1"), ("page", "1")];
    let answer = match repository.get(Endpoint::Compare, &[&range], &query).await {
        Ok(answer) => answer,
        // One of them is gone, or they have no history in common.
        Err(ForgeError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let body: ComparisonBody = answer.json()?;
    let goes_on = matches!(body.status.as_str(), "ahead" | "identical");
    let files = body.files.filter(|files| goes_on && files.len() < MAX_COMPARED_FILES);
    Ok(files.map(ChangedFileBody::paths))
}
