//! What has not changed since it was read is not sent again.

use axum::{
    body::Body,
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Method, StatusCode, header};
use sha2::{Digest, Sha256};

use crate::refusal::Refusal;

/// Puts a tag on what was read; answers 304 and nothing when the client knows it. As on GitHub
/// the tag is another one for another token.
pub(crate) async fn pass(request: Request, next: Next) -> Response {
    if request.method() != Method::GET {
        return next.run(request).await;
    }
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let credential = request.headers().get(header::AUTHORIZATION).cloned();
    let response = next.run(request).await;
    if response.status() != StatusCode::OK {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = match axum::body::to_bytes(body, usize::MAX).await {
        Ok(bytes) => bytes,
        Err(error) => return Refusal::from(anyhow::Error::from(error)).into_response(),
    };
    let credential = credential.as_ref().map(HeaderValue::as_bytes).unwrap_or_default();
    let digest = Sha256::new().chain_update(&bytes).chain_update(credential).finalize();
    let tag = format!("\"{}\"", hex::encode(digest));
    let names_it = |known: &HeaderValue| {
        let tags = known.to_str().unwrap_or_default().split(',').map(str::trim);
        tags.map(|t| t.strip_prefix("W/").unwrap_or(t)).any(|t| t == tag || t == "*")
    };
    let same = known.as_ref().is_some_and(names_it);
    if let Ok(value) = HeaderValue::from_str(&tag) {
        parts.headers.insert(header::ETAG, value);
    }
    parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=60, s-maxage=60"));
    if !same {
        return Response::from_parts(parts, Body::from(bytes));
    }
    parts.status = StatusCode::NOT_MODIFIED;
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::CONTENT_TYPE);
    Response::from_parts(parts, Body::empty())
}
