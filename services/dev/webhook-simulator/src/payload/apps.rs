//! Apps and installations.

use serde_json::{Value, json};

use super::{node_id, time, user};
use crate::{
    apps::{App, Installation, Permissions},
    refusal::Refusal,
    world::World,
};

/// The App, as it shows itself and as what it did names it.
pub(crate) fn app(world: &World, app: &App) -> Value {
    let owner = world.user("octocat");
    let installed: Vec<&Installation> =
        world.apps.installations.values().filter(|i| i.app == app.id).collect();
    let mut permissions = Permissions::default();
    for installation in &installed {
        permissions.0.extend(installation.permissions.0.clone());
    }
    json!({
        "id": app.id,
        "slug": app.slug,
        "client_id": app.client_id,
        "node_id": node_id("Integration", app.id),
        "owner": user(&world.urls, &owner),
        "name": app.slug,
        "description": null,
        "external_url": world.urls.web(),
        "html_url": format!("{}/apps/{}", world.urls.web(), app.slug),
        "created_at": time(app.created_at),
        "updated_at": time(app.hook.updated_at),
        "permissions": permissions,
        "events": app.hook.events,
        "installations_count": installed.len(),
    })
}

/// `performed_via_github_app`: the App whose bot did it.
pub(crate) fn performed_via(world: &World, login: &str) -> Value {
    world.app_of_bot(login).map(|found| app(world, found)).unwrap_or_default()
}

pub(crate) fn installation(world: &World, of: &Installation) -> Result<Value, Refusal> {
    let app = world.app(of.app)?;
    let account = world.user(&of.account);
    let api = world.urls.api();
    Ok(json!({
        "id": of.id,
        "account": user(&world.urls, &account),
        "repository_selection": of.selection.name(),
        "access_tokens_url": format!("{api}/app/installations/{}/access_tokens", of.id),
        "repositories_url": format!("{api}/installation/repositories"),
        "html_url": format!("{}/settings/installations/{}", world.urls.web(), of.id),
        "app_id": app.id,
        "client_id": app.client_id,
        "app_slug": app.slug,
        "target_id": account.id,
        "target_type": "User",
        "permissions": of.permissions,
        "events": app.hook.events,
        "created_at": time(of.created_at),
        "updated_at": time(of.updated_at),
        "single_file_name": null,
        "has_multiple_single_files": false,
        "single_file_paths": [],
        "suspended_by": of.suspended_at.map(|_| user(&world.urls, &account)),
        "suspended_at": of.suspended_at.map(time),
    }))
}

/// An installation in a delivery, where its times are numbers.
pub(crate) fn delivered_installation(world: &World, of: &Installation) -> Result<Value, Refusal> {
    let mut value = installation(world, of)?;
    value["created_at"] = json!(of.created_at.timestamp());
    value["updated_at"] = json!(of.updated_at.timestamp());
    Ok(value)
}
