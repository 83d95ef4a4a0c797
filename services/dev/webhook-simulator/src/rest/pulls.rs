//! Pull requests.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use domain::rights::Permission;
use http::{HeaderMap, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    issues::{directed, in_state, is_open},
    request::{Answer, Fields, Page, Scope, created, ok},
};
use crate::{
    Simulator,
    actions::Edit,
    payload::{code, pull as payload},
    pulls::{Method, NewPull},
    refusal::Refusal,
    world::{Pull, World},
};

#[derive(Debug, Deserialize)]
pub(super) struct Opened {
    #[serde(default)]
    title: String,
    body: Option<String>,
    head: String,
    base: String,
    #[serde(default)]
    draft: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Merged {
    sha: Option<String>,
    merge_method: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Changes {
    title: Option<String>,
    body: Option<String>,
    state: Option<String>,
    base: Option<String>,
}

fn found(world: &World, scope: &Scope, number: u64) -> Result<Pull, Refusal> {
    world.issue(&scope.key, number)?.1.pull.clone().ok_or_else(Refusal::not_found)
}

fn show(world: &World, scope: &Scope, number: u64) -> Result<Value, Refusal> {
    let (repository, issue) = world.issue(&scope.key, number)?;
    let pull = issue.pull.as_ref().ok_or_else(Refusal::not_found)?;
    Ok(payload::pull(world, repository, issue, pull, true))
}

pub(super) async fn list(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    let items = simulator.read(|world| {
        let repository = world.repository(&scope.key)?;
        let wanted = |p: &Pull| {
            let key = p.head_key(repository);
            let label = format!("{}:{}", key.split('/').next().unwrap_or_default(), p.head);
            // GitHub ignores a head without an owner.
            page.query("head").is_none_or(|h| !h.contains(':') || h.eq_ignore_ascii_case(&label))
                && page.query("base").is_none_or(|b| b == p.base)
        };
        let chosen = repository.issues.values().filter(|i| in_state(&page, i)).filter_map(|i| {
            let pull = i.pull.as_ref().filter(|p| wanted(p))?;
            Some(payload::pull(world, repository, i, pull, false))
        });
        Ok::<_, Refusal>(chosen.collect())
    })?;
    Ok(page.of(&simulator, directed(&page, items)))
}

pub(super) async fn create(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(new): Fields<Opened>,
) -> Answer {
    let actor = scope.actor()?;
    // From their own fork anybody may, who can read.
    if !new.head.split_once(':').is_some_and(|(of, _)| of.eq_ignore_ascii_case(actor)) {
        scope.require(Permission::Write, Refusal::custom("PullRequest", "must be a collaborator"))?;
    }
    let Opened { title, body, head, base, draft } = new;
    let new = NewPull { title, body, head, base, draft };
    let number = simulator.open_pull(&scope.key, actor, new).await?;
    simulator.read(|world| show(world, &scope, number)).map(created)
}

pub(super) async fn merge(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(wanted): Fields<Merged>,
) -> Answer {
    let (actor, number) = (scope.actor()?, scope.number("number")?);
    scope.require_push()?;
    let method = match wanted.merge_method.as_deref() {
        None | Some("merge") => Method::Merge,
        Some("squash") => Method::Squash,
        Some("rebase") => {
            let words = "Rebase merges are not allowed on this repository.";
            return Err(Refusal::new(http::StatusCode::METHOD_NOT_ALLOWED, words));
        }
        Some(_) => return Err(Refusal::invalid("PullRequest", "merge_method", "invalid")),
    };
    let sha = simulator.merge_pull(&scope.key, number, actor, method, wanted.sha.as_deref()).await?;
    Ok(ok(json!({ "sha": sha, "merged": true, "message": "Pull Request successfully merged" })))
}

pub(super) async fn get(State(simulator): State<Simulator>, scope: Scope, headers: HeaderMap) -> Answer {
    let number = scope.number("number")?;
    let pull = simulator.read(|world| found(world, &scope, number))?;
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let (diff, patch) = (accept.contains(".diff"), accept.contains(".patch"));
    if diff || patch {
        let from = merge_base(&scope, &pull).await?;
        let (text, kind) = if diff {
            (scope.bare.diff(&from, &pull.head_sha).await?, "diff")
        } else {
            (scope.bare.patch(&from, &pull.head_sha).await?, "patch")
        };
        return Ok(as_text(text, kind));
    }
    simulator.read(|world| show(world, &scope, number)).map(ok)
}

fn as_text(text: String, kind: &str) -> Response {
    let kind = format!("application/vnd.github.{kind}; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn merge_base(scope: &Scope, pull: &Pull) -> Result<String, Refusal> {
    let found = scope.bare.merge_base(&pull.base_sha, &pull.head_sha).await?;
    Ok(found.unwrap_or_else(|| pull.base_sha.clone()))
}

pub(super) async fn update(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(changes): Fields<Changes>,
) -> Answer {
    let (actor, number) = (scope.actor()?, scope.number("number")?);
    let base = match changes.base {
        Some(branch) => {
            let sha = scope.bare.branch(&branch).await?;
            Some((branch, sha.ok_or_else(|| Refusal::invalid("PullRequest", "base", "invalid"))?))
        }
        None => None,
    };
    simulator.change(|world| {
        let (_, issue) = world.issue(&scope.key, number)?;
        if issue.pull.is_none() {
            return Err(Refusal::not_found());
        }
        if issue.author != actor {
            scope.require_push()?;
        }
        let open = is_open(changes.state.as_deref(), "PullRequest")?;
        let edit = Edit { title: changes.title, body: changes.body, open, state_reason: None, base };
        world.edit_issue(&scope.key, number, edit, actor)?;
        show(world, &scope, number).map(ok)
    })
}

pub(super) async fn files(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    let number = scope.number("number")?;
    let pull = simulator.read(|world| found(world, &scope, number))?;
    let from = merge_base(&scope, &pull).await?;
    let files = scope.bare.changed_files(&from, &pull.head_sha).await?;
    let show = |file| code::changed_file(simulator.urls(), &scope.name, &pull.head_sha, file);
    Ok(page.of(&simulator, files.iter().map(show).collect()))
}
