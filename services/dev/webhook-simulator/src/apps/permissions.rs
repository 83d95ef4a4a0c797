//! What an App may be allowed, and which permission each request takes, as GitHub documents it.

use std::collections::BTreeMap;

use http::Method;
use serde::{Deserialize, Serialize};

/// How much of a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Look.
    Read,
    /// Change.
    Write,
    /// Everything.
    Admin,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

/// Levels by permission, such as `issues` to `write`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Permissions(pub(crate) BTreeMap<String, Level>);

impl Permissions {
    /// Reads `("issues", "write")` and the like; `metadata` can always be read.
    pub(crate) fn of(pairs: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut found = BTreeMap::from([("metadata".to_owned(), Level::Read)]);
        for (name, level) in pairs {
            let level = match *level {
                "read" => Level::Read,
                "write" => Level::Write,
                "admin" => Level::Admin,
                other => anyhow::bail!("`{other}` is no level for {name}: use read, write or admin"),
            };
            found.insert((*name).to_owned(), level);
        }
        Ok(Self(found))
    }

    pub(crate) fn allow(&self, name: &str, level: Level) -> bool {
        self.0.get(name).is_some_and(|has| *has >= level)
    }

    /// True when there is nothing here that `other` has not.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.0.iter().all(|(name, level)| other.allow(name, *level))
    }

    /// What both have.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let both = |(name, level): (&String, &Level)| {
            other.0.get(name).map(|theirs| (name.clone(), *level.min(theirs)))
        };
        Self(self.0.iter().filter_map(both).collect())
    }
}

/// A permission and how much of it.
pub type Accepted = (&'static str, Level);

/// Which permissions a request takes: any one of those listed.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `GET`, …
    pub method: &'static str,
    /// The path below `/repos/{owner}/{repo}`.
    pub path: &'static str,
    /// One of these is enough. `pull_requests` stands beside `issues` where GitHub takes it for
    /// what is on a pull request.
    pub accepted: &'static [Accepted],
}

const METADATA: &[Accepted] = &[("metadata", Level::Read)];
const READ_CODE: &[Accepted] = &[("contents", Level::Read)];
const WRITE_CODE: &[Accepted] = &[("contents", Level::Write)];
const READ_ISSUES: &[Accepted] = &[("issues", Level::Read)];
const WRITE_ISSUES: &[Accepted] = &[("issues", Level::Write)];
const READ_EITHER: &[Accepted] = &[("issues", Level::Read), ("pull_requests", Level::Read)];
const WRITE_EITHER: &[Accepted] = &[("issues", Level::Write), ("pull_requests", Level::Write)];
const READ_PULLS: &[Accepted] = &[("pull_requests", Level::Read)];
const WRITE_PULLS: &[Accepted] = &[("pull_requests", Level::Write)];
const READ_STATUSES: &[Accepted] = &[("statuses", Level::Read)];
const WRITE_STATUSES: &[Accepted] = &[("statuses", Level::Write)];
const READ_CHECKS: &[Accepted] = &[("checks", Level::Read)];
const WRITE_CHECKS: &[Accepted] = &[("checks", Level::Write)];
const READ_HOOKS: &[Accepted] = &[("repository_hooks", Level::Read)];
const WRITE_HOOKS: &[Accepted] = &[("repository_hooks", Level::Write)];

const fn route(method: &'static str, path: &'static str, accepted: &'static [Accepted]) -> Route {
    Route { method, path, accepted }
}

/// Every request about a repository that an installation may make.
pub const ROUTES: &[Route] = &[
    route("GET", "", METADATA),
    route("GET", "/collaborators/{username}/permission", METADATA),
    route("GET", "/issues", READ_ISSUES),
    route("POST", "/issues", WRITE_ISSUES),
    route("GET", "/issues/{number}", READ_EITHER),
    route("PATCH", "/issues/{number}", WRITE_EITHER),
    route("GET", "/issues/{number}/comments", READ_EITHER),
    route("POST", "/issues/{number}/comments", WRITE_EITHER),
    route("GET", "/issues/{number}/timeline", READ_EITHER),
    route("GET", "/issues/{number}/events", READ_EITHER),
    route("GET", "/issues/comments/{comment}", READ_EITHER),
    route("PATCH", "/issues/comments/{comment}", WRITE_EITHER),
    route("DELETE", "/issues/comments/{comment}", WRITE_EITHER),
    route("GET", "/issues/{number}/labels", READ_EITHER),
    route("POST", "/issues/{number}/labels", WRITE_EITHER),
    route("DELETE", "/issues/{number}/labels/{name}", WRITE_EITHER),
    route("GET", "/issues/{number}/reactions", READ_EITHER),
    route("POST", "/issues/{number}/reactions", WRITE_EITHER),
    route("GET", "/issues/comments/{comment}/reactions", READ_EITHER),
    route("POST", "/issues/comments/{comment}/reactions", WRITE_EITHER),
    route("GET", "/labels", READ_EITHER),
    route("POST", "/labels", WRITE_EITHER),
    route("GET", "/labels/{name}", READ_EITHER),
    route("PATCH", "/labels/{name}", WRITE_EITHER),
    route("GET", "/contents", READ_CODE),
    route("GET", "/contents/{*path}", READ_CODE),
    route("POST", "/git/blobs", WRITE_CODE),
    route("GET", "/git/blobs/{sha}", READ_CODE),
    route("POST", "/git/trees", WRITE_CODE),
    route("GET", "/git/trees/{*tree}", READ_CODE),
    route("POST", "/git/commits", WRITE_CODE),
    route("GET", "/git/commits/{sha}", READ_CODE),
    route("GET", "/git/ref/{*name}", READ_CODE),
    route("GET", "/git/matching-refs/{*name}", READ_CODE),
    route("POST", "/git/refs", WRITE_CODE),
    route("PATCH", "/git/refs/{*name}", WRITE_CODE),
    route("DELETE", "/git/refs/{*name}", WRITE_CODE),
    route("GET", "/compare/{*range}", READ_CODE),
    route("GET", "/branches/{*branch}", READ_CODE),
    route("GET", "/pulls", READ_PULLS),
    route("POST", "/pulls", WRITE_PULLS),
    route("GET", "/pulls/{number}", READ_PULLS),
    route("PATCH", "/pulls/{number}", WRITE_PULLS),
    route("GET", "/pulls/{number}/files", READ_PULLS),
    route("PUT", "/pulls/{number}/merge", WRITE_CODE),
    route("GET", "/pulls/{number}/comments", READ_PULLS),
    route("GET", "/pulls/{number}/reviews", READ_PULLS),
    route("POST", "/pulls/{number}/reviews", WRITE_PULLS),
    route("GET", "/pulls/{number}/reviews/{review}", READ_PULLS),
    route("PUT", "/pulls/{number}/reviews/{review}/dismissals", WRITE_PULLS),
    route("POST", "/statuses/{sha}", WRITE_STATUSES),
    route("GET", "/commits/{sha}/statuses", READ_STATUSES),
    route("GET", "/commits/{sha}/check-runs", READ_CHECKS),
    route("POST", "/check-runs", WRITE_CHECKS),
    route("GET", "/check-runs/{check_run}", READ_CHECKS),
    route("PATCH", "/check-runs/{check_run}", WRITE_CHECKS),
    route("GET", "/hooks", READ_HOOKS),
    route("POST", "/hooks", WRITE_HOOKS),
    route("GET", "/hooks/{hook}", READ_HOOKS),
    route("PATCH", "/hooks/{hook}", WRITE_HOOKS),
    route("POST", "/hooks/{hook}/pings", WRITE_HOOKS),
    route("GET", "/hooks/{hook}/deliveries", READ_HOOKS),
    route("GET", "/hooks/{hook}/deliveries/{delivery}", READ_HOOKS),
    route("POST", "/hooks/{hook}/deliveries/{delivery}/attempts", WRITE_HOOKS),
];

/// What everybody can read in a public repository.
const PUBLIC: [&str; 6] = ["checks", "contents", "issues", "metadata", "pull_requests", "statuses"];

impl Route {
    /// The request's row; a template starts with `/repos/{owner}/{repo}`. POST is taken for PATCH
    /// where GitHub takes it so.
    pub(crate) fn find(method: &Method, template: &str) -> Option<&'static Self> {
        let path = template.strip_prefix("/repos/{owner}/{repo}")?.trim_end_matches('/');
        let row = |method: &str| ROUTES.iter().find(|r| r.method == method && r.path == path);
        row(method.as_str()).or_else(|| row("PATCH").filter(|_| *method == Method::POST))
    }

    /// True when a token with these permissions is enough.
    pub(crate) fn accepts(&self, permissions: &Permissions, on_pull: bool) -> bool {
        let either = self.accepted.len() > 1 && !self.path.starts_with("/labels");
        let counts = |name: &str| !either || on_pull || name != "pull_requests";
        self.accepted.iter().any(|(name, level)| counts(name) && permissions.allow(name, *level))
    }

    /// True when it only reads what everybody can read in a public repository.
    pub(crate) fn is_public(&self) -> bool {
        let public = |(name, level): &Accepted| *level == Level::Read && PUBLIC.contains(name);
        !self.path.starts_with("/collaborators") && self.accepted.iter().all(public)
    }

    /// Value of `x-accepted-github-permissions`.
    pub(crate) fn header(&self) -> String {
        let one = |(name, level): &Accepted| format!("{name}={}", level.name());
        self.accepted.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}
