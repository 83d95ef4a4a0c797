//! Labels that stand, and who put them there.

use chrono::{DateTime, Utc};

/// A label being put on an issue or pull request, as its history tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelEvent {
    /// Id of the event at the host.
    pub id: u64,
    /// The label.
    pub label: String,
    /// Who put it on; none for an account that is gone.
    pub actor: Option<String>,
    /// True for apps and bots.
    pub actor_is_bot: bool,
    /// When.
    pub at: DateTime<Utc>,
}
