//! The model pass-through, with a backend that looks closely.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
    routing::{any, get, post},
};
use futures::StreamExt;
use proto::v1::HelloRequest;
use reqwest::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
    sync::{mpsc, oneshot},
};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::world::{MODEL_KEY, World, http};

/// A backend whose answer the test writes, chunk by chunk.
#[derive(Clone)]
struct Backend {
    seen: Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>,
    chunks: Arc<Mutex<Option<UnboundedReceiverStream<Bytes>>>>,
    status: StatusCode,
}

impl Backend {
    async fn start(status: StatusCode) -> (Self, String, mpsc::UnboundedSender<Bytes>) {
        let (send, receive) = mpsc::unbounded_channel();
        let chunks = Arc::new(Mutex::new(Some(UnboundedReceiverStream::new(receive))));
        let backend = Self { seen: Arc::default(), chunks, status };
        let router = Router::new()
            .route("/v1/responses", post(Self::responses))
            .route("/v1/models", get(async || Redirect::temporary("/v1/elsewhere")))
            .route("/v1/elsewhere", any(Self::responses))
            .with_state(backend.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/v1/", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (backend, url, send)
    }

    async fn responses(State(backend): State<Self>, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
        backend.seen.lock().expect("whole").push((parts.uri.to_string(), parts.headers, body));
        let chunks = backend.chunks.lock().expect("whole").take().expect("asked once");
        let headers = [
            ("content-type", "text/event-stream"),
            ("set-cookie", "a=b"),
            ("x-internal", "secret"),
            ("x-ratelimit-remaining-tokens", "7"),
        ];
        (backend.status, headers, Body::from_stream(chunks.map(Ok::<_, std::convert::Infallible>)))
            .into_response()
    }
}

async fn ask(world: &World) -> reqwest::Response {
    let request = http()
        .post(format!("{}/model/openai/v1/responses?stream=1", world.url))
        .bearer_auth(world.token())
        .header("cookie", "session=1")
        .header("x-api-key", "smuggled")
        .header("openai-organization", "smuggled")
        .header("connection", "x-private")
        .header("x-private", "smuggled")
        .header("originator", "smuggled")
        .header("openai-beta", "responses=v1")
        .body(r#"{"input":"hi"}"#);
    request.send().await.expect("an answer")
}

#[tokio::test]
async fn adds_the_key_withholds_the_token_and_streams_chunk_by_chunk() {
    let (backend, url, chunks) = Backend::start(StatusCode::OK).await;
    let world = World::with_model(&url).await;
    chunks.send("data: one\n\n".into()).expect("listening");
    let mut answer = ask(&world).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.headers()["x-ratelimit-remaining-tokens"], "7");
    assert!(["set-cookie", "x-internal"].iter().all(|name| !answer.headers().contains_key(*name)));
    // The second chunk is not written before the first has arrived.
    for chunk in ["data: one\n\n", "data: two\n\n"] {
        assert_eq!(answer.chunk().await.expect("streaming").expect("a chunk"), chunk);
        chunks.send("data: two\n\n".into()).expect("listening");
    }
    drop(chunks);
    while answer.chunk().await.expect("a regular end").is_some() {}

    let seen = backend.seen.lock().expect("whole");
    let (uri, headers, body) = &seen[0];
    assert_eq!((uri.as_str(), body.as_ref()), ("/v1/responses?stream=1", br#"{"input":"hi"}"#.as_slice()));
    let authorizations: Vec<_> = headers.get_all("authorization").iter().collect();
    assert_eq!(authorizations, [&format!("Bearer {MODEL_KEY}")]);
    let all = format!("{headers:?}");
    assert!(
        !all.contains(&world.token()) && !all.contains("smuggled") && !all.contains("session=1"),
        "{all}"
    );
    assert_eq!(headers["openai-beta"], "responses=v1");
}

#[tokio::test]
async fn a_pod_that_goes_away_takes_its_request_along() {
    let (_backend, url, chunks) = Backend::start(StatusCode::OK).await;
    let world = World::with_model(&url).await;
    chunks.send("data: one\n\n".into()).expect("listening");
    let mut answer = ask(&world).await;
    answer.chunk().await.expect("streaming").expect("a chunk");
    drop(answer);
    chunks.closed().await;
}

#[tokio::test]
async fn a_stream_is_cut_when_its_attempt_ends() {
    let (_backend, url, chunks) = Backend::start(StatusCode::OK).await;
    let world = World::with_model(&url).await;
    chunks.send("data: one\n\n".into()).expect("listening");
    let mut answer = ask(&world).await;
    answer.chunk().await.expect("streaming").expect("a chunk");
    world.control_plane.seen().live = false;
    answer.chunk().await.expect_err("cut, not ended");
    chunks.closed().await;
}

#[tokio::test]
async fn a_shutdown_ends_idle_connections_and_the_gateway() {
    let world = World::new().await;
    let client = http();
    client.get(&world.url).bearer_auth(world.token()).send().await.expect("an answer");
    let World { gateway, stop, .. } = world;
    drop(stop);
    gateway.await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn what_is_between_the_backend_and_us_stays_there() {
    for status in [StatusCode::FORBIDDEN, StatusCode::PROXY_AUTHENTICATION_REQUIRED] {
        let (_backend, url, chunks) = Backend::start(status).await;
        let world = World::with_model(&url).await;
        drop(chunks);
        assert_eq!(ask(&world).await.status(), StatusCode::BAD_GATEWAY);
    }
    let (backend, url, chunks) = Backend::start(StatusCode::UNAUTHORIZED).await;
    let world = World::with_model(&url).await;
    chunks.send(format!("wrong key {MODEL_KEY}").into()).expect("listening");
    drop(chunks);
    let answer = ask(&world).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let text = answer.text().await.expect("a body");
    assert!(text.contains("does not accept the platform's key") && !text.contains(MODEL_KEY), "{text}");

    // The key follows no redirect.
    let models = http().get(format!("{}/model/openai/v1/models", world.url)).bearer_auth(world.token());
    let answer = models.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert!(answer.headers().get("location").is_none());
    assert_eq!(backend.seen.lock().expect("whole").len(), 1);
}

#[tokio::test]
async fn an_absent_backend_is_said_by_name() {
    // Taken, and nobody listens: no other test gets it.
    let closed = TcpSocket::new_v4().expect("a socket");
    closed.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let address = closed.local_addr().expect("bound");
    let world = World::with_model(&format!("http://{address}/v1")).await;
    let answer = ask(&world).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let text = answer.text().await.expect("a body");
    assert!(text.contains("`small` cannot be reached") && !text.contains(&address.to_string()), "{text}");
}

#[tokio::test]
async fn keys_do_not_print() {
    let world = World::with_model("http://127.0.0.1:9/v1").await;
    let printed = format!("{:?}", world.settings);
    assert!(!printed.contains(MODEL_KEY), "{printed}");

    for base_url in
        ["http://user:hidden@127.0.0.1/v1", "ftp://127.0.0.1/v1", "http://127.0.0.1/v1?key=hidden"]
    {
        let mut settings = world.settings.clone();
        settings.models[0].base_url = base_url.parse().expect("a URL");
        let listen = agent_gateway::Listen::Tcp(TcpListener::bind("127.0.0.1:0").await.expect("a port"));
        let error = format!(
            "{:?}",
            agent_gateway::run(settings, listen, Default::default()).await.expect_err("refused")
        );
        assert!(error.contains("models: `small`") && !error.contains("hidden"), "{error}");
    }
}

#[tokio::test]
async fn a_request_while_thinking_is_cut_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("bound"));
    let world = World::with_model(&url).await;
    let (accepted, thinking) = oneshot::channel();
    tokio::spawn(async move {
        // Takes the request and never answers.
        accepted.send(listener.accept().await.expect("a connection")).expect("waited for");
    });
    let request = ask(&world);
    tokio::pin!(request);
    let connection = tokio::select! {
        connection = thinking => connection.expect("accepted"),
        _ = &mut request => panic!("nobody answered"),
    };
    world.control_plane.seen().live = false;
    let answer = request.await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert!(answer.text().await.expect("a body").contains("the attempt has ended"));
    drop(connection);
}

#[tokio::test]
async fn a_body_that_is_not_passed_on_is_not_announced_either() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let world = World::with_model(&format!("http://{}/v1", listener.local_addr().expect("bound"))).await;
    let backend = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.expect("a connection");
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            seen.push(connection.read_u8().await.expect("a head"));
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
        connection.write_all(answer).await.expect("read");
        connection.shutdown().await.expect("open");
        connection.read_to_end(&mut seen).await.expect("an end");
        String::from_utf8(seen).expect("text").to_lowercase()
    });
    let request = http()
        .get(format!("{}/model/openai/v1/models", world.url))
        .bearer_auth(world.token())
        .body("DELETE /v1/files HTTP/1.1\r\n\r\n");
    let answer = request.send().await.expect("an answer");
    assert_eq!((answer.status(), answer.text().await.expect("a body").as_str()), (StatusCode::OK, "{}"));
    let seen = backend.await.expect("no panic");
    assert!(seen.starts_with("get /v1/models http/1.1\r\n") && seen.ends_with("\r\n\r\n"), "{seen}");
    assert!(
        ["content-length", "transfer-encoding", "delete"].iter().all(|word| !seen.contains(word)),
        "{seen}"
    );
}

#[tokio::test]
async fn an_attempt_has_so_many_requests_at_a_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let world =
        Arc::new(World::with_model(&format!("http://{}/v1", listener.local_addr().expect("bound"))).await);
    let (mut asking, mut thinking) = (tokio::task::JoinSet::new(), Vec::new());
    for _ in 0..32 {
        let world = Arc::clone(&world);
        asking.spawn(async move { ask(&world).await });
        thinking.push(listener.accept().await.expect("a connection"));
    }
    let answer = ask(&world).await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let mut runner = world.runner(&world.url, &world.token());
    let status = runner.hello(HelloRequest::default()).await.expect_err("too many");
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    asking.shutdown().await;
    let begun = std::time::Instant::now();
    while let Err(status) = runner.hello(HelloRequest::default()).await {
        assert!(begun.elapsed().as_secs() < 5, "{status}");
    }
}
