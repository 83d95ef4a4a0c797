//! The status comment while its run goes on: how often it is written, and what that costs.

use chrono::TimeDelta;
use serde_json::json;

use webhook_simulator::Fault;

use crate::harness::{PATIENCE, REPOSITORY, World};

/// Times the status comments of an issue were written or edited.
fn writes(world: &World, issue: u64) -> usize {
    let written = format!("/issues/{issue}/comments");
    let log = world.github.request_log();
    let of_status = |method: &str, path: &str| match method {
        "POST" => path.ends_with(&written),
        "PATCH" => path.contains("/issues/comments/"),
        _ => false,
    };
    log.iter().filter(|r| of_status(&r.method, &r.path)).count()
}

/// Waits until the publisher has looked at a reaction that is wanted now, and holds it back.
async fn until_one_is_held_back(world: &World) {
    let mut db = world.db().await;
    let wanted: String = sqlx::query_scalar(
        "insert into effects (effect_id, repository_id, kind, payload, state, priority, available_at, trace_id, created_at)
         select gen_random_uuid(), repository_id, kind, payload, 'pending', priority, available_at, trace_id, created_at
         from effects where kind = 'react' order by ordinal limit 1 returning effect_id::text",
    )
    .fetch_one(&mut db)
    .await
    .expect("a reaction");
    let patience = tokio::time::Instant::now() + PATIENCE;
    loop {
        let held: bool =
            sqlx::query_scalar("select last_error is not null from effects where effect_id = $1::uuid")
                .bind(&wanted)
                .fetch_one(&mut db)
                .await
                .expect("it is there");
        if held {
            return;
        }
        assert!(tokio::time::Instant::now() < patience, "the publisher does not look");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Waits until the comment says that the agent works for that long at least.
async fn until_at_work_for(world: &World, issue: u64, minutes: u64) {
    let at_work = |g: &webhook_simulator::Simulator| {
        let comment = g.comments(REPOSITORY, issue).pop()?.body;
        let (before, _) = comment.split_once(" so far |")?;
        let said = before.rsplit("| ").next()?;
        let said = if said == "under a minute" { 0 } else { said.strip_suffix(" min")?.parse().ok()? };
        (said >= minutes).then_some(())
    };
    world.until("the time at work", at_work).await;
}

/// Queued, working, done: nothing in between is worth a write.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_run_writes_its_comment_three_times_at_most() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.finished(&run.id).await;
    let writes = writes(&world, issue);
    assert!((1..=3).contains(&writes), "{writes}: {:#?}", world.github.request_counts());
    world.end().await;
}

/// An agent that works for nearly an hour: its comment says for how long, at most once a minute
/// and only when that is news.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_run_is_refreshed_and_no_more_often_than_it_is_news() {
    let world = World::start().await;
    let issue = world.scripted_issue("Take your time", &json!([{ "print": "working" }, { "hang": true }]));
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    until_at_work_for(&world, issue, 0).await;
    // Before time is moved: what services tell each other to prove who they are is good for seconds.
    world.until_log(&run.id, "working").await;
    let began = std::time::Instant::now();
    // The first half of a minute is not news, the second makes one.
    world.clock.advance(TimeDelta::seconds(30));
    world.clock.advance(TimeDelta::seconds(31));
    until_at_work_for(&world, issue, 1).await;
    for minutes in [12, 23, 34, 45, 56] {
        world.clock.advance(TimeDelta::minutes(11));
        until_at_work_for(&world, issue, minutes).await;
    }
    assert_eq!(world.comments(issue).len(), 1);
    world.cancel(&run.id).await.expect("cancelled");
    world.finished(&run.id).await;
    // Queued, working, cancelled, once for each time that was news, and for each minute of a slow machine.
    let (writes, slow) = (writes(&world, issue), began.elapsed().as_secs() / 60);
    assert!(writes >= 8 && writes as u64 <= 9 + slow, "{writes}");
    assert!(!world.comments(issue)[0].contains("so far"), "{}", world.comments(issue)[0]);
    world.end().await;
}

/// The code host has us wait because of something else: what would only be a refresh waits too.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_refreshed_while_the_code_host_has_us_wait() {
    let world = World::start().await;
    let issue = world.scripted_issue("Take your time", &json!([{ "print": "working" }, { "hang": true }]));
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    until_at_work_for(&world, issue, 0).await;
    // Before time is moved: what services tell each other to prove who they are is good for seconds.
    world.until_log(&run.id, "working").await;
    let wanted = async || {
        let effects = world.get(&run.id).await.effects;
        effects.iter().filter(|e| e.kind == "status_comment").count()
    };
    let before = wanted().await;
    world.clock.advance(TimeDelta::seconds(30));
    world.github.fault(Fault::Refuse(429), "POST /repos/{owner}/{repo}/issues/{number}/comments", 1);
    world.label(world.issue("Refused", ""), "run:nothing");
    let refused =
        |g: &webhook_simulator::Simulator| g.request_log().iter().any(|r| r.status == 429).then_some(());
    world.until("a refusal", refused).await;
    // Something else that is held back tells that the publisher has gone on since, before and after
    // it would have been time.
    for seconds in [0, 31] {
        world.clock.advance(TimeDelta::seconds(seconds));
        until_one_is_held_back(&world).await;
    }
    assert_eq!(wanted().await, before);
    world.clock.advance(TimeDelta::seconds(61));
    until_at_work_for(&world, issue, 1).await;
    world.cancel(&run.id).await.expect("cancelled");
    world.finished(&run.id).await;
    world.end().await;
}
