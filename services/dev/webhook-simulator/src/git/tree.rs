//! Trees, made through an index of their own.

use std::ffi::OsStr;

use anyhow::Context;

use super::{Bare, ZERO};

/// One line of a tree.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) mode: String,
    pub(crate) kind: String,
    pub(crate) sha: String,
    /// Bytes; blobs only.
    pub(crate) size: Option<u64>,
    pub(crate) path: String,
}

/// One change to a tree.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) path: String,
    /// Mode and object, or `None` to take the path away.
    pub(crate) content: Option<(String, String)>,
}

impl Bare {
    /// Applies changes to a base tree. `None` when one takes away a path that is not there,
    /// or git refuses a path.
    pub(crate) async fn write_tree(
        &self,
        base: Option<&str>,
        changes: &[Change],
    ) -> anyhow::Result<Option<String>> {
        let folder = tempfile::tempdir().context("cannot make a folder for the index")?;
        let index = folder.path().join("index");
        let environment: [(&str, &OsStr); 1] = [("GIT_INDEX_FILE", index.as_os_str())];
        self.checked(&["read-tree", base.unwrap_or("--empty")], b"", &environment).await?;

        let listed = self.checked(&["ls-files", "-z", "--cached"], b"", &environment).await?;
        let listed = String::from_utf8_lossy(&listed);

        // What goes, goes first, so that a file can make room for a folder of its name.
        let (mut removals, mut additions) = (Vec::new(), Vec::new());
        for Change { path, content } in changes {
            let tree = content.as_ref().filter(|(mode, _)| mode == "040000").map(|(_, sha)| sha);
            if content.is_none() || tree.is_some() {
                let there: Vec<&str> =
                    listed.split_terminator('\0').filter(|p| is_at_or_below(p, path)).collect();
                if there.is_empty() && content.is_none() {
                    return Ok(None);
                }
                removals.extend(there.iter().flat_map(|path| info("0", ZERO, path)));
            }
            if let Some(tree) = tree {
                for entry in self.list_tree(tree, true).await?.iter().filter(|e| e.kind != "tree") {
                    additions.extend(info(&entry.mode, &entry.sha, &format!("{path}/{}", entry.path)));
                }
            } else if let Some((mode, sha)) = content {
                additions.extend(info(mode, sha, path));
            }
        }
        let lines = [removals, additions].concat();
        if !self.output(&["update-index", "-z", "--index-info"], &lines, &environment).await?.status.success()
        {
            return Ok(None);
        }
        let sha = self.checked(&["write-tree"], b"", &environment).await?;
        Ok(Some(String::from_utf8_lossy(&sha).trim().to_owned()))
    }

    /// What a tree holds, with everything below it when `recursive`.
    pub(crate) async fn list_tree(&self, tree: &str, recursive: bool) -> anyhow::Result<Vec<Entry>> {
        let mut arguments = vec!["ls-tree", "-z", "--long"];
        if recursive {
            arguments.extend(["-r", "-t"]);
        }
        arguments.push(tree);
        let listed = self.git(&arguments).await?;
        Ok(listed.split_terminator('\0').filter_map(parse).collect())
    }
}

impl Bare {
    /// What stands at a path of a tree; `None` when there is nothing.
    pub(crate) async fn entry(&self, tree: &str, path: &str) -> anyhow::Result<Option<Entry>> {
        let listed = self.git(&["ls-tree", "-z", "--long", "--full-tree", tree, "--", path]).await?;
        Ok(listed.split_terminator('\0').filter_map(parse).find(|entry| entry.path == path))
    }

    /// The tree of two commits merged; `None` when they conflict.
    pub(crate) async fn merged_tree(&self, onto: &str, head: &str) -> anyhow::Result<Option<String>> {
        self.ask(&["merge-tree", "--write-tree", onto, head]).await
    }
}

fn is_at_or_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A line for `update-index --index-info`.
fn info(mode: &str, sha: &str, path: &str) -> Vec<u8> {
    format!("{mode} {sha}\t{path}\0").into_bytes()
}

fn parse(line: &str) -> Option<Entry> {
    let (head, path) = line.split_once('\t')?;
    let mut words = head.split_whitespace();
    let (mode, kind, sha, size) = (words.next()?, words.next()?, words.next()?, words.next()?);
    Some(Entry {
        mode: mode.to_owned(),
        kind: kind.to_owned(),
        sha: sha.to_owned(),
        size: size.parse().ok(),
        path: path.to_owned(),
    })
}

/// True for a path GitHub takes into a tree.
pub(crate) fn is_tree_path(path: &str) -> bool {
    !path.is_empty()
        && !path.contains('\0')
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != ".." && !part.eq_ignore_ascii_case(".git"))
}
