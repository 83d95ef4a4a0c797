//! What handlers take from a request: the repository and the right to it, a JSON body, a
//! page of a list.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, MatchedPath, OriginalUri, Path, Request},
    response::{IntoResponse, Response},
};
use domain::{names::RepositoryName, rights::Permission};
use http::{HeaderValue, Method, StatusCode, Uri, header, request::Parts};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::rights::Asked;
use crate::{Simulator, apps::tokens::Grant, caller::Caller, git::Bare, refusal::Refusal};

pub(super) type Answer = Result<Response, Refusal>;

/// A repository the caller may see, and what else the caller may do with it.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) key: String,
    pub(super) name: RepositoryName,
    pub(super) bare: Bare,
    pub(super) refs: Arc<tokio::sync::Mutex<()>>,
    pub(super) permission: Permission,
    caller: Caller,
    parts: HashMap<String, String>,
}

impl FromRequestParts<Simulator> for Scope {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, simulator: &Simulator) -> Result<Self, Refusal> {
        let Path(path) = Path::<HashMap<String, String>>::from_request_parts(parts, simulator)
            .await
            .map_err(|_| Refusal::not_found())?;
        let part = |name: &str| path.get(name).map(String::as_str).unwrap_or_default();
        let name: RepositoryName =
            format!("{}/{}", part("owner"), part("repo")).parse().map_err(|_| Refusal::not_found())?;
        let caller = parts.extensions.get::<Caller>().cloned().unwrap_or(Caller::Anonymous);
        let template = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
        let template = template.strip_prefix("/api/v3").unwrap_or(template);
        let writes = parts.method != Method::GET;
        simulator.read(|world| {
            if let (Err(_), Some(now)) = (world.repository(&name.key()), world.moved_to(&name.key())) {
                let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0);
                let whole = uri.path_and_query().map_or(uri.path(), |whole| whole.as_str());
                let rest = whole.splitn(7, '/').nth(6).map(|rest| format!("/{rest}")).unwrap_or_default();
                let there = format!("{}{rest}", world.urls.repository_api(now));
                return Err(Refusal::moved(!writes, there));
            }
            let repository = world.repository(&name.key())?;
            let asked = Asked { method: &parts.method, template, parts: &path };
            let permission = asked.permission(world, repository, &caller)?;
            if writes && caller.login().is_none() {
                return Err(Refusal::unauthenticated());
            }
            if writes && repository.archived {
                return Err(Refusal::forbidden("Repository was archived so is read-only."));
            }
            asked.check_issues(repository)?;
            Ok(Self {
                key: name.key(),
                name: repository.name.clone(),
                bare: repository.bare.clone(),
                refs: repository.refs.clone(),
                permission,
                caller,
                parts: path,
            })
        })
    }
}

impl Scope {
    /// Who is asking; refused when nobody is.
    pub(super) fn actor(&self) -> Result<&str, Refusal> {
        self.caller.login().ok_or_else(Refusal::unauthenticated)
    }

    /// The App that asks, where it is installed.
    pub(super) fn grant(&self) -> Option<&Grant> {
        match &self.caller {
            Caller::Installation(grant) => Some(grant),
            Caller::Anonymous | Caller::User(_) | Caller::App(_) | Caller::Refused(_) => None,
        }
    }

    /// A part of the path.
    pub(super) fn part(&self, name: &str) -> &str {
        self.parts.get(name).map(String::as_str).unwrap_or_default()
    }

    /// A part of the path that is a number.
    pub(super) fn number(&self, name: &str) -> Result<u64, Refusal> {
        self.part(name).parse().map_err(|_| Refusal::not_found())
    }

    /// Refuses who has less; GitHub hides what one may not change, or says so, depending on
    /// the endpoint.
    pub(super) fn require(&self, least: Permission, otherwise: Refusal) -> Result<(), Refusal> {
        if self.permission >= least { Ok(()) } else { Err(otherwise) }
    }

    /// For what GitHub hides from those who may not push.
    pub(super) fn require_push(&self) -> Result<(), Refusal> {
        self.require(Permission::Write, Refusal::not_found())
    }
}

/// The fields of a JSON body.
#[derive(Debug)]
pub(super) struct Fields<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Simulator> for Fields<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, simulator: &Simulator) -> Result<Self, Refusal> {
        let bytes = Bytes::from_request(request, simulator)
            .await
            .map_err(|e| Refusal::new(e.status(), "Payload too large"))?;
        let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "Problems parsing JSON"))?;
        serde_json::from_value(value).map(Self).map_err(|error| {
            let words = error.to_string();
            let missing = words.strip_prefix("missing field `").and_then(|w| w.split('`').next());
            Refusal::unprocessable(match missing {
                Some(field) => format!("Invalid request.\n\n\"{field}\" wasn't supplied."),
                None => format!("Invalid request.\n\n{words}."),
            })
        })
    }
}

/// Which part of a list was asked for, and where its other parts are.
#[derive(Debug)]
pub(super) struct Page {
    uri: Uri,
    pub(super) per_page: usize,
    page: usize,
    query: Vec<(String, String)>,
}

impl FromRequestParts<Simulator> for Page {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, simulator: &Simulator) -> Result<Self, Infallible> {
        let OriginalUri(uri) = OriginalUri::from_request_parts(parts, simulator).await?;
        let query: Vec<(String, String)> =
            url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let number = |name: &str, otherwise: usize| {
            let found = query.iter().find(|(n, _)| n == name).and_then(|(_, v)| v.parse().ok());
            found.filter(|n| *n > 0).unwrap_or(otherwise)
        };
        Ok(Self { per_page: number("per_page", 30).min(100), page: number("page", 1), uri, query })
    }
}

impl Page {
    /// A parameter of the query.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// True for the first part.
    pub(super) fn is_first(&self) -> bool {
        self.page == 1
    }

    /// The part of the list that was asked for.
    pub(super) fn part_of<T>(&self, items: Vec<T>) -> Vec<T> {
        let start = (self.page - 1).saturating_mul(self.per_page);
        items.into_iter().skip(start).take(self.per_page).collect()
    }

    /// The part of the list that was asked for, with the addresses of its neighbours.
    pub(super) fn of(&self, simulator: &Simulator, items: Vec<Value>) -> Response {
        self.of_named(simulator, items, Value::Array)
    }

    /// The same for a list that is a field of the answer.
    pub(super) fn of_named(
        &self,
        simulator: &Simulator,
        items: Vec<Value>,
        named: impl FnOnce(Vec<Value>) -> Value,
    ) -> Response {
        let last = items.len().div_ceil(self.per_page).max(1);
        let shown = self.part_of(items);
        let mut links = Vec::new();
        if self.page > 1 {
            links.push(("prev", self.page.min(last + 1) - 1));
            links.push(("first", 1));
        }
        if self.page < last {
            links.insert(0, ("next", self.page + 1));
            links.insert(1, ("last", last));
        }
        let link = |(rel, page): &(&str, usize)| self.link(simulator, rel, "page", &page.to_string());
        with_links(named(shown), &links.iter().map(link).collect::<Vec<_>>())
    }

    /// An address of the same list with one parameter replaced.
    pub(super) fn link(&self, simulator: &Simulator, rel: &str, parameter: &str, value: &str) -> String {
        let kept = self.query.iter().filter(|(name, _)| name != parameter);
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(kept)
            .append_pair(parameter, value)
            .finish();
        format!("<{}{}?{query}>; rel=\"{rel}\"", simulator.urls().web(), self.uri.path())
    }

    pub(super) fn respond(&self, items: Vec<Value>, links: &[String]) -> Response {
        with_links(Value::Array(items), links)
    }
}

fn with_links(body: Value, links: &[String]) -> Response {
    let mut response = Json(body).into_response();
    if let Ok(value) = HeaderValue::from_str(&links.join(", "))
        && !links.is_empty()
    {
        response.headers_mut().insert(header::LINK, value);
    }
    response
}

/// 201 with a body.
pub(super) fn created(value: Value) -> Response {
    (StatusCode::CREATED, Json(value)).into_response()
}

/// 200 with a body.
pub(super) fn ok(value: Value) -> Response {
    Json(value).into_response()
}

/// 202 with an empty object.
pub(super) fn accepted() -> Response {
    (StatusCode::ACCEPTED, Json(serde_json::json!({}))).into_response()
}

/// 204.
pub(super) fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
