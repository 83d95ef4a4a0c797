//! The one place every request passes before its handler: who is asking, whether the server
//! offers this at all, how much is left of the limit, and what is written into the log.

use std::collections::BTreeMap;

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Serialize;

use crate::{
    Simulator,
    apps::Route,
    caller::Caller,
    fault,
    limits::{self, Rate},
    refusal::Refusal,
    world::World,
};

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
    /// Login of who asked, of an App its bot's; `None` for nobody or a bad token.
    pub actor: Option<String>,
}

/// Put into the answer to what the stand-in does not have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unknown;

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
        let cost = u32::from(template != "/rate_limit");
        let mut rate = simulator.change(|world| world.spend(&caller, cost));
        let mut response = match admit(&simulator, &caller, &method, &template, rate) {
            Ok(()) => fault::answer(&simulator, &template, request, next).await,
            Err(refused) => *refused,
        };
        if response.status() == StatusCode::NOT_MODIFIED && caller.budget().is_some() {
            rate = simulator.change(|world| world.refund(&caller));
        }
        add_headers(&simulator, &mut response, &caller, &method, &template, rate);
        fault::last_word(&mut response);
        response
    } else {
        next.run(request).await
    };
    let now = simulator.read(World::now).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(now) = HeaderValue::from_str(&now) {
        response.headers_mut().insert(header::DATE, now);
    }

    let unknown = response.extensions_mut().remove::<Unknown>().is_some();
    let status = response.status().as_u16();
    simulator.change(|world| {
        let logged = LoggedRequest {
            at: world.now(),
            method: method.to_string(),
            path: api_path.unwrap_or(whole),
            template: if unknown { "unknown".to_owned() } else { template },
            status,
            actor: world.name_of(&caller),
        };
        world.log.push(logged);
    });
    response
}

/// What is decided about an API request before its handler.
fn admit(
    simulator: &Simulator,
    caller: &Caller,
    method: &Method,
    template: &str,
    rate: Rate,
) -> Result<(), Box<Response>> {
    let no = |refusal: Refusal| Err(Box::new(refusal.into_response()));
    if let Caller::Refused(refusal) = caller {
        return no(refusal.clone());
    }
    if rate.exhausted && template != "/rate_limit" {
        let who = caller.budget();
        let who = who.as_deref().unwrap_or("127.0.0.1");
        return no(Refusal::forbidden(&format!("API rate limit exceeded for {who}.")));
    }
    let off = simulator.read(|world| world.switched_off.iter().find(|f| f.covers(template)).copied());
    if let Some(feature) = off {
        return no(feature.refusal());
    }
    let Some(wait) = simulator.change(|world| world.make_content(caller, method, template)) else {
        return Ok(());
    };
    let mut response = limits::too_fast().into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait));
    Err(Box::new(response))
}

fn add_headers(
    simulator: &Simulator,
    response: &mut Response,
    caller: &Caller,
    method: &Method,
    template: &str,
    rate: Rate,
) {
    let id = simulator.read(|world| hex::encode_upper(world.ids.bytes::<16>()));
    let mut fields = rate.headers().to_vec();
    fields.push(("x-github-request-id", id));
    fields.push(("x-github-enterprise-version", "3.17.0".to_owned()));
    fields.push(("x-github-media-type", "github.v3; format=json".to_owned()));
    match caller {
        Caller::User(token) => fields.push(("x-oauth-scopes", token.scopes.join(", "))),
        Caller::Installation(_) => {
            let route = Route::find(method, template);
            fields.extend(route.map(|route| ("x-accepted-github-permissions", route.header())));
        }
        Caller::Anonymous | Caller::App(_) | Caller::Refused(_) => {}
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
