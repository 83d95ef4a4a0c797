use std::sync::Mutex;

use domain::clock::Clock;
use proto::v1::{Declaration, attempt_ended::Cause};
use serde_json::{Value, json};
use telemetry::identity::{Identity, Subject};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    control_plane::ControlPlane,
    kubernetes::{
        attempts::{Attempts, View},
        fixtures::{self, ApiServer},
    },
};

/// An attempt whose AgentRun is there, and what the worker knows of the rest.
struct Story {
    api: ApiServer,
    controller: Controller,
    found: Found,
    view: tokio::sync::watch::Receiver<View>,
    /// Without them what is held would be dropped.
    _writers: Writers,
}

const OWNER: &str = "4f0c4b3e-0000-4000-8000-000000000003";

fn job() -> Value {
    json!({
        "metadata": {
            "name": fixtures::desired().name, "namespace": fixtures::desired().namespace, "uid": "j",
            "ownerReferences": [{ "apiVersion": "callboard.dev/v1alpha1", "kind": "AgentRun", "name": "a", "uid": OWNER }]
        },
        "spec": { "template": {} }
    })
}

fn pod(uid: &str, made: &str, status: &Value) -> Value {
    json!({
        "metadata": {
            "name": format!("attempt-{uid}"), "namespace": fixtures::desired().namespace, "uid": uid,
            "creationTimestamp": made,
            "ownerReferences": [{ "apiVersion": "batch/v1", "kind": "Job", "name": fixtures::desired().name, "uid": "j" }]
        },
        "spec": { "nodeName": "node-1", "containers": [] },
        "status": status
    })
}

fn running() -> Value {
    json!({ "phase": "Running", "containerStatuses": [{
        "name": "agent", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
        "state": { "running": { "startedAt": "2026-11-21T12:00:05Z" } }
    }] })
}

/// When it is.
#[derive(Debug)]
struct Now;

impl Clock for Now {
    fn now(&self) -> DateTime<Utc> {
        "2026-11-21T12:10:00Z".parse().expect("a time")
    }
}

/// Nobody is asked anything.
fn shared(attempts: Attempts) -> Shared {
    let worker = "0198a6a4-7c1e-7d5b-9a51-0a1b2c3d4e5f".parse().expect("an id");
    let control_plane = ControlPlane::connect(
        &"unix:/nowhere".parse().expect("an address"),
        Arc::new(Identity::generate(Subject::Worker(worker))),
        Arc::new(Now),
        "0198a6a4-7c1e-7d5b-9a51-0a1b2c3d4e60".parse().expect("an id"),
        Declaration::default(),
        CancellationToken::new(),
    );
    Shared {
        settings: fixtures::settings(),
        control_plane: control_plane.expect("an address"),
        clock: Arc::new(Now),
        attempts,
        foreign: Mutex::default(),
    }
}

impl Story {
    /// The cluster takes everything but what `refuses` answers for.
    fn new(
        jobs: &[Value],
        pods: &[Value],
        refuses: impl Fn(&str, &str) -> Option<(u16, Value)> + Clone + Send + Sync + 'static,
    ) -> Self {
        let desired = Arc::new(fixtures::desired());
        let api = ApiServer::default();
        let client = api.client(move |method, path| {
            refuses(method, path).or_else(|| match method {
                "PATCH" => {
                    Some((200, json!({ "metadata": { "name": "n", "uid": "j", "resourceVersion": "7" } })))
                }
                "GET" => Some((200, fixtures::nothing())),
                _ => None,
            })
        });
        let jobs: Vec<Job> = serde_json::from_value(Value::from(jobs)).expect("jobs");
        let pods: Vec<Pod> = serde_json::from_value(Value::from(pods)).expect("pods");
        let (namespace, writers) = Namespace::holding(client, &desired.namespace, &jobs, &pods);
        let attempts = Attempts::default();
        let view = attempts.expect(&desired.namespace, &desired.name);
        let digest = desired.spec.digest();
        attempts.begin(Ours { desired: Arc::clone(&desired), uid: OWNER.into(), digest });
        let found = serde_json::from_value(json!({
            "metadata": { "name": desired.name, "uid": OWNER },
            "spec": serde_json::to_value(&desired.spec).expect("JSON"),
        }));
        let controller = Controller { namespace, shared: Arc::new(shared(attempts)) };
        Self { api, controller, found: found.expect("an AgentRun"), view, _writers: writers }
    }

    async fn look(&self) -> View {
        self.controller.look(&self.found).await.expect("looked at");
        self.view.borrow().clone()
    }
}

#[tokio::test]
async fn a_job_that_the_watch_has_not_told_of_yet_was_not_deleted() {
    let story = Story::new(&[], &[], |_, _| None);
    for _ in 0..2 {
        assert!(matches!(story.look().await, View::Seen(Observed::Nothing)));
    }
    let jobs =
        story.api.asked().iter().filter(|call| call.starts_with("PATCH") && call.contains("/jobs/")).count();
    assert_eq!(jobs, 1, "it is made once");
}

#[tokio::test]
async fn an_agent_at_work_does_not_end_because_something_is_not_put_back() {
    let no = json!({ "kind": "Status", "status": "Failure", "code": 422, "message": "no Secrets today" });
    let story = Story::new(&[job()], &[pod("p", "2026-11-21T12:00:00Z", &running())], move |method, path| {
        (method == "PATCH" && path.contains("/secrets/")).then(|| (422, no.clone()))
    });
    assert!(matches!(story.look().await, View::Seen(Observed::Running { .. })));
    assert!(story.api.asked().iter().any(|call| call.contains("/secrets/")), "it was tried");
}

#[tokio::test]
async fn a_second_pod_of_its_job_is_ended_with_the_job() {
    let mut first = pod("first", "2026-11-21T12:00:00Z", &running());
    first["metadata"]["deletionTimestamp"] = "2026-11-21T12:10:10Z".into();
    let second = pod("second", "2026-11-21T12:09:55Z", &json!({ "phase": "Pending" }));
    let story = Story::new(&[job()], &[first, second], |_, _| None);
    assert!(matches!(story.look().await, View::Seen(Observed::Running { .. })), "the first ends by itself");
    let asked = story.api.asked();
    let deleted: Vec<_> = asked.iter().filter(|call| call.starts_with("DELETE")).collect();
    assert!(
        deleted.len() == 2 && deleted[0].contains("/jobs/") && deleted[1].ends_with("/pods/attempt-second"),
        "{deleted:?}"
    );
}

#[tokio::test]
async fn a_node_that_does_not_start_a_pod_is_asked_why() {
    let story = Story::new(
        &[job()],
        &[pod("p", "2026-11-21T11:00:00Z", &json!({ "phase": "Pending" }))],
        |_, path| {
            let event = json!({
                "metadata": { "name": "e" }, "involvedObject": { "kind": "Pod" }, "reason": "FailedMount",
                "message": "no such volume", "lastTimestamp": "2026-11-21T12:09:00Z"
            });
            path.ends_with("/events").then(|| (200, json!({ "metadata": {}, "items": [event] })))
        },
    );
    let View::Seen(Observed::Waiting { cause, message, .. }) = story.look().await else { panic!("it waits") };
    assert_eq!(message, "Node node-1 cannot start its pod: no such volume.");
    assert_eq!(cause, Cause::Unschedulable, "another node may");
}
