//! Recovery: what the code host told while nobody listened is made up for. Deliveries that were
//! missed are asked for again, or fetched; labels that stand without a decision are looked up in
//! the histories of their issues. See `docs/architecture/recovery.md`.

mod gaps;
mod hooks;
mod missed;
mod standing;
mod store;

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use domain::ids::RepositoryId;
use forge::{ForgeError, Level};
use telemetry::shutdown::Shutdown;
use tokio_util::sync::CancellationToken;

pub(crate) use self::gaps::findings;
use crate::{
    App,
    projects::store::{Repository, enabled},
    singleton::{self, Leads, Singleton},
    wake::{Topic, news},
};

/// How often it looks whether it is time.
const TICK: Duration = Duration::from_secs(1);

/// Between two looks at a repository.
const EVERY: TimeDelta = TimeDelta::minutes(5);

/// The same, while little is left of the code host's limits.
const RARELY: TimeDelta = TimeDelta::minutes(30);

/// Until it is looked again at what is under way.
const SOON: TimeDelta = TimeDelta::seconds(3);

/// Why a look was broken off.
#[derive(Debug, thiserror::Error)]
enum BrokenOff {
    #[error("the code host did not answer: {0}")]
    Forge(#[from] ForgeError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// How a look ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    /// Nothing is under way.
    Done,
    /// Something is, and can be seen then.
    Again(DateTime<Utc>),
}

/// Looks until the process ends.
pub(crate) fn spawn(app: &Arc<App>, shutdown: &Shutdown) {
    singleton::spawn(app, shutdown, Singleton::Recovery, |app, leads, ended| {
        Box::pin(work(app, leads, ended))
    });
}

async fn work(app: &App, leads: &mut Leads, ended: &CancellationToken) -> anyhow::Result<()> {
    // Deliveries that come in may be those that were asked for.
    let mut wake = app.wake.subscribe(Topic::Deliveries);
    let mut due: HashMap<RepositoryId, DateTime<Utc>> = HashMap::new();
    let mut next = app.clock.now();
    while !ended.is_cancelled() {
        leads.still().await?;
        wake.mark_unchanged();
        let now = app.clock.now();
        if now >= next {
            for repository in enabled(&app.db).await? {
                if ended.is_cancelled() {
                    return Ok(());
                }
                let before = due.get(&repository.id);
                if before.is_none_or(|due| now >= *due) {
                    leads.still().await?;
                    let again = look(app, &repository, before.is_none()).await?;
                    due.insert(repository.id, again);
                }
            }
            next = due.values().copied().filter(|due| *due > now).min().unwrap_or_else(|| now + EVERY);
            next = next.min(now + EVERY);
        }
        tokio::select! {
            () = ended.cancelled() => {}
            () = news(&mut wake, TICK) => {}
        }
    }
    Ok(())
}

/// Looks at one repository; when it is to be looked at again. The `first` look believes nothing
/// that was found out before.
async fn look(app: &App, repository: &Repository, first: bool) -> sqlx::Result<DateTime<Utc>> {
    let now = app.clock.now();
    if repository.gone {
        return Ok(now + RARELY);
    }
    if repository.no_access.is_some() {
        return Ok(now + EVERY);
    }
    let allowance = app.forge.allowance(&repository.name);
    if let Some(until) = allowance.closed_until.filter(|until| *until > now) {
        return Ok(until);
    }
    let pause = match allowance.level {
        Level::Plenty => EVERY,
        Level::Low => RARELY,
        // Somebody waits for what is left.
        Level::Scarce => return Ok(now + EVERY),
    };
    let looked = match both(app, repository, first).await {
        Ok(looked) => looked,
        Err(BrokenOff::Database(error)) => return Err(error),
        Err(BrokenOff::Forge(error)) => {
            tracing::warn!(repository = %repository.name, %error, "not looked for what was missed; trying again");
            let wait = error.no_try().and_then(|wait| TimeDelta::from_std(wait).ok());
            return Ok(now + wait.unwrap_or_else(|| TimeDelta::minutes(1)));
        }
    };
    Ok(match looked {
        Looked::Done => now + pause,
        Looked::Again(at) => at.min(now + pause),
    })
}

/// First what was sent and is not here; when that is settled, labels that nothing told of.
async fn both(app: &App, repository: &Repository, first: bool) -> Result<Looked, BrokenOff> {
    if let Looked::Again(at) = missed::look(app, repository, first).await? {
        return Ok(Looked::Again(at));
    }
    if let Looked::Again(at) = standing::look(app, repository).await? {
        return Ok(Looked::Again(at));
    }
    gaps::close(app, repository).await?;
    Ok(Looked::Done)
}
