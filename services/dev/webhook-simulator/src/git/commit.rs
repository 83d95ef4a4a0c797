//! Commits: writing, reading, and how they relate.

use std::ffi::OsStr;

use anyhow::Context;
use chrono::{DateTime, FixedOffset};

use super::Bare;

/// Who and when.
#[derive(Clone, Debug)]
pub(crate) struct Signature {
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) date: DateTime<FixedOffset>,
}

/// A commit to be written.
#[derive(Clone, Debug)]
pub(crate) struct NewCommit {
    pub(crate) tree: String,
    pub(crate) parents: Vec<String>,
    pub(crate) message: String,
    pub(crate) author: Signature,
    pub(crate) committer: Signature,
}

/// A commit as stored.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) sha: String,
    pub(crate) content: NewCommit,
}

impl Bare {
    /// Stores a commit; `None` when git refuses it (an empty name, say).
    pub(crate) async fn write_commit(&self, new: &NewCommit) -> anyhow::Result<Option<String>> {
        let mut arguments = vec!["commit-tree", new.tree.as_str()];
        for parent in &new.parents {
            arguments.extend(["-p", parent.as_str()]);
        }
        let date = |s: &Signature| format!("@{} {}", s.date.timestamp(), s.date.format("%z"));
        let (authored, committed) = (date(&new.author), date(&new.committer));
        let environment: [(&str, &OsStr); 6] = [
            ("GIT_AUTHOR_NAME", new.author.name.as_ref()),
            ("GIT_AUTHOR_EMAIL", new.author.email.as_ref()),
            ("GIT_AUTHOR_DATE", authored.as_ref()),
            ("GIT_COMMITTER_NAME", new.committer.name.as_ref()),
            ("GIT_COMMITTER_EMAIL", new.committer.email.as_ref()),
            ("GIT_COMMITTER_DATE", committed.as_ref()),
        ];
        let output = self.output(&arguments, new.message.as_bytes(), &environment).await?;
        let sha = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(output.status.success().then_some(sha))
    }

    /// A commit by its id.
    pub(crate) async fn commit(&self, sha: &str) -> anyhow::Result<Option<Commit>> {
        let Some(raw) = self.read("commit", sha).await? else { return Ok(None) };
        parse(sha, &String::from_utf8_lossy(&raw)).context("git wrote a commit that cannot be read").map(Some)
    }

    /// True when `ancestor` is `commit` or before it.
    pub(crate) async fn is_ancestor(&self, ancestor: &str, commit: &str) -> anyhow::Result<bool> {
        Ok(self.ask(&["merge-base", "--is-ancestor", ancestor, commit]).await?.is_some())
    }

    /// Where two commits part; `None` when they have nothing in common.
    pub(crate) async fn merge_base(&self, one: &str, other: &str) -> anyhow::Result<Option<String>> {
        self.ask(&["merge-base", one, other]).await
    }

    /// Commits of `head` that `base` does not have, oldest first, at most the last `limit`.
    pub(crate) async fn commits_between(
        &self,
        base: Option<&str>,
        head: &str,
        limit: usize,
    ) -> anyhow::Result<Vec<String>> {
        let (most, without) = (format!("--max-count={limit}"), base.map(|b| format!("^{b}")));
        let mut arguments = vec!["rev-list", &most, head];
        arguments.extend(without.as_deref());
        let mut shas: Vec<String> = self.git(&arguments).await?.lines().map(str::to_owned).collect();
        shas.reverse();
        Ok(shas)
    }
}

fn parse(sha: &str, raw: &str) -> Option<Commit> {
    let (head, message) = raw.split_once("\n\n").unwrap_or((raw, ""));
    let fields = |name: &str| {
        let prefix = format!("{name} ");
        head.lines().filter_map(move |l| l.strip_prefix(&prefix).map(str::to_owned)).collect::<Vec<_>>()
    };
    Some(Commit {
        sha: sha.to_ascii_lowercase(),
        content: NewCommit {
            tree: fields("tree").first()?.clone(),
            parents: fields("parent"),
            message: message.to_owned(),
            author: signature(fields("author").first()?)?,
            committer: signature(fields("committer").first()?)?,
        },
    })
}

fn signature(line: &str) -> Option<Signature> {
    let (who, when) = line.rsplit_once("> ")?;
    let (name, email) = who.split_once('<')?;
    Some(Signature {
        name: name.trim_end().to_owned(),
        email: email.to_owned(),
        date: DateTime::parse_from_str(when, "%s %z").ok()?,
    })
}
