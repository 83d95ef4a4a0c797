//! What lies between two commits.

use axum::extract::State;
use serde_json::{Value, json};

use super::request::{Answer, Page, Scope, ok};
use crate::{Simulator, git::commit::Commit, payload::code, refusal::Refusal};

/// Files that are named; they come with the first page of commits.
const MAX_FILES: usize = 300;
/// Commits that are looked at; GitHub's own limit is higher and of no matter here.
const MAX_COMMITS: usize = 10_000;

/// A branch or a commit by name.
async fn resolve(scope: &Scope, name: &str) -> Result<Commit, Refusal> {
    let sha = scope.bare.branch(name).await?.unwrap_or_else(|| name.to_owned());
    scope.bare.commit(&sha).await?.ok_or_else(Refusal::not_found)
}

pub(super) async fn compare(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    let range = scope.part("range");
    let (base, head) = range.split_once("...").ok_or_else(Refusal::not_found)?;
    let (base, head) = (resolve(&scope, base).await?, resolve(&scope, head).await?);
    let none = || Refusal::new(http::StatusCode::NOT_FOUND, "No common ancestor");
    let fork = scope.bare.merge_base(&base.sha, &head.sha).await?.ok_or_else(none)?;
    let fork = scope.bare.commit(&fork).await?.ok_or_else(none)?;
    let ahead = scope.bare.commits_between(Some(&base.sha), &head.sha, MAX_COMMITS).await?;
    let behind = scope.bare.commits_between(Some(&head.sha), &base.sha, MAX_COMMITS).await?;
    let status = match (ahead.is_empty(), behind.is_empty()) {
        (true, true) => "identical",
        (false, true) => "ahead",
        (true, false) => "behind",
        (false, false) => "diverged",
    };
    let (urls, name) = (simulator.urls(), &scope.name);
    let shown = page.part_of(ahead.clone());
    let mut commits = Vec::with_capacity(shown.len());
    for sha in &shown {
        if let Some(commit) = scope.bare.commit(sha).await? {
            commits.push(code::commit(urls, name, &commit));
        }
    }
    let mut files = Vec::new();
    if page.is_first() {
        files = scope.bare.changed_files(&fork.sha, &head.sha).await?;
        files.truncate(MAX_FILES);
    }
    let files: Value = files.iter().map(|f| code::changed_file(urls, name, &head.sha, f)).collect();
    let (api, web) = (urls.repository_api(name), urls.repository_web(name));
    Ok(ok(json!({
        "url": format!("{api}/compare/{range}"),
        "html_url": format!("{web}/compare/{range}"),
        "permalink_url": format!("{web}/compare/{}...{}", base.sha, head.sha),
        "diff_url": format!("{web}/compare/{range}.diff"),
        "patch_url": format!("{web}/compare/{range}.patch"),
        "base_commit": code::commit(urls, name, &base),
        "merge_base_commit": code::commit(urls, name, &fork),
        "status": status,
        "ahead_by": ahead.len(),
        "behind_by": behind.len(),
        "total_commits": ahead.len(),
        "commits": commits,
        "files": files,
    })))
}
