//! Apps, where they are installed, and what their tokens may do.

mod jwt;
mod keys;
pub(crate) mod permissions;
pub(crate) mod tokens;
mod webhooks;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use self::tokens::InstallationToken;
pub(crate) use self::{jwt::is_one as is_json_web_token, keys::Key, permissions::Permissions};
pub use self::{
    permissions::{Accepted, Level, ROUTES, Route},
    tokens::MintedToken,
};
use crate::{
    refusal::Refusal,
    world::{Hook, Repository, World},
};

/// What Callboard needs.
pub const USUAL: [(&str, &str); 5] = [
    ("checks", "write"),
    ("contents", "write"),
    ("issues", "write"),
    ("metadata", "read"),
    ("pull_requests", "write"),
];

/// An App's name on the stand-in, and what it proves itself with.
#[derive(Clone)]
pub struct NewApp {
    /// Id.
    pub id: u64,
    /// Client id, which GitHub takes as issuer as well.
    pub client_id: String,
    /// Id of its hook.
    pub hook: u64,
    /// Its private key, PEM.
    pub private_key: String,
}

impl std::fmt::Debug for NewApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewApp").field("id", &self.id).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Apps {
    pub(crate) registered: BTreeMap<u64, App>,
    pub(crate) installations: BTreeMap<u64, Installation>,
    /// By SHA-256, so that no token can be printed.
    pub(crate) tokens: HashMap<[u8; 32], InstallationToken>,
    pub(crate) minted: Vec<MintedToken>,
    /// Apps made from a manifest whose secrets were not asked for yet, by their code.
    pub(crate) codes: HashMap<String, FromManifest>,
}

/// An App made from a manifest.
pub(crate) struct FromManifest {
    pub(crate) id: u64,
    pub(crate) client_secret: String,
    pub(crate) webhook_secret: String,
    pub(crate) private_key: String,
}

impl std::fmt::Debug for FromManifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FromManifest").field("id", &self.id).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct App {
    pub(crate) id: u64,
    pub(crate) slug: String,
    pub(crate) client_id: String,
    pub(crate) public_key: Vec<u8>,
    pub(crate) hook: Hook,
    pub(crate) created_at: DateTime<Utc>,
}

impl App {
    /// Who acts.
    pub(crate) fn login(&self) -> String {
        format!("{}[bot]", self.slug)
    }
}

/// Which repositories an installation covers.
#[derive(Clone, Debug)]
pub(crate) enum Selection {
    /// All of the account, also later ones.
    All,
    /// Those with these numbers.
    Some(BTreeSet<u64>),
}

impl Selection {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Some(_) => "selected",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Installation {
    pub(crate) id: u64,
    pub(crate) app: u64,
    pub(crate) account: String,
    pub(crate) selection: Selection,
    pub(crate) permissions: Permissions,
    pub(crate) suspended_at: Option<DateTime<Utc>>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

impl Installation {
    pub(crate) fn covers(&self, repository: &Repository) -> bool {
        let chosen = match &self.selection {
            Selection::All => true,
            Selection::Some(numbers) => numbers.contains(&repository.id),
        };
        chosen && repository.name.owner().eq_ignore_ascii_case(&self.account)
    }
}

impl World {
    /// Registers an App; its bot gets an account.
    pub(crate) fn create_app(&mut self, slug: &str, url: &str, secret: &str, key: &Key) -> NewApp {
        let (id, hook, now) = (self.next_id(), self.next_id(), self.now());
        let client_id = format!("Iv23li{}", hex::encode(self.ids.bytes::<7>()));
        let hook = Hook {
            id: hook,
            url: url.to_owned(),
            secret: Some(secret.to_owned().into()),
            events: webhooks::EVENTS.map(str::to_owned).to_vec(),
            active: true,
            created_at: now,
            updated_at: now,
            last_response: None,
        };
        let made = NewApp { id, client_id, hook: hook.id, private_key: key.pem.clone() };
        let app = App {
            id,
            slug: slug.to_owned(),
            client_id: made.client_id.clone(),
            public_key: key.public.clone(),
            hook,
            created_at: now,
        };
        self.add_user(&app.login(), true);
        self.apps.registered.insert(id, app);
        made
    }

    pub(crate) fn set_app_hook(&mut self, app: u64, url: &str, secret: &str) -> Result<(), Refusal> {
        let now = self.now();
        let hook = &mut self.apps.registered.get_mut(&app).ok_or_else(Refusal::not_found)?.hook;
        hook.url = url.to_owned();
        hook.secret = Some(secret.to_owned().into());
        hook.updated_at = now;
        Ok(())
    }

    pub(crate) fn app(&self, id: u64) -> Result<&App, Refusal> {
        self.apps.registered.get(&id).ok_or_else(Refusal::not_found)
    }

    /// The App whose bot this is.
    pub(crate) fn app_of_bot(&self, login: &str) -> Option<&App> {
        let slug = login.strip_suffix("[bot]")?;
        self.apps.registered.values().find(|a| a.slug == slug)
    }

    pub(crate) fn installation(&self, id: u64) -> Result<&Installation, Refusal> {
        self.apps.installations.get(&id).ok_or_else(Refusal::not_found)
    }

    fn installation_mut(&mut self, id: u64) -> Result<&mut Installation, Refusal> {
        let now = self.now();
        let found = self.apps.installations.get_mut(&id).ok_or_else(Refusal::not_found)?;
        found.updated_at = now;
        Ok(found)
    }

    /// Repositories an installation covers, by name.
    pub(crate) fn covered_by(&self, installation: u64) -> Vec<&Repository> {
        let found = self.apps.installations.get(&installation);
        let covers = |r: &&Repository| found.is_some_and(|i| i.covers(r));
        self.repositories.values().filter(covers).collect()
    }

    /// Installs an App on an account; without repositories on all of it.
    pub(crate) fn install(
        &mut self,
        app: u64,
        account: &str,
        keys: &[String],
        permissions: Permissions,
    ) -> Result<u64, Refusal> {
        self.app(app)?;
        let account = self.find_user(account).ok_or_else(Refusal::not_found)?.login.clone();
        let numbers: Result<BTreeSet<u64>, Refusal> =
            keys.iter().map(|key| self.repository(key).map(|r| r.id)).collect();
        let selection = if keys.is_empty() { Selection::All } else { Selection::Some(numbers?) };
        let (id, now) = (self.next_id(), self.now());
        let new = Installation {
            id,
            app,
            account: account.clone(),
            selection,
            permissions,
            suspended_at: None,
            created_at: now,
            updated_at: now,
        };
        self.apps.installations.insert(id, new);
        self.installation_event(id, "created", &account)?;
        Ok(id)
    }

    /// Takes an installation away, with its tokens.
    pub(crate) fn uninstall(&mut self, id: u64) -> Result<(), Refusal> {
        let account = self.installation(id)?.account.clone();
        self.installation_event(id, "deleted", &account)?;
        self.apps.installations.remove(&id);
        self.apps.tokens.retain(|_, token| token.installation != id);
        Ok(())
    }

    pub(crate) fn set_suspended(&mut self, id: u64, suspended: bool) -> Result<(), Refusal> {
        let now = self.now();
        let found = self.installation_mut(id)?;
        found.suspended_at = suspended.then_some(now);
        let account = found.account.clone();
        self.installation_event(id, if suspended { "suspend" } else { "unsuspend" }, &account)
    }

    pub(crate) fn set_installation_permissions(
        &mut self,
        id: u64,
        permissions: Permissions,
    ) -> Result<(), Refusal> {
        let found = self.installation_mut(id)?;
        found.permissions = permissions;
        let account = found.account.clone();
        self.installation_event(id, "new_permissions_accepted", &account)
    }

    /// Adds a repository to those an installation covers, or takes it away.
    pub(crate) fn select(&mut self, id: u64, key: &str, covered: bool) -> Result<(), Refusal> {
        let repository = self.repository(key)?.id;
        let all: BTreeSet<u64> = self.covered_by(id).iter().map(|r| r.id).collect();
        let found = self.installation_mut(id)?;
        let mut numbers = match &found.selection {
            Selection::All => all,
            Selection::Some(numbers) => numbers.clone(),
        };
        let changed = if covered { numbers.insert(repository) } else { numbers.remove(&repository) };
        found.selection = Selection::Some(numbers);
        let account = found.account.clone();
        if changed { self.selection_event(id, key, covered, &account) } else { Ok(()) }
    }
}
