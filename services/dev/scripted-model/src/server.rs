//! The HTTP server that plays a script.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::script::{Script, Step, answered_calls};

/// Agents resend the whole conversation with every request.
const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;

/// A request as it arrived. Header values are left out: the key is one of them.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Names of the headers, lower case.
    pub header_names: Vec<String>,
    /// Whether `Authorization` was exactly `Bearer <key>`; always true without a key.
    pub authorized: bool,
    /// The body; null when it is empty or no JSON.
    pub body: Value,
}

/// A running model. It ends when this is dropped.
pub struct ScriptedModel {
    address: SocketAddr,
    model: Arc<Model>,
    stop: DropGuard,
    server: JoinHandle<std::io::Result<()>>,
}

struct Model {
    script: Script,
    authorization: Option<String>,
    /// How often each error step has failed a request, by its number in the script.
    failed: Mutex<BTreeMap<usize, u32>>,
    requests: Mutex<Vec<Recorded>>,
    stopped: CancellationToken,
}

impl ScriptedModel {
    /// Starts a model. With a key, every request but `HEAD /` has to carry it as bearer.
    ///
    /// # Errors
    /// When it cannot listen on `listen`.
    pub async fn start(listen: SocketAddr, script: Script, key: Option<String>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let stopped = CancellationToken::new();
        let model = Arc::new(Model {
            script,
            authorization: key.map(|key| format!("Bearer {key}")),
            failed: Mutex::default(),
            requests: Mutex::default(),
            stopped: stopped.clone(),
        });
        let router = Router::new()
            .route("/v1/responses", post(responses))
            .route("/v1/models", get(models))
            // Some agents look whether anybody is there first.
            .route("/", get(async || StatusCode::OK))
            .layer(from_fn_with_state(Arc::clone(&model), record))
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .with_state(Arc::clone(&model));
        let end = stopped.clone().cancelled_owned();
        let server =
            tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(end).await });
        Ok(Self { address, model, stop: stopped.drop_guard(), server })
    }

    /// What an OpenAI client takes as its base URL, ending in `/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Every request so far, refused ones too.
    pub fn requests(&self) -> Vec<Recorded> {
        self.model.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the model; a hanging step is cut short.
    pub async fn shutdown(self) {
        drop(self.stop);
        // Its only failure would be a panic of the server task, which was printed already.
        drop(self.server.await);
    }
}

/// Records the request and checks the key.
async fn record(State(model): State<Arc<Model>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY_BYTES).await else {
        return failure(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or broke off");
    };
    let authorized = model.is_authorized(&parts.headers);
    model.requests.lock().unwrap_or_else(PoisonError::into_inner).push(Recorded {
        method: parts.method.clone(),
        path: parts.uri.to_string(),
        header_names: parts.headers.keys().map(ToString::to_string).collect(),
        authorized,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    });
    if !authorized && parts.uri.path() != "/" {
        return failure(StatusCode::UNAUTHORIZED, "a wrong key or none");
    }
    next.run(Request::from_parts(parts, body.into())).await
}

impl Model {
    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        match &self.authorization {
            Some(expected) => {
                headers.get(header::AUTHORIZATION).is_some_and(|sent| sent.as_bytes() == expected.as_bytes())
            }
            None => true,
        }
    }

    /// True when the error step `number` has to fail this request too.
    fn fails(&self, number: usize, times: u32) -> bool {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failed.entry(number).or_default();
        let fails = *count < times;
        *count += u32::from(fails);
        fails
    }
}

async fn models() -> Json<Value> {
    Json(
        json!({"object": "list", "data": [{"id": "scripted", "object": "model", "created": 0, "owned_by": "script"}]}),
    )
}

async fn responses(State(model): State<Arc<Model>>, body: Bytes) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return failure(StatusCode::BAD_REQUEST, "the body is no JSON");
    };
    let call = answered_calls(&body);
    for (number, step) in model.script.for_request(&body) {
        match step {
            Step::Shell(command) => return play(call, &shell_call(call, command)),
            Step::Text(text) => return play(call, &message(call, text)),
            Step::Error { status, times } => {
                if model.fails(number, *times) {
                    let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                    return failure(status, "the script says so");
                }
            }
            Step::Hang(seconds) => tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(*seconds)) => {}
                () = model.stopped.cancelled() => return failure(StatusCode::SERVICE_UNAVAILABLE, "the model is shutting down"),
            },
        }
    }
    failure(StatusCode::BAD_REQUEST, "the script has no step left for this request")
}

fn shell_call(call: usize, command: &str) -> Value {
    json!({
        "type": "function_call", "id": format!("fc_{call}"), "call_id": format!("call_{call}"),
        "name": "exec_command", "arguments": json!({"cmd": command}).to_string(), "status": "completed",
    })
}

fn message(call: usize, text: &str) -> Value {
    json!({
        "type": "message", "id": format!("msg_{call}"), "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    })
}

/// One answer as server-sent events: what the agent needs to act, and nothing more.
fn play(call: usize, item: &Value) -> Response {
    let done = json!({"type": "response.output_item.done", "output_index": 0, "item": item});
    let completed = json!({"type": "response.completed", "response": {
        "id": format!("resp_{call}"),
        "usage": {
            "input_tokens": 100, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 10, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 110,
        },
    }});
    let events = format!("data: {done}\n\ndata: {completed}\n\n");
    ([(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")], events)
        .into_response()
}

fn failure(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": {"message": message, "type": "scripted", "code": status.as_u16()}})))
        .into_response()
}
