//! The one place every request passes before its handler: who is asking, whether the server
//! offers this at all, how much is left of the limit, and what is written into the log.

use std::collections::BTreeMap;

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Simulator, fault, refusal::Refusal, world::World};

/// Something a server may not offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Reactions to issues: 404.
    Reactions,
    /// Asking for a collaborator's permission: 404.
    CollaboratorPermission,
    /// Labels, on issues and of the repository: 404.
    Labels,
    /// Commit statuses: 404.
    Statuses,
    /// Listing deliveries and asking for them again: 404.
    HookDeliveries,
    /// Issues and everything on them: 410, as when a repository has them disabled.
    Issues,
}

impl Feature {
    fn covers(self, template: &str) -> bool {
        let has = |part: &str| template.split('/').any(|p| p == part);
        match self {
            Self::Reactions => has("reactions"),
            Self::CollaboratorPermission => has("collaborators"),
            Self::Labels => has("labels"),
            Self::Statuses => has("statuses"),
            Self::HookDeliveries => has("deliveries"),
            Self::Issues => has("issues"),
        }
    }

    fn refusal(self) -> Refusal {
        match self {
            Self::Reactions
            | Self::CollaboratorPermission
            | Self::Labels
            | Self::Statuses
            | Self::HookDeliveries => Refusal::not_found(),
            Self::Issues => Refusal::new(StatusCode::GONE, "Issues are disabled for this repo"),
        }
    }
}

/// One request the stand-in answered. Query strings and headers are left out: they can
/// hold secrets.
#[derive(Clone, Debug, Serialize)]
pub struct LoggedRequest {
    /// When it was answered.
    pub at: DateTime<Utc>,
    /// `GET`, …
    pub method: String,
    /// The path, without `/api/v3`.
    pub path: String,
    /// The path with names for its parts, such as `/repos/{owner}/{repo}/issues/{number}`;
    /// `unknown` for what the stand-in does not have.
    pub template: String,
    /// Status of the answer.
    pub status: u16,
    /// Login of who asked; `None` for nobody or a bad token.
    pub actor: Option<String>,
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Anonymous,
    User(String),
    BadCredentials,
}

impl Caller {
    pub(crate) fn login(&self) -> Option<&str> {
        match self {
            Self::User(login) => Some(login),
            Self::Anonymous | Self::BadCredentials => None,
        }
    }
}

/// What an account used of its hour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spending {
    used: u32,
    reset: DateTime<Utc>,
}

/// Requests an hour with a token, and without one.
const LIMITS: (u32, u32) = (5000, 60);

/// Put into the answer to what the stand-in does not have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unknown;

impl World {
    /// Who the `Authorization` header says is asking.
    fn caller(&self, headers: &HeaderMap) -> Caller {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Caller::Anonymous };
        let tokens = value.to_str().map(credentials).unwrap_or_default();
        let login = tokens.iter().find_map(|token| self.token_login(token));
        login.map_or(Caller::BadCredentials, |login| Caller::User(login.clone()))
    }

    /// How much is left, after this request when `cost` is 1.
    pub(crate) fn spend(&mut self, caller: &Caller, cost: u32) -> Rate {
        let now = self.now();
        let limit = if caller.login().is_some() { LIMITS.0 } else { LIMITS.1 };
        let fresh = Spending { used: 0, reset: now + TimeDelta::hours(1) };
        let spending = self.spending.entry(caller.login().unwrap_or_default().to_owned()).or_insert(fresh);
        if spending.reset <= now {
            *spending = fresh;
        }
        let exhausted = spending.used >= limit;
        spending.used = (spending.used + cost).min(limit);
        Rate { limit, used: spending.used, reset: spending.reset, exhausted }
    }
}

/// The state of an account's limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    limit: u32,
    used: u32,
    reset: DateTime<Utc>,
    exhausted: bool,
}

impl Rate {
    pub(crate) fn json(self) -> Value {
        json!({
            "limit": self.limit, "used": self.used, "remaining": self.limit - self.used,
            "reset": self.reset.timestamp(),
        })
    }

    fn headers(self) -> [(&'static str, String); 5] {
        [
            ("x-ratelimit-limit", self.limit.to_string()),
            ("x-ratelimit-remaining", (self.limit - self.used).to_string()),
            ("x-ratelimit-used", self.used.to_string()),
            ("x-ratelimit-reset", self.reset.timestamp().to_string()),
            ("x-ratelimit-resource", "core".to_owned()),
        ]
    }
}

/// Tokens an `Authorization` header may mean: `Bearer` and `token` have one, `Basic` has it
/// as password or as user.
fn credentials(value: &str) -> Vec<String> {
    let Some((scheme, rest)) = value.split_once(' ') else { return Vec::new() };
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token") {
        return vec![rest.to_owned()];
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Vec::new();
    }
    let text = BASE64_STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = text.as_deref().and_then(|t| t.split_once(':'));
    pair.map(|(user, password)| vec![password.to_owned(), user.to_owned()]).unwrap_or_default()
}

/// Every request passes here before its handler.
pub(crate) async fn pass(State(simulator): State<Simulator>, mut request: Request, next: Next) -> Response {
    let whole = request.uri().path().to_owned();
    if whole.starts_with("/_stand-in/") {
        return next.run(request).await;
    }
    let matched = request.extensions().get::<MatchedPath>().map(|m| m.as_str().to_owned());
    let api_path = whole.strip_prefix("/api/v3").map(str::to_owned);
    let template = matched.map(|m| m.strip_prefix("/api/v3").unwrap_or(&m).to_owned());
    let template = template.unwrap_or_else(|| "unknown".to_owned());
    let method = request.method().clone();
    let caller = simulator.read(|world| world.caller(request.headers()));
    request.extensions_mut().insert(caller.clone());

    let mut response = if api_path.is_some() {
        let rate = simulator.change(|world| world.spend(&caller, u32::from(template != "/rate_limit")));
        let mut response = match admit(&simulator, &caller, &template, rate) {
            Ok(()) => fault::answer(&simulator, &template, request, next).await,
            Err(refusal) => refusal.into_response(),
        };
        add_headers(&simulator, &mut response, &caller, rate);
        fault::last_word(&mut response);
        response
    } else {
        next.run(request).await
    };

    let unknown = response.extensions_mut().remove::<Unknown>().is_some();
    let status = response.status().as_u16();
    simulator.change(|world| {
        let logged = LoggedRequest {
            at: world.now(),
            method: method.to_string(),
            path: api_path.unwrap_or(whole),
            template: if unknown { "unknown".to_owned() } else { template },
            status,
            actor: caller.login().map(str::to_owned),
        };
        world.log.push(logged);
    });
    response
}

/// What is decided about an API request before its handler.
fn admit(simulator: &Simulator, caller: &Caller, template: &str, rate: Rate) -> Result<(), Refusal> {
    if *caller == Caller::BadCredentials {
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "Bad credentials"));
    }
    if rate.exhausted && template != "/rate_limit" {
        let who = caller.login().unwrap_or("127.0.0.1");
        return Err(Refusal::forbidden(&format!("API rate limit exceeded for {who}.")));
    }
    let off = simulator.read(|world| world.switched_off.iter().find(|f| f.covers(template)).copied());
    off.map_or(Ok(()), |feature| Err(feature.refusal()))
}

fn add_headers(simulator: &Simulator, response: &mut Response, caller: &Caller, rate: Rate) {
    let id = simulator.read(|world| hex::encode_upper(world.ids.bytes::<16>()));
    let mut fields = rate.headers().to_vec();
    fields.push(("x-github-request-id", id));
    fields.push(("x-github-enterprise-version", "3.17.0".to_owned()));
    fields.push(("x-github-media-type", "github.v3; format=json".to_owned()));
    if caller.login().is_some() {
        fields.push(("x-oauth-scopes", "admin:repo_hook, repo".to_owned()));
    }
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
}

/// Answers what the stand-in does not have; the log says so.
pub(crate) async fn unknown(method: Method, request: Request) -> Response {
    let path = request.uri().path();
    let mut response = if path.starts_with("/api/v3") || method != Method::GET {
        Refusal::not_found().into_response()
    } else {
        (StatusCode::NOT_FOUND, "Not Found").into_response()
    };
    response.extensions_mut().insert(Unknown);
    response
}

/// Requests by method and template, such as `POST /repos/{owner}/{repo}/pulls`.
pub(crate) fn counts(log: &[LoggedRequest]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in log {
        *counts.entry(format!("{} {}", request.method, request.template)).or_default() += 1;
    }
    counts
}
