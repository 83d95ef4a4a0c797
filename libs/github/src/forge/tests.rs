use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{body::Bytes, http::HeaderMap, response::IntoResponse};
use chrono::TimeDelta;
use domain::clock::Clock;
use forge::{FileMode, TreeChange};
use http::{Method, StatusCode, Uri};
use serde_json::Value;

use super::*;
use crate::Credential;

const TOKEN: &str = "ghp_0123456789abcdefghijklmnopqrstuvwxyz";
const SHA: &str = "0123456789012345678901234567890123456789";
const OTHER_SHA: &str = "abcdefabcdefabcdefabcdefabcdefabcdefabcd";

#[derive(Debug)]
struct Noon;
impl Clock for Noon {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
    }
}

pub(crate) fn noon() -> Arc<dyn Clock> {
    Arc::new(Noon)
}

pub(crate) fn settings(url: &str) -> GithubSettings {
    let credential = Credential::PersonalAccessToken(TOKEN.into());
    let api_url = url.parse().expect("a URL");
    GithubSettings { api_url, credential, clock: noon(), list_lag: Duration::ZERO }
}

#[derive(Clone, Debug)]
struct Seen {
    method: Method,
    /// Path and query.
    target: String,
    headers: HeaderMap,
    body: Value,
}

type Reply = (u16, Vec<(&'static str, String)>, String);

fn json_reply(status: u16, body: &Value) -> Reply {
    (status, vec![("content-type", "application/json".to_owned())], body.to_string())
}

fn refused(status: u16, message: &str) -> Reply {
    json_reply(status, &json!({ "message": message, "documentation_url": "https://docs.github.com/rest" }))
}

/// A server that answers as told and remembers what it was asked.
struct Server {
    forge: GithubForge,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    async fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let record = Arc::clone(&seen);
        let answer = Arc::new(answer);
        let app =
            axum::Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
                let (record, answer) = (Arc::clone(&record), Arc::clone(&answer));
                async move {
                    let body = serde_json::from_slice(&body).unwrap_or_default();
                    let one = Seen { method, target: uri.to_string(), headers, body };
                    let (status, headers, body) = answer(&one);
                    record.lock().unwrap().push(one);
                    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
                    for (name, value) in headers {
                        response.headers_mut().insert(name, value.parse().unwrap());
                    }
                    response
                }
            });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/v3", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { forge: GithubForge::new(settings(&url)).unwrap(), seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// "METHOD target" of every call so far, without the part that all share.
    fn calls(&self) -> Vec<String> {
        let short = |seen: Seen| {
            let target =
                seen.target.trim_start_matches("/api/v3").trim_start_matches("/repos/octocat/hello-world");
            format!("{} {target}", seen.method)
        };
        self.seen().into_iter().map(short).collect()
    }
}

fn repository() -> RepositoryName {
    "octocat/hello-world".parse().unwrap()
}

fn repository_body() -> Value {
    json!({
        "full_name": "Octocat/Hello-World", "default_branch": "trunk", "private": true,
        "permissions": { "admin": false, "maintain": false, "push": true, "triage": true, "pull": true },
    })
}

fn issue_body(labels: &Value) -> Value {
    json!({
        "number": 7, "title": "Title", "body": null, "user": null, "state": "open", "labels": labels,
        "html_url": "https://github.com/octocat/hello-world/issues/7",
    })
}

fn comment_body(id: u64) -> Value {
    json!({
        "id": id, "user": { "login": "mona" }, "author_association": "OWNER", "body": "text",
        "created_at": "2024-10-01T12:00:00Z", "updated_at": "2024-10-01T12:00:01Z", "html_url": "https://github.com/c",
    })
}

#[tokio::test]
async fn requests_are_what_github_expects() {
    let server = Server::start(|_| json_reply(200, &json!({ "login": "callboard-user" }))).await;
    assert_eq!(server.forge.identity().await.unwrap(), "callboard-user");
    assert_eq!(server.forge.identity().await.unwrap(), "callboard-user");
    let seen = server.seen();
    assert_eq!(seen.len(), 1, "the identity is kept");
    assert_eq!(seen[0].target, "/api/v3/user");
    let header =
        |name: &str| seen[0].headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect::<Vec<_>>();
    assert_eq!(header("authorization"), [format!("Bearer {TOKEN}")]);
    assert_eq!(header("accept"), ["application/vnd.github+json"]);
    assert_eq!(header("x-github-api-version"), ["2022-11-28"]);
    assert!(
        header("user-agent").iter().any(|agent| agent.starts_with("callboard/")),
        "{:?}",
        header("user-agent")
    );
}

#[tokio::test]
async fn the_token_is_in_no_error_and_no_debug_text() {
    let server = Server::start(|_| refused(403, &format!("`{TOKEN}` is not allowed"))).await;
    let error = server.forge.repository(&repository()).await.unwrap_err();
    assert!(matches!(error, ForgeError::Denied { .. }), "{error}");
    let gone = GithubForge::new(settings("http://127.0.0.1:1")).unwrap();
    let unreachable = gone.repository(&repository()).await.unwrap_err();
    assert!(matches!(unreachable, ForgeError::Outage { .. }), "{unreachable}");
    for text in [
        format!("{error} {error:?}"),
        format!("{unreachable:?}"),
        format!("{:?} {:?}", server.forge, settings("http://h")),
    ] {
        assert!(!text.contains(TOKEN), "{text}");
    }
}

#[tokio::test]
async fn each_kind_of_failure_comes_through_and_nothing_is_retried() {
    type IsKind = fn(&ForgeError) -> bool;
    let kinds: [(u16, IsKind); 8] = [
        (401, |e| matches!(e, ForgeError::Denied { .. })),
        (404, |e| matches!(e, ForgeError::Missing { .. })),
        (405, |e| matches!(e, ForgeError::Unsupported { .. })),
        (409, |e| matches!(e, ForgeError::Conflict { .. })),
        (422, |e| matches!(e, ForgeError::Invalid { .. })),
        (429, |e| matches!(e, ForgeError::Limited { .. })),
        (500, |e| matches!(e, ForgeError::Outage { .. })),
        (503, |e| matches!(e, ForgeError::Outage { .. })),
    ];
    for (status, is_kind) in kinds {
        let server = Server::start(move |_| refused(status, "words")).await;
        let error = server.forge.create_comment(&repository(), 7, "hello").await.unwrap_err();
        assert!(is_kind(&error), "{status} {error:?}");
        assert_eq!(server.calls(), ["POST /issues/7/comments"], "{status}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_read_is_an_outage() {
    for body in ["", "<html>", "{\"id\":1}"] {
        let server = Server::start(move |_| (201, vec![], body.to_owned())).await;
        let error = server.forge.create_comment(&repository(), 7, "hello").await.unwrap_err();
        assert!(matches!(error, ForgeError::Outage { .. }), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_an_outage() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let forge = GithubForge::new(settings(&format!("http://{}", listener.local_addr().unwrap()))).unwrap();
    let error = forge.repository(&repository()).await.unwrap_err();
    assert!(matches!(error, ForgeError::Outage { .. }), "{error:?}");
}

#[test]
fn the_rate_limit_is_measured() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let server =
                Server::start(|_| (404, vec![("x-ratelimit-remaining", "4321".to_owned())], String::new()))
                    .await;
            server.forge.repository(&repository()).await.unwrap_err();
        });
    });
    let text = handle.render();
    assert!(text.contains("callboard_github_rate_limit_remaining{installation=\"token\"} 4321"), "{text}");
}

#[tokio::test]
async fn a_repository_and_our_permission() {
    let server = Server::start(|_| json_reply(200, &repository_body())).await;
    let found = server.forge.repository(&repository()).await.unwrap();
    assert_eq!(
        (found.name.to_string().as_str(), found.default_branch.as_str()),
        ("Octocat/Hello-World", "trunk")
    );
    assert_eq!((found.private, found.archived, found.our_permission), (true, false, Some(Permission::Write)));
}

#[tokio::test]
async fn permissions_of_standard_and_custom_roles() {
    for (permission, role, expected) in [
        ("write", json!("maintain"), Permission::Maintain),
        ("read", json!("triage"), Permission::Triage),
        ("write", json!("Release engineer"), Permission::Write),
        ("admin", json!(null), Permission::Admin),
        ("none", json!(""), Permission::None),
    ] {
        let server =
            Server::start(move |_| json_reply(200, &json!({ "permission": permission, "role_name": role })))
                .await;
        assert_eq!(server.forge.permission(&repository(), "mona").await.unwrap(), expected);
        assert_eq!(server.calls(), ["GET /collaborators/mona/permission"]);
    }
    let server = Server::start(|_| json_reply(200, &json!({ "permission": "emperor" }))).await;
    assert!(matches!(server.forge.permission(&repository(), "mona").await, Err(ForgeError::Outage { .. })));
}

#[tokio::test]
async fn a_permission_that_is_not_told_is_an_error_and_never_a_guess() {
    let server = Server::start(|_| refused(404, "no one is not a user")).await;
    assert!(matches!(
        server.forge.permission(&repository(), "no one").await,
        Err(ForgeError::Missing { .. })
    ));
    assert_eq!(server.calls(), ["GET /collaborators/no%20one/permission"]);
    let server =
        Server::start(|_| refused(403, "Must have push access to view collaborator permission.")).await;
    assert!(matches!(server.forge.permission(&repository(), "mona").await, Err(ForgeError::Denied { .. })));
}

/// Answers like GitHub for an issue with `total` comments, at most `page_size` at a time.
fn comment_pages(total: u64, page_size: u64, links: bool) -> impl Fn(&Seen) -> Reply {
    move |seen| {
        let query: HashMap<_, _> =
            seen.target.split_once('?').unwrap().1.split('&').filter_map(|p| p.split_once('=')).collect();
        let page: u64 = query["page"].parse().unwrap();
        let last = total.div_ceil(page_size);
        let ids = ((page - 1) * page_size + 1)..=(page * page_size).min(total);
        let (status, mut headers, body) = json_reply(200, &ids.map(comment_body).collect());
        if links && page < last {
            let to = |page, relation| format!("<https://elsewhere.example/?page={page}>; rel=\"{relation}\"");
            headers.push(("link", format!("{}, {}", to(page + 1, "next"), to(last, "last"))));
        }
        (status, headers, body)
    }
}

#[tokio::test]
async fn all_comments_are_read_page_by_page() {
    // With links and a smaller page than asked for; without links; none; a full page that may not be the last.
    for (total, page_size, links, pages) in
        [(120, 50, true, 3), (230, 100, false, 3), (0, 100, false, 1), (100, 100, true, 2)]
    {
        let server = Server::start(comment_pages(total, page_size, links)).await;
        let comments = server.forge.comments(&repository(), 7).await.unwrap();
        let ids: Vec<u64> = comments.iter().map(|c| c.id).collect();
        assert_eq!(ids, (1..=total).collect::<Vec<_>>());
        assert_eq!(server.calls().len(), pages);
    }
}

#[tokio::test]
async fn of_very_many_comments_the_newest_thousand_are_read() {
    let server = Server::start(comment_pages(2450, 100, true)).await;
    let comments = server.forge.comments(&repository(), 7).await.unwrap();
    assert_eq!((comments.first().unwrap().id, comments.last().unwrap().id), (1501, 2450));
    let endless = Server::start(comment_pages(u64::MAX / 1000, 100, false)).await;
    assert_eq!(endless.forge.comments(&repository(), 7).await.unwrap().len(), 1000);
}

#[tokio::test]
async fn an_issue_with_everything_missing_that_may_be() {
    let server =
        Server::start(|_| json_reply(200, &issue_body(&json!(["bug", { "name": "run:dev" }])))).await;
    let issue = server.forge.issue(&repository(), 7).await.unwrap();
    assert_eq!(
        (issue.author.as_str(), issue.body.as_str(), issue.open, issue.is_pull_request),
        ("ghost", "", true, false)
    );
    assert_eq!(issue.labels, ["bug", "run:dev"]);
}

#[tokio::test]
async fn a_label_that_is_not_there_is_taken_off() {
    let with_labels = |labels: Value| {
        move |seen: &Seen| match seen.method {
            Method::DELETE => refused(404, "Label does not exist"),
            _ => json_reply(200, &issue_body(&labels)),
        }
    };
    let server = Server::start(with_labels(json!([]))).await;
    server.forge.remove_label(&repository(), 7, "run:dev/ä").await.unwrap();
    assert_eq!(server.calls(), ["DELETE /issues/7/labels/run:dev%2F%C3%A4", "GET /issues/7"]);
    // The server says it is not there, and it stands.
    let server = Server::start(with_labels(json!([{ "name": "Run:dev" }]))).await;
    assert!(matches!(
        server.forge.remove_label(&repository(), 7, "run:dev").await,
        Err(ForgeError::Missing { .. })
    ));
    // No such issue.
    let server = Server::start(|_| refused(404, "Not Found")).await;
    assert!(matches!(
        server.forge.remove_label(&repository(), 7, "run:dev").await,
        Err(ForgeError::Missing { .. })
    ));
}

#[tokio::test]
async fn labels_comments_and_reactions_are_written() {
    let server = Server::start(|_| json_reply(200, &comment_body(5))).await;
    server.forge.add_labels(&repository(), 7, &["a".to_owned(), "b".to_owned()]).await.unwrap();
    server.forge.react(&repository(), 7, Reaction::Eyes).await.unwrap();
    assert_eq!(server.forge.update_comment(&repository(), 5, "new").await.unwrap().id, 5);
    assert_eq!(
        server.calls(),
        ["POST /issues/7/labels", "POST /issues/7/reactions", "PATCH /issues/comments/5"]
    );
    let bodies: Vec<Value> = server.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(
        bodies,
        [json!({ "labels": ["a", "b"] }), json!({ "content": "eyes" }), json!({ "body": "new" })]
    );
}

#[tokio::test]
async fn a_server_without_reactions_says_so() {
    let server = Server::start(|seen| match seen.method {
        Method::POST => refused(404, "404 page not found"),
        _ => json_reply(200, &issue_body(&json!([]))),
    });
    let error = server.await.forge.react(&repository(), 7, Reaction::Eyes).await.unwrap_err();
    assert!(matches!(error, ForgeError::Unsupported { .. }), "{error:?}");
}

#[tokio::test]
async fn branches_with_slashes() {
    let server =
        Server::start(|seen| match (&seen.method, seen.target.ends_with("/heads/callboard/7-dev")) {
            (&Method::GET, true) => json_reply(
                200,
                &json!({ "ref": "refs/heads/callboard/7-dev", "object": { "type": "commit", "sha": SHA } }),
            ),
            (&Method::POST, _) => json_reply(201, &json!({ "ref": "refs/heads/x" })),
            _ => refused(404, "Not Found"),
        });
    let server = server.await;
    let head = server.forge.branch_head(&repository(), "callboard/7-dev").await.unwrap();
    assert_eq!(head.map(|sha| sha.to_string()).as_deref(), Some(SHA));
    assert_eq!(server.forge.branch_head(&repository(), "none").await.unwrap(), None);
    server.forge.create_branch(&repository(), "callboard/7-dev", &SHA.parse().unwrap()).await.unwrap();
    assert_eq!(
        server.calls(),
        ["GET /git/ref/heads/callboard/7-dev", "GET /git/ref/heads/none", "POST /git/refs"]
    );
    assert_eq!(server.seen()[2].body, json!({ "ref": "refs/heads/callboard/7-dev", "sha": SHA }));
}

#[tokio::test]
async fn paths_that_changed_between_two_commits() {
    let compared = |status: &'static str, files: Value| {
        Server::start(move |_| {
            json_reply(200, &json!({ "status": status, "total_commits": 2, "files": files }))
        })
    };
    let (base, head): (CommitSha, CommitSha) = (SHA.parse().unwrap(), OTHER_SHA.parse().unwrap());
    let files = json!([
        { "filename": "a.txt", "status": "modified" },
        { "filename": "new.txt", "status": "renamed", "previous_filename": "old.txt" },
    ]);
    let server = compared("ahead", files.clone()).await;
    let paths = server.forge.changed_paths(&repository(), &base, &head).await.unwrap();
    assert_eq!(paths.unwrap(), ["a.txt", "new.txt", "old.txt"]);
    assert_eq!(server.calls(), [format!("GET /compare/{SHA}...{OTHER_SHA}?per_page=1&page=1")]);

    // What is not told wholly is not told: a rewritten branch, a full list, none at all.
    let many = |n: usize| (0..n).map(|n| json!({ "filename": format!("{n}.txt") })).collect::<Value>();
    for (status, files) in
        [("diverged", files.clone()), ("behind", files), ("ahead", many(300)), ("ahead", Value::Null)]
    {
        let server = compared(status, files).await;
        assert_eq!(server.forge.changed_paths(&repository(), &base, &head).await.unwrap(), None, "{status}");
    }
    let server = compared("ahead", many(299)).await;
    let paths = server.forge.changed_paths(&repository(), &base, &head).await.unwrap();
    assert_eq!(paths.map(|p| p.len()), Some(299));
    let server = Server::start(|_| refused(404, "No common ancestor")).await;
    assert_eq!(server.forge.changed_paths(&repository(), &base, &head).await.unwrap(), None);
}

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

/// As GitHub's documentation shows it, with more than we read.
#[tokio::test]
async fn a_commit_is_read() {
    let body = json!({
        "sha": SHA, "node_id": "MDY6Q29tbWl0", "url": "https://api.github.com/c",
        "author": { "date": "2026-11-21T16:00:49Z", "name": "Callboard", "email": "c@example.com" },
        "message": "Add a greeting\n\nCallboard-Run: 7",
        "tree": { "url": "https://api.github.com/t", "sha": OTHER_SHA },
        "parents": [{ "url": "https://api.github.com/p", "sha": OTHER_SHA, "html_url": "https://github.com/p" }],
        "verification": { "verified": false, "reason": "unsigned", "signature": null, "payload": null },
    });
    let server = Server::start(move |_| json_reply(200, &body)).await;
    let commit = server.forge.commit(&repository(), &SHA.parse().unwrap()).await.unwrap();
    assert_eq!(commit.tree, OTHER_SHA);
    assert_eq!(commit.parents, [OTHER_SHA.parse().unwrap()]);
    assert_eq!(commit.message, "Add a greeting\n\nCallboard-Run: 7");
    assert_eq!(server.calls(), [format!("GET /git/commits/{SHA}")]);
}

#[tokio::test]
async fn a_comment_is_deleted_once() {
    let server = Server::start(|_| (204, Vec::new(), String::new())).await;
    server.forge.delete_comment(&repository(), 5).await.unwrap();
    assert_eq!(server.calls(), ["DELETE /issues/comments/5"]);
    // It is gone already: the repository tells that apart from being locked out.
    let server = Server::start(|seen| match seen.method {
        Method::DELETE => refused(404, "Not Found"),
        _ => json_reply(200, &repository_body()),
    })
    .await;
    server.forge.delete_comment(&repository(), 5).await.unwrap();
    let server = Server::start(|_| refused(404, "Not Found")).await;
    assert!(matches!(server.forge.delete_comment(&repository(), 5).await, Err(ForgeError::Missing { .. })));
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

fn new_commit() -> NewCommit {
    let change = |path: &str, content: Option<(FileMode, &[u8])>| TreeChange {
        path: path.to_owned(),
        content: content.map(|(mode, bytes)| (mode, bytes.to_vec())),
    };
    NewCommit {
        parent: SHA.parse().unwrap(),
        message: "Add a greeting\n\nCallboard-Run: 1".to_owned(),
        changes: vec![
            change("hello.txt", Some((FileMode::Regular, "hällo\r\n".as_bytes()))),
            change("run.sh", Some((FileMode::Executable, b"#!/bin/sh\n"))),
            change("logo.png", Some((FileMode::Regular, b"\x89PNG\0"))),
            change("zero.bin", Some((FileMode::Regular, b"a\0b"))),
            change("empty", Some((FileMode::Regular, b""))),
            change("link", Some((FileMode::Symlink, b"hello.txt"))),
            change("gone.txt", None),
        ],
        date: DateTime::UNIX_EPOCH + TimeDelta::milliseconds(1_700_000_000_999),
    }
}

/// The parent commit, or the files of its tree.
fn base(seen: &Seen, tree: &str, files: &[&str]) -> Reply {
    if seen.target.contains("git/trees/") {
        let entry = |path: &&str| json!({ "path": path, "type": "blob", "sha": SHA });
        return json_reply(
            200,
            &json!({ "tree": files.iter().map(entry).collect::<Vec<_>>(), "truncated": false }),
        );
    }
    json_reply(200, &json!({ "sha": SHA, "tree": { "sha": tree } }))
}

/// A path that names a folder would replace everything in it, unseen by the checks.
#[tokio::test]
async fn a_change_that_names_a_folder_is_refused() {
    let files = ["docs/CODEOWNERS", "docs/a.md", "gone.txt"];
    let server = Server::start(move |seen| match seen.method.as_str() {
        "GET" => base(seen, "basetree", &files),
        _ => json_reply(201, &json!({ "sha": OTHER_SHA })),
    });
    let server = server.await;
    let change = |path: &str, content: Option<&[u8]>| TreeChange {
        path: path.to_owned(),
        content: content.map(|bytes| (FileMode::Regular, bytes.to_vec())),
    };
    for folder in [change("docs", None), change("docs", Some(b"now a file"))] {
        let commit = NewCommit { changes: vec![folder], ..new_commit() };
        let error = server.forge.create_commit(&repository(), &commit).await.unwrap_err();
        assert!(
            matches!(&error, ForgeError::Invalid { message } if message.contains("`docs` is a folder")),
            "{error:?}"
        );
    }
    assert!(!server.calls().iter().any(|call| call.starts_with("POST")));
    // With every file of it named and judged, the folder may become a file.
    let named =
        vec![change("docs/CODEOWNERS", None), change("docs/a.md", None), change("docs", Some(b"now a file"))];
    server.forge.create_commit(&repository(), &NewCommit { changes: named, ..new_commit() }).await.unwrap();
}

/// A tree too large for one answer is walked folder by folder.
#[tokio::test]
async fn folders_are_found_in_a_truncated_tree() {
    let server = Server::start(|seen| {
        let entry = |path: &str, kind: &str, sha: &str| json!({ "path": path, "type": kind, "sha": sha });
        let listing = |entries: Value, truncated: bool| {
            json_reply(200, &json!({ "tree": entries, "truncated": truncated }))
        };
        match (seen.method.as_str(), seen.target.as_str()) {
            ("GET", t) if t.contains("recursive") => listing(json!([]), true),
            ("GET", t) if t.ends_with("trees/basetree") => {
                listing(json!([entry("src", "tree", "srctree")]), false)
            }
            ("GET", t) if t.ends_with("trees/srctree") => {
                listing(json!([entry("lib", "tree", "libtree"), entry("a.rs", "blob", SHA)]), false)
            }
            ("GET", _) => json_reply(200, &json!({ "sha": SHA, "tree": { "sha": "basetree" } })),
            _ => json_reply(201, &json!({ "sha": OTHER_SHA })),
        }
    });
    let server = server.await;
    let put =
        |path: &str| TreeChange { path: path.to_owned(), content: Some((FileMode::Regular, b"x".to_vec())) };
    let commit = |path: &str| NewCommit { changes: vec![put(path)], ..new_commit() };
    assert!(matches!(
        server.forge.create_commit(&repository(), &commit("src/lib")).await,
        Err(ForgeError::Invalid { .. })
    ));
    for fine in ["src/a.rs", "src/new/deep.rs", "top.txt"] {
        server.forge.create_commit(&repository(), &commit(fine)).await.unwrap();
    }
}

#[tokio::test]
async fn a_commit_is_made_of_blobs_a_tree_and_a_commit() {
    let server =
        Server::start(|seen| match (seen.method.as_str(), seen.target.rsplit('/').next().unwrap()) {
            ("GET", _) => base(seen, "basetree", &["gone.txt"]),
            (_, "blobs") => json_reply(201, &json!({ "sha": "blob" })),
            (_, "trees") => json_reply(201, &json!({ "sha": "newtree" })),
            _ => json_reply(201, &json!({ "sha": OTHER_SHA })),
        });
    let server = server.await;
    let sha = server.forge.create_commit(&repository(), &new_commit()).await.unwrap();
    assert_eq!(sha.as_str(), OTHER_SHA);
    assert_eq!(
        server.calls(),
        [
            "GET /git/commits/0123456789012345678901234567890123456789",
            "GET /git/trees/basetree?recursive=1",
            "POST /git/blobs",
            "POST /git/blobs",
            "POST /git/blobs",
            "POST /git/trees",
            "POST /git/commits",
        ]
    );
    let bodies: Vec<Value> = server.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies[2], json!({ "content": "iVBORwA=", "encoding": "base64" }));
    assert_eq!(
        bodies[5],
        json!({ "base_tree": "basetree", "tree": [
            { "path": "hello.txt", "mode": "100644", "type": "blob", "content": "hällo\r\n" },
            { "path": "run.sh", "mode": "100755", "type": "blob", "content": "#!/bin/sh\n" },
            { "path": "logo.png", "mode": "100644", "type": "blob", "sha": "blob" },
            { "path": "zero.bin", "mode": "100644", "type": "blob", "sha": "blob" },
            { "path": "empty", "mode": "100644", "type": "blob", "sha": "blob" },
            { "path": "link", "mode": "120000", "type": "blob", "content": "hello.txt" },
            { "path": "gone.txt", "mode": "100644", "type": "blob", "sha": null },
        ] })
    );
    let who = json!({ "name": "Callboard", "email": "callboard@users.noreply.github.com", "date": "2023-11-14T22:13:20Z" });
    assert_eq!(
        bodies[6],
        json!({
            "message": "Add a greeting\n\nCallboard-Run: 1", "tree": "newtree", "parents": [SHA],
            "author": who, "committer": who,
        })
    );
}

#[tokio::test]
async fn a_commit_that_changes_nothing_is_invalid() {
    let server = Server::start(|seen| match seen.method.as_str() {
        "GET" => base(seen, "same", &[]),
        _ => json_reply(201, &json!({ "sha": "same" })),
    });
    let server = server.await;
    let error = server.forge.create_commit(&repository(), &new_commit()).await.unwrap_err();
    assert!(matches!(&error, ForgeError::Invalid { message } if message == "nothing changed"), "{error:?}");
    assert!(!server.calls().contains(&"POST /git/commits".to_owned()));
}

#[tokio::test]
async fn much_text_goes_by_blob() {
    let server = Server::start(|seen| match seen.method.as_str() {
        "GET" => base(seen, "basetree", &[]),
        _ => json_reply(201, &json!({ "sha": OTHER_SHA })),
    });
    let server = server.await;
    let file = |path: &str| TreeChange {
        path: path.to_owned(),
        content: Some((FileMode::Regular, vec![b'x'; 900_000])),
    };
    let commit = NewCommit { changes: ["a", "b", "c"].map(file).to_vec(), ..new_commit() };
    server.forge.create_commit(&repository(), &commit).await.unwrap();
    assert_eq!(server.calls().iter().filter(|call| call.ends_with("blobs")).count(), 1);
}
