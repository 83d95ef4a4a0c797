//! What accounts may do with a repository, as the code host says it now.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{ids::RepositoryId, rights::Permission};

use crate::{App, projects::store::Repository};

/// How long a grant is believed.
const BELIEVED: TimeDelta = TimeDelta::seconds(60);

/// Who, and where.
type Account = (RepositoryId, String);

/// Grants of a moment ago. A refusal is never kept: whoever was just given a right may use it.
#[derive(Debug, Default)]
pub(crate) struct Permissions {
    granted: Mutex<HashMap<Account, (Permission, DateTime<Utc>)>>,
}

/// How fresh an answer has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fresh {
    /// Asked for this decision: what is approved or released cannot be taken back.
    Now,
    /// A minute old is good enough.
    Minute,
}

impl Permissions {
    /// What an account may do with a repository; the payload of an event is never believed.
    pub(super) async fn ask(
        app: &App,
        repository: &Repository,
        login: &str,
        fresh: Fresh,
    ) -> forge::Result<Permission> {
        let (now, key) = (app.clock.now(), (repository.id, login.to_lowercase()));
        if fresh == Fresh::Minute {
            let granted = app.permissions.granted.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((permission, at)) = granted.get(&key)
                && now - *at < BELIEVED
            {
                return Ok(*permission);
            }
        }
        let permission = app.forge.permission(&repository.name, login).await?;
        let mut granted = app.permissions.granted.lock().unwrap_or_else(PoisonError::into_inner);
        granted.retain(|_, (_, at)| now - *at < BELIEVED);
        if permission >= Permission::Write {
            granted.insert(key, (permission, now));
        } else {
            granted.remove(&key);
        }
        Ok(permission)
    }
}
