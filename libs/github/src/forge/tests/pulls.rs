//! Pull requests and reviews.

use forge::{NewRemark, ReviewState};

use super::*;

#[tokio::test]
async fn the_pull_requests_of_a_branch_open_and_closed() {
    let pull = |number: u64, branch: &str, owner: &str, state: &str| {
        json!({
            "number": number, "html_url": "https://github.com/p", "state": state,
            "head": { "ref": branch, "sha": SHA, "repo": { "full_name": format!("{owner}/hello-world") } },
        })
    };
    // A server that does not filter; and one whose repository is gone.
    let mut all = json!([
        pull(5, "other", "octocat", "open"),
        pull(4, "callboard/7-dev", "mallory", "open"),
        pull(3, "callboard/7-dev", "Octocat", "open"),
        pull(2, "callboard/7-dev", "octocat", "closed"),
        pull(1, "callboard/7-dev", "octocat", "open"),
    ]);
    all[4]["head"]["repo"] = Value::Null;
    let server = Server::start(move |_| json_reply(200, &all)).await;
    let found = server.forge.pull_requests_of(&repository(), "callboard/7-dev").await.unwrap();
    let found: Vec<_> = found.iter().map(|p| (p.number, p.open, p.head_sha.as_str())).collect();
    assert_eq!(found, [(3, true, SHA), (2, false, SHA)]);
    assert_eq!(server.calls(), ["GET /pulls?head=octocat%3Acallboard%2F7-dev&state=all&per_page=100"]);
    let server = Server::start(|_| json_reply(200, &json!([]))).await;
    assert!(server.forge.pull_requests_of(&repository(), "x").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_pull_request_is_opened_once() {
    let created = |status: u16, body: Value| async move {
        let server = Server::start(move |_| json_reply(status, &body)).await;
        let new = NewPullRequest {
            title: "T".into(),
            body: "B".into(),
            head: "callboard/7-dev".into(),
            base: "trunk".into(),
        };
        let outcome = server.forge.create_pull_request(&repository(), &new).await;
        (outcome, server.seen()[0].body.clone())
    };
    let body = json!({ "number": 8, "html_url": "https://github.com/p", "state": "open", "head": { "ref": "x", "sha": SHA } });
    let (outcome, sent) = created(201, body).await;
    assert_eq!(outcome.unwrap().number, 8);
    assert_eq!(sent, json!({ "title": "T", "body": "B", "head": "callboard/7-dev", "base": "trunk" }));
    let exists = json!({ "message": "Validation Failed", "errors": [{ "message": "A pull request already exists for octocat:x." }] });
    assert!(matches!(created(422, exists).await.0, Err(ForgeError::Conflict { .. })));
}

fn pull_body() -> Value {
    json!({
        "number": 8, "title": "Add a greeting", "body": null, "user": { "login": "callboard-user" },
        "html_url": "https://github.com/octocat/hello-world/pull/8", "state": "closed", "merged": true,
        "labels": [{ "id": 1, "name": "need:reviewer", "color": "ededed" }],
        "head": { "ref": "callboard/7-dev", "sha": SHA, "repo": { "full_name": "Octocat/Hello-World" } },
        "base": { "ref": "trunk", "sha": OTHER_SHA, "repo": { "full_name": "Octocat/Hello-World" } },
    })
}

#[tokio::test]
async fn a_pull_request_is_read() {
    let server = Server::start(|_| json_reply(200, &pull_body())).await;
    let pull = server.forge.pull_request(&repository(), 8).await.unwrap();
    assert_eq!(server.calls(), ["GET /pulls/8"]);
    assert_eq!((pull.branch.as_str(), pull.head_sha.as_str()), ("callboard/7-dev", SHA));
    assert_eq!((pull.base.as_str(), pull.base_sha.as_str()), ("trunk", OTHER_SHA));
    assert_eq!((pull.body.as_str(), pull.author.as_str()), ("", "callboard-user"));
    assert_eq!((pull.open, pull.merged, pull.from_fork), (false, true, false));
    assert_eq!(pull.labels, ["need:reviewer"]);

    for head in [json!({ "full_name": "mallory/hello-world" }), Value::Null] {
        let mut body = pull_body();
        body["head"]["repo"] = head;
        let server = Server::start(move |_| json_reply(200, &body)).await;
        assert!(server.forge.pull_request(&repository(), 8).await.unwrap().from_fork);
    }
    // Renamed since: both sides say the new name.
    let mut body = pull_body();
    for side in ["head", "base"] {
        body[side]["repo"]["full_name"] = json!("octocat/goodbye-world");
    }
    let server = Server::start(move |_| json_reply(200, &body)).await;
    assert!(!server.forge.pull_request(&repository(), 8).await.unwrap().from_fork);
}

#[tokio::test]
async fn the_files_of_a_pull_request_on_all_pages() {
    let server = Server::start(|seen| {
        let first = seen.target.ends_with("&page=1");
        let mut files: Vec<Value> =
            (0..if first { 100 } else { 0 }).map(|n| json!({ "filename": format!("{n}.txt") })).collect();
        if !first {
            files.push(json!({ "filename": "new.txt", "status": "renamed", "previous_filename": "old.txt" }));
        }
        json_reply(200, &Value::Array(files))
    });
    let server = server.await;
    let files = server.forge.files_of_pull_request(&repository(), 8).await.unwrap();
    assert_eq!((files.len(), &files[100..]), (102, &["new.txt".to_owned(), "old.txt".to_owned()][..]));
    assert_eq!(
        server.calls(),
        ["GET /pulls/8/files?per_page=100&page=1", "GET /pulls/8/files?per_page=100&page=2"]
    );
    // A list without an end has one for us.
    let full: Vec<Value> = (0..100).map(|n| json!({ "filename": format!("{n}") })).collect();
    let server = Server::start(move |_| json_reply(200, &json!(full))).await;
    assert_eq!(server.forge.files_of_pull_request(&repository(), 8).await.unwrap().len(), 3000);
}

fn review_body(id: u64, state: &str) -> Value {
    json!({
        "id": id, "user": { "login": "lena" }, "body": "Nearly", "state": state, "commit_id": SHA,
        "html_url": format!("https://github.com/r#{id}"), "submitted_at": "2024-10-01T12:00:00Z",
        "author_association": "MEMBER",
    })
}

/// As GitHub's documentation shows them, with more than we read.
#[tokio::test]
async fn reviews_are_read_with_their_remarks() {
    let server = Server::start(|seen| {
        let remark = |review: u64, more: Value| {
            let mut body = json!({
                "id": 10, "pull_request_review_id": review, "path": "src/greeting.sh", "user": { "login": "lena" },
                "body": "Louder", "side": "RIGHT", "line": 2, "original_line": 2, "subject_type": "line",
                "created_at": "2024-10-01T12:00:00Z", "updated_at": "2024-10-01T12:00:01Z", "diff_hunk": "@@ -1 +1 @@",
            });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        if seen.target.contains("/reviews") {
            let mut pending = review_body(4, "PENDING");
            pending.as_object_mut().unwrap().remove("submitted_at");
            let mut gone = review_body(3, "DISMISSED");
            (gone["user"], gone["commit_id"]) = (Value::Null, Value::Null);
            return json_reply(
                200,
                &json!([review_body(1, "CHANGES_REQUESTED"), review_body(2, "APPROVED"), gone, pending]),
            );
        }
        json_reply(
            200,
            &json!([
                remark(1, json!({})),
                remark(1, json!({ "line": 5, "side": "LEFT" })),
                remark(1, json!({ "line": null, "path": "README.md", "subject_type": "file" })),
                remark(4, json!({})),
            ]),
        )
    });
    let server = server.await;
    let reviews = server.forge.reviews(&repository(), 8).await.unwrap();
    assert_eq!(
        server.calls(),
        ["GET /pulls/8/reviews?per_page=100&page=1", "GET /pulls/8/comments?per_page=100&page=1"]
    );
    let seen: Vec<_> = reviews.iter().map(|r| (r.id, r.state, r.author.as_str(), r.remarks.len())).collect();
    assert_eq!(
        seen,
        [
            (1, ReviewState::ChangesRequested, "lena", 3),
            (2, ReviewState::Approved, "lena", 0),
            (3, ReviewState::Dismissed, "ghost", 0),
        ]
    );
    assert_eq!(reviews[0].commit, SHA.parse().ok());
    let lines: Vec<_> = reviews[0].remarks.iter().map(|r| (r.path.as_str(), r.line)).collect();
    assert_eq!(lines, [("src/greeting.sh", Some(2)), ("src/greeting.sh", None), ("README.md", None)]);

    let server = Server::start(|_| json_reply(200, &json!([]))).await;
    assert!(server.forge.reviews(&repository(), 8).await.unwrap().is_empty());
    assert_eq!(server.calls().len(), 1, "without a review there are no remarks");
}

fn new_review() -> NewReview {
    let remark = |path: &str, line, body: &str| NewRemark { path: path.into(), line, body: body.into() };
    NewReview {
        head: SHA.parse().unwrap(),
        body: "Two findings".into(),
        remarks: vec![remark("src/greeting.sh", Some(2), "Louder"), remark("a`b.md", None, "Say who")],
    }
}

#[tokio::test]
async fn a_review_is_written_in_one_call() {
    let server = Server::start(|_| json_reply(200, &review_body(5, "COMMENTED"))).await;
    let written = server.forge.create_review(&repository(), 8, &new_review()).await.unwrap();
    assert_eq!((written.id, written.state, written.remarks.len()), (5, ReviewState::Commented, 1));
    assert_eq!(server.calls(), ["POST /pulls/8/reviews"]);
    assert_eq!(
        server.seen()[0].body,
        json!({
            "commit_id": SHA,
            "event": "COMMENT",
            "body": "Two findings\n\n**`a'b.md`**\n\nSay who",
            "comments": [{ "path": "src/greeting.sh", "line": 2, "side": "RIGHT", "body": "Louder" }],
        })
    );
    let outside = json!({
        "message": "Unprocessable Entity", "errors": ["Pull request review thread line must be part of the diff"],
    });
    let server = Server::start(move |_| json_reply(422, &outside)).await;
    let error = server.forge.create_review(&repository(), 8, &new_review()).await.unwrap_err();
    assert!(
        matches!(&error, ForgeError::Invalid { message } if message.ends_with("line must be part of the diff")),
        "{error:?}"
    );
    // Written, and not as we asked: somebody has to look.
    let server = Server::start(|_| json_reply(200, &review_body(5, "PENDING"))).await;
    let error = server.forge.create_review(&repository(), 8, &new_review()).await.unwrap_err();
    assert!(matches!(error, ForgeError::Outage { .. }), "{error:?}");
}

#[tokio::test]
async fn the_text_of_a_pull_request_is_replaced() {
    let server = Server::start(|_| json_reply(200, &pull_body())).await;
    server.forge.update_pull_request(&repository(), 8, "Asked, done, checked").await.unwrap();
    assert_eq!(server.calls(), ["PATCH /pulls/8"]);
    assert_eq!(server.seen()[0].body, json!({ "body": "Asked, done, checked" }));
}
