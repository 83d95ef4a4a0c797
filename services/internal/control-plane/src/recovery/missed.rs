//! Deliveries the code host made that we do not have: asked for again, and where the code host
//! cannot reach us, fetched.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use forge::{ForgeError, HookOf, SentDelivery};
use github::webhook::EVENTS;

use super::{
    BrokenOff, Looked, SOON, hooks,
    hooks::Watched,
    store::{self, Open},
};
use crate::{
    App,
    deliveries::{Provenance, store::Recovered},
    projects::store::Repository,
    steps::{Step, around},
};

/// The code host keeps deliveries for this long.
const KEPT: TimeDelta = TimeDelta::days(3);

/// A list may not show yet what was just made.
const OVERLAP: TimeDelta = TimeDelta::minutes(5);

/// What was asked for comes within this time, or counts as failed.
const PATIENCE: TimeDelta = TimeDelta::minutes(1);

/// The code host waits this long for an answer, at most.
const UNDER_WAY: TimeDelta = TimeDelta::seconds(30);

/// Deliveries that are asked for in one look.
const AT_ONCE: usize = 50;

/// Events that tell an App of its installations; a webhook does not ask for them.
const OF_INSTALLATIONS: [&str; 2] = ["installation", "installation_repositories"];

/// Does something follow from events of this kind?
fn is_used(event: &str) -> bool {
    EVENTS.contains(&event) || OF_INSTALLATIONS.contains(&event)
}

/// All attempts at one delivery that the list shows.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) newest: SentDelivery,
    /// When it was sent first.
    pub(super) first_at: DateTime<Utc>,
}

/// Each delivery of a kind we use that was made and is not under way, once.
fn by_guid(sent: impl Iterator<Item = SentDelivery>, now: DateTime<Utc>) -> BTreeMap<String, Seen> {
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let over = |sent: &SentDelivery| sent.status_code.is_some() || now - sent.delivered_at > UNDER_WAY;
    let used = |sent: &SentDelivery| is_used(&sent.event) && over(sent);
    for delivery in sent.filter(used) {
        let first_at = delivery.delivered_at;
        match seen.get_mut(&delivery.guid) {
            Some(known) => {
                known.first_at = known.first_at.min(first_at);
                if delivery.id > known.newest.id {
                    known.newest = delivery;
                }
            }
            None => {
                seen.insert(delivery.guid.clone(), Seen { newest: delivery, first_at });
            }
        }
    }
    seen
}

/// An App's webhook brings the events of all its repositories.
fn is_about(repository: &Repository, sent: &SentDelivery) -> bool {
    let number = sent.repository_id.and_then(|id| i64::try_from(id).ok());
    repository.own_hook || number.is_none() || number == repository.forge_id
}

/// Finds what is missing, and does the next thing about each of it.
pub(super) async fn look(app: &App, repository: &Repository, first: bool) -> Result<Looked, BrokenOff> {
    let now = app.clock.now();
    let Some(Watched { of, looked_to }) = hooks::watched(app, repository, first).await? else {
        return Ok(Looked::Done);
    };
    if !repository.own_hook && repository.forge_id.is_none() {
        // Which of the App's deliveries are about it is not known yet; they are looked through then.
        return Ok(Looked::Done);
    }
    let added = store::added_at(&app.db, repository.id).await?;
    let from = looked_to.map_or(added, |looked_to| looked_to - OVERLAP);
    let since = from.max(now - KEPT).max(added);
    let sent = match app.forge.deliveries(&of, since).await {
        Ok(sent) => by_guid(sent.into_iter().filter(|sent| is_about(repository, sent)), now),
        Err(error) => {
            // It may be another webhook by now.
            hooks::off(error)?;
            if repository.own_hook {
                hooks::found(app, repository).await?;
            }
            return Ok(Looked::Done);
        }
    };
    store::note_missing(app, repository, &sent, now).await?;
    let (mut asked, mut open) = (0, false);
    for missed in store::open(&app.db, repository).await? {
        let newest = sent.get(&missed.guid).map(|seen| &seen.newest);
        open |= !settled(app, repository, &of, &missed, newest, &mut asked).await?;
    }
    Ok(if open { Looked::Again(now + SOON) } else { Looked::Done })
}

/// Does the next thing about a missed delivery; true when nothing is left to be done.
async fn settled(
    app: &App,
    repository: &Repository,
    of: &HookOf,
    missed: &Open,
    newest: Option<&SentDelivery>,
    asked: &mut usize,
) -> Result<bool, BrokenOff> {
    if missed.is_here {
        store::note_recovered(app, repository, missed).await?;
        return Ok(true);
    }
    let Some(asked_at) = missed.asked_at else {
        if *asked < AT_ONCE {
            *asked += 1;
            // Twice is once: it keeps its GUID.
            let again = around(Step::CallRedeliver, app.forge.redeliver(of, missed.host_id)).await;
            match again {
                Ok(()) => {}
                Err(
                    error @ (ForgeError::Limited { .. }
                    | ForgeError::BadCredential { .. }
                    | ForgeError::Outage { .. }),
                ) => {
                    return Err(error.into());
                }
                // It may still be fetched.
                Err(
                    error @ (ForgeError::Denied { .. }
                    | ForgeError::Missing { .. }
                    | ForgeError::Conflict { .. }
                    | ForgeError::Invalid { .. }
                    | ForgeError::Unsupported { .. }),
                ) => {
                    tracing::info!(guid = missed.guid, %error, "not sent again; it is fetched");
                    return fetch(app, repository, of, missed, missed.host_id).await;
                }
            }
            store::note_asked(app, repository, missed).await?;
        }
        return Ok(false);
    };
    match newest.filter(|newest| newest.id > missed.host_id) {
        // It was sent again, and is not here: the code host cannot reach us.
        Some(newest) => fetch(app, repository, of, missed, newest.id).await,
        None if app.clock.now() - asked_at > PATIENCE => {
            fetch(app, repository, of, missed, missed.host_id).await
        }
        None => Ok(false),
    }
}

/// Reads a delivery where it was made.
async fn fetch(
    app: &App,
    repository: &Repository,
    of: &HookOf,
    missed: &Open,
    id: u64,
) -> Result<bool, BrokenOff> {
    let words = match app.forge.fetch_delivery(of, id).await {
        Ok(fetched) if fetched.sent().guid == missed.guid && fetched.sent().event == missed.event => {
            let body = fetched.payload().to_string().into_bytes();
            let recovered = Recovered {
                source: hooks::source(repository),
                guid: &missed.guid,
                event: &missed.event,
                body: &body,
                provenance: Provenance::Fetched,
                received_at: missed.delivered_at,
            };
            store::note_fetched(app, repository, missed, &recovered).await?;
            return Ok(true);
        }
        Ok(_) => "the code host told of another delivery under this id".to_owned(),
        Err(
            error @ (ForgeError::Limited { .. }
            | ForgeError::BadCredential { .. }
            | ForgeError::Outage { .. }),
        ) => return Err(error.into()),
        Err(
            error @ (ForgeError::Denied { .. }
            | ForgeError::Missing { .. }
            | ForgeError::Conflict { .. }
            | ForgeError::Invalid { .. }
            | ForgeError::Unsupported { .. }),
        ) => error.to_string(),
    };
    store::give_up(app, repository, missed, &words).await?;
    Ok(true)
}
