//! What happened to an issue or pull request.

use axum::extract::State;

use super::request::{Answer, Page, Scope};
use crate::{Simulator, payload::history as payload, refusal::Refusal};

pub(super) async fn timeline(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    let number = scope.number("number")?;
    let items = simulator.read(|world| {
        let (repository, issue) = world.issue(&scope.key, number)?;
        Ok::<_, Refusal>(payload::timeline(world, repository, issue))
    })?;
    Ok(page.of(&simulator, items))
}

pub(super) async fn events(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    let number = scope.number("number")?;
    let items = simulator.read(|world| {
        let (repository, issue) = world.issue(&scope.key, number)?;
        Ok::<_, Refusal>(payload::events(world, repository, issue))
    })?;
    Ok(page.of(&simulator, items))
}
