//! Who and what is refused, and how.

use proto::v1::HelloRequest;
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::Value;
use telemetry::signing::{Claims, SigningKey};
use tonic::Code;

use crate::world::{World, http};

const REFS: &str = "/git/octocat/hello-world.git/info/refs?service=git-upload-pack";

/// Tokens that open nothing, with the reason a pod is given.
fn bad_tokens(world: &World) -> Vec<(&'static str, Option<String>, &'static str)> {
    let sign = |key: &SigningKey, claims: &Claims| Some(key.sign("k1", claims).expose_secret().to_owned());
    let claims = world.claims();
    let valid = world.token();
    let invalid = "the run token is not valid";
    vec![
        ("none", None, "no run token: send it as `Authorization: Bearer <run token>`"),
        ("garbage", Some("garbage".to_owned()), invalid),
        ("forged", sign(&SigningKey::generate(), &claims), invalid),
        ("altered", Some(valid[..valid.len() - 4].to_owned() + "AAAA"), invalid),
        (
            "of a service",
            sign(&world.key, &Claims { aud: "control-plane".into(), ..claims.clone() }),
            invalid,
        ),
        ("without a run", sign(&world.key, &Claims { run: None, ..claims.clone() }), invalid),
        (
            "expired",
            sign(&world.key, &Claims { exp: claims.iat, ..claims.clone() }),
            "the run token has expired",
        ),
        (
            "of another attempt",
            sign(&world.key, &Claims { sub: claims.run.clone().expect("set"), ..claims }),
            "the attempt has ended",
        ),
    ]
}

#[tokio::test]
async fn a_bad_token_opens_nothing() {
    let world = World::new().await;
    for (which, token, reason) in bad_tokens(&world) {
        for path in [REFS, "/model/openai/v1/models", "/anything"] {
            let mut request = http().get(format!("{}{path}", world.url));
            if let Some(token) = &token {
                request = request.bearer_auth(token);
            }
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{which} {path}");
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            assert_eq!(answer.headers().get_all("www-authenticate").iter().count(), 2);
            let problem: Value = answer.json().await.expect("JSON");
            assert_eq!(
                (problem["detail"].as_str(), problem["status"].as_u64()),
                (Some(reason), Some(401)),
                "{which}"
            );
        }
        if let Some(token) = &token {
            let status =
                world.runner(&world.url, token).hello(HelloRequest::default()).await.expect_err(which);
            assert_eq!((status.code(), status.message()), (Code::Unauthenticated, reason), "{which}");
        }
    }
    let seen = world.control_plane.seen();
    assert!(seen.references.is_empty() && seen.git.is_empty());
}

#[tokio::test]
async fn a_live_attempt_gets_no_further_than_its_own_things() {
    let world = World::new().await;
    let own = "/git/octocat/hello-world.git";
    let cases = [
        (
            Method::GET,
            "/git/octocat/other.git/info/refs?service=git-upload-pack".to_owned(),
            403,
            "Octocat/Hello-World only",
        ),
        (
            Method::POST,
            "/git/someone/hello-world.git/git-upload-pack".to_owned(),
            403,
            "Octocat/Hello-World only",
        ),
        (
            Method::GET,
            "/git/octocat/..%2Fhello-world.git/info/refs?service=git-upload-pack".to_owned(),
            404,
            "a repository is at",
        ),
        (
            Method::GET,
            "/git/octocat/hello-world/info/refs?service=git-upload-pack".to_owned(),
            404,
            "a repository is at",
        ),
        (Method::GET, format!("{own}/info/refs?service=git-receive-pack"), 403, "read only"),
        (Method::POST, format!("{own}/git-receive-pack"), 403, "read only"),
        (Method::GET, format!("{own}/info/refs"), 404, "smart protocol"),
        (Method::POST, format!("{own}/info/refs?service=git-upload-pack"), 404, "smart protocol"),
        (Method::GET, format!("{own}/git-upload-pack"), 404, "POST only"),
        (Method::GET, format!("{own}/objects/info/packs"), 404, "serves nothing here"),
        (Method::GET, format!("{own}/HEAD"), 404, "serves nothing here"),
        (Method::GET, "/".to_owned(), 404, "serves nothing here"),
        (Method::GET, "/healthz".to_owned(), 404, "serves nothing here"),
        (Method::GET, "/metrics".to_owned(), 404, "serves nothing here"),
        (Method::POST, "/model/openai/v1/chat/completions".to_owned(), 404, "POST responses and GET models"),
        (Method::GET, "/model/openai/v1/responses".to_owned(), 404, "POST responses and GET models"),
        (Method::GET, "/model/openai/v1/models/../files".to_owned(), 404, "POST responses and GET models"),
        (Method::GET, "/model/anthropic/v1/models".to_owned(), 404, "serves nothing here"),
        (Method::POST, "/model/openai/v1/responses".to_owned(), 503, "`models:` in callboard.yaml is empty"),
    ];
    for (method, path, status, detail) in cases {
        let request =
            http().request(method.clone(), format!("{}{path}", world.url)).bearer_auth(world.token());
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{method} {path}");
        let problem: Value = answer.json().await.expect("a problem");
        assert!(
            problem["detail"].as_str().is_some_and(|text| text.contains(detail)),
            "{method} {path}: {problem}"
        );
    }
    assert!(world.control_plane.seen().git.is_empty());
}

#[tokio::test]
async fn an_ended_attempt_is_refused_soon() {
    let world = World::new().await;
    let mut runner = world.runner(&world.url, &world.token());
    runner.hello(HelloRequest::default()).await.expect("live");
    world.control_plane.seen().live = false;
    let ended = std::time::Instant::now();
    let refused = loop {
        match runner.hello(HelloRequest::default()).await {
            Ok(_) => assert!(ended.elapsed().as_secs() < 30, "an ended attempt goes on"),
            Err(status) => break status,
        }
    };
    assert_eq!((refused.code(), refused.message()), (Code::Unauthenticated, "the attempt has ended"));
}

#[tokio::test]
async fn a_flood_costs_the_control_plane_little() {
    let world = World::new().await;
    let begun = std::time::Instant::now();
    let forged = SigningKey::generate().sign("k1", &world.claims());
    for _ in 0..20 {
        for token in [forged.expose_secret(), &world.token()] {
            http().get(format!("{}/", world.url)).bearer_auth(token).send().await.expect("an answer");
        }
    }
    let seconds = u32::try_from(begun.elapsed().as_secs()).expect("short");
    let seen = world.control_plane.seen();
    assert!(seen.keys_asked <= 2 + seconds, "asked for keys {} times", seen.keys_asked);
    assert!(seen.authorize_asked <= 2 + seconds, "asked about the attempt {} times", seen.authorize_asked);
}

#[tokio::test]
async fn a_new_key_is_learnt() {
    let world = World::new().await;
    let mut runner = world.runner(&world.url, &world.token());
    runner.hello(HelloRequest::default()).await.expect("live");
    let next = SigningKey::generate();
    world.control_plane.seen().keys.insert(0, next.public());
    let mut runner = world.runner(&world.url, next.sign("k2", &world.claims()).expose_secret());
    let begun = std::time::Instant::now();
    while let Err(status) = runner.hello(HelloRequest::default()).await {
        assert!(begun.elapsed().as_secs() < 30, "{status}");
    }
}

#[tokio::test]
async fn without_the_control_plane_nobody_is_let_in() {
    let mut world = World::new().await;
    let ready = agent_gateway::readiness(&world.settings).expect("a near address");
    assert_eq!(ready().await, Vec::<String>::new());
    world.control_plane_up = None;
    loop {
        let lines = ready().await;
        if lines.first().is_some_and(|line| line.starts_with("control plane: no answer at unix:")) {
            break;
        }
    }
    let answer = http()
        .get(format!("{}{REFS}", world.url))
        .bearer_auth(world.token())
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        (answer.status(), answer.headers()["retry-after"].as_bytes()),
        (StatusCode::SERVICE_UNAVAILABLE, b"1".as_slice())
    );
    let status =
        world.runner(&world.url, &world.token()).hello(HelloRequest::default()).await.expect_err("away");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(!status.message().contains("sock"), "{status}");
}

#[tokio::test]
async fn beyond_loopback_it_does_not_listen() {
    let world = World::new().await;
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let listen = agent_gateway::Listen::Tcp(listener);
    let error =
        agent_gateway::run(world.settings.clone(), listen, Default::default()).await.expect_err("refused");
    assert!(error.to_string().contains("neither loopback nor TLS"), "{error}");
}

#[tokio::test]
async fn requests_are_counted_under_fixed_names() {
    let metrics = telemetry::admin::metrics();
    let world = World::new().await;
    let url = format!("{}/anything/{}", world.url, "x".repeat(50));
    http().get(&url).send().await.expect("an answer");
    http().get(&url).bearer_auth(world.token()).send().await.expect("an answer");
    world.runner(&world.url, &world.token()).hello(HelloRequest::default()).await.expect("live");
    let text = metrics.render();
    for (path, result) in [("other", "unauthenticated"), ("other", "refused"), ("runner", "ok")] {
        let series = format!("callboard_agent_gateway_requests_total{{path=\"{path}\",result=\"{result}\"}}");
        assert!(text.contains(&series), "{series} is missing in\n{text}");
    }
    assert!(!text.contains("anything"));
}
