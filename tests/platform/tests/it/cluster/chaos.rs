//! What a person with `kubectl` can do to a run that is under way.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, Secret},
};
use kube::api::DeleteParams;
use serde_json::json;
use worker::AgentRun;

use crate::harness::{
    REPOSITORY,
    cluster::Cluster,
    filtered,
    pods::{POD_GO, PodPlan, Pods},
};

/// What is deleted under an agent that works.
#[derive(Clone, Copy, Debug)]
enum Deleted {
    Pod,
    Job,
    Secret,
    AgentRun,
}

async fn delete(pods: &Pods, what: Deleted, run: &str, name: &str) {
    let (namespace, now) = (pods.namespace(), DeleteParams::background().grace_period(0));
    let params = DeleteParams::background();
    match what {
        Deleted::Pod => {
            let pod = pods.pods(run).await.pop().and_then(|pod| pod.metadata.name).expect("a pod");
            drop(pods.cluster.all::<Pod>(namespace).delete(&pod, &now).await.expect("deleted"));
        }
        Deleted::Job => {
            drop(pods.cluster.all::<Job>(namespace).delete(name, &params).await.expect("deleted"));
        }
        Deleted::Secret => {
            drop(pods.cluster.all::<Secret>(namespace).delete(name, &params).await.expect("deleted"));
            let secrets = pods.cluster.all::<Secret>(namespace);
            pods.site
                .until("the Secret to be put back", async || secrets.get_opt(name).await.ok().flatten())
                .await;
        }
        Deleted::AgentRun => {
            drop(pods.cluster.all::<AgentRun>(namespace).delete(name, &params).await.expect("deleted"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_under_an_agent_converges() {
    let Some(cluster) = Cluster::at_hand("deleting objects of runs").await else { return };
    let pods = Pods::start(cluster, PodPlan::default()).await;
    let tell = async |what: Deleted, attempts: u32| {
        let title = format!("Without its {what:?}");
        let steps = json!([
            { "wait_for_file": POD_GO }, { "write": { "path": format!("{what:?}.txt"), "content": "done\n" } },
        ]);
        let (issue, run) = pods.labelled(&title, &steps).await;
        let name = pods.at_work(&run, 1, "waiting for").await;
        delete(&pods, what, &run, &name).await;
        pods.at_work(&run, attempts, "waiting for").await;
        pods.let_go(&run).await;
        pods.site
            .until(&format!("the end of the run without its {what:?}"), async || {
                pods.get(&run).await.run.filter(|run| run.state == "succeeded")
            })
            .await;
        let detail = pods.get(&run).await;
        assert_eq!(detail.attempts.len(), attempts as usize, "{what:?}: {detail:#?}");
        (issue, what)
    };
    let told = tokio::join!(
        tell(Deleted::Pod, 2),
        tell(Deleted::Job, 2),
        tell(Deleted::Secret, 1),
        tell(Deleted::AgentRun, 2),
    );
    pods.site.settled().await;
    pods.nothing_left().await;
    assert_eq!(pods.site.github.pull_requests(REPOSITORY).len(), 4, "one for each");
    let mut settings = filtered();
    settings.add_filter(r"(pull/|\[#)\d+", "${1}N");
    // An agent that is let go at once may be through before its worker has said where it runs.
    settings.add_filter(r"- a restricted pod in NAMESPACE on node NODE\n", "");
    // With its owner an object goes, and the worker may see it go first.
    let went =
        r"Its (AgentRun attempt-ID was deleted, not by the platform|(Job|pod) was deleted by somebody)";
    let mut of_owner = settings.clone();
    of_owner.add_filter(went, "IT OR WHAT IT OWNS WAS DELETED");
    for (issue, what) in [told.0, told.1, told.2, told.3] {
        let settings = match what {
            Deleted::AgentRun | Deleted::Job => &of_owner,
            Deleted::Pod | Deleted::Secret => &settings,
        };
        settings.bind(|| insta::assert_snapshot!(format!("without_its_{what:?}"), pods.comment(issue)));
    }

    // At last the namespace itself: nothing can be made in it any more.
    let (issue, run) = pods.labelled("Without its namespace", &json!([{ "wait_for_file": POD_GO }])).await;
    let name = pods.at_work(&run, 1, "waiting for").await;
    // An old kubelet that has not seen its containers yet leaves them running.
    pods.shown_running(&name).await;
    pods.cluster.delete_namespace(pods.namespace()).await;
    pods.site
        .until("the run to be given up", async || {
            pods.get(&run).await.run.filter(|run| run.state == "failed")
        })
        .await;
    pods.site.settled().await;
    let said = pods.comment(issue);
    assert!(said.contains("❌ failed") && said.contains(pods.namespace()), "{said}");
    pods.end().await;
}
