//! Files at a commit, and labels of the repository.

use serde_json::{Value, json};

use crate::{Fixture, REPOSITORY, answer};

#[tokio::test]
async fn files_and_folders() {
    let f = Fixture::new().await;
    let first = f.call("GET", "branches/main", Value::Null).await.1["commit"]["sha"].clone();
    f.github.commit(REPOSITORY, "Add", &[("docs/a/b.md", "b\n"), ("README.md", "# Bye\n")]).await.unwrap();

    let (status, file) = f.call("GET", "contents/README.md", Value::Null).await;
    assert_eq!((status, &file["type"], &file["content"]), (200, &json!("file"), &json!("IyBCeWUK\n")));
    let raw = f.request("GET", "contents/README.md").header("accept", "application/vnd.github.raw+json");
    let raw = raw.query(&[("ref", first.as_str().unwrap())]).send().await.unwrap();
    assert_eq!(raw.headers()["content-type"], "application/vnd.github.raw+json; charset=utf-8");
    assert_eq!(raw.text().await.unwrap(), "# Hello\n");

    let names = |listed: &Value| {
        let of = |e: &Value| format!("{} {}", e["type"].as_str().unwrap(), e["path"].as_str().unwrap());
        listed.as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    let root = f.call("GET", "contents", Value::Null).await.1;
    assert_eq!(names(&root), ["file README.md", "dir docs", "dir src"]);
    let docs = f.call("GET", "contents/docs", Value::Null).await.1;
    assert_eq!(names(&docs), ["dir docs/a"]);
    let below = f.call("GET", &format!("git/trees/{}", docs[0]["sha"].as_str().unwrap()), Value::Null).await;
    assert_eq!(below.1["tree"][0]["path"], "b.md");
    for missing in ["contents/nope", "contents/docs/*", "contents/README.md?ref=nope"] {
        assert_eq!(f.call("GET", missing, Value::Null).await.0, 404, "{missing}");
    }
}

#[tokio::test]
async fn labels_are_kept() {
    let f = Fixture::new().await;
    let new = json!({ "name": "run:dev", "color": "0e8a16", "description": "Write the code" });
    assert_eq!(f.call("POST", "labels", new.clone()).await.0, 201);
    let (status, again) = f.call("POST", "labels", new).await;
    assert_eq!((status, &again["errors"][0]["code"]), (422, &json!("already_exists")));
    f.github.open_issue(REPOSITORY, "octocat", "x", "").unwrap();
    f.github.add_label(REPOSITORY, 1, "run:dev", "octocat").unwrap();

    let changed = json!({ "new_name": "run:code", "color": "1d76db" });
    let (status, label) = f.call("PATCH", "labels/run:dev", changed).await;
    assert_eq!((status, &label["name"], &label["color"]), (200, &json!("run:code"), &json!("1d76db")));
    assert_eq!(f.github.labels(REPOSITORY, 1), ["run:code"], "also where it is on");
    assert_eq!(f.github.label_definitions(REPOSITORY)[0].description.as_deref(), Some("Write the code"));
    assert_eq!(f.call("PATCH", "labels/run:dev", json!({ "color": "ffffff" })).await.0, 404);
    let long = json!({ "description": "x".repeat(101) });
    assert_eq!(f.call("PATCH", "labels/run:code", long).await.0, 422);

    // Who may only triage puts labels on and does not say what they are.
    f.github.add_user("tom", false);
    f.github.set_permission(REPOSITORY, "tom", domain::rights::Permission::Triage).unwrap();
    let tom = f.github.add_token("tom").unwrap();
    let as_tom = f.anonymous("PATCH", "labels/run:code").bearer_auth(tom).json(&json!({ "color": "ffffff" }));
    assert_eq!(answer(as_tom).await.0, 404);
}
