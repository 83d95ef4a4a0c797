//! Effects find themselves again: answers that get lost, answers that never come, a second
//! comment, a branch that is ours after all, and what a person does about what was given up.

use chrono::TimeDelta;
use proto::admin::{EffectActionRequest, ListEffectsRequest, OutboxEffect, list_effects_request::Wanted};
use serde_json::json;
use webhook_simulator::Fault;

use crate::harness::{REPOSITORY, Setup, World, filtered};

const COMMENT: &str = "POST /repos/{owner}/{repo}/issues/{number}/comments";
const COMMENTS: &str = "GET /repos/{owner}/{repo}/issues/{number}/comments";
const COMMIT: &str = "POST /repos/{owner}/{repo}/git/commits";
const BRANCH: &str = "POST /repos/{owner}/{repo}/git/refs";
const PULL: &str = "POST /repos/{owner}/{repo}/pulls";
const LABELS: &str = "POST /repos/{owner}/{repo}/issues/{number}/labels";
const UNLABEL: &str = "DELETE /repos/{owner}/{repo}/issues/{number}/labels/{name}";
const REACTION: &str = "POST /repos/{owner}/{repo}/issues/{number}/reactions";

/// A world with GitHub's lag: lists are believed after ten seconds of the story's clock.
async fn lagging() -> World {
    let config = json!({ "github": { "list_lag_seconds": 10 } });
    World::with(Setup { config, ..Setup::default() }).await
}

async fn outbox(world: &World, wanted: Wanted) -> Vec<OutboxEffect> {
    let request = ListEffectsRequest { wanted: wanted.into() };
    world.admin().list_effects(request).await.expect("effects").into_inner().effects
}

/// Waits until effects are as they should be; looks again whenever GitHub changes or time does.
async fn until_outbox(
    world: &World,
    what: &str,
    wanted: Wanted,
    mut probe: impl FnMut(&[OutboxEffect]) -> bool,
) {
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let effects = outbox(world, wanted).await;
        if probe(&effects) {
            return;
        }
        assert!(std::time::Instant::now() < patience, "waited in vain for {what}: {effects:#?}");
        tokio::task::yield_now().await;
    }
}

fn count(world: &World, request: &str) -> usize {
    world.github.request_counts().get(request).copied().unwrap_or_default()
}

/// Every write of a run, the first time without an answer: everything is there once.
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_may_get_lost() {
    let world = World::start().await;
    for request in [COMMENT, COMMIT, BRANCH, PULL, LABELS, UNLABEL, REACTION] {
        world.github.fault(Fault::LoseAnswer, request, 1);
    }
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let run = world.finished(&run.id).await;
    assert_eq!(run.run.as_ref().expect("a run").state, "succeeded");
    assert_eq!(world.comments(issue).len(), 1);
    let pulls = world.github.pull_requests(REPOSITORY);
    assert_eq!(pulls.len(), 1);
    assert_eq!(pulls[0].head, format!("callboard/{issue}-dev"), "no second branch");
    assert_eq!(world.comments(pulls[0].number).len(), 1, "one report");
    assert_eq!(world.github.labels(REPOSITORY, issue), ["state:in-review"]);
    assert_eq!(world.github.reactions(REPOSITORY, issue).len(), 1);
    world.end().await;
}

/// The list does not show a comment at once. It is not believed before the lag is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_comment_of_unknown_fate_is_looked_for_after_the_lag() {
    let world = lagging().await;
    world.github.fault(Fault::LoseAnswer, COMMENT, 1);
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    until_outbox(&world, "the comment to be put off", Wanted::Pending, |effects| {
        effects.iter().any(|e| e.kind == "status_comment" && !e.last_error.is_empty())
    })
    .await;
    let waiting = outbox(&world, Wanted::Pending).await;
    let comment = waiting.iter().find(|e| e.kind == "status_comment").expect("it waits");
    let at = |text: &str| chrono::DateTime::parse_from_rfc3339(text).expect("a time");
    assert!(at(&comment.available_at) - at(&comment.tried_at) >= TimeDelta::seconds(10), "{comment:?}");
    assert_eq!(count(&world, COMMENT), 1, "not repeated yet");

    world.clock.advance(TimeDelta::seconds(11));
    until_outbox(&world, "the look for a second one", Wanted::Pending, |effects| {
        effects.iter().any(|e| e.kind == "sole_comment")
    })
    .await;
    assert!(world.comments(issue).len() == 1 && count(&world, COMMENT) == 1, "found, not written again");
    let sole = outbox(&world, Wanted::Pending).await;
    let sole = sole.iter().find(|e| e.kind == "sole_comment").expect("it waits");
    assert!(at(&sole.available_at) - at(&sole.created_at) == TimeDelta::seconds(60), "{sole:?}");
    world.clock.advance(TimeDelta::seconds(61));
    let run = world.finished(&run.id).await;
    assert_eq!(run.run.expect("a run").state, "succeeded");
    world.end().await;
}

/// A call that nobody waited for any more comes in late: two comments of ours, of which the
/// unknown one goes. What people wrote stays, whatever they copied.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_comment_of_ours_is_deleted_and_nobody_elses() {
    let world = lagging().await;
    // Refused by a proxy, says the answer; in truth it is on its way.
    world.github.fault(Fault::Refuse(502), COMMENT, 1);
    let issue = world.scripted_issue("Take your time", &json!([{ "print": "working" }, { "hang": true }]));
    world.label(issue, "run:dev");
    until_outbox(&world, "the comment to be put off", Wanted::Pending, |effects| {
        effects.iter().any(|e| e.kind == "status_comment" && !e.last_error.is_empty())
    })
    .await;
    world.clock.advance(TimeDelta::seconds(11));
    let run = world.run_of(issue).await;
    let ours = world.github.comments(REPOSITORY, issue)[0].id;
    let mark = format!("<!-- callboard:run={} -->", run.id);
    let late = world.github.add_comment(REPOSITORY, issue, "octocat", &format!("{mark}\nlate")).expect("it");
    let copied = world.github.add_comment(REPOSITORY, issue, "mona", &format!("{mark}\nmine")).expect("it");
    let quoted = world.github.add_comment(REPOSITORY, issue, "octocat", &format!("> {mark}")).expect("it");
    until_outbox(&world, "the look for a second one", Wanted::Pending, |effects| {
        effects.iter().any(|e| e.kind == "sole_comment")
    })
    .await;
    world.clock.advance(TimeDelta::seconds(61));
    world
        .until("the second one to go", |g| {
            g.comments(REPOSITORY, issue).iter().all(|c| c.id != late).then_some(())
        })
        .await;
    world.cancel(&run.id).await.expect("cancelled");
    world.finished(&run.id).await;
    let left: Vec<u64> = world.github.comments(REPOSITORY, issue).into_iter().map(|c| c.id).collect();
    assert_eq!(left, [ours, copied, quoted]);
    world.end().await;
}

/// What is definitely refused did not happen: it is not looked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_an_answer() {
    let world = World::start().await;
    world.github.fault(Fault::Refuse(429), COMMENT, 1);
    let issue = world.scripted_issue("Nothing", &json!([{ "print": "nothing to do" }]));
    world.label(issue, "run:dev");
    until_outbox(&world, "the comment to wait", Wanted::Pending, |effects| {
        effects.iter().any(|e| e.kind == "status_comment" && e.last_error.contains("rate limit"))
    })
    .await;
    let waiting = outbox(&world, Wanted::Pending).await;
    let comment = waiting.iter().find(|e| e.kind == "status_comment").expect("it waits");
    assert_eq!((comment.tries, comment.tried_at.as_str()), (0, ""), "{comment:?}");
    let looked = count(&world, COMMENTS);
    world.clock.advance(TimeDelta::seconds(61));
    let run = world.run_of(issue).await;
    world.finished(&run.id).await;
    // The prompt is made of comments too: once for each run.
    assert!(count(&world, COMMENTS) <= looked + 1, "not looked for");
    assert_eq!(world.comments(issue).len(), 1);
    assert!(outbox(&world, Wanted::All).await.iter().all(|e| e.kind != "sole_comment"));
    world.end().await;
}

/// Somebody else has a branch of that name; and one that says it is ours is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_branch_is_left_alone() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    let api = format!("{}/repos/{REPOSITORY}", world.github.api_url());
    let client = reqwest::Client::new();
    let main: serde_json::Value = client
        .get(format!("{api}/git/ref/heads/main"))
        .bearer_auth(&world.token)
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let body = json!({ "ref": format!("refs/heads/callboard/{issue}-dev"), "sha": main["object"]["sha"] });
    let made = client.post(format!("{api}/git/refs")).bearer_auth(&world.token).json(&body).send().await;
    assert_eq!(made.expect("an answer").status(), 201);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.finished(&run.id).await;
    let heads: Vec<String> = world.github.pull_requests(REPOSITORY).into_iter().map(|p| p.head).collect();
    assert_eq!(heads, [format!("callboard/{issue}-dev-2")]);
    world.end().await;
}

/// GitHub will not take the commit. The agent's work is kept; a person fixes it, and it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_fails_waits_for_a_person_who_retries_it() {
    let world = World::start().await;
    world.github.fault(Fault::Refuse(403), COMMIT, 1);
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world
        .until("the comment to say so", |g| {
            g.comments(REPOSITORY, issue).iter().any(|c| c.body.contains("outbox retry")).then_some(())
        })
        .await;
    filtered().bind(|| insta::assert_snapshot!("publication_failed", world.comments(issue)[0]));
    let detail = world.get(&run.id).await;
    let held = detail.run.expect("a run");
    assert_eq!((held.state.as_str(), detail.publication_state.as_str()), ("waiting", "publishing"));
    let check = world.admin().check(proto::admin::CheckRequest {}).await.expect("checked").into_inner();
    assert!(check.findings.iter().any(|f| f.next_step.contains("callboard outbox list")), "{check:?}");
    let dead = outbox(&world, Wanted::Dead).await;
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!((dead[0].kind.as_str(), dead[0].run_id.as_str()), ("commit", run.id.as_str()));
    let waits = outbox(&world, Wanted::Pending).await;
    assert!(["branch", "pull_request"].iter().all(|k| waits.iter().any(|e| e.kind == *k)), "{waits:?}");

    let request = EffectActionRequest { id: dead[0].id.clone() };
    let done = world.admin().retry_effect(request.clone()).await.expect("retried").into_inner();
    assert!(done.run_id == run.id && done.message.contains("uid:"), "{done:?}");
    let detail = world.finished(&run.id).await;
    assert_eq!(detail.run.expect("a run").state, "succeeded");
    assert_eq!(detail.attempts.len(), 1, "the agent did not work again");
    assert_eq!(world.github.pull_requests(REPOSITORY).len(), 1);
    assert_eq!(world.comments(issue).len(), 1);
    let again = world.admin().retry_effect(request).await.expect_err("it is done");
    assert_eq!(again.message(), "It is done.");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_fails_is_dropped_with_its_run() {
    let world = World::start().await;
    world.github.fault(Fault::Refuse(422), PULL, 1);
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    until_outbox(&world, "it to be given up", Wanted::Dead, |effects| !effects.is_empty()).await;
    let dead = outbox(&world, Wanted::Dead).await;
    assert_eq!(dead[0].kind, "pull_request");
    let request = EffectActionRequest { id: dead[0].id.clone() };
    world.admin().drop_effect(request.clone()).await.expect("dropped");
    let detail = world.finished(&run.id).await;
    let failed = detail.run.expect("a run");
    assert_eq!((failed.state.as_str(), failed.class.as_str()), ("failed", "infrastructure"));
    assert_eq!(detail.publication_state, "refused");
    filtered().bind(|| insta::assert_snapshot!("publication_dropped", world.comments(issue)[0]));
    let who: String = {
        use sqlx::Connection;
        let mut db = sqlx::PgConnection::connect(&world.database.url).await.expect("connected");
        sqlx::query_scalar("select actor from audit where action = 'effect.dropped'")
            .fetch_one(&mut db)
            .await
            .expect("it is in the audit log")
    };
    assert!(who.starts_with("uid:"), "{who}");
    let again = world.admin().drop_effect(request).await.expect_err("it is gone");
    assert_eq!(again.message(), "It was skipped, and nobody waits for it.");
    world.end().await;
}

/// A person may cancel the run instead; then nothing is left to be decided.
#[tokio::test(flavor = "multi_thread")]
async fn cancel_clears_what_was_given_up() {
    let world = World::start().await;
    world.github.fault(Fault::Refuse(403), BRANCH, 1);
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    until_outbox(&world, "it to be given up", Wanted::Dead, |effects| !effects.is_empty()).await;
    world.cancel(&run.id).await.expect("cancelled");
    let detail = world.finished(&run.id).await;
    assert_eq!(detail.run.expect("a run").state, "cancelled");
    assert!(outbox(&world, Wanted::Dead).await.is_empty());
    assert!(world.github.pull_requests(REPOSITORY).is_empty());
    world.end().await;
}
