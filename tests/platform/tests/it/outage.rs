//! Postgres is away for a minute while GitHub goes on delivering.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{Plan, REPOSITORY, SITE_SECRET, SOURCE, Server, Site, sign};

/// How long Postgres is away.
const AWAY: Duration = Duration::from_secs(60);
/// Between two deliveries.
const EVERY: Duration = Duration::from_millis(50);
/// The longest an answer may take.
const LIMIT: Duration = Duration::from_secs(2);
/// How often it is looked whether this machine runs anything at all.
const BEAT: Duration = Duration::from_millis(20);
/// Longer than anybody waits for a processor that is only busy.
const STANDSTILL: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Answer {
    sent: Instant,
    took: Duration,
    status: u16,
    retry_after: bool,
}

/// Times in which this machine ran nobody, as one that shares its processors may: what took longer
/// because of them did not take long.
#[derive(Default)]
struct Standstills(Mutex<Vec<(Instant, Instant)>>);

impl Standstills {
    fn watch(&self, is_on: &AtomicBool) {
        while is_on.load(Ordering::SeqCst) {
            let due = Instant::now() + BEAT;
            std::thread::sleep(BEAT);
            if due.elapsed() >= STANDSTILL {
                self.0.lock().expect("no panic").push((due, Instant::now()));
            }
        }
    }

    /// How much of that time they are.
    fn within(&self, from: Instant, to: Instant) -> Duration {
        let all = self.0.lock().expect("no panic");
        all.iter().map(|(begin, end)| (*end).min(to).saturating_duration_since((*begin).max(from))).sum()
    }
}

/// One delivery like those GitHub sends all day and nobody acts upon.
async fn deliver(client: &reqwest::Client, url: &str, guid: &str) -> Answer {
    let body = json!({
        "action": "labeled", "repository": { "full_name": REPOSITORY, "id": 1 },
        "sender": { "login": "mona", "type": "User" }, "label": { "name": "bug" },
        "issue": { "number": 1, "title": "t", "state": "open", "user": { "login": "mona" }, "html_url": "http://x" },
    })
    .to_string();
    let sent = Instant::now();
    let answer = client
        .post(url)
        .header("content-type", "application/json")
        .header("x-github-event", "issues")
        .header("x-github-delivery", guid)
        .header("x-hub-signature-256", sign(SITE_SECRET, body.as_bytes()))
        .body(body)
        .send()
        .await
        .expect("the gateway answers, whatever happens behind it");
    Answer {
        sent,
        took: sent.elapsed(),
        status: answer.status().as_u16(),
        retry_after: answer.headers().contains_key("retry-after"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_without_postgres_loses_nothing() {
    let server = Server::start(true);
    let site = Site::start(&server.database(), &Plan::default()).await;
    site.ready().await;
    let url = format!("http://{}/webhooks/github/{SOURCE}", site.platform().api);
    let ready_url = format!("http://{}/readyz", site.platform().admin);
    let (answers, readiness) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    let sending = AtomicBool::new(true);
    let (watching, standstills) = (Arc::new(AtomicBool::new(true)), Arc::<Standstills>::default());
    let beats = std::thread::spawn({
        let (watching, standstills) = (Arc::clone(&watching), Arc::clone(&standstills));
        move || standstills.watch(&watching)
    });
    let client = reqwest::Client::new();

    let send = async {
        let mut ticks = tokio::time::interval(EVERY);
        let mut under_way = futures::stream::FuturesUnordered::new();
        let mut number = 0;
        while sending.load(Ordering::SeqCst) {
            ticks.tick().await;
            let guid = format!("steady-{number}");
            number += 1;
            let (client, url) = (client.clone(), url.clone());
            under_way.push(tokio::spawn(async move { (deliver(&client, &url, &guid).await, guid) }));
        }
        while let Some(done) = futures::StreamExt::next(&mut under_way).await {
            let (answer, guid) = done.expect("an answer");
            answers.lock().expect("no panic").insert(guid, answer);
        }
    };
    let watch = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        while watching.load(Ordering::SeqCst) {
            ticks.tick().await;
            let asked = Instant::now();
            let ready = reqwest::get(&ready_url).await.is_ok_and(|answer| answer.status().is_success());
            readiness.lock().expect("no panic").push((asked, Instant::now(), ready));
        }
    };
    let story = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        tokio::task::block_in_place(|| server.stop());
        let away = Instant::now();
        let issue = site.issue("Asked during the outage", None);
        site.label(issue, "run:dev");
        tokio::time::sleep(AWAY).await;
        let back = Instant::now();
        tokio::task::block_in_place(|| server.start_again());
        let up = Instant::now();
        site.ready().await;
        let ready = Instant::now();
        tokio::time::sleep(Duration::from_secs(2)).await;
        sending.store(false, Ordering::SeqCst);
        watching.store(false, Ordering::SeqCst);
        (issue, away, back, up, ready)
    };
    let ((issue, away, back, up, ready), (), ()) = tokio::join!(story, send, watch);

    beats.join().expect("no panic");

    let answers = answers.into_inner().expect("no panic");
    let took = |answer: &Answer| {
        answer.took.saturating_sub(standstills.within(answer.sent, answer.sent + answer.took))
    };
    assert!(answers.len() > 1200, "20 a second for a minute: {}", answers.len());
    // While Postgres starts, a machine with other things to do may hold one up; never many, and none
    // for long.
    let share = |part: usize, of: usize| part * 100 / of.max(1);
    let slow = answers.values().filter(|answer| took(answer) >= LIMIT).count();
    assert!(share(slow, answers.len()) < 1, "{slow} of {} came late", answers.len());
    let after: Vec<_> = answers.iter().filter(|(_, answer)| answer.sent > ready).collect();
    let put_off = after.iter().filter(|(_, answer)| answer.status == 503).count();
    assert!(share(put_off, after.len()) < 10, "Postgres is back: {put_off} of {} put off", after.len());
    for (guid, answer) in &answers {
        assert!(took(answer) < 2 * LIMIT, "{guid}: {answer:?}");
        assert!([202, 503].contains(&answer.status), "{guid}: {answer:?}");
        assert_eq!(answer.retry_after, answer.status == 503, "{guid}: {answer:?}");
        if answer.sent > away && answer.sent + LIMIT < back {
            assert!(took(answer) < LIMIT, "Postgres is away: {guid}: {answer:?}");
        }
        if answer.sent > away && answer.sent + answer.took < back {
            assert_eq!(answer.status, 503, "Postgres is away: {guid}: {answer:?}");
        }
    }
    // Readiness tells the truth: two seconds after Postgres went at the latest. That it is back is
    // seen once it has started all it has, which takes longer on a busy machine.
    let (late, late_to_come) = (Duration::from_secs(2), Duration::from_secs(5));
    for (asked, answered, was_ready) in readiness.into_inner().expect("no panic") {
        if asked > away + late + standstills.within(away, asked) && answered < back {
            assert!(!was_ready, "ready without Postgres");
        }
        if answered < away || asked > up + late_to_come + standstills.within(up, asked) {
            assert!(was_ready, "not ready although Postgres answers");
        }
    }

    // Nobody presses "Redeliver": what GitHub could not hand over is asked for again.
    site.until("the label's run", async || (site.runs().await == 1).then_some(())).await;
    let gap: String = site
        .until("the gap to be reported", async || {
            let said = "select text from events where action = 'deliveries.gap_closed'";
            sqlx::query_scalar(said).fetch_optional(&site.db).await.ok().flatten()
        })
        .await;
    assert!(gap.ends_with(", 2 deliveries recovered"), "the issue and its label: {gap}");
    site.run_of(issue).await;
    site.settled().await;
    let decided: Vec<String> = sqlx::query_scalar(
        "select guid from deliveries join decisions using (delivery_id) where guid like 'steady-%'",
    )
    .fetch_all(&site.db)
    .await
    .expect("decisions");
    let count = |guid: &String| decided.iter().filter(|d| *d == guid).count();
    for (guid, answer) in &answers {
        match answer.status {
            202 => assert_eq!(count(guid), 1, "{guid} was taken"),
            // Stored although the answer was a refusal, or not at all: never twice.
            _ => assert!(count(guid) <= 1, "{guid} was decided twice"),
        }
    }
    assert_eq!(site.violations().await, Vec::<String>::new());
    assert_eq!(site.github.pull_requests(REPOSITORY).len(), 1);
    site.github.shutdown().await;
}
