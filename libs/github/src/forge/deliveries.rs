//! What became of the deliveries of a webhook, an App's or a repository's.

use chrono::{DateTime, Utc};
use forge::{FetchedDelivery, ForgeError, HookOf, Result, SentDelivery};
use serde::Deserialize;
use serde_json::Value;

use crate::client::{Client, Endpoint, PER_PAGE, Purpose, Scope};

/// Pages of a hundred that are read; busier hooks than that are read as far as this goes.
const PAGES: usize = 50;

#[derive(Deserialize)]
struct DeliveryBody {
    id: u64,
    guid: String,
    delivered_at: DateTime<Utc>,
    #[serde(default)]
    redelivery: bool,
    status_code: Option<u16>,
    event: String,
    action: Option<String>,
    installation_id: Option<u64>,
    repository_id: Option<u64>,
}

#[derive(Deserialize)]
struct WholeBody {
    #[serde(flatten)]
    sent: DeliveryBody,
    request: RequestBody,
}

#[derive(Deserialize)]
struct RequestBody {
    payload: Option<Value>,
}

impl From<DeliveryBody> for SentDelivery {
    fn from(body: DeliveryBody) -> Self {
        Self {
            id: body.id,
            guid: body.guid,
            delivered_at: body.delivered_at,
            is_redelivery: body.redelivery,
            // GitHub writes 0 where nobody answered.
            status_code: body.status_code.filter(|status| *status != 0),
            event: body.event,
            action: body.action,
            installation: body.installation_id,
            repository_id: body.repository_id,
        }
    }
}

/// Calls about a hook: an App's by the App itself.
fn calls<'a>(client: &'a Client, of: &'a HookOf) -> Scope<'a> {
    match of {
        HookOf::App => client.for_app(),
        HookOf::Repository { name, .. } => client.for_repository(name, Purpose::Hooks),
    }
}

/// The call for an App's hook or for a repository's, and the parts of its path before the
/// delivery's.
fn call(of: &HookOf, app: Endpoint, repository: Endpoint) -> (Endpoint, Vec<String>) {
    match of {
        HookOf::App => (app, Vec::new()),
        HookOf::Repository { id, .. } => (repository, vec![id.to_string()]),
    }
}

fn parts(parts: &[String]) -> Vec<&str> {
    parts.iter().map(String::as_str).collect()
}

pub(super) async fn list(client: &Client, of: &HookOf, since: DateTime<Utc>) -> Result<Vec<SentDelivery>> {
    let (endpoint, path) = call(of, Endpoint::AppDeliveries, Endpoint::Deliveries);
    let (calls, per_page) = (calls(client, of), PER_PAGE.to_string());
    let (mut found, mut cursor): (Vec<SentDelivery>, Option<String>) = (Vec::new(), None);
    for _ in 0..PAGES {
        let mut query = vec![("per_page", per_page.as_str())];
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let answer = calls.get(endpoint, &parts(&path), &query).await?;
        let page: Vec<DeliveryBody> = answer.json()?;
        let ended = page.is_empty() || page.iter().any(|delivery| delivery.delivered_at < since);
        found.extend(page.into_iter().filter(|body| body.delivered_at >= since).map(SentDelivery::from));
        cursor = answer.linked("next", "cursor").flatten().map(str::to_owned);
        if ended || cursor.is_none() {
            return Ok(found);
        }
    }
    tracing::warn!(pages = PAGES, %since, "very many deliveries; the oldest of them are not looked at");
    Ok(found)
}

pub(super) async fn redeliver(client: &Client, of: &HookOf, delivery: u64) -> Result<()> {
    let (endpoint, mut path) = call(of, Endpoint::RedeliverToApp, Endpoint::Redeliver);
    path.push(delivery.to_string());
    calls(client, of).act(endpoint, &parts(&path)).await.map(drop)
}

pub(super) async fn fetch(client: &Client, of: &HookOf, delivery: u64) -> Result<FetchedDelivery> {
    let (endpoint, mut path) = call(of, Endpoint::AppDelivery, Endpoint::Delivery);
    path.push(delivery.to_string());
    let body: WholeBody = calls(client, of).get(endpoint, &parts(&path), &[]).await?.json()?;
    let payload = body.request.payload.filter(Value::is_object);
    let missing =
        || ForgeError::Missing { message: "the content of the delivery is not kept any more".to_owned() };
    Ok(FetchedDelivery::from_host(body.sent.into(), payload.ok_or_else(missing)?))
}
