//! A commit through the Git data API: blobs, tree, commit; no branch points at it yet.

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::SecondsFormat;
use domain::names::CommitSha;
use forge::{FileMode, ForgeError, NewCommit, Result, TreeChange};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::Scope;

/// Text goes into the tree's call itself up to here; what is more goes by blob, so that no
/// single call grows without bounds.
const INLINE_BYTES: usize = 2 * 1024 * 1024;

#[derive(Deserialize)]
struct Object {
    sha: String,
}

#[derive(Deserialize)]
struct ParentCommit {
    tree: Object,
}

#[derive(Deserialize)]
struct StoredCommit {
    sha: CommitSha,
}

/// Stores the commit. The same input gives the same commit on a server that does not sign.
pub(crate) async fn create(repository: &Scope<'_>, commit: &NewCommit) -> Result<CommitSha> {
    let parent: ParentCommit =
        repository.get(&["git", "commits", commit.parent.as_str()], &[]).await?.json()?;
    let mut entries = Vec::with_capacity(commit.changes.len());
    let mut inline_left = INLINE_BYTES;
    for change in &commit.changes {
        entries.push(entry(repository, change, &mut inline_left).await?);
    }
    let tree = json!({ "base_tree": parent.tree.sha, "tree": entries });
    let tree: Object = repository.post(&["git", "trees"], &tree).await?.json()?;
    if tree.sha == parent.tree.sha {
        return Err(ForgeError::Invalid { message: "nothing changed".to_owned() });
    }
    let date = commit.date.to_rfc3339_opts(SecondsFormat::Secs, true);
    let who = json!({ "name": "Callboard", "email": "callboard@users.noreply.github.com", "date": date });
    let body = json!({
        "message": commit.message,
        "tree": tree.sha,
        "parents": [commit.parent.as_str()],
        "author": who,
        "committer": who,
    });
    let stored: StoredCommit = repository.post(&["git", "commits"], &body).await?.json()?;
    Ok(stored.sha)
}

async fn entry(repository: &Scope<'_>, change: &TreeChange, inline_left: &mut usize) -> Result<Value> {
    let path = &change.path;
    let Some((mode, content)) = &change.content else {
        return Ok(json!({ "path": path, "mode": "100644", "type": "blob", "sha": null }));
    };
    let mode = match mode {
        FileMode::Regular => "100644",
        FileMode::Executable => "100755",
        FileMode::Symlink => "120000",
    };
    if let Some(text) = inline_text(content)
        && let Some(left) = inline_left.checked_sub(text.len())
    {
        *inline_left = left;
        return Ok(json!({ "path": path, "mode": mode, "type": "blob", "content": text }));
    }
    let blob = json!({ "content": STANDARD.encode(content), "encoding": "base64" });
    let blob: Object = repository.post(&["git", "blobs"], &blob).await?.json()?;
    Ok(json!({ "path": path, "mode": mode, "type": "blob", "sha": blob.sha }))
}

/// Content that survives as JSON text. An empty one goes by blob: not every server takes
/// empty text for a file.
fn inline_text(content: &[u8]) -> Option<&str> {
    std::str::from_utf8(content).ok().filter(|text| !text.is_empty() && !text.contains('\0'))
}
