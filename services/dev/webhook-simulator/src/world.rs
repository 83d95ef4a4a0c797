//! What exists on the stand-in, and how it is looked up.

mod checks;
mod history;
mod pulls;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use domain::{clock::Clock, ids::Ids, names::RepositoryName, rights::Permission};
use secrecy::SecretString;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    apps::Apps,
    delivery::Delivery,
    fault::Faults,
    gate::{Feature, LoggedRequest},
    git::Bare,
    limits::Spending,
    payload::Urls,
    refusal::Refusal,
};

pub use self::checks::CheckRun;
pub use self::pulls::{PullRequest, Remark, Review, ReviewState, Side};
pub(crate) use self::{
    history::{Happening, What},
    pulls::{Merge, Pull},
};

/// Everything there is. Only [`crate::Simulator`] holds one, behind its lock.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Ids,
    pub(crate) urls: Urls,
    last_id: u64,
    /// By login in lower case.
    users: BTreeMap<String, User>,
    /// By SHA-256, so that no token can be printed.
    tokens: HashMap<[u8; 32], Arc<UserToken>>,
    pub(crate) apps: Apps,
    /// By `owner/name` in lower case.
    pub(crate) repositories: BTreeMap<String, Repository>,
    /// Names repositories had before, and what they are called now; both in lower case.
    pub(crate) moved: BTreeMap<String, String>,
    pub(crate) deliveries: BTreeMap<u64, Delivery>,
    /// Deliveries made by the change under way, sent once the lock is free.
    pub(crate) outgoing: Vec<u64>,
    pub(crate) switched_off: BTreeSet<Feature>,
    pub(crate) faults: Faults,
    pub(crate) log: Vec<LoggedRequest>,
    pub(crate) spending: HashMap<String, Spending>,
    /// Commits GitHub signed: an App's, who left author and committer out.
    pub(crate) signed: BTreeSet<String>,
    /// Requests that made content, by who made them.
    pub(crate) content: HashMap<String, VecDeque<DateTime<Utc>>>,
    pub(crate) limits_content: bool,
    /// Deliveries reach nobody.
    pub(crate) unreachable: bool,
}

/// A personal access token.
#[derive(Debug)]
pub(crate) struct UserToken {
    pub(crate) login: String,
    /// `repo`, `admin:repo_hook`, …
    pub(crate) scopes: Vec<String>,
}

impl UserToken {
    pub(crate) fn has(&self, scope: &str) -> bool {
        self.scopes.iter().any(|s| s == scope)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) id: u64,
    pub(crate) login: String,
    pub(crate) bot: bool,
}

#[derive(Debug)]
pub(crate) struct Repository {
    pub(crate) id: u64,
    pub(crate) name: RepositoryName,
    pub(crate) private: bool,
    pub(crate) archived: bool,
    /// False: its issues are disabled.
    pub(crate) has_issues: bool,
    pub(crate) default_branch: String,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) pushed_at: DateTime<Utc>,
    /// What was granted, by login in lower case; the owner needs no entry.
    pub(crate) permissions: BTreeMap<String, Permission>,
    pub(crate) labels: Vec<Label>,
    /// Issues and pull requests, which share their numbers.
    pub(crate) issues: BTreeMap<u64, Issue>,
    /// Numbers of issues that were deleted.
    pub(crate) deleted: BTreeSet<u64>,
    /// The last number given; a deleted issue's is not given again.
    pub(crate) last_number: u64,
    /// The repository this one is a fork of, `owner/name` in lower case.
    pub(crate) fork_of: Option<String>,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) statuses: Vec<CommitStatus>,
    pub(crate) check_runs: Vec<CheckRun>,
    pub(crate) bare: Bare,
    /// Held while refs change, so that each change is reported once.
    pub(crate) refs: Arc<tokio::sync::Mutex<()>>,
}

/// A label of a repository.
#[derive(Clone, Debug, Serialize)]
pub struct Label {
    /// Id, unique on the stand-in.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Six hex digits.
    pub color: String,
    /// For people.
    pub description: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Issue {
    pub(crate) id: u64,
    pub(crate) number: u64,
    pub(crate) title: String,
    pub(crate) body: Option<String>,
    pub(crate) author: String,
    pub(crate) open: bool,
    pub(crate) state_reason: Option<String>,
    pub(crate) labels: Vec<String>,
    pub(crate) comments: Vec<Comment>,
    pub(crate) reactions: Vec<Reaction>,
    /// Oldest first.
    pub(crate) history: Vec<Happening>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) closed_at: Option<DateTime<Utc>>,
    /// What makes it a pull request.
    pub(crate) pull: Option<Pull>,
}

#[derive(Clone, Debug)]
pub(crate) struct Hook {
    pub(crate) id: u64,
    pub(crate) url: String,
    pub(crate) secret: Option<SecretString>,
    /// Event names, or `*`.
    pub(crate) events: Vec<String>,
    pub(crate) active: bool,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    /// Status code and words of the last delivery.
    pub(crate) last_response: Option<(u16, String)>,
}

/// A comment on an issue or pull request.
#[derive(Clone, Debug, Serialize)]
pub struct Comment {
    /// Id, unique on the stand-in.
    pub id: u64,
    /// Login of who wrote it.
    pub author: String,
    /// Markdown.
    pub body: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Reactions to it.
    pub reactions: Vec<Reaction>,
}

/// A reaction to an issue, a pull request or a comment.
#[derive(Clone, Debug, Serialize)]
pub struct Reaction {
    /// Id, unique on the stand-in.
    pub id: u64,
    /// Login of who reacted.
    pub login: String,
    /// `eyes`, `+1`, …
    pub content: String,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// A status of a commit.
#[derive(Clone, Debug, Serialize)]
pub struct CommitStatus {
    /// Id, unique on the stand-in.
    pub id: u64,
    /// The commit.
    pub sha: String,
    /// `pending`, `success`, `failure` or `error`.
    pub state: String,
    /// What the status is about.
    pub context: String,
    /// One line for people.
    pub description: Option<String>,
    /// Where to read on.
    pub target_url: Option<String>,
    /// Login of who set it.
    pub creator: String,
    /// When.
    pub created_at: DateTime<Utc>,
}

impl World {
    pub(crate) fn new(clock: Arc<dyn Clock>, ids: Ids, urls: Urls) -> Self {
        Self {
            clock,
            ids,
            urls,
            last_id: 1000,
            users: BTreeMap::new(),
            tokens: HashMap::new(),
            apps: Apps::default(),
            repositories: BTreeMap::new(),
            moved: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            outgoing: Vec::new(),
            switched_off: BTreeSet::new(),
            faults: Faults::default(),
            log: Vec::new(),
            spending: HashMap::new(),
            signed: BTreeSet::new(),
            content: HashMap::new(),
            limits_content: false,
            unreachable: false,
        }
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// A number no other thing has.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Adds an account; one that is there stays as it is.
    pub(crate) fn add_user(&mut self, login: &str, bot: bool) {
        let id = self.next_id();
        self.users.entry(login.to_lowercase()).or_insert_with(|| User { id, login: login.to_owned(), bot });
    }

    /// The account, or `None`.
    pub(crate) fn find_user(&self, login: &str) -> Option<&User> {
        self.users.get(&login.to_lowercase())
    }

    /// The account, or GitHub's `ghost` for one that is not there.
    pub(crate) fn user(&self, login: &str) -> User {
        self.find_user(login).cloned().unwrap_or_else(|| User {
            id: 10_137,
            login: "ghost".to_owned(),
            bot: false,
        })
    }

    /// A new personal access token of an account.
    pub(crate) fn add_token(&mut self, login: &str, scopes: &[&str]) -> Result<String, Refusal> {
        let login = self.find_user(login).ok_or_else(Refusal::not_found)?.login.clone();
        let token = format!("ghp_{}", hex::encode(self.ids.bytes::<18>()));
        let scopes = scopes.iter().map(|s| (*s).to_owned()).collect();
        self.tokens.insert(Sha256::digest(&token).into(), Arc::new(UserToken { login, scopes }));
        Ok(token)
    }

    /// The personal access token, if it is one.
    pub(crate) fn user_token(&self, token: &str) -> Option<&Arc<UserToken>> {
        self.tokens.get(&<[u8; 32]>::from(Sha256::digest(token)))
    }

    /// What a repository is called now that had this name before.
    pub(crate) fn moved_to(&self, key: &str) -> Option<&RepositoryName> {
        let mut now = self.moved.get(key)?;
        while let Some(later) = self.moved.get(now) {
            now = later;
        }
        self.repositories.get(now).map(|r| &r.name)
    }

    pub(crate) fn repository(&self, key: &str) -> Result<&Repository, Refusal> {
        self.repositories.get(key).ok_or_else(Refusal::not_found)
    }

    pub(crate) fn repository_mut(&mut self, key: &str) -> Result<&mut Repository, Refusal> {
        self.repositories.get_mut(key).ok_or_else(Refusal::not_found)
    }

    pub(crate) fn issue(&self, key: &str, number: u64) -> Result<(&Repository, &Issue), Refusal> {
        let repository = self.repository(key)?;
        let found = repository.issues.get(&number);
        Ok((repository, found.ok_or_else(|| repository.no_issue(number))?))
    }

    pub(crate) fn issue_mut(&mut self, key: &str, number: u64) -> Result<&mut Issue, Refusal> {
        let repository = self.repository_mut(key)?;
        let refusal = repository.no_issue(number);
        repository.issues.get_mut(&number).ok_or(refusal)
    }

    /// What an account, or nobody in particular, may do with a repository.
    pub(crate) fn permission(&self, repository: &Repository, login: Option<&str>) -> Permission {
        let granted = match login {
            Some(login) if login.eq_ignore_ascii_case(repository.name.owner()) => Permission::Admin,
            Some(login) => {
                repository.permissions.get(&login.to_lowercase()).copied().unwrap_or(Permission::None)
            }
            None => Permission::None,
        };
        if repository.private { granted } else { granted.max(Permission::Read) }
    }
}

impl Hook {
    /// True when it sends this event somewhere.
    pub(crate) fn wants(&self, event: &str) -> bool {
        self.active && !self.url.is_empty() && self.events.iter().any(|e| e == event || e == "*")
    }
}

impl Repository {
    /// Numbers are given once, to issues and pull requests alike.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub(crate) fn label(&self, name: &str) -> Option<&Label> {
        self.labels.iter().find(|l| l.name.eq_ignore_ascii_case(name))
    }

    /// Why an issue is not there.
    fn no_issue(&self, number: u64) -> Refusal {
        if self.deleted.contains(&number) {
            return Refusal::new(http::StatusCode::GONE, "This issue was deleted");
        }
        Refusal::not_found()
    }

    /// True when the number is a pull request's.
    pub(crate) fn is_pull(&self, number: u64) -> bool {
        self.issues.get(&number).is_some_and(|i| i.pull.is_some())
    }

    /// The issue a comment is on, and the comment.
    pub(crate) fn comment(&self, id: u64) -> Option<(&Issue, &Comment)> {
        self.issues.values().find_map(|i| i.comments.iter().find(|c| c.id == id).map(|c| (i, c)))
    }
}
