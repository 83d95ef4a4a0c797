//! The stop button.

use proto::admin::{CheckRequest, ListRunsRequest};
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::harness::{GO, REPOSITORY, SOURCE, Setup, World, filtered};

async fn until_said(world: &World, issue: u64, words: &str) {
    let said = |g: &webhook_simulator::Simulator| {
        g.comments(REPOSITORY, issue).iter().any(|c| c.body.contains(words)).then_some(())
    };
    world.until(words, said).await;
}

/// Nothing starts, what is under way goes on and is published, and everybody who waits knows.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_starts_while_the_platform_is_paused() {
    let config = json!({ "executor": { "local": { "capacity": 1 } } });
    let world = World::with(Setup { config, ..Setup::default() }).await;
    let steps = json!([{ "wait_for_file": GO }, { "write": { "path": "a.txt", "content": "a\n" } }]);
    let at_work = world.scripted_issue("At work", &steps);
    world.label(at_work, "run:dev");
    let first = world.run_of(at_work).await;
    world.until_waiting(&first.id, 1).await;
    let queued = world.issue("Queued before", "Please.");
    world.label(queued, "run:dev");
    until_said(&world, queued, "Waiting for a worker").await;

    let message = world.pause("", "the model is down, says @mona").await.expect("paused");
    assert!(
        message.contains("nothing starts, 1 queued") && message.contains("`callboard resume`"),
        "{message}"
    );
    until_said(&world, queued, "Paused by").await;
    filtered().bind(|| insta::assert_snapshot!("paused", world.comments(queued)[0]));
    let again = world.pause(" ", "another word").await.expect("twice is once");
    assert!(again.starts_with("It was so already. Paused by"), "{again}");

    let later = world.issue("Queued after", "Please.");
    world.label(later, "run:dev");
    until_said(&world, later, "Paused by").await;
    let runs = world.admin().list_runs(ListRunsRequest::default()).await.expect("runs").into_inner().runs;
    let waits = runs.iter().filter(|r| r.message.starts_with("Paused by") && r.state == "queued").count();
    assert_eq!(waits, 2, "{runs:#?}");
    let check = world.admin().check(CheckRequest {}).await.expect("checked").into_inner();
    let pause = check.findings.iter().find(|f| f.probe == "pause").expect("a finding");
    assert!(pause.found.contains("the model is down") && pause.next_step.contains("callboard resume"));

    // What had begun is finished and published.
    world.let_go(&first.id).await;
    world.until("a pull request", |g| g.pull_requests(REPOSITORY).pop()).await;
    world.follow(&first.id).await;
    assert_eq!(world.get(&first.id).await.run.expect("a run").state, "succeeded");
    let others = world.admin().list_runs(ListRunsRequest::default()).await.expect("runs").into_inner().runs;
    assert_eq!(others.iter().filter(|r| r.state == "queued").count(), 2, "nothing started");

    let message = world.resume("").await.expect("resumed");
    assert_eq!(message, "The platform is resumed, 2 queued.");
    assert_eq!(world.resume("").await.expect("twice is once"), "The platform is not paused.");
    for issue in [queued, later] {
        let run = world.run_of(issue).await;
        assert_eq!(world.finished(&run.id).await.run.expect("a run").state, "succeeded");
        assert!(!world.comments(issue)[0].contains("Paused by"));
    }
    let mut database = PgConnection::connect(&world.database.url).await.expect("connected");
    let actions: Vec<String> = sqlx::query_scalar(
        "select action from events where subject = 'platform' and action like 'work.%' order by ordinal",
    )
    .fetch_all(&mut database)
    .await
    .expect("audit");
    assert_eq!(actions, ["work.paused", "work.resumed"]);
    world.end().await;
}

/// A name may be a project's and a stage's; one pause does not end with another.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_and_a_stage_are_paused_by_name() {
    let projects = json!([{ "name": "dev", "repositories": [{ "name": REPOSITORY, "source": SOURCE, "webhook_secret_file": "secret" }] }]);
    let world = World::with(Setup { config: json!({ "projects": projects }), ..Setup::default() }).await;
    let (code, _, ambiguous) = world.callboard(&["pause", "dev"]).await;
    assert_eq!(
        (code, ambiguous.as_str()),
        (2, "error: `dev` is a project and a stage; write project:dev or stage:dev\n")
    );
    let unknown = world.pause("project:nothing", "").await.expect_err("neither");
    assert!(unknown.contains("no project and no stage `nothing`; stages: "), "{unknown}");
    world.pause("project:dev", "").await.expect("paused");
    let (code, said, _) = world.callboard(&["pause", "stage:dev", "--reason", "a new prompt"]).await;
    assert_eq!(code, 0);
    assert!(said.starts_with("Stage `dev` is paused: nothing starts, 0 queued."), "{said}");

    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    until_said(&world, issue, "Project `dev` is paused by").await;
    let message = world.resume("project:dev").await.expect("resumed");
    assert!(message.contains("1 queued. Other pauses stand; `callboard resume stage:dev`"), "{message}");
    until_said(&world, issue, "Stage `dev` is paused by").await;
    let run = world.run_of(issue).await;
    assert_eq!((run.state.as_str(), world.get(&run.id).await.attempts.len()), ("queued", 0));
    world.resume("stage:dev").await.expect("resumed");
    assert_eq!(world.finished(&run.id).await.run.expect("a run").state, "succeeded");
    world.end().await;
}
