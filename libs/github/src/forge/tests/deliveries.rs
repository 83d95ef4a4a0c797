//! Deliveries of webhooks, and labels that stand.

use forge::HookOf;

use super::*;

fn delivery(id: u64, guid: &str, minutes: i64, status: u16) -> Value {
    json!({
        "id": id, "guid": guid, "delivered_at": noon().now() + TimeDelta::minutes(minutes), "redelivery": false,
        "duration": 0.1, "status": "x", "status_code": status, "event": "issues", "action": "labeled",
        "installation_id": null, "repository_id": 4,
    })
}

fn hook() -> HookOf {
    HookOf::Repository { name: repository(), id: 3 }
}

#[tokio::test]
async fn deliveries_are_read_by_cursor_back_to_a_time() {
    let server = Server::start(|seen| {
        let (items, next) = match seen.target.split_once("cursor=") {
            None => (json!([delivery(9, "c", -1, 202), delivery(8, "b", -2, 503)]), Some("v1_8")),
            Some((_, "v1_8")) => (json!([delivery(7, "a", -3, 0), delivery(6, "z", -90, 202)]), Some("v1_6")),
            Some(_) => (json!([]), None),
        };
        let (status, mut headers, body) = json_reply(200, &items);
        if let Some(next) = next {
            let link = format!("<https://elsewhere.example/x?per_page=100&cursor={next}>; rel=\"next\"");
            headers.push(("link", link));
        }
        (status, headers, body)
    })
    .await;
    let since = noon().now() - TimeDelta::minutes(60);
    let found = server.forge.deliveries(&hook(), since).await.unwrap();
    let shown: Vec<_> = found.iter().map(|d| (d.id, d.guid.as_str(), d.status_code, d.arrived())).collect();
    assert_eq!(shown, [(9, "c", Some(202), true), (8, "b", Some(503), false), (7, "a", None, false)]);
    assert_eq!(
        server.calls(),
        ["GET /hooks/3/deliveries?per_page=100", "GET /hooks/3/deliveries?per_page=100&cursor=v1_8"]
    );
}

#[tokio::test]
async fn a_delivery_is_sent_again_or_read() {
    let server = Server::start(|seen| match seen.method {
        Method::POST => json_reply(202, &json!({})),
        _ => {
            let mut whole = delivery(8, "b", -2, 503);
            let payload =
                if seen.target.ends_with("/8") { json!({ "action": "labeled" }) } else { json!(null) };
            whole["request"] = json!({ "headers": {}, "payload": payload });
            whole["response"] = json!({ "headers": {}, "payload": "" });
            json_reply(200, &whole)
        }
    })
    .await;
    server.forge.redeliver(&hook(), 8).await.unwrap();
    let fetched = server.forge.fetch_delivery(&hook(), 8).await.unwrap();
    assert_eq!((fetched.sent().guid.as_str(), fetched.payload()), ("b", &json!({ "action": "labeled" })));
    let gone = server.forge.fetch_delivery(&hook(), 9).await.unwrap_err();
    assert!(matches!(gone, ForgeError::Missing { .. }), "{gone}");
    assert_eq!(
        server.calls(),
        ["POST /hooks/3/deliveries/8/attempts", "GET /hooks/3/deliveries/8", "GET /hooks/3/deliveries/9"]
    );
}

#[tokio::test]
async fn what_changed_is_read_oldest_first() {
    let server =
        Server::start(|_| json_reply(200, &json!([issue_body(&json!([{ "name": "run:dev" }]))]))).await;
    let changed = server.forge.changed_since(&repository(), noon().now()).await.unwrap();
    assert_eq!(changed.iter().map(|issue| issue.number).collect::<Vec<_>>(), [7]);
    assert_eq!(
        server.calls(),
        [
            "GET /issues?state=open&since=2024-10-04T00%3A00%3A00Z&sort=updated&direction=asc&per_page=100&page=1"
        ]
    );
}

#[tokio::test]
async fn a_history_tells_who_set_labels() {
    let server = Server::start(|_| {
        let at = "2026-03-04T12:00:00Z";
        json_reply(
            200,
            &json!([
                { "event": "commented", "id": 1, "created_at": at, "user": { "login": "rio" } },
                { "event": "labeled", "id": 2, "created_at": at, "label": { "name": "run:dev", "color": "ededed" },
                  "actor": { "login": "mona", "type": "User" } },
                { "event": "unlabeled", "id": 3, "created_at": at, "label": { "name": "run:dev" }, "actor": null },
                { "event": "labeled", "id": 4, "created_at": at, "label": { "name": "bug" },
                  "actor": { "login": "renovate[bot]", "type": "Bot" } },
                { "event": "labeled", "id": 5, "created_at": at, "label": { "name": "run:qa" }, "actor": null },
                { "event": "labeled", "id": "six" },
                { "event": "committed", "sha": SHA },
            ]),
        )
    })
    .await;
    let events = server.forge.label_events(&repository(), 7).await.unwrap();
    let told: Vec<_> =
        events.iter().map(|e| (e.id, e.label.as_str(), e.actor.as_deref(), e.actor_is_bot)).collect();
    assert_eq!(
        told,
        [
            (2, "run:dev", Some("mona"), false),
            (4, "bug", Some("renovate[bot]"), true),
            (5, "run:qa", None, false)
        ]
    );
    assert_eq!(server.calls(), ["GET /issues/7/timeline?per_page=100&page=1"]);
}
