//! Answers that are wrong: GitHub's words and headers for each refusal, and bodies that do not
//! come as they should.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use chrono::TimeDelta;
use futures::{StreamExt, stream};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

use super::{Fault, lag};
use crate::{Simulator, refusal::Refusal, world::World};

/// Pieces of an answer that trickles.
const PIECES: usize = 8;

const UNICORN: &str = "<!DOCTYPE html>\n<html><body><h1>Whoa there!</h1><p>This page is taking too long to load. \
    Sorry about that. Please try refreshing.</p></body></html>\n";

/// The answer to a request that goes wrong.
pub(super) async fn wrong(
    simulator: &Simulator,
    fault: Fault,
    template: &str,
    request: Request,
    next: Next,
) -> Response {
    match fault {
        Fault::Refuse(status) => refusal(status, template),
        Fault::SecondaryLimit(seconds) => {
            let words =
                "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
            with(Refusal::forbidden(words).into_response(), vec![("retry-after", seconds)])
        }
        Fault::PrimaryLimit(seconds) => spent(simulator, StatusCode::FORBIDDEN, seconds),
        Fault::TooMany(seconds) => spent(simulator, StatusCode::TOO_MANY_REQUESTS, seconds),
        Fault::AlreadyExists => exists(template).into_response(),
        Fault::Invalid => Refusal::invalid(resource(template), "body", "invalid").into_response(),
        Fault::NotFastForward => Refusal::unprocessable("Update is not a fast forward").into_response(),
        Fault::PermissionTaken => refusal(403, template),
        Fault::TokenExpires => {
            simulator.expire_tokens();
            refusal(401, template)
        }
        Fault::LoseAnswer => {
            drop(next.run(request).await);
            cut(Vec::new())
        }
        Fault::AppliedThen(status) => {
            drop(next.run(request).await);
            refusal(status, template)
        }
        Fault::Slow(ms) => {
            let response = next.run(request).await;
            tokio::time::sleep(Duration::from_millis(ms)).await;
            response
        }
        Fault::Trickle(ms) => trickle(next.run(request).await, Duration::from_millis(ms)).await,
        Fault::CutBody => {
            let whole = whole(next.run(request).await).await.1;
            cut(vec![whole.slice(..whole.len() / 2)])
        }
        Fault::NotJson => {
            let status = next.run(request).await.status();
            (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], UNICORN).into_response()
        }
        Fault::ListLag(ms) => lag::behind(simulator, template, next.run(request).await, ms).await,
    }
}

/// What GitHub says with a status.
fn refusal(status: u16, template: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let git = template.contains("/git/");
    let words = match status.as_u16() {
        // The proxy in front of everything speaks for people.
        502..=504 => {
            return (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], UNICORN).into_response();
        }
        401 => "Bad credentials",
        403 => "Resource not accessible by integration",
        404 => "Not Found",
        409 if git => "Git Repository is empty.",
        409 => "Conflict",
        410 if template.contains("/issues/") => "This issue was deleted",
        422 => return Refusal::invalid(resource(template), "body", "invalid").into_response(),
        429 => "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
        500 => "Server Error",
        _ => status.canonical_reason().unwrap_or("Scripted by a test"),
    };
    Refusal::new(status, words).into_response()
}

/// Nothing is left of the hour.
fn spent(simulator: &Simulator, status: StatusCode, seconds: u64) -> Response {
    let seconds = i64::try_from(seconds).unwrap_or(3600);
    let reset = simulator.read(World::now) + TimeDelta::seconds(seconds);
    let reset = u64::try_from(reset.timestamp()).unwrap_or_default();
    let refusal = Refusal::new(status, "API rate limit exceeded for user ID 1001.");
    with(refusal.into_response(), vec![("x-ratelimit-remaining", 0), ("x-ratelimit-reset", reset)])
}

/// There is one already, in the words of each kind.
fn exists(template: &str) -> Refusal {
    if template.contains("/git/refs") {
        Refusal::unprocessable("Reference already exists")
    } else if template.ends_with("/pulls") {
        Refusal::custom("PullRequest", "A pull request already exists for octocat:callboard.")
    } else {
        Refusal::validation(json!({
            "resource": resource(template), "field": "name", "code": "already_exists",
        }))
    }
}

fn resource(template: &str) -> &'static str {
    let has = |part: &str| template.split('/').any(|p| p == part);
    if has("reviews") {
        "PullRequestReview"
    } else if has("pulls") {
        "PullRequest"
    } else if has("reactions") {
        "Reaction"
    } else if has("labels") {
        "Label"
    } else if has("comments") {
        "IssueComment"
    } else if has("commits") {
        "Commit"
    } else {
        "Issue"
    }
}

/// Headers that stand whatever the server puts on an answer afterwards.
#[derive(Clone)]
struct LastWord(Vec<(&'static str, u64)>);

fn with(mut response: Response, headers: Vec<(&'static str, u64)>) -> Response {
    response.extensions_mut().insert(LastWord(headers));
    response
}

/// Puts the headers of a fault over those of the server.
pub(crate) fn last_word(response: &mut Response) {
    let said = response.extensions_mut().remove::<LastWord>();
    for (name, value) in said.map(|said| said.0).unwrap_or_default() {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
}

/// Head and body of an answer; the length is not among the headers any more.
pub(super) async fn whole(response: Response) -> (http::response::Parts, Bytes) {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    // Our own handlers' bodies are in memory and do not fail.
    (parts, axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default())
}

/// An answer that breaks off: the server gives the connection up after these pieces.
fn cut(pieces: Vec<Bytes>) -> Response {
    let end = stream::once(async { Err(std::io::Error::other("cut, as a script says")) });
    Response::new(Body::from_stream(stream::iter(pieces.into_iter().map(Ok)).chain(end)))
}

async fn trickle(response: Response, pause: Duration) -> Response {
    let (parts, body) = whole(response).await;
    let length = body.len().div_ceil(PIECES).max(1);
    let pieces: Vec<Bytes> =
        (0..body.len()).step_by(length).map(|at| body.slice(at..body.len().min(at + length))).collect();
    let slowly = stream::iter(pieces).then(move |piece| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, std::io::Error>(piece)
    });
    Response::from_parts(parts, Body::from_stream(slowly))
}
