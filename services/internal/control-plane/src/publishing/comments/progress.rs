//! What a commit says about its run.

use domain::neutralise::{neutralise, neutralise_line};

use super::status::headline;
use crate::runs::Run;

/// Title and text. The title is plain text and fits where the code host has one line.
pub(in crate::publishing) fn progress(run: &Run) -> (String, String) {
    let stage = neutralise_line(&run.stage, 40);
    let title = format!("{stage} for #{}: {}", run.issue_number, headline(run, false).1);
    let summary =
        format!("{}\n\n`callboard run get {}` shows all of it.", neutralise(&run.message, 2000), run.id);
    (title, summary)
}
