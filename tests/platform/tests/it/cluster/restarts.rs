//! `kill -9` of the worker in every phase of an attempt: the next process goes on with it.

use serde_json::json;
use telemetry::steps::Step;

use crate::{
    crash_matrix::is_the_clusters,
    harness::{
        REPOSITORY,
        cluster::Cluster,
        pods::{POD_GO, PodPlan, Pods},
    },
};

/// Where the worker dies.
#[derive(Clone, Copy, Debug)]
enum Dies {
    /// At a step of its own that writes.
    At(Step, &'static str),
    /// While the agent works.
    AtWork,
    /// While the agent works, and it comes to its end before there is a worker again.
    UntilReturned,
}

/// Every phase there is: a new step of the worker's is one more.
fn phases() -> Vec<Dies> {
    let steps = Step::ALL.iter().filter(|step| is_the_clusters(**step));
    steps
        .flat_map(|step| [Dies::At(*step, "before"), Dies::At(*step, "after")])
        .chain([Dies::AtWork, Dies::UntilReturned])
        .collect()
}

/// The worker's process, as the control plane knows it.
async fn process(pods: &Pods) -> Option<sqlx::types::Uuid> {
    sqlx::query_scalar("select process_id from workers where name = 'far'")
        .fetch_one(&pods.site.db)
        .await
        .expect("the worker")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_in_any_phase_goes_on_with_its_attempt() {
    let Some(cluster) = Cluster::at_hand("killing the worker in every phase").await else { return };
    let pods = Pods::start(cluster, PodPlan::default()).await;
    let mut killed = 0;
    for (number, dies) in phases().into_iter().enumerate() {
        let mut steps = vec![json!({ "write": { "path": format!("{number}.txt"), "content": "done\n" } })];
        killed += match dies {
            Dies::At(step, moment) => {
                let before = process(&pods).await;
                pods.worker.kill_and_crash_at(format!("{step}:{moment}"));
                // A run that is queued before the next is there is given to the one that died.
                let is_another = async || (process(&pods).await != before).then_some(());
                pods.site.until("the worker's next process", is_another).await;
                2
            }
            Dies::AtWork | Dies::UntilReturned => {
                steps.insert(0, json!({ "wait_for_file": POD_GO }));
                1
            }
        };
        let (_, run) = pods.labelled(&format!("{dies:?}"), &json!(steps)).await;
        match dies {
            Dies::At(..) => {}
            Dies::AtWork => {
                pods.at_work(&run, 1, "waiting for").await;
                pods.worker.kill();
                pods.let_go(&run).await;
            }
            Dies::UntilReturned => {
                pods.at_work(&run, 1, "waiting for").await;
                pods.worker.signal(rustix::process::Signal::STOP);
                pods.let_go(&run).await;
                let returned =
                    "select exists (select from attempts where run_id = $1::uuid and state = 'returned')";
                pods.site
                    .until("the result to be returned", async || {
                        let returned = sqlx::query_scalar::<_, bool>(returned).bind(&run);
                        returned.fetch_one(&pods.site.db).await.is_ok_and(|it| it).then_some(())
                    })
                    .await;
                pods.worker.kill();
            }
        }
        pods.site
            .until(&format!("the kill: {dies:?}"), async || (pods.worker.killed() >= killed).then_some(()))
            .await;
        pods.site.settled().await;
        pods.nothing_left().await;
        let detail = pods.get(&run).await;
        assert_eq!(detail.run.as_ref().expect("a run").state, "succeeded", "{dies:?}: {detail:#?}");
        assert_eq!(detail.attempts.len(), 1, "{dies:?}: the attempt goes on, no other is made: {detail:#?}");
        assert_eq!(pods.worker.killed(), killed, "{dies:?}");
        assert_eq!(pods.site.github.pull_requests(REPOSITORY).len(), number + 1, "{dies:?}");
    }
    pods.end().await;
}
