//! Far more runs than places.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use serde_json::json;

use crate::harness::{
    REPOSITORY, SITE_SECRET, SOURCE,
    cluster::Cluster,
    pods::{PodPlan, Pods},
};

const RUNS: usize = 50;
const CAPACITY: usize = 4;
/// The second project's repository.
const ANOTHER: &str = "octocat/another";

/// The most pods there were at one time.
#[derive(Clone, Default)]
struct Most(Arc<Mutex<(BTreeSet<String>, usize)>>);

impl Most {
    fn saw(&self, event: Event<Pod>) {
        let mut seen = self.0.lock().expect("no panic");
        let name = |pod: Pod| pod.metadata.name.expect("a name");
        match event {
            Event::Apply(pod) | Event::InitApply(pod) => {
                seen.0.insert(name(pod));
            }
            Event::Delete(pod) => {
                seen.0.remove(&name(pod));
            }
            Event::Init | Event::InitDone => {}
        }
        seen.1 = seen.1.max(seen.0.len());
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

    let most = Most::default();
    for namespace in pods.namespaces.values() {
        let (most, all) = (most.clone(), pods.cluster.all::<Pod>(namespace));
        tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher::watcher(all, watcher::Config::default()));
            while let Some(event) = events.next().await {
                most.saw(event.expect("an event"));
            }
        });
    }
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
    pods.site.until("every run to wait", async || (pods.site.runs().await == runs).then_some(())).await;
    let began = std::time::Instant::now();
    pods.site.resume().await;
    pods.site
        .until_within(Duration::from_secs(420), "every run to succeed", async || {
            let done = "select count(*) from runs where state = 'succeeded'";
            let done: i64 = sqlx::query_scalar(done).fetch_one(&pods.site.db).await.ok()?;
            (done == runs).then_some(())
        })
        .await;
    eprintln!("{RUNS} runs in {CAPACITY} places: {:.0} s", began.elapsed().as_secs_f64());
    pods.site.settled().await;
    pods.nothing_left().await;

    let most = most.0.lock().expect("no panic").1;
    assert!((2..=CAPACITY).contains(&most), "{most} pods at one time");
    // Whoever looks at any time finds that each project had as many turns as the other.
    let turns: Vec<String> = sqlx::query_scalar(
        "select p.name from attempts a join runs r using (run_id) join projects p using (project_id) order by a.leased_at",
    )
    .fetch_all(&pods.site.db)
    .await
    .expect("the attempts");
    assert_eq!(turns.len(), RUNS, "nothing was tried twice");
    let mut ahead = 0_i32;
    for (turn, project) in turns.iter().enumerate() {
        ahead += if project == "demo" { 1 } else { -1 };
        assert!(ahead.unsigned_abs() <= 4, "after {turn} turns one project is {ahead} ahead: {turns:?}");
    }
    for repository in [REPOSITORY, ANOTHER] {
        assert_eq!(github.pull_requests(repository).len(), RUNS / 2, "{repository}");
    }
}
