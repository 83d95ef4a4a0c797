//! How an event came to us: sent, fetched, or told by an issue's history; and whether it came at
//! once. What it does not tell itself is read now, and nobody may have changed it meanwhile.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    decision::{Event, Happening, Told},
    ids::RepositoryId,
    rights::Permission,
};
use forge::{ForgeError, Issue};
use sqlx::PgConnection;

use super::{
    Unsettled,
    asked::answer,
    permissions::{Fresh, Permissions},
    store,
};
use crate::{
    App,
    deliveries::{Provenance, store::Undecided},
    projects::store::Repository,
};

/// A label changes its issue too; a change this much later is another one.
const AT_ONCE: TimeDelta = TimeDelta::seconds(1);

/// What is looked at this much later than it happened may have been overtaken.
const LATE: TimeDelta = TimeDelta::seconds(10);

/// How an event came to us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    at: DateTime<Utc>,
    stored_at: DateTime<Utc>,
    provenance: Provenance,
    /// When the thread had been changed last, by what the event says.
    changed_at: Option<DateTime<Utc>>,
    /// It is looked at as soon as it happened.
    fresh: bool,
    /// Somebody without write permission may have changed the text since.
    edited: bool,
}

impl Came {
    /// Somebody asks what would be.
    pub(super) fn just_now(app: &App) -> Self {
        let now = app.clock.now();
        Self {
            at: now,
            stored_at: now,
            provenance: Provenance::Webhook,
            changed_at: None,
            fresh: true,
            edited: false,
        }
    }

    /// By this delivery.
    pub(super) fn by(app: &App, event: &Event, delivery: &Undecided) -> Self {
        let changed_at = match &event.happening {
            Happening::Labeled { .. } | Happening::Commented { .. } | Happening::Reviewed { .. } => {
                github::payload::changed_at(&delivery.body)
            }
            Happening::Unlabeled { .. }
            | Happening::Closed { .. }
            | Happening::Deleted { .. }
            | Happening::TransferredAway { .. }
            | Happening::Synchronized { .. }
            | Happening::Reopened { .. }
            | Happening::ReviewDismissed { .. }
            | Happening::Pushed { .. }
            | Happening::Installation { .. }
            | Happening::Repository { .. }
            | Happening::Other => None,
        };
        let mut came = Self {
            at: delivery.received_at,
            stored_at: delivery.stored_at,
            provenance: delivery.provenance,
            changed_at,
            fresh: false,
            edited: false,
        };
        came.fresh = match delivery.provenance {
            // One that was missed may be sent again by a person, before it is looked for.
            Provenance::Webhook => {
                !delivery.put_off && !delivery.was_missed && app.clock.now() - came.happened_at() <= LATE
            }
            Provenance::Fetched | Provenance::Reconciled => false,
        };
        came
    }

    /// When it arrived, or should have.
    pub(super) fn at(&self) -> DateTime<Utc> {
        self.at
    }

    /// Is it looked at as soon as it happened? What happened after another one may have been
    /// decided before it.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// When it happened, as far as is told.
    fn happened_at(&self) -> DateTime<Utc> {
        match self.provenance {
            Provenance::Webhook | Provenance::Fetched => {
                self.changed_at.map_or(self.at, |changed_at| changed_at.min(self.at))
            }
            // Its text is the one of now.
            Provenance::Reconciled => self.at,
        }
    }

    /// Compares the text of an event that was made of the history.
    pub(super) async fn compare(
        &mut self,
        app: &App,
        repository: &Repository,
        event: &Event,
        tries: i32,
    ) -> Result<(), Unsettled> {
        match self.provenance {
            Provenance::Webhook | Provenance::Fetched => {}
            Provenance::Reconciled => {
                if let Some(on) = event.happening.on()
                    && self.changed_at.is_none_or(|changed_at| changed_at > self.at + AT_ONCE)
                {
                    self.edited |= !may_write(app, repository, &on.author, tries).await?;
                }
            }
        }
        Ok(())
    }

    /// Compares the text that the event does not tell, which was read now.
    pub(super) async fn compare_read(
        &mut self,
        app: &App,
        repository: &Repository,
        read: &Result<Issue, ForgeError>,
        tries: i32,
    ) -> Result<(), Unsettled> {
        if self.fresh {
            return Ok(());
        }
        match read {
            Ok(issue) if issue.updated_at > self.happened_at() + AT_ONCE => {
                self.edited |= !may_write(app, repository, &issue.author, tries).await?;
            }
            Ok(_) => {}
            // It would be read once more when the run is prepared, by nobody who compares.
            Err(_) => self.edited = true,
        }
        Ok(())
    }

    /// What the decision takes. The issue is locked.
    pub(super) async fn told(
        &self,
        tx: &mut PgConnection,
        repository: RepositoryId,
        event: &Event,
    ) -> sqlx::Result<Told> {
        let delivered = if self.edited { Told::LateEdited } else { Told::Delivered };
        let Happening::Labeled { on, label } = &event.happening else { return Ok(delivered) };
        let thread = (repository, on.number);
        Ok(match self.provenance {
            Provenance::Webhook | Provenance::Fetched => match self.changed_at {
                Some(at) if store::was_reconciled(tx, thread, label, at).await? => Told::Twice,
                Some(_) | None => delivered,
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

/// May the author write here? Nobody else without that permission can change the text.
async fn may_write(app: &App, repository: &Repository, author: &str, tries: i32) -> Result<bool, Unsettled> {
    let permission = Permissions::ask(app, repository, author, Fresh::Minute).await;
    Ok(answer(permission, tries)?.is_ok_and(|has| has >= Permission::Write))
}
