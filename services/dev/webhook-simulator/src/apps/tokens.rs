//! Installation tokens: for some repositories and permissions, for an hour.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::permissions::Permissions;
use crate::{
    refusal::Refusal,
    world::{Repository, World},
};

/// A token lives this long.
const LIFE: TimeDelta = TimeDelta::hours(1);

/// A token as it was made.
#[derive(Clone, Debug)]
pub(crate) struct InstallationToken {
    pub(crate) installation: u64,
    /// Numbers of the repositories; `None`: all the installation covers.
    pub(crate) repositories: Option<BTreeSet<u64>>,
    pub(crate) permissions: Permissions,
    pub(crate) expires_at: DateTime<Utc>,
}

/// A token that was minted, for tests to look at.
#[derive(Clone, Debug, Serialize)]
pub struct MintedToken {
    /// The installation it is of.
    pub installation: u64,
    /// `owner/name` of each repository it was asked for; none: for all of them.
    pub repositories: Vec<String>,
    /// What it may do, such as `issues` to `write`.
    pub permissions: std::collections::BTreeMap<String, super::Level>,
    /// When it was minted.
    pub at: DateTime<Utc>,
}

/// What a token is good for right now.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) installation: u64,
    pub(crate) app: u64,
    /// Who acts with it: `slug[bot]`.
    pub(crate) login: String,
    pub(crate) permissions: Permissions,
    pub(crate) repositories: BTreeSet<u64>,
}

impl Grant {
    pub(crate) fn covers(&self, repository: &Repository) -> bool {
        self.repositories.contains(&repository.id)
    }
}

/// The body a token is asked for with.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Wish {
    repositories: Option<Vec<String>>,
    repository_ids: Option<Vec<u64>>,
    permissions: Option<Permissions>,
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

pub(crate) fn suspended() -> Refusal {
    Refusal::forbidden("This installation has been suspended")
}

impl World {
    /// Makes a token that can do no more than the installation, and less when asked.
    pub(crate) fn mint(
        &mut self,
        installation: u64,
        wish: Wish,
    ) -> Result<(String, InstallationToken), Refusal> {
        let found = self.apps.installations.get(&installation).ok_or_else(Refusal::not_found)?;
        if found.suspended_at.is_some() {
            return Err(suspended());
        }
        let granted = found.permissions.clone();
        let mut permissions = wish.permissions.unwrap_or_else(|| granted.clone());
        if !permissions.is_within(&granted) {
            return Err(Refusal::unprocessable(
                "The permissions requested are not granted to this installation.",
            ));
        }
        permissions.0.entry("metadata".to_owned()).or_insert(super::Level::Read);
        let covered = self.covered_by(installation);
        let names = wish.repositories.unwrap_or_default();
        let numbers = wish.repository_ids.unwrap_or_default();
        let by_name = |name: &String| covered.iter().find(|r| r.name.name().eq_ignore_ascii_case(name));
        let by_number = |id: &u64| covered.iter().find(|r| r.id == *id);
        let wanted: Option<Vec<&&Repository>> =
            names.iter().map(by_name).chain(numbers.iter().map(by_number)).collect();
        let wanted = wanted.ok_or_else(|| {
            Refusal::unprocessable(
                "There is at least one repository that does not exist or is not accessible to the parent \
                 installation.",
            )
        })?;
        let minted = MintedToken {
            installation,
            repositories: wanted.iter().map(|r| r.name.to_string()).collect(),
            permissions: permissions.0.clone(),
            at: self.now(),
        };
        let repositories = if wanted.is_empty() { None } else { Some(wanted.iter().map(|r| r.id).collect()) };
        let made =
            InstallationToken { installation, repositories, permissions, expires_at: self.now() + LIFE };
        let token = format!("ghs_{}", hex::encode(self.ids.bytes::<18>()));
        self.apps.tokens.insert(digest(&token), made.clone());
        self.apps.minted.push(minted);
        Ok((token, made))
    }

    /// What a token is good for now; `None` for one that is not known or over.
    pub(crate) fn grant(&self, token: &str) -> Option<Result<Grant, Refusal>> {
        let found = self.apps.tokens.get(&digest(token)).filter(|t| t.expires_at > self.now())?;
        let installation = self.apps.installations.get(&found.installation)?;
        let app = self.apps.registered.get(&installation.app)?;
        if installation.suspended_at.is_some() {
            return Some(Err(suspended()));
        }
        let covered = self.covered_by(found.installation).into_iter().map(|r| r.id);
        let chosen = |id: &u64| found.repositories.as_ref().is_none_or(|of| of.contains(id));
        Some(Ok(Grant {
            installation: found.installation,
            app: app.id,
            login: app.login(),
            permissions: found.permissions.and(&installation.permissions),
            repositories: covered.filter(chosen).collect(),
        }))
    }

    /// Takes a token back.
    pub(crate) fn revoke(&mut self, token: &str) {
        self.apps.tokens.remove(&digest(token));
    }
}

/// 403 that names what would be enough.
pub(crate) fn not_accessible() -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, "Resource not accessible by integration")
}
