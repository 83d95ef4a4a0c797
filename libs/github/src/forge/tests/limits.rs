//! GitHub's limits, answers that are kept, and bodies that are slow or cut.

use std::sync::atomic::{AtomicU64, Ordering};

use forge::{Level, Limit};

use super::*;

fn limited(error: &ForgeError) -> (u64, Limit) {
    let ForgeError::Limited { retry_after, limit } = error else { panic!("{error:?}") };
    (retry_after.as_secs(), *limit)
}

#[tokio::test]
async fn one_limit_closes_the_whole_budget_without_another_call() {
    let server = Server::start(|_| {
        let (status, mut headers, body) = refused(403, "You have exceeded a secondary rate limit");
        headers.push(("retry-after", "90".to_owned()));
        (status, headers, body)
    })
    .await;
    assert_eq!(server.forge.allowance(&repository()), Allowance::FULL);
    let error = server.forge.create_comment(&repository(), 7, "hello").await.unwrap_err();
    assert_eq!(limited(&error), (90, Limit::Pace));
    for _ in 0..3 {
        let error = server.forge.repository(&repository()).await.unwrap_err();
        assert_eq!(limited(&error), (90, Limit::Pace));
    }
    assert_eq!(server.calls().len(), 1, "the others were not sent");
    let allowance = server.forge.allowance(&repository());
    assert_eq!(allowance.closed_until, Some(Noon.now() + TimeDelta::seconds(90)));
    assert_eq!(allowance.writes_in, Duration::from_secs(90));
}

#[tokio::test]
async fn the_hour_is_counted_by_what_github_says() {
    let left = Arc::new(AtomicU64::new(3));
    let counting = Arc::clone(&left);
    let server = Server::start(move |_| {
        let left = counting.fetch_sub(1, Ordering::SeqCst) - 1;
        let (status, mut headers, body) = json_reply(200, &repository_body());
        headers.push(("x-ratelimit-limit", "60".to_owned()));
        headers.push(("x-ratelimit-remaining", left.to_string()));
        headers.push(("x-ratelimit-reset", (Noon.now().timestamp() + 600).to_string()));
        (status, headers, body)
    })
    .await;
    for _ in 0..3 {
        server.forge.repository(&repository()).await.unwrap();
    }
    assert_eq!(server.forge.allowance(&repository()).level, Level::Scarce);
    let error = server.forge.repository(&repository()).await.unwrap_err();
    assert_eq!(limited(&error), (600, Limit::Calls));
    assert_eq!(server.calls().len(), 3);
}

#[tokio::test]
async fn comments_stop_before_github_stops_them() {
    let server = Server::start(|seen| match seen.method {
        Method::GET => json_reply(200, &repository_body()),
        _ => json_reply(201, &comment_body(5)),
    })
    .await;
    for _ in 0..75 {
        server.forge.create_comment(&repository(), 7, "hello").await.unwrap();
    }
    let error = server.forge.update_comment(&repository(), 5, "hello").await.unwrap_err();
    assert_eq!(limited(&error), (60, Limit::ContentPerMinute(80)));
    assert_eq!(
        error.to_string(),
        "the code host's limit on comments (80 a minute) is reached, free again in 60 s"
    );
    assert_eq!(server.calls().len(), 75);
    // Reading and labels go on.
    server.forge.repository(&repository()).await.unwrap();
    server.forge.add_labels(&repository(), 7, &["a".to_owned()]).await.unwrap();
    let allowance = server.forge.allowance(&repository());
    assert_eq!((allowance.level, allowance.closed_until), (Level::Plenty, None));
    assert_eq!(allowance.writes_in, Duration::from_secs(60));
}

#[tokio::test]
async fn what_did_not_change_is_not_sent_again() {
    let server = Server::start(|seen| {
        let tag = seen.headers.get("if-none-match").and_then(|tag| tag.to_str().ok());
        let (mut status, mut headers, mut body) = if seen.target.contains("/contents/") {
            (200, vec![("content-type", "text/plain".to_owned())], "stages: []\n".to_owned())
        } else {
            json_reply(200, &repository_body())
        };
        if tag == Some("\"one\"") {
            (status, headers, body) = (304, Vec::new(), String::new());
        }
        headers.push(("etag", "\"one\"".to_owned()));
        (status, headers, body)
    })
    .await;
    let name = repository();
    for _ in 0..3 {
        assert_eq!(server.forge.repository(&name).await.unwrap().default_branch, "trunk");
        let file = server.forge.file(&name, "a.yaml", &SHA.parse().unwrap()).await.unwrap();
        assert_eq!(file.as_deref(), Some(&b"stages: []\n"[..]), "it is no JSON, also when it is kept");
    }
    let tags: Vec<bool> =
        server.seen().iter().map(|seen| seen.headers.contains_key("if-none-match")).collect();
    assert_eq!(tags, [false, false, true, true, true, true]);
    // The same path as something else is another answer.
    server.forge.files_below(&name, "a.yaml", &SHA.parse().unwrap()).await.unwrap_err();
    assert!(!server.seen()[6].headers.contains_key("if-none-match"));
}

/// What is looked into right after a write, and who may do what, is never a kept answer.
#[tokio::test]
async fn lists_and_rights_are_always_read_anew() {
    let server = Server::start(|seen| {
        let (status, mut headers, body) = if seen.target.contains("/collaborators/") {
            json_reply(200, &json!({ "permission": "write" }))
        } else {
            json_reply(200, &json!([]))
        };
        headers.push(("etag", "\"one\"".to_owned()));
        (status, headers, body)
    })
    .await;
    for _ in 0..2 {
        server.forge.comments(&repository(), 7).await.unwrap();
        server.forge.reviews(&repository(), 7).await.unwrap();
        server.forge.pull_requests_of(&repository(), "x").await.unwrap();
        server.forge.labels(&repository()).await.unwrap();
        server.forge.permission(&repository(), "mona").await.unwrap();
    }
    assert!(server.seen().iter().all(|seen| !seen.headers.contains_key("if-none-match")));
}

/// A server that sends this and closes the connection, or stays silent.
async fn raw_server(answer: &'static str, closes: bool) -> GithubForge {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _read = socket.read(&mut request).await.unwrap();
        socket.write_all(answer.as_bytes()).await.unwrap();
        if !closes {
            std::future::pending::<()>().await;
        }
    });
    GithubForge::new(settings(&url)).unwrap()
}

#[tokio::test]
async fn a_body_that_is_cut_is_an_outage() {
    let cut = "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"id\":";
    let forge = raw_server(cut, true).await;
    let error = forge.create_comment(&repository(), 7, "hello").await.unwrap_err();
    assert!(matches!(error, ForgeError::Outage { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_an_outage() {
    let slow =
        "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"id\":";
    let forge = raw_server(slow, false).await;
    let error = forge.create_comment(&repository(), 7, "hello").await.unwrap_err();
    assert!(matches!(error, ForgeError::Outage { .. }), "{error:?}");
}
