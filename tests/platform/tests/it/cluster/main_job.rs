//! A label becomes a pull request made by a pod; and what `kubectl` shows meanwhile.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, Secret},
};
use kube::api::{ObjectMeta, PostParams};
use serde_json::json;
use worker::{AgentRun, Phase};

use crate::harness::{
    REPOSITORY,
    cluster::Cluster,
    pods::{POD_GO, PodPlan, Pods},
};

/// The page that shows people what they will see.
const DOCUMENTED: &str = include_str!("../../../../../docs/ops/kubernetes.md");

/// What `kubectl get` prints, without what differs from time to time and from cluster to cluster.
fn plain(text: &str) -> String {
    let is_age = |word: &str| {
        let digits = word.trim_end_matches(['s', 'm', 'h', 'd']);
        digits.len() < word.len() && digits.chars().all(|c| c.is_ascii_digit() || c == 'm')
    };
    let word = |word: &str| match word.split_once("attempt") {
        // `attempt-ID`, a pod's `attempt-ID-x7k2p`, and a selector's `…/attempt=ID`.
        Some((before, rest)) if rest.len() > 37 => format!("{before}attempt ID of its pod"),
        Some((before, rest)) if rest.len() == 37 => format!("{before}attempt ID"),
        Some(_) | None if is_age(word) => "AGE".to_owned(),
        Some(_) | None => word.to_owned(),
    };
    let row = |line: &str| {
        let mut words: Vec<String> = line.split_whitespace().map(word).collect();
        // A column that Jobs have since 1.31.
        if words.get(2).is_some_and(|word| word == "COMPLETIONS")
            || (words.len() == 5 && line.starts_with("job."))
        {
            words.remove(1);
        }
        words.join(" ")
    };
    // Older clusters make one for every ServiceAccount.
    let rows = text.lines().filter(|line| !line.contains("kubernetes.io/service-account-token"));
    let rows: Vec<String> = rows.map(row).filter(|line| !line.is_empty()).collect();
    let is_head = |row: Option<&String>| row.is_none_or(|row| row.starts_with("NAME "));
    let said = |(at, row): (usize, &String)| {
        // A head without a row.
        let is_bare = is_head(Some(row)) && is_head(rows.get(at + 1));
        (!is_bare).then(|| row.clone())
    };
    rows.iter().enumerate().filter_map(said).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_becomes_a_pull_request_made_by_a_pod() {
    let Some(cluster) = Cluster::at_hand("the main job").await else { return };
    let pods = Pods::start(cluster, PodPlan::default()).await;
    let look =
        || pods.cluster.kubectl(&["--namespace", pods.namespace(), "get", "arun,job,pod,netpol,secret"], "");
    let before = look();
    let steps = json!([
        { "print": "at work" }, { "wait_for_file": POD_GO },
        { "write": { "path": "greeting.txt", "content": "Hello.\n" } }, { "summary": "Added a greeting." },
    ]);
    let (issue, run) = pods.labelled("Say hello", &steps).await;
    let name = pods.at_work(&run, 1, "waiting for").await;
    pods.shown_running(&name).await;
    let during = look();
    pods.let_go(&run).await;
    pods.site.settled().await;
    pods.nothing_left().await;
    let after = look();

    let detail = pods.get(&run).await;
    assert_eq!(detail.run.as_ref().expect("a run").state, "succeeded", "{detail:#?}");
    assert_eq!(detail.attempts.len(), 1);
    let pulls = pods.site.github.pull_requests(REPOSITORY);
    assert_eq!(pulls.len(), 1);
    assert!(pods.comment(issue).contains('✅'));
    let documented = plain(DOCUMENTED);
    let differs: Vec<String> = [("before", before), ("during", during), ("after", after)]
        .into_iter()
        .filter(|(_, seen)| !documented.contains(&plain(seen)))
        .map(|(when, seen)| format!("{when} a run:\n{seen}"))
        .collect();
    assert!(differs.is_empty(), "docs/ops/kubernetes.md does not show what is there {}", differs.join("\n"));
    pods.end().await;
}

/// Whoever may write `AgentRun`s gets nothing by it: no pod, no Secret, and it is reported.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_agent_run_gets_nothing_and_is_reported() {
    let Some(cluster) = Cluster::at_hand("a forged AgentRun").await else { return };
    let pods = Pods::start(cluster, PodPlan::default()).await;
    let (_, run) =
        pods.labelled("Take your time", &json!([{ "print": "at work" }, { "wait_for_file": POD_GO }])).await;
    let name = pods.at_work(&run, 1, "waiting for").await;
    let (namespace, all) = (pods.namespace().to_owned(), pods.cluster.all::<AgentRun>(pods.namespace()));
    let mine = all.get(&name).await.expect("the attempt's");
    let forged = AgentRun {
        metadata: ObjectMeta {
            name: Some("attempt-01990000-0000-7000-8000-000000000000".to_owned()),
            labels: mine.metadata.labels.clone(),
            ..ObjectMeta::default()
        },
        spec: mine.spec.clone(),
        status: None,
    };
    let forged = all.create(&PostParams::default(), &forged).await.expect("an administrator may").metadata;
    let (name, uid) = (forged.name.expect("a name"), forged.uid.expect("a uid"));
    let status = pods
        .site
        .until("it to be refused", async || {
            let status = all.get(&name).await.ok()?.status?;
            (status.phase == Phase::Refused).then_some(status)
        })
        .await;
    insta::assert_snapshot!("forged_agent_run", status.message.unwrap_or_default());
    assert!(pods.cluster.all::<Secret>(&namespace).get_opt(&name).await.expect("an answer").is_none());
    assert!(pods.cluster.all::<Job>(&namespace).get_opt(&name).await.expect("an answer").is_none());
    let owned = |pod: &Pod| pod.metadata.name.as_ref().is_some_and(|pod| pod.starts_with(&name));
    let found = pods.cluster.all::<Pod>(&namespace).list(&Default::default()).await.expect("pods").items;
    assert!(!found.iter().any(owned), "{found:#?}");
    let reported: i64 = sqlx::query_scalar("select count(*) from events where action = 'agent_run.refused'")
        .fetch_one(&pods.site.db)
        .await
        .expect("a count");
    assert_eq!(reported, 1);
    let known: String =
        sqlx::query_scalar("select uid from foreign_objects").fetch_one(&pods.site.db).await.expect("one");
    assert_eq!(known, uid);
    // A person removes what a person made; the run it named was not touched.
    all.delete(&name, &Default::default()).await.expect("deleted");
    pods.let_go(&run).await;
    pods.site.settled().await;
    assert_eq!(pods.get(&run).await.run.expect("a run").state, "succeeded");
    pods.end().await;
}
