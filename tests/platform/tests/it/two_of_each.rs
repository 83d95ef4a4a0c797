//! Two control planes and two workers on one database, with more work than they can do at once.

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::{Plan, REPOSITORY, Server, Site};

/// Issues that ask for work at the same time.
const ISSUES: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_control_planes_and_two_workers_do_everything_once() {
    let server = Server::start(false);
    let plan = Plan {
        platforms: 2,
        config: json!({ "executor": { "local": { "capacity": 3 } } }),
        ..Plan::default()
    };
    let site = Site::start(&server.database(), &plan).await;
    site.ready().await;
    let issues: Vec<u64> = (0..ISSUES).map(|n| site.issue(&format!("Number {n}"), None)).collect();
    for issue in &issues {
        site.label(*issue, "run:dev");
    }
    // GitHub says everything twice.
    for delivery in site.github.deliveries(site.hook) {
        site.github.redeliver(delivery.id).expect("sent again");
    }
    for issue in &issues {
        site.run_of(*issue).await;
    }
    site.settled().await;

    assert_eq!(site.violations().await, Vec::<String>::new(), "{}", site.logs());
    let heads: BTreeSet<String> =
        site.github.pull_requests(REPOSITORY).into_iter().map(|pull| pull.head).collect();
    let expected: BTreeSet<String> = issues.iter().map(|issue| format!("callboard/{issue}-dev")).collect();
    assert_eq!(heads, expected);
    let workers: i64 = sqlx::query_scalar("select count(distinct worker_id) from attempts")
        .fetch_one(&site.db)
        .await
        .expect("a number");
    assert_eq!(workers, 2, "both workers had work");
    let attempts: i64 =
        sqlx::query_scalar("select count(*) from attempts").fetch_one(&site.db).await.expect("a number");
    assert_eq!(usize::try_from(attempts).expect("a number"), ISSUES, "nothing was tried twice");
    site.github.shutdown().await;
}
