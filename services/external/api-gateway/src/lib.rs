//! The door to the outside: takes webhooks, proves who sent them, and hands them on. No
//! rules and no SQL live here.

mod body;
mod measure;
mod problem;
mod sources;
mod webhooks;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
    serve::ListenerExt,
};
use domain::{clock::Clock, ids::Ids};
use proto::v1::{SourcesRequest, ingest_service_client::IngestServiceClient};
use telemetry::{
    address::{Address, AddressError},
    admin::Readiness,
    identity::{AuthenticatedChannel, Identity},
};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{problem::problem, webhooks::Webhooks};

/// How long the readiness check waits for the control plane.
const READY_WITHIN: Duration = Duration::from_secs(1);
/// Connections open at one time.
const MAX_CONNECTIONS: usize = 512;

type IngestClient = IngestServiceClient<AuthenticatedChannel>;

/// What the gateway needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the control plane is.
    pub control_plane: Address,
    /// Who we are to the control plane.
    pub identity: Arc<Identity>,
    /// Says when a delivery arrived.
    pub clock: Arc<dyn Clock>,
    /// Makes trace ids.
    pub ids: Ids,
}

impl Settings {
    fn ingest(&self) -> Result<IngestClient, AddressError> {
        let channel = telemetry::identity::connect(
            &self.control_plane,
            Arc::clone(&self.identity),
            Arc::clone(&self.clock),
        )?;
        Ok(IngestServiceClient::new(channel)
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES))
    }
}

/// Serves until `shutdown` is cancelled and every request that was taken is answered.
///
/// # Errors
/// When the control plane's address cannot be used, or the listener breaks.
pub async fn run(
    settings: Settings,
    listener: tokio::net::TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let webhooks = Arc::new(Webhooks::new(&settings).context("the address of the control plane")?);
    let address = listener.local_addr().context("the webhook listener")?;
    tracing::info!(%address, "taking webhooks");
    // Answers are small and wanted at once.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    let routes = routes(Arc::clone(&webhooks), &settings.ids);
    tokio::select! {
        () = telemetry::listener::serve(listener, routes, MAX_CONNECTIONS, shutdown) => Ok(()),
        never = webhooks.keep_secrets_fresh() => match never {},
    }
}

/// The routes alone, without the refresh of secrets that [`run`] adds: secrets are then
/// fetched when a delivery asks for them. Must be called inside a tokio runtime.
///
/// # Errors
/// [`AddressError`] when the control plane's address cannot be used.
pub fn router(settings: &Settings) -> Result<Router, AddressError> {
    Ok(routes(Arc::new(Webhooks::new(settings)?), &settings.ids))
}

/// The check for the admin listener. Must be called inside a tokio runtime.
pub fn readiness(settings: &Settings) -> Readiness {
    let client = settings.ingest();
    Arc::new(move || {
        let client = client.clone();
        Box::pin(async move {
            let mut client = match client {
                Ok(client) => client,
                Err(error) => return vec![format!("control plane: {error}")],
            };
            match tokio::time::timeout(READY_WITHIN, client.sources(SourcesRequest {})).await {
                Ok(Ok(_)) => Vec::new(),
                Ok(Err(status))
                    if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) =>
                {
                    vec!["control plane: does not accept this gateway's identity".to_owned()]
                }
                Ok(Err(_)) | Err(_) => vec!["control plane: not reachable".to_owned()],
            }
        })
    })
}

fn routes(webhooks: Arc<Webhooks>, ids: &Ids) -> Router {
    let router = Router::new()
        .route("/webhooks/github", post(webhooks::any_source))
        .route("/webhooks/github/{source}", post(webhooks::named_source))
        .with_state(webhooks);
    with_problems(router, ids)
}

/// What no route answers, and what goes wrong in one, is said as a problem document too.
fn with_problems(router: Router, ids: &Ids) -> Router {
    let (no_path, no_method, panicked) = (ids.clone(), ids.clone(), ids.clone());
    router
        .fallback(move |request: Request| async move {
            tracing::debug!(path = request.uri().path(), "no such path");
            problem(StatusCode::NOT_FOUND, "There is nothing at this path.", &no_path.trace_id())
        })
        .method_not_allowed_fallback(move |method: Method| async move {
            tracing::debug!(%method, "no such method");
            let id = no_method.trace_id();
            let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "This path takes POST only.", &id);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            response
        })
        .layer(CatchPanicLayer::custom(move |_| after_panic(&panicked.trace_id())))
}

fn after_panic(id: &str) -> Response {
    tracing::error!(request = id, "a request ended in a panic; the message is on stderr");
    problem(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Something broke here. The log has more under this instance.",
        id,
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_500_that_tells_nothing() {
        let ids = Ids::seeded(Arc::new(telemetry::clock::SystemClock), 1);
        let routes =
            Router::new().route("/", get(|| async { panic!("the secret is hunter2") as &'static str }));
        let request = Request::get("/").body(Body::empty()).expect("a request");
        let response = with_problems(routes, &ids).oneshot(request).await.expect("infallible");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.expect("a body");
        let text = String::from_utf8(body.to_vec()).expect("text");
        assert!(!text.contains("hunter2") && text.contains("instance"), "{text}");
    }
}
