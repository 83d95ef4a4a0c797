//! Reviews of pull requests and their remarks.

use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;

use super::request::{Answer, Fields, Page, Scope, ok};
use crate::{
    Simulator,
    actions::{NewRemark, NewReview},
    payload::pull as payload,
    refusal::Refusal,
    world::{Pull, ReviewState, Side, World},
};

#[derive(Debug, Deserialize)]
pub(super) struct Submitted {
    commit_id: Option<String>,
    body: Option<String>,
    event: Option<String>,
    #[serde(default)]
    comments: Vec<SubmittedRemark>,
}

/// GitHub takes no other fields here: a remark about a whole file is not among them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubmittedRemark {
    path: String,
    body: String,
    line: u64,
    side: Option<Side>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Dismissal {
    message: String,
}

fn pull<'w>(world: &'w World, scope: &Scope) -> Result<&'w Pull, Refusal> {
    let (_, issue) = world.issue(&scope.key, scope.number("number")?)?;
    issue.pull.as_ref().ok_or_else(Refusal::not_found)
}

fn show(world: &World, scope: &Scope, id: u64) -> Result<Value, Refusal> {
    let (repository, on, _, review) = world.find_review(&scope.key, scope.number("number")?, id)?;
    Ok(payload::review(world, repository, on, review))
}

pub(super) async fn list(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    let items = simulator.read(|world| {
        let (repository, on) = world.issue(&scope.key, scope.number("number")?)?;
        let reviews = &pull(world, &scope)?.reviews;
        Ok::<_, Refusal>(reviews.iter().map(|r| payload::review(world, repository, on, r)).collect())
    })?;
    Ok(page.of(&simulator, items))
}

pub(super) async fn get(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    let id = scope.number("review")?;
    simulator.read(|world| show(world, &scope, id)).map(ok)
}

pub(super) async fn create(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(new): Fields<Submitted>,
) -> Answer {
    let (actor, number) = (scope.actor()?, scope.number("number")?);
    let state = match new.event.as_deref() {
        Some("APPROVE") => ReviewState::Approved,
        Some("REQUEST_CHANGES") => ReviewState::ChangesRequested,
        Some("COMMENT") => ReviewState::Commented,
        // GitHub would keep it as pending, for its author alone.
        Some(_) | None => return Err(Refusal::invalid("PullRequestReview", "event", "invalid")),
    };
    let head = simulator.read(|world| pull(world, &scope).map(|p| p.head_sha.clone()))?;
    let remark = |remark: SubmittedRemark| NewRemark {
        path: remark.path,
        line: remark.line,
        side: remark.side.unwrap_or(Side::Right),
        body: remark.body,
    };
    let review = NewReview {
        state,
        body: new.body.unwrap_or_default(),
        commit: new.commit_id.unwrap_or(head),
        remarks: new.comments.into_iter().map(remark).collect(),
    };
    let id = simulator.submit_review(&scope.key, number, actor, review).await?;
    simulator.read(|world| show(world, &scope, id)).map(ok)
}

pub(super) async fn dismiss(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(dismissal): Fields<Dismissal>,
) -> Answer {
    let (actor, number, id) = (scope.actor()?, scope.number("number")?, scope.number("review")?);
    scope.require_push()?;
    if dismissal.message.trim().is_empty() {
        return Err(Refusal::errors("Message can't be blank"));
    }
    simulator.change(|world| {
        world.dismiss_review(&scope.key, number, id, actor)?;
        show(world, &scope, id).map(ok)
    })
}

/// Remarks of all reviews, oldest first.
pub(super) async fn remarks(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    let items = simulator.read(|world| {
        let (repository, on) = world.issue(&scope.key, scope.number("number")?)?;
        let reviews = pull(world, &scope)?.reviews.iter();
        let all = reviews.flat_map(|review| review.remarks.iter().map(move |remark| (review, remark)));
        Ok::<_, Refusal>(all.map(|(r, remark)| payload::remark(world, repository, on, r, remark)).collect())
    })?;
    Ok(page.of(&simulator, items))
}
