//! The gateway against a control plane that the test plays.

#![expect(clippy::unwrap_used, reason = "all of this is tests; clippy knows only functions marked as such")]

mod answers;
mod control_plane;
mod listening;
mod outage;
mod rotation;

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Request, Response, StatusCode},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{clock::Clock, ids::Ids};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use telemetry::identity::{Identity, Subject};
use tower::ServiceExt;

use self::control_plane::ControlPlane;

const SECRET: &str = "first secret";
const ISSUE_LABELED: &[u8] = br#"{"action":"labeled","repository":{"full_name":"octocat/hello-world"}}"#;

#[derive(Debug)]
struct Noon;
impl Clock for Noon {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
    }
}

fn settings(control_plane: &ControlPlane) -> api_gateway::Settings {
    let clock: Arc<dyn Clock> = Arc::new(Noon);
    api_gateway::Settings {
        control_plane: control_plane.address(),
        identity: Arc::new(Identity::generate(Subject::ApiGateway)),
        clock: Arc::clone(&clock),
        ids: Ids::seeded(clock, 7),
    }
}

fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// A delivery as GitHub sends it; `with` replaces a header, or with an empty value leaves it out.
struct Delivery {
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Delivery {
    fn new(guid: &str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let headers = vec![
            ("x-github-event", "issues".to_owned()),
            ("x-github-delivery", guid.to_owned()),
            ("x-hub-signature-256", signature(SECRET, &body)),
            ("content-type", "application/json".to_owned()),
            ("x-github-hook-id", "42".to_owned()),
        ];
        Self { path: "/webhooks/github/hello-world", headers, body }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(n, _)| *n != name);
        if !value.is_empty() {
            self.headers.push((name, value.to_owned()));
        }
        self
    }

    fn signed_with(self, secret: &str) -> Self {
        let signature = signature(secret, &self.body);
        self.with("x-hub-signature-256", &signature)
    }

    fn to(mut self, path: &'static str) -> Self {
        self.path = path;
        self
    }

    fn request(self) -> Request<Body> {
        let request = Request::post(self.path);
        let request =
            self.headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        request.body(Body::from(self.body)).unwrap()
    }
}

/// The routes and the control plane behind them.
struct Gateway {
    control_plane: ControlPlane,
    router: axum::Router,
}

impl Gateway {
    /// With one source, `hello-world`.
    async fn start() -> Self {
        let control_plane = ControlPlane::start().await;
        control_plane.set_source("hello-world", SECRET, None);
        let router = api_gateway::router(&settings(&control_plane)).unwrap();
        Self { control_plane, router }
    }

    async fn send(&self, delivery: Delivery) -> Answer {
        self.send_request(delivery.request()).await
    }

    async fn send_request(&self, request: Request<Body>) -> Answer {
        Answer::read(self.router.clone().oneshot(request).await.unwrap()).await
    }
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    async fn read(response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1_000_000).await.unwrap();
        Self { status: head.status, headers: head.headers, body: serde_json::from_slice(&body).unwrap() }
    }

    /// Checks that this is a problem document with this status, and gives its detail.
    fn problem(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert!(self.body["type"].is_string() && self.body["title"].is_string());
        assert_eq!(self.body["instance"].as_str().map(str::len), Some(32));
        self.body["detail"].as_str().unwrap()
    }
}
