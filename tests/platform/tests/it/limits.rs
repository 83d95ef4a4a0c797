//! GitHub's limits: what waits for them says so, goes on by itself, and loses nothing.

use chrono::TimeDelta;
use serde_json::json;
use webhook_simulator::Fault;

use crate::harness::{GO, REPOSITORY, World, filtered};

const COMMIT: &str = "POST /repos/{owner}/{repo}/git/commits";
const COMMENTS: &str = "GET /repos/{owner}/{repo}/issues/{number}/comments";

/// What the newest status comment of a run says, sent or not.
async fn said(world: &World, run: &str) -> String {
    sqlx::query_scalar(
        "select payload ->> 'body' from effects where run_id = $1::uuid and kind = 'status_comment'
         order by ordinal desc limit 1",
    )
    .bind(run)
    .fetch_one(&mut world.db().await)
    .await
    .expect("a status comment")
}

/// The result is ready and GitHub takes nothing new: the run waits and says until when, in every
/// place where people look, and goes on without the agent.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_waits_for_a_limit_says_until_when_and_goes_on() {
    let world = World::start().await;
    world.github.fault(Fault::SecondaryLimit(900), COMMIT, 1);
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let waits =
        world.until_run(&run.id, "it waits", |d| d.run.as_ref().is_some_and(|r| r.state == "waiting")).await;
    assert_eq!(waits.publication_state, "publishing");
    let run_now = waits.run.expect("a run");
    assert_eq!(run_now.class, "rate_limit");
    filtered().bind(|| {
        insta::assert_snapshot!("waiting_for_a_limit", run_now.message.replace(char::is_numeric, "0"));
    });
    assert!(said(&world, &run.id).await.contains("⏳ waiting for GitHub's limit"));
    let (_, listed, _) = world.callboard(&["run", "list"]).await;
    assert!(listed.contains("waiting (rate_limit)"), "{listed}");
    let refused = world.release(&run.id, "").await.expect_err("nothing is held");
    assert!(refused.contains("nothing of it is held"), "{refused}");

    world.clock.advance(TimeDelta::seconds(901));
    let done = world.finished(&run.id).await;
    assert_eq!(done.run.expect("a run").state, "succeeded");
    assert_eq!(done.attempts.len(), 1, "the agent did not work again");
    let moves: Vec<&str> = done
        .events
        .iter()
        .map(|e| e.kind.as_str())
        .filter(|k| ["active", "waiting", "succeeded"].contains(k))
        .collect();
    assert_eq!(moves, ["active", "waiting", "active", "succeeded"]);
    assert_eq!(world.github.pull_requests(REPOSITORY).len(), 1);
    assert!(world.comments(issue)[0].contains("✅"), "{}", world.comments(issue)[0]);
    world.end().await;
}

/// A person may end it instead; then nothing of it is left to be sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_for_a_limit_is_cancelled_like_any_other() {
    let world = World::start().await;
    world.github.fault(Fault::SecondaryLimit(900), COMMIT, 1);
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.until_run(&run.id, "it waits", |d| d.run.as_ref().is_some_and(|r| r.state == "waiting")).await;
    world.cancel(&run.id).await.expect("cancelled");
    world.clock.advance(TimeDelta::seconds(901));
    let done = world.finished(&run.id).await;
    assert_eq!(
        (done.run.expect("a run").state.as_str(), done.publication_state.as_str()),
        ("cancelled", "refused")
    );
    assert!(world.github.pull_requests(REPOSITORY).is_empty());
    assert!(world.comments(issue)[0].contains("🛑"), "{}", world.comments(issue)[0]);
    world.end().await;
}

/// What a run needs cannot be read before the limit is over: it begins then, and it was no try.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_prepared_begins_when_the_limit_is_over() {
    let world = World::start().await;
    world.github.fault(Fault::SecondaryLimit(900), COMMENTS, 1);
    let issue = world.scripted_issue("Say hello", &json!([{ "wait_for_file": GO }]));
    world.label(issue, "run:dev");
    // Its comment may wait for the limit as well.
    let run = world.next_run(issue, &[]).await;
    let queued = world
        .until_run(&run.id, "it waits", |d| {
            d.run.as_ref().is_some_and(|r| r.state == "queued" && r.message.contains("could not begin"))
        })
        .await;
    let said = queued.run.as_ref().expect("a run");
    assert!(said.message.contains("goes on by itself at"), "{}", said.message);
    assert!(!queued.attempts.is_empty());
    world.clock.advance(TimeDelta::seconds(901));
    world.until_waiting(&run.id, 2).await;
    world.let_go(&run.id).await;
    assert_eq!(world.finished(&run.id).await.run.expect("a run").state, "succeeded");
    world.end().await;
}

/// Our own pace is such a limit: many runs at once reach it.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_over_soon_costs_a_run_no_attempt() {
    let world = World::start().await;
    world.github.fault(Fault::SecondaryLimit(3), COMMENTS, 1);
    let issue = world.scripted_issue("Say hello", &json!([]));
    world.label(issue, "run:dev");
    let run = world.next_run(issue, &[]).await;
    let done = world.finished(&run.id).await;
    assert_eq!(done.attempts.len(), 1, "{done:#?}");
    assert!(done.events.iter().all(|event| !event.text.contains("could not begin")), "{done:#?}");
    world.end().await;
}
