//! Requests that go wrong as a test says; and how a client cleans up after that.

use serde_json::{Value, json};
use webhook_simulator::Fault;

use crate::{Fixture, REPOSITORY, answer};

const COMMENTS: &str = "POST /repos/{owner}/{repo}/issues/{number}/comments";

#[tokio::test]
async fn an_answer_gets_lost_after_the_work_was_done() {
    let f = Fixture::new().await;
    f.github.open_issue(REPOSITORY, "octocat", "x", "").unwrap();
    f.github.fault(Fault::LoseAnswer, COMMENTS, 1);
    let new = json!({ "body": "Hello" });
    let sent = f.request("POST", "issues/1/comments").json(&new).send().await;
    let read = match sent {
        Ok(response) => response.text().await.map(drop),
        Err(error) => Err(error),
    };
    assert!(read.is_err(), "no whole answer");
    assert_eq!(f.github.comments(REPOSITORY, 1).len(), 1, "it was done");
    assert_eq!(f.call("POST", "issues/1/comments", new).await.0, 201);
    assert_eq!(f.github.comments(REPOSITORY, 1).len(), 2);
}

#[tokio::test]
async fn a_request_is_refused_before_anything_is_done() {
    let f = Fixture::new().await;
    f.github.open_issue(REPOSITORY, "octocat", "x", "").unwrap();
    f.github.fault(Fault::Refuse(502), COMMENTS, 2);
    let new = json!({ "body": "Hello" });
    for _ in 0..2 {
        assert_eq!(f.call("POST", "issues/1/comments", new.clone()).await.0, 502);
    }
    assert_eq!(f.call("GET", "issues/1/comments", Value::Null).await.0, 200, "another request");
    assert!(f.github.comments(REPOSITORY, 1).is_empty());
    assert_eq!(f.call("POST", "issues/1/comments", new).await.0, 201);
}

#[tokio::test]
async fn a_comment_is_deleted_once_and_only_by_who_may() {
    let f = Fixture::new().await;
    f.github.open_issue(REPOSITORY, "octocat", "x", "").unwrap();
    f.github.add_user("mallory", false);
    let id = f.github.add_comment(REPOSITORY, 1, "octocat", "Hello").unwrap();
    let path = format!("issues/comments/{id}");
    let mallory = f.github.add_token("mallory").unwrap();
    assert_eq!(answer(f.anonymous("DELETE", &path).bearer_auth(mallory)).await.0, 403);
    assert_eq!(f.call("DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(f.call("DELETE", &path, Value::Null).await.0, 404);
    assert!(f.github.comments(REPOSITORY, 1).is_empty());
}
