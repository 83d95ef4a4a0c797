//! `POST /webhooks/github[/{source}]`: from a call to a stored delivery, or a refusal.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{clock::Clock, ids::Ids};
use github::webhook::VerifiedDelivery;
use proto::v1::{StoreDeliveryRequest, StoreDeliveryResponse};
use telemetry::address::AddressError;
use tokio::time::Instant;
use tonic::Status;

use crate::{
    IngestClient, Settings,
    body::{HeldBody, Room, Unread},
    measure::{self, Outcome},
    problem::problem,
    sources::{Proven, Refusal, Sources},
};

/// GitHub is promised an answer within 2 s of the body's last byte; this leaves time to send it.
const ANSWER_WITHIN: Duration = Duration::from_millis(1800);
/// Seconds, for whoever repeats a call that could not be stored.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("10");

/// What the two handlers share.
#[derive(Debug)]
pub(crate) struct Webhooks {
    sources: Sources,
    ingest: IngestClient,
    room: Room,
    clock: Arc<dyn Clock>,
    ids: Ids,
}

/// `POST /webhooks/github`
pub(crate) async fn any_source(State(webhooks): State<Arc<Webhooks>>, request: Request) -> Response {
    webhooks.receive(None, request).await
}

/// `POST /webhooks/github/{source}`
pub(crate) async fn named_source(
    State(webhooks): State<Arc<Webhooks>>,
    source: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    // A name that does not decode is nobody's, and is answered like any such name.
    let source = source.map_or_else(|_| String::new(), |Path(name)| name);
    webhooks.receive(Some(&source), request).await
}

/// A delivery that is safe with the control plane.
struct Stored {
    event: String,
    response: StoreDeliveryResponse,
}

/// Why there is none.
enum NotStored {
    Unread(Unread),
    Refused(Refusal),
    /// The control plane did not take it.
    Failed(Status),
    /// It did not answer in time; it may have been stored.
    NoAnswer,
}

impl Webhooks {
    pub(crate) fn new(settings: &Settings) -> Result<Self, AddressError> {
        let ingest = settings.ingest()?;
        Ok(Self {
            sources: Sources::new(ingest.clone(), settings.ids.bytes()),
            ingest,
            room: Room::default(),
            clock: Arc::clone(&settings.clock),
            ids: settings.ids.clone(),
        })
    }

    pub(crate) async fn keep_secrets_fresh(&self) -> Infallible {
        self.sources.keep_fresh().await
    }

    async fn receive(&self, source: Option<&str>, request: Request) -> Response {
        let trace_id = self.ids.trace_id();
        let (head, body) = request.into_parts();
        let event = measure::event_label(&head.headers);
        match self.take(source, &head.headers, body, &trace_id).await {
            Ok(stored) => {
                let duplicate = stored.response.duplicate;
                measure::delivery(event, if duplicate { Outcome::Duplicate } else { Outcome::Accepted });
                let status =
                    if duplicate || stored.event == "ping" { StatusCode::OK } else { StatusCode::ACCEPTED };
                let id = stored.response.delivery_id;
                (status, Json(serde_json::json!({ "delivery_id": id, "duplicate": duplicate })))
                    .into_response()
            }
            Err(not_stored) => {
                measure::delivery(event, not_stored.outcome());
                not_stored.log(source, &trace_id);
                not_stored.response(&trace_id)
            }
        }
    }

    async fn take(
        &self,
        source: Option<&str>,
        headers: &HeaderMap,
        body: Body,
        trace_id: &str,
    ) -> Result<Stored, NotStored> {
        let HeldBody { bytes, room } = self.room.read(headers, body).await.map_err(NotStored::Unread)?;
        let (arrived, received_at_us) = (Instant::now(), self.clock.now().timestamp_micros());
        let storing = async {
            let proven =
                self.sources.prove(source, headers, bytes, arrived).await.map_err(NotStored::Refused)?;
            self.store(proven, received_at_us, trace_id, arrived).await
        };
        let stored = tokio::time::timeout_at(arrived + ANSWER_WITHIN, storing)
            .await
            .unwrap_or(Err(NotStored::NoAnswer));
        measure::acknowledged(arrived.elapsed());
        drop(room);
        stored
    }

    /// Only what was verified can be stored: there is no other way to make a [`Proven`].
    async fn store(
        &self,
        proven: Proven,
        received_at_us: i64,
        trace_id: &str,
        arrived: Instant,
    ) -> Result<Stored, NotStored> {
        let Proven { source, delivery } = proven;
        let (event, guid) = (delivery.event().to_owned(), delivery.guid().to_owned());
        let request = request(source, delivery, received_at_us, trace_id);
        let response =
            self.ingest.clone().store_delivery(request).await.map_err(NotStored::Failed)?.into_inner();
        tracing::info!(
            event,
            guid,
            delivery_id = response.delivery_id,
            duplicate = response.duplicate,
            trace_id,
            duration_ms = u64::try_from(arrived.elapsed().as_millis()).unwrap_or(u64::MAX),
            "stored a delivery"
        );
        Ok(Stored { event, response })
    }
}

fn request(
    source: String,
    delivery: VerifiedDelivery,
    received_at_us: i64,
    trace_id: &str,
) -> StoreDeliveryRequest {
    let mut headers: std::collections::HashMap<String, String> =
        delivery.kept_headers().iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    if delivery.used_previous_secret() {
        headers.insert(proto::SIGNED_WITH.to_owned(), proto::PREVIOUS_SECRET.to_owned());
    }
    StoreDeliveryRequest {
        source,
        guid: delivery.guid().to_owned(),
        event: delivery.event().to_owned(),
        headers,
        body: delivery.into_body(),
        received_at_us,
        trace_id: trace_id.to_owned(),
    }
}

impl NotStored {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Unread(Unread::TooLarge) => Outcome::TooLarge,
            Self::Unread(Unread::TooSlow | Unread::BrokenOff) => Outcome::Malformed,
            Self::Refused(Refusal::Unverified(why)) if why.is_unauthenticated() => Outcome::Unauthorized,
            Self::Refused(Refusal::Unverified(_)) => Outcome::Malformed,
            Self::Unread(Unread::Busy)
            | Self::Refused(Refusal::Unknown(_))
            | Self::Failed(_)
            | Self::NoAnswer => Outcome::Unavailable,
        }
    }

    fn log(&self, source: Option<&str>, trace_id: &str) {
        let put_off = |why: &str| tracing::warn!(source, trace_id, why, "a delivery could not be stored");
        match self {
            Self::Unread(Unread::Busy) => put_off("too many bodies at once"),
            Self::Refused(Refusal::Unknown(status)) => {
                put_off(&format!("the secrets are not known: {}", status.message()));
            }
            Self::Failed(status) => put_off(&format!("{:?}: {}", status.code(), status.message())),
            Self::NoAnswer => put_off("the control plane did not answer in time"),
            Self::Unread(why @ (Unread::TooLarge | Unread::TooSlow | Unread::BrokenOff)) => {
                tracing::debug!(source, trace_id, ?why, "a body was not read");
            }
            Self::Refused(Refusal::Unverified(why)) if why.is_unauthenticated() => {
                tracing::debug!(source, trace_id, %why, "a delivery is not proven");
            }
            // The sender is known: somebody has set the webhook up wrongly.
            Self::Refused(Refusal::Unverified(why)) => {
                tracing::info!(source, trace_id, %why, "a delivery does not read");
            }
        }
    }

    fn response(&self, trace_id: &str) -> Response {
        match self {
            Self::Unread(Unread::TooLarge) => {
                problem(StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than 26214400 bytes.", trace_id)
            }
            Self::Unread(Unread::TooSlow) => {
                problem(StatusCode::REQUEST_TIMEOUT, "The body did not arrive within 10 s.", trace_id)
            }
            Self::Unread(Unread::BrokenOff) => {
                problem(StatusCode::BAD_REQUEST, "The body broke off.", trace_id)
            }
            // One text for a wrong signature and for a source that does not exist.
            Self::Refused(Refusal::Unverified(why)) if why.is_unauthenticated() => problem(
                StatusCode::UNAUTHORIZED,
                "The signature does not match. Check the webhook's secret and its address.",
                trace_id,
            ),
            Self::Refused(Refusal::Unverified(why)) => {
                problem(StatusCode::BAD_REQUEST, &format!("The delivery is signed, but {why}."), trace_id)
            }
            Self::Unread(Unread::Busy)
            | Self::Refused(Refusal::Unknown(_))
            | Self::Failed(_)
            | Self::NoAnswer => {
                let detail = "The delivery could not be stored now. Send it again later.";
                let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, detail, trace_id);
                response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
                response
            }
        }
    }
}
