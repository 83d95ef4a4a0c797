//! What an `AgentRun` shows of its attempt.

use chrono::{DateTime, Utc};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::{AgentRunStatus, Phase, observe::Observed};

/// The condition that says whether all of its objects are there.
const READY: &str = "Ready";

/// Whether all objects of an attempt are as they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Objects {
    Applied,
    /// A sentence.
    Refused(String),
    /// Nothing is made any more: what stood about them stands.
    Over,
}

/// What is shown of an attempt of ours.
pub(crate) fn status(
    observed: &Observed,
    objects: &Objects,
    before: Option<&AgentRunStatus>,
    now: DateTime<Utc>,
) -> AgentRunStatus {
    let node_before = before.and_then(|before| before.node.clone());
    let (phase, message, node) = match observed {
        Observed::Nothing => (Phase::Waiting, None, None),
        Observed::Waiting { message, .. } => (Phase::Waiting, Some(message.clone()), None),
        Observed::Running { node } => (Phase::Running, None, node.clone()),
        Observed::Ended { message, .. } => (Phase::Ended, Some(message.clone()), node_before),
    };
    let ready = match objects {
        Objects::Applied => {
            Some(condition(READY, ("True", "Applied", "Its objects are as they should be."), before, now))
        }
        Objects::Refused(why) => Some(condition(READY, ("False", "Refused", why), before, now)),
        Objects::Over => before.and_then(ready).cloned(),
    };
    let accepted = condition("Accepted", ("True", "Planned", "The platform asked for it."), before, now);
    let conditions = std::iter::once(accepted).chain(ready).collect();
    AgentRunStatus { phase, message, node, conditions }
}

/// What is shown of an `AgentRun` that nobody asked for.
pub(crate) fn refused(before: Option<&AgentRunStatus>, now: DateTime<Utc>) -> AgentRunStatus {
    let message = "The platform did not ask for this: nothing is made for it. Delete it.";
    AgentRunStatus {
        phase: Phase::Refused,
        message: Some(message.to_owned()),
        node: None,
        conditions: vec![condition("Accepted", ("False", "Unknown", message), before, now)],
    }
}

fn ready(status: &AgentRunStatus) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == READY)
}

/// Whether an earlier process had made all of its objects, as far as it says.
pub(crate) fn was_made(status: &AgentRunStatus) -> bool {
    has_run(status) || ready(status).is_some_and(|ready| ready.status == "True")
}

/// Whether its pod ran, as far as it says.
pub(crate) fn has_run(status: &AgentRunStatus) -> bool {
    match status.phase {
        Phase::Running | Phase::Ended => true,
        Phase::Waiting | Phase::Refused => false,
    }
}

/// Whether it says already why its objects are not as they should be.
pub(crate) fn says(status: &AgentRunStatus, why: &str) -> bool {
    ready(status).is_some_and(|ready| ready.message == why)
}

/// One condition; since when it stands is kept while it does.
fn condition(
    kind: &str,
    (status, reason, message): (&str, &str, &str),
    before: Option<&AgentRunStatus>,
    now: DateTime<Utc>,
) -> Condition {
    let stood = before
        .and_then(|before| before.conditions.iter().find(|condition| condition.type_ == kind))
        .filter(|condition| condition.status == status);
    let since = stood.map_or_else(
        || Time(Timestamp::from_second(now.timestamp()).unwrap_or_default()),
        |condition| condition.last_transition_time.clone(),
    );
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since,
        observed_generation: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_says_the_same_is_the_same() {
        let at = |second| DateTime::from_timestamp(second, 500).expect("a time");
        let running = Observed::Running { node: Some("node-1".into()) };
        let first = status(&running, &Objects::Applied, None, at(1));
        assert_eq!(status(&running, &Objects::Applied, Some(&first), at(9)), first);

        let refused_objects = Objects::Refused("The quota leaves no room for its Secret.".into());
        let broken = status(&running, &refused_objects, Some(&first), at(9));
        assert!(says(&broken, "The quota leaves no room for its Secret."));
        let since = |status: &AgentRunStatus, kind: &str| {
            let found = status.conditions.iter().find(|c| c.type_ == kind).expect("the condition");
            found.last_transition_time.0.as_second()
        };
        assert_eq!((since(&broken, "Accepted"), since(&broken, "Ready")), (1, 9));

        let ended = Observed::Ended {
            outcome: proto::v1::attempt_ended::Outcome::Exited,
            cause: proto::v1::attempt_ended::Cause::Unspecified,
            exit_code: Some(0),
            message: "The runner came to its end.".into(),
        };
        let ended = status(&ended, &Objects::Over, Some(&first), at(10));
        assert_eq!(ended.conditions, first.conditions, "what stood about its objects stands");
        assert!(was_made(&ended) && was_made(&broken), "its Job is not made a second time");
        assert_eq!((ended.phase, ended.node.as_deref()), (Phase::Ended, Some("node-1")));
        assert_eq!(refused(Some(&ended), at(11)).conditions.len(), 1, "of what it was nothing is kept");
    }
}
