//! Every text the platform writes on the code host, as pure functions.

use chrono::{DateTime, Utc};
use domain::{
    changeset::{Change, Changeset, Finding, HeldFor, Mode},
    decision::Decided,
    ids::{DecisionId, RunId},
    neutralise::{neutralise, neutralise_line},
    review::{ReviewFinding, Severity},
    run::{FailureClass, PublicationState, RunState, Waiting},
};

use forge::NewRemark;

use super::Publication;
use crate::{
    pauses::Pause,
    runs::{Attempt, Run},
};

/// Characters of an agent's summary that are posted.
const SUMMARY_CHARS: usize = 20_000;
/// Files listed in a report.
const LISTED_FILES: usize = 50;
/// Files named in a sentence.
const NAMED_FILES: usize = 10;

/// Found again by it, never read back.
pub(crate) fn mark_of_run(run: RunId) -> String {
    format!("<!-- callboard:run={run} -->")
}

pub(super) fn mark_of_report(run: RunId) -> String {
    format!("<!-- callboard:report={run} -->")
}

pub(super) fn mark_of_decision(decision: DecisionId) -> String {
    format!("<!-- callboard:decision={decision} -->")
}

fn headline(run: &Run, paused: bool) -> &'static str {
    match run.state {
        RunState::Queued if paused => "⏸ paused",
        RunState::Queued => "⏳ queued",
        RunState::Active => "🏃 working",
        RunState::Waiting(Waiting::Held) => "✋ held for a person",
        RunState::Waiting(Waiting::Approval | Waiting::Input | Waiting::Budget | Waiting::RateLimit) => {
            "⏸ waiting"
        }
        RunState::Succeeded => "✅ done",
        RunState::Failed(FailureClass::TimedOut) => "⌛ out of time",
        RunState::Failed(FailureClass::Policy) => "🚫 refused",
        RunState::Failed(
            FailureClass::Infrastructure
            | FailureClass::Provider
            | FailureClass::Agent
            | FailureClass::User
            | FailureClass::RetriesSpent,
        ) => "❌ failed",
        RunState::Cancelled => "🛑 cancelled",
    }
}

/// What to do next, for people in a hurry.
fn next_step(run: &Run, publication: Option<&Publication>) -> Option<String> {
    let again = || {
        Some(format!(
            "To start again, put `run:{}` back on this issue, or `callboard run retry {}`.",
            run.stage, run.id
        ))
    };
    match run.state {
        RunState::Queued | RunState::Active => Some(format!(
            "Follow it with `callboard run logs -f {0}`, end it with `callboard run cancel {0}`.",
            run.id
        )),
        // Its message says what to do about the effect that failed.
        RunState::Waiting(Waiting::Held)
            if publication.is_some_and(|p| p.state == PublicationState::Publishing) =>
        {
            Some(format!("`callboard run changeset {}` shows the result.", run.id))
        }
        RunState::Waiting(Waiting::Held) => Some(format!(
            "`callboard run changeset {0}` shows it. Publish it with `callboard run release {0}`, drop it with `callboard run cancel {0}`.",
            run.id
        )),
        RunState::Waiting(Waiting::Approval | Waiting::Input | Waiting::Budget | Waiting::RateLimit) => {
            Some(format!("`callboard run get {}` shows it.", run.id))
        }
        RunState::Succeeded => None,
        RunState::Failed(_) | RunState::Cancelled => again(),
    }
}

fn findings_list(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("- {}\n", neutralise_line(&f.sentence, 300))).collect()
}

/// The one comment of a run on its issue.
pub(super) fn status(
    run: &Run,
    attempt: Option<&Attempt>,
    publication: Option<&Publication>,
    pause: Option<&Pause>,
    notes: &[String],
) -> String {
    let headline = headline(run, pause.is_some());
    let mut text = format!("{}\n**Callboard** · `{}` · {headline}\n\n", mark_of_run(run.id), run.stage);
    if let Some(pause) = pause {
        text.push_str(&format!("{}\n", pause.sentence()));
    }
    // What happened before the pause still matters; that it waits for a worker is not so.
    match (pause, attempt) {
        (Some(_), Some(_)) => text.push_str(&format!("\n{}\n", neutralise(&run.message, 2000))),
        (Some(_), None) => {}
        (None, _) => text.push_str(&format!("{}\n", neutralise(&run.message, 2000))),
    }
    // While the next one waits for a worker, how the last one started is not news.
    if let Some(attempt) = attempt.filter(|a| !a.start_note.is_empty() && run.state != RunState::Queued) {
        text.push_str(&format!("\n{}\n", neutralise(&attempt.start_note, 1000)));
    }
    if let Some(publication) = publication
        && !publication.findings.is_empty()
    {
        text.push('\n');
        if let Some(by) = &publication.released_by {
            text.push_str(&format!("Held for this, and released by `{}`:\n\n", neutralise_line(by, 60)));
        }
        text.push_str(&findings_list(&publication.findings));
    }
    if let Some(url) = publication.and_then(|p| p.pull_request_url.as_deref())
        && run.state != RunState::Succeeded
    {
        text.push_str(&format!("\nA pull request had been opened by then: {url}\n"));
    }
    if let Some(step) = next_step(run, publication) {
        text.push_str(&format!("\n{step}\n"));
    }
    if attempt.is_some_and(|a| a.unsandboxed) {
        text.push_str("\n⚠️ The agent ran without a sandbox: `sandbox: none` is configured.\n");
    }
    for note in notes {
        text.push_str(&format!("\n⚠️ {note}\n"));
    }
    let mut facts =
        vec![format!("asked for by `{}`", neutralise_line(&run.actor, 60)), format!("run `{}`", run.id)];
    if let Some(sha) = &run.base_sha {
        facts.push(format!("base `{}`", sha.short()));
    }
    if let Some(attempt) = attempt {
        facts.push(format!("attempt {} on `{}`", attempt.number, neutralise_line(&attempt.worker_name, 60)));
        if let Some(isolation) = &attempt.isolation {
            facts.push(neutralise_line(isolation, 160));
        }
    }
    if let Some(earlier) = run.retry_of {
        facts.push(format!("retry of `{earlier}`"));
    }
    text.push_str(&format!("\n<sub>{}</sub>\n", facts.join(" · ")));
    text
}

/// Why nothing was started.
pub(super) fn rejection(decided: &Decided, mark: &str) -> String {
    let remedy = if decided.remedy.is_empty() { String::new() } else { format!("\n\n{}", decided.remedy) };
    format!(
        "{mark}\n**Callboard** · nothing was started\n\n{}{remedy}\n\n<sub>reason `{}`</sub>\n",
        decided.rule,
        decided.reason.code()
    )
}

fn issue_title(run: &Run) -> String {
    run.issue
        .as_ref()
        .map_or_else(|| format!("Work on issue {}", run.issue_number), |i| neutralise_line(&i.title, 200))
}

/// Title of the pull request and first line of the commit.
pub(super) fn title(run: &Run) -> String {
    let title = issue_title(run);
    if title.trim().is_empty() { format!("Work on issue {}", run.issue_number) } else { title }
}

/// Commit message with the trailer that names the run.
pub(super) fn commit_message(run: &Run) -> String {
    format!(
        "{}\n\nWork of stage {} on issue #{}.\n\n{}\n",
        title(run),
        run.stage,
        run.issue_number,
        trailer(run.id)
    )
}

/// The line of a commit message that names the run.
pub(super) fn trailer(run: RunId) -> String {
    format!("Callboard-Run: {run}")
}

/// Branch of a run, before the number that makes it unique.
pub(super) fn branch(run: &Run) -> String {
    format!("callboard/{}-{}", run.issue_number, run.stage)
}

fn counts(changeset: &Changeset) -> String {
    let deleted = changeset.files.iter().filter(|f| matches!(f.change, Change::Delete)).count();
    let written = changeset.files.len() - deleted;
    let files = |n: usize| if n == 1 { "1 file".to_owned() } else { format!("{n} files") };
    match (written, deleted) {
        (w, 0) => format!("{} written", files(w)),
        (0, d) => format!("{} deleted", files(d)),
        (w, d) => format!("{} written, {d} deleted", files(w)),
    }
}

fn summary_or_nothing(summary: &str) -> String {
    let text = neutralise(summary.trim(), SUMMARY_CHARS);
    if text.trim().is_empty() { "_The agent left no summary._".to_owned() } else { text }
}

/// Who let a held changeset be published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Released<'a> {
    pub(super) by: &'a str,
    pub(super) reason: &'a str,
    /// What it was held for.
    pub(super) publication: &'a Publication,
}

/// That nothing stands where the stage may not write; nothing is said where something does.
fn inside(run: &Run, released: Option<&Released<'_>>) -> String {
    let outside = released.is_some_and(|released| {
        released.publication.findings.iter().any(|f| f.code.held_for() == Some(HeldFor::OtherFiles))
    });
    if outside { String::new() } else { format!(", all inside what stage `{}` may write", run.stage) }
}

/// What was checked, or let through by a person.
fn checked(run: &Run, released: Option<&Released<'_>>) -> String {
    let Some(Released { by, reason, publication }) = released else {
        return "- no protected paths, no hostile paths, no known secrets\n".to_owned();
    };
    let mut by = format!("released by `{}`", neutralise_line(by, 60));
    if !reason.is_empty() {
        by.push_str(&format!(" (\"{}\")", neutralise_line(reason, 300)));
    }
    let named = |asked: HeldFor| {
        let about = publication.findings.iter().filter(|f| f.code.held_for() == Some(asked));
        let named: Vec<&str> = about.filter_map(|f| f.path.as_deref()).collect();
        (!named.is_empty()).then(|| paths(&named))
    };
    let mut text = String::new();
    match named(HeldFor::ProtectedFiles) {
        None => text.push_str("- no protected paths, no hostile paths, no known secrets\n"),
        Some(named) => {
            text.push_str("- no hostile paths, no known secrets\n");
            text.push_str(&format!("- it changes **protected files**, {by}: {named}\n"));
        }
    }
    if let Some(named) = named(HeldFor::OtherFiles) {
        let stage = &run.stage;
        text.push_str(&format!("- it changes **files stage `{stage}` may not write**, {by}: {named}\n"));
    }
    if let Some(named) = named(HeldFor::Secrets) {
        text.push_str(&format!("- it has **what looks like a token or a key**, {by}: {named}\n"));
    }
    if publication.findings.iter().any(|f| f.code.held_for() == Some(HeldFor::Approver)) {
        text.push_str(&format!("- every result of stage `{}` needs an approver: {by}\n", run.stage));
    }
    if let Some(head) = &publication.head_moved_to {
        let branch = run.base_branch.as_deref().unwrap_or("?");
        text.push_str(&format!(
            "- `{branch}` has changed some of the same files since (up to `{}`), {by}: expect conflicts\n",
            head.short()
        ));
    }
    text
}

/// Paths for a sentence; the first few of many.
pub(super) fn paths(paths: &[&str]) -> String {
    let mut words: Vec<String> =
        paths.iter().take(NAMED_FILES).map(|p| format!("`{}`", neutralise_line(p, 200))).collect();
    if paths.len() > NAMED_FILES {
        words.push(format!("and {} more", paths.len() - NAMED_FILES));
    }
    words.join(", ")
}

/// Begins the closing part of a pull request's text.
const CLOSING: &str =
    "The platform checked where files may go, not whether the change is right: please review it.";
/// Characters of an agent's summary in the block of a revision.
const REVISED_CHARS: usize = 4_000;

/// What a revision adds to the text of its pull request.
pub(super) fn revised_block(
    run: &Run,
    attempt: &Attempt,
    changeset: &Changeset,
    publication: &Publication,
) -> String {
    let released = publication.released_by.as_deref();
    let released = released.map(|by| Released { by, reason: "", publication });
    let summary = neutralise(attempt.summary.as_deref().unwrap_or_default().trim(), REVISED_CHARS);
    format!(
        "{mark}\n### Revised\n\n{summary}\n\n- as `{commit}`, against `{base}`, which the run was pinned to\n\
         - {counts}{inside}\n{checked}\n<sub>run `{run_id}` · asked for by `{actor}`</sub>\n",
        mark = mark_of_run(run.id),
        summary = if summary.trim().is_empty() { "_The agent left no summary._" } else { &summary },
        commit = publication.commit.as_ref().map_or("?", |sha| sha.short()),
        base = run.base_sha.as_ref().map_or("?", |sha| sha.short()),
        counts = counts(changeset),
        inside = inside(run, released.as_ref()),
        checked = checked(run, released.as_ref()),
        run_id = run.id,
        actor = neutralise_line(&run.actor, 60),
    )
}

/// The text of a pull request with a block above its closing part.
pub(super) fn with_block(text: &str, block: &str) -> String {
    match text.rfind(CLOSING) {
        Some(at) => format!("{}{block}\n{}", &text[..at], &text[at..]),
        None => format!("{}\n\n{block}", text.trim_end()),
    }
}

/// A finding as a remark on its line.
pub(super) fn remark(finding: &ReviewFinding) -> NewRemark {
    NewRemark {
        path: finding.path.clone(),
        line: finding.line,
        body: format!("**{}**: {}", finding.severity.as_str(), neutralise(&finding.body, FINDING_CHARS)),
    }
}

/// Characters of one finding.
const FINDING_CHARS: usize = 4_000;
/// Bytes of a review's text; GitHub takes a little more.
const REVIEW_BYTES: usize = 60_000;

/// The summary of a review, and what does not stand on a line of the difference.
pub(super) fn review_body(
    run: &Run,
    said: &str,
    all: &[ReviewFinding],
    without_line: &[&ReviewFinding],
) -> String {
    let of = |severity| all.iter().filter(|finding| finding.severity == severity).count();
    let counts: Vec<String> = Severity::ALL
        .into_iter()
        .filter(|severity| of(*severity) > 0)
        .map(|severity| format!("{} {}", of(severity), severity.as_str()))
        .collect();
    let counts = if counts.is_empty() { "no findings".to_owned() } else { counts.join(", ") };
    let mut text = format!(
        "{}\n**Callboard** · review by an agent · {counts}\n\n{}\n",
        mark_of_run(run.id),
        summary_or_nothing(said)
    );
    if !without_line.is_empty() {
        text.push_str("\n**Not on a line of the difference**\n\n");
    }
    for finding in without_line {
        let path = neutralise_line(&finding.path, 300);
        let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
        let body = neutralise(finding.body.trim(), FINDING_CHARS).replace('\n', "\n  ");
        text.push_str(&format!("- `{path}{line}` **{}**: {body}\n", finding.severity.as_str()));
    }
    text.truncate(text.floor_char_boundary(REVIEW_BYTES));
    text.push_str(&format!(
        "\nThis is not an approval: a person with the right to approve decides.\n\n<sub>run `{}` · of `{}` · asked for by `{}`</sub>\n",
        run.id,
        run.base_sha.as_ref().map_or("?", |sha| sha.short()),
        neutralise_line(&run.actor, 60),
    ));
    text
}

/// The agent's answer in a discussion.
pub(super) fn discussion_answer(run: &Run, answer: &str, now: DateTime<Utc>) -> String {
    format!(
        "{}\n{}\n\n<sub>run `{}` · {} · answers `{}`</sub>\n",
        mark_of_run(run.id),
        summary_or_nothing(answer),
        run.id,
        now.format("%Y-%m-%d %H:%M UTC"),
        neutralise_line(&run.actor, 60),
    )
}

/// Body of the pull request: asked, done, checked.
pub(super) fn pull_request(
    run: &Run,
    summary: &str,
    changeset: &Changeset,
    released: Option<&Released<'_>>,
) -> String {
    format!(
        "{mark}\n### Asked\n\n#{issue}: {title}\n\n### Done\n\n{summary}\n\n### Checked\n\n\
         - against `{base}` on `{branch}`, which the run was pinned to\n\
         - {counts}{inside}\n\
         {checked}\n\
         {CLOSING}\n\n\
         <sub>run `{run_id}` · asked for by `{actor}`</sub>\n",
        mark = mark_of_run(run.id),
        issue = run.issue_number,
        title = title(run),
        summary = summary_or_nothing(summary),
        base = run.base_sha.as_ref().map_or("?", |s| s.short()),
        branch = run.base_branch.as_deref().unwrap_or("?"),
        counts = counts(changeset),
        inside = inside(run, released),
        checked = checked(run, released),
        run_id = run.id,
        actor = neutralise_line(&run.actor, 60),
    )
}

/// The report: a comment on the pull request with what happened and what changed.
pub(super) fn report(run: &Run, attempt: &Attempt, changeset: &Changeset) -> String {
    let mut text = format!(
        "{}\n**Callboard** · report of run `{}`\n\n| | |\n|---|---|\n",
        mark_of_report(run.id),
        run.id
    );
    let mut row = |name: &str, value: String| text.push_str(&format!("| {name} | {value} |\n"));
    row("stage", format!("`{}`", run.stage));
    row("attempt", format!("{} on `{}`", attempt.number, neutralise_line(&attempt.worker_name, 60)));
    if let Some(isolation) = &attempt.isolation {
        row("isolation", neutralise_line(isolation, 160));
    }
    if let (Some(running), Some(returned)) = (attempt.running_at, attempt.returned_at) {
        row("agent's time", format!("{} s", (returned - running).num_seconds()));
    }
    if let Some(digest) = run.prompt_digest() {
        row("prompt", format!("sha256 `{}…`", digest.get(..16).unwrap_or(digest)));
    }
    row("changes", counts(changeset));
    text.push_str("\n<details><summary>Files</summary>\n\n");
    for file in changeset.files.iter().take(LISTED_FILES) {
        let path = neutralise_line(&String::from_utf8_lossy(&file.path), 300);
        let what = match &file.change {
            Change::Delete => "deleted".to_owned(),
            Change::Submodule => "submodule".to_owned(),
            Change::Put { mode: Mode::Symlink, .. } => "symbolic link".to_owned(),
            Change::Put { mode: Mode::Executable, content } => format!("{} bytes, executable", content.len()),
            Change::Put { mode: Mode::Regular, content } => format!("{} bytes", content.len()),
        };
        text.push_str(&format!("- `{path}` — {what}\n"));
    }
    if changeset.files.len() > LISTED_FILES {
        text.push_str(&format!("- … and {} more\n", changeset.files.len() - LISTED_FILES));
    }
    text.push_str("\n</details>\n");
    text
}
