//! What happened to an issue, and when.

use serde_json::{Value, json};

use super::{apps::performed_via, issue::comment, node_id, time, user};
use crate::world::{Happening, Issue, Repository, What, World};

fn event(world: &World, repo: &Repository, of: &Happening) -> Value {
    let api = world.urls.repository_api(&repo.name);
    let label = |name: &String, color: &String| json!({ "name": name, "color": color });
    let (name, more) = match &of.what {
        What::Labeled { name, color } => ("labeled", Some(("label", label(name, color)))),
        What::Unlabeled { name, color } => ("unlabeled", Some(("label", label(name, color)))),
        What::Renamed { from, to } => ("renamed", Some(("rename", json!({ "from": from, "to": to })))),
        What::Closed { reason } => ("closed", Some(("state_reason", json!(reason)))),
        What::Reopened => ("reopened", Some(("state_reason", Value::Null))),
        What::Merged { .. } => ("merged", None),
    };
    let commit = match &of.what {
        What::Merged { sha } => Some(sha),
        What::Labeled { .. }
        | What::Unlabeled { .. }
        | What::Renamed { .. }
        | What::Closed { .. }
        | What::Reopened => None,
    };
    let mut value = json!({
        "id": of.id,
        "node_id": node_id("IssueEvent", of.id),
        "url": format!("{api}/issues/events/{}", of.id),
        "actor": user(&world.urls, &world.user(&of.actor)),
        "event": name,
        "commit_id": commit,
        "commit_url": commit.map(|sha| format!("{api}/commits/{sha}")),
        "created_at": time(of.at),
        "performed_via_github_app": performed_via(world, &of.actor),
    });
    if let Some((field, content)) = more {
        value[field] = content;
    }
    value
}

/// Events without comments, oldest first.
pub(crate) fn events(world: &World, repo: &Repository, issue: &Issue) -> Vec<Value> {
    issue.history.iter().map(|of| event(world, repo, of)).collect()
}

/// Events and comments, oldest first.
pub(crate) fn timeline(world: &World, repo: &Repository, issue: &Issue) -> Vec<Value> {
    let mut all: Vec<_> = issue.history.iter().map(|of| ((of.at, of.id), event(world, repo, of))).collect();
    all.extend(issue.comments.iter().map(|of| {
        let mut value = comment(world, repo, issue, of);
        value["event"] = json!("commented");
        value["actor"] = value["user"].clone();
        ((of.created_at, of.id), value)
    }));
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, value)| value).collect()
}
