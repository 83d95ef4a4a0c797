//! How runs end other than well: cancelled, out of time, lost; and how they start again.

use chrono::TimeDelta;
use serde_json::json;

use crate::harness::{PATIENCE, REPOSITORY, Setup, World, filtered};

/// Processes on this machine whose command line has the text in it.
fn processes_with(text: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries
        .filter_map(|e| std::fs::read(e.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(text))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_ends_the_attempt_at_once_and_says_how_to_start_again() {
    let world = World::start().await;
    let steps = json!([{ "fork_children": 3 }, { "print": "working" }, { "hang": true }]);
    let issue = world.scripted_issue("Take your time", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.until_log(&run.id, "working").await;
    let work = world.folder().join("data/work").display().to_string();
    assert!(!processes_with(&work).is_empty(), "the sandbox runs");

    let message = world.cancel(&run.id).await.expect("cancelled");
    assert!(message.starts_with("Cancelled by uid:"), "{message}");
    let run = world.finished(&run.id).await;
    assert_eq!(run.run.as_ref().expect("a run").state, "cancelled");
    assert_eq!(run.attempts[0].state, "stopped");
    let patience = std::time::Instant::now() + PATIENCE;
    while !processes_with(&work).is_empty() {
        assert!(std::time::Instant::now() < patience, "processes are left: {:?}", processes_with(&work));
        tokio::task::yield_now().await;
    }
    filtered().bind(|| insta::assert_snapshot!("cancelled", world.comments(issue)[0]));

    let again = world.cancel(&run.run.expect("a run").id).await.expect_err("it is over");
    assert!(again.contains("over already"), "{again}");
    assert!(world.github.pull_requests(REPOSITORY).is_empty());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_ends_an_attempt_and_retry_starts_a_new_run() {
    let world = World::start().await;
    let issue = world.scripted_issue("Take your time", &json!([{ "print": "working" }, { "hang": true }]));
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.until_log(&run.id, "working").await;
    world.clock.advance(TimeDelta::minutes(61));
    let run = world.finished(&run.id).await;
    let first = run.run.expect("a run");
    assert_eq!((first.state.as_str(), first.class.as_str()), ("failed", "timed_out"));
    filtered().bind(|| insta::assert_snapshot!("out_of_time", world.comments(issue)[0]));

    let second = world.retry(&first.id).await.expect("retried");
    assert_ne!(second, first.id);
    assert!(world.retry(&first.id).await.expect_err("one run at a time").contains("under way"));
    world.until_log(&second, "working").await;
    world.cancel(&second).await.expect("cancelled");
    let second = world.finished(&second).await;
    assert_eq!(second.retry_of, first.id);
    assert_eq!(world.comments(issue).len(), 2, "each run has its own comment");
    world.end().await;
}

/// Real seconds, so that the worker's own timer has its chance to be first.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_out_of_time_and_is_not_tried_again() {
    let config = json!({ "agents": { "time_limit_seconds": 3 } });
    let world = World::with(Setup { config, ..Setup::default() }).await;
    let issue = world.scripted_issue("Take your time", &json!([{ "hang": true }]));
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let run = world.finished(&run.id).await;
    let end = run.run.expect("a run");
    assert_eq!((end.state.as_str(), end.class.as_str()), ("failed", "timed_out"), "{}", end.message);
    assert!(end.message.contains("3 seconds"), "{}", end.message);
    assert_eq!(run.attempts.len(), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn putting_the_label_back_starts_again() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let first = world.run_of(issue).await;
    world.finished(&first.id).await;
    world.label(issue, "run:dev");
    world.until("a second pull request", |g| (g.pull_requests(REPOSITORY).len() == 2).then_some(())).await;
    let heads: Vec<String> = world.github.pull_requests(REPOSITORY).into_iter().map(|p| p.head).collect();
    assert!(
        heads.contains(&format!("callboard/{issue}-dev"))
            && heads.contains(&format!("callboard/{issue}-dev-2")),
        "{heads:?}"
    );
    world.end().await;
}

/// The platform ends while an agent works: the attempt is lost, and a new one is made.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_ends_with_the_platform_is_tried_again() {
    let mut world = World::start().await;
    let steps = json!([{ "print": "working" }, { "wait_for_file": "never" }]);
    let issue = world.scripted_issue("Take your time", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.until_log(&run.id, "working").await;
    world.down().await;
    world.up().await;
    world.clock.advance(TimeDelta::seconds(10));
    let id = run.id.clone();
    let mut lines = world
        .admin()
        .logs(proto::admin::LogsRequest { run_id: id.clone(), follow: true })
        .await
        .expect("logs")
        .into_inner();
    while let Some(line) = lines.message().await.expect("a line") {
        if line.attempt == 2 && line.text.contains("working") {
            break;
        }
    }
    let detail = world.get(&id).await;
    assert_eq!(detail.attempts.len(), 2);
    assert_eq!(detail.attempts[0].state, "lost");
    world.cancel(&id).await.expect("cancelled");
    world.finished(&id).await;
    assert_eq!(world.comments(issue).len(), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_fails_is_said_with_its_words() {
    let world = World::start().await;
    let steps = json!([{ "write": { "path": "half.txt", "content": "half\n" } }, { "exit": 3 }]);
    let issue = world.scripted_issue("Fail", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let run = world.finished(&run.id).await.run.expect("a run");
    assert_eq!((run.state.as_str(), run.class.as_str()), ("failed", "agent"));
    assert!(world.github.pull_requests(REPOSITORY).is_empty());
    filtered().bind(|| insta::assert_snapshot!("agent_failed", world.comments(issue)[0]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_output_ends_the_attempt() {
    let world = World::with(Setup {
        config: json!({ "executor": { "local": { "output_mib": 1 } } }),
        ..Setup::default()
    })
    .await;
    let issue = world.scripted_issue("Talk a lot", &json!([{ "print_many": 200_000 }, { "hang": true }]));
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let run = world.finished(&run.id).await.run.expect("a run");
    assert_eq!((run.state.as_str(), run.class.as_str()), ("failed", "agent"));
    assert!(run.message.contains("output"), "{}", run.message);
    world.end().await;
}

/// No working sandbox: no run; and `sandbox: none` is said wherever it matters.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_sandbox_only_when_it_is_configured_and_then_it_is_said() {
    let config = json!({ "executor": { "local": { "sandbox": "none" } } });
    let world = World::with(Setup { config, ..Setup::default() }).await;
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let run = world.finished(&run.id).await;
    assert_eq!(run.run.expect("a run").state, "succeeded");
    assert!(world.comments(issue)[0].contains("sandbox: none"), "{}", world.comments(issue)[0]);
    let check = world.admin().check(proto::admin::CheckRequest {}).await.expect("checked").into_inner();
    assert!(check.findings.iter().any(|f| f.found.contains("sandbox: none")));
    world.end().await;
}
