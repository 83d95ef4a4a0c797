//! Requests and answers in whole, for tests that hold them against GitHub's own description of
//! its API. Nothing is kept until a test asks for it.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    body::{Body, Bytes},
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Simulator;

/// The largest body that is read into a record; GitHub's longest lists stay below it.
const LARGEST: usize = 4 * 1024 * 1024;
/// A record ends here, so that half an hour of histories does not fill the memory.
const MOST: usize = 20_000;

/// One request to the API and its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exchange {
    /// `GET`, …
    pub method: String,
    /// The path with names for its parts, as [`crate::LoggedRequest::template`] has it.
    pub template: String,
    /// The path, below `/api/v3`.
    pub path: String,
    /// Names and values.
    pub query: Vec<(String, String)>,
    /// With what the request was signed.
    pub asker: Asker,
    /// The request's body.
    pub request: Content,
    /// Status of the answer.
    pub status: u16,
    /// The answer's body.
    pub answer: Content,
    /// True when a test had this request go wrong: then the answer is the test's.
    pub is_scripted: bool,
}

/// Whose credential a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asker {
    /// None.
    Nobody,
    /// A person's token.
    Person,
    /// An installation's token.
    Installation,
    /// An App's own signature.
    App,
}

/// A body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Nothing.
    Empty,
    /// JSON.
    Json(Value),
    /// Something else: its media type.
    Other(String),
    /// Larger than a record takes.
    TooLarge,
}

/// On an answer: a test had it go wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AsScripted;

/// What was recorded so far.
#[derive(Debug, Default)]
pub(crate) struct Record {
    is_on: AtomicBool,
    exchanges: Mutex<Vec<Exchange>>,
}

impl Record {
    fn add(&self, exchange: Exchange) {
        let mut exchanges = self.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
        if exchanges.len() < MOST {
            exchanges.push(exchange);
        }
    }
}

impl Simulator {
    /// From now on requests to the API are kept in whole.
    pub fn record(&self) {
        self.recorded().is_on.store(true, Ordering::Relaxed);
    }

    /// What was kept since [`Self::record`] and not taken yet, oldest first.
    pub fn take_exchanges(&self) -> Vec<Exchange> {
        std::mem::take(&mut *self.recorded().exchanges.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Outside of everything else that a request passes.
pub(crate) async fn keep(State(simulator): State<Simulator>, request: Request, next: Next) -> Response {
    let path = request.uri().path().strip_prefix("/api/v3").map(str::to_owned);
    let Some(path) = path.filter(|_| simulator.recorded().is_on.load(Ordering::Relaxed)) else {
        return next.run(request).await;
    };
    let template = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str);
    let template = template.strip_prefix("/api/v3").unwrap_or(template).trim_end_matches('/').to_owned();
    let method = request.method().to_string();
    let query = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
    let query = query.into_owned().collect();
    let asker = asker(request.headers());

    let (parts, body) = request.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        // The caller is gone; there is nobody to answer.
        return Response::new(Body::empty());
    };
    let asked = content(&parts.headers, &bytes);
    let response = next.run(Request::from_parts(parts, Body::from(bytes))).await;

    let status = response.status().as_u16();
    let is_scripted = response.extensions().get::<AsScripted>().is_some();
    let (answer, response) = if is_scripted {
        // It may be slow, or break off: that is for the caller alone.
        (Content::Empty, response)
    } else {
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
        (content(&parts.headers, &bytes), Response::from_parts(parts, Body::from(bytes)))
    };
    simulator.recorded().add(Exchange {
        method,
        template,
        path,
        query,
        asker,
        request: asked,
        status,
        answer,
        is_scripted,
    });
    response
}

/// Tokens of installations and signatures of Apps look different from people's tokens.
fn asker(headers: &HeaderMap) -> Asker {
    let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return Asker::Nobody;
    };
    let token = value.split_once(' ').map_or(value, |(_, token)| token);
    if token.starts_with("ghs_") {
        Asker::Installation
    } else if token.split('.').count() == 3 {
        Asker::App
    } else {
        Asker::Person
    }
}

fn content(headers: &HeaderMap, bytes: &Bytes) -> Content {
    if bytes.is_empty() {
        return Content::Empty;
    }
    if bytes.len() > LARGEST {
        return Content::TooLarge;
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind != "application/json" {
        return Content::Other(kind.to_owned());
    }
    serde_json::from_slice(bytes).map_or_else(|_| Content::Other(kind.to_owned()), Content::Json)
}
