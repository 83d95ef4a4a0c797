//! Effects find themselves again: answers that get lost, answers that never come, a second
//! comment, a branch that is ours after all, and what a person does about what was given up.

use chrono::TimeDelta;
use proto::admin::{EffectActionRequest, ListEffectsRequest, OutboxEffect, list_effects_request::Wanted};
use serde_json::json;
use sqlx::Executor;
use webhook_simulator::Fault;

use crate::harness::{PATIENCE, REPOSITORY, Setup, World, filtered};

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
    let patience = std::time::Instant::now() + PATIENCE;
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

/// A status comment that was tried; a newer one that nobody has tried yet may wait behind it.
fn is_put_off(effect: &OutboxEffect) -> bool {
    effect.kind == "status_comment" && !effect.last_error.is_empty()
}

/// How often a comment on this issue was written; its run's report is on another.
fn comments_written(world: &World, issue: u64) -> usize {
    let on = format!("/issues/{issue}/comments");
    world.github.request_log().iter().filter(|r| r.method == "POST" && r.path.ends_with(&on)).count()
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
        effects.iter().any(is_put_off)
    })
    .await;
    let waiting = outbox(&world, Wanted::Pending).await;
    let comment = waiting.iter().find(|e| is_put_off(e)).expect("it waits");
    let at = |text: &str| chrono::DateTime::parse_from_rfc3339(text).expect("a time");
    assert!(at(&comment.available_at) - at(&comment.tried_at) >= TimeDelta::seconds(10), "{comment:?}");
    assert_eq!(comments_written(&world, issue), 1, "not repeated yet");

    world.clock.advance(TimeDelta::seconds(11));
    until_outbox(&world, "the look for a second one", Wanted::Pending, |effects| {
        effects.iter().any(|e| e.kind == "sole_comment")
    })
    .await;
    assert_eq!(world.comments(issue).len(), 1);
    assert_eq!(comments_written(&world, issue), 1, "found, not written again");
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
        effects.iter().any(is_put_off)
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

/// The pull request was opened, the answer got lost, and the list does not show it yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_that_is_not_listed_yet_is_waited_for() {
    let world = lagging().await;
    world.github.fault(Fault::LoseAnswer, PULL, 1);
    world.github.fault(Fault::ListLag(5_000), "GET *", u32::MAX);
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    until_outbox(&world, "the pull request to wait", Wanted::Pending, |effects| {
        effects.iter().any(|e| e.kind == "pull_request" && !e.last_error.is_empty())
    })
    .await;
    world.clock.advance(TimeDelta::seconds(11));
    assert_eq!(world.finished(&run.id).await.run.expect("a run").state, "succeeded");
    assert_eq!(
        (world.github.pull_requests(REPOSITORY).len(), count(&world, PULL)),
        (1, 1),
        "found, not opened again"
    );
    world.end().await;
}

/// A publisher is paused in the middle of a call; another one takes over and is done before it
/// comes back. What the first one wrote is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_comes_back_cleans_up_after_itself() {
    let world = lagging().await;
    world.github.fault(Fault::Refuse(502), COMMENT, 1);
    let issue = world.scripted_issue("Nothing", &json!([{ "print": "nothing to do" }]));
    world.label(issue, "run:dev");
    until_outbox(&world, "the comment to be put off", Wanted::Pending, |effects| {
        effects.iter().any(is_put_off)
    })
    .await;
    let waiting = outbox(&world, Wanted::Pending).await;
    let effect = waiting.iter().find(|e| is_put_off(e)).expect("it waits");

    let mut db = world.db().await;
    // It hangs between its call and its record.
    db.execute("begin").await.expect("begun");
    sqlx::query("select from runs where run_id = $1::uuid for update")
        .bind(&effect.run_id)
        .execute(&mut db)
        .await
        .expect("locked");
    world.clock.advance(TimeDelta::seconds(11));
    let first = world
        .until("its comment", |g| g.comments(REPOSITORY, issue).first().map(|c| (c.id, c.body.clone())))
        .await;
    // The other one does not see it in the list yet, and writes its own.
    let second = world.github.add_comment(REPOSITORY, issue, "octocat", &first.1).expect("a comment");
    let second = i64::try_from(second).expect("an id");
    for statement in [
        "insert into status_comments (run_id, comment_id, url, author, created_at)
           select run_id, $2, '', 'octocat', now() from effects where effect_id = $1::uuid",
        "update effects set state = 'done', finished_at = now(), result = jsonb_build_object('comment', $2)
           where effect_id = $1::uuid",
    ] {
        let done = sqlx::query(statement).bind(&effect.id).bind(second).execute(&mut db).await;
        assert_eq!(done.expect("recorded").rows_affected(), 1);
    }
    db.execute("commit").await.expect("committed");
    until_outbox(&world, "the look for a second one", Wanted::Pending, |effects| {
        effects.iter().any(|e| e.kind == "sole_comment")
    })
    .await;
    world.clock.advance(TimeDelta::seconds(61));
    world.finished(&effect.run_id).await;
    let left: Vec<u64> = world.github.comments(REPOSITORY, issue).into_iter().map(|c| c.id).collect();
    assert_eq!(left, [u64::try_from(second).expect("an id")]);
    assert!(world.comments(issue)[0].contains("✅"), "and it is the one that is kept up to date");
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
        effects.iter().any(|e| e.kind == "status_comment" && e.last_error.contains("limit is used up"))
    })
    .await;
    let waiting = outbox(&world, Wanted::Pending).await;
    let comment = waiting.iter().find(|e| is_put_off(e)).expect("it waits");
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

/// Somebody else has a branch of that name.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_branch_is_left_alone() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    let main = world.api("GET", "git/ref/heads/main", None).await;
    let foreign = json!({ "ref": format!("refs/heads/callboard/{issue}-dev"), "sha": main["object"]["sha"] });
    world.api("POST", "git/refs", Some(&foreign)).await;
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.finished(&run.id).await;
    let heads: Vec<String> = world.github.pull_requests(REPOSITORY).into_iter().map(|p| p.head).collect();
    assert_eq!(heads, [format!("callboard/{issue}-dev-2")]);
    world.end().await;
}

/// The branch was made by an earlier call, at a commit with another hash but the same content
/// (a server that signs); then the pull request was opened by one too, and a person closed it.
/// Both are ours, and are found.
#[tokio::test(flavor = "multi_thread")]
async fn our_branch_and_our_pull_request_are_recognised() {
    let world = World::start().await;
    world.github.fault(Fault::Refuse(403), BRANCH, 1);
    world.github.fault(Fault::Refuse(403), PULL, 1);
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    until_outbox(&world, "the branch to be given up", Wanted::Dead, |effects| !effects.is_empty()).await;
    let branch = outbox(&world, Wanted::Dead).await.remove(0);

    let made =
        world.get(&run.id).await.events.into_iter().find(|e| e.kind == "committed").expect("made").text;
    let ours = world.api("GET", &format!("git/commits/{made}"), None).await;
    let parents: Vec<_> = ours["parents"].as_array().expect("parents").iter().map(|p| &p["sha"]).collect();
    let same = json!({ "tree": ours["tree"]["sha"], "parents": parents, "message": ours["message"] });
    let head =
        world.api("POST", "git/commits", Some(&same)).await["sha"].as_str().expect("a hash").to_owned();
    assert_ne!(head, made);
    let name = format!("callboard/{issue}-dev");
    world.api("POST", "git/refs", Some(&json!({ "ref": format!("refs/heads/{name}"), "sha": head }))).await;
    let retry = EffectActionRequest { id: branch.id };
    world.admin().retry_effect(retry).await.expect("retried");

    until_outbox(&world, "the pull request to be given up", Wanted::Dead, |effects| !effects.is_empty())
        .await;
    let pull = outbox(&world, Wanted::Dead).await.remove(0);
    assert_eq!(pull.kind, "pull_request");
    let new = json!({ "title": "T", "body": "B", "head": name, "base": "main" });
    let number = world.api("POST", "pulls", Some(&new)).await["number"].as_u64().expect("a number");
    world.github.close_issue(REPOSITORY, number, "mona").expect("closed");
    let retry = EffectActionRequest { id: pull.id };
    world.admin().retry_effect(retry).await.expect("retried");
    let detail = world.finished(&run.id).await;
    let run = detail.run.expect("a run");
    assert_eq!(run.state, "succeeded");
    assert!(run.pull_request_url.ends_with(&format!("/{number}")), "{}", run.pull_request_url);
    let pulls = world.github.pull_requests(REPOSITORY);
    assert_eq!((pulls.len(), pulls[0].head.as_str(), pulls[0].head_sha.as_str()), (1, &*name, &*head));
    world.end().await;
}

/// An older status comment that was given up never comes after a newer one.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_status_comment_replaces_one_that_was_given_up() {
    let world = World::start().await;
    world.github.fault(Fault::Refuse(403), "POST /repos/{owner}/{repo}/issues/{number}/comments", 1);
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    assert_eq!(world.finished(&run.id).await.run.expect("a run").state, "succeeded");
    assert!(outbox(&world, Wanted::Dead).await.is_empty());
    assert!(world.comments(issue)[0].contains("✅"), "{}", world.comments(issue)[0]);
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
    let who: String = sqlx::query_scalar("select actor from events where action = 'effect.dropped'")
        .fetch_one(&mut world.db().await)
        .await
        .expect("it is in the audit log");
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
