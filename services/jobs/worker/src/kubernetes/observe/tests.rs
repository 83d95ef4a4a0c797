//! What clusters say, as they say it: Kubernetes 1.20 where it is marked so, otherwise 1.33 and later.

use serde_json::{Value, json};

use super::*;
use crate::kubernetes::fixtures;

/// When it is, in the fixtures.
const NOW: &str = "2026-11-21T12:10:00Z";

/// What is known of an attempt, as JSON.
#[derive(Default)]
struct Told {
    job: Option<Value>,
    job_was_seen: bool,
    has_run: bool,
    pod: Option<Value>,
    last_pod: Option<Value>,
    events: Vec<Value>,
}

impl Told {
    fn pod(pod: Value) -> Self {
        Self { job: Some(job(json!({ "active": 1 }))), job_was_seen: true, pod: Some(pod), ..Self::default() }
    }

    /// The pod is gone; the Job is not.
    fn gone(pod: Value) -> Self {
        Self { pod: None, last_pod: Some(pod.clone()), ..Self::pod(pod) }
    }

    fn event(mut self, kind: &str, reason: &str, message: &str) -> Self {
        self.events.push(event(kind, reason, message, "2026-11-21T12:09:00Z"));
        self
    }

    fn observed(self) -> Observed {
        fn read<T: serde::de::DeserializeOwned>(value: Option<Value>) -> Option<T> {
            value.map(|value| serde_json::from_value(value).expect("an object of the cluster"))
        }
        let (job, pod, last_pod) = (read::<Job>(self.job), read::<Pod>(self.pod), read::<Pod>(self.last_pod));
        let events: Vec<Event> = self.events.into_iter().filter_map(|event| read(Some(event))).collect();
        let spec = fixtures::desired().spec;
        observe(&Seen {
            spec: &spec,
            job: job.as_ref(),
            job_was_seen: self.job_was_seen,
            has_run: self.has_run,
            pod: pod.as_ref(),
            last_pod: last_pod.as_ref(),
            events: &events,
            now: NOW.parse().expect("a time"),
        })
    }
}

fn event(kind: &str, reason: &str, message: &str, last: &str) -> Value {
    json!({
        "metadata": { "name": "attempt-1.17a0", "namespace": "callboard-demo-374708ff" },
        "involvedObject": { "kind": kind, "name": "attempt-1" },
        "type": "Warning", "reason": reason, "message": message, "lastTimestamp": last, "count": 1
    })
}

fn job(status: Value) -> Value {
    let mut job = json!({ "metadata": { "name": "attempt-1", "uid": "j" }, "spec": { "template": {} } });
    job["status"] = status;
    job
}

fn failed_job(kind: &str, reason: &str) -> Value {
    json!({ "conditions": [{ "type": kind, "status": "True", "reason": reason, "message": "Job failed" }] })
}

fn pod(status: Value) -> Value {
    let mut pod = json!({
        "metadata": { "name": "attempt-1-x7k2p", "uid": "p", "creationTimestamp": "2026-11-21T12:00:00Z" },
        "spec": {
            "nodeName": "node-1",
            "containers": [{
                "name": "agent", "image": "registry.example/agent:1",
                "resources": { "limits": { "memory": "4Gi" } }
            }]
        }
    });
    pod["status"] = status;
    pod
}

/// `pod`, deleted so that it had to be gone by then.
fn deleted(mut pod: Value, due: &str) -> Value {
    pod["metadata"]["deletionTimestamp"] = due.into();
    pod["metadata"]["deletionGracePeriodSeconds"] = 15.into();
    pod
}

fn unscheduled(condition: &Value) -> Value {
    let mut pod = pod(json!({ "phase": "Pending", "qosClass": "Guaranteed", "conditions": [condition] }));
    pod["spec"].as_object_mut().expect("a spec").remove("nodeName");
    pod
}

fn container(phase: &str, state: &Value) -> Value {
    json!({
        "phase": phase,
        "containerStatuses": [{
            "name": "agent", "image": "registry.example/agent:1", "imageID": "", "ready": false,
            "restartCount": 0, "state": state
        }]
    })
}

fn waits(reason: &str, message: &str) -> Told {
    Told::pod(pod(container("Pending", &json!({ "waiting": { "reason": reason, "message": message } }))))
}

fn running() -> Value {
    pod(container("Running", &json!({ "running": { "startedAt": "2026-11-21T12:00:05Z" } })))
}

fn over(code: i32, reason: &str, message: &str) -> Value {
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    pod(container(
        phase,
        &json!({ "terminated": { "exitCode": code, "reason": reason, "message": message } }),
    ))
}

fn disrupted(mut pod: Value, reason: &str, message: &str) -> Value {
    pod["status"]["conditions"] =
        json!([{ "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message }]);
    pod
}

fn failed(reason: &str, message: &str) -> Told {
    Told::pod(pod(json!({ "phase": "Failed", "reason": reason, "message": message })))
}

const SOON: &str = "2026-11-21T12:10:10Z";
const LONG_AGO: &str = "2026-11-21T12:05:00Z";

/// Every way an attempt waits.
#[test]
fn why_it_waits_is_said_in_one_sentence() {
    let no_room = |message: &str| {
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message
        });
        Told::pod(unscheduled(&condition))
    };
    let no_pod = || Told { job: Some(job(json!({}))), job_was_seen: true, ..Told::default() };
    let refused = |why: &str| no_pod().event("Job", "FailedCreate", why);
    let forbidden =
        |why: &str| refused(&format!("Error creating: pods \"attempt-1-x7k2p\" is forbidden: {why}"));
    let cases = [
        // 1.20, then later.
        no_room("0/1 nodes are available: 1 Insufficient cpu."),
        no_room(
            "0/3 nodes are available: 1 node(s) had untolerated taint {gpu: }, 2 Insufficient memory. preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod.",
        ),
        waits("ContainerCreating", ""),
        waits("ContainerCreating", "").event(
            "Pod",
            "FailedCreatePodSandBox",
            "Failed to create pod sandbox: plugin type=\"bridge\" failed (add): no IP addresses available",
        ),
        waits(
            "ErrImagePull",
            "rpc error: code = Unknown desc = failed to pull and unpack image \"registry.example/agent:1\": failed to resolve reference \"registry.example/agent:1\": dial tcp: lookup registry.example: no such host",
        ),
        waits(
            "ErrImagePull",
            "rpc error: code = NotFound desc = failed to pull and unpack image \"registry.example/agent:1\": registry.example/agent:1: not found",
        ),
        waits("ImagePullBackOff", "Back-off pulling image \"registry.example/agent:1\""),
        waits(
            "InvalidImageName",
            "Failed to apply default image tag \"Agent:1\": couldn't parse image reference \"Agent:1\": invalid reference format: repository name must be lowercase",
        ),
        waits(
            "ErrImageNeverPull",
            "Container image \"registry.example/agent:1\" is not present with pull policy of Never",
        ),
        waits("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
        waits("CreateContainerError", "failed to reserve container name"),
        forbidden("exceeded quota: callboard, requested: pods=1, used: pods=4, limited: pods=4"),
        forbidden("status unknown for quota: callboard, resources: limits.cpu,limits.memory,pods"),
        forbidden(
            "violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"agent\" must set securityContext.allowPrivilegeEscalation=false)",
        ),
        forbidden("maximum memory usage per Container is 1Gi, but limit is 4Gi"),
        forbidden("no PriorityClass with name high was found"),
        forbidden(
            "error looking up service account callboard-demo-374708ff/attempt-1: serviceaccount \"attempt-1\" not found",
        ),
        forbidden(
            "unable to create new content in namespace callboard-demo-374708ff because it is being terminated",
        ),
        refused(
            "Error creating: admission webhook \"policy.example\" denied the request: no images from there",
        ),
        refused(
            "Error creating: Internal error occurred: failed calling webhook \"policy.example\": connect: connection refused",
        ),
    ];
    let said = cases.map(|told| match told.observed() {
        Observed::Waiting { cause, message, at_once } => {
            format!("{}{}: {message}", cause.as_str_name(), if at_once { " at once" } else { "" })
        }
        other @ (Observed::Nothing | Observed::Running { .. } | Observed::Ended { .. }) => {
            format!("{other:?}")
        }
    });
    insta::assert_snapshot!(said.join("\n"));
}

/// Every way an attempt ends.
#[test]
fn how_it_ended_is_said_in_one_sentence() {
    let late = |kind: &str| job(failed_job(kind, "DeadlineExceeded"));
    let with_job = |job: Value, told: Told| Told { job: Some(job), ..told };
    let without_job = |told: Told| Told { job: None, ..told };
    let deleted_job = || {
        let mut job = job(json!({ "active": 1 }));
        job["metadata"]["deletionTimestamp"] = SOON.into();
        job
    };
    let another = {
        let mut pod = running();
        pod["metadata"]["uid"] = "p2".into();
        pod
    };
    let cases = [
        // What the runner did.
        ("exit 0", Told::pod(over(0, "Completed", ""))),
        ("exit 1", Told::pod(over(1, "Error", "the run token, in words of the agent\n\n"))),
        ("exit 1, silent", Told::pod(over(1, "Error", ""))),
        ("exit 255", Told::pod(over(255, "Error", ""))),
        ("signal", Told::pod(over(137, "Error", ""))),
        (
            "no runner in the image",
            Told::pod(over(
                128,
                "StartError",
                "failed to create containerd task: OCI runtime create failed: exec: \"agent-runner\": executable file not found in $PATH: unknown",
            )),
        ),
        // What it used.
        ("memory", Told::pod(over(137, "OOMKilled", ""))),
        ("memory of something it had started", Told::pod(over(0, "OOMKilled", ""))),
        (
            "1.20 files",
            failed(
                "Evicted",
                "Pod ephemeral local storage usage exceeds the total limit of containers 8Gi. ",
            ),
        ),
        ("time", with_job(late("Failed"), Told::gone(running()))),
        (
            "time, pod ending",
            with_job(late("FailureTarget"), Told::pod(deleted(over(143, "Error", ""), SOON))),
        ),
        ("time, no pod", Told { job: Some(late("Failed")), job_was_seen: true, ..Told::default() }),
        // What the cluster did.
        (
            "1.20 evicted",
            failed(
                "Evicted",
                "The node was low on resource: memory. Container agent was using 3Gi, which exceeds its request of 0. ",
            ),
        ),
        (
            "evicted",
            Told::pod(disrupted(
                over(137, "Error", ""),
                "TerminationByKubelet",
                "The node was low on resource: memory.",
            )),
        ),
        (
            "drained",
            Told::gone(disrupted(
                deleted(running(), SOON),
                "EvictionByEvictionAPI",
                "Eviction API: evicting",
            )),
        ),
        (
            "1.20 preempted",
            Told::gone(deleted(running(), SOON)).event(
                "Pod",
                "Preempted",
                "Preempted by default/urgent on node node-1",
            ),
        ),
        (
            "preempted",
            Told::gone(disrupted(
                deleted(running(), SOON),
                "PreemptionByScheduler",
                "default-scheduler: preempting to accommodate a higher priority pod",
            )),
        ),
        (
            "1.20 node lost",
            Told::pod({
                let mut pod = deleted(running(), LONG_AGO);
                pod["status"]["reason"] = "NodeLost".into();
                pod
            }),
        ),
        (
            "1.20 taint",
            Told::gone(deleted(running(), SOON)).event(
                "Pod",
                "TaintManagerEviction",
                "Marking for deletion Pod callboard-demo-374708ff/attempt-1-x7k2p",
            ),
        ),
        ("node silent", Told::pod(deleted(running(), LONG_AGO))),
        (
            "taint",
            Told::gone(disrupted(
                deleted(running(), SOON),
                "DeletionByTaintManager",
                "Taint manager: deleting due to NoExecute taint",
            )),
        ),
        (
            "node gone",
            Told::pod(disrupted(
                over(137, "ContainerStatusUnknown", ""),
                "DeletionByPodGC",
                "PodGC: node no longer exists",
            )),
        ),
        (
            "node came back",
            Told::pod(over(
                137,
                "ContainerStatusUnknown",
                "The container could not be located when the pod was terminated",
            )),
        ),
        ("1.20 shut down", failed("Shutdown", "Node is shutting, evicting pods")),
        ("shut down", failed("Terminated", "Pod was terminated in response to imminent node shutdown.")),
        (
            "not taken",
            failed(
                "OutOfcpu",
                "Node didn't have enough resource: cpu, requested: 1000, used: 1900, capacity: 2000",
            ),
        ),
        ("not taken either", failed("NodeAffinity", "Predicate NodeAffinity failed")),
        ("1.20 failed", failed("UnexpectedAdmissionError", "Allocate failed")),
        ("failed", Told::pod(pod(json!({ "phase": "Failed" })))),
        // What somebody did.
        ("pod deleted", Told::gone(running())),
        ("pod deleted, ended in its grace", Told::pod(deleted(over(0, "Completed", ""), SOON))),
        (
            "pod deleted before it ran",
            Told::pod(deleted(
                pod(container("Pending", &json!({ "waiting": { "reason": "ContainerCreating" } }))),
                SOON,
            )),
        ),
        (
            "1.20 pod deleted, failed without a word",
            Told::pod(deleted(pod(json!({ "phase": "Failed" })), SOON)),
        ),
        (
            "1.20 job deleted, its pod failed without a word",
            without_job(Told::pod(deleted(
                pod(container("Failed", &json!({ "waiting": { "reason": "ContainerCreating" } }))),
                SOON,
            ))),
        ),
        ("1.20 pod deleted, another in its place", Told { last_pod: Some(running()), ..Told::pod(another) }),
        (
            "pod deleted while nobody looked",
            Told {
                job: Some(job(failed_job("Failed", "BackoffLimitExceeded"))),
                job_was_seen: true,
                ..Told::default()
            },
        ),
        ("job deleted", without_job(Told::gone(running()))),
        ("job being deleted", with_job(deleted_job(), Told::gone(running()))),
        ("job deleted before its pod", Told { job_was_seen: true, ..Told::default() }),
        ("job deleted while nobody looked", Told { job_was_seen: true, has_run: true, ..Told::default() }),
    ];
    let said = cases.map(|(name, told)| match told.observed() {
        Observed::Ended { outcome, cause, exit_code, message } => {
            let code = exit_code.map_or_else(String::new, |code| format!(" {code}"));
            format!("{name}: {} {}{code}: {message}", outcome.as_str_name(), cause.as_str_name())
        }
        other @ (Observed::Nothing | Observed::Running { .. } | Observed::Waiting { .. }) => {
            format!("{name}: {other:?}")
        }
    });
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn a_pod_that_runs_or_is_about_to_is_left_alone() {
    let on = |node: &str| Observed::Running { node: Some(node.into()) };
    assert_eq!(Told::pod(running()).observed(), on("node-1"));
    assert_eq!(Told { last_pod: Some(running()), ..Told::pod(running()) }.observed(), on("node-1"));
    // It takes its last checkpoint.
    assert_eq!(Told::pod(deleted(running(), SOON)).observed(), on("node-1"));
    let evicted = disrupted(deleted(running(), SOON), "EvictionByEvictionAPI", "Eviction API: evicting");
    assert_eq!(Told::pod(evicted).observed(), on("node-1"));
    for nothing in [
        Told::default(),
        Told { job: Some(job(json!({}))), job_was_seen: true, ..Told::default() },
        Told::pod({
            let mut pod = pod(json!({ "phase": "Pending" }));
            pod["spec"].as_object_mut().expect("a spec").remove("nodeName");
            pod
        }),
    ] {
        assert_eq!(nothing.observed(), Observed::Nothing);
    }
}

#[test]
fn the_newest_event_counts() {
    let refused = |why: &str, at: &str| event("Job", "FailedCreate", why, at);
    let told = Told {
        job: Some(job(json!({}))),
        job_was_seen: true,
        events: vec![
            refused("Error creating: pods is forbidden: exceeded quota: callboard", "2026-11-21T12:09:00Z"),
            refused("Error creating: something else", "2026-11-21T12:01:00Z"),
        ],
        ..Told::default()
    };
    assert!(matches!(told.observed(), Observed::Waiting { cause: Cause::Quota, at_once: false, .. }));
}

#[test]
fn what_the_cluster_says_is_cleaned_and_bounded() {
    let hostile = format!("\u{1b}[31mfirst\u{202e}\r\nsecond\0 {}", "x".repeat(64 * 1024));
    let message = |told: Told| match told.observed() {
        Observed::Ended { message, .. } | Observed::Waiting { message, .. } => message,
        other @ (Observed::Nothing | Observed::Running { .. }) => format!("{other:?}"),
    };
    for told in [
        Told::pod(over(1, "Error", &hostile)),
        Told::pod(over(128, "StartError", &hostile)),
        failed("Evicted", &hostile),
        failed("Some\u{7}thing", ""),
        waits("ErrImagePull", &hostile),
        Told { job: Some(job(json!({}))), job_was_seen: true, ..Told::default() }.event(
            "Job",
            "FailedCreate",
            &hostile,
        ),
    ] {
        let message = message(told);
        assert!(
            !message.chars().any(|c| c.is_control() || c == '\u{202e}') && message.chars().count() < 500,
            "{message:?}"
        );
    }
}
