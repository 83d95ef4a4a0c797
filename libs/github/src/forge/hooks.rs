//! A repository's webhooks.

use forge::{Hook, NewHook, Result};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{Endpoint, Scope};

/// Pages of a hundred; GitHub takes 20 webhooks per event.
const PAGES: u32 = 3;

#[derive(Deserialize)]
struct HookBody {
    id: u64,
    active: bool,
    events: Vec<String>,
    #[serde(default)]
    config: ConfigBody,
    last_response: Option<ResponseBody>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ConfigBody {
    url: String,
    content_type: String,
    /// `"0"`, `"1"` or the number.
    insecure_ssl: Value,
    /// Asterisks, where there is one.
    secret: String,
}

#[derive(Deserialize)]
struct ResponseBody {
    code: Option<u16>,
    status: Option<String>,
    message: Option<String>,
}

impl From<HookBody> for Hook {
    fn from(body: HookBody) -> Self {
        let response = body.last_response.and_then(|last| {
            let words = [last.message, last.status].into_iter().flatten().find(|words| !words.is_empty());
            Some((last.code?, words.unwrap_or_default()))
        });
        Self {
            id: body.id,
            url: body.config.url,
            events: body.events,
            active: body.active,
            sends_json: body.config.content_type == "json",
            is_insecure: body.config.insecure_ssl == "1" || body.config.insecure_ssl == 1,
            has_secret: !body.config.secret.is_empty(),
            last_response: response,
        }
    }
}

/// Asked for whole: GitHub replaces the configuration, and a secret that is left out is gone.
fn wanted(hook: &NewHook) -> Value {
    json!({
        "active": true,
        "events": hook.events,
        "config": {
            "url": hook.url,
            "content_type": "json",
            "insecure_ssl": "0",
            "secret": hook.secret.expose_secret(),
        },
    })
}

pub(super) async fn list(repository: Scope<'_>) -> Result<Vec<Hook>> {
    let hooks: Vec<HookBody> = repository.pages(Endpoint::Hooks, &[], PAGES).await?;
    Ok(hooks.into_iter().map(Hook::from).collect())
}

pub(super) async fn create(repository: Scope<'_>, hook: &NewHook) -> Result<Hook> {
    let mut body = wanted(hook);
    body["name"] = json!("web");
    Ok(repository.write(Endpoint::CreateHook, &[], &body).await?.json::<HookBody>()?.into())
}

pub(super) async fn update(repository: Scope<'_>, id: u64, hook: &NewHook) -> Result<Hook> {
    let id = id.to_string();
    Ok(repository.write(Endpoint::UpdateHook, &[&id], &wanted(hook)).await?.json::<HookBody>()?.into())
}

pub(super) async fn ping(repository: Scope<'_>, id: u64) -> Result<()> {
    repository.act(Endpoint::PingHook, &[&id.to_string()]).await.map(drop)
}
