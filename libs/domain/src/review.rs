//! What a review run finds.

use serde::{Deserialize, Serialize};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It must not be merged like this.
    Blocking,
    /// It should be mended before or soon after.
    Important,
    /// Worth a thought.
    Minor,
}

impl Severity {
    /// Every severity, the worst first.
    pub const ALL: [Self; 3] = [Self::Blocking, Self::Important, Self::Minor];

    /// In a word, as the agent writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocking => "blocking",
            Self::Important => "important",
            Self::Minor => "minor",
        }
    }
}

/// A finding about a file of a pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewFinding {
    /// The file.
    pub path: String,
    /// Line of the new version; none: about the whole file.
    #[serde(default)]
    pub line: Option<u64>,
    /// How much it matters.
    pub severity: Severity,
    /// Markdown.
    pub body: String,
}
