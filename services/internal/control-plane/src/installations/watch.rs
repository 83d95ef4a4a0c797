//! Repositories out of reach are asked about now and then: the event that tells that they are
//! back may be lost.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use futures::future::BoxFuture;
use telemetry::shutdown::Shutdown;
use tokio_util::sync::CancellationToken;

use super::{
    reach::{ask, note},
    store,
};
use crate::{
    App,
    projects::store::by_id,
    singleton::{self, Leads, Singleton},
    steps::{self, Step},
};

/// How often one is asked about.
const EVERY: TimeDelta = TimeDelta::minutes(1);
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
            for id in store::to_ask(&app.db, app.clock.now(), EVERY).await? {
                let repository = by_id(&app.db, id).await?;
                app.forge.forget_access();
                let reach = ask(app, &repository).await;
                let mut tx = app.db.begin().await?;
                match &reach {
                    Ok(reach) => note(&mut tx, app, &repository, reach).await?,
                    Err(error) => {
                        tracing::debug!(repository = %repository.name, %error, "still no answer about access");
                        store::note_asked(&mut tx, id, app.clock.now()).await?;
                    }
                }
                steps::commit(tx, Step::AccessNoted).await?;
            }
            tokio::select! {
                () = ended.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        Ok(())
    })
}
