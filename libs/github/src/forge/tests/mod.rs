mod app;
mod code;
mod contents;
mod deliveries;
mod hooks;
mod issues;
mod limits;
mod progress;
mod pulls;

use std::sync::{Arc, LazyLock, Mutex};

use axum::{body::Bytes, http::HeaderMap, response::IntoResponse};
use chrono::{DateTime, TimeDelta, Utc};
use domain::clock::Clock;
use forge::ForgeError;
use http::{Method, StatusCode, Uri};
use serde_json::{Value, json};

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

/// A private key as GitHub hands it out: PKCS#1, PEM.
pub(crate) fn app_key() -> String {
    static KEY: LazyLock<String> = LazyLock::new(|| pem("RSA PRIVATE KEY", &pkcs8()[26..]));
    KEY.clone()
}

/// PKCS#8; the 26 bytes before the key itself say what it is.
fn pkcs8() -> &'static [u8] {
    static KEY: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).expect("a key");
        aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key)
            .expect("its bytes")
            .as_ref()
            .to_vec()
    });
    &KEY
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
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
        Self::start_for(settings("http://host"), answer).await
    }

    async fn start_for(
        settings: GithubSettings,
        answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
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
        let settings = GithubSettings { api_url: url.parse().unwrap(), ..settings };
        Self { forge: GithubForge::new(settings).unwrap(), seen }
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
        "id": 42, "full_name": "Octocat/Hello-World", "default_branch": "trunk", "private": true,
        "permissions": { "admin": false, "maintain": false, "push": true, "triage": true, "pull": true },
    })
}

fn issue_body(labels: &Value) -> Value {
    json!({
        "number": 7, "title": "Title", "body": null, "user": null, "state": "open", "labels": labels,
        "html_url": "https://github.com/octocat/hello-world/issues/7", "updated_at": "2024-10-01T12:00:00Z",
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
        (401, |e| matches!(e, ForgeError::BadCredential { .. })),
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
