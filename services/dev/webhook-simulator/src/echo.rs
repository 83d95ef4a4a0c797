//! A server that repeats what it was sent: with every refusal the caller's own credential. Not
//! GitHub's way, but some proxy's between us and it.

use std::sync::atomic::Ordering;

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::header;
use serde_json::Value;

use crate::{Simulator, exchange::AsScripted};

impl Simulator {
    /// From now on every refusal has the request's `Authorization` in its words.
    pub fn repeat_credentials(&self) {
        self.repeats_credentials().store(true, Ordering::Relaxed);
    }
}

pub(crate) async fn repeat(State(simulator): State<Simulator>, request: Request, next: Next) -> Response {
    let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let sent = sent.filter(|_| simulator.repeats_credentials().load(Ordering::Relaxed)).map(str::to_owned);
    let response = next.run(request).await;
    let refused = response.status().is_client_error() || response.status().is_server_error();
    let Some(sent) = sent.filter(|_| refused) else { return response };
    let (mut parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let Ok(mut value) = serde_json::from_slice::<Value>(&bytes) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    value["message"] = format!("{}, and you said {sent}", value["message"]).into();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.extensions.insert(AsScripted);
    (parts, value.to_string()).into_response()
}
