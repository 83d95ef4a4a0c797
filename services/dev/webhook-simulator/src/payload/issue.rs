//! Issues, pull requests, and what hangs on them.

use domain::rights::Permission;
use serde_json::{Value, json};

use super::{node_id, repository, time, user};
use crate::world::{Comment, Issue, Label, Pull, Reaction, Repository, World};

pub(crate) fn label(world: &World, repository: &Repository, label: &Label) -> Value {
    json!({
        "id": label.id,
        "node_id": node_id("Label", label.id),
        "url": format!("{}/labels/{}", world.urls.repository_api(&repository.name), path_segment(&label.name)),
        "name": label.name,
        "color": label.color,
        "default": false,
        "description": label.description,
    })
}

/// A label's name as part of an address.
fn path_segment(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b':');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The labels of an issue, with their colours.
pub(crate) fn labels(world: &World, repo: &Repository, issue: &Issue) -> Vec<Value> {
    issue.labels.iter().filter_map(|name| repo.label(name)).map(|l| label(world, repo, l)).collect()
}

/// How an account stands to a repository.
fn association(world: &World, repo: &Repository, login: &str) -> &'static str {
    if login.eq_ignore_ascii_case(repo.name.owner()) {
        "OWNER"
    } else if world.permission(repo, Some(login)) > Permission::Read {
        "COLLABORATOR"
    } else {
        "NONE"
    }
}

fn reaction_counts(reactions: &[Reaction], url: &str) -> Value {
    let count = |content: &str| reactions.iter().filter(|r| r.content == content).count();
    let mut value = json!({ "url": format!("{url}/reactions"), "total_count": reactions.len() });
    for content in CONTENTS {
        value[content] = json!(count(content));
    }
    value
}

/// What can be reacted with.
pub(crate) const CONTENTS: [&str; 8] = ["+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes"];

pub(crate) fn reaction(world: &World, reaction: &Reaction) -> Value {
    json!({
        "id": reaction.id,
        "node_id": node_id("Reaction", reaction.id),
        "user": user(&world.urls, &world.user(&reaction.login)),
        "content": reaction.content,
        "created_at": time(reaction.created_at),
    })
}

pub(crate) fn comment(world: &World, repo: &Repository, on: &Issue, comment: &Comment) -> Value {
    let api = world.urls.repository_api(&repo.name);
    let url = format!("{api}/issues/comments/{}", comment.id);
    json!({
        "url": url,
        "html_url": format!("{}#issuecomment-{}", world.urls.issue_web(&repo.name, on), comment.id),
        "issue_url": format!("{api}/issues/{}", on.number),
        "id": comment.id,
        "node_id": node_id("IssueComment", comment.id),
        "user": user(&world.urls, &world.user(&comment.author)),
        "created_at": time(comment.created_at),
        "updated_at": time(comment.updated_at),
        "author_association": association(world, repo, &comment.author),
        "body": comment.body,
        "reactions": reaction_counts(&[], &url),
        "performed_via_github_app": null,
    })
}

/// The issue, or the issue side of a pull request.
pub(crate) fn issue(world: &World, repo: &Repository, issue: &Issue) -> Value {
    let api = world.urls.repository_api(&repo.name);
    let url = format!("{api}/issues/{}", issue.number);
    let web = world.urls.issue_web(&repo.name, issue);
    let mut value = json!({
        "url": url,
        "repository_url": api,
        "labels_url": format!("{url}/labels{{/name}}"),
        "comments_url": format!("{url}/comments"),
        "events_url": format!("{url}/events"),
        "timeline_url": format!("{url}/timeline"),
        "html_url": web,
        "id": issue.id,
        "node_id": node_id("Issue", issue.id),
        "number": issue.number,
        "title": issue.title,
        "user": user(&world.urls, &world.user(&issue.author)),
        "labels": labels(world, repo, issue),
        "state": if issue.open { "open" } else { "closed" },
        "state_reason": issue.state_reason,
        "locked": false,
        "active_lock_reason": null,
        "assignee": null,
        "assignees": [],
        "milestone": null,
        "comments": issue.comments.len(),
        "created_at": time(issue.created_at),
        "updated_at": time(issue.updated_at),
        "closed_at": issue.closed_at.map(time),
        "author_association": association(world, repo, &issue.author),
        "body": issue.body,
        "reactions": reaction_counts(&issue.reactions, &url),
        "performed_via_github_app": null,
    });
    if let Some(pull) = &issue.pull {
        value["draft"] = json!(pull.draft);
        value["pull_request"] = json!({
            "url": format!("{api}/pulls/{}", issue.number),
            "html_url": web,
            "diff_url": format!("{web}.diff"),
            "patch_url": format!("{web}.patch"),
            "merged_at": null,
        });
    }
    value
}

/// The pull request. Lists leave the numbers of the change out, as GitHub does.
pub(crate) fn pull(world: &World, repo: &Repository, on: &Issue, pull: &Pull, whole: bool) -> Value {
    let api = world.urls.repository_api(&repo.name);
    let (url, issue_url) = (format!("{api}/pulls/{}", on.number), format!("{api}/issues/{}", on.number));
    let web = world.urls.issue_web(&repo.name, on);
    let statuses = format!("{api}/statuses/{}", pull.head_sha);
    let owner = world.user(repo.name.owner());
    let side = |branch: &str, sha: &str| {
        json!({
            "label": format!("{}:{branch}", owner.login),
            "ref": branch,
            "sha": sha,
            "user": user(&world.urls, &owner),
            "repo": repository(world, repo),
        })
    };
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
        "head": side(&pull.head, &pull.head_sha),
        "base": side(&pull.base, &pull.base_sha),
        "author_association": association(world, repo, &on.author),
        "assignees": [],
        "requested_reviewers": [],
        "requested_teams": [],
    });
    for field in
        ["merged_at", "merge_commit_sha", "assignee", "milestone", "auto_merge", "active_lock_reason"]
    {
        value[field] = Value::Null;
    }
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
        value["merged"] = json!(false);
        value["merged_by"] = Value::Null;
        value["mergeable"] = json!(true);
        value["rebaseable"] = json!(true);
        value["mergeable_state"] = json!("clean");
        value["maintainer_can_modify"] = json!(false);
        value["comments"] = json!(on.comments.len());
        value["review_comments"] = json!(0);
        value["commits"] = json!(pull.stat.commits);
        value["additions"] = json!(pull.stat.additions);
        value["deletions"] = json!(pull.stat.deletions);
        value["changed_files"] = json!(pull.stat.changed_files);
    }
    value
}
