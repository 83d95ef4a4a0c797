//! What templates can say something about.

use serde::Serialize;

use crate::language::{Kind, Language};

/// Everything a template may name.
///
/// Texts may be as they came: they are cleaned and limited when a prompt is rendered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PromptContext {
    /// `owner/name`.
    pub repository: String,
    /// The branch the work starts from and goes back to.
    pub base_branch: String,
    /// The commit the run is pinned to, hex.
    pub base_sha: String,
    /// The stage, as its label names it.
    pub stage: String,
    /// Who the agent is told to be.
    pub role: String,
    /// What the run is for.
    pub kind: Kind,
    /// The language of the prompt, and of what the agent answers.
    pub language: Language,
    /// The issue the run is for.
    pub issue: IssueText,
    /// What was said on it, oldest first; already narrowed to people who may be heard.
    pub comments: Vec<CommentText>,
    /// What the agent does not get to read.
    pub left_out: LeftOut,
    /// What an earlier attempt did on an older commit, when its result came too late.
    pub earlier: Option<EarlierWork>,
    /// Globs of paths the agent may change; `**` means all, none at all means nothing.
    pub write_scope: Vec<String>,
    /// How much the run may take and make.
    pub limits: Limits,
    /// The pull request to review, or to go on with.
    pub pull_request: Option<PullRequestText>,
    /// What reviews of it said, oldest first.
    pub reviews: Vec<ReviewText>,
    /// What earlier stages of this issue made, in their order.
    pub documents: Vec<DocumentText>,
    /// True when an earlier session of the agent is restored: it knows what it did.
    pub session: bool,
    /// Who asked for the run.
    pub asked_by: AskedBy,
    /// Marks where data begins and ends: random per run, at least 16 hex digits.
    pub delimiter: String,
    /// The run.
    pub run_id: String,
}

/// What was written, but is not in the prompt: how many texts, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Comments of people without the right to be heard.
    pub people_without_right: u32,
    /// Comments that were changed after the run was asked for.
    pub edited_later: u32,
    /// Comments written after the run was asked for.
    pub written_later: u32,
    /// Texts there was no room for: the oldest.
    pub too_many: u32,
    /// Texts of which only the beginning is there.
    pub shortened: u32,
}

/// How much a run may take and make; 0 where there is no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Minutes an attempt may take.
    pub minutes: u32,
    /// Files that may be changed.
    pub files: usize,
    /// Lines that may be changed.
    pub lines: usize,
    /// Bytes the changed files may have together.
    pub bytes: u64,
}

/// Who asked for a run, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AskedBy {
    /// Their login; empty when it is not known.
    pub login: String,
    /// Through what, in a word: `label`, `command`, `review` …
    pub channel: String,
}

/// Files of an earlier attempt that are named.
const LISTED_FILES: usize = 100;

/// What an earlier attempt at the same issue changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EarlierWork {
    /// The commit it was made on, hex.
    pub base_sha: String,
    /// The paths it changed.
    pub files: Vec<String>,
    /// How many more there are than `files` names.
    pub more: usize,
}

impl EarlierWork {
    /// Of all its paths, as many as a prompt has room for.
    pub fn new(base_sha: String, files: Vec<String>) -> Self {
        let (files, more) = listed(files);
        Self { base_sha, files, more }
    }
}

/// The first paths, and how many more there are.
pub(crate) fn listed(mut files: Vec<String>) -> (Vec<String>, usize) {
    let more = files.len().saturating_sub(LISTED_FILES);
    files.truncate(LISTED_FILES);
    (files, more)
}

/// An issue's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IssueText {
    /// Its number in the repository.
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Its first text, Markdown.
    pub body: String,
    /// Login of who opened it.
    pub author: String,
    /// The author's right on the repository, absent when it is not known.
    pub author_permission: Option<String>,
    /// The labels on it.
    pub labels: Vec<String>,
}

/// One comment's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommentText {
    /// Login of who wrote it.
    pub author: String,
    /// The author's right on the repository, absent when it is not known.
    pub permission: Option<String>,
    /// When, as people read it.
    pub created_at: String,
    /// The text, Markdown.
    pub body: String,
}

/// A pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PullRequestText {
    /// Its number in the repository.
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Its first text, Markdown.
    pub body: String,
    /// Login of who opened it.
    pub author: String,
    /// The branch it comes from.
    pub branch: String,
    /// The commit its changes are counted from: the merge base, hex. It is in the clone.
    pub base_sha: String,
    /// The commit it stands at, hex. It is what the clone has checked out.
    pub head_sha: String,
    /// The paths it changes.
    pub changed_files: Vec<String>,
    /// How many more there are than `changed_files` names.
    pub more_files: usize,
}

/// A review of a pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReviewText {
    /// Login of who wrote it.
    pub author: String,
    /// The author's right on the repository, absent when it is not known.
    pub permission: Option<String>,
    /// What it says of the pull request, in words: `changes requested`.
    pub state: String,
    /// When, as people read it.
    pub submitted_at: String,
    /// The text over all of it, Markdown; often empty.
    pub body: String,
    /// What it says to single lines.
    pub remarks: Vec<RemarkText>,
}

/// What somebody said to a line of a pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RemarkText {
    /// The file.
    pub path: String,
    /// The line in the new version of the file; absent for the whole file, or a line that is gone.
    pub line: Option<u64>,
    /// Login of who wrote it.
    pub author: String,
    /// The author's right on the repository, absent when it is not known.
    pub permission: Option<String>,
    /// The text, Markdown.
    pub body: String,
}

/// What an earlier stage of the same issue made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DocumentText {
    /// The stage.
    pub stage: String,
    /// The title of its pull request or document.
    pub title: String,
    /// Where people read it.
    pub url: String,
}
