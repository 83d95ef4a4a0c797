//! Hooks of a repository and their deliveries. Who does not administer the repository does
//! not see that they exist.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use domain::rights::Permission;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::request::{Answer, Fields, Page, Scope, created, no_content, ok};
use crate::{
    Simulator,
    delivery::Delivery,
    payload,
    refusal::Refusal,
    world::{Hook, World},
};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Config {
    url: Option<String>,
    secret: Option<secrecy::SecretString>,
}

#[derive(Debug, Deserialize)]
pub(super) struct NewHook {
    #[serde(default)]
    config: Config,
    events: Option<Vec<String>>,
    active: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Changes {
    config: Option<Config>,
    events: Option<Vec<String>>,
    #[serde(default)]
    add_events: Vec<String>,
    #[serde(default)]
    remove_events: Vec<String>,
    active: Option<bool>,
}

fn require_admin(scope: &Scope) -> Result<(), Refusal> {
    scope.actor()?;
    scope.require(Permission::Admin, Refusal::not_found())
}

fn find<'w>(world: &'w World, scope: &Scope, id: u64) -> Result<&'w Hook, Refusal> {
    world.repository(&scope.key)?.hooks.iter().find(|h| h.id == id).ok_or_else(Refusal::not_found)
}

fn show(world: &World, scope: &Scope, id: u64) -> Result<Value, Refusal> {
    Ok(payload::hook(world, world.repository(&scope.key)?, find(world, scope, id)?))
}

pub(super) async fn list(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    require_admin(&scope)?;
    let items = simulator.read(|world| {
        let repository = world.repository(&scope.key)?;
        Ok::<_, Refusal>(repository.hooks.iter().map(|h| payload::hook(world, repository, h)).collect())
    })?;
    Ok(page.of(&simulator, items))
}

pub(super) async fn get(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    require_admin(&scope)?;
    let id = scope.number("hook")?;
    simulator.read(|world| show(world, &scope, id)).map(ok)
}

pub(super) async fn create(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(new): Fields<NewHook>,
) -> Answer {
    require_admin(&scope)?;
    let actor = scope.actor()?;
    let url = new.config.url.unwrap_or_default();
    let events = new.events.unwrap_or_else(|| vec!["push".to_owned()]);
    simulator.change(|world| {
        let active = new.active.unwrap_or(true);
        let id = world.add_hook(&scope.key, &url, new.config.secret, events, active, actor)?;
        show(world, &scope, id).map(created)
    })
}

pub(super) async fn update(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(changes): Fields<Changes>,
) -> Answer {
    require_admin(&scope)?;
    let id = scope.number("hook")?;
    simulator.change(|world| {
        let now = world.now();
        let hooks = &mut world.repository_mut(&scope.key)?.hooks;
        let hook = hooks.iter_mut().find(|h| h.id == id).ok_or_else(Refusal::not_found)?;
        if let Some(config) = changes.config {
            hook.url = config.url.unwrap_or_else(|| hook.url.clone());
            // One that is left out is taken away.
            hook.secret = config.secret;
        }
        if let Some(events) = changes.events {
            hook.events = events;
        }
        hook.events.extend(changes.add_events);
        hook.events.retain(|e| !changes.remove_events.contains(e));
        hook.active = changes.active.unwrap_or(hook.active);
        hook.updated_at = now;
        show(world, &scope, id).map(ok)
    })
}

pub(super) async fn ping(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    require_admin(&scope)?;
    let id = scope.number("hook")?;
    simulator.change(|world| world.ping(&scope.key, id, scope.actor()?))?;
    Ok(no_content())
}

/// Deliveries that ended, newest first; on GitHub too they appear when they are over.
fn ended(world: &World, hook: u64) -> impl Iterator<Item = &Delivery> {
    world.deliveries.values().rev().filter(move |d| d.hook == hook && d.answer.is_some())
}

fn summary(world: &World, scope: &Scope, delivery: &Delivery) -> Value {
    let answer = delivery.answer.as_ref();
    json!({
        "id": delivery.id,
        "guid": delivery.guid,
        "delivered_at": payload::time(delivery.delivered_at),
        "redelivery": delivery.redelivery,
        "duration": answer.map(|a| a.duration),
        "status": answer.map(|a| &a.status),
        "status_code": answer.map(|a| a.status_code),
        "event": delivery.event,
        "action": delivery.action,
        "installation_id": null,
        "repository_id": world.repository(&scope.key).map(|r| r.id).ok(),
        "throttled_at": null,
    })
}

/// By cursor, not by page, as GitHub does here.
pub(super) async fn deliveries(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    require_admin(&scope)?;
    let id = scope.number("hook")?;
    let cursor: Option<u64> = page.query("cursor").and_then(|c| c.parse().ok());
    let mut items = simulator.read(|world| {
        find(world, &scope, id)?;
        let from = ended(world, id).filter(|d| cursor.is_none_or(|c| d.id <= c));
        let shown = from.take(page.per_page + 1).map(|d| (d.id, summary(world, &scope, d)));
        Ok::<_, Refusal>(shown.collect::<Vec<_>>())
    })?;
    let next = items.get(page.per_page).map(|(id, _)| id.to_string());
    items.truncate(page.per_page);
    let links = next.map(|next| page.link(&simulator, "next", "cursor", &next));
    Ok(page.respond(items.into_iter().map(|(_, item)| item).collect(), links.as_slice()))
}

pub(super) async fn delivery(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    require_admin(&scope)?;
    let (hook, id) = (scope.number("hook")?, scope.number("delivery")?);
    simulator.read(|world| {
        let url = find(world, &scope, hook)?.url.clone();
        let delivery = ended(world, hook).find(|d| d.id == id).ok_or_else(Refusal::not_found)?;
        let mut value = summary(world, &scope, delivery);
        value["url"] = json!(url);
        value["request"] = json!({
            "headers": delivery.request_headers,
            "payload": serde_json::from_str::<Value>(&delivery.body).unwrap_or_default(),
        });
        value["response"] = json!({
            "headers": delivery.answer.as_ref().map(|a| &a.headers),
            "payload": delivery.answer.as_ref().map(|a| &a.body),
        });
        Ok(ok(value))
    })
}

pub(super) async fn redeliver(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    require_admin(&scope)?;
    let (hook, id) = (scope.number("hook")?, scope.number("delivery")?);
    simulator.change(|world| {
        ended(world, hook).find(|d| d.id == id).ok_or_else(Refusal::not_found)?;
        world.redeliver(id)
    })?;
    Ok(accepted())
}

/// 202 with an empty object.
fn accepted() -> Response {
    (StatusCode::ACCEPTED, axum::Json(json!({}))).into_response()
}
