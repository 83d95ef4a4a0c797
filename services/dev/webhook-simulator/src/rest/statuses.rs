//! Statuses of commits.

use axum::extract::State;
use serde::Deserialize;

use super::request::{Answer, Fields, Page, Scope, created};
use crate::{Simulator, payload::code as payload, refusal::Refusal, world::CommitStatus};

#[derive(Debug, Deserialize)]
pub(super) struct NewStatus {
    state: String,
    context: Option<String>,
    description: Option<String>,
    target_url: Option<String>,
}

pub(super) async fn create(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(new): Fields<NewStatus>,
) -> Answer {
    let actor = scope.actor()?;
    scope.require_push()?;
    let sha = scope.part("sha").to_owned();
    if !["error", "failure", "pending", "success"].contains(&new.state.as_str()) {
        return Err(Refusal::invalid("Status", "state", "invalid"));
    }
    if new.description.as_ref().is_some_and(|d| d.chars().count() > 140) {
        return Err(Refusal::custom("Status", "description is too long (maximum is 140 characters)"));
    }
    if scope.bare.commit(&sha).await?.is_none() {
        return Err(Refusal::unprocessable(format!("No commit found for SHA: {sha}")));
    }
    simulator.change(|world| {
        let status = CommitStatus {
            id: world.next_id(),
            sha,
            state: new.state,
            context: new.context.unwrap_or_else(|| "default".to_owned()),
            description: new.description,
            target_url: new.target_url,
            creator: actor.to_owned(),
            created_at: world.now(),
        };
        let value = payload::status(world, &scope.name, &status);
        world.repository_mut(&scope.key)?.statuses.push(status);
        Ok(created(value))
    })
}

pub(super) async fn list(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    let items = simulator.read(|world| {
        let statuses = world.repository(&scope.key)?.statuses.iter().rev();
        let chosen = statuses.filter(|s| s.sha == scope.part("sha"));
        Ok::<_, Refusal>(chosen.map(|s| payload::status(world, &scope.name, s)).collect())
    })?;
    Ok(page.of(&simulator, items))
}
