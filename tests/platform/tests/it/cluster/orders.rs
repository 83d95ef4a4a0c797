//! What people order of a run under way, and of the worker that has it.

use std::time::Duration;

use proto::admin::order_worker_request::Order;
use serde_json::json;

use crate::harness::{
    cluster::Cluster,
    pods::{POD_GO, PodPlan, Pods},
};

/// Well below the grace that a pod gets that is asked to end.
const AT_ONCE: Duration = Duration::from_secs(10);

/// A cancelled run's pod goes at once, and its place is another's. A drained worker's run goes on on
/// the other worker of the cluster, where it was, and neither touches what the other made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_makes_room_and_a_drained_one_goes_on_elsewhere() {
    let Some(cluster) = Cluster::at_hand("cancelling and draining").await else { return };
    let config = json!({
        "agents": { "checkpoint_seconds": 1 }, "executor": { "kubernetes": { "capacity": 1 } },
    });
    let mut pods = Pods::start(cluster, PodPlan { config, ..PodPlan::default() }).await;
    let (issue, cancelled) =
        pods.labelled("Never mind", &json!([{ "print": "at work" }, { "hang": true }])).await;
    pods.at_work(&cancelled, 1, "at work").await;
    let steps = json!([
        { "unless_restored": [
            { "write": { "path": "before.txt", "content": "before\n" } }, { "print": "edited" }, { "hang": true },
        ] },
        { "when_restored": [{ "write": { "path": "after.txt", "content": "after\n" } }] },
    ]);
    // There is one place: it waits for that.
    let (_, drained) = pods.labelled("Move on", &steps).await;
    pods.site.cancel(&cancelled).await.expect("cancelled");
    pods.site
        .until_within(AT_ONCE, "the cancelled run's pod to be gone", async || {
            pods.pods(&cancelled).await.is_empty().then_some(())
        })
        .await;
    pods.until_comment(issue, "cancelled").await;
    let name = pods.at_work(&drained, 1, "edited").await;
    pods.shown_running(&name).await;
    // The last one, for which there is little time, finds nothing that the platform does not have.
    pods.site.until_checkpoint(&drained).await;

    pods.another_worker("near").await;
    pods.until_worker("near", "ready").await;
    let said = pods.order("far", Order::Drain).await;
    assert!(said.contains("One attempt leaves it"), "{said}");
    pods.until_worker("far", "drained").await;
    pods.site.settled().await;
    let detail = pods.get(&drained).await;
    assert_eq!(detail.run.as_ref().expect("a run").state, "succeeded", "{detail:#?}");
    let [first, second] = detail.attempts.as_slice() else { panic!("two attempts: {detail:#?}") };
    // One that was stopped is no try; a lost one would be.
    assert_eq!((first.state.as_str(), first.worker.as_str()), ("stopped", "far"), "{detail:#?}");
    assert_eq!((second.worker.as_str(), &second.restored_from), ("near", &first.id), "{detail:#?}");
    let foreign: i64 = sqlx::query_scalar("select count(*) from foreign_objects")
        .fetch_one(&pods.site.db)
        .await
        .expect("a count");
    assert_eq!(foreign, 0, "one worker's objects are not strange to the other");
    pods.end().await;
}

/// As a Deployment rolls an upgrade out: the next process is there before the one before it is told
/// to end, and whoever ends by itself is started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_process_of_a_worker_goes_on_while_the_one_before_is_still_there() {
    let Some(cluster) = Cluster::at_hand("two processes of one worker").await else { return };
    let mut pods = Pods::start(cluster, PodPlan::default()).await;
    let steps = json!([{ "wait_for_file": POD_GO }, { "write": { "path": "a.txt", "content": "done\n" } }]);
    let (_, run) = pods.labelled("Survive an upgrade", &steps).await;
    pods.at_work(&run, 1, "waiting for").await;
    let uids = async |pods: &Pods| -> Vec<_> {
        pods.pods(&run).await.into_iter().map(|pod| pod.metadata.uid).collect()
    };
    let (before, process) = (uids(&pods).await, pods.worker.pid());
    pods.next_process();
    pods.site
        .until("the one before to stand aside", async || {
            pods.worker.log().contains("this process does nothing any more").then_some(())
        })
        .await;
    assert_eq!(uids(&pods).await, before, "the same pod");
    pods.let_go(&run).await;
    pods.site.settled().await;
    let detail = pods.get(&run).await;
    assert_eq!(detail.run.as_ref().expect("a run").state, "succeeded", "{detail:#?}");
    assert_eq!(detail.attempts.len(), 1, "{detail:#?}");
    assert_eq!(pods.worker.pid(), process, "it stays, and ends nobody");
    pods.end().await;
}
