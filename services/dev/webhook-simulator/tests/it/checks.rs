//! Check runs.

use serde_json::{Value, json};
use webhook_simulator::USUAL_PERMISSIONS;

use crate::{REPOSITORY, answer, apps::Installed};

#[tokio::test]
async fn an_app_shows_progress_on_a_commit() {
    let i = Installed::new(&USUAL_PERMISSIONS).await;
    let token = i.token(json!({})).await;
    let ask = |method: &str, path: &str, body: Value| {
        answer(i.f.anonymous(method, path).bearer_auth(&token).json(&body))
    };
    let head = i.f.github.push_to_branch(REPOSITORY, "x", "octocat", "x", &[("x", "x\n")]).await.unwrap();
    i.f.github.open_pull_request(REPOSITORY, "octocat", "x", "x", "main").await.unwrap();
    let new = json!({
        "name": "callboard/dev", "head_sha": head, "status": "in_progress", "external_id": "run-1",
        "details_url": "https://callboard.example/runs/1",
        "output": { "title": "At work", "summary": "Started" },
    });
    let (status, body) = i.f.call("POST", "check-runs", new.clone()).await;
    assert_eq!((status, &body["message"]), (403, &json!("You must authenticate via a GitHub App.")));
    let (status, made) = ask("POST", "check-runs", new.clone()).await;
    assert_eq!((status, &made["status"], &made["conclusion"]), (201, &json!("in_progress"), &Value::Null));
    assert_eq!((&made["pull_requests"][0]["number"], &made["app"]["slug"]), (&json!(1), &json!("callboard")));
    let path = format!("check-runs/{}", made["id"]);

    for wrong in [
        json!({ "status": "completed" }),
        json!({ "conclusion": "stale" }),
        json!({ "status": "done" }),
        json!({ "output": { "title": "x" } }),
        json!({ "details_url": "here" }),
    ] {
        assert_eq!(ask("PATCH", &path, wrong.clone()).await.0, 422, "{wrong}");
    }
    for (field, wrong) in [
        ("head_sha", json!("1".repeat(40))),
        ("name", Value::Null),
        ("output", json!({ "summary": "no title" })),
    ] {
        let mut new = new.clone();
        new[field] = wrong;
        assert_eq!(ask("POST", "check-runs", new).await.0, 422, "{field}");
    }
    let done = json!({ "conclusion": "success", "output": { "title": "Done", "summary": "All of it" } });
    let (status, body) = ask("PATCH", &path, done).await;
    assert_eq!((status, &body["status"], &body["external_id"]), (200, &json!("completed"), &json!("run-1")));
    assert_eq!(body["completed_at"], "2026-03-01T12:00:00Z");

    let (_, second) = ask("POST", "check-runs", new).await;
    assert_eq!(second["check_suite"], made["check_suite"]);
    let list = async |query: &str| {
        let found = i.f.call("GET", &format!("commits/x/check-runs?{query}"), Value::Null).await.1;
        (found["total_count"].clone(), found["check_runs"][0]["id"].clone())
    };
    assert_eq!(list("").await, (json!(1), second["id"].clone()), "the last one of that name");
    assert_eq!(list("filter=all&status=completed").await, (json!(1), made["id"].clone()));
    assert_eq!(list("check_name=other").await.0, 0);
    assert_eq!(i.f.github.check_runs(REPOSITORY, &head)[0].conclusion.as_deref(), Some("success"));

    let other = i.f.github.create_app("other", "", "").unwrap();
    let id = i.f.github.install_app(other.id, "octocat", &[], &USUAL_PERMISSIONS).unwrap();
    let theirs = Installed { app: other, id, ..i };
    let token = theirs.token(json!({})).await;
    let request = theirs.f.anonymous("PATCH", &path).bearer_auth(token).json(&json!({ "name": "mine" }));
    assert_eq!(answer(request).await.0, 403, "each App its own");
}
