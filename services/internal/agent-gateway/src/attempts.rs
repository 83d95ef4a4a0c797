//! Who is asking: from a run token to the proof that its attempt is live.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::extract::FromRequestParts;
use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    clock::Clock,
    ids::{AttemptId, RunId},
    names::RepositoryName,
};
use http::{HeaderMap, header, request};
use proto::v1::{AttemptRef, AuthorizeRequest, KeysRequest, attempt_service_client::AttemptServiceClient};
use secrecy::{ExposeSecret, SecretString};
use telemetry::{
    identity::AuthenticatedChannel,
    signing::{Claims, TokenError, VerifyingKey, verify},
};
use tokio::time::Instant;
use tonic::Code;

use crate::problem::Refusal;

/// Audience of run tokens.
const AUDIENCE: &str = "agent-gateway";
/// How long "this attempt is live" is believed, and how long to wait before asking for keys again.
const BELIEVED: Duration = Duration::from_secs(1);
/// How often a stream looks whether its attempt is still live.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// How long the control plane may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Proof that a request carried the run token of an attempt that is live. Only
/// [`Attempts::admit`] makes one.
#[derive(Clone, Debug)]
pub(crate) struct LiveAttempt {
    grant: Arc<Grant>,
    /// Unix seconds.
    expires: i64,
}

/// What the control plane said about a live attempt.
#[derive(Debug)]
struct Grant {
    attempt: AttemptId,
    run: RunId,
    repository: RepositoryName,
    trace_id: String,
}

impl LiveAttempt {
    /// The attempt, as the control plane takes it.
    pub(crate) fn reference(&self) -> AttemptRef {
        AttemptRef { attempt_id: self.attempt().to_string(), run_id: self.run().to_string() }
    }
    /// The attempt.
    pub(crate) fn attempt(&self) -> AttemptId {
        self.grant.attempt
    }
    /// Its run.
    pub(crate) fn run(&self) -> RunId {
        self.grant.run
    }
    /// The one repository it may read.
    pub(crate) fn repository(&self) -> &RepositoryName {
        &self.grant.repository
    }
    /// Ties its log lines to the delivery that started the run.
    pub(crate) fn trace_id(&self) -> &str {
        &self.grant.trace_id
    }
}

impl<S: Sync> FromRequestParts<S> for LiveAttempt {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Refusal> {
        parts.extensions.get::<Self>().cloned().ok_or(Refusal::NoToken)
    }
}

/// Checks run tokens.
#[derive(Clone)]
pub(crate) struct Attempts {
    control_plane: AttemptServiceClient<AuthenticatedChannel>,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
}

/// When the control plane was asked, and what it said.
type RecentlyLive = HashMap<(AttemptId, RunId), (Instant, Arc<Grant>)>;

#[derive(Default)]
struct Shared {
    keys: Mutex<Vec<VerifyingKey>>,
    /// When keys were last asked for, and whether they came. Held while asking, so that a flood
    /// of bad tokens asks once.
    asked: tokio::sync::Mutex<Option<(Instant, bool)>>,
    /// Attempts that were live a moment ago. Real time, not the injected clock: this bounds how
    /// long an ended attempt goes on, in a test with a standing clock too.
    recent: Mutex<RecentlyLive>,
}

impl Attempts {
    pub(crate) fn new(
        control_plane: AttemptServiceClient<AuthenticatedChannel>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { control_plane, clock, shared: Arc::default() }
    }

    /// The attempt a request comes from.
    ///
    /// # Errors
    /// [`Refusal`], which never says more than the caller may know.
    pub(crate) async fn admit(&self, headers: &HeaderMap) -> Result<LiveAttempt, Refusal> {
        let token = run_token(headers).ok_or(Refusal::NoToken)?;
        let claims = self.claims(token.expose_secret()).await?;
        let attempt = claims.sub.parse().map_err(|_| Refusal::Invalid)?;
        let run = claims.run.and_then(|run| run.parse().ok()).ok_or(Refusal::Invalid)?;
        Ok(LiveAttempt { grant: self.authorize(attempt, run).await?, expires: claims.exp })
    }

    /// Returns when the attempt is over, and says why. An outage of the control plane does not
    /// end a stream: it was allowed, and its token's expiry bounds it.
    pub(crate) async fn ended(&self, attempt: &LiveAttempt) -> Refusal {
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            if self.clock.now().timestamp() >= attempt.expires {
                return Refusal::Expired;
            }
            if let Err(Refusal::Ended) = self.authorize(attempt.attempt(), attempt.run()).await {
                return Refusal::Ended;
            }
        }
    }

    async fn claims(&self, token: &str) -> Result<Claims, Refusal> {
        match self.check_signature(token) {
            Err(TokenError::Invalid) => {}
            Err(TokenError::Expired) => return Err(Refusal::Expired),
            Ok(claims) => return Ok(claims),
        }
        // Perhaps the key is newer than ours.
        self.refresh_keys().await?;
        self.check_signature(token).map_err(|error| match error {
            TokenError::Invalid => Refusal::Invalid,
            TokenError::Expired => Refusal::Expired,
        })
    }

    fn check_signature(&self, token: &str) -> Result<Claims, TokenError> {
        let keys = self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = self.clock.now();
        keys.iter()
            .map(|key| verify(token, key, AUDIENCE, now))
            .find(|checked| *checked != Err(TokenError::Invalid))
            .unwrap_or(Err(TokenError::Invalid))
    }

    async fn refresh_keys(&self) -> Result<(), Refusal> {
        let mut asked = self.shared.asked.lock().await;
        let came = match *asked {
            Some((at, came)) if at.elapsed() < BELIEVED => came,
            _ => {
                let mut request = tonic::Request::new(KeysRequest {});
                request.set_timeout(PATIENCE);
                let answer = self.control_plane.clone().keys(request).await;
                let came = match answer {
                    Ok(answer) => {
                        let keys =
                            answer.get_ref().ed25519.iter().filter_map(|key| VerifyingKey::from_bytes(key));
                        *self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys.collect();
                        true
                    }
                    Err(status) => {
                        tracing::warn!(code = ?status.code(), reason = status.message(), "no keys for run tokens from the control plane");
                        false
                    }
                };
                *asked = Some((Instant::now(), came));
                came
            }
        };
        if came { Ok(()) } else { Err(Refusal::Unavailable) }
    }

    async fn authorize(&self, attempt: AttemptId, run: RunId) -> Result<Arc<Grant>, Refusal> {
        let recent = |now: Instant| {
            let mut recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
            recent.retain(|_, (at, _)| now.duration_since(*at) < BELIEVED);
            recent.get(&(attempt, run)).map(|(_, grant)| Arc::clone(grant))
        };
        let asked_at = Instant::now();
        if let Some(grant) = recent(asked_at) {
            return Ok(grant);
        }
        let reference = AttemptRef { attempt_id: attempt.to_string(), run_id: run.to_string() };
        let mut request = tonic::Request::new(AuthorizeRequest { attempt: Some(reference) });
        request.set_timeout(PATIENCE);
        let answer = match self.control_plane.clone().authorize(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::NotFound => return Err(Refusal::Ended),
            Err(status) => {
                tracing::warn!(run_id = %run, attempt_id = %attempt, code = ?status.code(), reason = status.message(), "no word from the control plane about an attempt");
                return Err(Refusal::Unavailable);
            }
        };
        if !answer.live {
            return Err(Refusal::Ended);
        }
        let repository = answer.repository.parse().map_err(|error| {
            tracing::error!(run_id = %run, attempt_id = %attempt, %error, "the control plane names no repository");
            Refusal::Unavailable
        })?;
        let grant = Arc::new(Grant { attempt, run, repository, trace_id: answer.trace_id });
        let kept = (asked_at, Arc::clone(&grant));
        self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner).insert((attempt, run), kept);
        Ok(grant)
    }
}

/// The token of a request: the bearer, or the password of Basic, which git prefers.
fn run_token(headers: &HeaderMap) -> Option<SecretString> {
    let (scheme, credentials) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let credentials = credentials.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(credentials.into());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_of(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().expect("a header value"));
        run_token(&headers).map(|token| token.expose_secret().to_owned())
    }

    #[test]
    fn finds_the_token_in_bearer_and_basic() {
        assert_eq!(token_of("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token_of("bearer  abc ").as_deref(), Some("abc"));
        assert_eq!(token_of("Basic eDphYmM=").as_deref(), Some("abc"));
        for other in ["abc", "Digest abc", "Basic ???", "Basic YWJj"] {
            assert_eq!(token_of(other), None, "{other}");
        }
    }
}
