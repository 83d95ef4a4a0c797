//! What a pull request changes.

use super::{Bare, ZERO};

/// Size of a change.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DiffStat {
    pub(crate) additions: u64,
    pub(crate) deletions: u64,
    pub(crate) changed_files: usize,
    pub(crate) commits: usize,
}

/// One changed file.
#[derive(Clone, Debug)]
pub(crate) struct ChangedFile {
    pub(crate) path: String,
    pub(crate) previous_path: Option<String>,
    /// `added`, `removed`, `modified`, `renamed`, `copied` or `changed`.
    pub(crate) status: &'static str,
    pub(crate) sha: String,
    pub(crate) additions: u64,
    pub(crate) deletions: u64,
    /// From the first `@@` on; `None` for binary files.
    pub(crate) patch: Option<String>,
}

impl Bare {
    /// The change as `git diff` prints it.
    pub(crate) async fn diff(&self, from: &str, to: &str) -> anyhow::Result<String> {
        self.git(&["diff", "-M", from, to]).await
    }

    /// The commits as mail, with binary files whole.
    pub(crate) async fn patch(&self, from: &str, to: &str) -> anyhow::Result<String> {
        self.git(&["format-patch", "--stdout", "--binary", &format!("{from}..{to}")]).await
    }

    /// How big a change is.
    pub(crate) async fn stat(&self, from: &str, to: &str) -> anyhow::Result<DiffStat> {
        let files = self.changed_files(from, to).await?;
        Ok(DiffStat {
            additions: files.iter().map(|f| f.additions).sum(),
            deletions: files.iter().map(|f| f.deletions).sum(),
            changed_files: files.len(),
            commits: self.commits_between(Some(from), to, 10_000).await?.len(),
        })
    }

    /// The changed files, in git's order.
    pub(crate) async fn changed_files(&self, from: &str, to: &str) -> anyhow::Result<Vec<ChangedFile>> {
        let raw = self.git(&["diff", "-M", "--raw", "-z", "--no-abbrev", from, to]).await?;
        let numbers = self.git(&["diff", "-M", "--numstat", "-z", from, to]).await?;
        let whole = self.diff(from, to).await?;
        let mut patches = patches(&whole).into_iter();
        let mut counts = counts(&numbers).into_iter();
        let mut words = raw.split_terminator('\0');
        let mut files = Vec::new();
        while let Some(file) = next_file(&mut words) {
            let (additions, deletions) = counts.next().unwrap_or_default();
            if file.status == "changed" {
                // A file that became a link, say, is printed as a removal and an addition.
                patches.next();
            }
            files.push(ChangedFile { additions, deletions, patch: patches.next().flatten(), ..file });
        }
        Ok(files)
    }
}

/// `:oldmode newmode oldsha newsha LETTER\0path\0[path\0]`
fn next_file<'r>(words: &mut impl Iterator<Item = &'r str>) -> Option<ChangedFile> {
    let mut head = words.next()?.split(' ').skip(2);
    let (old, new, letter) = (head.next()?, head.next()?, head.next()?);
    let first = words.next()?.to_owned();
    let status = match letter.as_bytes().first()? {
        b'A' => "added",
        b'D' => "removed",
        b'R' => "renamed",
        b'C' => "copied",
        b'T' => "changed",
        _ => "modified",
    };
    let (path, previous_path) = match status {
        "renamed" | "copied" => (words.next()?.to_owned(), Some(first)),
        _ => (first, None),
    };
    let sha = if new == ZERO { old } else { new }.to_owned();
    Some(ChangedFile { path, previous_path, status, sha, additions: 0, deletions: 0, patch: None })
}

/// Added and deleted lines per file; `-` stands for a binary file.
fn counts(numbers: &str) -> Vec<(u64, u64)> {
    let mut counts = Vec::new();
    let mut words = numbers.split_terminator('\0');
    while let Some(word) = words.next() {
        let mut fields = word.splitn(3, '\t');
        let mut number = || fields.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        counts.push((number(), number()));
        if fields.next() == Some("") {
            // A rename: both paths follow as words of their own.
            words.next();
            words.next();
        }
    }
    counts
}

/// Cuts a diff at its files; lines of content never start with `diff`.
fn patches(whole: &str) -> Vec<Option<String>> {
    let mut patches: Vec<Option<String>> = Vec::new();
    for line in whole.split_inclusive('\n') {
        if line.starts_with("diff --git ") {
            patches.push(None);
        } else if let Some(last) = patches.last_mut() {
            match last {
                Some(patch) => patch.push_str(line),
                None if line.starts_with("@@") => *last = Some(line.to_owned()),
                None => {}
            }
        }
    }
    patches
}
