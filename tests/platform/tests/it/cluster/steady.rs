//! A worker with nothing to do asks the API server for nothing: it watches.

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    cluster::Cluster,
    pods::{POD_GO, PodPlan, Pods},
};

/// Watches while one run works, for so long; returns what else was asked meanwhile.
async fn asked_in(long: Duration) {
    let Some(cluster) = Cluster::at_hand("the steady state").await else { return };
    let pods = Pods::start(cluster, PodPlan::default()).await;
    let (_, run) = pods.labelled("Take your time", &json!([{ "wait_for_file": POD_GO }])).await;
    let name = pods.at_work(&run, 1, "waiting for").await;
    // The last that follows from the agent's start.
    pods.shown_running(&name).await;
    let calls = || {
        let mut calls = pods.counters("callboard_cluster_calls_total");
        calls.retain(|labels, _| !labels.contains("watch"));
        calls
    };
    let before = calls();
    assert!(!before.is_empty(), "its calls are counted");
    tokio::time::sleep(long).await;
    assert_eq!(calls(), before, "only watches");
    pods.let_go(&run).await;
    pods.site.settled().await;
    pods.end().await;
}

/// Longer than the API server lets a watch go on: each kind's is begun anew meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_in_its_steady_state_only_watches() {
    asked_in(Duration::from_secs(70)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten minutes; `cargo xtask test --long` runs it"]
async fn a_worker_in_its_steady_state_only_watches_for_ten_minutes() {
    asked_in(Duration::from_secs(600)).await;
}
