//! What our credential may do, how much of it is left, and what reads the repository's git.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, Utc};
use domain::rights::Permission;

/// How we prove who we are, as far as it makes a difference to what is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// An App: its own login, tokens for one repository and purpose each.
    App,
    /// A person's token: it can do whatever that person let it, wherever.
    Person,
}

/// Something the platform does at the code host that takes a permission of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// Reads files, branches and commits, and clones.
    ReadCode,
    /// Stores commits and moves branches.
    WriteCode,
    /// Comments, labels and reactions on issues.
    WriteIssues,
    /// Opens pull requests, writes reviews and comments on them.
    WritePullRequests,
    /// Shows progress on a commit: a check run of an App, otherwise a status.
    ShowProgress,
    /// Makes and changes the repository's webhook, and has its deliveries sent again. An App
    /// has a hook of its own and needs no permission for it.
    ManageHook,
}

impl Capability {
    /// Every one of them.
    pub const ALL: [Self; 6] = [
        Self::ReadCode,
        Self::WriteCode,
        Self::WriteIssues,
        Self::WritePullRequests,
        Self::ShowProgress,
        Self::ManageHook,
    ];
}

/// What our credential may do with a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// How we prove who we are.
    pub identity: Identity,
    /// The App's installation that covers the repository.
    pub installation: Option<u64>,
    /// What is missing, as far as the host says, with the host's name for each permission.
    pub missing: BTreeSet<(Capability, String)>,
    /// What the host calls our permission, where it has one word for it.
    pub permission: Option<Permission>,
    /// True when the host does not tell all of it (a fine-grained token's permissions).
    pub is_incomplete: bool,
}

/// How much of the host's limits is left to one credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Nothing at all before then.
    pub closed_until: Option<DateTime<Utc>>,
    /// How much of everything there is in a window is left.
    pub level: Level,
    /// How long until a call that creates content may be made; zero: now.
    pub writes_in: Duration,
}

impl Allowance {
    /// Nothing was used yet.
    pub const FULL: Self = Self { closed_until: None, level: Level::Plenty, writes_in: Duration::ZERO };
}

/// A limit of the host's, as far as it differs in what people can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Calls in an hour.
    Calls,
    /// Too much at once.
    Pace,
    /// What people are notified of, at most so much in a minute.
    ContentPerMinute(u32),
    /// The same, in an hour.
    ContentPerHour(u32),
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Calls => f.write_str("limit on calls in an hour"),
            Self::Pace => f.write_str("limit on calls in a short time"),
            Self::ContentPerMinute(most) => write!(f, "limit on comments ({most} a minute)"),
            Self::ContentPerHour(most) => write!(f, "limit on comments ({most} an hour)"),
        }
    }
}

/// How full a budget is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only what people wait for.
    Scarce,
    /// Niceties stop: refreshes, reactions, sweeps.
    Low,
    /// As much as anybody wants.
    Plenty,
}
