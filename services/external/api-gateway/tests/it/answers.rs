//! Every documented answer.

use axum::{body::Body, http::Request};
use serde_json::json;

use super::*;

/// The greatest body GitHub sends.
const LIMIT: usize = 26_214_400;

/// A JSON object of exactly this many bytes.
fn object_of(bytes: usize) -> Vec<u8> {
    let mut body = vec![b' '; bytes];
    body[0] = b'{';
    body[bytes - 1] = b'}';
    body
}

#[tokio::test]
async fn a_delivery_is_stored_as_it_came() {
    let gateway = Gateway::start().await;
    let answer = gateway.send(Delivery::new("guid-1", ISSUE_LABELED)).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.body, json!({ "delivery_id": "delivery-1", "duplicate": false }));
    let stored = gateway.control_plane.stored();
    let [one] = stored.as_slice() else { panic!("{stored:?}") };
    assert_eq!(
        (one.source.as_str(), one.guid.as_str(), one.event.as_str()),
        ("hello-world", "guid-1", "issues")
    );
    assert_eq!(one.body, ISSUE_LABELED);
    assert_eq!(one.headers, [("X-GitHub-Hook-ID".to_owned(), "42".to_owned())].into());
    assert_eq!(one.received_at_us, Noon.now().timestamp_micros());
    assert_eq!(one.trace_id.len(), 32);
    assert!(gateway.control_plane.tokens().iter().all(|token| token.starts_with("Bearer ey")));
}

#[tokio::test]
async fn a_duplicate_and_a_ping_are_200() {
    let gateway = Gateway::start().await;
    let delivery = || Delivery::new("guid-1", ISSUE_LABELED);
    assert_eq!(gateway.send(delivery()).await.status, 202);
    let again = gateway.send(delivery()).await;
    assert_eq!(
        (again.status.as_u16(), again.body),
        (200, json!({ "delivery_id": "delivery-1", "duplicate": true }))
    );
    let ping =
        Delivery::new("guid-2", &br#"{"zen":"Design for failure."}"#[..]).with("x-github-event", "ping");
    let answer = gateway.send(ping).await;
    assert_eq!(
        (answer.status.as_u16(), answer.body),
        (200, json!({ "delivery_id": "delivery-2", "duplicate": false }))
    );
    let events: Vec<_> = gateway.control_plane.stored().into_iter().map(|stored| stored.event).collect();
    assert_eq!(events, ["issues", "ping"]);
}

#[tokio::test]
async fn fifty_at_once_are_one_delivery() {
    let gateway = Gateway::start().await;
    let sending = (0..50).map(|_| gateway.send(Delivery::new("guid-1", ISSUE_LABELED)));
    let answers = futures::future::join_all(sending).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 202).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 49);
    assert_eq!(gateway.control_plane.stored().len(), 1);
    // They did not each ask for the secrets.
    assert_eq!(gateway.control_plane.asked_for_sources(), 1);
}

#[tokio::test]
async fn what_is_not_proven_is_401_with_one_text() {
    let gateway = Gateway::start().await;
    tokio::time::pause();
    let delivery = || Delivery::new("guid-1", ISSUE_LABELED);
    let truncated = Delivery { body: Bytes::from_static(&ISSUE_LABELED[..20]), ..delivery() };
    let forged = [
        delivery().with("x-hub-signature-256", ""),
        delivery().with("x-hub-signature-256", "sha256=00"),
        delivery().with("x-hub-signature-256", "nonsense"),
        delivery().signed_with("a guess"),
        delivery().signed_with(""),
        truncated,
        delivery().to("/webhooks/github/unknown"),
        delivery().to("/webhooks/github/%FF"),
        delivery().signed_with("a guess").to("/webhooks/github"),
        // Everything else is wrong as well, and the signature is judged first.
        delivery().signed_with("a guess").with("x-github-event", "").with("content-type", "text/plain"),
    ];
    // All at once: each may wait up to a second for secrets that are newer than itself.
    let answers = futures::future::join_all(forged.map(|delivery| gateway.send(delivery))).await;
    let mut details: Vec<&str> = answers.iter().map(|answer| answer.problem(401)).collect();
    details.dedup();
    assert_eq!(details, ["The signature does not match. Check the webhook's secret and its address."]);
    assert!(gateway.control_plane.stored().is_empty());
}

#[tokio::test]
async fn a_proven_delivery_that_does_not_read_is_400() {
    let gateway = Gateway::start().await;
    let delivery = || Delivery::new("guid-1", ISSUE_LABELED);
    for (wrong, detail) in [
        (
            delivery().with("x-github-event", ""),
            "The delivery is signed, but the header X-GitHub-Event is missing or not readable.",
        ),
        (
            delivery().with("x-github-delivery", ""),
            "The delivery is signed, but the header X-GitHub-Delivery is missing or not readable.",
        ),
        (
            delivery().with("content-type", "application/x-www-form-urlencoded"),
            "The delivery is signed, but the content type is not application/json; set it in the webhook's settings.",
        ),
        (Delivery::new("guid-1", &b"[1]"[..]), "The delivery is signed, but the body is not a JSON object."),
        (
            Delivery::new("guid-1", &b"{\"a\":"[..]),
            "The delivery is signed, but the body is not a JSON object.",
        ),
        (Delivery::new("guid-1", &b""[..]), "The delivery is signed, but the body is not a JSON object."),
    ] {
        assert_eq!(gateway.send(wrong).await.problem(400), detail);
    }
    assert!(gateway.control_plane.stored().is_empty());
}

#[tokio::test]
async fn the_greatest_body_is_taken_and_one_byte_more_is_413() {
    let gateway = Gateway::start().await;
    let more = gateway.send(Delivery::new("guid-1", object_of(LIMIT + 1))).await;
    assert_eq!(more.problem(413), "The body is larger than 26214400 bytes.");
    // Announced only: nothing of it is read.
    let announced = Delivery::new("guid-1", ISSUE_LABELED).with("content-length", "26214401");
    assert_eq!(gateway.send(announced).await.problem(413), "The body is larger than 26214400 bytes.");
    assert!(gateway.control_plane.stored().is_empty());
    // Without optimisation hashing this much takes a while; that is not what is tested here.
    tokio::time::pause();
    let most = gateway.send(Delivery::new("guid-2", object_of(LIMIT))).await;
    assert_eq!(most.status, 202, "{most:?}");
    assert_eq!(gateway.control_plane.stored()[0].body.len(), LIMIT);
}

#[tokio::test]
async fn a_deeply_nested_body_is_just_a_body() {
    let gateway = Gateway::start().await;
    let body = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(gateway.send(Delivery::new("guid-1", body)).await.status, 202);
}

#[tokio::test]
async fn the_address_without_a_source_is_for_exactly_one() {
    let gateway = Gateway::start().await;
    let delivery = |guid| Delivery::new(guid, ISSUE_LABELED).to("/webhooks/github");
    assert_eq!(gateway.send(delivery("guid-1")).await.status, 202);
    assert_eq!(gateway.control_plane.stored()[0].source, "hello-world");
    let two = Gateway::start().await;
    tokio::time::pause();
    two.control_plane.set_source("other", "other secret", None);
    two.send(delivery("guid-1")).await.problem(401);
}

#[tokio::test]
async fn one_sources_secret_does_not_open_another() {
    let gateway = Gateway::start().await;
    tokio::time::pause();
    gateway.control_plane.set_source("other", "other secret", None);
    let crossed = Delivery::new("guid-1", ISSUE_LABELED).signed_with("other secret");
    gateway.send(crossed).await.problem(401);
    let right =
        Delivery::new("guid-1", ISSUE_LABELED).signed_with("other secret").to("/webhooks/github/other");
    assert_eq!(gateway.send(right).await.status, 202);
}

#[tokio::test]
async fn nothing_else_is_served() {
    let gateway = Gateway::start().await;
    for path in
        ["/", "/webhooks", "/webhooks/github/a/b", "/webhooks/gitlab", "/metrics", "/healthz", "/api/v1/runs"]
    {
        let answer = gateway.send_request(Request::post(path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.problem(404), "There is nothing at this path.", "{path}");
    }
    for path in ["/webhooks/github", "/webhooks/github/hello-world"] {
        let answer = gateway.send_request(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.problem(405), "This path takes POST only.");
        assert_eq!(answer.headers["allow"], "POST");
    }
}

#[test]
fn calls_are_counted_by_known_events_only() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let gateway = Gateway::start().await;
            let delivery = || Delivery::new("guid-1", ISSUE_LABELED);
            gateway.send(delivery()).await;
            gateway.send(delivery()).await;
            gateway.send(delivery().with("content-type", "text/plain")).await;
            gateway.send(delivery().with("x-hub-signature-256", "").with("x-github-event", "made_up")).await;
            gateway.send(delivery().with("content-length", "99999999")).await;
        });
    });
    let text = handle.render();
    for line in [
        r#"callboard_webhook_deliveries_total{event="issues",result="accepted"} 1"#,
        r#"callboard_webhook_deliveries_total{event="issues",result="duplicate"} 1"#,
        r#"callboard_webhook_deliveries_total{event="issues",result="malformed"} 1"#,
        r#"callboard_webhook_deliveries_total{event="issues",result="too_large"} 1"#,
        r#"callboard_webhook_deliveries_total{event="other",result="unauthorized"} 1"#,
        // Without the one whose body was never read.
        "callboard_webhook_ack_seconds_count 4",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}
