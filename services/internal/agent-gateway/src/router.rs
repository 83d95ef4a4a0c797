//! What is served where, and the one door every request comes through.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::any,
};
use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use proto::v1::{attempt_service_client::AttemptServiceClient, runner_service_server::RunnerServiceServer};
use telemetry::{identity::AuthenticatedChannel, listener::Connection};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    Settings,
    attempts::{Attempts, LiveAttempt},
    git,
    limits::{Connections, Limit, Place},
    model::{self, Backend},
    problem::{Problem, Refusal},
    runner::Runner,
};

/// Requests an attempt may have open at a time, streams included.
const MAX_REQUESTS: usize = 32;
/// Connections an attempt may have open at a time: one for each request, if it likes.
const MAX_CONNECTIONS: usize = MAX_REQUESTS;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) control_plane: AttemptServiceClient<AuthenticatedChannel>,
    pub(crate) model: Option<Arc<Backend>>,
    attempts: Attempts,
    requests: Limit,
    connections: Connections,
    closing: CancellationToken,
}

impl Gateway {
    async fn admit(
        &self,
        headers: &HeaderMap,
        connection: &Connection,
    ) -> Result<(LiveAttempt, Place), Refusal> {
        let attempt = self.attempts.admit(headers).await?;
        if !self.connections.admit(attempt.attempt(), connection) {
            return Err(Refusal::Crowded);
        }
        let place = self.requests.take(attempt.attempt()).ok_or(Refusal::Busy)?;
        Ok((attempt, place))
    }

    /// Resolves when a stream of this attempt must not go on.
    pub(crate) fn cut(&self, attempt: &LiveAttempt) -> BoxFuture<'static, Refusal> {
        let (attempts, closing, attempt) = (self.attempts.clone(), self.closing.clone(), attempt.clone());
        async move {
            tokio::select! {
                refusal = attempts.ended(&attempt) => refusal,
                () = closing.cancelled() => Refusal::Closing,
            }
        }
        .boxed()
    }
}

/// The router; streams are cut when `closing` is cancelled.
pub(crate) fn build(settings: &Settings, closing: CancellationToken) -> anyhow::Result<Router> {
    let channel = crate::channel(settings)?;
    let control_plane = crate::control_plane(channel.clone());
    let gateway = Gateway {
        model: settings.models.first().map(Backend::new).transpose()?.map(Arc::new),
        attempts: Attempts::new(control_plane.clone(), Arc::clone(&settings.clock)),
        control_plane,
        requests: Limit::new(MAX_REQUESTS),
        connections: Connections::new(MAX_CONNECTIONS),
        closing,
    };
    Ok(Router::new()
        .route_service(
            "/callboard.v1.RunnerService/{*method}",
            RunnerServiceServer::new(Runner::new(gateway.clone(), channel)),
        )
        .route("/git/{owner}/{repository}/info/refs", any(git::info_refs))
        .route("/git/{owner}/{repository}/git-upload-pack", any(git::upload_pack))
        .route("/git/{owner}/{repository}/git-receive-pack", any(git::receive_pack))
        .route("/model/openai/v1/{*rest}", any(model::pass))
        .fallback(unknown)
        .layer(from_fn_with_state(gateway.clone(), door))
        .with_state(gateway))
}

/// Lets live attempts in, and counts. The run token ends here: nothing behind this door sees it,
/// so nothing can pass it on or log it. A connection by which no live attempt comes is not kept:
/// others need its place.
async fn door(
    State(gateway): State<Gateway>,
    Extension(connection): Extension<Connection>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = path_label(request.uri().path());
    let response = match gateway.admit(request.headers(), &connection).await {
        Ok((attempt, place)) => {
            request.headers_mut().remove(header::AUTHORIZATION);
            request.extensions_mut().insert(attempt);
            next.run(request.map(plainly_broken)).await.map(|body| holding(place, body))
        }
        Err(refusal) => {
            if refusal.ends_connection() {
                connection.end();
            }
            if is_grpc(request.headers()) { refusal.into_grpc() } else { refusal.into_response() }
        }
    };
    metrics::counter!("callboard_agent_gateway_requests_total", "path" => path, "result" => result_label(&response)).increment(1);
    response
}

/// A body that breaks off does so with an error that says nothing else: tonic takes the one for
/// a cancelled stream for a regular end.
fn plainly_broken(body: Body) -> Body {
    Body::new(body.map_err(|_| std::io::Error::other("the request broke off")))
}

/// A body that takes its place until it is sent or given up.
fn holding(place: Place, body: Body) -> Body {
    Body::new(body.map_err(move |error| {
        let _held = &place;
        error
    }))
}

async fn unknown(headers: HeaderMap) -> Response {
    if is_grpc(&headers) {
        return Status::unimplemented("the agent gateway has no such service").into_http();
    }
    Problem::new(StatusCode::NOT_FOUND, "the agent gateway serves nothing here").into_response()
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// A fixed set, so that nobody can grow the metrics.
fn path_label(path: &str) -> &'static str {
    const LABELS: [(&str, &str); 3] =
        [("/callboard.v1.RunnerService/", "runner"), ("/git/", "git"), ("/model/", "model")];
    LABELS.iter().find(|(prefix, _)| path.starts_with(prefix)).map_or("other", |(_, label)| label)
}

fn result_label(response: &Response) -> &'static str {
    // A gRPC call that failed before its answer began says so in a header.
    if let Some(status) = Status::from_header_map(response.headers()) {
        return match status.code() {
            tonic::Code::Ok => "ok",
            tonic::Code::Unauthenticated => "unauthenticated",
            tonic::Code::Unavailable | tonic::Code::Internal | tonic::Code::Unknown => "failed",
            tonic::Code::Cancelled
            | tonic::Code::InvalidArgument
            | tonic::Code::DeadlineExceeded
            | tonic::Code::NotFound
            | tonic::Code::AlreadyExists
            | tonic::Code::PermissionDenied
            | tonic::Code::ResourceExhausted
            | tonic::Code::FailedPrecondition
            | tonic::Code::Aborted
            | tonic::Code::OutOfRange
            | tonic::Code::Unimplemented
            | tonic::Code::DataLoss => "refused",
        };
    }
    let status = response.status();
    if status == StatusCode::UNAUTHORIZED {
        "unauthenticated"
    } else if status.is_server_error() {
        "failed"
    } else if status.is_client_error() {
        "refused"
    } else {
        "ok"
    }
}
