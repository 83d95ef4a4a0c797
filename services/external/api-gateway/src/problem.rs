//! RFC 9457 problem documents: what went wrong, and nothing about us.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// `instance` is an opaque id that is also in our log.
pub(crate) fn problem(status: StatusCode, detail: &str, instance: &str) -> Response {
    let document = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": detail,
        "instance": instance,
    });
    let kind = HeaderValue::from_static("application/problem+json");
    (status, [(header::CONTENT_TYPE, kind)], document.to_string()).into_response()
}
