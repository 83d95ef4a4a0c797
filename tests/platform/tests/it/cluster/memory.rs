//! How much memory a worker takes.

use std::{path::PathBuf, time::Duration};

use kube::api::ListParams;
use serde_json::json;
use worker::AgentRun;

use crate::harness::{
    cluster::Cluster,
    pods::{PodPlan, Pods},
};

const RUNS: usize = 200;
const MOST_MIB: u64 = 50;

/// A release build of `callboard serve worker` with 200 `AgentRun`s at hand, none of which finds
/// room on a node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a release build, which takes minutes; `cargo xtask test --long` makes it and runs this"]
async fn a_worker_with_two_hundred_agent_runs_stays_small() {
    let Some(cluster) = Cluster::at_hand("the worker's memory").await else { return };
    let program = std::env::var_os("CALLBOARD_TEST_RELEASE").expect("names a release build of `callboard`");
    let config = json!({
        "limits": { "actor_per_day": 1000, "repository_per_day": 1000 },
        "executor": { "kubernetes": { "capacity": RUNS, "cpu_millis": 900_000 } },
    });
    let plan = PodPlan { config, program: Some(PathBuf::from(program)), ..PodPlan::default() };
    let pods = Pods::start(cluster, plan).await;
    for number in 0..RUNS {
        let issue = pods.site.issue(&format!("Number {number}"), None);
        pods.site.label(issue, "run:dev");
    }
    let all = pods.cluster.all::<AgentRun>(pods.namespace());
    let waiting = async || {
        let runs = all.list(&ListParams::default()).await.ok()?.items;
        (runs.iter().filter(|run| run.status.is_some()).count() == RUNS).then_some(())
    };
    pods.site.until_within(Duration::from_secs(600), "200 AgentRuns that wait", waiting).await;
    let pid = pods.worker.pid().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
    };
    let (now, most) = (kib("VmRSS:") / 1024, kib("VmHWM:") / 1024);
    println!("the worker takes {now} MiB with {RUNS} AgentRuns, and took {most} MiB at most");
    assert!(most < MOST_MIB, "{most} MiB");
}
