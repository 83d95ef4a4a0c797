//! Far more runs than places.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use serde_json::json;

use crate::harness::{
    REPOSITORY, SITE_SECRET, SOURCE,
    cluster::Cluster,
    pods::{PodPlan, Pods},
};

const RUNS: usize = 50;
const CAPACITY: usize = 4;
/// How many turns one of two projects may be ahead. First come, first served would make it 25.
const AHEAD: u32 = 12;
/// On a slow machine, beside other stories.
const PATIENCE: Duration = Duration::from_secs(900);
/// The second project's repository.
const ANOTHER: &str = "octocat/another";

/// The most pods of `namespaces` that there were at one time. One watch sees them all, in the order
/// in which they came and went.
async fn count(pods: Api<Pod>, namespaces: BTreeSet<String>, most: Arc<AtomicUsize>) {
    let of_attempts = watcher::Config::default().labels("callboard.dev/attempt");
    let mut events = std::pin::pin!(watcher::watcher(pods, of_attempts).default_backoff());
    let (mut now, mut listed) = (BTreeSet::new(), BTreeSet::new());
    let ours = |pod: &Pod| pod.namespace().filter(|name| namespaces.contains(name)).and_then(|_| pod.uid());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(pod)) => now.extend(ours(&pod)),
            Ok(Event::Delete(pod)) => now.retain(|uid| Some(uid) != pod.metadata.uid.as_ref()),
            // Looked at anew: what is not among it went meanwhile.
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => listed.extend(ours(&pod)),
            Ok(Event::InitDone) => now = std::mem::take(&mut listed),
            // It begins anew by itself.
            Err(error) => println!("the watch of pods: {error}"),
        }
        most.fetch_max(now.len(), Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_runs_share_four_places_fairly() {
    let Some(cluster) = Cluster::at_hand("fifty runs at once").await else { return };
    let repository = |name: &str, source: &str| json!({ "name": name, "source": source, "webhook_secret_file": "../secret" });
    let config = json!({
        "projects": [
            { "name": "demo", "repositories": [repository(REPOSITORY, SOURCE)] },
            { "name": "other", "repositories": [repository(ANOTHER, "another")] },
        ],
        "executor": { "kubernetes": { "capacity": CAPACITY } },
    });
    let plan = PodPlan { config, more_projects: vec!["other"], ..PodPlan::default() };
    let pods = Pods::start(cluster, plan).await;
    let github = &pods.site.github;
    github.create_repository(ANOTHER, true, &[("README.md", "# Another\n")]).await.expect("a repository");
    github.set_permission(ANOTHER, "mona", domain::rights::Permission::Write).expect("a permission");
    let webhook = pods.site.webhook().replace(SOURCE, "another");
    github.add_hook(ANOTHER, &webhook, SITE_SECRET).expect("a hook");

    let most = Arc::new(AtomicUsize::new(0));
    let everywhere: Api<Pod> = Api::all(pods.cluster.client.clone());
    let counting =
        tokio::spawn(count(everywhere, pods.namespaces.values().cloned().collect(), Arc::clone(&most)));
    // All of them wait before the first begins.
    pods.site.pause().await;
    let mut issues = BTreeMap::new();
    for (repository, number) in
        [REPOSITORY, ANOTHER].into_iter().flat_map(|r| (0..RUNS / 2).map(move |n| (r, n)))
    {
        let issue =
            github.open_issue(repository, "octocat", &format!("Number {number}"), "Please.").expect("one");
        github.add_label(repository, issue, "run:dev", "mona").expect("a label");
        *issues.entry(repository).or_insert(0) += 1;
    }
    let runs = i64::try_from(RUNS).expect("small");
    let waiting = async || (pods.site.runs().await == runs).then_some(());
    pods.site.until_within(PATIENCE, "every run to wait", waiting).await;
    let began = std::time::Instant::now();
    pods.site.resume().await;
    pods.site
        .until_within(PATIENCE, "every run to succeed", async || {
            let done = "select count(*) from runs where state = 'succeeded'";
            let done: i64 = sqlx::query_scalar(done).fetch_one(&pods.site.db).await.ok()?;
            (done == runs).then_some(())
        })
        .await;
    println!("{RUNS} runs in {CAPACITY} places: {:.0} s", began.elapsed().as_secs_f64());
    pods.site.settled_within(PATIENCE).await;
    pods.nothing_left().await;

    assert!(!counting.is_finished(), "somebody counted to the end");
    counting.abort();
    let most = most.load(Ordering::Relaxed);
    assert!((2..=CAPACITY).contains(&most), "{most} pods at one time");
    // Whoever has less running is next. Which ends first is chance: over time one may get ahead, but
    // not as by age, which gives all its turns to one before the other has any.
    let turns: Vec<String> = sqlx::query_scalar(
        "select p.name from attempts a join runs r using (run_id) join projects p using (project_id) order by a.leased_at",
    )
    .fetch_all(&pods.site.db)
    .await
    .expect("the attempts");
    let lost: Vec<String> = sqlx::query_scalar("select message from attempts where state = 'lost'")
        .fetch_all(&pods.site.db)
        .await
        .expect("the attempts");
    assert_eq!(turns.len(), RUNS, "nothing was tried twice: {lost:#?}");
    let mut ahead = 0_i32;
    for (turn, project) in turns.iter().enumerate() {
        ahead += if project == "demo" { 1 } else { -1 };
        assert!(ahead.unsigned_abs() <= AHEAD, "after {turn} turns one project is {ahead} ahead: {turns:?}");
    }
    for repository in [REPOSITORY, ANOTHER] {
        assert_eq!(github.pull_requests(repository).len(), RUNS / 2, "{repository}");
    }
    pods.end().await;
}
