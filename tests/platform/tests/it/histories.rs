//! Seeded random histories: labels, commands, edits, closes, reviews, cancels, retries,
//! redeliveries, kills, Postgres crashes, and whatever GitHub does wrong, in any order, on two
//! platforms with one database. Whatever happened, the end is as if it had happened once.
//!
//! `HISTORY_SEED=17` tells one history again.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use futures::StreamExt;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;
use telemetry::steps::Step;

use webhook_simulator::{DeliveryFault, Fault};

use crate::harness::{Plan, REPOSITORY, Server, Site};

/// Histories at the same time, each with a Postgres of its own.
const LANES: usize = 2;
/// How many there are in the normal run.
const USUAL: u64 = 20;
/// How long the long run goes on.
const LONG: Duration = Duration::from_secs(30 * 60);

/// What an agent does.
#[derive(Clone, Copy, Debug)]
enum Script {
    Note,
    Nothing,
    Fail,
    Protected,
    Hang,
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Act {
    /// A new issue, and `run:dev` on it.
    Ask(Script),
    /// `run:dev` on an issue there was.
    AskAgain(usize),
    Cancel(usize),
    Retry(usize),
    /// A person writes on an issue.
    Say(usize, &'static str),
    /// A person rewrites an issue's text.
    Edit(usize),
    /// A person closes an issue.
    Close(usize),
    /// A review of a pull request wants changes.
    RequestChanges(usize),
    /// GitHub sends an old delivery again.
    Redeliver(usize),
    /// `kill -9` of a platform.
    Kill(usize),
    /// `kill -9` of a platform, which after its start kills itself at a step.
    KillAt(usize, Step, &'static str),
    /// Postgres crashes and recovers.
    CrashPostgres,
    /// Postgres is stopped and started.
    RestartPostgres,
    /// The next requests of a kind go wrong at GitHub.
    Fault(Fault, &'static str, u32),
    /// The next deliveries do not come as they should.
    Astray(DeliveryFault, u32),
}

/// What passes by itself. Waits are short: these are real clocks.
const FAULTS: [Fault; 10] = [
    Fault::Refuse(500),
    Fault::Refuse(503),
    Fault::AppliedThen(502),
    Fault::LoseAnswer,
    Fault::CutBody,
    Fault::NotJson,
    Fault::SecondaryLimit(1),
    Fault::PrimaryLimit(1),
    Fault::TooMany(1),
    Fault::Slow(300),
];

/// Where it happens.
const REQUESTS: [&str; 6] =
    ["POST *", "POST /repos/{owner}/{repo}/issues/{number}/comments", "PATCH *", "DELETE *", "GET *", "*"];

const ASTRAY: [DeliveryFault; 4] =
    [DeliveryFault::Drop, DeliveryFault::Duplicate, DeliveryFault::HoldBack, DeliveryFault::Delay(400)];

/// In one history of six lists show what was made only after a while.
const LAG_MS: u64 = 600;

fn lags(seed: u64) -> bool {
    seed.is_multiple_of(6)
}

/// What happens, and how many milliseconds after the thing before.
fn history(seed: u64) -> Vec<(u64, Act)> {
    // Where a doubled effect would come from is tried more often than the rest.
    const DELICATE: &[Step] = &[
        Step::CallStatusComment,
        Step::CallComment,
        Step::CallCommit,
        Step::CallBranch,
        Step::CallPullRequest,
        Step::EffectRecorded,
    ];
    let mut rng = StdRng::seed_from_u64(seed);
    let mut acts = vec![(0, Act::Ask(Script::Note))];
    for _ in 0..rng.random_range(8..16) {
        let pause = rng.random_range(0..400);
        let any = rng.random_range(0..1000);
        let platform = rng.random_range(0..2);
        let act = match rng.random_range(0..33) {
            0..=5 => Act::Ask(
                *[Script::Note, Script::Note, Script::Nothing, Script::Fail, Script::Protected, Script::Hang]
                    .choose(&mut rng)
                    .expect("some"),
            ),
            6 | 7 => Act::AskAgain(any),
            8 | 9 => Act::Cancel(any),
            10 | 11 => Act::Retry(any),
            12 | 13 => Act::Redeliver(any),
            14 | 15 => Act::Kill(platform),
            16 | 17 => {
                let steps = if rng.random_bool(0.7) { DELICATE } else { Step::ALL };
                let step = *steps.choose(&mut rng).expect("some");
                Act::KillAt(platform, step, if rng.random_bool(0.7) { "after" } else { "before" })
            }
            18 => Act::CrashPostgres,
            19 | 20 => Act::Say(
                any,
                [
                    "/callboard cancel",
                    "/callboard retry",
                    "/callboard run dev",
                    "/callboard status",
                    "Thanks!",
                ]
                .choose(&mut rng)
                .expect("some"),
            ),
            21 => Act::Edit(any),
            22 => Act::Close(any),
            23 => Act::RequestChanges(any),
            24 => Act::RestartPostgres,
            25..=29 => {
                let fault = *FAULTS.choose(&mut rng).expect("some");
                let request = *REQUESTS.choose(&mut rng).expect("some");
                Act::Fault(fault, request, rng.random_range(1..3))
            }
            _ => Act::Astray(*ASTRAY.choose(&mut rng).expect("some"), rng.random_range(1..3)),
        };
        acts.push((pause, act));
    }
    acts
}

async fn ask(site: &Site, script: Script) -> u64 {
    let steps = match script {
        Script::Note => None,
        Script::Nothing => Some(json!([{ "print": "nothing to do" }])),
        Script::Fail => Some(json!([{ "exit": 3 }])),
        Script::Protected => {
            Some(json!([{ "write": { "path": ".github/workflows/x.yml", "content": "on: push\n" } }]))
        }
        Script::Hang => Some(json!([{ "print": "working" }, { "hang": true }])),
    };
    let issue = site.issue(&format!("{script:?}"), steps.as_ref());
    site.label(issue, "run:dev");
    issue
}

/// Plays a history and returns what is wrong at its end.
async fn play(server: &Server, seed: u64, always: &'static [(&'static str, &'static str)]) -> Vec<String> {
    let config = if lags(seed) { json!({ "github": { "list_lag_seconds": 1 } }) } else { json!({}) };
    let plan = Plan { platforms: 2, config, always, ..Plan::default() };
    let site = Site::start(&server.database(), &plan).await;
    site.ready().await;
    if lags(seed) {
        site.github.fault(Fault::ListLag(LAG_MS), "GET *", u32::MAX);
    }
    let mut issues = Vec::new();
    for (pause, act) in history(seed) {
        // Not to wait for anything: the time between things is a part of the history.
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let runs: Vec<String> = sqlx::query_scalar("select run_id::text from runs order by created_at")
            .fetch_all(&site.db)
            .await
            .unwrap_or_default();
        let run = |n: usize| (!runs.is_empty()).then(|| runs[n % runs.len()].clone());
        match act {
            Act::Ask(script) => issues.push(ask(&site, script).await),
            Act::AskAgain(n) => {
                let issue = issues[n % issues.len()];
                if site.github.labels(REPOSITORY, issue).iter().all(|l| l != "run:dev") {
                    site.label(issue, "run:dev");
                }
            }
            // Refused, or nobody answers: both are answers.
            Act::Cancel(n) => {
                if let Some(run) = run(n) {
                    drop(site.cancel(&run).await);
                }
            }
            Act::Retry(n) => {
                if let Some(run) = run(n) {
                    drop(site.retry(&run).await);
                }
            }
            Act::Say(n, words) => {
                let issue = issues[n % issues.len()];
                site.github.add_comment(REPOSITORY, issue, "mona", words).expect("a comment");
            }
            Act::Edit(n) => {
                let issue = issues[n % issues.len()];
                site.github
                    .edit_issue(REPOSITORY, issue, "mona", None, Some("Something else."))
                    .expect("edited");
            }
            Act::Close(n) => {
                site.github.close_issue(REPOSITORY, issues[n % issues.len()], "octocat").expect("closed");
            }
            Act::RequestChanges(n) => {
                let pulls = site.github.pull_requests(REPOSITORY);
                if !pulls.is_empty() {
                    let number = pulls[n % pulls.len()].number;
                    let review =
                        site.github.review(REPOSITORY, number, "mona", "request_changes", "Once more.", &[]);
                    review.await.expect("a review");
                }
            }
            Act::Redeliver(n) => {
                let deliveries = site.github.deliveries(site.hook);
                if !deliveries.is_empty() {
                    site.github.redeliver(deliveries[n % deliveries.len()].id).expect("sent again");
                }
            }
            Act::Kill(n) => site.platforms[n].kill(),
            Act::KillAt(n, step, moment) => site.platforms[n].kill_and_crash_at(format!("{step}:{moment}")),
            Act::CrashPostgres => tokio::task::block_in_place(|| {
                server.crash();
                server.start_again();
            }),
            Act::RestartPostgres => tokio::task::block_in_place(|| {
                server.stop();
                server.start_again();
            }),
            Act::Fault(fault, request, times) => site.github.fault(fault, request, times),
            Act::Astray(fault, times) => site.github.fault_delivery(fault, "*", times),
        }
    }
    // What was held back comes after all.
    site.github.heal_deliveries();
    // Agents that hang are ended by a person.
    site.until("everything but what hangs", async || {
        site.redeliver_what_failed();
        let hanging: Vec<String> = sqlx::query_scalar(
            "select r.run_id::text from runs r join attempts using (run_id) join transcript_chunks using (attempt_id)
             where r.state in ('queued', 'active') and lines::text like '%working%' and r.issue ->> 'title' = 'Hang'",
        )
        .fetch_all(&site.db)
        .await
        .unwrap_or_default();
        for run in hanging {
            drop(site.cancel(&run).await);
        }
        site.left().await.is_empty().then_some(())
    })
    .await;
    site.ready().await;
    let wrong = site.violations().await;
    site.github.shutdown().await;
    wrong
}

fn story(seed: u64, wrong: &[String]) -> String {
    let acts: Vec<String> =
        history(seed).into_iter().map(|(pause, act)| format!("  after {pause} ms: {act:?}")).collect();
    format!("history {seed} (HISTORY_SEED={seed} tells it again):\n{}\n{}", acts.join("\n"), wrong.join("\n"))
}

/// Plays seeds as long as `go_on` says; returns how many, and the stories that went wrong.
async fn play_many(seeds: impl Iterator<Item = u64>, go_on: impl Fn() -> bool) -> (usize, Vec<String>) {
    let servers: Vec<Server> = (0..LANES).map(|_| Server::start(true)).collect();
    let seeds = Mutex::new(seeds);
    let (played, failed) = (Mutex::new(0), Mutex::new(Vec::new()));
    futures::stream::iter(&servers)
        .for_each_concurrent(None, async |server| {
            while go_on() {
                let Some(seed) = seeds.lock().expect("no panic").next() else { return };
                let began = Instant::now();
                let wrong = play(server, seed, &[]).await;
                eprintln!("history {seed}: {:.1} s, {} wrong", began.elapsed().as_secs_f64(), wrong.len());
                *played.lock().expect("no panic") += 1;
                if !wrong.is_empty() {
                    failed.lock().expect("no panic").push(story(seed, &wrong));
                }
            }
        })
        .await;
    (played.into_inner().expect("no panic"), failed.into_inner().expect("no panic"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_histories_end_as_if_everything_had_happened_once() {
    let one = std::env::var("HISTORY_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds = one.map_or(1..=USUAL, |seed| seed..=seed);
    let (played, failed) = play_many(seeds, || true).await;
    assert!(failed.is_empty(), "{} of {played} histories:\n{}", failed.len(), failed.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes 30 minutes; `cargo xtask test --long` runs it"]
async fn as_many_histories_as_fit_in_half_an_hour() {
    let began = Instant::now();
    let (played, failed) = play_many(USUAL + 1.., || began.elapsed() < LONG).await;
    println!("{played} histories were played, {} went wrong", failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// Seeds whose histories die most often right after a comment was written.
fn those_that_repeat_comments() -> Vec<u64> {
    let dies =
        |act: &Act| matches!(act, Act::KillAt(_, Step::CallComment | Step::CallStatusComment, "after"));
    let mut seeds: Vec<u64> = (1..=500).collect();
    seeds.sort_by_key(|seed| std::cmp::Reverse(history(*seed).iter().filter(|(_, act)| dies(act)).count()));
    seeds.truncate(20);
    seeds
}

/// The histories are worth something: without one check of ours they go wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_histories_notice_when_a_check_is_missing() {
    let server = Server::start(true);
    for seed in those_that_repeat_comments() {
        let wrong = play(&server, seed, &[("WITHOUT_CHECK", "one_comment")]).await;
        if !wrong.is_empty() {
            eprintln!("{}", story(seed, &wrong));
            assert!(wrong.iter().all(|w| w.contains("comment") || w.contains("reports")), "{wrong:?}");
            return;
        }
    }
    panic!("20 histories did not notice that comments are repeated without a look");
}
