//! A commit through the Git data API: blobs, tree, commit; no branch points at it yet.

use std::collections::{HashMap, HashSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::SecondsFormat;
use domain::names::{CommitSha, RepositoryName};
use forge::{Commit, FileMode, ForgeError, NewCommit, Result, TreeChange};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    client::{Endpoint, Scope},
    forge::{Listing, Trees},
};

/// Text goes into the tree's call itself up to here; what is more goes by blob, so that no
/// single call grows without bounds.
const INLINE_BYTES: usize = 2 * 1024 * 1024;

#[derive(Deserialize)]
struct Object {
    sha: String,
}

#[derive(Deserialize)]
struct StoredCommit {
    sha: CommitSha,
}

/// Stores the commit. The same input gives the same commit on a server that does not sign.
pub(crate) async fn create(
    scope: &Scope<'_>,
    repository: &RepositoryName,
    trees: &Trees,
    commit: &NewCommit,
) -> Result<CommitSha> {
    let base = trees.of(scope, repository, &commit.parent).await?;
    let whole = trees.listing(scope, repository, &base).await?;
    refuse_folders(scope, &base, &whole, &commit.changes).await?;
    let mut entries = Vec::with_capacity(commit.changes.len());
    let mut inline_left = INLINE_BYTES;
    for change in &commit.changes {
        entries.push(entry(scope, change, &mut inline_left).await?);
    }
    let tree = json!({ "base_tree": base, "tree": entries });
    let tree: Object = scope.write(Endpoint::CreateTree, &[], &tree).await?.json()?;
    if tree.sha == base {
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
    let stored: StoredCommit = scope.write(Endpoint::CreateCommit, &[], &body).await?.json()?;
    Ok(stored.sha)
}

#[derive(Deserialize)]
struct ReadCommit {
    tree: Object,
    #[serde(default)]
    parents: Vec<StoredCommit>,
    message: String,
}

/// Reads a commit.
pub(crate) async fn read(repository: &Scope<'_>, sha: &CommitSha) -> Result<Commit> {
    let body: ReadCommit = repository.get(Endpoint::Commit, &[sha.as_str()], &[]).await?.json()?;
    let parents = body.parents.into_iter().map(|parent| parent.sha).collect();
    Ok(Commit { tree: body.tree.sha, parents, message: body.message })
}

/// A change names a file. On top of `base_tree` an entry that names a folder would replace
/// everything below it, past every check that looked at paths; so each path is looked up.
async fn refuse_folders(
    repository: &Scope<'_>,
    tree: &str,
    whole: &Listing,
    changes: &[TreeChange],
) -> Result<()> {
    let deleted: HashSet<&str> =
        changes.iter().filter(|c| c.content.is_none()).map(|c| c.path.as_str()).collect();
    let refuse = |path: &str| ForgeError::Invalid {
        message: format!("`{path}` is a folder in the repository; its files have to be named one by one"),
    };
    if !whole.truncated {
        for change in changes {
            if whole.below(&change.path).any(|path| !deleted.contains(path)) {
                return Err(refuse(&change.path));
            }
        }
        return Ok(());
    }
    // Too many files for one answer: only the folders on the way are listed.
    let mut listed: HashMap<String, Folder> = HashMap::new();
    for change in changes {
        let mut at = tree.to_owned();
        let mut parts = change.path.split('/').peekable();
        while let Some(part) = parts.next() {
            if !listed.contains_key(&at) {
                let listing = repository.get(Endpoint::Tree, &[&at], &[]).await?.json()?;
                listed.insert(at.clone(), listing);
            }
            let found = listed.get(&at).and_then(|l| l.tree.iter().find(|e| e.path == part));
            match found {
                Some(entry) if entry.kind == "tree" && parts.peek().is_none() => {
                    return Err(refuse(&change.path));
                }
                Some(entry) if entry.kind == "tree" => at.clone_from(&entry.sha),
                Some(_) | None => break,
            }
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Folder {
    tree: Vec<ListedEntry>,
}

#[derive(Deserialize)]
struct ListedEntry {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    sha: String,
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
    let blob: Object = repository.write(Endpoint::CreateBlob, &[], &blob).await?.json()?;
    Ok(json!({ "path": path, "mode": mode, "type": "blob", "sha": blob.sha }))
}

/// Content that survives as JSON text. An empty one goes by blob: not every server takes
/// empty text for a file.
fn inline_text(content: &[u8]) -> Option<&str> {
    std::str::from_utf8(content).ok().filter(|text| !text.is_empty() && !text.contains('\0'))
}
