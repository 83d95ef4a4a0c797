//! Files and folders at a commit.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, header};
use serde_json::{Value, json};

use super::request::{Answer, Page, Scope, ok};
use crate::{Simulator, git::tree::Entry, refusal::Refusal};

/// Larger files are not put into a description of them.
const MOST_INLINE: u64 = 1024 * 1024;
/// Entries of a folder that are listed.
const MOST_ENTRIES: usize = 1000;

const SYMLINK: &str = "120000";

pub(super) async fn get(
    State(simulator): State<Simulator>,
    scope: Scope,
    page: Page,
    headers: HeaderMap,
) -> Answer {
    let path = scope.part("path").trim_end_matches('/');
    let default = simulator.read(|w| w.repository(&scope.key).map(|r| r.default_branch.clone()))?;
    let name = page.query("ref").unwrap_or(&default);
    let missing = || Refusal::new(http::StatusCode::NOT_FOUND, format!("No commit found for the ref {name}"));
    let tree = scope.bare.resolve_tree(name).await?.ok_or_else(missing)?;
    let describe = |entry: &Entry, folder: &str| describe(&simulator, &scope, entry, folder, name);
    if path.is_empty() {
        return folder(&scope, &tree, "", describe).await;
    }
    let entry = scope.bare.entry(&tree, path).await?.ok_or_else(Refusal::not_found)?;
    if entry.kind == "tree" {
        return folder(&scope, &entry.sha, path, describe).await;
    }
    let entry = followed(&scope, &tree, entry).await?;
    let content = scope.bare.read("blob", &entry.sha).await?.ok_or_else(Refusal::not_found)?;
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if accept.contains(".raw") {
        return Ok(as_it_is(content));
    }
    let mut value = describe(&entry, "");
    let inline = entry.size.unwrap_or_default() <= MOST_INLINE;
    let encoded = if inline { BASE64_STANDARD.encode(&content) } else { String::new() };
    let lines = encoded.as_bytes().chunks(60).map(|l| format!("{}\n", String::from_utf8_lossy(l)));
    value["content"] = json!(lines.collect::<String>());
    value["encoding"] = json!(if inline { "base64" } else { "none" });
    Ok(ok(value))
}

async fn folder(scope: &Scope, tree: &str, path: &str, describe: impl Fn(&Entry, &str) -> Value) -> Answer {
    let entries = scope.bare.list_tree(tree, false).await?;
    let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
    let listed = entries.iter().take(MOST_ENTRIES).map(|entry| describe(entry, &prefix));
    Ok(ok(Value::Array(listed.collect())))
}

/// A link to a file stands for the file.
async fn followed(scope: &Scope, tree: &str, entry: Entry) -> Result<Entry, Refusal> {
    if entry.mode != SYMLINK {
        return Ok(entry);
    }
    let target = scope.bare.read("blob", &entry.sha).await?.unwrap_or_default();
    let target = String::from_utf8_lossy(&target).into_owned();
    let mut parts: Vec<&str> = entry.path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let found = scope.bare.entry(tree, &parts.join("/")).await?;
    let file = found.filter(|f| f.kind == "blob" && f.mode != SYMLINK);
    Ok(file.map_or_else(|| entry.clone(), |file| Entry { path: entry.path.clone(), ..file }))
}

fn as_it_is(content: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/vnd.github.raw+json; charset=utf-8")], content).into_response()
}

fn describe(simulator: &Simulator, scope: &Scope, entry: &Entry, folder: &str, name: &str) -> Value {
    let (api, web) =
        (simulator.urls().repository_api(&scope.name), simulator.urls().repository_web(&scope.name));
    let path = format!("{folder}{}", entry.path);
    let (kind, object) = match (entry.kind.as_str(), entry.mode.as_str()) {
        ("tree", _) => ("dir", "trees"),
        ("blob", SYMLINK) => ("symlink", "blobs"),
        ("blob", _) => ("file", "blobs"),
        // A submodule looks like a file in a list.
        _ => ("file", "trees"),
    };
    let url = format!("{api}/contents/{path}?ref={name}");
    let git = format!("{api}/git/{object}/{}", entry.sha);
    let mut value = json!({
        "name": path.rsplit('/').next(),
        "path": path,
        "sha": entry.sha,
        "size": entry.size.unwrap_or_default(),
        "url": url,
        "html_url": format!("{web}/blob/{name}/{path}"),
        "git_url": git,
        "download_url": (kind == "file").then(|| format!("{web}/raw/{name}/{path}")),
        "type": kind,
        "_links": { "self": url, "git": git, "html": format!("{web}/blob/{name}/{path}") },
    });
    if entry.kind == "commit" {
        value["submodule_git_url"] = Value::Null;
    }
    value
}
