//! Repositories out of reach, and archived ones, are asked about now and then: the event that
//! tells that they are back may be lost.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use futures::future::BoxFuture;
use telemetry::shutdown::Shutdown;
use tokio_util::sync::CancellationToken;

use super::{
    learning::{Learnt, learn},
    store,
};
use crate::{
    App,
    singleton::{self, Leads, Singleton},
    steps::{self, Step},
};

/// How often one is asked about.
const EVERY: TimeDelta = TimeDelta::minutes(1);
/// How often one is asked about that is archived: few come out again.
const EVERY_ARCHIVED: TimeDelta = TimeDelta::minutes(10);
/// How long an answer may take; the others wait behind it.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked whether that is due.
const LOOK: Duration = Duration::from_secs(2);

/// Asks until the process ends.
pub(crate) fn spawn(app: &Arc<App>, shutdown: &Shutdown) {
    singleton::spawn(app, shutdown, Singleton::Access, work);
}

fn work<'a>(
    app: &'a App,
    leads: &'a mut Leads,
    ended: &'a CancellationToken,
) -> BoxFuture<'a, anyhow::Result<()>> {
    Box::pin(async move {
        while !ended.is_cancelled() {
            leads.still().await?;
            for id in store::to_ask(&app.db, app.clock.now(), EVERY, EVERY_ARCHIVED).await? {
                leads.still().await?;
                let answered = match tokio::time::timeout(ANSWER_WITHIN, learn(app, id)).await {
                    Ok(learnt) => match learnt? {
                        Learnt::Closed(_) | Learnt::Moved | Learnt::Nothing => true,
                        Learnt::Unknown(_) => false,
                    },
                    Err(_) => false,
                };
                if !answered {
                    let mut tx = app.db.begin().await?;
                    store::note_asked(&mut tx, id, app.clock.now()).await?;
                    steps::commit(tx, Step::AccessNoted).await?;
                }
            }
            tokio::select! {
                () = ended.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        Ok(())
    })
}
