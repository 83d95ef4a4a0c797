//! The worker's connection to the API server is cut for half a minute.

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    cluster::Cluster,
    pods::{POD_GO, PodPlan, Pods},
};

/// How long; open watches end too.
const CUT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_minute_without_the_api_server_costs_nothing_but_time() {
    let Some(cluster) = Cluster::at_hand("a cut to the API server").await else { return };
    let pods = Pods::start(cluster, PodPlan::default()).await;
    let steps = |name: &str| {
        json!([
            { "print": "at work" }, { "wait_for_file": POD_GO },
            { "write": { "path": format!("{name}.txt"), "content": "done\n" } },
        ])
    };
    // One comes to its end meanwhile, one works on, one has yet to begin.
    let (_, ends) = pods.labelled("Ends meanwhile", &steps("ends")).await;
    let (_, works) = pods.labelled("Works on", &steps("works")).await;
    for run in [&ends, &works] {
        pods.at_work(run, 1, "waiting for").await;
    }
    pods.wire.cut();
    let over = tokio::time::Instant::now() + CUT;
    let (_, begins) = pods.labelled("Begins meanwhile", &steps("begins")).await;
    pods.let_go(&ends).await;
    pods.site
        .until("the result to be published without the API server", async || {
            (!pods.site.github.pull_requests(crate::harness::REPOSITORY).is_empty()).then_some(())
        })
        .await;
    tokio::time::sleep_until(over).await;
    assert_eq!(pods.pods(&begins).await.len(), 0, "nothing was made without the API server");
    pods.wire.mend();
    pods.at_work(&begins, 1, "waiting for").await;
    pods.let_go(&begins).await;
    pods.let_go(&works).await;
    pods.site.settled().await;
    for run in [&ends, &works, &begins] {
        let detail = pods.get(run).await;
        assert_eq!(detail.run.as_ref().expect("a run").state, "succeeded", "{detail:#?}");
        assert_eq!(detail.attempts.len(), 1, "no attempt was given up: {detail:#?}");
    }
    pods.end().await;
}
