//! Plain pass-through to one OpenAI-compatible backend; the key is added here.

use std::time::Duration;

use anyhow::Context;
use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use reqwest::redirect::Policy;
use secrecy::ExposeSecret;
use url::{Host, Url};

use crate::{ModelBackend, attempts::LiveAttempt, problem::Problem, relay, router::Gateway};

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a backend may say nothing. There is no limit on the whole: a model may think long.
const IDLE_PATIENCE: Duration = Duration::from_secs(300);

/// What goes on from a pod's request. How long the body is, is not among it: that is said anew
/// on every connection, or a backend would take a body that never comes for the next request.
const FORWARDED: [HeaderName; 8] = [
    header::CONTENT_TYPE,
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::USER_AGENT,
    HeaderName::from_static("openai-beta"),
    header::CONTENT_ENCODING,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("x-client-request-id"),
];
/// What comes back, beside the `x-ratelimit-` ones. Without `content-encoding` an answer in an
/// encoding the pod accepted could not be read.
const RETURNED: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CACHE_CONTROL,
    header::RETRY_AFTER,
    HeaderName::from_static("x-request-id"),
];

/// The backend, ready to be asked.
pub(crate) struct Backend {
    name: String,
    base_url: Url,
    /// `Bearer <key>`, marked sensitive so that it does not print.
    authorization: Option<HeaderValue>,
    client: reqwest::Client,
}

impl Backend {
    pub(crate) fn new(configured: &ModelBackend) -> anyhow::Result<Self> {
        let ModelBackend { name, base_url, api_key } = configured;
        anyhow::ensure!(
            matches!(base_url.scheme(), "http" | "https"),
            "models: `{name}`: base_url must be http:// or https://"
        );
        let bare =
            base_url.username().is_empty() && base_url.password().is_none() && base_url.query().is_none();
        anyhow::ensure!(
            bare,
            "models: `{name}`: base_url must not carry a user, a password or a query; use api_key_file"
        );
        let authorization = api_key.as_ref().map(|key| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose_secret()))
                .ok()
                .with_context(|| format!("models: `{name}`: the API key is not one line of plain text"))?;
            value.set_sensitive(true);
            anyhow::Ok(value)
        });
        let mut client = reqwest::Client::builder()
            .connect_timeout(CONNECT_PATIENCE)
            .read_timeout(IDLE_PATIENCE)
            // A redirect would take the key somewhere else.
            .redirect(Policy::none())
            .referer(false);
        if is_loopback(base_url) {
            client = client.no_proxy();
        } else if base_url.scheme() == "http" && api_key.is_some() {
            tracing::warn!(
                model = name,
                "the key of this model travels in the clear; use https:// in its base_url"
            );
        }
        Ok(Self {
            name: name.clone(),
            base_url: base_url.clone(),
            authorization: authorization.transpose()?,
            client: client.build().context("the HTTP client for models cannot be made")?,
        })
    }

    fn url(&self, endpoint: &str, query: Option<&str>) -> Url {
        let mut url = self.base_url.clone();
        url.set_path(&format!("{}/{endpoint}", self.base_url.path().trim_end_matches('/')));
        url.set_query(query);
        url
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// `POST responses` and `GET models`; the rest is not offered.
pub(crate) async fn pass(
    State(gateway): State<Gateway>,
    attempt: LiveAttempt,
    Path(rest): Path<String>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (endpoint, body) = match (&method, rest.as_str()) {
        (&Method::POST, "responses") => ("responses", Some(body)),
        (&Method::GET, "models") => ("models", None),
        _ => {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                "of the model API, POST responses and GET models are served",
            ));
        }
    };
    let Some(backend) = &gateway.model else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no model backend is configured: `models:` in callboard.yaml is empty; add one and restart",
        ));
    };
    let mut request =
        backend.client.request(method, backend.url(endpoint, query.as_deref())).headers(forwarded(&headers));
    if let Some(key) = &backend.authorization {
        request = request.header(header::AUTHORIZATION, key);
    }
    if let Some(body) = body {
        request = request.body(reqwest::Body::wrap_stream(body.into_data_stream()));
    }
    let mut line = relay::LogLine::start("model", &attempt);
    let mut cut = gateway.cut(&attempt);
    let answer = tokio::select! {
        answer = request.send() => answer.map_err(|error| away(&backend.name, error)).and_then(|answer| usable(&backend.name, answer)),
        refusal = &mut cut => Err(refusal.into()),
    };
    match answer {
        Ok(answer) => {
            let (status, headers) = (answer.status(), returned(answer.headers()));
            line.status = Some(status);
            Ok((status, headers, relay::body(answer.bytes_stream(), cut, line)).into_response())
        }
        Err(problem) => {
            line.refused(problem.status);
            Err(problem)
        }
    }
}

fn away(name: &str, error: reqwest::Error) -> Problem {
    let error = error.without_url();
    tracing::warn!(
        model = name,
        reason = telemetry::logging::chain(&error),
        "a model backend did not answer"
    );
    Problem::new(StatusCode::BAD_GATEWAY, format!("the model backend `{name}` cannot be reached; try again"))
}

/// Answers that are between the backend and us do not go to the pod.
fn usable(name: &str, answer: reqwest::Response) -> Result<reqwest::Response, Problem> {
    let status = answer.status();
    let complaint = if status.is_redirection() {
        "redirects elsewhere, which is not followed; correct its base_url"
    } else if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::PROXY_AUTHENTICATION_REQUIRED]
        .contains(&status)
    {
        // To the pod it would read as if the run token were wrong, and it may quote the key.
        "does not accept the platform's key; correct its api_key_file"
    } else {
        return Ok(answer);
    };
    tracing::warn!(model = name, status = status.as_u16(), "a model backend {complaint}");
    Err(Problem::new(StatusCode::BAD_GATEWAY, format!("the model backend `{name}` {complaint}")))
}

fn kept(headers: &HeaderMap, keep: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    headers.iter().filter(|(name, _)| keep(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn forwarded(headers: &HeaderMap) -> HeaderMap {
    kept(headers, |name| FORWARDED.contains(name))
}

fn returned(headers: &HeaderMap) -> HeaderMap {
    kept(headers, |name| RETURNED.contains(name) || name.as_str().starts_with("x-ratelimit-"))
}
