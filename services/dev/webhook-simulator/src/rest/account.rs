//! Who one is, what the server is, the repository, and what others may do with it.

use axum::{Extension, extract::State};
use domain::rights::Permission;
use serde_json::json;

use super::request::{Answer, Scope, ok};
use crate::{
    Simulator,
    apps::{Level, tokens::not_accessible},
    caller::Caller,
    payload,
    refusal::Refusal,
};

pub(super) async fn user(State(simulator): State<Simulator>, Extension(caller): Extension<Caller>) -> Answer {
    if let Caller::Installation(_) = caller {
        return Err(not_accessible());
    }
    let login = caller.login().ok_or_else(Refusal::unauthenticated)?;
    Ok(ok(simulator.read(|w| payload::own_profile(&w.urls, &w.user(login), w.now()))))
}

pub(super) async fn rate_limit(
    State(simulator): State<Simulator>,
    Extension(caller): Extension<Caller>,
) -> Answer {
    let core = simulator.change(|world| world.spend(&caller, 0)).json();
    Ok(ok(json!({ "resources": { "core": core, "search": core, "graphql": core }, "rate": core })))
}

pub(super) async fn meta() -> Answer {
    Ok(ok(json!({ "verifiable_password_authentication": false, "installed_version": "3.17.0" })))
}

pub(super) async fn repository(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    simulator.read(|world| {
        let mut value = payload::repository(world, world.repository(&scope.key)?);
        // Only where it is asked for by itself.
        for count in ["network_count", "subscribers_count"] {
            value[count] = json!(0);
        }
        if let Some(grant) = scope.grant() {
            let may = |name, level| grant.permissions.allow(name, level);
            let role = match () {
                () if may("administration", Level::Write) => Permission::Admin,
                () if may("contents", Level::Write) => Permission::Write,
                () => Permission::Read,
            };
            value["permissions"] = payload::permissions(role);
        } else if scope.actor().is_ok() {
            value["permissions"] = payload::permissions(scope.permission);
        }
        Ok(ok(value))
    })
}

pub(super) async fn permission(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    scope.actor()?;
    let refusal = Refusal::forbidden("Must have push access to view collaborator permission.");
    scope.require(Permission::Write, refusal)?;
    simulator.read(|world| {
        let login = scope.part("username");
        // Bots have no permission that could be asked for.
        let user = world
            .find_user(login)
            .filter(|u| !u.bot)
            .ok_or_else(|| Refusal::new(http::StatusCode::NOT_FOUND, format!("{login} is not a user")))?;
        let permission = world.permission(world.repository(&scope.key)?, Some(&user.login));
        // The old field knows four levels; the new one says which it is.
        let old = match permission {
            Permission::Admin => "admin",
            Permission::Maintain | Permission::Write => "write",
            Permission::Triage | Permission::Read => "read",
            Permission::None => "none",
        };
        let mut account = payload::user(&world.urls, user);
        account["permissions"] = payload::permissions(permission);
        account["role_name"] = json!(permission.to_string());
        Ok(ok(json!({ "permission": old, "role_name": permission.to_string(), "user": account })))
    })
}
