//! The table of a status comment: what happened when, and how long it took.

use chrono::{DateTime, Utc};
use domain::run::{AttemptState, PublicationState, RunState};

use super::{
    checked::checked_in_short,
    phrases::{asked_by, name, sentence, time, took},
};
use crate::{
    publishing::about::About,
    runs::{Attempt, Run},
};

/// The phases so far. Only the row of an agent that works changes by itself, once a minute.
pub(super) fn phases(run: &Run, about: &About, now: DateTime<Utc>) -> String {
    let began = run.received_at;
    let mut text = "| | at | took | |\n|---|---|---|---|\n".to_owned();
    let mut row = |phase: &str, at: String, took: String, what: String| {
        text.push_str(&format!("| {phase} | {at} | {took} | {what} |\n"));
    };
    let nothing = String::new;
    row(
        "asked",
        began.format("%Y-%m-%d %H:%M UTC").to_string(),
        nothing(),
        asked_by(run, &about.asked, &about.policy.labels),
    );
    if let Some(first) = about.attempts.first() {
        let waited = took(first.leased_at - run.created_at);
        row("started", time(first.leased_at, began), waited, nothing());
    }
    // While the next one waits for a worker, how the last one went stands in its list.
    let attempt = about.attempts.last().filter(|_| run.state != RunState::Queued);
    if let Some((attempt, running)) = attempt.and_then(|a| Some((a, a.running_at?))) {
        let took = match attempt.ended_at {
            Some(ended) => took(ended - running),
            None => format!("{} so far", took(now - running)),
        };
        row("agent", time(running, began), took, model(run));
    }
    if let Some((attempt, publication)) = attempt.zip(about.publication.as_ref())
        && publication.attempt == attempt.id
    {
        row("checked", time(publication.created_at, began), nothing(), checked_in_short(publication));
        if let (PublicationState::Published, Some(at)) = (publication.state, publication.published_at) {
            let pull = publication.pull_request_number.zip(publication.pull_request_url.as_ref());
            let what = pull.map_or_else(nothing, |(number, url)| format!("[#{number}]({url})"));
            row("published", time(at, began), format!("{} in all", took(at - began)), what);
        }
    }
    if let Some(at) = run.finished_at
        && about.publication.as_ref().is_none_or(|p| p.published_at.is_none())
    {
        row("ended", time(at, began), format!("{} in all", took(at - began)), nothing());
    }
    text
}

/// What was chosen for the agent, where something was.
fn model(run: &Run) -> String {
    let model = run.model.as_ref().or(run.definition.model.as_ref()).map(|m| format!("model {}", name(m)));
    let reasoning = run.reasoning.or(run.definition.reasoning).map(|r| format!("reasoning `{}`", r.as_str()));
    model.into_iter().chain(reasoning).collect::<Vec<_>>().join(", ")
}

/// How each attempt ended, one line for each; what the `cause` says already is not said again.
pub(super) fn tried(attempts: &[Attempt], cause: &str) -> String {
    let last = attempts.last().map(|a| a.id);
    let lines = attempts.iter().filter(|a| !a.state.is_live()).map(|attempt| {
        let why = attempt.message.trim().trim_end_matches('.');
        let known = why.is_empty() || (Some(attempt.id) == last && cause.contains(why));
        let why = if known { String::new() } else { format!(": {}", sentence(why, 300)) };
        format!("- {}{why}\n", ended(attempt))
    });
    lines.collect()
}

fn ended(attempt: &Attempt) -> String {
    let spent = attempt.ended_at.map(|at| took(at - attempt.leased_at)).unwrap_or_default();
    let how = match attempt.state {
        AttemptState::Returned => "returned its result",
        AttemptState::Lost => "lost",
        AttemptState::Stopped => "stopped",
        AttemptState::Leased | AttemptState::Preparing | AttemptState::Running => "under way",
    };
    format!("attempt {} on {}, {spent}: {how}", attempt.number, name(&attempt.worker_name))
}
