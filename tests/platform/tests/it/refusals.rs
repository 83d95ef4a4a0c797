//! Who may start a run, and what people are told when nothing starts.

use serde_json::json;
use webhook_simulator::Simulator;

use crate::harness::{REPOSITORY, World, filtered};

#[tokio::test(flavor = "multi_thread")]
async fn a_start_needs_write_permission_as_github_states_it_now() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    world.label_by(issue, "run:dev", "triager");
    world.until("a word on the issue", |g| (!g.comments(REPOSITORY, issue).is_empty()).then_some(())).await;
    world.settled().await;
    filtered().bind(|| insta::assert_snapshot!("refused_without_write", world.comments(issue)[0]));
    assert!(
        !world.github.labels(REPOSITORY, issue).contains(&"run:dev".to_owned()),
        "the label is taken off"
    );
    let explained = world.explain(&format!("#{issue}")).await;
    let decision = explained.iter().find(|e| e.subject.starts_with("issues.labeled")).expect("explained");
    assert_eq!((decision.outcome.as_str(), decision.reason.as_str()), ("reject", "no_write_permission"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bots_do_not_start_runs_and_are_not_answered() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    world.label_by(issue, "run:dev", "helper[bot]");
    world
        .until("the label to go", |g| {
            (!g.labels(REPOSITORY, issue).contains(&"run:dev".to_owned())).then_some(())
        })
        .await;
    world.settled().await;
    assert!(world.comments(issue).is_empty());
    assert!(world.explain(&format!("#{issue}")).await.iter().any(|e| e.reason == "bot_actor"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_permission_is_a_refusal() {
    let world = World::start().await;
    world.github.switch_off(webhook_simulator::Feature::CollaboratorPermission);
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    world.until("a word on the issue", |g| (!g.comments(REPOSITORY, issue).is_empty()).then_some(())).await;
    world.settled().await;
    filtered().bind(|| insta::assert_snapshot!("refused_permission_unknown", world.comments(issue)[0]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_stage_is_answered_with_those_there_are() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:deploy");
    world.until("a word on the issue", |g| (!g.comments(REPOSITORY, issue).is_empty()).then_some(())).await;
    world.settled().await;
    filtered().bind(|| insta::assert_snapshot!("refused_unknown_stage", world.comments(issue)[0]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_label_waits_for_the_first_run() {
    let world = World::start().await;
    let issue = world.scripted_issue("Take your time", &json!([{ "print": "working" }, { "hang": true }]));
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.until_log(&run.id, "working").await;
    let is_off = |g: &Simulator| !g.labels(REPOSITORY, issue).iter().any(|label| label == "run:dev");
    world.until("the label to be off", |g| is_off(g).then_some(())).await;
    world.label(issue, "run:dev");
    world.until("a refusal", |g| (g.comments(REPOSITORY, issue).len() == 2).then_some(())).await;
    filtered().bind(|| insta::assert_snapshot!("refused_run_under_way", world.comments(issue)[1]));
    world.cancel(&run.id).await.expect("cancelled");
    world.finished(&run.id).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_labels_are_ignored_and_explained() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "bug");
    world
        .until("the delivery", |g| {
            g.deliveries(world.hook)
                .into_iter()
                .find(|d| d.event == "issues" && d.action.as_deref() == Some("labeled") && d.answer.is_some())
                .map(|_| ())
        })
        .await;
    world.settled().await;
    let explained = world.explain(&format!("#{issue}")).await;
    assert!(explained.iter().any(|e| e.reason == "label_not_a_trigger"), "{explained:?}");
    assert!(world.comments(issue).is_empty());
    world.end().await;
}
