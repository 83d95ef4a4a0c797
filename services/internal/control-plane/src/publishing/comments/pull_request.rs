//! The pull request of a run: branch, commit, title and body.

use domain::{changeset::Changeset, ids::RunId, neutralise::neutralise_line};

use super::{
    Released, SUMMARY_CHARS,
    checked::checked,
    mark_of_run,
    phrases::{asked_by, summary},
    steps::about_the_pull_request,
};
use crate::{publishing::about::About, runs::Run};

/// Before it, revisions are put; see `revised`.
pub(super) const CLOSING: &str = "<!-- callboard:next -->";

/// Title of the pull request and first line of the commit.
pub(in crate::publishing) fn title(run: &Run) -> String {
    let title = run.issue.as_ref().map(|issue| neutralise_line(&issue.title, 200)).unwrap_or_default();
    if title.trim().is_empty() { format!("Work on issue {}", run.issue_number) } else { title }
}

/// Commit message with the trailer that names the run.
pub(in crate::publishing) fn commit_message(run: &Run) -> String {
    format!(
        "{}\n\nWork of stage {} on issue #{}.\n\n{}\n",
        title(run),
        run.stage,
        run.issue_number,
        trailer(run.id)
    )
}

/// The line of a commit message that names the run.
pub(in crate::publishing) fn trailer(run: RunId) -> String {
    format!("Callboard-Run: {run}")
}

/// Branch of a run, before the number that makes it unique.
pub(in crate::publishing) fn branch(run: &Run) -> String {
    format!("callboard/{}-{}", run.issue_number, run.stage)
}

/// Body of the pull request: asked, done, checked, next.
pub(in crate::publishing) fn pull_request(
    run: &Run,
    about: &About,
    said: &str,
    changeset: &Changeset,
    released: Option<&Released<'_>>,
) -> String {
    format!(
        "{mark}\n### Asked\n\n#{issue}: {title}\n\nBy {asked}.\n\n### Done\n\n{said}\n\n### Checked\n\n{checked}\n\
         The platform checked where files may go, not whether the change is right: please review it.\n\n\
         {CLOSING}\n### Next\n\n{next}\n<sub>run `{run_id}`</sub>\n",
        mark = mark_of_run(run.id),
        issue = run.issue_number,
        title = title(run),
        asked = asked_by(run, &about.asked, &about.policy.labels),
        said = summary(said, SUMMARY_CHARS),
        checked = checked(run, changeset, released),
        next = about_the_pull_request(run, about, "this pull request"),
        run_id = run.id,
    )
}
