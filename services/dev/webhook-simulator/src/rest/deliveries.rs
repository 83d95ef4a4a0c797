//! Deliveries of a hook, a repository's or an App's.

use axum::response::Response;
use serde_json::{Value, json};

use super::request::Page;
use crate::{Simulator, delivery::Delivery, payload, refusal::Refusal, world::World};

/// Deliveries that ended, newest first; on GitHub too they appear when they are over.
fn ended(world: &World, hook: u64) -> impl Iterator<Item = &Delivery> {
    world.deliveries.values().rev().filter(move |d| d.hook == hook && d.answer.is_some())
}

fn find<'w>(world: &'w World, hook: u64, id: &str) -> Result<&'w Delivery, Refusal> {
    let id: u64 = id.parse().map_err(|_| Refusal::not_found())?;
    ended(world, hook).find(|d| d.id == id).ok_or_else(Refusal::not_found)
}

fn summary(delivery: &Delivery) -> Value {
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
        "installation_id": delivery.installation_id,
        "repository_id": delivery.repository_id,
        "throttled_at": null,
    })
}

/// By cursor, not by page, as GitHub does here; `status` picks those that arrived, or did not.
pub(super) fn list(simulator: &Simulator, hook: u64, page: &Page) -> Response {
    let cursor: Option<u64> = page.query("cursor").and_then(|c| c.parse().ok());
    let wanted = |d: &&Delivery| {
        let arrived = d.answer.as_ref().is_some_and(|a| (200..300).contains(&a.status_code));
        cursor.is_none_or(|c| d.id <= c)
            && match page.query("status") {
                Some("success") => arrived,
                Some("failure") => !arrived,
                Some(_) | None => true,
            }
    };
    let mut items = simulator.read(|world| {
        let from = ended(world, hook).filter(wanted);
        from.take(page.per_page + 1).map(|d| (d.id, summary(d))).collect::<Vec<_>>()
    });
    let next = items.get(page.per_page).map(|(id, _)| id.to_string());
    items.truncate(page.per_page);
    let links = next.map(|next| page.link(simulator, "next", "cursor", &next));
    page.respond(items.into_iter().map(|(_, item)| item).collect(), links.as_slice())
}

/// One of them, with what was sent and answered.
pub(super) fn whole(world: &World, hook: u64, id: &str) -> Result<Value, Refusal> {
    let delivery = find(world, hook, id)?;
    let mut value = summary(delivery);
    value["url"] = json!(delivery.url);
    value["request"] = json!({
        "headers": delivery.request_headers,
        "payload": serde_json::from_str::<Value>(&delivery.body).unwrap_or_default(),
    });
    value["response"] = json!({
        "headers": delivery.answer.as_ref().map(|a| &a.headers),
        "payload": delivery.answer.as_ref().map(|a| &a.body),
    });
    Ok(value)
}

/// Sends one again.
pub(super) fn again(world: &mut World, hook: u64, id: &str) -> Result<(), Refusal> {
    let id = find(world, hook, id)?.id;
    world.redeliver(id).map(drop)
}
