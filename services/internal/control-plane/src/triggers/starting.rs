//! A run comes into being because of an event: what it takes the place of, what it goes on with,
//! and what the thread shows.

use domain::{
    decision::{Happening, Start},
    ids::RunId,
    run::RunKind,
};
use serde::Deserialize;
use sqlx::PgConnection;

use super::{
    applying::{Case, signed},
    records,
};
use crate::{
    discussions,
    publishing::{self, Place},
    runs::{self, IssueSnapshot, NewRun, RunError},
};

/// The parts of a payload about an issue that a run keeps.
#[derive(Deserialize)]
struct IssuePayload {
    issue: IssueFields,
}
#[derive(Deserialize)]
struct IssueFields {
    number: u64,
    title: String,
    body: Option<String>,
    html_url: String,
    user: Option<UserFields>,
}
#[derive(Deserialize)]
struct UserFields {
    login: String,
}

/// The issue as it was when it was asked for, where the event is about that issue.
fn issue_snapshot(body: &[u8], number: u64) -> Option<IssueSnapshot> {
    let IssuePayload { issue } = serde_json::from_slice(body).ok()?;
    (issue.number == number).then(|| IssueSnapshot {
        title: issue.title,
        body: issue.body.unwrap_or_default(),
        author: issue.user.map(|u| u.login).unwrap_or_default(),
        url: issue.html_url,
    })
}

/// The issue as it is when it is asked for: from the event, or as it was read for this decision.
fn snapshot_of(case: &Case<'_>, number: u64) -> Option<IssueSnapshot> {
    issue_snapshot(&case.delivery.body, number).or_else(|| case.issue.cloned())
}

/// Does the delivery itself tell the issue's text?
pub(super) fn tells_issue(body: &[u8], number: u64) -> bool {
    issue_snapshot(body, number).is_some()
}

/// Cancels a run of the issue, unless it ended meanwhile.
pub(super) async fn cancel(
    tx: &mut PgConnection,
    case: &Case<'_>,
    id: &str,
    reason: &str,
) -> Result<(), RunError> {
    let run = runs::lock(tx, case.run_id(id)?).await?;
    match run.filter(|run| !run.state.is_final()) {
        Some(run) => runs::cancel(tx, case.app, &run, case.actor, reason).await.map(drop),
        None => Ok(()),
    }
}

/// Ends the discussion of an issue, and takes the label off that says there is one.
pub(super) async fn end_discussion(
    tx: &mut PgConnection,
    case: &Case<'_>,
    issue: u64,
) -> Result<(), RunError> {
    if discussions::end(tx, case.app, case.repository, signed(issue), case.actor).await? {
        let label = std::slice::from_ref(&case.asked.policy.labels.discussion);
        publishing::change_labels(tx, case.app, case.place(issue), &[], label).await?;
    }
    Ok(())
}

/// Starts a run.
pub(super) async fn start(tx: &mut PgConnection, case: &Case<'_>, start: &Start) -> Result<(), RunError> {
    let (app, policy) = (case.app, &case.asked.policy);
    let issue = signed(start.issue);
    if let Some(front) = &start.supersedes {
        let reason = format!("a run of `{}` takes its place", start.stage);
        // First what waits behind it, so that it does not come forward.
        if let Some(waits) = &case.record.behind {
            cancel(tx, case, &waits.id, &reason).await?;
        }
        cancel(tx, case, front, &reason).await?;
    }
    match start.kind {
        RunKind::Work | RunKind::Revise => {
            end_discussion(tx, case, start.issue).await?;
        }
        RunKind::Discussion => {
            discussions::open(tx, app, case.repository, issue, case.actor).await?;
        }
        RunKind::Review => {}
    }
    let goes_on = match &start.retry_of {
        Some(again) => {
            let run = runs::get(&mut *tx, case.run_id(again)?).await?;
            run.map(|run| (run.continues, run.chain))
        }
        None => {
            let thread = (start.issue, start.pull);
            records::to_continue(tx, case.repository.id, start.kind, thread, &start.stage)
                .await?
                // A person drives every turn of a discussion.
                .map(|(run, chain): (RunId, i32)| match start.kind {
                    RunKind::Discussion => (Some(run), chain),
                    RunKind::Work | RunKind::Revise | RunKind::Review => (Some(run), chain.saturating_add(1)),
                })
        }
    };
    let (continues, chain) = goes_on.unwrap_or((None, 0));
    let definition = policy.get(&start.stage).ok_or_else(|| RunError::Damaged {
        table: "decisions",
        id: domain::ids::Id::uuid(case.decision),
        problem: format!("there is no stage {}", start.stage),
    })?;
    let new = NewRun {
        repository: case.repository,
        start,
        definition,
        language: &policy.language,
        decision: case.decision,
        actor: case.actor,
        issue: snapshot_of(case, start.issue),
        trace_id: &case.delivery.trace_id,
        received_at: case.delivery.received_at,
        continues,
        chain,
    };
    let run = runs::start(tx, app, &new).await?;
    show_label(tx, case, start, run.id).await
}

/// A start by command leaves the label that says the same; it comes off again at once.
async fn show_label(
    tx: &mut PgConnection,
    case: &Case<'_>,
    start: &Start,
    run: RunId,
) -> Result<(), RunError> {
    let Happening::Commented { on, .. } = &case.event.happening else { return Ok(()) };
    let labels = &case.asked.policy.labels;
    let label = match start.kind {
        RunKind::Work => labels.run_label(&start.stage),
        RunKind::Revise => labels.revise_label(&start.stage),
        RunKind::Review | RunKind::Discussion => return Ok(()),
    };
    let place = Place { run: Some(run), ..case.place(on.number) };
    Ok(publishing::show_label(tx, case.app, place, &label).await?)
}
