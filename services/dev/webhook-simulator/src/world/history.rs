//! What happened to an issue or pull request.

use chrono::{DateTime, Utc};

/// One thing that happened.
#[derive(Clone, Debug)]
pub(crate) struct Happening {
    pub(crate) id: u64,
    pub(crate) actor: String,
    pub(crate) at: DateTime<Utc>,
    pub(crate) what: What,
}

/// What it was.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Labeled { name: String, color: String },
    Unlabeled { name: String, color: String },
    Renamed { from: String, to: String },
    Closed { reason: Option<String> },
    Reopened,
    Merged { sha: String },
}
