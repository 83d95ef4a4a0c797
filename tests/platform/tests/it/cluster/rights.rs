//! The worker's Role, compared with the calls that the worker makes.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use telemetry::steps::Step;

use crate::harness::{
    certificates::certificates,
    cluster::Cluster,
    folder,
    pods::{PodPlan, Pods, rights},
};

/// One process does all there is to do: it finds what was made and never reported, reads the log of
/// a runner that never said hello, and asks why a Job has no pod.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_role_has_what_the_worker_does_and_nothing_else() {
    let Some(cluster) = Cluster::at_hand("comparing the Role with what the worker does").await else {
        return;
    };
    // Not the one that signed the agent gateway's certificate.
    let another = folder();
    certificates(another.path(), "somebody-else");
    let config =
        json!({ "executor": { "kubernetes": { "gateway_ca_file": another.path().join("ca.pem") } } });
    let pods = Pods::start(cluster, PodPlan { config, ..PodPlan::default() }).await;
    pods.worker.kill_and_crash_at(format!("{}:after", Step::AgentRunMade));
    let (_, run) = pods.labelled("Find no gateway", &json!([])).await;
    pods.site.settled().await;
    assert_eq!(pods.worker.killed(), 2);
    let detail = pods.get(&run).await;
    assert_eq!(detail.run.expect("a run").state, "failed");
    let last = detail.attempts.last().expect("an attempt");
    assert!(last.message.contains("Its last line: "), "what its log says: {last:#?}");

    let quotas = pods.cluster.all::<ResourceQuota>(pods.namespace());
    let none = Patch::Merge(json!({ "spec": { "hard": { "pods": "0" } } }));
    quotas.patch("callboard", &PatchParams::default(), &none).await.expect("an administrator may");
    let (issue, run) = pods.labelled("Find no room", &json!([])).await;
    pods.until_comment(issue, "quota").await;
    pods.site.cancel(&run).await.expect("cancelled");
    pods.site.settled().await;
    pods.nothing_left().await;

    let mut done = pods.asked();
    // Whoever applies an object has to be allowed to make it.
    let applied = done.iter().filter_map(|call| call.strip_prefix("patch ").filter(|it| !it.contains('/')));
    let made: BTreeSet<String> = applied.map(|what| format!("create {what}")).collect();
    done.extend(made);
    assert_eq!(done, rights());
    pods.end().await;
}
