//! Work that must be done by one process at a time: whoever holds the Postgres advisory lock
//! does it, on a connection of its own, as long as that connection lives.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use sqlx::{Connection, PgConnection};
use telemetry::shutdown::Shutdown;
use tokio_util::sync::CancellationToken;

use crate::{App, wake::Outage};

/// How soon another process takes over.
const TAKE_OVER: Duration = Duration::from_secs(1);

/// How long whoever leads may say nothing, in milliseconds: many times what a round takes.
const SILENT_MS: &str = "15000";

/// Something of which there is one, with the number of its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Singleton {
    /// Applies effects. One credential is configured, so there is one publisher.
    Publisher,
    /// Gives events their numbers.
    Sealer,
    /// Deletes what was kept long enough.
    Retention,
    /// Makes one object of each finished transcript.
    Compactor,
    /// Makes up for what was missed.
    Recovery,
    /// Asks about repositories that are out of reach.
    Access,
}

impl Singleton {
    fn name(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Sealer => "sealer",
            Self::Retention => "retention",
            Self::Compactor => "compactor",
            Self::Recovery => "recovery",
            Self::Access => "access",
        }
    }

    fn lock(self) -> i64 {
        0x6361_6c6c_7075_6221
            + match self {
                Self::Publisher => 0,
                Self::Sealer => 1,
                Self::Retention => 2,
                Self::Compactor => 0x10,
                Self::Recovery => 0x21,
                Self::Access => 0x20,
            }
    }
}

/// Proof that this process is the one, while the connection lives.
#[derive(Debug)]
pub(crate) struct Leads {
    connection: PgConnection,
}

impl Leads {
    /// A sign of life, at least every few seconds. An error when the connection is gone:
    /// somebody else may lead by now.
    pub(crate) async fn still(&mut self) -> sqlx::Result<()> {
        sqlx::query_scalar!("select 1 as one").fetch_one(&mut self.connection).await?;
        Ok(())
    }

    async fn end(self) -> sqlx::Result<()> {
        self.connection.close().await
    }
}

async fn lead(app: &App, which: Singleton) -> sqlx::Result<Option<Leads>> {
    let mut connection = app.db.acquire().await?.detach();
    let leads = sqlx::query_scalar!(r#"select pg_try_advisory_lock($1) as "leads!""#, which.lock())
        .fetch_one(&mut connection)
        .await?;
    if leads {
        // A process that hangs or is paused keeps its connection; Postgres ends it, and with it the lock.
        sqlx::query!("select set_config('idle_session_timeout', $1, false)", SILENT_MS)
            .fetch_one(&mut connection)
            .await?;
        return Ok(Some(Leads { connection }));
    }
    connection.close().await?;
    Ok(None)
}

/// Work of a singleton: returns when it is told to end, or with what interrupted it.
pub(crate) type Work =
    for<'a> fn(&'a App, &'a mut Leads, &'a CancellationToken) -> BoxFuture<'a, anyhow::Result<()>>;

/// Does `work` for as long as this process leads, and tries to lead until the process ends.
pub(crate) fn spawn(app: &Arc<App>, shutdown: &Shutdown, which: Singleton, work: Work) {
    let (app, ended) = (Arc::clone(app), shutdown.token());
    shutdown.spawn(async move {
        let mut outage = Outage::new(which.name());
        while !ended.is_cancelled() {
            let round = async {
                let Some(mut leads) = lead(&app, which).await? else { return Ok(()) };
                work(&app, &mut leads, &ended).await?;
                anyhow::Ok(leads.end().await?)
            };
            let result = round.await;
            outage.note(result.as_ref().err().map(|e| e.as_ref() as _));
            tokio::select! {
                () = ended.cancelled() => {}
                () = tokio::time::sleep(TAKE_OVER) => {}
            }
        }
    });
}
