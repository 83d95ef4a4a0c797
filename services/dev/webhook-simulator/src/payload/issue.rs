//! Issues, and what hangs on issues and pull requests.

use domain::rights::Permission;
use serde_json::{Value, json};

use super::{apps::performed_via, node_id, time, user};
use crate::world::{Comment, Issue, Label, Reaction, Repository, World};

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
pub(super) fn association(world: &World, repo: &Repository, login: &str) -> &'static str {
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
        "reactions": reaction_counts(&comment.reactions, &url),
        "performed_via_github_app": performed_via(world, &comment.author),
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
        "performed_via_github_app": performed_via(world, &issue.author),
    });
    if let Some(pull) = &issue.pull {
        value["draft"] = json!(pull.draft);
        value["pull_request"] = json!({
            "url": format!("{api}/pulls/{}", issue.number),
            "html_url": web,
            "diff_url": format!("{web}.diff"),
            "patch_url": format!("{web}.patch"),
            "merged_at": pull.merge.as_ref().map(|m| time(m.at)),
        });
    }
    value
}
