//! The rules, one file per family, in the order they are looked at.

mod ask;
mod comments;
mod entry;
mod labels;
mod lifecycle;
mod pull_requests;
mod reviews;
mod starts;
mod trace;

use super::{Decided, Event, Facts, Happening, Reason, ReviewVerdict};
use crate::{
    command,
    neutralise::is_hidden,
    stage::{Meaning, Policy},
};
pub(super) use ask::standing;
pub(super) use starts::known as known_stage;
pub(super) use trace::{Trace, Verdict};

/// One event and what is known about it, while its rules are looked at.
struct Case<'a> {
    event: &'a Event,
    facts: &'a Facts<'a>,
    trace: Trace,
}

/// What an event leads to.
pub fn decide(event: &Event, facts: &Facts<'_>) -> Decided {
    let mut case = Case { event, facts, trace: Trace::default() };
    let judged = match &event.happening {
        Happening::Labeled { on, label } => labels::labeled(&mut case, on, label),
        Happening::Unlabeled { on, label } => labels::unlabeled(&mut case, on, label),
        Happening::Commented { on, comment } => comments::commented(&mut case, on, comment),
        Happening::Reviewed { on, review } => reviews::reviewed(&mut case, on, review),
        Happening::ReviewDismissed { on, review } => reviews::dismissed(&mut case, on, review),
        Happening::Synchronized { on } => pull_requests::synchronized(&mut case, on),
        Happening::Reopened { on } => pull_requests::reopened(&mut case, on),
        Happening::Closed { on } => match &on.pull {
            Some(pull) => pull_requests::closed(&mut case, on, pull),
            None => lifecycle::issue_ended(&mut case, on, "closed"),
        },
        Happening::Deleted { on } => lifecycle::issue_ended(&mut case, on, "deleted"),
        Happening::TransferredAway { on } => lifecycle::issue_ended(&mut case, on, "transferred"),
        Happening::Pushed { branch, head } => lifecycle::pushed(&mut case, branch.as_deref(), head.as_ref()),
        Happening::Installation { installation } => lifecycle::installation(&mut case, installation),
        Happening::Repository { change } => lifecycle::repository(&mut case, change),
        Happening::Other => Ok(Decided::ignore(Reason::EventNotUsed, "Nothing follows from this event.")),
    };
    case.trace.into(judged)
}

/// Whether deciding on this event takes the actor's permission, so that the code host is
/// asked for events that could lead to something and for no others. A bot's matters only where
/// the bot is listed, which the caller knows.
pub fn needs_permission(event: &Event, policy: &Policy) -> bool {
    match &event.happening {
        Happening::Labeled { on, label } => match policy.labels.meaning(label) {
            Some(Meaning::Run(stage) | Meaning::Preview(stage)) => {
                on.open && on.pull.is_none() && policy.get(&stage).is_some()
            }
            Some(Meaning::Revise(stage)) => on.open && policy.get(&stage).is_some(),
            Some(Meaning::Reviewer) => on.open && on.pull.as_ref().is_some_and(|pull| !pull.from_fork),
            Some(Meaning::Discussion) => on.open && on.pull.is_none(),
            Some(Meaning::Model(_) | Meaning::Reasoning(_)) => true,
            Some(Meaning::State(_) | Meaning::Need(_)) | None => false,
        },
        Happening::Commented { on, comment } => {
            comments::by_its_author(event, comment)
                // Whether a discussion is open is in our records; its label may say otherwise.
                && (command::parse(&comment.body).is_some() || on.open && on.pull.is_none())
        }
        Happening::Reviewed { on, review } => match review.verdict {
            ReviewVerdict::Approved | ReviewVerdict::ChangesRequested => on.open,
            ReviewVerdict::Commented => false,
        },
        Happening::Unlabeled { .. }
        | Happening::Closed { .. }
        | Happening::Deleted { .. }
        | Happening::TransferredAway { .. }
        | Happening::Synchronized { .. }
        | Happening::Reopened { .. }
        | Happening::ReviewDismissed { .. }
        | Happening::Pushed { .. }
        | Happening::Installation { .. }
        | Happening::Repository { .. }
        | Happening::Other => false,
    }
}

/// Names come from outside; at most 60 characters of one line of them go into a sentence, always
/// into a code span, which they cannot leave.
pub(super) fn for_people(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !is_hidden(*c) && *c != '`').take(60).collect()
}

/// "`a`, `b` and `c`", each as [`for_people`].
pub(super) fn listed<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = names.into_iter().map(|n| format!("`{}`", for_people(n.as_ref()))).collect();
    match names.as_slice() {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
