//! What templates can say something about.

use serde::Serialize;

use crate::clean;

/// Everything a template may name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PromptContext {
    /// `owner/name`.
    pub repository: String,
    /// The branch the work starts from and goes back to.
    pub base_branch: String,
    /// The commit the run is pinned to, hex.
    pub base_sha: String,
    /// The issue the run is for.
    pub issue: IssueText,
    /// What was said on it, oldest first; already narrowed to people who may be heard.
    pub comments: Vec<CommentText>,
    /// Who the agent is told to be.
    pub stage_role: String,
    /// What an earlier attempt did on an older commit, when its result came too late.
    pub earlier: Option<EarlierWork>,
    /// Globs of paths the agent may change; `**` alone means all.
    pub write_scope: Vec<String>,
    /// Marks where data begins and ends: random per run, at least 16 hex digits.
    pub delimiter: String,
    /// The run.
    pub run_id: String,
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
    pub fn new(base_sha: String, mut files: Vec<String>) -> Self {
        let more = files.len().saturating_sub(LISTED_FILES);
        files.truncate(LISTED_FILES);
        Self { base_sha, files, more }
    }
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

impl PromptContext {
    /// A small, complete context: for checking templates and for tests.
    pub fn sample() -> Self {
        Self {
            repository: "octocat/hello-world".to_owned(),
            base_branch: "main".to_owned(),
            base_sha: "7fd1a60b01f91b314f59955a4e4d4e80d8edf11d".to_owned(),
            issue: IssueText {
                number: 7,
                title: "Greet people by name".to_owned(),
                body: "`hello` should take a name:\n\n    hello Mona\n\nprints `Hello, Mona!`.".to_owned(),
                author: "octocat".to_owned(),
                author_permission: Some("write".to_owned()),
            },
            comments: vec![CommentText {
                author: "mona".to_owned(),
                permission: Some("maintain".to_owned()),
                created_at: "2026-01-05 09:30 UTC".to_owned(),
                body: "Without a name it should still say `Hello, World!`.".to_owned(),
            }],
            stage_role: "dev".to_owned(),
            earlier: None,
            write_scope: vec!["**".to_owned()],
            delimiter: "9f86d081884c7d65".to_owned(),
            run_id: "01935d5c-2a00-7000-8000-000000000001".to_owned(),
        }
    }

    /// The same with every text cleaned. Only bodies keep their lines: anything else stands in a
    /// line of the template, which it must not be able to end.
    pub(crate) fn cleaned(&self) -> Self {
        let body = |text: &str| clean::without(clean::body(text), &self.delimiter);
        let line = |text: &str| clean::without(clean::line(text), &self.delimiter);
        let right = |text: &Option<String>| text.as_deref().map(line);
        Self {
            repository: line(&self.repository),
            base_branch: line(&self.base_branch),
            base_sha: line(&self.base_sha),
            issue: IssueText {
                number: self.issue.number,
                title: line(&self.issue.title),
                body: body(&self.issue.body),
                author: line(&self.issue.author),
                author_permission: right(&self.issue.author_permission),
            },
            comments: self
                .comments
                .iter()
                .map(|comment| CommentText {
                    author: line(&comment.author),
                    permission: right(&comment.permission),
                    created_at: line(&comment.created_at),
                    body: body(&comment.body),
                })
                .collect(),
            stage_role: line(&self.stage_role),
            earlier: self.earlier.as_ref().map(|earlier| EarlierWork {
                base_sha: line(&earlier.base_sha),
                files: earlier.files.iter().map(|path| line(path)).collect(),
                more: earlier.more,
            }),
            write_scope: self.write_scope.iter().map(|glob| line(glob)).collect(),
            delimiter: self.delimiter.clone(),
            run_id: line(&self.run_id),
        }
    }
}
