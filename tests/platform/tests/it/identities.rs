//! Service identity on every internal call: methods × roles through the real socket.

use std::sync::Arc;

use control_plane::METHODS;
use domain::clock::Clock;
use proto::v1::{
    AdoptRequest, AttemptRef, AuthorizeRequest, DirectivesRequest, HeartbeatRequest, JudgeRequest,
    KeysRequest, LeaseRequest, ReportRequest, SourcesRequest, StoreDeliveryRequest,
    attempt_service_client::AttemptServiceClient, ingest_service_client::IngestServiceClient,
    worker_service_client::WorkerServiceClient,
};
use telemetry::{
    address::Address,
    identity::{AuthenticatedChannel, Identity, connect},
};
use tonic::{Code, Status};

use crate::harness::World;

fn channel(world: &World, identity: Identity) -> AuthenticatedChannel {
    let address = Address::Unix(world.folder().join("data/internal/control-plane.sock"));
    let clock: Arc<dyn Clock> = Arc::<crate::harness::TestClock>::clone(&world.clock);
    connect(&address, Arc::new(identity), clock).expect("a socket")
}

/// The answer's code to every method, called with next to nothing in the request.
async fn codes(channel: &AuthenticatedChannel) -> Vec<(&'static str, Code)> {
    fn code<T>(result: Result<T, Status>) -> Code {
        result.map_or_else(|s| s.code(), |_| Code::Ok)
    }
    let (mut ingest, mut worker, mut attempt) = (
        IngestServiceClient::new(channel.clone()),
        WorkerServiceClient::new(channel.clone()),
        AttemptServiceClient::new(channel.clone()),
    );
    let nobody = || Some(AttemptRef { attempt_id: "x".to_owned(), run_id: "x".to_owned() });
    let mut all = Vec::new();
    for (method, _) in METHODS {
        let answer = match method.rsplit('/').next().expect("a name") {
            "Sources" => code(ingest.sources(SourcesRequest {}).await),
            "StoreDelivery" => code(
                ingest
                    .store_delivery(StoreDeliveryRequest { guid: "by-hand".into(), ..Default::default() })
                    .await,
            ),
            "Lease" => code(worker.lease(LeaseRequest::default()).await),
            "Adopt" => code(worker.adopt(AdoptRequest::default()).await),
            "Judge" => code(worker.judge(JudgeRequest::default()).await),
            "Heartbeat" => code(worker.heartbeat(HeartbeatRequest::default()).await),
            "Directives" => code(worker.directives(DirectivesRequest {}).await),
            "Report" => code(worker.report(ReportRequest::default()).await),
            "Keys" => code(attempt.keys(KeysRequest {}).await),
            "Authorize" => code(attempt.authorize(AuthorizeRequest { attempt: nobody() }).await),
            "Assignment" => code(attempt.assignment(AttemptRef::default()).await),
            "Transcript" => code(
                attempt.transcript(proto::v1::AttemptTranscript { attempt: nobody(), chunk: None }).await,
            ),
            "Return" => code(
                attempt
                    .r#return(futures::stream::iter([proto::v1::AttemptReturnPart {
                        attempt: nobody(),
                        part: None,
                    }]))
                    .await,
            ),
            "Checkpoint" => {
                let part = proto::v1::AttemptCheckpointPart { attempt: nobody(), part: None };
                code(attempt.checkpoint(futures::stream::iter([part])).await)
            }
            "Restore" => code(attempt.restore(AttemptRef::default()).await),
            "Afresh" => code(attempt.afresh(proto::v1::AttemptAfresh::default()).await),
            "GitFetch" => code(attempt.git_fetch(proto::v1::GitFetchRequest::default()).await),
            unknown => panic!("{unknown} has no row in this test"),
        };
        all.push((*method, answer));
    }
    all
}

fn refused(code: Code) -> bool {
    matches!(code, Code::Unauthenticated | Code::PermissionDenied)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_calls_its_own_methods_and_no_other() {
    let world = World::start().await;
    let identities = world.folder().join("data/identities");
    for name in ["api-gateway", "agent-gateway", "worker-local"] {
        let identity = Identity::load(&identities.join(format!("{name}.json"))).expect("an identity");
        let role = identity.subject().role();
        for (method, code) in codes(&channel(&world, identity)).await {
            let own = METHODS.iter().any(|(m, r)| *m == method && *r == role);
            // A method of its own is answered, if only by saying that the request is empty.
            assert_eq!(!refused(code), own, "{name} calling {method}: {code:?}");
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_calls_anything_without_a_known_identity() {
    let world = World::start().await;
    let strangers = [
        Identity::generate(telemetry::identity::Subject::ApiGateway),
        Identity::generate(telemetry::identity::Subject::Worker(
            "0198a6a4-7c1e-7d5b-9a51-0a1b2c3d4e5f".parse().expect("an id"),
        )),
    ];
    for stranger in strangers {
        for (method, code) in codes(&channel(&world, stranger)).await {
            assert_eq!(code, Code::Unauthenticated, "{method}");
        }
    }
    world.end().await;
}

/// A worker leases only for the projects it was enrolled for.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_gets_the_runs_of_its_projects_only() {
    let elsewhere = serde_json::json!({ "projects": [
        { "name": "demo", "repositories": [{ "name": crate::harness::REPOSITORY, "source": crate::harness::SOURCE, "webhook_secret_file": "secret" }] },
        { "name": "elsewhere", "repositories": [{ "name": "octocat/other", "source": "other", "webhook_secret_file": "secret" }] },
    ], "executor": { "local": { "capacity": 1 } } });
    let world = World::with(crate::harness::Setup { config: elsewhere, ..Default::default() }).await;
    // The only slot of the local worker is taken.
    let first = world.scripted_issue("First", &serde_json::json!([{ "print": "working" }, { "hang": true }]));
    world.label(first, "run:dev");
    let first = world.run_of(first).await;
    world.until_log(&first.id, "working").await;
    let second = world.issue("Second", "Please.");
    world.label(second, "run:dev");
    let second = world.run_of(second).await;

    let enroll = async |project: &str, name: &str| {
        let request = proto::admin::EnrollWorkerRequest {
            name: name.to_owned(),
            projects: vec![project.to_owned()],
            ..Default::default()
        };
        let enrolled = world.admin().enroll_worker(request).await.expect("enrolled").into_inner();
        WorkerServiceClient::new(channel(
            &world,
            Identity::from_json(&enrolled.identity).expect("an identity"),
        ))
    };
    let lease = async |mut worker: WorkerServiceClient<AuthenticatedChannel>, wait_ms: u32| {
        worker
            .lease(LeaseRequest { process_id: String::new(), wait_ms, declaration: None })
            .await
            .expect("an answer")
            .into_inner()
            .lease
    };
    assert_eq!(lease(enroll("elsewhere", "stranger").await, 500).await, None);
    let worker = enroll("demo", "helper").await;
    // The run may be locked for a moment by whoever records its comment.
    let leased = lease(worker.clone(), 20_000).await.expect("the second run");
    assert_eq!(leased.run_id, second.id);
    assert_eq!(lease(worker, 0).await, None, "nothing else waits");
    world.cancel(&first.id).await.expect("cancelled");
    world.cancel(&second.id).await.expect("cancelled");
    world.finished(&second.id).await;
    world.end().await;
}
