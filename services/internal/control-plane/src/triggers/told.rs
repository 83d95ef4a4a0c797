//! How an event came to us: sent, fetched, or told by an issue's history. Of the last kind the
//! text is the one of now, and nobody may have changed what is asked for meanwhile.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    decision::{Event, Happening, Told},
    ids::RepositoryId,
    rights::Permission,
};
use sqlx::PgConnection;

use super::{
    Unsettled,
    asked::answer,
    permissions::{Fresh, Permissions},
    records, store,
};
use crate::{
    App,
    deliveries::{Provenance, store::Undecided},
    projects::store::Repository,
};

/// A label changes its issue too; a change this much later is another one.
fn at_once() -> TimeDelta {
    TimeDelta::seconds(5)
}

/// How an event came to us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    at: DateTime<Utc>,
    stored_at: DateTime<Utc>,
    provenance: Provenance,
    /// When the thread had been changed last, by what the event says.
    changed_at: Option<DateTime<Utc>>,
    /// Somebody without write permission may have changed the text since.
    edited: bool,
}

impl Came {
    /// Somebody asks what would be.
    pub(super) fn just_now(app: &App) -> Self {
        let now = app.clock.now();
        Self { at: now, stored_at: now, provenance: Provenance::Webhook, changed_at: None, edited: false }
    }

    /// By this delivery.
    pub(super) async fn by(
        app: &App,
        repository: &Repository,
        event: &Event,
        delivery: &Undecided,
    ) -> Result<Self, Unsettled> {
        let changed_at = match &event.happening {
            Happening::Labeled { .. } => github::payload::changed_at(&delivery.body),
            Happening::Unlabeled { .. }
            | Happening::Closed { .. }
            | Happening::Deleted { .. }
            | Happening::TransferredAway { .. }
            | Happening::Commented { .. }
            | Happening::Synchronized { .. }
            | Happening::Reopened { .. }
            | Happening::Reviewed { .. }
            | Happening::ReviewDismissed { .. }
            | Happening::Pushed { .. }
            | Happening::Installation { .. }
            | Happening::Repository { .. }
            | Happening::Other => None,
        };
        let came = Self {
            at: delivery.received_at,
            stored_at: delivery.stored_at,
            provenance: delivery.provenance,
            changed_at,
            edited: false,
        };
        Ok(match delivery.provenance {
            Provenance::Webhook | Provenance::Fetched => came,
            Provenance::Reconciled => {
                Self { edited: came.edited(app, repository, event, delivery.tries).await?, ..came }
            }
        })
    }

    /// When it arrived, or should have.
    pub(super) fn at(&self) -> DateTime<Utc> {
        self.at
    }

    /// May somebody without write permission have changed the text since the label was set?
    async fn edited(
        &self,
        app: &App,
        repository: &Repository,
        event: &Event,
        tries: i32,
    ) -> Result<bool, Unsettled> {
        let Some(on) = event.happening.on() else { return Ok(false) };
        let mut authors = Vec::new();
        if self.changed_at.is_none_or(|changed_at| changed_at > self.at + at_once()) {
            authors.push(on.author.clone());
        }
        if on.pull.is_some() {
            // What it is for stands in its issue.
            let mut db = app.db.acquire().await?;
            let linked = records::linked_issue(&mut db, repository.id, on.number).await?;
            drop(db);
            if let Some(linked) = linked
                && let Ok(issue) = answer(app.forge.issue(&repository.name, linked).await, tries)?
                && issue.updated_at > self.at + at_once()
            {
                authors.push(issue.author);
            }
        }
        for author in authors {
            let permission = Permissions::ask(app, repository, &author, Fresh::Minute).await;
            if answer(permission, tries)?.is_ok_and(|has| has >= Permission::Write) {
                continue;
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// What the decision takes. The issue is locked.
    pub(super) async fn told(
        &self,
        tx: &mut PgConnection,
        repository: RepositoryId,
        event: &Event,
    ) -> sqlx::Result<Told> {
        let Happening::Labeled { on, label } = &event.happening else { return Ok(Told::Delivered) };
        let thread = (repository, on.number);
        Ok(match self.provenance {
            Provenance::Webhook | Provenance::Fetched => match self.changed_at {
                Some(at) if store::was_reconciled(tx, thread, label, at).await? => Told::Twice,
                Some(_) | None => Told::Delivered,
            },
            Provenance::Reconciled => {
                if store::was_decided_since(tx, thread, label, self.stored_at).await? {
                    Told::Twice
                } else if event.actor.is_none() {
                    Told::Nobody
                } else if self.edited {
                    Told::HistoryEdited
                } else {
                    Told::History
                }
            }
        })
    }
}
