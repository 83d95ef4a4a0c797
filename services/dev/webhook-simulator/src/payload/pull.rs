//! Pull requests, reviews and their remarks.

use serde_json::{Value, json};

use super::{
    issue::{association, labels},
    node_id, repository, time, user,
};
use crate::world::{Issue, Pull, Remark, Repository, Review, World};

/// The pull request. Lists leave the numbers of the change out, as GitHub does.
pub(crate) fn pull(world: &World, repo: &Repository, on: &Issue, pull: &Pull, whole: bool) -> Value {
    let api = world.urls.repository_api(&repo.name);
    let (url, issue_url) = (format!("{api}/pulls/{}", on.number), format!("{api}/issues/{}", on.number));
    let web = world.urls.issue_web(&repo.name, on);
    let statuses = format!("{api}/statuses/{}", pull.head_sha);
    let side = |of: Option<&Repository>, branch: &str, sha: &str| {
        let owner = of.map(|of| world.user(of.name.owner()));
        json!({
            "label": format!("{}:{branch}", owner.as_ref().map_or("unknown", |o| &o.login)),
            "ref": branch,
            "sha": sha,
            "user": owner.as_ref().map(|o| user(&world.urls, o)),
            "repo": of.map(|of| repository(world, of)),
        })
    };
    let head_repository = world.repositories.get(&pull.head_key(repo));
    let mut value = json!({
        "url": url,
        "id": on.id,
        "node_id": node_id("PullRequest", on.id),
        "html_url": web,
        "diff_url": format!("{web}.diff"),
        "patch_url": format!("{web}.patch"),
        "issue_url": issue_url,
        "number": on.number,
        "state": if on.open { "open" } else { "closed" },
        "locked": false,
        "title": on.title,
        "user": user(&world.urls, &world.user(&on.author)),
        "body": on.body,
        "created_at": time(on.created_at),
        "updated_at": time(on.updated_at),
        "closed_at": on.closed_at.map(time),
        "labels": labels(world, repo, on),
        "draft": pull.draft,
        "commits_url": format!("{url}/commits"),
        "review_comments_url": format!("{url}/comments"),
        "review_comment_url": format!("{api}/pulls/comments{{/number}}"),
        "comments_url": format!("{issue_url}/comments"),
        "statuses_url": statuses,
        "head": side(head_repository, &pull.head, &pull.head_sha),
        "base": side(Some(repo), &pull.base, &pull.base_sha),
        "author_association": association(world, repo, &on.author),
        "assignees": [],
        "requested_reviewers": [],
        "requested_teams": [],
    });
    for field in ["assignee", "milestone", "auto_merge", "active_lock_reason"] {
        value[field] = Value::Null;
    }
    let merge = pull.merge.as_ref();
    value["merged_at"] = json!(merge.map(|m| time(m.at)));
    value["merge_commit_sha"] = json!(merge.map(|m| &m.sha));
    let links = [
        ("self", url.as_str()),
        ("html", &web),
        ("issue", &issue_url),
        ("comments", &format!("{issue_url}/comments")),
        ("review_comments", &format!("{url}/comments")),
        ("review_comment", &format!("{api}/pulls/comments{{/number}}")),
        ("commits", &format!("{url}/commits")),
        ("statuses", &statuses),
    ];
    value["_links"] = links.iter().map(|(name, to)| ((*name).to_owned(), json!({ "href": to }))).collect();
    if whole {
        value["merged"] = json!(merge.is_some());
        value["merged_by"] = json!(merge.map(|m| user(&world.urls, &world.user(&m.by))));
        // Whether it merges is found out by merging.
        value["mergeable"] = json!(merge.is_none().then_some(true));
        value["rebaseable"] = json!(merge.is_none().then_some(false));
        value["mergeable_state"] = json!(if merge.is_none() { "clean" } else { "unknown" });
        value["maintainer_can_modify"] = json!(false);
        value["comments"] = json!(on.comments.len());
        value["review_comments"] = json!(pull.reviews.iter().map(|r| r.remarks.len()).sum::<usize>());
        value["commits"] = json!(pull.stat.commits);
        value["additions"] = json!(pull.stat.additions);
        value["deletions"] = json!(pull.stat.deletions);
        value["changed_files"] = json!(pull.stat.changed_files);
    }
    value
}

/// A review, as the REST API shows it.
pub(crate) fn review(world: &World, repo: &Repository, on: &Issue, review: &Review) -> Value {
    let url = format!("{}/pulls/{}", world.urls.repository_api(&repo.name), on.number);
    let web = format!("{}#pullrequestreview-{}", world.urls.issue_web(&repo.name, on), review.id);
    json!({
        "id": review.id,
        "node_id": node_id("PullRequestReview", review.id),
        "user": user(&world.urls, &world.user(&review.author)),
        "body": review.body,
        "state": review.state.name(),
        "html_url": web,
        "pull_request_url": url,
        "author_association": association(world, repo, &review.author),
        "_links": { "html": { "href": web }, "pull_request": { "href": url } },
        "submitted_at": time(review.submitted_at),
        "commit_id": review.commit,
    })
}

/// A review, as deliveries show it: its state in lower case, and no body as null.
pub(crate) fn delivered_review(world: &World, repo: &Repository, on: &Issue, of: &Review) -> Value {
    let mut value = review(world, repo, on, of);
    value["state"] = json!(of.state.name().to_lowercase());
    if of.body.is_empty() {
        value["body"] = Value::Null;
    }
    value
}

/// A remark of a review.
pub(crate) fn remark(world: &World, repo: &Repository, on: &Issue, of: &Review, remark: &Remark) -> Value {
    let api = world.urls.repository_api(&repo.name);
    let (url, pull) = (format!("{api}/pulls/comments/{}", remark.id), format!("{api}/pulls/{}", on.number));
    let web = format!("{}#discussion_r{}", world.urls.issue_web(&repo.name, on), remark.id);
    json!({
        "url": url,
        "pull_request_review_id": of.id,
        "id": remark.id,
        "node_id": node_id("PullRequestReviewComment", remark.id),
        "diff_hunk": "",
        "path": remark.path,
        "commit_id": of.commit,
        "original_commit_id": of.commit,
        "user": user(&world.urls, &world.user(&of.author)),
        "body": remark.body,
        "created_at": time(remark.created_at),
        "updated_at": time(remark.created_at),
        "html_url": web,
        "pull_request_url": pull,
        "author_association": association(world, repo, &of.author),
        "_links": {
            "self": { "href": url }, "html": { "href": web }, "pull_request": { "href": pull },
        },
        "start_line": null,
        "original_start_line": null,
        "start_side": null,
        "line": remark.line,
        "original_line": remark.original_line,
        "side": remark.side,
        "position": remark.line,
        "original_position": remark.original_line,
        "subject_type": "line",
    })
}
