//! Apps and their installations, and whether deliveries arrive.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::post,
};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Failure};
use crate::Simulator;

pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/apps", post(create))
        .route("/apps/{app}/hook", post(set_hook))
        .route("/installations", post(install))
        .route("/installations/{installation}/{change}", post(change))
        .route("/tokens/expire", post(expire))
        .route("/reachable", post(reachable))
}

#[derive(Debug, Deserialize)]
struct NewApp {
    slug: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    secret: String,
}

#[derive(Debug, Deserialize)]
struct NewHook {
    url: String,
    secret: String,
}

#[derive(Debug, Deserialize)]
struct NewInstallation {
    app: u64,
    account: String,
    /// `owner/name`; none: all of the account.
    #[serde(default)]
    repositories: Vec<String>,
    /// Levels by permission; none: the usual ones.
    #[serde(default)]
    permissions: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
struct Change {
    #[serde(default)]
    repository: String,
    #[serde(default)]
    permissions: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Reachable {
    reachable: bool,
}

fn pairs(permissions: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    permissions.iter().map(|(name, level)| (name.as_str(), level.as_str())).collect()
}

async fn create(State(simulator): State<Simulator>, Json(new): Json<NewApp>) -> Answer {
    let app = simulator.create_app(&new.slug, &new.url, &new.secret)?;
    Ok(Json(json!({
        "id": app.id, "client_id": app.client_id, "hook_id": app.hook, "private_key": app.private_key,
    })))
}

async fn set_hook(
    State(simulator): State<Simulator>,
    Path(app): Path<u64>,
    Json(new): Json<NewHook>,
) -> Answer {
    simulator.set_app_hook(app, &new.url, &new.secret)?;
    Ok(Json(json!({})))
}

async fn install(State(simulator): State<Simulator>, Json(new): Json<NewInstallation>) -> Answer {
    let repositories: Vec<&str> = new.repositories.iter().map(String::as_str).collect();
    let permissions = pairs(&new.permissions);
    let permissions = if permissions.is_empty() { crate::apps::USUAL.to_vec() } else { permissions };
    let id = simulator.install_app(new.app, &new.account, &repositories, &permissions)?;
    Ok(Json(json!({ "id": id })))
}

async fn change(
    State(simulator): State<Simulator>,
    Path((installation, change)): Path<(u64, String)>,
    Json(to): Json<Change>,
) -> Answer {
    match change.as_str() {
        "suspend" => simulator.suspend(installation)?,
        "unsuspend" => simulator.unsuspend(installation)?,
        "uninstall" => simulator.uninstall(installation)?,
        "add" => simulator.add_to_installation(installation, &to.repository)?,
        "remove" => simulator.remove_from_installation(installation, &to.repository)?,
        "permissions" => simulator.set_installation_permissions(installation, &pairs(&to.permissions))?,
        other => {
            return Err(Failure::from(anyhow::anyhow!("an installation cannot be changed by `{other}`")));
        }
    }
    Ok(Json(json!({})))
}

async fn expire(State(simulator): State<Simulator>) -> Answer {
    simulator.expire_tokens();
    Ok(Json(json!({})))
}

async fn reachable(State(simulator): State<Simulator>, Json(to): Json<Reachable>) -> Answer {
    simulator.unreachable(!to.reachable);
    Ok(Json(json!({})))
}
