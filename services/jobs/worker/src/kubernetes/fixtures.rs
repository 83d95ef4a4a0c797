//! What tests of this folder start from.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::{Client, client::Body};
use proto::v1::{AttemptLease, Limits, Placement};

use super::{AgentRun, Gateway, ImagePullPolicy, KubernetesSettings, desired::Desired, objects::Children};

pub(crate) fn gateway() -> Gateway {
    Gateway {
        url: "https://callboard-agents:8081".parse().expect("a URL"),
        ip: "10.213.0.1".parse().expect("an address"),
        ca: "-----BEGIN CERTIFICATE-----\n".into(),
        pods: None,
    }
}

pub(crate) fn settings() -> KubernetesSettings {
    KubernetesSettings {
        kubeconfig: None,
        capacity: 4,
        image: "registry.example/agent:1".into(),
        image_pull_policy: ImagePullPolicy::IfNotPresent,
        image_pull_secrets: Vec::new(),
        gateway: gateway(),
        cpu_millis: 1000,
        storage_bytes: 8 << 30,
        patience: Duration::from_secs(600),
        priority_classes: BTreeMap::new(),
    }
}

pub(crate) fn lease() -> AttemptLease {
    AttemptLease {
        attempt_id: "019bf4a0-0000-7000-8000-000000000001".into(),
        run_id: "019bf4a0-0000-7000-8000-000000000002".into(),
        project: "demo".into(),
        stage: "dev".into(),
        number: 1,
        fence: 1,
        run_token: "the-run-token".into(),
        deadline_seconds: 3600,
        limits: Some(Limits { memory_bytes: 4 << 30, ..Limits::default() }),
        trace_id: "0af7651916cd43dd8448eb211c80319c".into(),
        lease_seconds: 90,
        namespace: "callboard-demo-374708ff".into(),
        placement: Some(Placement::default()),
    }
}

pub(crate) fn desired() -> Desired {
    Desired::of(lease(), &settings()).expect("a lease that can be run")
}

/// Its `AgentRun` as the cluster has it.
pub(crate) fn owner(desired: &Desired) -> AgentRun {
    let mut owner = desired.agent_run();
    owner.metadata.uid = Some("4f0c4b3e-0000-4000-8000-000000000003".into());
    owner
}

pub(crate) fn pod_template() -> PodTemplateSpec {
    let desired = desired();
    let children = Children::of(&desired, &owner(&desired), &settings()).expect("children");
    children.job.spec.expect("a spec").template
}

/// An API server that answers from a table.
#[derive(Clone, Default)]
pub(crate) struct ApiServer(Arc<Mutex<Vec<String>>>);

impl ApiServer {
    /// What was asked so far: `DELETE /api/v1/namespaces/n/pods/p`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").clone()
    }

    /// `answer` is given the method and the path; what it does not know is not found.
    pub(crate) fn client(
        &self,
        answer: impl Fn(&str, &str) -> Option<(u16, serde_json::Value)> + Clone + Send + Sync + 'static,
    ) -> Client {
        let asked = Arc::clone(&self.0);
        let service = tower::service_fn(move |request: Request<Body>| {
            let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
            asked.lock().expect("not poisoned").push(format!("{method} {path}"));
            let missing = || {
                (
                    404,
                    serde_json::json!({
                        "kind": "Status", "status": "Failure", "reason": "NotFound", "message": "not found", "code": 404
                    }),
                )
            };
            let (code, body) = answer(&method, &path).unwrap_or_else(missing);
            let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            std::future::ready(Ok::<_, Infallible>(response.expect("a response")))
        });
        Client::new(service, "default")
    }
}

/// An empty list, as the API server answers it.
pub(crate) fn nothing() -> serde_json::Value {
    serde_json::json!({ "kind": "List", "apiVersion": "v1", "metadata": {}, "items": [] })
}
