//! How much may be started.

use serde::Deserialize;

use super::Admission;

/// The most that may be started, whatever the channel, and how long it may wait for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Runs one account may ask for in 24 hours.
    pub actor_per_day: u32,
    /// Runs of one repository in 24 hours.
    pub repository_per_day: u32,
    /// Runs of one issue, ever.
    pub per_issue: u32,
    /// Runs that lead one to the other.
    pub chain: u32,
    /// Minutes a run waits while there is no worker for it, before it fails.
    pub no_worker_minutes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let usual = Admission::default();
        Self {
            actor_per_day: usual.actor_today.1,
            repository_per_day: usual.repository_today.1,
            per_issue: usual.of_issue.1,
            chain: usual.chain.1,
            no_worker_minutes: 60,
        }
    }
}
