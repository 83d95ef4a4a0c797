//! Labels of the repository and of issues.

use axum::extract::State;
use domain::rights::Permission;
use serde::Deserialize;
use serde_json::Value;

use super::{
    issues::LabelName,
    request::{Answer, Fields, Page, Scope, created, ok},
};
use crate::{Simulator, payload::issue as payload, refusal::Refusal, world::World};

/// `{"labels": […]}`, or the list itself.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Names {
    Object { labels: Vec<LabelName> },
    List(Vec<LabelName>),
}

#[derive(Debug, Deserialize)]
pub(super) struct NewLabel {
    name: String,
    color: Option<String>,
    description: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Changes {
    new_name: Option<String>,
    color: Option<String>,
    description: Option<String>,
}

fn on_issue(world: &World, scope: &Scope, number: u64) -> Result<Vec<Value>, Refusal> {
    world.issue(&scope.key, number).map(|(repository, issue)| payload::labels(world, repository, issue))
}

fn require_triage(scope: &Scope) -> Result<(), Refusal> {
    scope.require(Permission::Triage, Refusal::forbidden("Must have admin rights to Repository."))
}

pub(super) async fn list(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    let items = simulator.read(|world| {
        let repository = world.repository(&scope.key)?;
        let all = repository.labels.iter().map(|l| payload::label(world, repository, l));
        Ok::<_, Refusal>(all.collect())
    })?;
    Ok(page.of(&simulator, items))
}

pub(super) async fn create(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(new): Fields<NewLabel>,
) -> Answer {
    scope.require_push()?;
    let color = new.color.unwrap_or_else(|| "ededed".to_owned());
    simulator.change(|world| {
        let label = world.create_label(&scope.key, &new.name, &color, new.description)?;
        Ok(created(payload::label(world, world.repository(&scope.key)?, &label)))
    })
}

pub(super) async fn get(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    simulator.read(|world| {
        let repository = world.repository(&scope.key)?;
        let label = repository.label(scope.part("name")).ok_or_else(Refusal::not_found)?;
        Ok(ok(payload::label(world, repository, label)))
    })
}

pub(super) async fn update(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(Changes { new_name, color, description }): Fields<Changes>,
) -> Answer {
    scope.require_push()?;
    simulator.change(|world| {
        let label = world.update_label(&scope.key, scope.part("name"), new_name, color, description)?;
        Ok(ok(payload::label(world, world.repository(&scope.key)?, &label)))
    })
}

pub(super) async fn of_issue(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    let number = scope.number("number")?;
    let items = simulator.read(|world| on_issue(world, &scope, number))?;
    Ok(page.of(&simulator, items))
}

pub(super) async fn add(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(names): Fields<Names>,
) -> Answer {
    let (actor, number) = (scope.actor()?, scope.number("number")?);
    require_triage(&scope)?;
    let labels = match names {
        Names::Object { labels } | Names::List(labels) => labels,
    };
    let names: Vec<String> = labels.into_iter().map(LabelName::name).collect();
    simulator.change(|world| {
        world.issue(&scope.key, number)?;
        world.add_labels(&scope.key, number, &names, actor)?;
        on_issue(world, &scope, number).map(|labels| ok(Value::Array(labels)))
    })
}

pub(super) async fn remove(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    let (actor, number) = (scope.actor()?, scope.number("number")?);
    require_triage(&scope)?;
    simulator.change(|world| {
        world.remove_label(&scope.key, number, scope.part("name"), actor)?;
        on_issue(world, &scope, number).map(|labels| ok(Value::Array(labels)))
    })
}
