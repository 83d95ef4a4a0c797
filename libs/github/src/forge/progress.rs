//! Progress on a commit: a check run where we are an App, otherwise a commit status.

use forge::{ForgeError, Progress, ProgressState, Reported, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::repositories;
use crate::client::{Endpoint, PER_PAGE, Scope};

/// Characters GitHub takes for the description of a status.
const DESCRIPTION_CHARS: usize = 140;
/// Pages of check runs that are searched; each has a hundred.
const MOST_PAGES: u32 = 10;

#[derive(Deserialize)]
struct CheckRunBody {
    id: u64,
    external_id: Option<String>,
}

#[derive(Deserialize)]
struct CheckRunsBody {
    check_runs: Vec<CheckRunBody>,
}

/// Makes a check run, or changes the one there is; its id.
pub(super) async fn check_run(repository: Scope<'_>, progress: &Progress) -> Result<Option<u64>> {
    let known = match progress.earlier {
        Reported::Never => None,
        Reported::As(id) => Some(id),
        Reported::Perhaps => find(repository, progress).await?,
    };
    let mut body = json!({
        "name": progress.name,
        "external_id": progress.run,
        "output": { "title": progress.title, "summary": progress.summary },
    });
    let (status, conclusion) = match progress.state {
        ProgressState::Queued => ("queued", None),
        ProgressState::InProgress => ("in_progress", None),
        ProgressState::Succeeded => ("completed", Some("success")),
        ProgressState::Failed => ("completed", Some("failure")),
        ProgressState::Cancelled => ("completed", Some("cancelled")),
        ProgressState::ActionRequired => ("completed", Some("action_required")),
    };
    let mut set = |key: &str, value: Value| {
        if let Some(body) = body.as_object_mut() {
            body.insert(key.to_owned(), value);
        }
    };
    set("status", json!(status));
    if let Some(conclusion) = conclusion {
        set("conclusion", json!(conclusion));
    }
    if let Some(url) = &progress.url {
        set("details_url", json!(url));
    }
    let answer = match known {
        Some(id) => repository.write(Endpoint::UpdateCheckRun, &[&id.to_string()], &body).await?,
        None => {
            set("head_sha", json!(progress.head));
            repository.write(Endpoint::CreateCheckRun, &[], &body).await?
        }
    };
    Ok(Some(answer.json::<CheckRunBody>()?.id))
}

/// The check run an earlier call may have made.
async fn find(repository: Scope<'_>, progress: &Progress) -> Result<Option<u64>> {
    let per_page = PER_PAGE.to_string();
    for page in 1..=MOST_PAGES {
        let page = page.to_string();
        let query = [("check_name", progress.name.as_str()), ("per_page", &per_page), ("page", &page)];
        let answer = repository.get(Endpoint::CheckRuns, &[progress.head.as_str()], &query).await?;
        let body: CheckRunsBody = answer.json()?;
        let full = body.check_runs.len() >= PER_PAGE;
        let ours = body.check_runs.into_iter().find(|run| run.external_id.as_ref() == Some(&progress.run));
        if let Some(ours) = ours {
            return Ok(Some(ours.id));
        }
        if !answer.has_next_page(full) {
            break;
        }
    }
    Ok(None)
}

/// Sets a status; the newest of a context counts.
pub(super) async fn status(repository: Scope<'_>, progress: &Progress) -> Result<Option<u64>> {
    let state = match progress.state {
        ProgressState::Queued | ProgressState::InProgress | ProgressState::ActionRequired => "pending",
        ProgressState::Succeeded => "success",
        ProgressState::Failed => "failure",
        ProgressState::Cancelled => "error",
    };
    let description: String = progress.title.chars().take(DESCRIPTION_CHARS).collect();
    let mut body = json!({ "state": state, "context": progress.name, "description": description });
    if let (Some(url), Some(body)) = (&progress.url, body.as_object_mut()) {
        body.insert("target_url".to_owned(), json!(url));
    }
    match repository.write(Endpoint::CreateStatus, &[progress.head.as_str()], &body).await {
        Ok(_) => Ok(None),
        // A server without statuses says that there is no such place; so does one that does not
        // let us at the repository.
        Err(ForgeError::Missing { message }) => {
            repositories::read(repository).await?;
            Err(ForgeError::Unsupported { message })
        }
        Err(error) => Err(error),
    }
}
