//! Comments on issues and pull requests.

use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;

use super::{
    issues::{NewReaction, since},
    request::{Answer, Fields, Page, Scope, created, no_content, ok},
};
use crate::{Simulator, payload::issue as payload, refusal::Refusal, world::World};

#[derive(Debug, Deserialize)]
pub(super) struct Text {
    body: String,
}

fn show(world: &World, scope: &Scope, id: u64) -> Result<Value, Refusal> {
    let repository = world.repository(&scope.key)?;
    let (on, comment) = repository.comment(id).ok_or_else(Refusal::not_found)?;
    Ok(payload::comment(world, repository, on, comment))
}

pub(super) async fn list(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    let number = scope.number("number")?;
    let items = simulator.read(|world| {
        let (repository, issue) = world.issue(&scope.key, number)?;
        let since = since(&page);
        let chosen = issue.comments.iter().filter(|c| since.is_none_or(|s| c.updated_at >= s));
        Ok::<_, Refusal>(chosen.map(|c| payload::comment(world, repository, issue, c)).collect())
    })?;
    Ok(page.of(&simulator, items))
}

pub(super) async fn create(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(new): Fields<Text>,
) -> Answer {
    let (actor, number) = (scope.actor()?, scope.number("number")?);
    simulator.change(|world| {
        let id = world.add_comment(&scope.key, number, actor, &new.body)?;
        show(world, &scope, id).map(created)
    })
}

pub(super) async fn get(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    let id = scope.number("comment")?;
    simulator.read(|world| show(world, &scope, id)).map(ok)
}

/// Refuses who neither wrote the comment nor may write the repository.
fn check_right(world: &World, scope: &Scope, id: u64) -> Result<(), Refusal> {
    let (_, comment) = world.repository(&scope.key)?.comment(id).ok_or_else(Refusal::not_found)?;
    if world.may_edit(&scope.key, &comment.author, scope.actor()?)? {
        Ok(())
    } else {
        Err(Refusal::forbidden("Must have admin rights to Repository."))
    }
}

pub(super) async fn update(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(new): Fields<Text>,
) -> Answer {
    let (actor, id) = (scope.actor()?, scope.number("comment")?);
    simulator.change(|world| {
        check_right(world, &scope, id)?;
        world.edit_comment(&scope.key, id, &new.body, actor)?;
        show(world, &scope, id).map(ok)
    })
}

pub(super) async fn delete(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    let (actor, id) = (scope.actor()?, scope.number("comment")?);
    simulator.change(|world| {
        check_right(world, &scope, id)?;
        world.delete_comment(&scope.key, id, actor)?;
        Ok(no_content())
    })
}

pub(super) async fn reactions(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    let id = scope.number("comment")?;
    let items = simulator.read(|world| {
        let (_, comment) = world.repository(&scope.key)?.comment(id).ok_or_else(Refusal::not_found)?;
        let wanted = page.query("content");
        let chosen = comment.reactions.iter().filter(|r| wanted.is_none_or(|w| w == r.content));
        Ok::<_, Refusal>(chosen.map(|r| payload::reaction(world, r)).collect())
    })?;
    Ok(page.of(&simulator, items))
}

pub(super) async fn react(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(new): Fields<NewReaction>,
) -> Answer {
    let (actor, id) = (scope.actor()?, scope.number("comment")?);
    simulator.change(|world| {
        let (reaction, fresh) = world.react_to_comment(&scope.key, id, actor, &new.content)?;
        let value = payload::reaction(world, &reaction);
        Ok(if fresh { created(value) } else { ok(value) })
    })
}
