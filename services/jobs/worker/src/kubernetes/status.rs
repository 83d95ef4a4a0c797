//! What an `AgentRun` shows of its attempt.

use chrono::{DateTime, Utc};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::{AgentRunStatus, Phase, observe::Observed};

/// What is shown of an attempt of ours; `is_ready`: all its objects are as they should be.
pub(crate) fn status(
    observed: &Observed,
    is_ready: bool,
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
    let ready = if is_ready {
        ("True", "Applied", "Its objects are as they should be.")
    } else {
        ("False", "Applying", "Its objects are being made.")
    };
    let conditions = vec![
        condition("Accepted", ("True", "Planned", "The platform asked for it."), before, now),
        condition("Ready", ready, before, now),
    ];
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
        let first = status(&running, true, None, at(1));
        assert_eq!(status(&running, true, Some(&first), at(9)), first);

        let broken = status(&running, false, Some(&first), at(9));
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
        let ended = status(&ended, true, Some(&first), at(10));
        assert_eq!((ended.phase, ended.node.as_deref()), (Phase::Ended, Some("node-1")));
        assert_eq!(refused(Some(&ended), at(11)).conditions.len(), 1, "of what it was nothing is kept");
    }
}
