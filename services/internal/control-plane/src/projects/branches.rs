//! The branch that work of a repository starts from, and where it is.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use domain::names::CommitSha;

use super::store::Repository;
use crate::App;

/// How long a branch's name is believed.
const BELIEVED: TimeDelta = TimeDelta::seconds(60);

/// Names of default branches as the code host told them a moment ago, by repository.
#[derive(Debug, Default)]
pub(crate) struct DefaultBranches {
    told: Mutex<HashMap<String, (String, DateTime<Utc>)>>,
}

/// The default branch of a repository and its head as it is now; no head: there is no such branch.
pub(crate) async fn default_head(
    app: &App,
    repository: &Repository,
) -> forge::Result<(String, Option<CommitSha>)> {
    let name = &repository.name;
    let head = async |branch: String| Ok((branch.clone(), app.forge.branch_head(name, &branch).await?));
    if let Some(configured) = &repository.default_branch {
        return head(configured.clone()).await;
    }
    let (now, key) = (app.clock.now(), name.key());
    let told = {
        let told = app.default_branches.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(&key).filter(|(_, at)| now - *at < BELIEVED).map(|(branch, _)| branch.clone())
    };
    if let Some(branch) = told
        && let (branch, Some(at)) = head(branch).await?
    {
        return Ok((branch, Some(at)));
    }
    // Not known, or it was given another name meanwhile.
    let branch = app.forge.repository(name).await?.default_branch;
    {
        let mut told = app.default_branches.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, (_, at)| now - *at < BELIEVED);
        told.insert(key, (branch.clone(), now));
    }
    head(branch).await
}
