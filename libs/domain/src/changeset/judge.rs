//! May a changeset be published?

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::{
    Change, Changeset, FileChange, Finding, FindingCode, Mode, Searched,
    finding::Findings,
    paths::{self, Hostile},
    protected::protected,
    searched::Suspects,
};
use crate::{
    censor::{Censor, Suspect},
    names::CommitSha,
    neutralise::is_hidden,
};

/// Characters of a path in a sentence.
const PATH_CHARS: usize = 200;

/// What a changeset is held against.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The commit the run was pinned to.
    pub pin: &'a CommitSha,
    /// Globs of paths the stage may write; `*` stops at `/`, `**` does not. What else it writes
    /// is held; where there are none at all, everything is refused.
    pub write_scope: &'a [String],
    /// Bytes of all paths and contents together.
    pub max_bytes: u64,
    /// Number of files.
    pub max_files: usize,
    /// Lines of the new contents of all text files together. What is on the code host now is not
    /// at hand here, so a file counts with all of its lines, however few of them are new.
    pub max_lines: usize,
    /// Everything is held, also what has no other finding.
    pub needs_approver: bool,
    /// Secrets that must not be published.
    pub secrets: &'a Censor,
}

/// What follows from the checks.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing was changed.
    Empty,
    /// It goes to the code host.
    Publish,
    /// A person has to look at it first.
    Hold(Vec<Finding>),
    /// It is never published.
    Refuse(Vec<Finding>),
}

/// Judges what an attempt returned. Refusing wins over holding; all findings of the verdict
/// are listed, at most 50.
pub fn judge(searched: &Searched, rules: &Rules<'_>) -> Verdict {
    let changeset = searched.changeset();
    if changeset.files.is_empty() {
        return Verdict::Empty;
    }
    let mut findings = Findings::default();
    check_whole(changeset, rules, &mut findings);
    let scope = scope(rules.write_scope);
    let mut sound = Vec::with_capacity(changeset.files.len());
    for (file, suspects) in changeset.files.iter().zip(searched.suspects()) {
        check_secrets(file, suspects, rules.secrets, &mut findings);
        if let Some(path) = check_file(file, rules, &scope, &mut findings) {
            sound.push((path, &file.change));
        }
    }
    check_together(&sound, rules.secrets, &mut findings);
    if searched.gave_up() {
        let sentence = "The changeset has too much that could be a secret to be searched to its end; a person has to look at it first.";
        findings.hold(FindingCode::SecretPattern, None, sentence.to_owned());
    }
    if rules.needs_approver {
        let sentence = "Every result of this stage needs an approver.".to_owned();
        findings.hold(FindingCode::NeedsApprover, None, sentence);
    }
    match findings.listed() {
        (refused, _) if !refused.is_empty() => Verdict::Refuse(refused),
        (_, held) if !held.is_empty() => Verdict::Hold(held),
        (_, _) => Verdict::Publish,
    }
}

fn check_whole(changeset: &Changeset, rules: &Rules<'_>, findings: &mut Findings) {
    if changeset.base != *rules.pin {
        let (base, pin) = (changeset.base.short(), rules.pin.short());
        let sentence = format!("The changeset was made on commit {base}, but the run was pinned to {pin}.");
        findings.refuse(FindingCode::WrongBase, None, sentence);
    }
    let files = changeset.files.len();
    if files > rules.max_files {
        let sentence = format!("The changeset has {files} files; this stage may change {}.", rules.max_files);
        findings.refuse(FindingCode::TooManyFiles, None, sentence);
    }
    let lines: usize = changeset.files.iter().map(lines).sum();
    if lines > rules.max_lines {
        let sentence = format!(
            "The files of the changeset have {lines} lines; this stage writes {} by itself; a person has to look at it first.",
            rules.max_lines
        );
        findings.hold(FindingCode::TooManyLines, None, sentence);
    }
    let bytes: u64 = changeset.files.iter().map(size).sum();
    if bytes > rules.max_bytes {
        let sentence = format!("The changeset has {bytes} bytes; this stage may write {}.", rules.max_bytes);
        findings.refuse(FindingCode::TooLarge, None, sentence);
    }
}

fn size(file: &FileChange) -> u64 {
    let content = match &file.change {
        Change::Put { content, .. } => content.len(),
        Change::Delete | Change::Submodule => 0,
    };
    (file.path.len() + content) as u64
}

/// Lines of a text file, the last one with or without its newline. As for git, what has a zero
/// byte is no text; that has no lines, and counts by its bytes alone.
fn lines(file: &FileChange) -> usize {
    match &file.change {
        Change::Put { mode: Mode::Regular | Mode::Executable, content } if !content.contains(&0) => {
            content.split_inclusive(|byte| *byte == b'\n').count()
        }
        Change::Put { .. } | Change::Delete | Change::Submodule => 0,
    }
}

/// The globs of the write scope. One that cannot be read allows nothing.
fn scope(globs: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        if let Ok(glob) = GlobBuilder::new(glob).literal_separator(true).build() {
            set.add(glob);
        }
    }
    set.build().unwrap_or_default()
}

/// Checks one file by itself; its path when that can be compared with others.
fn check_file<'f>(
    file: &'f FileChange,
    rules: &Rules<'_>,
    scope: &GlobSet,
    findings: &mut Findings,
) -> Option<&'f str> {
    let shown = shown(&file.path, rules.secrets);
    let shown = shown.as_str();
    if let Change::Submodule = file.change {
        let sentence = format!("`{shown}` is a submodule, and submodules are never published.");
        findings.refuse(FindingCode::Submodule, Some(shown), sentence);
    }
    let path = match paths::check(&file.path) {
        Ok(path) => path,
        Err(Hostile::GitFolder) => {
            let sentence = format!("`{shown}` touches git's own folder.");
            findings.refuse(FindingCode::GitFolder, Some(shown), sentence);
            return None;
        }
        Err(Hostile::Because(why)) => {
            findings.refuse(FindingCode::HostilePath, Some(shown), format!("The path `{shown}` {why}."));
            return None;
        }
    };
    if rules.write_scope.is_empty() {
        let sentence = format!("`{shown}` was changed, and this stage writes nothing.");
        findings.refuse(FindingCode::OutsideWriteScope, Some(shown), sentence);
    } else if !scope.is_match(path) {
        let sentence = format!(
            "`{shown}` is outside what this stage may write ({}); a person has to look at it first.",
            rules.write_scope.join(", ")
        );
        findings.hold(FindingCode::OutsideWriteScope, Some(shown), sentence);
    }
    if let Some(what) = protected(path) {
        let sentence = format!("`{shown}` is protected ({what}); a person has to look at it first.");
        findings.hold(FindingCode::ProtectedPath, Some(shown), sentence);
    }
    if let Change::Put { mode: Mode::Symlink, content } = &file.change {
        check_link(path, shown, content, findings);
    }
    Some(path)
}

fn check_secrets(file: &FileChange, suspects: &Suspects, known: &Censor, findings: &mut Findings) {
    let shown = shown(&file.path, known);
    if known.found_in(&file.path) {
        let sentence = format!("The path `{shown}` contains a secret of this platform.");
        findings.refuse(FindingCode::KnownSecret, Some(&shown), sentence);
    }
    if let Change::Put { content, .. } = &file.change
        && known.found_in(content)
    {
        let sentence = format!(
            "`{shown}` contains a secret of this platform. Replace the secret: the agent should never have seen it."
        );
        findings.refuse(FindingCode::KnownSecret, Some(&shown), sentence);
    }
    if let Some(Suspect { what, .. }) = &suspects.path {
        let sentence =
            format!("The path `{shown}` contains what looks like {what}; a person has to look at it first.");
        findings.hold(FindingCode::SecretPattern, Some(&shown), sentence);
    }
    for Suspect { what, line, more } in &suspects.content {
        let more = if *more == 0 { String::new() } else { format!(", and {more} times more in this file") };
        let sentence = format!(
            "`{shown}` contains what looks like {what} in line {line}{more}; a person has to look at it first."
        );
        findings.hold(FindingCode::SecretPattern, Some(&shown), sentence);
    }
}

fn check_link(path: &str, shown: &str, target: &[u8], findings: &mut Findings) {
    match paths::resolve(path, target) {
        Ok(resolved) => {
            if let Some(what) = protected(&resolved) {
                let sentence = format!(
                    "`{shown}` is a symbolic link to something protected ({what}); a person has to look at it first."
                );
                findings.hold(FindingCode::LinkToProtectedPath, Some(shown), sentence);
            }
        }
        Err(Hostile::GitFolder) => {
            let sentence = format!("The target of the symbolic link `{shown}` is in git's own folder.");
            findings.refuse(FindingCode::SymlinkTarget, Some(shown), sentence);
        }
        Err(Hostile::Because(why)) => {
            let sentence = format!("The target of the symbolic link `{shown}` {why}.");
            findings.refuse(FindingCode::SymlinkTarget, Some(shown), sentence);
        }
    }
}

/// Checks that the paths can stand beside each other, on every file system.
fn check_together(files: &[(&str, &Change)], secrets: &Censor, findings: &mut Findings) {
    let shown = |path: &str| shown(path.as_bytes(), secrets);
    let mut all: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
    all.sort_unstable();
    for pair in all.windows(2).filter(|pair| pair[0] == pair[1]) {
        let path = shown(pair[0]);
        findings.refuse(
            FindingCode::DuplicatePath,
            Some(&path),
            format!("`{path}` is in the changeset more than once."),
        );
    }
    // Deleted paths may be replaced: by a folder of that name, or by another case.
    let mut written: Vec<(String, &str)> = files
        .iter()
        .filter(|(_, change)| matches!(change, Change::Put { .. } | Change::Submodule))
        // Parts end in a zero byte, which no path has, so that what is in a folder comes right after it.
        .map(|(path, _)| (paths::folded_parts(path).iter().map(|part| format!("{part}\0")).collect(), *path))
        .collect();
    written.sort_unstable();
    for pair in written.windows(2) {
        let ((one, one_path), (other, other_path)) = (&pair[0], &pair[1]);
        if one_path == other_path || !other.starts_with(one.as_str()) {
            continue;
        }
        let (one_shown, other_shown) = (shown(one_path), shown(other_path));
        if one == other {
            let sentence =
                format!("`{one_shown}` and `{other_shown}` are the same file where case does not count.");
            findings.refuse(FindingCode::CaseConflict, Some(&other_shown), sentence);
        } else {
            let sentence =
                format!("`{one_shown}` is a file, and `{other_shown}` needs a folder of that name.");
            findings.refuse(FindingCode::FileAndFolder, Some(&one_shown), sentence);
        }
    }
}

/// A path for people: no secrets, nothing hidden, no backticks, at most [`PATH_CHARS`] characters.
fn shown(path: &[u8], secrets: &Censor) -> String {
    let text = String::from_utf8_lossy(path);
    let mut out = String::new();
    for c in secrets.censor(&text).chars().take(PATH_CHARS) {
        if is_hidden(c) || c == '\n' || c == '\t' {
            out.extend(c.escape_unicode());
        } else {
            out.push(if c == '`' { '\'' } else { c });
        }
    }
    out
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
