//! Leases and fences: a worker that goes silent in every phase, words that come late, and
//! tries that are spent. The worker is this test, over the real socket.

use std::sync::Arc;

use chrono::TimeDelta;
use domain::clock::Clock;
use proto::{
    admin::RunDetail,
    v1::{
        AttemptEnded, AttemptLease, AttemptStarted, HeartbeatRequest, HeldLease, HelloRequest, LeaseRequest,
        ReportRequest, ReturnOutcome, ReturnPart, attempt_ended::Outcome, report_request::What,
        return_outcome, return_part::Part, runner_service_client::RunnerServiceClient,
        worker_service_client::WorkerServiceClient,
    },
};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use telemetry::{
    address::Address,
    identity::{AuthenticatedChannel, Identity, connect},
};
use tonic::{
    Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::harness::{Setup, World, filtered};

const FIRST_PROCESS: &str = "0198a6a4-7c1e-7d5b-9a51-000000000001";
const SECOND_PROCESS: &str = "0198a6a4-7c1e-7d5b-9a51-000000000002";

/// Puts the run token on every call.
#[derive(Clone)]
struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A world whose own worker is busy, and a worker that this test plays.
struct Played {
    world: World,
    busy: String,
    worker: WorkerServiceClient<AuthenticatedChannel>,
}

impl Played {
    async fn start() -> Self {
        let config = json!({ "executor": { "local": { "capacity": 1 } } });
        let world = World::with(Setup { config, ..Setup::default() }).await;
        let busy = world.scripted_issue("Busy", &json!([{ "print": "working" }, { "hang": true }]));
        world.label(busy, "run:dev");
        let busy = world.run_of(busy).await.id;
        world.until_log(&busy, "working").await;
        let request = proto::admin::EnrollWorkerRequest {
            name: "played".to_owned(),
            projects: vec!["demo".to_owned()],
        };
        let enrolled = world.admin().enroll_worker(request).await.expect("enrolled").into_inner();
        let identity = Identity::from_json(&enrolled.identity).expect("an identity");
        let address = Address::Unix(world.folder().join("data/internal/control-plane.sock"));
        let clock: Arc<dyn Clock> = Arc::<crate::harness::TestClock>::clone(&world.clock);
        let worker =
            WorkerServiceClient::new(connect(&address, Arc::new(identity), clock).expect("a socket"));
        Self { world, busy, worker }
    }

    async fn lease(&self, process: &str) -> Result<AttemptLease, Status> {
        let request = LeaseRequest { wait_ms: 20_000, process_id: process.to_owned(), declaration: None };
        Ok(self.worker.clone().lease(request).await?.into_inner().lease.expect("an attempt"))
    }

    /// Says something about an attempt; true when it counted.
    async fn report(&self, lease: &AttemptLease, what: What) -> bool {
        let request =
            ReportRequest { attempt_id: lease.attempt_id.clone(), fence: lease.fence, what: Some(what) };
        self.worker.clone().report(request).await.expect("an answer").into_inner().accepted
    }

    /// The database's clock goes past the lease of one attempt.
    async fn silence(&self, lease: &AttemptLease) {
        let mut connection = PgConnection::connect(&self.world.database.url).await.expect("connected");
        let changed = sqlx::query(
            "update attempts set lease_expires_at = now() - interval '1 second' where attempt_id = $1::uuid",
        )
        .bind(&lease.attempt_id)
        .execute(&mut connection)
        .await
        .expect("changed");
        assert_eq!(changed.rows_affected(), 1);
    }

    async fn until_state(&self, lease: &AttemptLease, state: &str) -> RunDetail {
        self.world
            .until_run(&lease.run_id, &format!("attempt {} is {state}", lease.number), |detail| {
                detail.attempts.iter().any(|a| a.id == lease.attempt_id && a.state == state)
            })
            .await
    }

    /// The runner's calls with the attempt's token.
    fn runner(&self, lease: &AttemptLease) -> RunnerServiceClient<InterceptedService<Channel, Bearer>> {
        let address = Address::Unix(self.world.folder().join("data/agents/gateway.sock"));
        let value = format!("Bearer {}", lease.run_token).parse().expect("a header value");
        RunnerServiceClient::with_interceptor(address.channel().expect("a socket"), Bearer(value))
    }

    async fn give_back(&self, lease: &AttemptLease) -> Result<(), Status> {
        let outcome = ReturnOutcome {
            status: return_outcome::Status::Done.into(),
            summary: "late".to_owned(),
            ..Default::default()
        };
        let part = ReturnPart { part: Some(Part::Outcome(outcome)) };
        self.runner(lease).r#return(futures::stream::iter([part])).await.map(drop)
    }

    async fn end(self) {
        self.world.cancel(&self.busy).await.expect("cancelled");
        self.world.end().await;
    }
}

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
    let beat = HeartbeatRequest {
        held: vec![HeldLease { attempt_id: third.attempt_id.clone(), fence: third.fence }],
        process_id: FIRST_PROCESS.to_owned(),
    };
    let stop = played.worker.clone().heartbeat(beat).await.expect("an answer").into_inner().stop;
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
/// one gets no more work and is told to end what it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_worker_has_lost_its_attempts_at_once() {
    let played = Played::start().await;
    let world = &played.world;
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let first = played.lease(FIRST_PROCESS).await.expect("leased");
    let beat = |process: &str, lease: &AttemptLease| HeartbeatRequest {
        held: vec![HeldLease { attempt_id: lease.attempt_id.clone(), fence: lease.fence }],
        process_id: process.to_owned(),
    };
    let stop =
        async |request| played.worker.clone().heartbeat(request).await.expect("an answer").into_inner().stop;
    assert!(stop(beat(FIRST_PROCESS, &first)).await.is_empty());

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
    assert_eq!(stop(beat(FIRST_PROCESS, &first)).await.len(), 1);
    let refused = played.lease(FIRST_PROCESS).await.expect_err("another process is the worker now");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(stop(beat(SECOND_PROCESS, &second)).await.is_empty());
    let detail = world.get(&first.run_id).await;
    assert!(detail.attempts[0].message.contains("was restarted"), "{detail:#?}");
    world.cancel(&second.run_id).await.expect("cancelled");
    played.end().await;
}
