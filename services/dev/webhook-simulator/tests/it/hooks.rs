//! Deliveries: signed, shaped as GitHub's, and sent again when asked.

use axum::{Router, body::Bytes, extract::State, routing::post};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use octocrab::models::webhook_events::{WebhookEvent, WebhookEventPayload};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::mpsc;

use crate::{Fixture, REPOSITORY};

pub(crate) type Received = (HeaderMap, Bytes);

/// A server that takes deliveries.
pub(crate) async fn receiver() -> (String, mpsc::UnboundedReceiver<Received>) {
    let (send, receive) = mpsc::unbounded_channel();
    let take = |State(send): State<mpsc::UnboundedSender<Received>>, headers: HeaderMap, body: Bytes| async move {
        send.send((headers, body)).unwrap();
        http::StatusCode::ACCEPTED
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/webhooks/github", listener.local_addr().unwrap());
    let router = Router::new().route("/webhooks/github", post(take)).with_state(send);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, receive)
}

pub(crate) fn verifies(secret: &str, (headers, body): &Received) -> bool {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    let signature = headers["x-hub-signature-256"].to_str().unwrap().strip_prefix("sha256=").unwrap();
    mac.verify_slice(&hex::decode(signature).unwrap()).is_ok()
}

pub(crate) fn event(received: &Received) -> WebhookEvent {
    let name = received.0["x-github-event"].to_str().unwrap();
    WebhookEvent::try_from_header_and_body(name, &received.1).unwrap()
}

#[tokio::test]
async fn deliveries_are_signed_and_shaped_as_githubs() {
    let f = Fixture::new().await;
    let (url, mut received) = receiver().await;
    let hook = f.github.add_hook(REPOSITORY, &url, "It's a Secret").unwrap();
    let ping = received.recv().await.unwrap();
    assert_eq!(ping.0["x-github-event"], "ping");
    assert!(verifies("It's a Secret", &ping) && !verifies("another", &ping));
    assert!(matches!(event(&ping).specific, WebhookEventPayload::Ping(_)));

    let number = f.github.open_issue(REPOSITORY, "octocat", "Say hello", "Please").unwrap();
    let opened = received.recv().await.unwrap();
    assert!(matches!(event(&opened).specific, WebhookEventPayload::Issues(_)));
    f.github.add_user("helper[bot]", true);
    f.github.add_label(REPOSITORY, number, "run:dev", "helper[bot]").unwrap();
    let labeled = received.recv().await.unwrap();
    let payload: Value = serde_json::from_slice(&labeled.1).unwrap();
    assert_eq!(payload["action"], "labeled");
    assert_eq!(payload["label"]["name"], "run:dev");
    assert_eq!(payload["sender"]["type"], "Bot");
    assert_eq!(payload["repository"]["full_name"], REPOSITORY);
    assert_eq!(payload["issue"]["author_association"], "OWNER");
    assert_eq!(labeled.0["x-github-hook-id"], hook.to_string().as_str());
    assert!(labeled.0["user-agent"].to_str().unwrap().starts_with("GitHub-Hookshot/"));
    assert_ne!(labeled.0["x-github-delivery"], opened.0["x-github-delivery"]);
    event(&labeled);

    // What a token does through REST is delivered as well.
    f.call("POST", "issues/1/comments", json!({ "body": "On it" })).await;
    let comment = received.recv().await.unwrap();
    assert!(matches!(event(&comment).specific, WebhookEventPayload::IssueComment(_)));
    f.call("POST", "issues/1/labels", json!({ "labels": ["run:dev"] })).await;
    f.call("DELETE", "issues/1/labels/run%3Adev", Value::Null).await;
    let unlabeled: Value = serde_json::from_slice(&received.recv().await.unwrap().1).unwrap();
    assert_eq!(unlabeled["action"], "unlabeled", "a label that was on already is no event");

    let head = f.call("GET", "branches/main", Value::Null).await.1["commit"].clone();
    let new = json!({ "message": "x", "tree": head["commit"]["tree"]["sha"], "parents": [head["sha"]] });
    let commit = f.call("POST", "git/commits", new).await.1;
    f.call("POST", "git/refs", json!({ "ref": "refs/heads/x", "sha": commit["sha"] })).await;
    let push = received.recv().await.unwrap();
    assert!(matches!(event(&push).specific, WebhookEventPayload::Push(_)));
    f.call("POST", "pulls", json!({ "title": "x", "head": "x", "base": "main" })).await;
    let pull = received.recv().await.unwrap();
    assert!(matches!(event(&pull).specific, WebhookEventPayload::PullRequest(_)));
}

#[tokio::test]
async fn a_redelivery_has_the_same_guid() {
    let f = Fixture::new().await;
    let (url, mut received) = receiver().await;
    let hook = f.github.add_hook(REPOSITORY, &url, "s").unwrap();
    let first = received.recv().await.unwrap();
    let ended = |wanted: usize| {
        f.github.wait_until(move |g| {
            let ended: Vec<_> = g.deliveries(hook).into_iter().filter(|d| d.answer.is_some()).collect();
            (ended.len() == wanted).then_some(ended)
        })
    };
    let id = ended(1).await[0].id;
    let (status, _) = f.call("POST", &format!("hooks/{hook}/deliveries/{id}/attempts"), Value::Null).await;
    assert_eq!(status, 202);
    let second = received.recv().await.unwrap();
    assert_eq!(first.0["x-github-delivery"], second.0["x-github-delivery"]);
    assert_eq!(first.1, second.1);
    ended(2).await;
    let list = f.request("GET", &format!("hooks/{hook}/deliveries?per_page=1")).send().await.unwrap();
    let next = list.headers()["link"].to_str().unwrap().to_owned();
    assert!(next.contains("cursor=") && next.ends_with("rel=\"next\""), "{next}");
    let newest: Value = list.json().await.unwrap();
    assert_eq!((&newest[0]["redelivery"], &newest[0]["status_code"]), (&json!(true), &json!(202)));
    let url = next.trim_start_matches('<').split('>').next().unwrap();
    let older: Value = f.http.get(url).bearer_auth(&f.token).send().await.unwrap().json().await.unwrap();
    assert_eq!(older[0]["id"], id);
    let detail = f.call("GET", &format!("hooks/{hook}/deliveries/{id}"), Value::Null).await.1;
    assert_eq!(detail["request"]["payload"]["hook_id"], hook);
    assert_eq!(detail["request"]["payload"]["hook"]["config"]["secret"], "********");
}

#[tokio::test]
async fn a_delivery_nobody_takes_is_recorded_and_not_repeated() {
    let f = Fixture::new().await;
    // Taken, and nobody listens: no other test gets it.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = socket.local_addr().unwrap();
    let hook = f.github.add_hook(REPOSITORY, &format!("http://{closed}/"), "s").unwrap();
    let answer = f.github.wait_until(|g| g.deliveries(hook).first().and_then(|d| d.answer.clone())).await;
    assert_eq!((answer.status_code, answer.status.as_str()), (502, "failed to connect to host"));
    assert_eq!(f.github.deliveries(hook).len(), 1);
}
