//! What became of the deliveries of a webhook, an App's or a repository's.

use chrono::{DateTime, Utc};
use domain::names::RepositoryName;
use forge::{FetchedDelivery, ForgeError, HookOf, Result, SentDelivery};
use serde::Deserialize;
use serde_json::Value;

use crate::client::{PER_PAGE, Scope};

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

/// Where a hook's deliveries are, below its scope.
fn path(hook: &HookOf, more: &[&str]) -> Vec<String> {
    let hook = match hook {
        HookOf::App => vec!["app".to_owned(), "hook".to_owned()],
        HookOf::Repository { id, .. } => vec!["hooks".to_owned(), id.to_string()],
    };
    let more = more.iter().map(|part| (*part).to_owned());
    hook.into_iter().chain(std::iter::once("deliveries".to_owned())).chain(more).collect()
}

fn parts(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

/// The repository whose hook it is; none for an App's.
pub(super) fn repository_of(hook: &HookOf) -> Option<&RepositoryName> {
    match hook {
        HookOf::App => None,
        HookOf::Repository { name, .. } => Some(name),
    }
}

pub(super) async fn list(scope: Scope<'_>, of: &HookOf, since: DateTime<Utc>) -> Result<Vec<SentDelivery>> {
    let (path, per_page) = (path(of, &[]), PER_PAGE.to_string());
    let (mut found, mut cursor): (Vec<SentDelivery>, Option<String>) = (Vec::new(), None);
    for _ in 0..PAGES {
        let mut query = vec![("per_page", per_page.as_str())];
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let answer = scope.get(&parts(&path), &query).await?;
        let page: Vec<DeliveryBody> = answer.json()?;
        let ended = page.is_empty() || page.iter().any(|delivery| delivery.delivered_at < since);
        found.extend(page.into_iter().filter(|body| body.delivered_at >= since).map(SentDelivery::from));
        cursor = answer.next_cursor();
        if ended || cursor.is_none() {
            return Ok(found);
        }
    }
    tracing::warn!(pages = PAGES, %since, "very many deliveries; the oldest of them are not looked at");
    Ok(found)
}

pub(super) async fn redeliver(scope: Scope<'_>, of: &HookOf, delivery: u64) -> Result<()> {
    scope.post_nothing(&parts(&path(of, &[&delivery.to_string(), "attempts"]))).await.map(drop)
}

pub(super) async fn fetch(scope: Scope<'_>, of: &HookOf, delivery: u64) -> Result<FetchedDelivery> {
    let path = path(of, &[&delivery.to_string()]);
    let body: WholeBody = scope.get(&parts(&path), &[]).await?.json()?;
    let payload = body.request.payload.filter(Value::is_object);
    let missing =
        || ForgeError::Missing { message: "the content of the delivery is not kept any more".to_owned() };
    Ok(FetchedDelivery::from_host(body.sent.into(), payload.ok_or_else(missing)?))
}
