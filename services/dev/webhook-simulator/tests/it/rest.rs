//! Answers of the REST API: refusals, lists, limits, and what is switched off.

use domain::rights::Permission;
use serde_json::{Value, json};
use webhook_simulator::Feature;

use crate::{Fixture, REPOSITORY, answer};

#[tokio::test]
async fn refusals_have_githubs_shape() {
    let f = Fixture::new().await;
    f.github.create_repository("octocat/secret", true, &[("a", "b")]).await.unwrap();
    let bad = f.anonymous("GET", "/repos/octocat/hello-world").bearer_auth("ghp_wrong");
    let (status, body) = answer(bad).await;
    assert_eq!((status, &body["message"], &body["status"]), (401, &json!("Bad credentials"), &json!("401")));

    assert_eq!(answer(f.anonymous("GET", "/repos/octocat/hello-world")).await.0, 200);
    assert_eq!(answer(f.anonymous("GET", "/repos/octocat/secret")).await.0, 404);
    assert_eq!(answer(f.anonymous("GET", "/user")).await.0, 401);
    assert_eq!(answer(f.anonymous("POST", "issues").json(&json!({ "title": "x" }))).await.0, 401);
    assert_eq!(f.call("GET", "/repos/octocat/secret", Value::Null).await.0, 200);
    assert_eq!(f.call("GET", "issues/7", Value::Null).await.0, 404);

    let (status, body) = f.call("POST", "issues", json!({})).await;
    assert_eq!(status, 422);
    assert_eq!(body["errors"], json!([{ "resource": "Issue", "field": "title", "code": "missing_field" }]));
    let (status, body) = answer(f.request("POST", "issues").body("{")).await;
    assert_eq!((status, &body["message"]), (400, &json!("Problems parsing JSON")));

    f.call("POST", "issues", json!({ "title": "x" })).await;
    let (status, body) = f.call("POST", "issues/1/comments", json!({ "body": " " })).await;
    assert_eq!((status, &body["errors"][0]["message"]), (422, &json!("Body cannot be blank")));
    assert_eq!(f.call("POST", "issues/1/comments", json!({ "body": "x".repeat(65_537) })).await.0, 422);
    assert_eq!(
        f.call("DELETE", "issues/1/labels/none", Value::Null).await.1["message"],
        "Label does not exist"
    );

    assert_eq!(f.call("GET", "traffic/views", Value::Null).await.0, 404);
    assert_eq!(f.call("PUT", "pulls/1/update-branch", json!({})).await.0, 404);
    assert_eq!(f.call("DELETE", "issues/1", Value::Null).await.0, 404);
    let counts = f.github.request_counts();
    assert_eq!(counts["GET /repos/{owner}/{repo}"], 4, "{counts:?}");
    assert_eq!((counts["GET unknown"], counts["PUT unknown"], counts["DELETE unknown"]), (1, 1, 1));
}

#[tokio::test]
async fn git_data_is_validated() {
    let f = Fixture::new().await;
    let head = f.call("GET", "branches/main", Value::Null).await.1["commit"]["sha"].clone();
    for path in ["../x", "/x", "a//b", ".git/config", "a/.GIT/x", "a/."] {
        let tree = json!({ "tree": [{ "path": path, "mode": "100644", "type": "blob", "content": "x" }] });
        let (status, body) = f.call("POST", "git/trees", tree).await;
        assert_eq!(
            (status, &body["message"]),
            (422, &json!("tree.path contains a malformed path component"))
        );
    }
    let gone = json!({ "base_tree": head, "tree": [{ "path": "nope", "mode": "100644", "type": "blob", "sha": null }] });
    assert_eq!(f.call("POST", "git/trees", gone).await.1["message"], "GitRPC::BadObjectState");
    let zero = "0".repeat(40);
    let lost = json!({ "tree": [{ "path": "x", "mode": "100644", "type": "blob", "sha": zero }] });
    assert_eq!(f.call("POST", "git/trees", lost).await.0, 422);

    let new = |name: &str, sha: &Value| json!({ "ref": name, "sha": sha });
    let message =
        |answer: (u16, Value)| (answer.0, answer.1["message"].as_str().unwrap_or_default().to_owned());
    assert_eq!(
        message(f.call("POST", "git/refs", new("refs/heads/main", &head)).await),
        (422, "Reference already exists".into())
    );
    assert_eq!(
        message(f.call("POST", "git/refs", new("refs/heads/x", &json!(zero))).await),
        (422, "Object does not exist".into())
    );
    assert_eq!(f.call("POST", "git/refs", new("refs/heads/a..b", &head)).await.0, 422);
    assert_eq!(f.call("POST", "git/refs", new("refs/heads/callboard/1-dev", &head)).await.0, 201);
    assert_eq!(f.call("GET", "git/ref/heads/callboard/1-dev", Value::Null).await.0, 200);
    assert_eq!(f.call("GET", "git/ref/heads/callboard", Value::Null).await.0, 404);
    assert_eq!(
        f.call("GET", "git/matching-refs/heads/call", Value::Null).await.1.as_array().unwrap().len(),
        1
    );

    // A commit without a parent is no fast forward.
    let tree = f.call("GET", "git/trees/main?recursive=1", Value::Null).await.1;
    assert!(tree["tree"].as_array().unwrap().iter().any(|e| e["path"] == "src/greeting.sh"));
    let orphan = f.call("POST", "git/commits", json!({ "message": "x", "tree": tree["sha"] })).await.1;
    let to = |force: bool| json!({ "sha": orphan["sha"], "force": force });
    let update = "git/refs/heads/callboard/1-dev";
    assert_eq!(
        message(f.call("PATCH", update, to(false)).await),
        (422, "Update is not a fast forward".into())
    );
    assert_eq!(f.call("PATCH", update, to(true)).await.0, 200);
    assert_eq!(f.call("DELETE", update, Value::Null).await.0, 204);
    assert_eq!(
        message(f.call("DELETE", update, Value::Null).await),
        (422, "Reference does not exist".into())
    );
}

#[tokio::test]
async fn pull_requests_are_validated() {
    let f = Fixture::new().await;
    let open = |head: &str| json!({ "title": "x", "head": head, "base": "main" });
    let (status, body) = f.call("POST", "pulls", open("nope")).await;
    assert_eq!(status, 422);
    assert_eq!(body["errors"][0], json!({ "resource": "PullRequest", "field": "head", "code": "invalid" }));
    let head = f.call("GET", "branches/main", Value::Null).await.1["commit"].clone();
    f.call("POST", "git/refs", json!({ "ref": "refs/heads/same", "sha": head["sha"] })).await;
    let words = |body: &Value| body["errors"][0]["message"].as_str().unwrap_or_default().to_owned();
    let (_, body) = f.call("POST", "pulls", open("same")).await;
    assert!(words(&body).starts_with("No commits between"), "{body}");

    let tree = &head["commit"]["tree"]["sha"];
    let new = json!({ "message": "x", "tree": tree, "parents": [head["sha"]] });
    let commit = f.call("POST", "git/commits", new).await.1;
    f.call("PATCH", "git/refs/heads/same", json!({ "sha": commit["sha"] })).await;
    assert_eq!(f.call("POST", "pulls", open("octocat:same")).await.0, 201);
    let (_, body) = f.call("POST", "pulls", open("same")).await;
    assert_eq!(words(&body), "A pull request already exists for octocat:same.");
    let found = f.call("GET", "pulls?head=octocat:same&state=open", Value::Null).await.1;
    assert_eq!(found[0]["number"], 1);
    assert_eq!(f.call("GET", "pulls?head=octocat:other", Value::Null).await.1, json!([]));
    let (_, closed) = f.call("PATCH", "pulls/1", json!({ "state": "closed" })).await;
    assert_eq!(closed["state"], "closed");
    let page = f.http.get(closed["html_url"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(page.status(), 200);
}

#[tokio::test]
async fn rights_are_asked_for() {
    let f = Fixture::new().await;
    for (login, permission) in [("maya", Permission::Maintain), ("tom", Permission::Triage)] {
        f.github.add_user(login, false);
        f.github.set_permission(REPOSITORY, login, permission).unwrap();
    }
    f.github.add_user("helper[bot]", true);
    let show = |login: &str| format!("collaborators/{login}/permission");
    let cells =
        |body: &Value| [&body["permission"], &body["role_name"], &body["user"]["type"]].map(Value::clone);
    let maya = f.call("GET", &show("maya"), Value::Null).await.1;
    assert_eq!(cells(&maya), [json!("write"), json!("maintain"), json!("User")]);
    f.github.add_user("stranger", false);
    let stranger = f.call("GET", &show("stranger"), Value::Null).await.1;
    assert_eq!(cells(&stranger), [json!("read"), json!("read"), json!("User")]);
    let (status, body) = f.call("GET", &show("helper[bot]"), Value::Null).await;
    assert_eq!((status, &body["message"]), (404, &json!("helper[bot] is not a user")));
    assert_eq!(cells(&f.call("GET", &show("octocat"), Value::Null).await.1)[0], "admin");
    assert_eq!(f.call("GET", &show("nobody"), Value::Null).await.0, 404);

    let tom = f.github.add_token("tom").unwrap();
    let as_tom = |method: &str, path: &str, body: Value| {
        answer(f.anonymous(method, path).header("Authorization", format!("token {tom}")).json(&body))
    };
    assert_eq!(as_tom("GET", &show("tom"), Value::Null).await.0, 403);
    let number = f.github.open_issue(REPOSITORY, "octocat", "x", "").unwrap();
    assert_eq!(as_tom("POST", "issues/1/labels", json!(["run:dev"])).await.0, 200);
    assert_eq!(f.github.labels(REPOSITORY, number), ["run:dev"]);
    assert_eq!(as_tom("POST", "git/blobs", json!({ "content": "x" })).await.0, 404);
    assert_eq!(as_tom("GET", "hooks", Value::Null).await.0, 404);
    let comment = f.github.add_comment(REPOSITORY, number, "octocat", "mine").unwrap();
    assert_eq!(as_tom("PATCH", &format!("issues/comments/{comment}"), json!({ "body": "his" })).await.0, 403);
    f.github.archive(REPOSITORY).unwrap();
    assert_eq!(f.call("POST", "issues", json!({ "title": "x" })).await.0, 403);
}

#[tokio::test]
async fn lists_come_in_pages_and_limits_are_told() {
    let f = Fixture::new().await;
    f.github.open_issue(REPOSITORY, "octocat", "x", "").unwrap();
    for n in 1..=7 {
        f.github.add_comment(REPOSITORY, 1, "octocat", &format!("{n}")).unwrap();
    }
    let response = f.request("GET", "issues/1/comments?per_page=3&page=2").send().await.unwrap();
    let headers = response.headers().clone();
    let link = headers["link"].to_str().unwrap();
    let address = |page: u8, rel: &str| {
        let base = f.github.api_url();
        format!("<{base}/repos/{REPOSITORY}/issues/1/comments?per_page=3&page={page}>; rel=\"{rel}\"")
    };
    let expected = [address(3, "next"), address(3, "last"), address(1, "prev"), address(1, "first")];
    assert_eq!(link, expected.join(", "));
    let bodies: Value = response.json().await.unwrap();
    assert_eq!(
        bodies.as_array().unwrap().iter().map(|c| c["body"].as_str().unwrap()).collect::<String>(),
        "456"
    );

    assert_eq!(
        (&headers["x-ratelimit-limit"], &headers["x-ratelimit-remaining"]),
        (&"5000".parse().unwrap(), &"4999".parse().unwrap())
    );
    assert!(headers.contains_key("x-github-request-id"));
    assert_eq!(f.call("GET", "/rate_limit", Value::Null).await.1["rate"]["used"], 1);
    for _ in 0..60 {
        assert_eq!(answer(f.anonymous("GET", "/meta")).await.0, 200);
    }
    let (status, body) = answer(f.anonymous("GET", "/meta")).await;
    assert_eq!(status, 403);
    assert!(body["message"].as_str().unwrap().starts_with("API rate limit exceeded"));
}

#[tokio::test]
async fn reactions_and_statuses_and_what_is_switched_off() {
    let f = Fixture::new().await;
    f.github.open_issue(REPOSITORY, "octocat", "x", "").unwrap();
    let eyes = json!({ "content": "eyes" });
    assert_eq!(f.call("POST", "issues/1/reactions", eyes.clone()).await.0, 201);
    assert_eq!(f.call("POST", "issues/1/reactions", eyes.clone()).await.0, 200);
    assert_eq!(f.github.reactions(REPOSITORY, 1).len(), 1);
    let sha =
        f.call("GET", "branches/main", Value::Null).await.1["commit"]["sha"].as_str().unwrap().to_owned();
    let pending = json!({ "state": "pending", "context": "callboard/dev" });
    assert_eq!(f.call("POST", &format!("statuses/{sha}"), pending.clone()).await.0, 201);
    assert_eq!(f.call("POST", &format!("statuses/{}", "1".repeat(40)), pending).await.0, 422);
    assert_eq!(f.github.statuses(REPOSITORY, &sha)[0].state, "pending");

    f.github.switch_off(Feature::Reactions);
    f.github.switch_off(Feature::CollaboratorPermission);
    assert_eq!(f.call("POST", "issues/1/reactions", eyes).await.0, 404);
    assert_eq!(f.call("GET", "collaborators/octocat/permission", Value::Null).await.0, 404);
    assert_eq!(f.call("GET", "issues/1", Value::Null).await.0, 200);
    f.github.switch_off(Feature::Issues);
    assert_eq!(f.call("GET", "issues/1", Value::Null).await.0, 410);
}

#[tokio::test]
async fn commits_are_compared() {
    let f = Fixture::new().await;
    let base =
        f.call("GET", "branches/main", Value::Null).await.1["commit"]["sha"].as_str().unwrap().to_owned();
    f.github.commit(REPOSITORY, "Say more", &[("README.md", "# Hello, you\n")]).await.unwrap();
    let head = f.github.commit(REPOSITORY, "Add", &[("docs/new.md", "new\n")]).await.unwrap();
    let (status, ahead) = f.call("GET", &format!("compare/{base}...{head}"), Value::Null).await;
    assert_eq!((status, &ahead["status"], &ahead["ahead_by"]), (200, &json!("ahead"), &json!(2)), "{ahead}");
    let names = |body: &Value| {
        let files = body["files"].as_array().unwrap().iter();
        files.map(|f| f["filename"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&ahead), ["README.md", "docs/new.md"]);
    assert_eq!(ahead["merge_base_commit"]["sha"], json!(base));
    assert_eq!(ahead["commits"][1]["commit"]["message"], "Add");

    // The files come with the first page of commits and with no other.
    let page = |n: u32| format!("compare/{base}...main?per_page=1&page={n}");
    let (_, first) = f.call("GET", &page(1), Value::Null).await;
    let (_, second) = f.call("GET", &page(2), Value::Null).await;
    assert_eq!((names(&first).len(), names(&second).len()), (2, 0));
    assert_eq!(second["commits"][0]["sha"], json!(head));

    assert_eq!(f.call("GET", &format!("compare/{head}...{base}"), Value::Null).await.1["status"], "behind");
    assert_eq!(f.call("GET", "compare/main...main", Value::Null).await.1["status"], "identical");
    assert_eq!(f.call("GET", &format!("compare/main...{}", "1".repeat(40)), Value::Null).await.0, 404);
    let many: Vec<(String, &str)> = (0..301).map(|n| (format!("many/{n}.txt"), "x\n")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    f.github.commit(REPOSITORY, "Many", &many).await.unwrap();
    let (_, body) = f.call("GET", &format!("compare/{head}...main"), Value::Null).await;
    assert_eq!(names(&body).len(), 300, "GitHub names no more");
}
