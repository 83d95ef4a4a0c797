//! Progress on commits: where a run is, shown where people review.

use chrono::TimeDelta;
use serde_json::json;
use webhook_simulator::Fault;

use crate::harness::{GO, REPOSITORY, Setup, World};

const STATUS: &str = "POST /repos/{owner}/{repo}/statuses/{sha}";

/// State and description of every status of a commit, oldest first.
fn statuses(world: &World, sha: &str) -> Vec<(String, String)> {
    let all = world.github.statuses(REPOSITORY, sha).into_iter();
    all.rev()
        .filter(|s| s.context.starts_with("callboard/"))
        .map(|s| (s.state, format!("{}: {}", s.context, s.description.unwrap_or_default())))
        .collect()
}

fn status(state: &str, text: &str) -> (String, String) {
    (state.to_owned(), text.to_owned())
}

/// Our commit says how its run ended, in one call; a review's head also says that it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn commits_show_where_their_runs_are() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let first = world.run_of(issue).await;
    world.finished(&first.id).await;
    let pull = world.github.pull_requests(REPOSITORY).pop().expect("a pull request");
    let done = status("success", &format!("callboard/dev: dev for #{issue}: done"));
    assert_eq!(statuses(&world, &pull.head_sha), std::slice::from_ref(&done));
    let target = world.github.statuses(REPOSITORY, &pull.head_sha).remove(0).target_url;
    assert!(target.is_some_and(|url| url.contains("#issuecomment-")), "it leads to the status comment");

    // A review that takes its time, and is cancelled.
    world.scripted_comment(pull.number, "Have a look.", &json!([{ "wait_for_file": GO }]));
    world.label(pull.number, "need:reviewer");
    let review = world.next_run(issue, &[&first.id]).await;
    world.until_waiting(&review.id, 1).await;
    world.clock.advance(TimeDelta::seconds(11));
    let working = status("pending", &format!("callboard/review: review for #{issue}: working"));
    world
        .until("the head to say so", |_| (statuses(&world, &pull.head_sha).contains(&working)).then_some(()))
        .await;
    world.cancel(&review.id).await.expect("cancelled");
    world.finished(&review.id).await;
    let cancelled = status("error", &format!("callboard/review: review for #{issue}: cancelled"));
    assert_eq!(statuses(&world, &pull.head_sha), [done, working, cancelled]);

    // A revision ends on the commit it makes, and on the one it began with.
    let steps = json!([{ "write": { "path": "a.txt", "content": "a\n" } }]);
    world.scripted_comment(pull.number, "Politely.", &steps);
    world.label(issue, "run:dev:revise");
    let second = world.next_run(issue, &[&first.id, &review.id]).await;
    let revised = world.finished(&second.id).await;
    assert_eq!(revised.run.expect("a run").state, "succeeded");
    let head = world.github.pull_requests(REPOSITORY).pop().expect("a pull request").head_sha;
    assert_ne!(head, pull.head_sha);
    for sha in [&head, &pull.head_sha] {
        let last = statuses(&world, sha).pop().expect("a status");
        assert_eq!(last, status("success", &format!("callboard/dev: dev for #{issue}: done")));
    }
    world.end().await;
}

/// An App has check runs: one on our commit, also when the answer to its call was lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_shows_one_check_run() {
    let world = World::with(Setup { app: true, ..Setup::default() }).await;
    world.github.fault(Fault::LoseAnswer, "POST /repos/{owner}/{repo}/check-runs", 1);
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    assert_eq!(world.finished(&run.id).await.run.expect("a run").state, "succeeded");
    let pull = world.github.pull_requests(REPOSITORY).pop().expect("a pull request");
    let checks = world.github.check_runs(REPOSITORY, &pull.head_sha);
    assert_eq!(checks.len(), 1, "{checks:#?}");
    let check = &checks[0];
    assert_eq!((check.name.as_str(), check.conclusion.as_deref()), ("callboard/dev", Some("success")));
    assert_eq!(check.external_id.as_deref(), Some(run.id.as_str()));
    assert!(check.details_url.as_ref().is_some_and(|url| url.contains("#issuecomment-")), "{check:#?}");
    assert_eq!(check.title.as_deref(), Some(format!("dev for #{issue}: done").as_str()));
    world.end().await;
}

/// Our credential may not: it is said once and nobody is kept from anything.
#[tokio::test(flavor = "multi_thread")]
async fn progress_that_is_refused_is_left_out() {
    let world = World::start().await;
    world.github.fault(Fault::PermissionTaken, STATUS, 1);
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let done = world.finished(&run.id).await;
    assert_eq!(done.run.expect("a run").state, "succeeded");
    let skipped: Vec<&str> =
        done.effects.iter().filter(|e| e.state == "skipped").map(|e| e.kind.as_str()).collect();
    assert!(skipped.contains(&"progress"), "{:?}", done.effects);
    assert!(done.events.iter().any(|e| e.kind == "effect_skipped" && e.text.starts_with("progress: ")));
    world.end().await;
}
