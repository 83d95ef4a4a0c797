//! Two control planes and two workers on one database, with more work than they can do at once.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use proto::admin::EventsRequest;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;

use crate::harness::{Plan, REPOSITORY, Server, Site};

/// Issues that ask for work at the same time.
const ISSUES: usize = 24;

/// Reads the log from whichever platform, ends in the middle, and goes on after the last number:
/// no number is missing and none comes twice. Returns the last.
async fn read_by_fits_and_starts(site: &Site, done: &AtomicBool) -> i64 {
    let mut rng = StdRng::seed_from_u64(7);
    let mut last = 0;
    loop {
        if done.load(Ordering::SeqCst) {
            let sealed: i64 = sqlx::query_scalar("select sequence from sealer")
                .fetch_one(&site.db)
                .await
                .expect("a number");
            if last >= sealed {
                return last;
            }
        }
        let platform = &site.platforms[rng.random_range(0..2)];
        let request = EventsRequest { after: last, project: String::new(), follow: true };
        let Ok(events) = platform.commands().events(request).await else { continue };
        let mut events = events.into_inner();
        for _ in 0..rng.random_range(1..40) {
            let next = tokio::time::timeout(Duration::from_millis(200), events.message());
            let Ok(Ok(Some(event))) = next.await else { break };
            assert_eq!(event.sequence, last + 1, "a gap, or a number twice");
            last = event.sequence;
        }
    }
}

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
    let done = AtomicBool::new(false);
    let work = async {
        for issue in &issues {
            site.run_of(*issue).await;
        }
        site.settled().await;
        done.store(true, Ordering::SeqCst);
    };
    let ((), read) = tokio::join!(work, read_by_fits_and_starts(&site, &done));
    let sealed: i64 =
        sqlx::query_scalar("select max(sequence) from events").fetch_one(&site.db).await.expect("a number");
    assert_eq!(read, sealed, "everything was read");

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

/// A platform that hangs for a while (a paused machine, a lost network) comes back: its lease is
/// lost, the other one has done the work, and what it says now changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_platform_comes_back_and_changes_nothing() {
    let server = Server::start(false);
    let site = Site::start(&server.database(), &Plan { platforms: 2, ..Plan::default() }).await;
    site.ready().await;
    let steps = json!([{ "print": "working" }, { "write": { "path": "a.txt", "content": "a\n" } }, { "wait_for_file": "/tmp/never" }]);
    let issue = site.issue("Take your time", Some(&steps));
    site.label(issue, "run:dev");
    let run = site.run_of(issue).await;
    site.until_said(&run, "working").await;
    let holder = site.holder_of(&run).await;
    let (paused, other) = (&site.platforms[holder], &site.platforms[1 - holder]);
    paused.signal(rustix::process::Signal::STOP);
    site.expire_leases().await;
    site.until("a second attempt on the other platform", async || {
        (site.attempts(&run).await == 2).then_some(())
    })
    .await;
    let mut commands = other.commands();
    let request = proto::admin::RunActionRequest { id: run.clone(), reason: String::new() };
    commands.cancel_run(request).await.expect("cancelled on the platform that works");
    // The paused one may hold the publisher's lock: Postgres takes it away.
    site.until("the comment says so", async || {
        let comments = site.github.comments(REPOSITORY, issue);
        comments.iter().any(|c| c.body.contains("🛑")).then_some(())
    })
    .await;
    paused.signal(rustix::process::Signal::CONT);
    site.until("its late word is noted", async || site.has_event(&run, "late_word").await.then_some(()))
        .await;
    site.settled().await;
    assert_eq!(site.violations().await, Vec::<String>::new(), "{}", site.logs());
    assert_eq!(site.attempts(&run).await, 2);
    site.github.shutdown().await;
}

/// A platform that hangs in the middle of a transaction holds up nobody for long: Postgres ends
/// the transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_hangs_in_a_transaction_is_not_waited_for() {
    let server = Server::start(false);
    let first = vec![("CRASH_POINT", "projects_applied:before:1:stop".to_owned())];
    let site = Site::start(&server.database(), &Plan { platforms: 2, first, ..Plan::default() }).await;
    let hangs = || site.platforms[0].log().contains("crash point");
    site.until("a platform that hangs", async || hangs().then_some(())).await;
    site.until("the other one to be ready", async || {
        let ready = format!("http://{}/readyz", site.platforms[1].admin);
        reqwest::get(ready).await.is_ok_and(|answer| answer.status().is_success()).then_some(())
    })
    .await;
    site.until("no transaction that waits", async || {
        let waiting = "select count(*) from pg_stat_activity where state = 'idle in transaction'";
        let count: i64 = sqlx::query_scalar(waiting).fetch_one(&site.db).await.expect("a number");
        (count == 0).then_some(())
    })
    .await;
    // It goes on, finds its transaction gone, and is started again.
    site.platforms[0].signal(rustix::process::Signal::CONT);
    site.ready().await;
    let issue = site.issue("Say hello", None);
    site.label(issue, "run:dev");
    site.run_of(issue).await;
    site.settled().await;
    assert_eq!(site.violations().await, Vec::<String>::new(), "{}", site.logs());
    site.github.shutdown().await;
}
