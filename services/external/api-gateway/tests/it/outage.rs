//! When the control plane cannot take a delivery, GitHub is told so at once.

use std::{convert::Infallible, time::Duration};

use axum::{body::Body, http::Request};
use futures::stream;
use tokio::time::Instant;

use super::*;
use crate::control_plane::Behaviour;

/// Checks the documented answer, and that it gives nothing away.
fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.problem(503), "The delivery could not be stored now. Send it again later.");
    assert_eq!(answer.headers["retry-after"], "10");
    assert!(!answer.body.to_string().contains("hunter2"));
}

#[tokio::test]
async fn a_store_that_fails_is_503_and_the_delivery_can_come_again() {
    let gateway = Gateway::start().await;
    let delivery = || Delivery::new("guid-1", ISSUE_LABELED);
    gateway.control_plane.behave(Behaviour::Fails);
    assert_unavailable(&gateway.send(delivery()).await);
    gateway.control_plane.behave(Behaviour::Works);
    assert_eq!(gateway.send(delivery()).await.status, 202);
    gateway.control_plane.behave(Behaviour::Fails);
    assert_unavailable(&gateway.send(delivery()).await);
}

#[tokio::test]
async fn a_control_plane_that_is_not_there_is_503() {
    let control_plane = ControlPlane::start().await;
    let mut settings = settings(&control_plane);
    settings.control_plane = "unix:/nowhere/at/all.sock".parse().unwrap();
    let gateway = Gateway { router: api_gateway::router(&settings).unwrap(), control_plane };
    assert_unavailable(&gateway.send(Delivery::new("guid-1", ISSUE_LABELED)).await);
    assert_eq!(api_gateway::readiness(&settings)().await, ["control plane: not reachable"]);
}

#[tokio::test]
async fn a_store_that_never_answers_is_503_within_two_seconds() {
    let gateway = Gateway::start().await;
    // The secrets are known from here on.
    assert_eq!(gateway.send(Delivery::new("guid-1", ISSUE_LABELED)).await.status, 202);
    gateway.control_plane.behave(Behaviour::Silent);
    tokio::time::pause();
    let started = Instant::now();
    assert_unavailable(&gateway.send(Delivery::new("guid-2", ISSUE_LABELED)).await);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    // A forged one asks for the secrets again, and nobody answers that either.
    let started = Instant::now();
    assert_unavailable(&gateway.send(Delivery::new("guid-3", ISSUE_LABELED).signed_with("a guess")).await);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_body_that_never_ends_is_408() {
    let gateway = Gateway::start().await;
    tokio::time::pause();
    let started = Instant::now();
    let body = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let answer =
        gateway.send_request(Request::post("/webhooks/github/hello-world").body(body).unwrap()).await;
    assert_eq!(answer.problem(408), "The body did not arrive within 10 s.");
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn readiness_names_the_part_that_cannot_work() {
    let control_plane = ControlPlane::start().await;
    let ready = api_gateway::readiness(&settings(&control_plane));
    assert!(ready().await.is_empty());
    control_plane.behave(Behaviour::Refuses);
    assert_eq!(ready().await, ["control plane: does not accept this gateway's identity"]);
    control_plane.behave(Behaviour::Fails);
    assert_eq!(ready().await, ["control plane: not reachable"]);
    let mut in_the_clear = settings(&control_plane);
    in_the_clear.control_plane = "10.0.0.8:9000".parse().unwrap();
    let lines = api_gateway::readiness(&in_the_clear)().await;
    assert!(lines[0].starts_with("control plane: `10.0.0.8:9000` is neither loopback nor TLS"), "{lines:?}");
    control_plane.behave(Behaviour::Silent);
    tokio::time::pause();
    assert_eq!(ready().await, ["control plane: not reachable"]);
}
