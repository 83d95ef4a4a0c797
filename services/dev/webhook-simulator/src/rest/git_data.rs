//! Blobs, trees and commits of the Git data API.

use axum::extract::State;
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::request::{Answer, Fields, Page, Scope, created, ok};
use crate::{
    Simulator,
    git::{
        commit::{Commit, NewCommit, Signature},
        is_sha,
        tree::{Change, is_tree_path},
    },
    payload::{code, node_id},
    refusal::Refusal,
    world::World,
};

#[derive(Debug, Deserialize)]
pub(super) struct NewBlob {
    content: String,
    encoding: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct NewTree {
    base_tree: Option<String>,
    tree: Vec<NewEntry>,
}

#[derive(Debug, Deserialize)]
pub(super) struct NewEntry {
    path: Option<String>,
    mode: Option<String>,
    /// Absent, null (take the path away) or an object.
    #[serde(default, deserialize_with = "present")]
    sha: Option<Option<String>>,
    content: Option<String>,
}

fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(value).map(Some)
}

#[derive(Debug, Deserialize)]
pub(super) struct CommitFields {
    message: String,
    tree: String,
    #[serde(default)]
    parents: Vec<String>,
    author: Option<Person>,
    committer: Option<Person>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Person {
    name: String,
    email: String,
    date: Option<DateTime<FixedOffset>>,
}

pub(super) async fn create_blob(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(new): Fields<NewBlob>,
) -> Answer {
    scope.require_push()?;
    let bytes = match new.encoding.as_deref() {
        None | Some("utf-8") => new.content.into_bytes(),
        Some("base64") => {
            let text: String = new.content.split_whitespace().collect();
            let refusal = || Refusal::unprocessable("content is not valid Base64");
            BASE64_STANDARD.decode(text).map_err(|_| refusal())?
        }
        Some(_) => return Err(Refusal::invalid("Blob", "encoding", "invalid")),
    };
    let sha = scope.bare.write_blob(&bytes).await?;
    let url = format!("{}/git/blobs/{sha}", simulator.urls().repository_api(&scope.name));
    Ok(created(json!({ "sha": sha, "url": url })))
}

pub(super) async fn blob(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    let sha = scope.part("sha");
    let bytes = scope.bare.read("blob", sha).await?.ok_or_else(Refusal::not_found)?;
    // GitHub breaks the lines after 60 characters; clients have to cope.
    let encoded = BASE64_STANDARD.encode(&bytes);
    let lines = encoded.as_bytes().chunks(60).map(|l| format!("{}\n", String::from_utf8_lossy(l)));
    Ok(ok(json!({
        "sha": sha,
        "node_id": node_id("Blob", sha),
        "size": bytes.len(),
        "url": format!("{}/git/blobs/{sha}", simulator.urls().repository_api(&scope.name)),
        "content": lines.collect::<String>(),
        "encoding": "base64",
    })))
}

pub(super) async fn create_tree(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(new): Fields<NewTree>,
) -> Answer {
    scope.require_push()?;
    if new.tree.is_empty() {
        return Err(Refusal::unprocessable("Invalid tree info"));
    }
    let base = match &new.base_tree {
        Some(name) => {
            let resolved = scope.bare.resolve_tree(name).await?;
            Some(resolved.ok_or_else(|| Refusal::unprocessable("base_tree is not a valid tree oid"))?)
        }
        None => None,
    };
    let mut changes = Vec::new();
    for entry in new.tree {
        changes.push(change(&scope, entry).await?);
    }
    let sha = scope.bare.write_tree(base.as_deref(), &changes).await?;
    let sha = sha.ok_or_else(|| Refusal::unprocessable("GitRPC::BadObjectState"))?;
    let entries = scope.bare.list_tree(&sha, false).await?;
    Ok(created(code::tree(simulator.urls(), &scope.name, &sha, &entries)))
}

async fn change(scope: &Scope, entry: NewEntry) -> Result<Change, Refusal> {
    let path = entry.path.unwrap_or_default();
    if !is_tree_path(&path) {
        return Err(Refusal::unprocessable("tree.path contains a malformed path component"));
    }
    let mode = entry.mode.unwrap_or_default();
    let kind = match mode.as_str() {
        "100644" | "100755" | "120000" => "blob",
        "040000" => "tree",
        "160000" => "commit",
        _ => return Err(Refusal::unprocessable(format!("Must supply a valid tree.mode for {path}"))),
    };
    let content = match (entry.sha, entry.content) {
        (Some(Some(_)), Some(_)) => {
            return Err(Refusal::unprocessable("Must supply either tree.sha or tree.content, not both"));
        }
        (Some(Some(sha)), None) => {
            // A submodule's commit is in another repository.
            let there = scope.bare.kinds(&[&sha]).await?.into_iter().next().flatten();
            if !is_sha(&sha) || (kind != "commit" && there.as_deref() != Some(kind)) {
                return Err(Refusal::unprocessable(format!("tree.sha {sha} is not a valid {kind}")));
            }
            Some((mode, sha))
        }
        (_, Some(text)) => Some((mode, scope.bare.write_blob(text.as_bytes()).await?)),
        (Some(None), None) => None,
        (None, None) => return Err(Refusal::unprocessable("Must supply tree.sha or tree.content")),
    };
    Ok(Change { path, content })
}

pub(super) async fn tree(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    let sha = scope.bare.resolve_tree(scope.part("tree")).await?.ok_or_else(Refusal::not_found)?;
    let entries = scope.bare.list_tree(&sha, page.query("recursive").is_some()).await?;
    Ok(ok(code::tree(simulator.urls(), &scope.name, &sha, &entries)))
}

fn show(simulator: &Simulator, scope: &Scope, commit: &Commit) -> Value {
    let mut value = code::git_commit(simulator.urls(), &scope.name, commit);
    if simulator.read(|world| world.signed.contains(&commit.sha)) {
        value["verification"] = code::verified();
    }
    value
}

pub(super) async fn create_commit(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(new): Fields<CommitFields>,
) -> Answer {
    let actor = scope.actor()?;
    scope.require_push()?;
    let mut shas = vec![new.tree.as_str()];
    shas.extend(new.parents.iter().map(String::as_str));
    let kinds = scope.bare.kinds(&shas).await?;
    if kinds.first().cloned().flatten().as_deref() != Some("tree") {
        return Err(Refusal::unprocessable("Tree SHA does not exist"));
    }
    if kinds.iter().skip(1).any(|kind| kind.as_deref() != Some("commit")) {
        return Err(Refusal::unprocessable("Parent SHA does not exist or is not a commit object"));
    }
    let signs = scope.grant().is_some() && new.author.is_none() && new.committer.is_none();
    let now = simulator.read(World::now).fixed_offset();
    let sign = |person: Person| Signature {
        name: person.name,
        email: person.email,
        date: person.date.unwrap_or(now),
    };
    let user = simulator.read(|world| world.user(actor));
    let author = new.author.map(sign).unwrap_or_else(|| Signature {
        name: user.login.clone(),
        email: format!("{}+{}@users.noreply.github.com", user.id, user.login),
        date: now,
    });
    let committer = new.committer.map(sign).unwrap_or_else(|| author.clone());
    let content = NewCommit { tree: new.tree, parents: new.parents, message: new.message, author, committer };
    let written = scope.bare.write_commit(&content).await?;
    let sha = written.ok_or_else(|| Refusal::unprocessable("Invalid author or committer"))?;
    if signs {
        simulator.change(|world| world.signed.insert(sha.clone()));
    }
    Ok(created(show(&simulator, &scope, &Commit { sha, content })))
}

pub(super) async fn commit(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    let commit = scope.bare.commit(scope.part("sha")).await?.ok_or_else(Refusal::not_found)?;
    Ok(ok(show(&simulator, &scope, &commit)))
}
