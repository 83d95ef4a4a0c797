//! What an event about the App's installation is about.

use domain::{
    decision::{Event, Installation},
    names::RepositoryName,
};

use super::store;
use crate::{
    App,
    projects::store::{Repository, by_id},
};

/// The repositories of the configuration that the event may be about.
pub(crate) async fn affected(
    app: &App,
    event: &Event,
    installation: &Installation,
) -> sqlx::Result<Vec<Repository>> {
    let names: Vec<String> = installation.repositories.iter().map(RepositoryName::key).collect();
    let account = installation.account.as_ref().map(|account| account.to_lowercase());
    let number = event.installation.and_then(|number| i64::try_from(number).ok());
    let mut found = Vec::new();
    for id in store::covered(&app.db, number, account.as_deref(), &names).await? {
        found.push(by_id(&app.db, id).await?);
    }
    Ok(found)
}
