//! Setting a repository up: our record, its webhook, its labels, a test delivery, and the
//! webhook's secret changed without losing a delivery.
//!
//! Everything here may be broken off at any point and run again: what is done is found done.

mod access;
mod arrival;
mod check;
mod hook;
mod progress;
mod record;
mod rotation;
mod store;

use domain::names::RepositoryName;

pub(crate) use self::{
    access::{breaks, is_needed},
    check::{check, webhook_of},
    progress::{Halt, Progress},
    record::{remove, secret_for_a_person, stored_secrets},
    rotation::{end_old_rotations, rotate},
    store::{Listed, list},
};
use self::{
    arrival::Arrival,
    progress::{done, failed, planned, unchanged},
};
use crate::{App, policies};

/// What `repo add` was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) name: RepositoryName,
    /// Absent: the only one there is.
    pub(crate) project: Option<String>,
    /// Last part of the webhook's address; absent: the repository's name.
    pub(crate) source: Option<String>,
    /// Only say what would be done.
    pub(crate) dry_run: bool,
    /// Give the webhook its secret again.
    pub(crate) reset_secret: bool,
}

/// Sets a repository up, or goes on where it was broken off.
pub(crate) async fn add(app: &App, actor: &str, asked: &Asked, progress: &Progress) -> Result<(), Halt> {
    let number = access::look(app, &asked.name, progress).await?;
    let record = record::keep(app, actor, asked, number, progress).await?;
    let own_hook = record.repository.own_hook;
    let hook = if own_hook {
        hook::set(app, actor, &record, asked, progress).await?
    } else {
        progress.say(unchanged("webhook", "not needed: the App has one for all its repositories")).await;
        None
    };
    labels(app, actor, &record.repository, asked.dry_run, progress).await?;
    match hook {
        Some(hook) => Arrival { app, repository: &record.repository, managed: record.managed }
            .test(&hook, progress)
            .await
            .map(drop),
        None if asked.dry_run && own_hook => {
            progress.say(planned("test delivery", "the webhook would be asked for a ping")).await;
            Ok(())
        }
        None => Ok(()),
    }
}

async fn labels(
    app: &App,
    actor: &str,
    repository: &crate::projects::store::Repository,
    dry_run: bool,
    progress: &Progress,
) -> Result<(), Halt> {
    let synced = match policies::sync_labels(app, repository, actor, dry_run).await {
        Ok(synced) => synced,
        Err(
            policies::NotSynced::Database(error)
            | policies::NotSynced::Rules(policies::Unread::Database(error)),
        ) => {
            return Err(error.into());
        }
        Err(
            error @ (policies::NotSynced::Rules(policies::Unread::Forge(_))
            | policies::NotSynced::Forge { .. }),
        ) => {
            progress.say(failed("labels", error.to_string(), "run the same again later")).await;
            return Ok(());
        }
    };
    let count = |which| synced.iter().filter(|(_, outcome)| *outcome == which).count();
    let (created, updated) = (count(policies::Outcome::Created), count(policies::Outcome::Updated));
    let step = match (created + updated, dry_run) {
        (0, _) => unchanged("labels", format!("all {} are there", synced.len())),
        (_, true) => {
            planned("labels", format!("{created} would be made, {updated} mended, of {}", synced.len()))
        }
        (_, false) => done("labels", format!("{created} made, {updated} mended, of {}", synced.len())),
    };
    progress.say(step).await;
    Ok(())
}
