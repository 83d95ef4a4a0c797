//! Webhooks: asked for whole, and read with what GitHub leaves out.

use forge::{Hook, NewHook};

use super::*;

fn hook_body(config: &Value, last_response: &Value) -> Value {
    json!({
        "type": "Repository", "id": 12, "name": "web", "active": true, "events": ["issues", "push"],
        "config": config, "last_response": last_response,
    })
}

#[tokio::test]
async fn a_webhook_is_asked_for_whole() {
    let config =
        json!({ "url": "https://x/h", "content_type": "json", "insecure_ssl": "0", "secret": "********" });
    let server = Server::start(move |seen| match seen.method {
        Method::POST if seen.target.ends_with("/pings") => (204, vec![], String::new()),
        _ => json_reply(
            200,
            &hook_body(&config, &json!({ "code": null, "status": "unused", "message": null })),
        ),
    })
    .await;
    let wanted = NewHook {
        url: "https://x/h".to_owned(),
        events: vec!["issues".to_owned(), "push".to_owned()],
        secret: "hunter2hunter2".into(),
    };
    let made = server.forge.create_hook(&repository(), &wanted).await.unwrap();
    let expected = Hook {
        id: 12,
        url: "https://x/h".to_owned(),
        events: wanted.events.clone(),
        active: true,
        sends_json: true,
        is_insecure: false,
        has_secret: true,
        last_response: None,
    };
    assert_eq!(made, expected);
    server.forge.update_hook(&repository(), 12, &wanted).await.unwrap();
    server.forge.ping_hook(&repository(), 12).await.unwrap();
    assert_eq!(server.calls(), ["POST /hooks", "PATCH /hooks/12", "POST /hooks/12/pings"]);
    let whole = json!({
        "active": true,
        "events": ["issues", "push"],
        "config": { "url": "https://x/h", "content_type": "json", "insecure_ssl": "0", "secret": "hunter2hunter2" },
    });
    let seen = server.seen();
    assert_eq!(seen[1].body, whole, "a change without the secret would take it away");
    assert_eq!(seen[0].body["name"], "web");
}

#[tokio::test]
async fn what_a_webhook_lacks_is_seen() {
    for (config, last, expected) in [
        (
            json!({ "url": "https://x", "content_type": "form", "insecure_ssl": "1" }),
            json!({ "code": 502, "status": "connection_error", "message": "failed to connect to host" }),
            (false, true, false, Some((502, "failed to connect to host".to_owned()))),
        ),
        (
            json!({ "insecure_ssl": 1, "secret": "********" }),
            json!({ "code": 202, "status": "active", "message": null }),
            (false, true, true, Some((202, "active".to_owned()))),
        ),
        (json!({}), json!(null), (false, false, false, None)),
    ] {
        let server = Server::start(move |_| json_reply(200, &json!([hook_body(&config, &last)]))).await;
        let hook = server.forge.hooks(&repository()).await.unwrap().remove(0);
        assert_eq!((hook.sends_json, hook.is_insecure, hook.has_secret, hook.last_response), expected);
    }
    // Who does not administer the repository is told that there is no such thing.
    let server = Server::start(|_| refused(404, "Not Found")).await;
    assert!(matches!(server.forge.hooks(&repository()).await, Err(ForgeError::Missing { .. })));
}
