//! Retention: what was kept long enough is really deleted, rows and objects, by one job, every
//! hour of the injected clock. What a run needs that is not over is never touched.

pub(crate) mod notes;
mod store;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use domain::retention::Keep;
use telemetry::shutdown::Shutdown;
use tokio_util::sync::CancellationToken;

pub(crate) use self::store::done;
use crate::{
    App, audit, setup,
    singleton::{self, Leads, Singleton},
    steps::{self, Step},
};

/// How often it looks whether it is time.
const SWEEP: Duration = Duration::from_secs(1);

/// Time between two rounds.
const EVERY: TimeDelta = TimeDelta::hours(1);

/// What is deleted, each after its own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Deliveries,
    Transcripts,
    Changesets,
    Checkpoints,
    Prompts,
    Effects,
    Events,
    /// What is known of objects in clusters that the platform did not make.
    ForeignObjects,
    /// Objects that no row needs.
    Objects,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Deliveries,
        Self::Transcripts,
        Self::Changesets,
        Self::Checkpoints,
        Self::Prompts,
        Self::Effects,
        Self::Events,
        Self::ForeignObjects,
        Self::Objects,
    ];

    /// The stable name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Deliveries => "deliveries",
            Self::Transcripts => "transcripts",
            Self::Changesets => "changesets",
            Self::Checkpoints => "checkpoints",
            Self::Prompts => "prompts",
            Self::Effects => "effects",
            Self::Events => "events",
            Self::ForeignObjects => "foreign_objects",
            Self::Objects => "objects",
        }
    }

    /// How long it is kept.
    pub(crate) fn keep(self, app: &App) -> Keep {
        match self {
            Self::Deliveries => app.retention.deliveries,
            Self::Transcripts => app.retention.transcripts,
            Self::Changesets => app.retention.changesets,
            Self::Checkpoints => app.retention.checkpoints,
            Self::Prompts => app.retention.prompts,
            Self::Effects => app.retention.effects,
            Self::Events => app.retention.events,
            // The log has each of them for longer; one that is still there then is noted again.
            Self::ForeignObjects => Keep::Days(30),
            // A backup that has read the rows has this long to read the objects.
            Self::Objects => Keep::Days(1),
        }
    }
}

/// Deletes until the process ends.
pub(crate) fn spawn(app: &Arc<App>, shutdown: &Shutdown) {
    singleton::spawn(app, shutdown, Singleton::Retention, |app, leads, ended| {
        Box::pin(work(app, leads, ended))
    });
}

async fn work(app: &App, leads: &mut Leads, ended: &CancellationToken) -> anyhow::Result<()> {
    let now = app.clock.now();
    // A round of the future is from a clock that was wrong, and must not keep the next one away.
    let last = store::last_round(&app.db).await?.filter(|last| *last <= now);
    let mut due = last.map_or(now, |last| last + EVERY);
    while !ended.is_cancelled() {
        leads.still().await?;
        let now = app.clock.now();
        if now >= due {
            round(app, leads, now, ended).await;
            due = now + EVERY;
        }
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            () = ended.cancelled() => {}
        }
    }
    Ok(())
}

/// Deletes what is due now. One kind that cannot be deleted does not keep the others.
async fn round(app: &App, leads: &mut Leads, now: DateTime<Utc>, ended: &CancellationToken) {
    if let Err(error) = setup::end_old_rotations(app).await {
        tracing::warn!(
            error = %telemetry::logging::chain(&error),
            "an old webhook secret is still good; trying again in an hour"
        );
    }
    for kind in Kind::ALL {
        if let Err(error) = delete(app, leads, kind, now, ended).await {
            tracing::warn!(
                kind = kind.name(),
                error = format!("{error:#}"),
                "not deleted; trying again in an hour"
            );
        }
    }
}

async fn delete(
    app: &App,
    leads: &mut Leads,
    kind: Kind,
    now: DateTime<Utc>,
    ended: &CancellationToken,
) -> anyhow::Result<()> {
    let Some(cutoff) = kind.keep(app).cutoff(now) else { return Ok(()) };
    let mut total = 0;
    loop {
        leads.still().await?;
        // These two have transactions of their own: one per month, one per object.
        let deleted = match kind {
            Kind::Events => u64::from(audit::months::drop_oldest(app, cutoff).await?),
            Kind::Objects => objects(app, cutoff).await?,
            Kind::Deliveries
            | Kind::Transcripts
            | Kind::Changesets
            | Kind::Checkpoints
            | Kind::Prompts
            | Kind::Effects
            | Kind::ForeignObjects => 0,
        };
        let mut tx = app.db.begin().await?;
        let deleted = match kind {
            Kind::Deliveries => store::deliveries(&mut tx, cutoff, now).await?,
            Kind::Transcripts => store::transcripts(&mut tx, cutoff, now).await?,
            Kind::Changesets => store::changesets(&mut tx, cutoff, now).await?,
            Kind::Checkpoints => store::checkpoints(&mut tx, cutoff, now).await?,
            Kind::Prompts => store::prompts(&mut tx, cutoff, now).await?,
            Kind::Effects => store::effects(&mut tx, cutoff).await?,
            Kind::ForeignObjects => store::foreign_objects(&mut tx, cutoff).await?,
            Kind::Events | Kind::Objects => deleted,
        };
        store::note(&mut tx, kind, now, deleted).await?;
        steps::commit(tx, Step::RetentionApplied).await?;
        total += deleted;
        if deleted == 0 || ended.is_cancelled() {
            break;
        }
    }
    if total > 0 {
        tracing::info!(kind = kind.name(), deleted = total, "deleted what was kept long enough");
    }
    Ok(())
}

/// Deletes some objects that were let go of before `cutoff`.
async fn objects(app: &App, cutoff: DateTime<Utc>) -> anyhow::Result<u64> {
    let (mut deleted, mut failed) = (0, None);
    for key in store::unneeded(&app.db, cutoff).await? {
        let mut tx = app.db.begin().await?;
        // Holds back whoever wants to store the same bytes again until they are deleted.
        if !store::lock_unneeded(&mut tx, &key).await? {
            continue;
        }
        if !store::is_needed(&mut tx, &key).await? {
            // One that cannot be deleted does not keep those behind it.
            if let Err(error) = app.objects.delete(&key).await {
                failed = Some(error);
                continue;
            }
            deleted += 1;
        }
        store::forget_unneeded(&mut tx, &key).await?;
        steps::commit(tx, Step::ObjectDeleted).await?;
    }
    match failed {
        // In an hour those behind the first two hundred get their turn too.
        Some(error) if deleted == 0 => Err(error.into()),
        Some(error) => {
            tracing::warn!(error = %telemetry::logging::chain(&error), "an object was not deleted; trying again");
            Ok(deleted)
        }
        None => Ok(deleted),
    }
}
