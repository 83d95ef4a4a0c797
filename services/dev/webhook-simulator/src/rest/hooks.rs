//! Hooks of a repository and their deliveries. Who does not administer the repository does
//! not see that they exist.

use axum::extract::State;
use domain::rights::Permission;
use serde::Deserialize;
use serde_json::Value;

use super::{
    deliveries,
    request::{Answer, Fields, Page, Scope, accepted, created, no_content, ok},
};
use crate::{
    Simulator, payload,
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

pub(super) async fn deliveries(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    require_admin(&scope)?;
    let id = scope.number("hook")?;
    simulator.read(|world| find(world, &scope, id).map(drop))?;
    Ok(deliveries::list(&simulator, id, &page))
}

pub(super) async fn delivery(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    require_admin(&scope)?;
    let hook = scope.number("hook")?;
    simulator.read(|world| {
        find(world, &scope, hook)?;
        deliveries::whole(world, hook, scope.part("delivery")).map(ok)
    })
}

pub(super) async fn redeliver(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    require_admin(&scope)?;
    let hook = scope.number("hook")?;
    simulator.change(|world| {
        find(world, &scope, hook)?;
        deliveries::again(world, hook, scope.part("delivery"))
    })?;
    Ok(accepted())
}
