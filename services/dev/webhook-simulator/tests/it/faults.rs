//! Requests and deliveries that go wrong as a script says; and how a client cleans up after that.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use webhook_simulator::{DeliveryFault, Fault, Script};

use crate::{Fixture, REPOSITORY, answer};

const COMMENTS: &str = "POST /repos/{owner}/{repo}/issues/{number}/comments";

/// Posts a comment and reads the whole answer.
async fn comment(f: &Fixture) -> Result<(u16, String), reqwest::Error> {
    let sent = f.request("POST", "issues/1/comments").json(&json!({ "body": "Hello" })).send().await?;
    Ok((sent.status().as_u16(), sent.text().await?))
}

async fn with_issue() -> Fixture {
    let f = Fixture::new().await;
    f.github.open_issue(REPOSITORY, "octocat", "x", "").unwrap();
    f
}

/// Each fault that strikes after the work was done: what the client sees, and one comment.
#[tokio::test]
async fn what_is_done_stays_done_whatever_the_answer_looks_like() {
    let f = with_issue().await;
    // Status, and whether it reads; nothing where the connection is cut.
    for (n, (fault, expected)) in [
        (Fault::LoseAnswer, None),
        (Fault::CutBody, None),
        (Fault::AppliedThen(502), Some((502, false))),
        (Fault::NotJson, Some((201, false))),
        (Fault::Trickle(2), Some((201, true))),
    ]
    .into_iter()
    .enumerate()
    {
        f.github.fault(fault, COMMENTS, 1);
        let seen = comment(&f).await;
        assert_eq!(f.github.comments(REPOSITORY, 1).len(), n + 1, "{fault} happens after the work");
        let seen = seen.map(|(status, text)| (status, serde_json::from_str::<Value>(&text).is_ok()));
        assert_eq!(seen.ok(), expected, "{fault}");
    }
    f.github.fault(Fault::Slow(60), COMMENTS, 1);
    let began = Instant::now();
    assert_eq!(comment(&f).await.unwrap().0, 201);
    assert!(began.elapsed() >= Duration::from_millis(60));
    assert!(f.github.scripts().iter().all(Script::is_over));
}

/// Each refusal has GitHub's words and headers, and nothing was done.
#[tokio::test]
async fn refusals_speak_as_github_does() {
    let f = with_issue().await;
    let mut said = String::new();
    for fault in [
        Fault::Refuse(401),
        Fault::PermissionTaken,
        Fault::TokenExpires,
        Fault::Refuse(404),
        Fault::Refuse(409),
        Fault::Refuse(410),
        Fault::AlreadyExists,
        Fault::Invalid,
        Fault::NotFastForward,
        Fault::Refuse(500),
        Fault::Refuse(503),
        Fault::SecondaryLimit(7),
        Fault::PrimaryLimit(90),
        Fault::TooMany(30),
    ] {
        f.github.fault(fault, COMMENTS, 1);
        let sent = f.request("POST", "issues/1/comments").json(&json!({ "body": "x" })).send().await.unwrap();
        let header = |name: &str| sent.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
        let now: chrono::DateTime<chrono::Utc> = "2026-03-01T12:00:00Z".parse().unwrap();
        let reset: i64 = header("x-ratelimit-reset").unwrap().parse().unwrap();
        let (status, remaining) = (sent.status().as_u16(), header("x-ratelimit-remaining").unwrap());
        let (after, reset) = (header("retry-after"), reset - now.timestamp());
        let limits = match (&after, remaining.as_str()) {
            (Some(after), _) => format!(" (retry-after {after})"),
            (None, "0") => format!(" (nothing left for {reset} s)"),
            (None, _) => String::new(),
        };
        let text = sent.text().await.unwrap();
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let words = body["message"].as_str().unwrap_or("a page for people");
        let errors = &body["errors"];
        let errors = if errors.is_null() { String::new() } else { format!(" {errors}") };
        said.push_str(&format!("{fault}: {status}{limits} {words}{errors}\n"));
    }
    assert!(f.github.comments(REPOSITORY, 1).is_empty(), "nothing was done");
    assert_eq!(
        said,
        "refuse=401: 401 Bad credentials\n\
         permission-taken: 403 Resource not accessible by integration\n\
         token-expires: 401 Bad credentials\n\
         refuse=404: 404 Not Found\n\
         refuse=409: 409 Conflict\n\
         refuse=410: 410 This issue was deleted\n\
         already-exists: 422 Validation Failed [{\"code\":\"already_exists\",\"field\":\"name\",\"resource\":\"IssueComment\"}]\n\
         invalid: 422 Validation Failed [{\"code\":\"invalid\",\"field\":\"body\",\"resource\":\"IssueComment\"}]\n\
         not-fast-forward: 422 Update is not a fast forward\n\
         refuse=500: 500 Server Error\n\
         refuse=503: 503 a page for people\n\
         secondary-limit=7: 403 (retry-after 7) You have exceeded a secondary rate limit. Please wait a few minutes before you try again.\n\
         primary-limit=90: 403 (nothing left for 90 s) API rate limit exceeded for user ID 1001.\n\
         too-many=30: 429 (nothing left for 30 s) API rate limit exceeded for user ID 1001.\n"
    );
}

/// A script is about requests of a kind, with a text in them, from the so-manieth on.
#[tokio::test]
async fn a_script_strikes_where_it_says() {
    let f = with_issue().await;
    f.github.open_issue(REPOSITORY, "octocat", "y", "").unwrap();
    let new = |body: &str| json!({ "body": body });
    let status = async |number: u64, body: &str| {
        f.call("POST", &format!("issues/{number}/comments"), new(body)).await.0
    };
    f.github.script(Script::new(Fault::Refuse(500), "POST *").holding("Mind the gap").from(2).times(1));
    assert_eq!(status(1, "Hello").await, 201, "another text");
    assert_eq!(status(1, "Mind the gap").await, 201, "the first one");
    assert_eq!(status(1, "Mind the gap, please").await, 500, "the second one");
    assert_eq!(status(1, "Mind the gap").await, 201, "it is over");
    let path = format!("POST /repos/{REPOSITORY}/issues/2/comments");
    f.github.script(Script::new(Fault::Refuse(404), &path).times(u32::MAX));
    assert_eq!((status(1, "x").await, status(2, "x").await), (201, 404), "by its path");
    f.github.script(Script::new(Fault::Refuse(410), "*").holding("1"));
    assert_eq!((status(2, "x").await, status(1, "x").await), (404, 410), "by a part of it");
    assert_eq!(f.github.scripts().iter().map(Script::struck).collect::<Vec<_>>(), [1, 2, 1]);
    f.github.heal();
    assert_eq!(status(2, "x").await, 201);
}

#[tokio::test]
async fn a_list_lags_and_what_it_lists_does_not() {
    let f = with_issue().await;
    let id = f.github.add_comment(REPOSITORY, 1, "octocat", "Hello").unwrap();
    f.github.fault(Fault::ListLag(10_000), "GET *", u32::MAX);
    let (status, list) = f.call("GET", "issues/1/comments", Value::Null).await;
    assert_eq!((status, list.as_array().map(Vec::len)), (200, Some(0)), "not listed yet");
    assert_eq!(f.call("GET", &format!("issues/comments/{id}"), Value::Null).await.0, 200, "but there");
    f.github.heal();
    let (_, list) = f.call("GET", "issues/1/comments", Value::Null).await;
    assert_eq!(list.as_array().map(Vec::len), Some(1));
}

/// Deliveries are dropped, doubled, and come in another order.
#[tokio::test]
async fn deliveries_go_astray() {
    let f = Fixture::new().await;
    let (sender, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let receive = async move |headers: http::HeaderMap| {
        sender.send(headers["x-github-delivery"].to_str().unwrap().to_owned()).unwrap();
    };
    let router = axum::Router::new().route("/", axum::routing::post(receive));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let hook = f.github.add_hook(REPOSITORY, &url, "secret").unwrap();
    arrived.recv().await.unwrap();

    let issue = f.github.open_issue(REPOSITORY, "octocat", "x", "").unwrap();
    arrived.recv().await.unwrap();
    let newest = || f.github.deliveries(hook).pop().unwrap();
    let label = |label: &str| {
        f.github.add_label(REPOSITORY, issue, label, "octocat").unwrap();
        newest().guid
    };
    f.github.fault_delivery(DeliveryFault::Drop, "issues", 1);
    let dropped = label("dropped");
    f.github.wait_until(|_| newest().answer).await;
    assert_eq!(newest().answer.unwrap().status, "failed to connect to host");
    f.github.fault_delivery(DeliveryFault::Duplicate, "issues", 1);
    let doubled = label("doubled");
    assert_eq!((arrived.recv().await.unwrap(), arrived.recv().await.unwrap()), (doubled.clone(), doubled));
    f.github.fault_delivery(DeliveryFault::HoldBack, "*", 1);
    let (first, second) = (label("first"), label("second"));
    assert_eq!((arrived.recv().await.unwrap(), arrived.recv().await.unwrap()), (second, first));
    f.github.fault_delivery(DeliveryFault::Delay(1000), "issues", 1);
    let (first, second) = (label("third"), label("fourth"));
    assert_eq!((arrived.recv().await.unwrap(), arrived.recv().await.unwrap()), (second, first));
    f.github.fault_delivery(DeliveryFault::HoldBack, "*", 1);
    let last = label("last");
    f.github.heal();
    assert_eq!(arrived.recv().await.unwrap(), last);
    assert!(arrived.try_recv().is_err(), "{dropped} never came");
}

/// Another process scripts faults by HTTP.
#[tokio::test]
async fn faults_are_scripted_from_outside() {
    let f = with_issue().await;
    let control = format!("{}/_stand-in/faults", f.github.web_url());
    let script = json!({ "fault": "refuse=503", "request": COMMENTS, "times": 2 });
    assert_eq!(answer(f.http.post(&control).json(&script)).await.0, 200);
    assert_eq!(comment(&f).await.unwrap().0, 503);
    let (_, listed) = answer(f.http.get(&control)).await;
    assert_eq!((&listed[0]["fault"], &listed[0]["struck"]), (&json!("refuse=503"), &json!(1)));
    assert_eq!(answer(f.http.delete(&control)).await.0, 204);
    assert_eq!(comment(&f).await.unwrap().0, 201);
    let unknown = answer(f.http.post(&control).json(&json!({ "fault": "explode" }))).await;
    assert!(unknown.0 == 422 && unknown.1.to_string().contains("there is no fault `explode`"), "{unknown:?}");
    let delivery = json!({ "fault": "drop", "event": "issues" });
    assert_eq!(answer(f.http.post(format!("{control}/deliveries")).json(&delivery)).await.0, 200);
}

#[tokio::test]
async fn a_comment_is_deleted_once_and_only_by_who_may() {
    let f = with_issue().await;
    f.github.add_user("mallory", false);
    let id = f.github.add_comment(REPOSITORY, 1, "octocat", "Hello").unwrap();
    let path = format!("issues/comments/{id}");
    let mallory = f.github.add_token("mallory").unwrap();
    assert_eq!(answer(f.anonymous("DELETE", &path).bearer_auth(mallory)).await.0, 403);
    assert_eq!(f.call("DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(f.call("DELETE", &path, Value::Null).await.0, 404);
    assert!(f.github.comments(REPOSITORY, 1).is_empty());
}
