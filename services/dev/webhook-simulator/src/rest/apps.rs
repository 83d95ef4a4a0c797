//! What an App asks about itself and its installations, and the tokens it mints.

use axum::{
    Extension,
    extract::{Path, State},
};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{
    deliveries,
    request::{Answer, Fields, Page, Scope, accepted, created, no_content, ok},
};
use crate::{
    Simulator,
    apps::tokens::{Wish, not_accessible},
    caller::{Caller, bearer},
    payload::{self, apps as shown, time},
    refusal::Refusal,
    world::World,
};

/// Only an App itself is answered here, by a token it signed.
fn app_of(caller: &Caller) -> Result<u64, Refusal> {
    match caller {
        Caller::App(id) => Ok(*id),
        Caller::Anonymous | Caller::User(_) | Caller::Installation(_) | Caller::Refused(_) => {
            Err(Refusal::new(StatusCode::UNAUTHORIZED, "A JSON web token could not be decoded"))
        }
    }
}

pub(super) async fn app(State(simulator): State<Simulator>, Extension(caller): Extension<Caller>) -> Answer {
    let id = app_of(&caller)?;
    simulator.read(|world| Ok(ok(shown::app(world, world.app(id)?))))
}

/// The App that a code was given for, with its secrets, once.
pub(super) async fn convert_manifest(State(simulator): State<Simulator>, Path(code): Path<String>) -> Answer {
    let made = simulator.change(|world| world.apps.codes.remove(&code)).ok_or_else(Refusal::not_found)?;
    simulator.read(|world| {
        let mut app = shown::app(world, world.app(made.id)?);
        app["client_secret"] = json!(made.client_secret);
        app["webhook_secret"] = json!(made.webhook_secret);
        app["pem"] = json!(made.private_key);
        Ok(created(app))
    })
}

pub(super) async fn installations(
    State(simulator): State<Simulator>,
    Extension(caller): Extension<Caller>,
    page: Page,
) -> Answer {
    let id = app_of(&caller)?;
    let items: Result<Vec<Value>, Refusal> = simulator.read(|world| {
        let of_it = world.apps.installations.values().filter(|i| i.app == id);
        of_it.map(|i| shown::installation(world, i)).collect()
    });
    Ok(page.of(&simulator, items?))
}

/// The installation in the path, if it is of this App.
fn own(world: &World, caller: &Caller, id: &str) -> Result<u64, Refusal> {
    let app = app_of(caller)?;
    let id: u64 = id.parse().map_err(|_| Refusal::not_found())?;
    let found = world.installation(id)?;
    (found.app == app).then_some(id).ok_or_else(Refusal::not_found)
}

pub(super) async fn installation(
    State(simulator): State<Simulator>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    simulator.read(|world| {
        let id = own(world, &caller, &id)?;
        Ok(ok(shown::installation(world, world.installation(id)?)?))
    })
}

/// The installation that covers a repository. The scope lets an App see it for this.
pub(super) async fn installation_of_repository(
    State(simulator): State<Simulator>,
    Extension(caller): Extension<Caller>,
    scope: Scope,
) -> Answer {
    let app = app_of(&caller)?;
    simulator.read(|world| {
        let repository = world.repository(&scope.key)?;
        let mut of_it = world.apps.installations.values().filter(|i| i.app == app && i.covers(repository));
        let found = of_it.next().ok_or_else(Refusal::not_found)?;
        Ok(ok(shown::installation(world, found)?))
    })
}

pub(super) async fn mint(
    State(simulator): State<Simulator>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Fields(wish): Fields<Wish>,
) -> Answer {
    simulator.change(|world| {
        let id = own(world, &caller, &id)?;
        let (token, made) = world.mint(id, wish)?;
        let mut value = json!({
            "token": token,
            "expires_at": time(made.expires_at),
            "permissions": made.permissions,
            "repository_selection": world.installation(id)?.selection.name(),
        });
        if let Some(numbers) = &made.repositories {
            value["repository_selection"] = json!("selected");
            let covered = world.covered_by(id).into_iter().filter(|r| numbers.contains(&r.id));
            value["repositories"] = covered.map(|r| payload::repository(world, r)).collect();
        }
        Ok(created(value))
    })
}

pub(super) async fn revoke(
    State(simulator): State<Simulator>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Answer {
    if !matches!(caller, Caller::Installation(_)) {
        return Err(Refusal::forbidden("Resource not accessible by personal access token"));
    }
    simulator.change(|world| bearer(&headers).iter().for_each(|token| world.revoke(token)));
    Ok(no_content())
}

/// Repositories the token in hand covers.
pub(super) async fn repositories(
    State(simulator): State<Simulator>,
    Extension(caller): Extension<Caller>,
    page: Page,
) -> Answer {
    let Caller::Installation(grant) = &caller else { return Err(not_accessible()) };
    simulator.read(|world| {
        let covered = world.covered_by(grant.installation).into_iter().filter(|r| grant.covers(r));
        let all: Vec<Value> = covered.map(|r| payload::repository(world, r)).collect();
        let (count, selection) = (all.len(), world.installation(grant.installation)?.selection.name());
        let named = |shown: Vec<Value>| {
            json!({ "total_count": count, "repository_selection": selection, "repositories": shown })
        };
        Ok(page.of_named(&simulator, all, named))
    })
}

pub(super) async fn hook_config(
    State(simulator): State<Simulator>,
    Extension(caller): Extension<Caller>,
) -> Answer {
    let id = app_of(&caller)?;
    simulator.read(|world| Ok(ok(payload::hook_config(&world.app(id)?.hook))))
}

fn hook_of(world: &World, caller: &Caller) -> Result<u64, Refusal> {
    Ok(world.app(app_of(caller)?)?.hook.id)
}

pub(super) async fn sent(
    State(simulator): State<Simulator>,
    Extension(caller): Extension<Caller>,
    page: Page,
) -> Answer {
    let hook = simulator.read(|world| hook_of(world, &caller))?;
    Ok(deliveries::list(&simulator, hook, &page))
}

pub(super) async fn delivery(
    State(simulator): State<Simulator>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    simulator.read(|world| deliveries::whole(world, hook_of(world, &caller)?, &id).map(ok))
}

pub(super) async fn redeliver(
    State(simulator): State<Simulator>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    simulator.change(|world| deliveries::again(world, hook_of(world, &caller)?, &id))?;
    Ok(accepted())
}
