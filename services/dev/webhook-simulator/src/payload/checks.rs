//! Check runs.

use serde_json::{Value, json};

use super::{apps, node_id, time};
use crate::world::{CheckRun, Repository, World};

pub(crate) fn check_run(world: &World, repo: &Repository, run: &CheckRun) -> Value {
    let (api, web) = (world.urls.repository_api(&repo.name), world.urls.repository_web(&repo.name));
    let url = format!("{api}/check-runs/{}", run.id);
    let side = |of: &Repository, branch: &str, sha: &str| {
        json!({
            "ref": branch,
            "sha": sha,
            "repo": { "id": of.id, "url": world.urls.repository_api(&of.name), "name": of.name.name() },
        })
    };
    let pulls = repo.issues.values().filter(|i| i.open).filter_map(|i| {
        let pull = i.pull.as_ref().filter(|p| p.head_sha == run.head_sha)?;
        let head = world.repositories.get(&pull.head_key(repo))?;
        Some(json!({
            "id": i.id,
            "number": i.number,
            "url": format!("{api}/pulls/{}", i.number),
            "head": side(head, &pull.head, &pull.head_sha),
            "base": side(repo, &pull.base, &pull.base_sha),
        }))
    });
    json!({
        "id": run.id,
        "node_id": node_id("CheckRun", run.id),
        "head_sha": run.head_sha,
        "external_id": run.external_id.as_deref().unwrap_or_default(),
        "url": url,
        "html_url": format!("{web}/runs/{}", run.id),
        "details_url": run.details_url,
        "status": run.status,
        "conclusion": run.conclusion,
        "started_at": run.started_at.map(time),
        "completed_at": run.completed_at.map(time),
        "output": {
            "title": run.title,
            "summary": run.summary,
            "text": run.text,
            "annotations_count": 0,
            "annotations_url": format!("{url}/annotations"),
        },
        "name": run.name,
        "check_suite": { "id": run.suite },
        "app": world.app(run.app).map(|app| apps::app(world, app)).unwrap_or_default(),
        "pull_requests": pulls.collect::<Vec<Value>>(),
    })
}
