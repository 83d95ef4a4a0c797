//! The secrets that prove webhooks, as the control plane last told them.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use axum::{body::Bytes, http::HeaderMap};
use domain::names::APP_SOURCE;
use github::webhook::{Secrets, Unverified, VerifiedDelivery, verify};
use proto::v1::{Source, SourcesRequest};
use tokio::time::Instant;
use tonic::Status;

use crate::IngestClient;

const REFRESH_EVERY: Duration = Duration::from_secs(30);
/// While the control plane does not answer.
const RETRY_EVERY: Duration = Duration::from_secs(2);
/// Noise from outside makes us ask this often at most.
const ASK_AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// In the background; a delivery has its own, shorter patience.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Why a delivery is not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is not good, by secrets that are not older than the delivery.
    Unverified(Unverified),
    /// The control plane did not tell the secrets.
    Unknown(Status),
}

/// A delivery and the source that proves it.
#[derive(Debug)]
pub(crate) struct Proven {
    pub(crate) source: String,
    pub(crate) delivery: VerifiedDelivery,
}

/// All sources at one time.
#[derive(Debug)]
struct Snapshot {
    asked_at: Instant,
    sources: HashMap<String, Secrets>,
}

impl Snapshot {
    /// The source a call is for: the one it names; without a name the App's, or the only one
    /// there is.
    fn select(&self, name: Option<&str>) -> Option<(&str, &Secrets)> {
        let found = match name {
            Some(name) => self.sources.get_key_value(name),
            None if self.sources.len() == 1 => self.sources.iter().next(),
            None => self.sources.get_key_value(APP_SOURCE),
        };
        found.map(|(name, secrets)| (name.as_str(), secrets))
    }
}

/// The cache.
#[derive(Debug)]
pub(crate) struct Sources {
    client: IngestClient,
    known: RwLock<Option<Arc<Snapshot>>>,
    /// When we last asked. Held while asking, so that all who wait share one answer.
    asked: tokio::sync::Mutex<Option<Instant>>,
    /// What a call to an unknown source is checked against: it then takes as long as any.
    nobodys: Secrets,
    rotating: Mutex<HashSet<String>>,
}

impl Sources {
    /// Nothing is known yet. `random` is a secret nobody knows.
    pub(crate) fn new(client: IngestClient, random: [u8; 32]) -> Self {
        Self {
            client,
            known: RwLock::default(),
            asked: tokio::sync::Mutex::default(),
            nobodys: Secrets { current: random.to_vec().into(), previous: None },
            rotating: Mutex::default(),
        }
    }

    /// Proves a delivery that arrived at `arrived`. When it cannot be proven with what is
    /// known, the secrets are asked for again first: they may just have been changed.
    pub(crate) async fn prove(
        &self,
        source: Option<&str>,
        headers: &HeaderMap,
        body: Bytes,
        arrived: Instant,
    ) -> Result<Proven, Refusal> {
        let known = match self.known() {
            Some(known) => known,
            None => self.asked_since(None).await.map_err(Refusal::Unknown)?,
        };
        match self.check(&known, source, headers, body.clone()) {
            Ok(proven) => Ok(proven),
            Err(Unverified::BadSignature) if known.asked_at <= arrived => {
                let fresh = self.asked_since(Some(arrived)).await.map_err(Refusal::Unknown)?;
                self.check(&fresh, source, headers, body).map_err(Refusal::Unverified)
            }
            // No other secret would change these.
            Err(refusal) => Err(Refusal::Unverified(refusal)),
        }
    }

    fn check(
        &self,
        snapshot: &Snapshot,
        source: Option<&str>,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Proven, Unverified> {
        let Some((name, secrets)) = snapshot.select(source) else {
            if source.is_none() {
                let sources = snapshot.sources.len();
                tracing::debug!(
                    sources,
                    "use /webhooks/github/{{source}}: the address without a source is the App's, or for exactly one"
                );
            }
            return Err(verify(headers, body, &self.nobodys).err().unwrap_or(Unverified::BadSignature));
        };
        let delivery = verify(headers, body, secrets)?;
        if delivery.used_previous_secret() && self.rotating().insert(name.to_owned()) {
            tracing::warn!(
                source = name,
                "rotation in progress: GitHub still signs with the previous secret; set the current one there"
            );
        }
        Ok(Proven { source: name.to_owned(), delivery })
    }

    /// Keeps the secrets younger than half a minute, for as long as it is polled.
    pub(crate) async fn keep_fresh(&self) -> Infallible {
        let mut answered = true;
        loop {
            let asking = self.asked_since(Some(Instant::now()));
            let answer = tokio::time::timeout(ANSWER_WITHIN, asking).await;
            let trouble = match &answer {
                Ok(Ok(_)) => None,
                Ok(Err(status)) => Some(status.message()),
                Err(_) => Some("no answer in time"),
            };
            match trouble {
                Some(error) if answered => {
                    tracing::warn!(error, "the webhook secrets cannot be fetched; trying on");
                }
                None if !answered => {
                    tracing::info!("the webhook secrets are fetched again");
                }
                Some(_) | None => {}
            }
            answered = trouble.is_none();
            tokio::time::sleep(if answered { REFRESH_EVERY } else { RETRY_EVERY }).await;
        }
    }

    fn known(&self) -> Option<Arc<Snapshot>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The secrets as the control plane told them after `since`; without it, whenever.
    async fn asked_since(&self, since: Option<Instant>) -> Result<Arc<Snapshot>, Status> {
        let mut asked = self.asked.lock().await;
        if let Some(known) = self.known()
            && since.is_none_or(|since| known.asked_at > since)
        {
            return Ok(known);
        }
        if let Some(last) = *asked {
            tokio::time::sleep_until(last + ASK_AT_MOST_EVERY).await;
        }
        let asked_at = Instant::now();
        *asked = Some(asked_at);
        let answer = self.client.clone().sources(SourcesRequest {}).await?.into_inner();
        let sources =
            answer.sources.into_iter().map(|source| (source.name.clone(), secrets(source))).collect();
        let snapshot = Arc::new(Snapshot { asked_at, sources });
        // A source whose rotation is over is warned about again at its next one.
        self.rotating()
            .retain(|name| snapshot.sources.get(name).is_some_and(|secrets| secrets.previous.is_some()));
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    fn rotating(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.rotating.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn secrets(source: Source) -> Secrets {
    let previous = (!source.previous_secret.is_empty()).then(|| source.previous_secret.into());
    Secrets { current: source.current_secret.into(), previous }
}
