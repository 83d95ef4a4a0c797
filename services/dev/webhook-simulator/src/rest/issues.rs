//! Issues and reactions to them.

use axum::extract::State;
use chrono::{DateTime, Utc};
use domain::rights::Permission;
use serde::Deserialize;
use serde_json::{Value, json};

use super::request::{Answer, Fields, Page, Scope, created, ok};
use crate::{
    Simulator,
    actions::Edit,
    payload::issue as payload,
    refusal::Refusal,
    world::{Issue, World},
};

/// A label by name, or as an object with one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum LabelName {
    Name(String),
    Object { name: String },
}

impl LabelName {
    pub(super) fn name(self) -> String {
        match self {
            Self::Name(name) | Self::Object { name } => name,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct NewIssue {
    #[serde(default)]
    title: String,
    body: Option<String>,
    #[serde(default)]
    labels: Vec<LabelName>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Changes {
    title: Option<String>,
    body: Option<String>,
    state: Option<String>,
    state_reason: Option<String>,
    labels: Option<Vec<LabelName>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct NewReaction {
    pub(super) content: String,
}

/// True for `open`, false for `closed`.
pub(super) fn is_open(state: Option<&str>, resource: &str) -> Result<Option<bool>, Refusal> {
    match state {
        None => Ok(None),
        Some("open") => Ok(Some(true)),
        Some("closed") => Ok(Some(false)),
        Some(_) => Err(Refusal::invalid(resource, "state", "invalid")),
    }
}

/// `open` unless the query says `closed` or `all`.
pub(super) fn in_state(page: &Page, issue: &Issue) -> bool {
    match page.query("state") {
        Some("all") => true,
        Some("closed") => !issue.open,
        _ => issue.open,
    }
}

/// A time in the query.
pub(super) fn since(page: &Page) -> Option<DateTime<Utc>> {
    page.query("since").and_then(|s| s.parse().ok())
}

/// Newest first, or `direction=asc`.
pub(super) fn directed(page: &Page, mut items: Vec<Value>) -> Vec<Value> {
    if page.query("direction") != Some("asc") {
        items.reverse();
    }
    items
}

fn show(world: &World, scope: &Scope, number: u64) -> Result<Value, Refusal> {
    world.issue(&scope.key, number).map(|(repository, issue)| payload::issue(world, repository, issue))
}

pub(super) async fn list(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    let items = simulator.read(|world| {
        let repository = world.repository(&scope.key)?;
        let wanted: Vec<&str> = page.query("labels").map(|l| l.split(',').collect()).unwrap_or_default();
        let creator = page.query("creator");
        let since = since(&page);
        let mut chosen: Vec<&Issue> = repository.issues.values().collect();
        match page.query("sort") {
            Some("updated") => chosen.sort_by_key(|i| (i.updated_at, i.number)),
            Some("comments") => chosen.sort_by_key(|i| (i.comments.len(), i.number)),
            // They are in the order they were made in.
            Some(_) | None => {}
        }
        let chosen = chosen.into_iter().filter(|i| {
            in_state(&page, i)
                && wanted.iter().all(|w| i.labels.iter().any(|l| l.eq_ignore_ascii_case(w)))
                && creator.is_none_or(|c| c.eq_ignore_ascii_case(&i.author))
                && since.is_none_or(|s| i.updated_at >= s)
        });
        Ok::<_, Refusal>(chosen.map(|i| payload::issue(world, repository, i)).collect())
    })?;
    Ok(page.of(&simulator, directed(&page, items)))
}

pub(super) async fn get(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    let number = scope.number("number")?;
    simulator.read(|world| show(world, &scope, number)).map(ok)
}

pub(super) async fn create(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(new): Fields<NewIssue>,
) -> Answer {
    let actor = scope.actor()?;
    simulator.change(|world| {
        let number = world.open_issue(&scope.key, actor, &new.title, new.body.as_deref(), None)?;
        // Labels of those who may not label are dropped without a word.
        if scope.permission >= Permission::Triage {
            let names: Vec<String> = new.labels.into_iter().map(LabelName::name).collect();
            world.add_labels(&scope.key, number, &names, actor)?;
        }
        show(world, &scope, number).map(created)
    })
}

pub(super) async fn update(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(changes): Fields<Changes>,
) -> Answer {
    let (actor, number) = (scope.actor()?, scope.number("number")?);
    simulator.change(|world| {
        let (_, issue) = world.issue(&scope.key, number)?;
        if issue.author != actor {
            scope.require(Permission::Triage, Refusal::forbidden("Must have admin rights to Repository."))?;
        }
        let before = issue.labels.clone();
        let open = is_open(changes.state.as_deref(), "Issue")?;
        let edit = Edit {
            title: changes.title,
            body: changes.body,
            open,
            state_reason: changes.state_reason,
            base: None,
        };
        world.edit_issue(&scope.key, number, edit, actor)?;
        if let Some(labels) = changes.labels
            && scope.permission >= Permission::Triage
        {
            let names: Vec<String> = labels.into_iter().map(LabelName::name).collect();
            for gone in before.iter().filter(|b| !names.iter().any(|n| n.eq_ignore_ascii_case(b))) {
                world.remove_label(&scope.key, number, gone, actor)?;
            }
            world.add_labels(&scope.key, number, &names, actor)?;
        }
        show(world, &scope, number).map(ok)
    })
}

pub(super) async fn reactions(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    let number = scope.number("number")?;
    let items = simulator.read(|world| {
        let (_, issue) = world.issue(&scope.key, number)?;
        let wanted = page.query("content");
        let chosen = issue.reactions.iter().filter(|r| wanted.is_none_or(|w| w == r.content));
        Ok::<_, Refusal>(chosen.map(|r| payload::reaction(world, r)).collect())
    })?;
    Ok(page.of(&simulator, items))
}

pub(super) async fn react(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(new): Fields<NewReaction>,
) -> Answer {
    let (actor, number) = (scope.actor()?, scope.number("number")?);
    simulator.change(|world| {
        let (reaction, fresh) = world.react(&scope.key, number, actor, &new.content)?;
        let value = json!(payload::reaction(world, &reaction));
        Ok(if fresh { created(value) } else { ok(value) })
    })
}
