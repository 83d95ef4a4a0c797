//! Workers that are told to rest, and runs for which there is none.

use chrono::TimeDelta;
use proto::{
    admin::{ListWorkersRequest, order_worker_request::Order},
    v1::{AttemptEnded, Declaration, LeaseRequest, attempt_ended::Outcome, report_request::What},
};
use serde_json::json;

use crate::harness::{FIRST_PROCESS, Played, World};

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
    let played = Played::beside(&steps).await;
    let (world, run) = (&played.world, played.busy.clone());
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
    let detail = world.until_run(&run, "a third attempt", |detail| detail.attempts.len() == 3).await;
    assert!(!detail.run.expect("a run").message.contains(none));
    Played::order(world, "local", Order::Drain).await;
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

/// A worker says which of its labels it has; what it was not enrolled with does not count.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_has_the_labels_it_was_enrolled_with() {
    let world = World::start().await;
    let mut worker = Played::enroll(&world, "played", &[("gpu", "a100"), ("zone", "eu")]).await;
    let said = [("gpu", "a100"), ("zone", "us"), ("big", "yes")];
    let labels = said.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let declaration = Some(Declaration { cluster: false, labels });
    let request = LeaseRequest { wait_ms: 0, process_id: FIRST_PROCESS.to_owned(), declaration };
    assert_eq!(worker.lease(request).await.expect("an answer").into_inner().lease, None);
    let listed = world.admin().list_workers(ListWorkersRequest {}).await.expect("workers").into_inner();
    let played = listed.workers.into_iter().find(|worker| worker.name == "played").expect("ours");
    assert_eq!(domain::workers::written(&played.labels), "gpu=a100");
    assert_eq!(domain::workers::written(&played.ignored_labels), "big=yes, zone=us");
    world.end().await;
}
