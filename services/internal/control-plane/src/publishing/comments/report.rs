//! The report: a comment on the pull request with what happened and what changed.

use domain::{
    changeset::{Change, Changeset, Mode},
    neutralise::neutralise_line,
};

use super::{
    checked::checked_in_short,
    mark_of_report,
    phrases::{asked_by, counts, folded, name, took, work},
};
use crate::{
    publishing::about::About,
    runs::{Attempt, Run},
};

/// Files listed in a report.
const LISTED_FILES: usize = 50;

/// Asked, done, checked, run.
pub(in crate::publishing) fn report(
    run: &Run,
    about: &About,
    attempt: &Attempt,
    changeset: &Changeset,
) -> String {
    let mut text =
        format!("{}\n**Callboard** · {} · report\n\n| | |\n|---|---|\n", mark_of_report(run.id), work(run));
    let mut row = |name: &str, value: String| text.push_str(&format!("| {name} | {value} |\n"));
    row("asked", format!("#{} by {}", run.issue_number, asked_by(run, &about.asked, &about.policy.labels)));
    row("done", counts(changeset));
    if let Some(publication) = &about.publication {
        row("checked", checked_in_short(publication));
    }
    let time = attempt.running_at.zip(attempt.returned_at).map(|(from, to)| took(to - from));
    let time = time.map(|time| format!(", the agent worked {time}")).unwrap_or_default();
    row("run", format!("`{}`, attempt {}{time}", run.id, attempt.number));
    text.push_str(&folded("Files", &files(changeset)));
    text.push_str(&folded("Run", &how(run, attempt)));
    text
}

fn files(changeset: &Changeset) -> String {
    let mut text = String::new();
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
    text
}

fn how(run: &Run, attempt: &Attempt) -> String {
    let mut text = String::new();
    let mut line = |words: String| text.push_str(&format!("- {words}\n"));
    line(format!("worker {}", name(&attempt.worker_name)));
    if let Some(isolation) = &attempt.isolation {
        line(neutralise_line(isolation, 160));
    }
    if let Some(sha) = &run.base_sha {
        line(format!("made on `{}`", sha.short()));
    }
    if let Some(digest) = run.prompt_digest() {
        line(format!("prompt sha256 `{}…`", digest.get(..16).unwrap_or(digest)));
    }
    if !attempt.start_note.is_empty() {
        line(neutralise_line(&attempt.start_note, 300));
    }
    text
}
