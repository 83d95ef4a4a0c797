//! A worker that a test plays, over the real socket.

use std::sync::Arc;

use domain::clock::Clock;
use proto::{
    admin::{EnrollWorkerRequest, OrderWorkerRequest, RunDetail, order_worker_request::Order},
    v1::{
        AdoptRequest, AdoptResponse, AttemptLease, Declaration, Directive, HeartbeatRequest, HeldLease,
        LeaseRequest, ReportRequest, ReturnOutcome, ReturnPart, report_request::What, return_outcome,
        return_part::Part, runner_service_client::RunnerServiceClient,
        worker_service_client::WorkerServiceClient,
    },
};
use serde_json::{Value, json};
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

use super::{Setup, TestClock, World, merge};

pub(crate) const FIRST_PROCESS: &str = "0198a6a4-7c1e-7d5b-9a51-000000000001";
pub(crate) const SECOND_PROCESS: &str = "0198a6a4-7c1e-7d5b-9a51-000000000002";

/// Puts the run token on every call.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A world whose own worker is busy, and a worker that this test plays.
pub(crate) struct Played {
    pub(crate) world: World,
    /// The run that keeps the local worker busy.
    pub(crate) busy: String,
    pub(crate) worker: WorkerServiceClient<AuthenticatedChannel>,
}

impl Played {
    pub(crate) async fn start() -> Self {
        Self::beside(&json!([{ "print": "working" }, { "hang": true }])).await
    }

    /// The local worker's agent plays these steps; it prints `working`.
    pub(crate) async fn beside(steps: &Value) -> Self {
        Self::with(&json!({}), steps).await
    }

    /// The same, with this on top of the usual configuration.
    pub(crate) async fn with(more: &Value, steps: &Value) -> Self {
        let mut config = json!({ "executor": { "local": { "capacity": 1 } } });
        merge(&mut config, more);
        let world = World::with(Setup { config, ..Setup::default() }).await;
        let busy = world.scripted_issue("Busy", steps);
        world.label(busy, "run:dev");
        let busy = world.run_of(busy).await.id;
        world.until_log(&busy, "working").await;
        let worker = Self::enroll(&world, "played", &[]).await;
        Self { world, busy, worker }
    }

    /// Another worker of the project.
    pub(crate) async fn enroll(
        world: &World,
        name: &str,
        labels: &[(&str, &str)],
    ) -> WorkerServiceClient<AuthenticatedChannel> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let request =
            EnrollWorkerRequest { name: name.to_owned(), projects: vec!["demo".to_owned()], labels };
        let enrolled = world.admin().enroll_worker(request).await.expect("enrolled").into_inner();
        let identity = Identity::from_json(&enrolled.identity).expect("an identity");
        let address = Address::Unix(world.folder().join("data/internal/control-plane.sock"));
        let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(&world.clock);
        WorkerServiceClient::new(connect(&address, Arc::new(identity), clock).expect("a socket"))
    }

    /// As `callboard worker cordon` and its like do it; what it says.
    pub(crate) async fn order(world: &World, name: &str, order: Order) -> String {
        let request = OrderWorkerRequest { name: name.to_owned(), order: order.into() };
        world.admin().order_worker(request).await.expect("obeyed").into_inner().message
    }

    /// The first call of a process of a worker in a cluster.
    pub(crate) async fn adopt(&self, process: &str) -> Result<AdoptResponse, Status> {
        let declaration = Declaration { cluster: true, ..Declaration::default() };
        let request = AdoptRequest { process_id: process.to_owned(), declaration: Some(declaration) };
        Ok(self.worker.clone().adopt(request).await?.into_inner())
    }

    /// A sign of life; what must stop.
    pub(crate) async fn beat(&self, process: &str, lease: &AttemptLease) -> Vec<Directive> {
        self.try_beat(process, lease).await.expect("an answer")
    }

    /// The same, where it may be refused.
    pub(crate) async fn try_beat(
        &self,
        process: &str,
        lease: &AttemptLease,
    ) -> Result<Vec<Directive>, Status> {
        let held = vec![HeldLease { attempt_id: lease.attempt_id.clone(), fence: lease.fence }];
        let request = HeartbeatRequest { held, process_id: process.to_owned() };
        Ok(self.worker.clone().heartbeat(request).await?.into_inner().stop)
    }

    pub(crate) async fn lease(&self, process: &str) -> Result<AttemptLease, Status> {
        let request = LeaseRequest { wait_ms: 20_000, process_id: process.to_owned(), declaration: None };
        for _ in 0..9 {
            if let Some(lease) = self.worker.clone().lease(request.clone()).await?.into_inner().lease {
                return Ok(lease);
            }
        }
        panic!("no attempt")
    }

    /// Says something about an attempt; true when it counted.
    pub(crate) async fn report(&self, lease: &AttemptLease, what: What) -> bool {
        self.try_report(lease, what).await.expect("an answer")
    }

    /// The same, where it may be refused.
    pub(crate) async fn try_report(&self, lease: &AttemptLease, what: What) -> Result<bool, Status> {
        let request =
            ReportRequest { attempt_id: lease.attempt_id.clone(), fence: lease.fence, what: Some(what) };
        Ok(self.worker.clone().report(request).await?.into_inner().accepted)
    }

    /// The database's clock goes past the lease of one attempt.
    pub(crate) async fn silence(&self, lease: &AttemptLease) {
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

    pub(crate) async fn until_state(&self, lease: &AttemptLease, state: &str) -> RunDetail {
        self.world
            .until_run(&lease.run_id, &format!("attempt {} is {state}", lease.number), |detail| {
                detail.attempts.iter().any(|a| a.id == lease.attempt_id && a.state == state)
            })
            .await
    }

    /// The runner's calls with the attempt's token.
    pub(crate) fn runner(
        &self,
        lease: &AttemptLease,
    ) -> RunnerServiceClient<InterceptedService<Channel, Bearer>> {
        let address = Address::Unix(self.world.folder().join("data/agents/gateway.sock"));
        let value = format!("Bearer {}", lease.run_token).parse().expect("a header value");
        RunnerServiceClient::with_interceptor(address.channel().expect("a socket"), Bearer(value))
    }

    pub(crate) async fn give_back(&self, lease: &AttemptLease) -> Result<(), Status> {
        let outcome = ReturnOutcome {
            status: return_outcome::Status::Done.into(),
            summary: "late".to_owned(),
            ..Default::default()
        };
        let part = ReturnPart { part: Some(Part::Outcome(outcome)) };
        self.runner(lease).r#return(futures::stream::iter([part])).await.map(drop)
    }

    pub(crate) async fn end(self) {
        self.world.cancel(&self.busy).await.expect("cancelled");
        self.world.end().await;
    }
}
