//! What happened to issues and repositories, told later.

use domain::rights::Permission;
use serde_json::{Value, json};

use crate::{Fixture, Hand, REPOSITORY, answer};

#[tokio::test]
async fn an_issues_history_names_who_and_when() {
    let clock = Hand::at_noon();
    let f = Fixture::with(clock.clone()).await;
    f.github.add_user("maya", false);
    let number = f.github.open_issue(REPOSITORY, "octocat", "First", "").unwrap();
    f.github.open_issue(REPOSITORY, "octocat", "Second", "").unwrap();
    let steps: [&dyn Fn(); 6] = [
        &|| f.github.add_label(REPOSITORY, number, "run:dev", "maya").unwrap(),
        &|| assert!(f.github.add_comment(REPOSITORY, number, "octocat", "Hello").is_ok()),
        &|| f.github.remove_label(REPOSITORY, number, "run:dev", "octocat").unwrap(),
        &|| f.github.edit_issue(REPOSITORY, number, "octocat", Some("Later"), None).unwrap(),
        &|| f.github.close_issue(REPOSITORY, number, "octocat").unwrap(),
        &|| f.github.edit_issue_body(REPOSITORY, number, "octocat", "More").unwrap(),
    ];
    let mut before = Value::Null;
    for step in steps {
        clock.pass(1);
        step();
        let updated = f.call("GET", "issues/1", Value::Null).await.1["updated_at"].clone();
        assert_ne!(updated, before, "each one counts as a change");
        before = updated;
    }
    let names = |events: &Value| {
        let events = events.as_array().unwrap().iter();
        events.map(|e| e["event"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let timeline = f.call("GET", "issues/1/timeline", Value::Null).await.1;
    assert_eq!(names(&timeline), ["labeled", "commented", "unlabeled", "renamed", "closed"]);
    let labeled = &timeline[0];
    assert_eq!((&labeled["actor"]["login"], &labeled["label"]["name"]), (&json!("maya"), &json!("run:dev")));
    assert_eq!(
        (&labeled["created_at"], &labeled["commit_id"]),
        (&json!("2026-03-01T12:00:01Z"), &Value::Null)
    );
    assert_eq!(timeline[3]["rename"], json!({ "from": "First", "to": "Later" }));
    let events = f.call("GET", "issues/1/events?per_page=2&page=2", Value::Null).await.1;
    assert_eq!(names(&events), ["renamed", "closed"]);

    let numbers = async |query: &str| {
        let found = f.call("GET", &format!("issues?{query}"), Value::Null).await.1;
        found.as_array().unwrap().iter().map(|i| i["number"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(numbers("state=all&sort=updated&direction=asc").await, [2, 1]);
    assert_eq!(numbers("state=all&since=2026-03-01T12:00:06Z").await, [1]);
    assert_eq!(numbers("state=all&since=2026-03-01T12:00:07Z").await, [0; 0]);
    f.github.forget_history(REPOSITORY, number).unwrap();
    assert_eq!(names(&f.call("GET", "issues/1/timeline", Value::Null).await.1), ["commented"]);
}

#[tokio::test]
async fn repositories_change_hands_hide_and_go() {
    let f = Fixture::new().await;
    let hook = f.github.add_hook(REPOSITORY, "http://127.0.0.1:1/", "s").unwrap();
    f.github.set_permission(REPOSITORY, "octocat", Permission::Admin).unwrap();
    for title in ["x", "y"] {
        f.github.open_issue(REPOSITORY, "octocat", title, "").unwrap();
    }
    f.github.set_private(REPOSITORY, true).unwrap();
    assert_eq!(answer(f.anonymous("GET", "issues/1")).await.0, 404);
    f.github.set_issues_enabled(REPOSITORY, false).unwrap();
    let (status, body) = f.call("GET", "issues/1", Value::Null).await;
    assert_eq!((status, &body["message"]), (410, &json!("Issues has been disabled in this repository.")));
    f.github.set_issues_enabled(REPOSITORY, true).unwrap();

    f.github.delete_issue(REPOSITORY, 2, "octocat").unwrap();
    assert_eq!(f.call("GET", "issues/2/comments", Value::Null).await.0, 410);
    f.github.transfer_repository(REPOSITORY, "mona").unwrap();
    assert_eq!(f.call("GET", "issues/1", Value::Null).await.1["title"], "x", "the old name leads to it");
    let there = f.call("GET", "/repos/mona/hello-world", Value::Null).await.1;
    assert_eq!((&there["owner"]["login"], &there["private"]), (&json!("mona"), &json!(true)));
    f.github.delete_repository("mona/hello-world").unwrap();
    assert_eq!(f.call("GET", "/repos/mona/hello-world", Value::Null).await.0, 404);
    assert_eq!(f.call("GET", "issues/1", Value::Null).await.0, 404);
    let told: Vec<_> = f.github.deliveries(hook).into_iter().filter_map(|d| d.action).collect();
    assert_eq!(told, ["opened", "opened", "privatized", "deleted", "transferred", "deleted"]);
}
