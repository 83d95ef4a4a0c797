//! What became of an attempt's pod, as the cluster tells it: one cause and one sentence.
//!
//! Everything the cluster says is text from outside: it is cleaned and bounded.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use domain::neutralise::visible;
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{
            ContainerState, ContainerStateTerminated, ContainerStateWaiting, Event, Pod, PodCondition,
        },
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use proto::v1::attempt_ended::{Cause, Outcome};

use super::{AgentRunSpec, client::UNCOUNTED, objects::CONTAINER};

/// `128 + signal` is how a container runtime passes on that a program was killed.
const KILLED: i32 = 128;
/// The numbers that standard signals have.
const SIGNALS: RangeInclusive<i32> = 1..=31;
/// How long a pod may take to go after its grace period before its node counts as lost.
const OVERDUE_SECONDS: i64 = 30;
/// How much of what the cluster says goes into a sentence.
const CHARACTERS: usize = 300;

/// What is known of an attempt in the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    /// What was asked of the cluster.
    pub(crate) spec: &'a AgentRunSpec,
    /// Its Job, as it is now.
    pub(crate) job: Option<&'a Job>,
    /// Its Job was seen before, so that without one it was deleted.
    pub(crate) job_was_seen: bool,
    /// Its pod ran, as an earlier process has noted.
    pub(crate) has_run: bool,
    /// Its pod, as it is now.
    pub(crate) pod: Option<&'a Pod>,
    /// The first pod it had, as that was when last seen.
    pub(crate) last_pod: Option<&'a Pod>,
    /// Events of its Job and its pod; only fetched when something hangs or vanished.
    pub(crate) events: &'a [Event],
    pub(crate) now: DateTime<Utc>,
}

/// What that means. While we ourselves delete what an attempt has, it means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Observed {
    /// Nothing yet: the cluster is at work, or its events would tell why not.
    Nothing,
    /// It does not run, and this is why.
    Waiting {
        /// What it ends of when it is not waited for any longer; unspecified: its node is at work.
        cause: Cause,
        message: String,
        /// Waiting on is no use: the same would be found again.
        at_once: bool,
    },
    Running {
        node: Option<String>,
    },
    Ended {
        outcome: Outcome,
        cause: Cause,
        exit_code: Option<i32>,
        message: String,
    },
}

/// Says what the cluster has done with an attempt.
pub(crate) fn observe(seen: &Seen<'_>) -> Observed {
    match (seen.pod, seen.last_pod) {
        // A Job of old Kubernetes makes another pod in the place of one that was deleted. It is
        // not the attempt: that is one pod.
        (Some(pod), Some(first)) if pod.metadata.uid != first.metadata.uid => vanished(first, seen),
        (Some(pod), _) => present(pod, seen),
        (None, Some(pod)) => vanished(pod, seen),
        (None, None) => without_a_pod(seen),
    }
}

/// An attempt that never had a pod.
fn without_a_pod(seen: &Seen<'_>) -> Observed {
    let deleted = || {
        if seen.has_run {
            died(Cause::Deleted, "Its Job was deleted by somebody.")
        } else {
            not_started(Cause::Deleted, "Its Job was deleted by somebody before it had a pod.")
        }
    };
    let Some(job) = seen.job else {
        return if seen.job_was_seen { deleted() } else { Observed::Nothing };
    };
    if let Some(ended) = ended_by_the_job(job) {
        return ended;
    }
    if job.metadata.deletion_timestamp.is_some() {
        return deleted();
    }
    // It had a pod, and that went while nobody looked.
    if has_condition(job, "Complete") {
        return exited(0);
    }
    if has_condition(job, "Failed") {
        return died(Cause::Deleted, "Its pod was deleted by somebody.");
    }
    newest(seen.events, "Job", |reason| reason == "FailedCreate")
        .map_or(Observed::Nothing, |event| refused(said(event)))
}

/// The cluster does not take the pod; `said` by its Job.
fn refused(said: &str) -> Observed {
    let said = said.strip_prefix("Error creating: ").unwrap_or(said);
    let why = said.split_once(" is forbidden: ").map_or(said, |(_, why)| why);
    let waiting = |cause, what: &str, at_once| Observed::Waiting {
        cause,
        message: format!("{what}: {}.", tidy(why)),
        at_once,
    };
    // What may pass: objects that come later, a webhook that does not answer.
    let may_pass = ["error looking up service account", "failed calling webhook", "timeout", "try again"];
    if said.contains("exceeded quota") || said.contains("failed quota") {
        waiting(Cause::Quota, "The quota of its namespace is used up", false)
    } else if said.contains(UNCOUNTED) {
        waiting(Cause::Quota, "The quota of its namespace is not counted yet", false)
    } else if said.contains("because it is being terminated") {
        waiting(Cause::Deleted, "Its namespace is being deleted", true)
    } else {
        let at_once = !may_pass.iter().any(|text| said.contains(text));
        waiting(Cause::Denied, "The cluster does not take its pod", at_once)
    }
}

/// An attempt whose pod is there.
fn present(pod: &Pod, seen: &Seen<'_>) -> Observed {
    if let Some(ended) = taken_away(pod, seen).or_else(|| terminated(pod, seen)) {
        return ended;
    }
    if is_overdue(pod, seen.now) {
        return died(Cause::NodeLost, format!("Its node{} does not answer.", named(node(pod))));
    }
    let is_going = pod.metadata.deletion_timestamp.is_some();
    match phase(pod) {
        // Its container went before its node had looked at how it ended.
        "Failed" | "Succeeded" if is_going => vanished_without_a_trace(pod, seen),
        "Failed" => seen
            .job
            .and_then(ended_by_the_job)
            .unwrap_or_else(|| died(Cause::Unspecified, format!("Its pod failed{}.", because(pod)))),
        "Succeeded" => exited(0),
        _ if state(pod).is_some_and(|state| state.running.is_some()) => {
            Observed::Running { node: node(pod).map(str::to_owned) }
        }
        // Deleted before it ran: it will not.
        _ if is_going => vanished(pod, seen),
        _ => waiting(pod, seen),
    }
}

/// An attempt whose pod does not run yet.
fn waiting(pod: &Pod, seen: &Seen<'_>) -> Observed {
    let waiting = |cause, message, at_once| Observed::Waiting { cause, message, at_once };
    let scheduled = condition(pod, "PodScheduled").filter(|condition| condition.status == "False");
    if let Some(condition) = scheduled {
        // What the scheduler tried beside that says nothing new.
        let why = condition.message.as_deref().unwrap_or("the scheduler does not say why");
        let why = why.split(" preemption: ").next().unwrap_or(why);
        return waiting(Cause::Unschedulable, format!("No node has room for it: {}.", tidy(why)), false);
    }
    if let Some(refused) = state(pod).and_then(|state| state.waiting.as_ref()).and_then(|w| image(seen, w)) {
        return refused;
    }
    let Some(node) = node(pod) else { return Observed::Nothing };
    match newest(seen.events, "Pod", |reason| reason.starts_with("Failed") && reason != "FailedScheduling") {
        Some(event) => {
            let message = format!("Node {} cannot start its pod: {}.", tidy(node), tidy(said(event)));
            waiting(Cause::Unschedulable, message, false)
        }
        None => {
            waiting(Cause::Unspecified, format!("Node {} has not started its pod yet.", tidy(node)), false)
        }
    }
}

/// Why a container cannot be made; none while its node is only at work.
fn image(seen: &Seen<'_>, waiting: &ContainerStateWaiting) -> Option<Observed> {
    let image = tidy(&seen.spec.image);
    let said = waiting.message.as_deref().unwrap_or_default();
    let lower = said.to_lowercase();
    let is_absent = ["not found", "manifest unknown", "does not exist"].iter().any(|t| lower.contains(t));
    let (what, at_once) = match waiting.reason.as_deref()? {
        "ErrImagePull" | "ImagePullBackOff" => ("cannot be fetched", is_absent),
        "RegistryUnavailable" | "ImageInspectError" => ("cannot be fetched", false),
        "InvalidImageName" => ("has a name that is none", true),
        "ErrImageNeverPull" => ("is not on the node, and image_pull_policy is Never", true),
        "SignatureValidationFailed" => ("is not signed as the node demands", true),
        // What the node refuses about a container it refuses again.
        "CreateContainerConfigError" => ("cannot be run as asked", true),
        "CreateContainerError" | "RunContainerError" => ("cannot be started", false),
        _ => return None,
    };
    let colon = if said.is_empty() { "" } else { ": " };
    let message = format!("Image `{image}` {what}{colon}{}.", tidy(said));
    Some(Observed::Waiting { cause: Cause::Image, message, at_once })
}

/// The pod was ended by the cluster, and not because its program ended.
fn taken_away(pod: &Pod, seen: &Seen<'_>) -> Option<Observed> {
    let has_ended = matches!(phase(pod), "Failed") || state(pod).is_some_and(|s| s.terminated.is_some());
    let status = pod.status.as_ref();
    let reason = status.and_then(|status| status.reason.as_deref()).unwrap_or_default();
    let on_node = named(node(pod));
    let at = format!("node{on_node}");
    let taken = match reason {
        "Evicted" => died(Cause::Evicted, format!("Evicted from {at}{}.", because(pod))),
        "Preempting" => died(Cause::Evicted, format!("It made way on {at} for pods of the cluster itself.")),
        "Shutdown" | "NodeShutdown" | "Terminated" => {
            died(Cause::NodeLost, format!("Its {at} was shut down{}.", because(pod)))
        }
        "NodeLost" => died(Cause::NodeLost, format!("Its {at} does not answer.")),
        "DeadlineExceeded" => deadline(),
        // What a kubelet says of a pod it was given and does not take.
        reason if reason.starts_with("OutOf") || is_refusal(reason) => {
            not_started(Cause::Unschedulable, format!("Its {at} did not take it{}.", because(pod)))
        }
        _ => return target(pod).filter(|_| has_ended).or_else(|| deadline_of(seen).filter(|_| has_ended)),
    };
    Some(taken)
}

fn is_refusal(reason: &str) -> bool {
    ["NodeAffinity", "UnexpectedAdmissionError", "Topology", "AdmissionError"]
        .iter()
        .any(|prefix| reason.starts_with(prefix))
}

/// Why the cluster means to end the pod: a condition since 1.26.
fn target(pod: &Pod) -> Option<Observed> {
    let condition = condition(pod, "DisruptionTarget").filter(|condition| condition.status == "True")?;
    let at = format!("node{}", named(node(pod)));
    let said = condition.message.as_deref().map(tidy).filter(|said| !said.is_empty());
    let colon = said.map_or_else(String::new, |said| format!(": {said}"));
    Some(match condition.reason.as_deref().unwrap_or_default() {
        "PreemptionByScheduler" => {
            died(Cause::Evicted, format!("It made way on {at} for a more urgent pod{colon}."))
        }
        "EvictionByEvictionAPI" => died(Cause::Evicted, format!("Evicted from {at}{colon}.")),
        "TerminationByKubelet" => died(Cause::Evicted, format!("Ended by {at}{colon}.")),
        "DeletionByTaintManager" => {
            died(Cause::NodeLost, format!("Its {at} does not answer, or is not to run pods{colon}."))
        }
        "DeletionByPodGC" => died(Cause::NodeLost, format!("Its {at} is gone{colon}.")),
        _ => died(Cause::Evicted, format!("Taken from {at} by the cluster{colon}.")),
    })
}

/// A pod whose container has ended.
fn terminated(pod: &Pod, seen: &Seen<'_>) -> Option<Observed> {
    let ended: &ContainerStateTerminated = state(pod)?.terminated.as_ref()?;
    let said = ended.message.as_deref().unwrap_or_default();
    let code = ended.exit_code;
    Some(match ended.reason.as_deref().unwrap_or_default() {
        // Something the agent had started was; the runner came to its end all the same.
        "OOMKilled" if code == 0 => exited(code),
        "OOMKilled" => Observed::Ended {
            outcome: Outcome::Died,
            cause: Cause::OutOfMemory,
            exit_code: Some(code),
            message: format!(
                "It ran out of memory: it may use {} MiB. Make the task smaller, or have `pod.memory_mib` of the stage raised.",
                seen.spec.memory_bytes >> 20
            ),
        },
        "StartError" | "ContainerCannotRun" => {
            let message = format!("Image `{}` cannot be started: {}.", tidy(&seen.spec.image), tidy(said));
            not_started(Cause::Image, message)
        }
        // Not known, as of a pod whose node was away: what took it says more.
        "ContainerStatusUnknown" => died(Cause::NodeLost, format!("Its node{} lost it.", named(node(pod)))),
        // Told to end, and not by us. If it had returned before, the control plane knows.
        _ if pod.metadata.deletion_timestamp.is_some() => vanished_without_a_trace(pod, seen),
        _ => exited(code),
    })
}

/// How a runner ended that nothing was done to. What a container leaves as its last words is not
/// read: its agent writes them, too, and may write the run token.
fn exited(code: i32) -> Observed {
    let (outcome, message) = match code {
        0 => (Outcome::Exited, "The runner came to its end.".to_owned()),
        code if SIGNALS.contains(&(code - KILLED)) => {
            (Outcome::Died, format!("The runner was killed by signal {}.", code - KILLED))
        }
        code => (Outcome::Exited, format!("The runner ended without returning a result (exit code {code}).")),
    };
    Observed::Ended { outcome, cause: Cause::Unspecified, exit_code: Some(code), message }
}

/// A pod that is gone, or is going without having run, as it was when last seen.
fn vanished(pod: &Pod, seen: &Seen<'_>) -> Observed {
    taken_away(pod, seen)
        .or_else(|| terminated(pod, seen))
        .unwrap_or_else(|| vanished_without_a_trace(pod, seen))
}

/// The same, when nothing in the pod says why.
fn vanished_without_a_trace(pod: &Pod, seen: &Seen<'_>) -> Observed {
    let known = target(pod).or_else(|| deadline_of(seen)).or_else(|| by_event(pod, seen.events));
    if let Some(known) = known {
        return known;
    }
    match seen.job {
        None => died(Cause::Deleted, "Its Job was deleted by somebody."),
        Some(job) if job.metadata.deletion_timestamp.is_some() => {
            died(Cause::Deleted, "Its Job was deleted by somebody.")
        }
        Some(_) if is_overdue(pod, seen.now) => {
            died(Cause::NodeLost, format!("Its node{} does not answer.", named(node(pod))))
        }
        Some(_) => died(Cause::Deleted, "Its pod was deleted by somebody."),
    }
}

/// What older Kubernetes says of a pod's end in events alone.
fn by_event(pod: &Pod, events: &[Event]) -> Option<Observed> {
    let at = format!("node{}", named(node(pod)));
    let event = newest(events, "Pod", |reason| {
        ["Preempted", "TaintManagerEviction", "NodeControllerEviction", "Evicted"].contains(&reason)
    })?;
    let said = tidy(said(event));
    Some(match event.reason.as_deref().unwrap_or_default() {
        "Preempted" => died(Cause::Evicted, format!("It made way on {at} for a more urgent pod: {said}.")),
        "Evicted" => died(Cause::Evicted, format!("Evicted from {at}: {said}.")),
        _ => died(Cause::NodeLost, format!("Its {at} does not answer, or is not to run pods: {said}.")),
    })
}

/// Whether a pod should have been gone for a while: its node is silent.
fn is_overdue(pod: &Pod, now: DateTime<Utc>) -> bool {
    let due = pod.metadata.deletion_timestamp.as_ref();
    due.is_some_and(|Time(due)| now.timestamp() > due.as_second() + OVERDUE_SECONDS)
}

fn deadline_of(seen: &Seen<'_>) -> Option<Observed> {
    seen.job.and_then(ended_by_the_job)
}

/// A Job that was ended at its deadline. That it failed says nothing that its pod does not say.
fn ended_by_the_job(job: &Job) -> Option<Observed> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    // `FailureTarget` stands from 1.31 on while its pods still end.
    let failed = |kind: &str| kind == "Failed" || kind == "FailureTarget";
    let is_late = conditions.iter().any(|condition| {
        failed(&condition.type_)
            && condition.status == "True"
            && condition.reason.as_deref() == Some("DeadlineExceeded")
    });
    is_late.then(deadline)
}

fn has_condition(job: &Job, kind: &str) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.filter(|condition| condition.status == "True").any(|condition| condition.type_ == kind)
}

fn deadline() -> Observed {
    Observed::Ended {
        outcome: Outcome::Stopped,
        cause: Cause::Deadline,
        exit_code: None,
        message: "Stopped: deadline.".to_owned(),
    }
}

fn died(cause: Cause, message: impl Into<String>) -> Observed {
    Observed::Ended { outcome: Outcome::Died, cause, exit_code: None, message: message.into() }
}

fn not_started(cause: Cause, message: impl Into<String>) -> Observed {
    Observed::Ended { outcome: Outcome::NotStarted, cause, exit_code: None, message: message.into() }
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

/// The state of the container that runs the agent.
fn state(pod: &Pod) -> Option<&ContainerState> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == CONTAINER)?.state.as_ref()
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// ` worker-1`, or nothing when it has no node.
fn named(node: Option<&str>) -> String {
    node.map_or_else(String::new, |node| format!(" {}", tidy(node)))
}

/// `: why`, as the pod itself says it.
fn because(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let said = status.and_then(|status| status.message.as_ref().or(status.reason.as_ref()));
    said.map(|said| tidy(said))
        .filter(|said| !said.is_empty())
        .map_or_else(String::new, |said| format!(": {said}"))
}

/// The newest event about one kind of object whose reason is looked for.
fn newest<'a>(events: &'a [Event], kind: &str, wanted: impl Fn(&str) -> bool) -> Option<&'a Event> {
    let about = events.iter().filter(|event| event.involved_object.kind.as_deref() == Some(kind));
    about.filter(|event| event.reason.as_deref().is_some_and(&wanted)).max_by_key(|event| at(event))
}

fn at(event: &Event) -> Option<Timestamp> {
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let series =
        event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    last.or(series).or(event.event_time.as_ref().map(|time| time.0))
}

fn said(event: &Event) -> &str {
    event.message.as_deref().unwrap_or_default()
}

/// The beginning of a text, in one line, without what cannot be seen or a full stop at its end.
pub(crate) fn tidy(text: &str) -> String {
    let text = visible(text);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    let mut short: String = line.chars().take(CHARACTERS).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short.trim_end_matches(['.', ' ', ':']).to_owned()
}

#[cfg(test)]
mod tests;
