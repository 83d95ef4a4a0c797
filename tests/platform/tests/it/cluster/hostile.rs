//! A hostile agent in a pod: it is nobody, may write nowhere but where it works, has no token but
//! its run token, and gets nothing from the API server.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use crate::harness::{
    REPOSITORY,
    cluster::{Cluster, not_shown},
    pods::{POD_GO, PodPlan, Pods},
};

/// What everybody has who runs the image: empty folders, and files without secrets.
const OF_THE_IMAGE: [&str; 8] = [
    "/home",
    "/var/lib",
    "/var/run",
    "/sys/fs/cgroup",
    "/etc/passwd",
    // The runner's, which is the agent's own user; a token in it would have been found.
    "/proc/1/environ",
    "/proc/1/cmdline",
    "/tmp",
];

/// The findings it wrote, as its pull request has them.
async fn findings(pods: &Pods) -> Vec<Value> {
    let pull = pods.site.github.pull_requests(REPOSITORY).pop().expect("its findings");
    let diff = pods.site.github.pull_request_diff(REPOSITORY, pull.number).await.expect("a diff");
    let report: String = diff
        .lines()
        .filter(|line| line.starts_with('+') && !line.starts_with("+++"))
        .map(|line| format!("{}\n", &line[1..]))
        .collect();
    serde_json::from_str(&report).unwrap_or_else(|e| panic!("{e}: {report}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_agent_in_a_pod_finds_nothing_but_its_run_token() {
    let Some(cluster) = Cluster::at_hand("a hostile agent").await else { return };
    let pods = Pods::start(cluster, PodPlan::default()).await;
    let api =
        pods.cluster.all::<Service>("default").get("kubernetes").await.expect("the API server's Service");
    let api = api.spec.and_then(|spec| spec.cluster_ip).expect("its address");
    // Another service of this machine, beside the agent gateway.
    let neighbour = tokio::net::TcpListener::bind((pods.cluster.host, 0)).await.expect("a port");
    let neighbour = neighbour.local_addr().expect("its address").to_string();
    let steps = json!([{ "probe": {
        "paths": ["/etc/passwd", "/etc/shadow", "/root", "/proc/1/environ", "/var/run/secrets", "/run/secrets"],
        "addresses": [neighbour, format!("{api}:443")],
        "kubernetes": [format!("{api}:443")],
    } }]);
    let (_, run) = pods.labelled("Break out", &steps).await;
    pods.site.settled().await;
    let detail = pods.get(&run).await;
    assert_eq!(detail.run.as_ref().expect("a run").state, "succeeded", "{detail:#?}");
    let findings = findings(&pods).await;
    assert!(findings.len() > 40, "it tried a lot: {}", findings.len());

    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let fact = |name: &str| {
        let found = findings.iter().find(|finding| text(finding, "attempt") == name);
        text(found.unwrap_or_else(|| panic!("no `{name}` in {findings:#?}")), "detail")
    };
    assert!(!fact("read Uid").split_whitespace().any(|uid| uid == "0"), "{}", fact("read Uid"));
    assert_eq!(fact("read CapEff"), "0000000000000000");
    assert_eq!((fact("read NoNewPrivs").as_str(), fact("read Seccomp").as_str()), ("1", "2"));
    assert!(fact("list mounts").starts_with("/ ro"), "{}", fact("list mounts"));
    assert!(!fact("list mounts").contains("serviceaccount"), "{}", fact("list mounts"));

    // The run token, in its file and in the agent's environment; and what it says, which looks
    // like another inside of it: `{"aud":"a…`.
    let found = findings.iter().filter(|finding| finding["outcome"] == "found");
    let (inside, tokens): (BTreeSet<_>, BTreeSet<_>) = found
        .map(|finding| (text(finding, "detail"), text(finding, "sha256")))
        .partition(|(beginning, _)| beginning == "eyJhdWQiOiJh");
    assert!(
        tokens.len() == 1 && tokens.iter().all(|(beginning, _)| beginning.starts_with("eyJ")),
        "{tokens:?}"
    );
    assert!(inside.len() <= 1, "{inside:?}");

    let reached: Vec<(String, String)> = findings
        .iter()
        .filter(|finding| finding["outcome"] == "reached")
        .map(|finding| (text(finding, "attempt"), text(finding, "detail")))
        .collect();
    let (connected, bad): (Vec<_>, Vec<_>) = reached
        .into_iter()
        .filter(|(attempt, _)| !OF_THE_IMAGE.iter().any(|path| attempt.ends_with(&format!(" {path}"))))
        .partition(|(attempt, _)| attempt.starts_with("connect ") || attempt.starts_with("send "));
    assert!(bad.is_empty(), "the pod let these through: {bad:#?}");
    if connected.iter().any(|(attempt, _)| attempt.ends_with(&neighbour)) {
        not_shown(
            "this cluster enforces no NetworkPolicy; that forbidden connections fail was not proven here",
        );
    } else {
        // That a datagram was sent says nothing: a policy drops it on its way.
        let connected: Vec<_> =
            connected.iter().filter(|(attempt, _)| attempt.starts_with("connect ")).collect();
        assert!(
            connected.is_empty(),
            "policies are enforced, and these connections were made: {connected:#?}"
        );
    }
    pods.end().await;
}

/// A bomb of processes ends its own pod and nothing beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_bomb_ends_alone() {
    let Some(cluster) = Cluster::at_hand("a fork bomb").await else { return };
    let pods = Pods::start(cluster, PodPlan::default()).await;
    let beside = json!([
        { "wait_for_file": POD_GO }, { "write": { "path": "beside.txt", "content": "done\n" } },
    ]);
    let (_, neighbour) = pods.labelled("Work beside it", &beside).await;
    pods.at_work(&neighbour, 1, "waiting for").await;
    let (_, bomb) = pods.labelled("Explode", &json!([{ "fork_bomb": 5000 }])).await;
    let exploded = pods
        .site
        .until("the bomb's end", async || {
            pods.get(&bomb).await.run.filter(|run| ["failed", "succeeded"].contains(&run.state.as_str()))
        })
        .await;
    assert!(exploded.message.contains("processes, then was refused"), "it was stopped: {exploded:#?}");
    assert_eq!(pods.get(&bomb).await.attempts.len(), 1);
    pods.let_go(&neighbour).await;
    pods.site.settled().await;
    let detail = pods.get(&neighbour).await;
    assert_eq!(detail.run.as_ref().expect("a run").state, "succeeded", "{detail:#?}");
    assert_eq!(detail.attempts.len(), 1, "it was not disturbed: {detail:#?}");
    pods.end().await;
}
