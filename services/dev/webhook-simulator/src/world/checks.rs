//! Check runs of commits.

use chrono::{DateTime, Utc};
use serde::Serialize;

/// A check run, which only Apps write.
#[derive(Clone, Debug, Serialize)]
pub struct CheckRun {
    /// Id, unique on the stand-in.
    pub id: u64,
    /// Id of the App it is of.
    pub app: u64,
    /// Id of its suite: one for each commit and App.
    pub suite: u64,
    /// The commit.
    pub head_sha: String,
    /// What people see it under.
    pub name: String,
    /// `queued`, `in_progress` or `completed`.
    pub status: String,
    /// `success`, `failure`, …; only when it is completed.
    pub conclusion: Option<String>,
    /// What the App knows it by.
    pub external_id: Option<String>,
    /// Where to read on.
    pub details_url: Option<String>,
    /// One line.
    pub title: Option<String>,
    /// Markdown.
    pub summary: Option<String>,
    /// Markdown, more of it.
    pub text: Option<String>,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
}
