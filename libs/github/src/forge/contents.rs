//! Files of a repository at a commit.

use domain::names::CommitSha;
use forge::{ForgeError, Result};
use serde::Deserialize;

use crate::client::{Endpoint, Scope};

/// Larger files are not read.
const MOST_BYTES: usize = 1024 * 1024;
/// GitHub names at most this many entries of a folder; one that has more looks like one that
/// has as many.
const MOST_ENTRIES: usize = 1000;

/// One entry of a folder.
#[derive(Deserialize)]
struct EntryBody {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    sha: String,
    /// Set on a submodule, which is listed as a file.
    submodule_git_url: Option<String>,
}

#[derive(Deserialize)]
struct TreeBody {
    tree: Vec<TreeEntryBody>,
    #[serde(default)]
    truncated: bool,
}

#[derive(Deserialize)]
struct TreeEntryBody {
    path: String,
    mode: String,
}

/// The path as an address takes it.
fn plain(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

fn invalid<T>(message: String) -> Result<T> {
    Err(ForgeError::Invalid { message })
}

pub(super) async fn file(repository: Scope<'_>, path: &str, at: &CommitSha) -> Result<Option<Vec<u8>>> {
    let answer = match repository.get_raw(Endpoint::Contents, &[&plain(path)], &[("ref", at.as_str())]).await
    {
        Ok(answer) => answer,
        Err(ForgeError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    if answer.is_json() {
        // A folder is listed all the same. Anything else comes from a server that does not know
        // what was asked for.
        return if answer.json::<serde_json::Value>()?.is_array() {
            Ok(None)
        } else {
            Err(ForgeError::Unsupported { message: format!("`{path}` cannot be read as it is") })
        };
    }
    let content = answer.into_bytes();
    if content.len() > MOST_BYTES {
        let bytes = content.len();
        return invalid(format!("`{path}` has {bytes} bytes; a file may have {MOST_BYTES}: make it smaller"));
    }
    Ok(Some(content.into()))
}

pub(super) async fn below(repository: Scope<'_>, folder: &str, at: &CommitSha) -> Result<Vec<String>> {
    let answer = match repository.get(Endpoint::Contents, &[&plain(folder)], &[("ref", at.as_str())]).await {
        Ok(answer) => answer,
        Err(ForgeError::Missing { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    if answer.json::<serde_json::Value>()?.is_object() {
        // A file of that name, or a link or submodule.
        return Ok(Vec::new());
    }
    let entries: Vec<EntryBody> = answer.json()?;
    if entries.len() >= MOST_ENTRIES {
        return invalid(format!(
            "`{folder}` has {MOST_ENTRIES} entries or more, and GitHub does not list them all: move some into folders of their own"
        ));
    }
    let mut paths = Vec::new();
    for entry in entries {
        match entry.kind.as_str() {
            "file" if entry.submodule_git_url.is_none() => paths.push(entry.path),
            "dir" => {
                let recursive = [("recursive", "1")];
                let whole: TreeBody =
                    repository.get(Endpoint::Tree, &[&entry.sha], &recursive).await?.json()?;
                if whole.truncated {
                    return invalid(format!(
                        "`{}` has more files than GitHub lists in one answer: take some out",
                        entry.path
                    ));
                }
                // Neither folders nor links nor submodules.
                let files = whole.tree.into_iter().filter(|e| e.mode.starts_with("100"));
                paths.extend(files.map(|file| format!("{}/{}", entry.path, file.path)));
            }
            _ => {}
        }
    }
    Ok(paths)
}
