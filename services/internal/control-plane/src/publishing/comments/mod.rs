//! Every text the platform writes on the code host, as pure functions of what they tell. All of
//! them, rendered: `docs/product/comments.md`.
//!
//! Text of people and agents goes through `neutralise` here, and is censored where it is stored.

mod answers;
mod checked;
mod discussion;
mod phases;
mod phrases;
mod preview;
mod progress;
mod pull_request;
mod rejection;
mod report;
mod review;
mod revised;
mod status;
mod steps;

#[cfg(test)]
mod gallery;
#[cfg(test)]
mod samples;

use domain::ids::{DecisionId, RunId};

pub(crate) use self::{
    answers::{Explained, answer_explain, answer_status},
    preview::{Preview, preview},
    rejection::put_back,
};
pub(super) use self::{
    checked::Released,
    discussion::discussion_answer,
    phrases::paths,
    progress::progress,
    pull_request::{branch, commit_message, pull_request, title, trailer},
    rejection::rejection,
    report::report,
    review::{remark, review_body},
    revised::{revised_block, with_block},
    status::status,
};

/// Characters of an agent's summary that are posted.
const SUMMARY_CHARS: usize = 20_000;
/// Characters the code host takes for one text; ours stay below.
const MOST_CHARS: usize = 65_000;

/// Found again by it, never read back.
pub(crate) fn mark_of_run(run: RunId) -> String {
    format!("<!-- callboard:run={run} -->")
}

pub(super) fn mark_of_report(run: RunId) -> String {
    format!("<!-- callboard:report={run} -->")
}

pub(super) fn mark_of_review(run: RunId) -> String {
    format!("<!-- callboard:review={run} -->")
}

pub(super) fn mark_of_answer(run: RunId) -> String {
    format!("<!-- callboard:answer={run} -->")
}

pub(super) fn mark_of_decision(decision: DecisionId) -> String {
    format!("<!-- callboard:decision={decision} -->")
}
