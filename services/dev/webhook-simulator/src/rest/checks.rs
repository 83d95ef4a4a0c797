//! Check runs. Only Apps write them, and each its own.

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::request::{Answer, Fields, Page, Scope, created, ok};
use crate::{
    Simulator,
    apps::tokens::Grant,
    payload::checks as payload,
    refusal::Refusal,
    world::{CheckRun, World},
};

const CONCLUSIONS: [&str; 7] =
    ["action_required", "cancelled", "failure", "neutral", "skipped", "success", "timed_out"];
/// A summary longer than this is refused.
const LONGEST_SUMMARY: usize = 65_535;

#[derive(Debug, Deserialize)]
pub(super) struct NewRun {
    name: String,
    head_sha: String,
    #[serde(flatten)]
    state: Standing,
}

#[derive(Debug, Deserialize)]
pub(super) struct Changes {
    name: Option<String>,
    #[serde(flatten)]
    state: Standing,
}

/// What may be said when it is made and later.
#[derive(Debug, Deserialize)]
struct Standing {
    status: Option<String>,
    conclusion: Option<String>,
    external_id: Option<String>,
    details_url: Option<String>,
    started_at: Option<DateTime<Utc>>,
    completed_at: Option<DateTime<Utc>>,
    output: Option<Output>,
}

#[derive(Debug, Deserialize)]
struct Output {
    title: Option<String>,
    summary: String,
    text: Option<String>,
}

/// The App that asks; people cannot write check runs.
fn app(scope: &Scope) -> Result<&Grant, Refusal> {
    scope.grant().ok_or_else(|| Refusal::forbidden("You must authenticate via a GitHub App."))
}

fn check(state: &Standing) -> Result<(), Refusal> {
    let invalid = |words: &str| Refusal::unprocessable(format!("Invalid request.\n\n{words}"));
    if let Some(status) = state.status.as_deref()
        && !["queued", "in_progress", "completed"].contains(&status)
    {
        return Err(invalid(&format!(
            "{status} is not a member of [\"queued\", \"in_progress\", \"completed\"]."
        )));
    }
    if let Some(conclusion) = state.conclusion.as_deref()
        && !CONCLUSIONS.contains(&conclusion)
    {
        return Err(invalid(&format!("{conclusion} is not a member of {CONCLUSIONS:?}.")));
    }
    if state.status.as_deref() == Some("completed") && state.conclusion.is_none() {
        return Err(invalid("\"conclusion\" wasn't supplied."));
    }
    if state.output.as_ref().is_some_and(|o| o.summary.chars().count() > LONGEST_SUMMARY) {
        return Err(Refusal::custom("CheckRun", "summary exceeds a maximum of 65535 characters"));
    }
    if state.details_url.as_deref().is_some_and(|url| url::Url::parse(url).is_err()) {
        return Err(Refusal::custom("CheckRun", "details_url must use http or https scheme"));
    }
    Ok(())
}

/// Writes what was said. A conclusion means it is completed.
fn apply(run: &mut CheckRun, state: Standing, now: DateTime<Utc>) {
    if let Some(status) = state.status {
        run.status = status;
        run.conclusion = None;
        run.completed_at = None;
    }
    if let Some(conclusion) = state.conclusion {
        "completed".clone_into(&mut run.status);
        run.conclusion = Some(conclusion);
        run.completed_at = state.completed_at.or(Some(now));
    }
    run.external_id = state.external_id.or(run.external_id.take());
    run.details_url = state.details_url.or(run.details_url.take());
    run.started_at = state.started_at.or(run.started_at);
    if let Some(output) = state.output {
        run.title = output.title.or(run.title.take());
        run.summary = Some(output.summary);
        run.text = output.text.or(run.text.take());
    }
}

fn show(world: &World, scope: &Scope, id: u64) -> Result<Value, Refusal> {
    let repository = world.repository(&scope.key)?;
    let run = repository.check_runs.iter().find(|r| r.id == id).ok_or_else(Refusal::not_found)?;
    Ok(payload::check_run(world, repository, run))
}

pub(super) async fn create(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(new): Fields<NewRun>,
) -> Answer {
    let app = app(&scope)?.app;
    check(&new.state)?;
    if new.state.output.as_ref().is_some_and(|o| o.title.is_none()) {
        return Err(Refusal::unprocessable("Invalid request.\n\n\"title\" wasn't supplied."));
    }
    if scope.bare.commit(&new.head_sha).await?.is_none() {
        return Err(Refusal::unprocessable(format!("No commit found for SHA: {}", new.head_sha)));
    }
    simulator.change(|world| {
        let (id, suite, now) = (world.next_id(), world.next_id(), world.now());
        let runs = &mut world.repository_mut(&scope.key)?.check_runs;
        let first = runs.iter().find(|r| r.app == app && r.head_sha == new.head_sha);
        let mut run = CheckRun {
            id,
            app,
            suite: first.map_or(suite, |first| first.suite),
            head_sha: new.head_sha,
            name: new.name,
            status: "queued".to_owned(),
            conclusion: None,
            external_id: None,
            details_url: None,
            title: None,
            summary: None,
            text: None,
            started_at: Some(now),
            completed_at: None,
        };
        apply(&mut run, new.state, now);
        runs.push(run);
        show(world, &scope, id).map(created)
    })
}

pub(super) async fn get(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    let id = scope.number("check_run")?;
    simulator.read(|world| show(world, &scope, id)).map(ok)
}

pub(super) async fn update(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(changes): Fields<Changes>,
) -> Answer {
    let (app, id) = (app(&scope)?.app, scope.number("check_run")?);
    check(&changes.state)?;
    simulator.change(|world| {
        let now = world.now();
        let runs = &mut world.repository_mut(&scope.key)?.check_runs;
        let run = runs.iter_mut().find(|r| r.id == id).ok_or_else(Refusal::not_found)?;
        if run.app != app {
            let words = "check run can only be modified by the GitHub App that created it.";
            return Err(Refusal::forbidden(&format!("Invalid app_id `{app}` - {words}")));
        }
        run.name = changes.name.unwrap_or_else(|| run.name.clone());
        apply(run, changes.state, now);
        show(world, &scope, id).map(ok)
    })
}

/// Of a commit or a branch; of runs with the same name the last one, unless `filter=all`.
pub(super) async fn list(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    let named = scope.part("sha");
    let missing = || Refusal::unprocessable(format!("No commit found for SHA: {named}"));
    let sha = match scope.bare.branch(named).await? {
        Some(sha) => sha,
        None => named.to_owned(),
    };
    if scope.bare.commit(&sha).await?.is_none() {
        return Err(missing());
    }
    simulator.read(|world| {
        let repository = world.repository(&scope.key)?;
        let of_commit: Vec<&CheckRun> = repository.check_runs.iter().filter(|r| r.head_sha == sha).collect();
        let is_last = |run: &CheckRun| {
            !of_commit.iter().any(|r| r.app == run.app && r.name == run.name && r.id > run.id)
        };
        let chosen = of_commit.iter().rev().filter(|r| {
            (page.query("filter") == Some("all") || is_last(r))
                && page.query("check_name").is_none_or(|name| name == r.name)
                && page.query("status").is_none_or(|status| status == r.status)
                && page.query("app_id").is_none_or(|id| id == r.app.to_string())
        });
        let all: Vec<Value> = chosen.map(|r| payload::check_run(world, repository, r)).collect();
        let count = all.len();
        let named = |shown: Vec<Value>| json!({ "total_count": count, "check_runs": shown });
        Ok(page.of_named(&simulator, all, named))
    })
}
