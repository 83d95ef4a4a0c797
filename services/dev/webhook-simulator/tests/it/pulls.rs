//! Reviews, merges, forks, and what they deliver.

use domain::rights::Permission;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    Fixture, REPOSITORY, answer,
    hooks::{Received, event, receiver},
};

/// A pull request of octocat's that changes the second line of `src/greeting.sh`, and its head.
async fn pull(f: &Fixture) -> (u64, String) {
    let files = [("src/greeting.sh", "#!/bin/sh\necho HELLO\n")];
    let sha = f.github.push_to_branch(REPOSITORY, "louder", "octocat", "Louder", &files).await.unwrap();
    let number = f.github.open_pull_request(REPOSITORY, "octocat", "Louder", "louder", "main").await.unwrap();
    (number, sha)
}

/// Skips deliveries until one of this event and action.
async fn next(received: &mut UnboundedReceiver<Received>, name: &str, action: &str) -> Value {
    loop {
        let delivery = received.recv().await.unwrap();
        let body: Value = serde_json::from_slice(&delivery.1).unwrap();
        if delivery.0["x-github-event"] == name && body["action"].as_str().unwrap_or_default() == action {
            event(&delivery);
            return body;
        }
    }
}

#[tokio::test]
async fn reviews_with_remarks() {
    let f = Fixture::new().await;
    let (number, sha) = pull(&f).await;
    let (url, mut received) = receiver().await;
    f.github.add_hook(REPOSITORY, &url, "s").unwrap();
    f.github.add_user("lena", false);
    let lena = f.github.add_token("lena").unwrap();
    let path = format!("pulls/{number}/reviews");
    let review = |body: Value| answer(f.anonymous("POST", &path).bearer_auth(&lena).json(&body));

    let remark = |line: u64, side: &str| json!({ "path": "src/greeting.sh", "line": line, "side": side, "body": "Why?" });
    let with = |remark: Value| json!({ "event": "REQUEST_CHANGES", "body": "Nearly", "commit_id": sha, "comments": [remark] });
    let words =
        |(status, body): (u16, Value)| (status, body["errors"][0].as_str().unwrap_or_default().to_owned());
    let outside = (422, "Pull request review thread line must be part of the diff".to_owned());
    assert_eq!(words(review(with(remark(9, "RIGHT"))).await), outside);
    let elsewhere = json!({ "path": "README.md", "line": 1, "body": "Why?" });
    assert_eq!(words(review(with(elsewhere)).await), (422, "Path could not be resolved".into()));
    let of_file = json!({ "path": "src/greeting.sh", "subject_type": "file", "body": "Why?" });
    assert_eq!(review(with(of_file)).await.0, 422, "GitHub takes no remark on a file here");
    assert_eq!(review(json!({ "event": "COMMENT" })).await.0, 422);
    let other = json!({ "event": "APPROVE", "commit_id": "1".repeat(40) });
    assert_eq!(review(other).await.0, 422);
    assert!(f.github.reviews(REPOSITORY, number).is_empty(), "all of it or nothing");

    let (status, made) = review(with(remark(2, "RIGHT"))).await;
    assert_eq!((status, &made["state"], &made["commit_id"]), (200, &json!("CHANGES_REQUESTED"), &json!(sha)));
    let submitted = next(&mut received, "pull_request_review", "submitted").await;
    assert_eq!(submitted["review"]["state"], "changes_requested", "deliveries have it in lower case");
    assert_eq!(submitted["review"]["id"], made["id"]);
    assert_eq!(submitted["pull_request"]["head"]["sha"], sha.as_str());
    assert_eq!(submitted["sender"]["login"], "lena");

    let remarks = f.call("GET", &format!("pulls/{number}/comments"), Value::Null).await.1;
    assert_eq!((&remarks[0]["line"], &remarks[0]["pull_request_review_id"]), (&json!(2), &made["id"]));
    // A push that touches the file outdates the remark.
    f.github
        .push_to_branch(REPOSITORY, "louder", "mona", "Once more", &[("src/greeting.sh", "echo hi\n")])
        .await
        .unwrap();
    let moved = next(&mut received, "pull_request", "synchronize").await;
    assert_eq!((&moved["before"], &moved["sender"]["login"]), (&json!(sha), &json!("ghost")));
    let remarks = f.call("GET", &format!("pulls/{number}/comments"), Value::Null).await.1;
    assert_eq!((&remarks[0]["line"], &remarks[0]["original_line"]), (&Value::Null, &json!(2)));

    // octocat may dismiss it; who can only read may not.
    let dismiss = format!("{path}/{}/dismissals", made["id"]);
    let message = json!({ "message": "Done" });
    let by_lena = answer(f.anonymous("PUT", &dismiss).bearer_auth(&lena).json(&message)).await;
    assert_eq!(by_lena.0, 404);
    let (status, dismissed) = f.call("PUT", &dismiss, message.clone()).await;
    assert_eq!((status, &dismissed["state"]), (200, &json!("DISMISSED")));
    let told = next(&mut received, "pull_request_review", "dismissed").await;
    assert_eq!(
        (&told["review"]["state"], &told["sender"]["login"]),
        (&json!("dismissed"), &json!("octocat"))
    );
    assert_eq!(f.call("PUT", &dismiss, message).await.0, 422);
    let page = f.http.get(moved["pull_request"]["html_url"].as_str().unwrap()).send().await.unwrap();
    let page = page.text().await.unwrap();
    assert!(page.contains("lena on src/greeting.sh, outdated"), "{page}");
}

#[tokio::test]
async fn nobody_approves_their_own_work() {
    let f = Fixture::new().await;
    let (number, _) = pull(&f).await;
    let path = format!("pulls/{number}/reviews");
    for (verdict, words) in [
        ("APPROVE", "Can not approve your own pull request"),
        ("REQUEST_CHANGES", "Can not request changes on your own pull request"),
    ] {
        let (status, body) = f.call("POST", &path, json!({ "event": verdict, "body": "x" })).await;
        assert_eq!((status, &body["errors"][0]), (422, &json!(words)));
    }
    assert_eq!(f.call("POST", &path, json!({ "event": "COMMENT", "body": "x" })).await.0, 200);
    assert!(f.github.review(REPOSITORY, number, "octocat", "approve", "", &[]).await.is_err());
    f.github
        .review(REPOSITORY, number, "lena", "approve", "", &[("src/greeting.sh", 2, "Nice")])
        .await
        .unwrap();
    let listed = f.call("GET", &path, Value::Null).await.1;
    assert_eq!((&listed[0]["state"], &listed[1]["state"]), (&json!("COMMENTED"), &json!("APPROVED")));
    assert!(f.github.review(REPOSITORY, number, "lena", "bless", "", &[]).await.is_err());
}

#[tokio::test]
async fn merges() {
    let f = Fixture::new().await;
    let (number, sha) = pull(&f).await;
    let (url, mut received) = receiver().await;
    f.github.add_hook(REPOSITORY, &url, "s").unwrap();
    let path = format!("pulls/{number}/merge");
    let (status, body) = f.call("PUT", &path, json!({ "sha": "1".repeat(40) })).await;
    assert_eq!(
        (status, &body["message"]),
        (409, &json!("Head branch was modified. Review and try the merge again."))
    );
    let (status, merged) = f.call("PUT", &path, json!({ "sha": sha, "merge_method": "squash" })).await;
    assert_eq!((status, &merged["merged"]), (200, &json!(true)));
    let closed = next(&mut received, "pull_request", "closed").await["pull_request"].clone();
    assert_eq!((&closed["merged"], &closed["merge_commit_sha"]), (&json!(true), &merged["sha"]));
    assert_eq!(closed["merged_by"]["login"], "octocat");
    assert_eq!(next(&mut received, "push", "").await["after"], merged["sha"]);
    let main = f.call("GET", "branches/main", Value::Null).await.1["commit"].clone();
    assert_eq!((&main["sha"], main["parents"].as_array().unwrap().len()), (&merged["sha"], 1));
    let file = f.call("GET", "contents/src/greeting.sh", Value::Null).await.1;
    assert_eq!(file["size"], "#!/bin/sh\necho HELLO\n".len());
    assert_eq!(f.call("PUT", &path, json!({})).await.0, 405, "once is enough");
    assert_eq!(f.call("PATCH", &format!("pulls/{number}"), json!({ "state": "open" })).await.0, 422);
    assert!(f.github.pull_requests(REPOSITORY)[0].merged);
    assert!(
        f.call("GET", &format!("issues/{number}"), Value::Null).await.1["pull_request"]["merged_at"]
            .is_string()
    );

    // A conflict; and one that is closed without being merged.
    f.github
        .push_to_branch(REPOSITORY, "other", "octocat", "Other", &[("README.md", "other\n")])
        .await
        .unwrap();
    let other = f.github.open_pull_request(REPOSITORY, "octocat", "Other", "other", "main").await.unwrap();
    f.github.commit(REPOSITORY, "Main", &[("README.md", "main\n")]).await.unwrap();
    assert_eq!(f.call("PUT", &format!("pulls/{other}/merge"), json!({})).await.0, 405);
    f.github.close_pull(REPOSITORY, other, "octocat").unwrap();
    assert_eq!(next(&mut received, "pull_request", "closed").await["pull_request"]["merged"], false);
    // With a merge commit.
    f.github.push_to_branch(REPOSITORY, "third", "octocat", "Third", &[("third", "3\n")]).await.unwrap();
    let third = f.github.open_pull_request(REPOSITORY, "octocat", "Third", "third", "main").await.unwrap();
    let commit = f.github.merge(REPOSITORY, third, "octocat").await.unwrap();
    let commit = f.call("GET", &format!("git/commits/{commit}"), Value::Null).await.1;
    assert_eq!(commit["parents"].as_array().unwrap().len(), 2);
    assert!(
        commit["message"]
            .as_str()
            .unwrap()
            .starts_with(&format!("Merge pull request #{third} from octocat/third"))
    );
}

#[tokio::test]
async fn a_fork() {
    let f = Fixture::new().await;
    let (url, mut received) = receiver().await;
    f.github.add_hook(REPOSITORY, &url, "s").unwrap();
    let files = [("README.md", "# Hello from mallory\n")];
    let number = f
        .github
        .open_pull_request_from_fork(REPOSITORY, "mallory", "Say who", "patch-1", &files)
        .await
        .unwrap();
    let opened = next(&mut received, "pull_request", "opened").await["pull_request"].clone();
    assert_eq!(opened["head"]["repo"]["full_name"], "mallory/hello-world");
    assert_eq!(
        (&opened["head"]["repo"]["fork"], &opened["head"]["label"]),
        (&json!(true), &json!("mallory:patch-1"))
    );
    assert_eq!(opened["base"]["repo"]["full_name"], REPOSITORY);
    assert!(f.github.pull_requests(REPOSITORY)[0].from_fork);
    // The repository has the head under the pull request's ref, and under no branch.
    assert_eq!(
        f.call("GET", &format!("git/ref/pull/{number}/head"), Value::Null).await.1["object"]["sha"],
        opened["head"]["sha"]
    );
    assert_eq!(f.call("GET", "branches/patch-1", Value::Null).await.0, 404);
    let listed = f.call("GET", "pulls?head=mallory:patch-1", Value::Null).await.1;
    assert_eq!(listed[0]["number"], number);
    assert_eq!(f.call("GET", "pulls?head=octocat:patch-1", Value::Null).await.1, json!([]));

    // A push to the fork is a new head of the pull request, and no push to the repository.
    let sha = f
        .github
        .push_to_branch("mallory/hello-world", "patch-1", "mallory", "More", &[("more", "m\n")])
        .await
        .unwrap();
    assert_eq!(next(&mut received, "pull_request", "synchronize").await["after"], sha.as_str());
    f.github.add_user("lena", false);
    f.github.set_permission(REPOSITORY, "lena", Permission::Write).unwrap();
    f.github.review(REPOSITORY, number, "lena", "approve", "", &[("more", 1, "m")]).await.unwrap();
    assert!(f.github.pull_request_diff(REPOSITORY, number).await.unwrap().contains("+m"));
}

#[tokio::test]
async fn what_happens_to_issues_comments_and_the_repository() {
    let f = Fixture::new().await;
    let (url, mut received) = receiver().await;
    f.github.add_hook(REPOSITORY, &url, "s").unwrap();
    f.github.create_repository("octocat/elsewhere", false, &[("a", "b")]).await.unwrap();
    let first = f.github.open_issue(REPOSITORY, "octocat", "First", "").unwrap();
    let second = f.github.open_issue(REPOSITORY, "octocat", "Second", "").unwrap();
    f.github.edit_issue(REPOSITORY, first, "octocat", None, Some("Please")).unwrap();
    assert_eq!(next(&mut received, "issues", "edited").await["changes"]["body"]["from"], "");
    let there = f.github.transfer_issue(REPOSITORY, first, "octocat/elsewhere", "octocat").unwrap();
    let transferred = next(&mut received, "issues", "transferred").await;
    assert_eq!((&transferred["issue"]["number"], there), (&json!(first), 1));
    assert_eq!(transferred["changes"]["new_repository"]["full_name"], "octocat/elsewhere");

    let comment = f.github.add_comment(REPOSITORY, second, "octocat", "/callboard run dev").unwrap();
    let eyes = json!({ "content": "+1" });
    let reactions = format!("issues/comments/{comment}/reactions");
    assert_eq!(f.call("POST", &reactions, eyes.clone()).await.0, 201);
    assert_eq!(f.call("POST", &reactions, eyes).await.0, 200);
    assert_eq!(f.github.comments(REPOSITORY, second)[0].reactions[0].content, "+1");
    f.github.edit_comment(REPOSITORY, comment, "octocat", "Never mind").unwrap();
    assert_eq!(
        next(&mut received, "issue_comment", "edited").await["changes"]["body"]["from"],
        "/callboard run dev"
    );
    f.github.delete_comment(REPOSITORY, comment, "octocat").unwrap();
    next(&mut received, "issue_comment", "deleted").await;
    f.github.delete_issue(REPOSITORY, second, "octocat").unwrap();
    assert_eq!(next(&mut received, "issues", "deleted").await["issue"]["number"], second);
    assert_eq!(f.github.open_issue(REPOSITORY, "octocat", "Third", "").unwrap(), 3, "numbers are given once");

    f.github.archive(REPOSITORY).unwrap();
    assert_eq!(next(&mut received, "repository", "archived").await["repository"]["archived"], true);
    f.github.unarchive(REPOSITORY).unwrap();
    next(&mut received, "repository", "unarchived").await;
    f.github.rename_repository(REPOSITORY, "goodbye-world", "octocat").unwrap();
    let renamed = next(&mut received, "repository", "renamed").await;
    assert_eq!(renamed["changes"]["repository"]["name"]["from"], "hello-world");
    assert_eq!(renamed["repository"]["full_name"], "octocat/goodbye-world");
    // The old name leads to the new one: for reading, and for git.
    assert_eq!(f.call("GET", "issues/3", Value::Null).await.1["title"], "Third");
    let (status, body) = answer(f.request("POST", "issues/3/comments").json(&json!({ "body": "x" }))).await;
    assert_eq!((status, &body["body"]), (201, &json!("x")), "a client that follows 307");
    crate::git(f.folder.path(), &["clone", "--quiet", &f.remote(), "clone"]).await;
    f.github.create_repository("octocat/another", false, &[("a", "b")]).await.unwrap();
    assert!(f.github.rename_repository("octocat/another", "elsewhere", "octocat").is_err());
}
