//! Pods that cannot run: no room, no image, too little memory.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Namespace, Node, Pod},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api,
    api::{ListParams, ObjectMeta, PostParams},
};
use serde_json::json;

use crate::harness::{
    cluster::Cluster,
    filtered,
    pods::{PodPlan, Pods},
};

/// Thousandths of a processor.
fn millis(quantity: &Quantity) -> u64 {
    match quantity.0.strip_suffix('m') {
        Some(millis) => millis.parse().expect("a number"),
        None => 1000 * quantity.0.parse::<u64>().expect("a number"),
    }
}

/// Nodes that take anybody's pods, and how much each has.
async fn nodes(cluster: &Cluster) -> BTreeMap<String, u64> {
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let nodes = nodes.list(&ListParams::default()).await.expect("the nodes").items;
    let row = |node: Node| {
        let spec = node.spec.unwrap_or_default();
        let is_closed = spec.taints.iter().flatten().any(|taint| taint.effect != "PreferNoSchedule");
        (!is_closed && spec.unschedulable != Some(true)).then_some(())?;
        let room = node.status?.allocatable?;
        Some((node.metadata.name?, millis(room.get("cpu")?)))
    };
    nodes.into_iter().filter_map(row).collect()
}

/// A namespace of somebody else; it goes with the story, also with one that fails.
struct Elsewhere<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl<'a> Elsewhere<'a> {
    async fn make(cluster: &'a Cluster) -> Self {
        let metadata =
            ObjectMeta { generate_name: Some("callboard-neighbours-".into()), ..ObjectMeta::default() };
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        let namespace = Namespace { metadata, ..Namespace::default() };
        let made = namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace");
        Self { cluster, name: made.metadata.name.expect("a name") }
    }
}

impl Drop for Elsewhere<'_> {
    fn drop(&mut self) {
        let words = ["delete", "namespace", &self.name, "--wait=false"];
        // A story that failed says why; this must not be the reason.
        drop(self.cluster.command(&words).output());
    }
}

/// A pod of somebody else, which takes most of a node.
fn neighbour(node: &str, cpu_millis: u64, image: &str) -> Pod {
    let request = json!({ "cpu": format!("{cpu_millis}m"), "memory": "16Mi", "ephemeral-storage": "1Mi" });
    serde_json::from_value(json!({
        "metadata": { "name": format!("neighbour-of-{node}") },
        "spec": {
            "nodeSelector": { "kubernetes.io/hostname": node },
            "terminationGracePeriodSeconds": 0,
            "activeDeadlineSeconds": 300,
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": { "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "it", "image": image, "command": ["sleep", "600"], "imagePullPolicy": "IfNotPresent",
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                "resources": { "requests": request, "limits": request },
            }],
        },
    }))
    .expect("a pod")
}

/// Most of every node is taken: the pod waits, the issue says why, and it runs once there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_without_room_says_so_and_runs_once_there_is() {
    let Some(cluster) = Cluster::alone("full nodes").await else { return };
    let nodes = nodes(&cluster).await;
    // Two of these fit into no node, whatever small things other stories run beside them.
    let most = nodes.values().max().expect("a node") * 6 / 10;
    let config = json!({ "executor": { "kubernetes": { "cpu_millis": most } } });
    let pods = Pods::start(cluster, PodPlan { config, ..PodPlan::default() }).await;
    // What a namespace of runs may have is counted.
    let elsewhere = Elsewhere::make(&pods.cluster).await;
    let neighbours = pods.cluster.all::<Pod>(&elsewhere.name);
    for (node, room) in &nodes {
        let pod = neighbour(node, room * 6 / 10, &pods.cluster.image);
        // A namespace has its ServiceAccount a moment after it is made.
        let made = async || match neighbours.create(&PostParams::default(), &pod).await {
            Ok(_) => Some(()),
            Err(kube::Error::Api(status)) if status.is_forbidden() => None,
            Err(error) => panic!("{error}"),
        };
        pods.site.until("the neighbour to be taken", made).await;
    }
    let running = async |node: &String| {
        let pod = neighbours.get(&format!("neighbour-of-{node}")).await.ok()?;
        pod.status.and_then(|s| s.phase).filter(|phase| phase == "Running")
    };
    for node in nodes.keys() {
        pods.site.until("the nodes to be full", async || running(node).await).await;
    }
    let steps = json!([{ "write": { "path": "a.txt", "content": "done\n" } }]);
    let (issue, run) = pods.labelled("Wait for room", &steps).await;
    let said = pods.until_comment(issue, "Insufficient cpu").await;
    let mut settings = filtered();
    settings.add_filter(r"\d+/\d+ nodes", "N/N nodes");
    settings.add_filter(r"\d+ Insufficient", "N Insufficient");
    settings.bind(|| insta::assert_snapshot!("no_room", said));
    drop(elsewhere);
    pods.site.settled().await;
    let detail = pods.get(&run).await;
    assert_eq!(detail.run.as_ref().expect("a run").state, "succeeded", "{detail:#?}");
    assert_eq!(detail.attempts.len(), 1, "it waited, and was not tried again: {detail:#?}");
    pods.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_does_not_exist_is_said_and_not_tried_again() {
    let Some(cluster) = Cluster::at_hand("an image that does not exist").await else { return };
    let image = "registry.invalid/nobody/nothing:never";
    let config = json!({ "executor": { "kubernetes": { "image": image, "pending_seconds": 40 } } });
    let pods = Pods::start(cluster, PodPlan { config, ..PodPlan::default() }).await;
    let (issue, run) = pods.labelled("Run nothing", &json!([])).await;
    pods.site
        .until("it to be given up", async || pods.get(&run).await.run.filter(|run| run.state == "failed"))
        .await;
    pods.site.settled().await;
    assert_eq!(pods.get(&run).await.attempts.len(), 1);
    // What follows are the kubelet's words, which differ with its version and the moment.
    let said = pods.comment(issue);
    assert!(said.contains("❌ failed"), "{said}");
    assert!(said.contains(&format!("Image `{image}` cannot be fetched: ")), "{said}");
    assert!(said.contains("**Next:** when the platform is well again"), "{said}");
    pods.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_eats_memory_ends_alone_and_says_how_much_it_had() {
    let Some(cluster) = Cluster::at_hand("an agent that eats memory").await else { return };
    let pods = Pods::start(cluster, PodPlan::default()).await;
    let beside = json!([{ "write": { "path": "a.txt", "content": "done\n" } }]);
    let (hungry, run) = pods.labelled("Eat", &json!([{ "eat_memory": { "mib": 6, "processes": 48 } }])).await;
    let (_, neighbour) = pods.labelled("Work beside it", &beside).await;
    pods.site
        .until("it to be given up", async || pods.get(&run).await.run.filter(|run| run.state == "failed"))
        .await;
    pods.site.settled().await;
    assert_eq!(pods.get(&run).await.attempts.len(), 1, "it would eat again");
    assert_eq!(pods.get(&neighbour).await.run.expect("a run").state, "succeeded");
    filtered().bind(|| insta::assert_snapshot!("out_of_memory", pods.comment(hungry)));
    pods.end().await;
}
