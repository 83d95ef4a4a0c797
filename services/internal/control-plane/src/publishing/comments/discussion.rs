//! The answer of a discussion.

use super::{
    SUMMARY_CHARS, mark_of_answer,
    phrases::{asked_by, name, summary},
};
use crate::{publishing::about::About, runs::Run};

/// What the agent says, and whose words it is.
pub(in crate::publishing) fn discussion_answer(run: &Run, about: &About, said: &str) -> String {
    format!(
        "{}\n{}\n\n<sub>**Callboard** · an agent's answer, asked for by {} · it changed nothing · take {} off to end it · run `{}`</sub>\n",
        mark_of_answer(run.id),
        summary(said, SUMMARY_CHARS),
        asked_by(run, &about.asked, &about.policy.labels),
        name(&about.policy.labels.discussion),
        run.id
    )
}
