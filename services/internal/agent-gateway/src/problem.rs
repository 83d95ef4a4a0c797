//! Answers that say no: problem documents over HTTP, statuses over gRPC.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;
use tonic::{Code, Status};

/// An RFC 9457 problem document.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    detail: Cow<'static, str>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank", "title": self.status.canonical_reason(),
            "status": self.status.as_u16(), "detail": self.detail,
        });
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
    }
}

/// Why a request is not, or no longer, served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no run token: send it as `Authorization: Bearer <run token>`")]
    NoToken,
    #[error("the run token is not valid")]
    Invalid,
    #[error("the run token has expired")]
    Expired,
    #[error("the attempt has ended")]
    Ended,
    #[error("the attempt has too many requests open; wait until one has ended")]
    Busy,
    #[error("the attempt has too many connections open; use those, or close some")]
    Crowded,
    #[error("the control plane cannot be reached; try again")]
    Unavailable,
    #[error("the agent gateway is shutting down; try again")]
    Closing,
}

impl Refusal {
    fn status(self) -> (StatusCode, Code) {
        match self {
            Self::NoToken | Self::Invalid | Self::Expired | Self::Ended => {
                (StatusCode::UNAUTHORIZED, Code::Unauthenticated)
            }
            Self::Busy | Self::Crowded => (StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted),
            Self::Unavailable | Self::Closing => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
        }
    }

    /// True when the connection is not worth its place: it was not proven that a live attempt
    /// comes by it, or it is one too many.
    pub(crate) fn ends_connection(self) -> bool {
        match self {
            Self::NoToken
            | Self::Invalid
            | Self::Expired
            | Self::Ended
            | Self::Crowded
            | Self::Unavailable => true,
            Self::Busy | Self::Closing => false,
        }
    }

    /// The answer over gRPC.
    pub(crate) fn into_grpc(self) -> Response {
        Status::from(self).into_http()
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.status().1, refusal.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.status().0, refusal.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Problem::from(self).into_response();
        let extra: &[(HeaderName, &str)] = if self.status().0 != StatusCode::UNAUTHORIZED {
            &[(header::RETRY_AFTER, "1")]
        } else {
            // git sends what it has only after a challenge for Basic.
            &[
                (header::WWW_AUTHENTICATE, "Bearer realm=\"callboard\""),
                (header::WWW_AUTHENTICATE, "Basic realm=\"callboard\""),
            ]
        };
        for (name, value) in extra {
            response.headers_mut().append(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// The control plane's answer for a runner: what it said, but not what went wrong between the
/// two of us.
pub(crate) fn from_control_plane(status: &Status) -> Status {
    let between_us = matches!(
        status.code(),
        Code::Unavailable | Code::Unauthenticated | Code::Cancelled | Code::DeadlineExceeded
    );
    if between_us {
        tracing::warn!(code = ?status.code(), reason = status.message(), "the control plane did not answer a runner");
        return Status::unavailable(Refusal::Unavailable.to_string());
    }
    Status::new(status.code(), status.message())
}
