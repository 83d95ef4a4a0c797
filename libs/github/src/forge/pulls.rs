//! Pull requests.

use std::collections::BTreeMap;

use domain::names::{CommitSha, RepositoryName};
use forge::{NewPullRequest, PullRequest, PullRequestDetails, Result};
use serde::Deserialize;
use serde_json::json;

use super::{User, branches::ChangedFileBody, issues::LabelBody, login};
use crate::client::{Endpoint, Scope};

/// GitHub lists at most 3,000 files of a pull request, a hundred on a page.
const FILE_PAGES: u32 = 30;

#[derive(Deserialize)]
struct PullRequestBody {
    number: u64,
    html_url: String,
    state: String,
    head: SideBody,
}

#[derive(Deserialize)]
struct SideBody {
    #[serde(rename = "ref")]
    branch: String,
    sha: CommitSha,
    repo: Option<SideRepositoryBody>,
}

#[derive(Deserialize)]
struct SideRepositoryBody {
    full_name: String,
}

impl SideBody {
    fn is_in(&self, repository: &RepositoryName) -> bool {
        // A repository that is gone is another one.
        self.repo
            .as_ref()
            .is_some_and(|r| r.full_name.parse().is_ok_and(|n: RepositoryName| n == *repository))
    }
}

impl From<PullRequestBody> for PullRequest {
    fn from(body: PullRequestBody) -> Self {
        Self {
            number: body.number,
            html_url: body.html_url,
            head_sha: body.head.sha,
            open: body.state == "open",
        }
    }
}

#[derive(Deserialize)]
struct DetailsBody {
    number: u64,
    title: String,
    body: Option<String>,
    user: Option<User>,
    html_url: String,
    state: String,
    #[serde(default)]
    merged: bool,
    #[serde(default)]
    labels: Vec<LabelBody>,
    head: SideBody,
    base: SideBody,
}

pub(super) async fn create(repository: Scope<'_>, new: &NewPullRequest) -> Result<PullRequest> {
    let body = json!({ "title": new.title, "body": new.body, "head": new.head, "base": new.base });
    Ok(repository.write(Endpoint::CreatePullRequest, &[], &body).await?.json::<PullRequestBody>()?.into())
}

pub(super) async fn of_branch(
    repository: Scope<'_>,
    name: &RepositoryName,
    head: &str,
) -> Result<Vec<PullRequest>> {
    let owned = format!("{}:{head}", name.owner());
    let query = [("head", owned.as_str()), ("state", "all"), ("per_page", "100")];
    let found: Vec<PullRequestBody> = repository.get(Endpoint::PullRequests, &[], &query).await?.json()?;
    // A server that does not filter by head gives all of them.
    let ours = |pull: &PullRequestBody| pull.head.branch == head && pull.head.is_in(name);
    Ok(found.into_iter().filter(ours).map(PullRequest::from).collect())
}

pub(super) async fn read(
    repository: Scope<'_>,
    name: &RepositoryName,
    number: u64,
) -> Result<PullRequestDetails> {
    let body: DetailsBody =
        repository.get(Endpoint::PullRequest, &[&number.to_string()], &[]).await?.json()?;
    // The base tells the name the repository has now, should it have been renamed.
    let home = body.base.repo.as_ref().and_then(|r| r.full_name.parse().ok());
    let from_fork = !body.head.is_in(home.as_ref().unwrap_or(name));
    Ok(PullRequestDetails {
        number: body.number,
        title: body.title,
        body: body.body.unwrap_or_default(),
        author: login(body.user),
        html_url: body.html_url,
        branch: body.head.branch,
        head_sha: body.head.sha,
        base: body.base.branch,
        base_sha: body.base.sha,
        from_fork,
        open: body.state == "open",
        merged: body.merged,
        labels: LabelBody::names(body.labels),
    })
}

pub(super) async fn files(repository: Scope<'_>, number: u64) -> Result<Vec<String>> {
    let files = repository.pages(Endpoint::PullRequestFiles, &[&number.to_string()], FILE_PAGES).await?;
    Ok(ChangedFileBody::paths(files))
}

/// A file of a pull request as its difference shows it.
#[derive(Deserialize)]
struct PatchBody {
    filename: String,
    patch: Option<String>,
}

pub(super) async fn reviewable_lines(
    repository: Scope<'_>,
    number: u64,
) -> Result<BTreeMap<String, Vec<(u64, u64)>>> {
    let files: Vec<PatchBody> =
        repository.pages(Endpoint::PullRequestFiles, &[&number.to_string()], FILE_PAGES).await?;
    Ok(files
        .into_iter()
        .map(|file| (file.filename, stretches(file.patch.as_deref().unwrap_or_default())))
        .collect())
}

/// Lines of the new version that a patch shows: from `@@ -1,2 +3,4 @@`, the lines 3 to 6.
fn stretches(patch: &str) -> Vec<(u64, u64)> {
    let new = |line: &str| {
        let (_, rest) = line.strip_prefix("@@ -")?.split_once(" +")?;
        let (range, _) = rest.split_once(" @@")?;
        let (first, count) = range.split_once(',').unwrap_or((range, "1"));
        let (first, count): (u64, u64) = (first.parse().ok()?, count.parse().ok()?);
        (count > 0).then(|| (first, first + count - 1))
    };
    patch.lines().filter_map(new).collect()
}

pub(super) async fn update(repository: Scope<'_>, number: u64, body: &str) -> Result<()> {
    repository
        .write(Endpoint::UpdatePullRequest, &[&number.to_string()], &json!({ "body": body }))
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_patch_that_can_be_remarked_on() {
        let patch = "@@ -1,3 +1,4 @@ fn main() {\n a\n+b\n c\n@@ -20,2 +21,0 @@\n-x\n-y\n@@ -30 +29 @@\n-@@ -1 +1 @@\n+z";
        assert_eq!(stretches(patch), [(1, 4), (29, 29)]);
        assert_eq!(stretches("Binary files differ"), []);
    }
}
