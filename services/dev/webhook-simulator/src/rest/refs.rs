//! Refs and branches.

use axum::extract::State;
use serde::Deserialize;

use super::request::{Answer, Fields, Page, Scope, created, no_content, ok};
use crate::{
    Simulator,
    git::{Ref, ZERO},
    payload::code,
    refusal::Refusal,
};

#[derive(Debug, Deserialize)]
pub(super) struct NewRef {
    r#ref: String,
    sha: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Move {
    sha: String,
    #[serde(default)]
    force: bool,
}

/// The ref named by the path, which leaves `refs/` out.
async fn named(scope: &Scope) -> Result<Option<Ref>, Refusal> {
    Ok(scope.bare.find_ref(&format!("refs/{}", scope.part("name"))).await?)
}

fn show(simulator: &Simulator, scope: &Scope, reference: &Ref) -> serde_json::Value {
    code::reference(simulator.urls(), &scope.name, reference)
}

pub(super) async fn get(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    let found = named(&scope).await?.ok_or_else(Refusal::not_found)?;
    Ok(ok(show(&simulator, &scope, &found)))
}

pub(super) async fn matching(State(simulator): State<Simulator>, scope: Scope, page: Page) -> Answer {
    let prefix = format!("refs/{}", scope.part("name"));
    let refs = scope.bare.refs().await?;
    let chosen = refs.iter().filter(|r| r.name.starts_with(&prefix));
    let items = chosen.map(|r| show(&simulator, &scope, r)).collect();
    Ok(page.of(&simulator, items))
}

/// What kind of object a ref would point at; branches want commits.
async fn target(scope: &Scope, name: &str, sha: &str) -> Result<String, Refusal> {
    let kind = scope.bare.kinds(&[sha]).await?.into_iter().next().flatten();
    let kind = kind.ok_or_else(|| Refusal::unprocessable("Object does not exist"))?;
    if name.starts_with("refs/heads/") && kind != "commit" {
        return Err(Refusal::unprocessable("Object is not a commit"));
    }
    Ok(kind)
}

async fn set(simulator: &Simulator, scope: &Scope, old: &str, new: &Ref) -> Result<(), Refusal> {
    if !scope.bare.set_ref(&new.name, &new.sha).await? {
        return Err(Refusal::unprocessable("Reference update failed"));
    }
    let moved = (new.name.clone(), old.to_owned(), new.sha.clone());
    Ok(simulator.refs_moved(&scope.key, vec![moved], scope.actor()?).await?)
}

pub(super) async fn create(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(new): Fields<NewRef>,
) -> Answer {
    scope.require_push()?;
    if !new.r#ref.starts_with("refs/") || new.r#ref.split('/').count() < 3 {
        return Err(Refusal::unprocessable(
            "Reference name must start with 'refs/' and have at least 3 parts",
        ));
    }
    let kind = target(&scope, &new.r#ref, &new.sha).await?;
    let _guard = scope.refs.lock().await;
    if scope.bare.find_ref(&new.r#ref).await?.is_some() {
        return Err(Refusal::unprocessable("Reference already exists"));
    }
    let made = Ref { name: new.r#ref, sha: new.sha, kind };
    set(&simulator, &scope, ZERO, &made).await?;
    Ok(created(show(&simulator, &scope, &made)))
}

pub(super) async fn update(
    State(simulator): State<Simulator>,
    scope: Scope,
    Fields(new): Fields<Move>,
) -> Answer {
    scope.require_push()?;
    let _guard = scope.refs.lock().await;
    let old = named(&scope).await?;
    let old = old.ok_or_else(|| Refusal::unprocessable("Reference does not exist"))?;
    let kind = target(&scope, &old.name, &new.sha).await?;
    if !new.force && !scope.bare.is_ancestor(&old.sha, &new.sha).await? {
        return Err(Refusal::unprocessable("Update is not a fast forward"));
    }
    let moved = Ref { name: old.name, sha: new.sha, kind };
    if moved.sha != old.sha {
        set(&simulator, &scope, &old.sha, &moved).await?;
    }
    Ok(ok(show(&simulator, &scope, &moved)))
}

pub(super) async fn delete(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    scope.require_push()?;
    let _guard = scope.refs.lock().await;
    let old = named(&scope).await?;
    let old = old.ok_or_else(|| Refusal::unprocessable("Reference does not exist"))?;
    let gone = Ref { sha: ZERO.to_owned(), ..old.clone() };
    set(&simulator, &scope, &old.sha, &gone).await?;
    Ok(no_content())
}

pub(super) async fn branch(State(simulator): State<Simulator>, scope: Scope) -> Answer {
    let name = scope.part("branch");
    let missing = || Refusal::new(http::StatusCode::NOT_FOUND, "Branch not found");
    let sha = scope.bare.branch(name).await?.ok_or_else(missing)?;
    let head = scope.bare.commit(&sha).await?.ok_or_else(missing)?;
    Ok(ok(code::branch(simulator.urls(), &scope.name, name, &head)))
}
