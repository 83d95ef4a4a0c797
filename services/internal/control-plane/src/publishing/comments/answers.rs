//! Answers to `/callboard status` and `/callboard explain`.

use chrono::{DateTime, Utc};
use domain::{
    decision::{Looked, Record},
    neutralise::neutralise_line,
    run::RunState,
};

use super::phrases::{name, work};
use crate::runs::Run;

/// Runs listed.
const LISTED_RUNS: usize = 10;
/// Rules listed.
const LISTED_RULES: usize = 40;

/// What our records say about an issue or pull request: its runs, the newest first, and its
/// results.
pub(crate) fn answer_status(runs: &[Run], record: &Record, mark: &str) -> String {
    let mut text = format!("{mark}\n**Callboard** · status\n");
    if runs.is_empty() {
        text.push_str("\nNo run was asked for here yet.\n");
    } else {
        text.push_str("\n| run | state | asked | by | id |\n|---|---|---|---|---|\n");
        for run in runs.iter().take(LISTED_RUNS) {
            text.push_str(&format!(
                "| {} | {} | {} | {} | `{}` |\n",
                work(run),
                words(run),
                run.received_at.format("%Y-%m-%d %H:%M UTC"),
                name(&run.actor),
                run.id
            ));
        }
        if runs.len() > LISTED_RUNS {
            text.push_str(&format!("\n… and {} earlier ones.\n", runs.len() - LISTED_RUNS));
        }
    }
    if !record.results.is_empty() {
        text.push_str("\nResults:\n\n");
    }
    for result in &record.results {
        let approval = match &result.approval {
            Some(approval) => {
                format!(", approved by {} at `{}`", name(&approval.by), approval.head.short())
            }
            None => ", not approved".to_owned(),
        };
        let how = match (result.merged, result.open) {
            (true, _) => "merged",
            (false, true) => "open",
            (false, false) => "closed without being merged",
        };
        text.push_str(&format!("- #{} of {}: {how}{approval}\n", result.pull, name(&result.stage)));
    }
    if let Some(discussion) = &record.discussion {
        text.push_str(&format!(
            "\nA discussion is open since {}, opened by {}.\n",
            discussion.since.format("%Y-%m-%d %H:%M UTC"),
            name(&discussion.opened_by)
        ));
    }
    text
}

fn words(run: &Run) -> String {
    match run.state {
        RunState::Queued if run.behind.is_some() => "waiting for another run".to_owned(),
        RunState::Queued if run.no_worker.is_some() => "queued, and no worker is there for it".to_owned(),
        RunState::Queued => "queued".to_owned(),
        RunState::Active => "working".to_owned(),
        RunState::Succeeded => "done".to_owned(),
        RunState::Cancelled => "cancelled".to_owned(),
        // "failed: timed out", "waiting: held"
        RunState::Waiting(_) | RunState::Failed(_) => match run.state.columns() {
            (state, Some(kind)) => format!("{state}: {}", kind.replace('_', " ")),
            (state, None) => state.to_owned(),
        },
    }
}

/// A decision to be explained.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Explained<'a> {
    /// "issues.labeled"
    pub(crate) subject: &'a str,
    pub(crate) actor: Option<&'a str>,
    pub(crate) decided_at: DateTime<Utc>,
    /// "start", "reject"
    pub(crate) decision: &'a str,
    /// Its code.
    pub(crate) reason: &'a str,
    pub(crate) rule: &'a str,
    pub(crate) remedy: &'a str,
    pub(crate) trace: &'a [Looked],
}

/// The newest decision that was more than taking note, with every rule that was looked at.
pub(crate) fn answer_explain(explained: Option<&Explained<'_>>, mark: &str) -> String {
    let Some(explained) = explained else {
        return format!("{mark}\n**Callboard** · why\n\nNothing was decided here yet.\n");
    };
    let mut text = format!(
        "{mark}\n**Callboard** · why: {}\n\n{}\n",
        neutralise_line(&explained.decision.replace('_', " "), 60),
        on_one_line(explained.rule, 1000)
    );
    if !explained.remedy.is_empty() {
        text.push_str(&format!("\n**Next:** {}\n", on_one_line(explained.remedy, 1000)));
    }
    text.push_str(&rules_looked_at(explained.trace));
    text.push_str(&format!(
        "\n<sub>{} by {} · {} · reason {}</sub>\n",
        name(explained.subject),
        name(explained.actor.unwrap_or("nobody")),
        explained.decided_at.format("%Y-%m-%d %H:%M UTC"),
        name(explained.reason)
    ));
    text
}

/// Every rule, in the order they were looked at: ✓ let it pass, ✗ did not.
pub(super) fn rules_looked_at(trace: &[Looked]) -> String {
    if trace.is_empty() {
        return String::new();
    }
    let mut text = "\n| | rule | found |\n|---|---|---|\n".to_owned();
    for looked in trace.iter().take(LISTED_RULES) {
        let sign = if looked.passed { "✓" } else { "✗" };
        text.push_str(&format!("| {sign} | {} | {} |\n", cell(&looked.rule), cell(&looked.found)));
    }
    text
}

/// A sentence of a decision: ours, with names from outside in code spans that they cannot leave.
/// It is not neutralised: the commands in it are to be copied.
fn on_one_line(text: &str, max_chars: usize) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(max_chars).collect()
}

/// One in a cell of a table.
fn cell(text: &str) -> String {
    on_one_line(text, 300).replace('|', "¦")
}
