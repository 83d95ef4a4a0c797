//! Workers that are told to rest, and runs for which there is none.

use chrono::TimeDelta;
use domain::rights::Permission;
use proto::{
    admin::{ListWorkersRequest, order_worker_request::Order},
    v1::{AttemptEnded, Declaration, LeaseRequest, attempt_ended::Outcome, report_request::What},
};
use serde_json::json;
use webhook_simulator::Simulator;

use crate::harness::{
    FIRST_PROCESS, PATIENCE, Played, REPOSITORY, SECOND_PROCESS, SECRET, SOURCE, Setup, World,
};

async fn states(world: &World) -> Vec<(String, String)> {
    let listed = world.admin().list_workers(ListWorkersRequest {}).await.expect("workers").into_inner();
    listed.workers.into_iter().map(|worker| (worker.name, worker.state)).collect()
}

/// A run moves from worker to worker with its checkpoint, as each is drained, and spends no try on
/// it. When none is left it says so, goes on once one is back, and fails when that takes too long.
#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_gives_its_runs_to_the_others() {
    let steps =
        json!([{ "write": { "path": "a.txt", "content": "a\n" } }, { "print": "working" }, { "hang": true }]);
    let played = Played::with(&json!({ "agents": { "checkpoint_seconds": 1 } }), &steps).await;
    let (world, run) = (&played.world, played.busy.clone());
    // The last one, for which there is little time, finds nothing that the platform does not have.
    let is_kept = "select exists (select from checkpoints where run_id = $1::uuid)";
    let mut db = world.db().await;
    let patience = tokio::time::Instant::now() + PATIENCE;
    while !sqlx::query_scalar::<_, bool>(is_kept).bind(&run).fetch_one(&mut db).await.expect("an answer") {
        assert!(tokio::time::Instant::now() < patience, "no checkpoint is taken");
    }
    let message = Played::order(world, "local", Order::Drain).await;
    assert!(message.contains("One attempt leaves it"), "{message}");
    assert!(Played::order(world, "local", Order::Drain).await.contains("already"));
    let second = played.lease(FIRST_PROCESS).await.expect("the run of the other worker");
    assert_eq!((&second.run_id, second.number), (&run, 2));
    let detail = world.get(&run).await;
    assert_eq!(detail.attempts[0].state, "stopped", "{detail:#?}");
    assert!(
        detail.attempts[1].start_note.contains("goes on from the checkpoint of attempt 1"),
        "{detail:#?}"
    );
    assert_eq!(states(world).await, [("local".into(), "drained".into()), ("played".into(), "ready".into())]);

    Played::order(world, "played", Order::Drain).await;
    assert_eq!(states(world).await[1].1, "draining");
    let stop = played.beat(FIRST_PROCESS, &second).await;
    assert_eq!(stop[0].reason, domain::workers::DRAIN, "{stop:?}");
    assert!(played.beat(FIRST_PROCESS, &second).await.len() == 1, "the lease lives until it is given back");
    let shutdown = AttemptEnded { outcome: Outcome::Shutdown.into(), ..AttemptEnded::default() };
    assert!(played.report(&second, What::Ended(shutdown)).await);
    let none = "All 2 workers that could take it are cordoned";
    let lacks = async |why: &'static str| {
        let probe = |detail: &proto::admin::RunDetail| {
            detail.run.as_ref().is_some_and(|run| run.state == "queued" && run.message.contains(why))
        };
        world.until_run(&run, why, probe).await
    };
    lacks(none).await;
    let explained = world.explain(&run).await;
    assert!(explained.iter().any(|e| e.reason == "no_worker" && e.rule.contains(none)), "{explained:#?}");
    let issue = world.get(&run).await.run.expect("a run").issue;
    world.until("it is said", |_| world.comments(issue)[0].contains(none).then_some(())).await;

    Played::order(world, "local", Order::Uncordon).await;
    let goes_on = |detail: &proto::admin::RunDetail| {
        detail.attempts.len() == 3 && detail.run.as_ref().is_some_and(|run| !run.message.contains(none))
    };
    world.until_run(&run, "a third attempt", goes_on).await;
    Played::order(world, "local", Order::Drain).await;
    lacks(none).await;
    // Paused it waits for something else: that is no worker.
    let found = |detail: &proto::admin::RunDetail| {
        detail.events.iter().filter(|event| event.text == "There is a worker for it.").count()
    };
    let before = found(&world.get(&run).await);
    world.pause("demo", "lunch").await.expect("paused");
    let no_worker = "select no_worker is null from runs where run_id = $1::uuid";
    let mut db = world.db().await;
    while !sqlx::query_scalar::<_, bool>(no_worker).bind(&run).fetch_one(&mut db).await.expect("a run") {}
    assert_eq!(found(&world.get(&run).await), before);
    world.resume("demo").await.expect("resumed");
    lacks(none).await;
    world.clock.advance(TimeDelta::minutes(61));
    let detail = world.finished(&run).await;
    let ended = detail.run.expect("a run");
    assert_eq!((ended.state.as_str(), ended.class.as_str()), ("failed", "infrastructure"));
    assert!(
        ended.message.starts_with("There was no worker for it for 60 minutes. All 2"),
        "{}",
        ended.message
    );
    assert!(detail.attempts.iter().all(|attempt| attempt.state == "stopped"), "{:#?}", detail.attempts);
    played.world.end().await;
}

/// A stage's runs go to workers that have the labels it asks for, and say so where none has. A worker
/// counts with those it was enrolled with, whatever it says.
#[tokio::test(flavor = "multi_thread")]
async fn a_stage_gets_a_worker_with_the_labels_it_asks_for() {
    let stages = "version: 1\nstages:\n  dev:\n    worker_labels: { gpu: a100 }\n";
    let files = vec![(".callboard/stages.yaml", stages)];
    let world = World::with(Setup { files, ..Setup::default() }).await;
    let issue = world.issue("Train", "Please.");
    world.label(issue, "run:dev");
    let none = "No worker of project `demo` has what stage `dev` asks for: `gpu=a100`.";
    world
        .until("it is said", |g| {
            g.comments(REPOSITORY, issue).iter().any(|c| c.body.contains(none)).then_some(())
        })
        .await;
    let run = world.run_of(issue).await;
    assert!(run.message.starts_with(none), "{run:#?}");

    let lease = async |name: &str, has: &[(&str, &str)], says: &[(&str, &str)], process: &str, wait_ms| {
        let mut worker = Played::enroll(&world, name, has).await;
        let labels = says.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let declaration = Some(Declaration { cluster: false, labels });
        let request = LeaseRequest { wait_ms, process_id: process.to_owned(), declaration };
        let mut lease = worker.lease(request.clone()).await.expect("an answer").into_inner().lease;
        while lease.is_none() && wait_ms > 300 {
            lease = worker.lease(request.clone()).await.expect("an answer").into_inner().lease;
        }
        lease
    };
    let both = [("gpu", "a100"), ("zone", "eu")];
    assert_eq!(lease("boasts", &[("zone", "eu")], &both, FIRST_PROCESS, 300).await, None);
    let labels = [("gpu".to_owned(), "a\0b".to_owned())].into();
    let declaration = Some(Declaration { cluster: false, labels });
    let request = LeaseRequest { wait_ms: 0, process_id: FIRST_PROCESS.to_owned(), declaration };
    let refused = Played::enroll(&world, "rubbish", &both).await.lease(request).await.expect_err("no label");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?}");
    let leased = lease("has-it", &both, &[], SECOND_PROCESS, 20_000).await.expect("the run");
    assert_eq!(leased.run_id, run.id);
    assert!(!world.get(&run.id).await.run.expect("a run").message.contains(none));
    let listed = world.admin().list_workers(ListWorkersRequest {}).await.expect("workers").into_inner();
    let boasts = listed.workers.into_iter().find(|worker| worker.name == "boasts").expect("ours");
    assert_eq!(domain::workers::written(&boasts.labels), "zone=eu");
    assert_eq!(domain::workers::written(&boasts.ignored_labels), "gpu=a100");
    world.cancel(&run.id).await.expect("cancelled");
    world.end().await;
}

/// A worker with one place: whoever came with many runs does not keep others waiting until all of
/// them are done.
#[tokio::test(flavor = "multi_thread")]
async fn projects_take_turns_also_where_there_is_one_place() {
    const ANOTHER: &str = "octocat/another";
    let repository =
        |name: &str, source: &str| json!({ "name": name, "source": source, "webhook_secret_file": "secret" });
    let config = json!({
        "projects": [
            { "name": "demo", "repositories": [repository(REPOSITORY, SOURCE)] },
            { "name": "other", "repositories": [repository(ANOTHER, "another")] },
        ],
        "executor": { "local": { "capacity": 1 } },
    });
    let world = World::with(Setup { config, ..Setup::default() }).await;
    let github = &world.github;
    github.create_repository(ANOTHER, true, &[("README.md", "# Another\n")]).await.expect("a repository");
    github.set_permission(ANOTHER, "mona", Permission::Write).expect("a permission");
    let hook = github.add_hook(ANOTHER, &world.webhook().replace(SOURCE, "another"), SECRET).expect("a hook");
    world.pause("", "everybody gathers").await.expect("paused");
    for name in [REPOSITORY, REPOSITORY, REPOSITORY, ANOTHER, ANOTHER, ANOTHER] {
        let issue = github.open_issue(name, "octocat", "Say so", "Please.").expect("an issue");
        github.add_label(name, issue, "run:dev", "mona").expect("a label");
        let queued =
            |g: &Simulator| g.comments(name, issue).first()?.body.contains("everybody gathers").then_some(());
        world.until("the run to wait", queued).await;
    }
    world.resume("").await.expect("resumed");
    world.settled().await;
    let heard = |g: &Simulator| g.deliveries(hook).iter().all(|d| d.answer.is_some()).then_some(());
    world.until("an end of the other's deliveries", heard).await;
    let turns: Vec<String> = sqlx::query_scalar(
        "select p.name from events e join projects p using (project_id) where e.action = 'run.active' order by e.sequence",
    )
    .fetch_all(&mut world.db().await)
    .await
    .expect("the turns");
    assert_eq!(turns, ["demo", "other", "demo", "other", "demo", "other"]);
    world.end().await;
}
