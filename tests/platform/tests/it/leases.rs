//! Leases and fences: a worker that goes silent in every phase, words that come late, and
//! tries that are spent. The worker is this test, over the real socket.

use chrono::TimeDelta;
use proto::v1::{AttemptEnded, AttemptStarted, HelloRequest, attempt_ended::Outcome, report_request::What};

use crate::harness::{FIRST_PROCESS, Played, SECOND_PROCESS, filtered};

fn ended(message: &str) -> What {
    What::Ended(AttemptEnded {
        outcome: Outcome::Died.into(),
        message: message.to_owned(),
        ..AttemptEnded::default()
    })
}

/// Silent as leased, as preparing and as running; each time another attempt, then the tries
/// are spent. Nothing said about an attempt that is over changes anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_goes_silent_in_every_phase_spends_the_tries() {
    let played = Played::start().await;
    let world = &played.world;
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");

    let first = played.lease(FIRST_PROCESS).await.expect("leased");
    played.silence(&first).await;
    played.until_state(&first, "lost").await;

    world.clock.advance(TimeDelta::seconds(10));
    let second = played.lease(FIRST_PROCESS).await.expect("leased again");
    assert_eq!((second.number, second.fence), (2, first.fence + 1));
    let started = AttemptStarted { isolation: "played".to_owned(), unsandboxed: false };
    assert!(!played.report(&first, What::Started(started.clone())).await, "too late");
    assert!(!played.report(&first, ended("it is back")).await, "too late");
    assert!(played.report(&second, What::Started(started.clone())).await);
    played.until_state(&second, "preparing").await;
    played.silence(&second).await;
    played.until_state(&second, "lost").await;

    world.clock.advance(TimeDelta::seconds(20));
    let third = played.lease(FIRST_PROCESS).await.expect("leased again");
    assert!(played.report(&third, What::Started(started)).await);
    played.runner(&third).hello(HelloRequest::default()).await.expect("an assignment");
    played.until_state(&third, "running").await;
    played.silence(&third).await;
    played.until_state(&third, "lost").await;
    assert!(played.give_back(&third).await.is_err(), "the attempt is over");
    assert!(played.runner(&second).hello(HelloRequest::default()).await.is_err(), "an older token");
    let stop = played.beat(FIRST_PROCESS, &third).await;
    assert_eq!(stop[0].attempt_id, third.attempt_id);

    let detail = world.get(&third.run_id).await;
    let run = detail.run.as_ref().expect("a run");
    assert_eq!((run.state.as_str(), run.class.as_str()), ("failed", "retries_spent"), "{}", run.message);
    assert_eq!(detail.attempts.len(), 3);
    assert!(
        detail.events.iter().any(|e| e.kind == "late_word" && e.text.contains("it is back")),
        "{detail:#?}"
    );
    // The busy run goes on; this one has one comment, which says why.
    world
        .until("the end is said", |g| {
            let comments = g.comments(crate::harness::REPOSITORY, issue);
            (comments.len() == 1 && comments[0].body.contains("this was the last")).then_some(())
        })
        .await;
    filtered().bind(|| insta::assert_snapshot!("retries_spent", world.comments(issue)[0]));
    played.end().await;
}

/// What an earlier process of a worker had is lost the moment a later one is here; the earlier
/// one gets no more work and is told that it is not the worker any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_worker_has_lost_its_attempts_at_once() {
    let played = Played::start().await;
    let world = &played.world;
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let first = played.lease(FIRST_PROCESS).await.expect("leased");
    assert!(played.beat(FIRST_PROCESS, &first).await.is_empty());

    let second = async {
        let lease = played.lease(SECOND_PROCESS).await.expect("leased again");
        assert_eq!(lease.run_id, first.run_id);
        lease
    };
    let wait = async {
        played.until_state(&first, "lost").await;
        world.clock.advance(TimeDelta::seconds(10));
    };
    let (second, ()) = tokio::join!(second, wait);
    let refused = [
        played.try_beat(FIRST_PROCESS, &first).await.expect_err("another process is the worker now"),
        played.lease(FIRST_PROCESS).await.expect_err("another process is the worker now"),
    ];
    assert!(refused.iter().all(|status| status.code() == tonic::Code::FailedPrecondition), "{refused:?}");
    assert!(played.beat(SECOND_PROCESS, &second).await.is_empty());
    let detail = world.get(&first.run_id).await;
    assert!(detail.attempts[0].message.contains("was restarted"), "{detail:#?}");
    world.cancel(&second.run_id).await.expect("cancelled");
    played.end().await;
}
