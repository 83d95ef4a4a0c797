//! The one comment of a run on its issue.

use chrono::{DateTime, Utc};
use domain::{
    neutralise::{neutralise, neutralise_line},
    run::{FailureClass, RunState, Waiting},
};

use super::{
    mark_of_run,
    phases::{phases, tried},
    phrases::{findings, folded, name, sentence, work},
    steps::next_steps,
};
use crate::{publishing::about::About, runs::Run};

/// A sign and a few words: where the run is.
pub(super) fn headline(run: &Run, paused: bool) -> (&'static str, &'static str) {
    match run.state {
        RunState::Queued if paused => ("⏸", "paused"),
        RunState::Queued if run.behind.is_some() => ("⏳", "waiting for another run"),
        RunState::Queued if run.no_worker.is_some() => ("⏳", "no worker"),
        RunState::Queued => ("⏳", "queued"),
        RunState::Active => ("🏃", "working"),
        RunState::Waiting(Waiting::Held) => ("✋", "held for a person"),
        RunState::Waiting(Waiting::RateLimit) => ("⏳", "waiting for GitHub's limit"),
        RunState::Waiting(Waiting::Approval | Waiting::Input | Waiting::Budget) => ("⏸", "waiting"),
        RunState::Succeeded => ("✅", "done"),
        RunState::Failed(FailureClass::TimedOut) => ("⌛", "out of time"),
        RunState::Failed(FailureClass::Policy) => ("🚫", "refused"),
        RunState::Failed(
            FailureClass::Infrastructure
            | FailureClass::Provider
            | FailureClass::Agent
            | FailureClass::User
            | FailureClass::RetriesSpent,
        ) => ("❌", "failed"),
        RunState::Cancelled => ("🛑", "cancelled"),
    }
}

/// The text, with everything that is known `now`.
pub(in crate::publishing) fn status(
    run: &Run,
    about: &About,
    notes: &[String],
    now: DateTime<Utc>,
) -> String {
    let (sign, words) = match waits_for(about) {
        Some(_) => ("⏳", "waiting for the cluster"),
        None => headline(run, about.pause.is_some()),
    };
    let mut text = format!("{}\n**Callboard** · {} · {sign} {words}\n", mark_of_run(run.id), work(run));
    text.push_str(&what_is_so(run, about));
    text.push_str(&format!("\n{}", phases(run, about, now)));
    // One attempt is told by the table. Where it ended well, how often it was tried is a detail.
    let tried = if about.attempts.len() > 1 { tried(&about.attempts, &run.message) } else { String::new() };
    let ended_well = run.state == RunState::Succeeded;
    if !tried.is_empty() && !ended_well {
        text.push_str(&format!("\nTried:\n\n{tried}"));
    }
    text.push_str(&next_steps(run, about));
    if about.attempts.last().is_some_and(|a| a.unsandboxed) {
        text.push_str("\n⚠️ The agent ran without a sandbox: `sandbox: none` is configured.\n");
    }
    for note in notes {
        text.push_str(&format!("\n⚠️ {note}\n"));
    }
    let tried = if ended_well { tried.as_str() } else { "" };
    text.push_str(&folded("Details", &format!("{}{tried}", details(run, about))));
    text
}

/// Why the present attempt does not run yet.
fn waits_for(about: &About) -> Option<&str> {
    about.attempts.last().and_then(|attempt| attempt.waits_for.as_deref())
}

/// The cause, what is held or refused, and what became of it.
fn what_is_so(run: &Run, about: &About) -> String {
    let mut text = String::new();
    let mut say = |words: &str| text.push_str(&format!("\n{words}\n"));
    if let Some(pause) = &about.pause {
        say(&pause.sentence());
    }
    let attempt = about.attempts.last();
    // What happened before still matters; that it waits for a worker is not so, or not all.
    if about.pause.is_none() && run.no_worker.is_none() || attempt.is_some() {
        say(&neutralise(&run.message, 2000));
    }
    if let (RunState::Queued, None, Some(no_worker)) = (run.state, &about.pause, &run.no_worker) {
        say(no_worker);
    }
    if let Some(why) = waits_for(about) {
        say(&neutralise(why, 500));
    }
    // While the next one waits for a worker, how the last one started is not news.
    if let Some(attempt) = attempt.filter(|a| !a.start_note.is_empty() && run.state != RunState::Queued) {
        say(&neutralise(&attempt.start_note, 1000));
    }
    if let Some(publication) = &about.publication
        && !publication.findings.is_empty()
    {
        if let Some(by) = &publication.released_by {
            say(&format!("Held for this, and released by {}:", name(by)));
        }
        say(findings(&publication.findings).trim_end());
    }
    if let Some(url) = about.publication.as_ref().and_then(|p| p.pull_request_url.as_deref())
        && run.state != RunState::Succeeded
    {
        say(&format!("A pull request had been opened by then: {url}"));
    }
    text
}

/// What somebody looks for who has to find something out.
fn details(run: &Run, about: &About) -> String {
    let mut text = String::new();
    let mut line = |words: String| text.push_str(&format!("- {words}\n"));
    line(format!("`callboard run get {}` shows all of it", run.id));
    line(format!("stage {}: {}", name(&run.stage), neutralise_line(&run.definition.description, 200)));
    let of_stage = format!("`stages.{}.", run.stage);
    for clip in about.policy.clipped.iter().filter(|clip| clip.starts_with(&of_stage)) {
        line(sentence(clip, 300));
    }
    if let Some(problem) = &about.policy.problem {
        line(format!(
            "the project's stages do not read, so the last ones that did hold: {}",
            neutralise_line(problem, 300)
        ));
    }
    if let Some(sha) = &run.base_sha {
        let branch = run.base_branch.as_deref().map(|b| format!(" of {}", name(b))).unwrap_or_default();
        line(format!("made on `{}`{branch}", sha.short()));
    }
    if let Some(attempt) = about.attempts.last() {
        line(format!("attempt {} on {}", attempt.number, name(&attempt.worker_name)));
        if let Some(isolation) = &attempt.isolation {
            line(neutralise_line(isolation, 160));
        }
    }
    if let Some(earlier) = run.retry_of {
        line(format!("retry of `{earlier}`"));
    }
    if let Some(earlier) = run.continues {
        line(format!("goes on with the session of run `{earlier}`"));
    }
    text
}
