//! Wake-ups between loops and between processes: Postgres NOTIFY, one channel, the topic as
//! payload. A wake-up carries no data; whoever is woken looks at the tables. Loops also look
//! by themselves every now and then, so a lost wake-up costs time and nothing else.

use std::time::Duration;

use sqlx::{PgConnection, PgPool, postgres::PgListener};
use telemetry::shutdown::Shutdown;
use tokio::sync::watch;

const CHANNEL: &str = "callboard";

/// What has news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// A delivery was stored.
    Deliveries,
    /// A run was queued.
    Queue,
    /// An effect was committed.
    Effects,
    /// An attempt has to stop.
    Stops,
    /// A run or its transcript moved on.
    Runs,
    /// Something was recorded; sent by the function `events_add` of the database.
    Events,
    /// Events got their numbers.
    Sealed,
}

impl Topic {
    const ALL: [Self; 7] =
        [Self::Deliveries, Self::Queue, Self::Effects, Self::Stops, Self::Runs, Self::Events, Self::Sealed];

    fn name(self) -> &'static str {
        match self {
            Self::Deliveries => "deliveries",
            Self::Queue => "queue",
            Self::Effects => "effects",
            Self::Stops => "stops",
            Self::Runs => "runs",
            Self::Events => "events",
            Self::Sealed => "sealed",
        }
    }

    /// Wakes whoever waits for this topic when the transaction commits.
    pub(crate) async fn notify(self, tx: &mut PgConnection) -> sqlx::Result<()> {
        sqlx::query!("select pg_notify($1, $2)", CHANNEL, self.name()).execute(tx).await?;
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct Wake {
    topics: [watch::Sender<u64>; Topic::ALL.len()],
}

impl Wake {
    /// Starts listening; the connection is made again when it breaks.
    pub(crate) async fn start(db: &PgPool, shutdown: &Shutdown) -> sqlx::Result<Self> {
        let wake = Self { topics: Topic::ALL.map(|_| watch::channel(0).0) };
        let senders = wake.topics.clone();
        // Its own pool, so that listening never takes a connection from those who work.
        let mut listener = PgListener::connect_with(
            &sqlx::postgres::PgPoolOptions::new()
                .max_connections(1)
                .connect_with((*db.connect_options()).clone())
                .await?,
        )
        .await?;
        listener.listen(CHANNEL).await?;
        let ended = shutdown.token();
        shutdown.spawn(async move {
            loop {
                let news = tokio::select! {
                    () = ended.cancelled() => return,
                    news = listener.try_recv() => news,
                };
                match news {
                    Ok(Some(news)) => {
                        for (topic, sender) in Topic::ALL.iter().zip(&senders) {
                            if topic.name() == news.payload() {
                                sender.send_modify(|n| *n += 1);
                            }
                        }
                    }
                    // The connection broke and is back: news may have been missed.
                    Ok(None) => senders.iter().for_each(|s| s.send_modify(|n| *n += 1)),
                    Err(error) => {
                        tracing::warn!(error = %telemetry::logging::chain(&error), "cannot listen to Postgres; loops go on by timer");
                        tokio::select! {
                            () = ended.cancelled() => return,
                            () = tokio::time::sleep(Duration::from_secs(1)) => {}
                        }
                    }
                }
            }
        });
        Ok(wake)
    }

    /// Wakes on the topic from now on. Subscribe before looking, so that nothing is missed.
    pub(crate) fn subscribe(&self, topic: Topic) -> watch::Receiver<u64> {
        let index = Topic::ALL.iter().position(|t| *t == topic).unwrap_or_default();
        self.topics[index].subscribe()
    }
}

/// Waits for news, at most `longest`.
pub(crate) async fn news(receiver: &mut watch::Receiver<u64>, longest: Duration) {
    // Both ends of the wait mean the same: look again.
    drop(tokio::time::timeout(longest, receiver.changed()).await);
}

/// A loop that cannot work says so once, and once more when it works again.
#[derive(Debug)]
pub(crate) struct Outage {
    of: &'static str,
    lasts: bool,
}

impl Outage {
    pub(crate) fn new(of: &'static str) -> Self {
        Self { of, lasts: false }
    }

    /// True since a failure that was not followed by a success.
    pub(crate) fn lasts(&self) -> bool {
        self.lasts
    }

    /// Notes how a round went.
    pub(crate) fn note(&mut self, error: Option<&(dyn std::error::Error + 'static)>) {
        match (error, self.lasts) {
            (Some(error), false) => {
                tracing::warn!(of = self.of, error = %telemetry::logging::chain(error), "interrupted; trying again until it works");
            }
            (None, true) => tracing::info!(of = self.of, "works again"),
            (Some(_), true) | (None, false) => {}
        }
        self.lasts = error.is_some();
    }
}
