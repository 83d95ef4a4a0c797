//! The calls to the control plane, and what to do while it is away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::{clock::Clock, ids::WorkerProcessId};
use proto::v1::{
    AdoptRequest, AdoptResponse, AttemptLease, ClusterObject, Declaration, Directive, DirectivesRequest,
    HeartbeatRequest, HeldLease, JudgeRequest, LeaseRequest, ReportRequest, judge_response::Verdict,
    report_request::What, worker_service_client::WorkerServiceClient,
};
use telemetry::{
    address::{Address, AddressError},
    identity::{AuthenticatedChannel, Identity, connect},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

/// How long the control plane may hold a lease call open.
const LEASE_WAIT: Duration = Duration::from_secs(20);
/// A run that came up at the last moment is prepared before it is handed out, for this long at
/// most (`PREPARE_WITHIN` of the control plane).
const PREPARING: Duration = Duration::from_secs(25);
/// Every other call is answered at once or not at all.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reported {
    /// Recorded.
    Accepted {
        /// The attempt's runner has said hello.
        greeted: bool,
    },
    /// The attempt is over, or never was ours.
    Over,
    /// The control plane will never take it.
    Refused,
    /// This process has no time left, or another one was started after it: all stays as it is.
    Left,
}

/// Pauses that grow from 0.1 s to 10 s.
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(Duration::from_millis(100))
    }
    pub(crate) fn next(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 2).min(Duration::from_secs(10));
        now
    }
}

/// The control plane, as a worker sees it.
#[derive(Clone)]
pub(crate) struct ControlPlane {
    client: WorkerServiceClient<AuthenticatedChannel>,
    away: Arc<AtomicBool>,
    superseded: Arc<AtomicBool>,
    /// Cancelled when another process of the worker is there: this one has nothing any more.
    shutdown: CancellationToken,
    process_id: String,
    declaration: Declaration,
}

impl ControlPlane {
    /// `shutdown` is cancelled once another process of the worker was started after this one.
    pub(crate) fn connect(
        address: &Address,
        identity: Arc<Identity>,
        clock: Arc<dyn Clock>,
        process: WorkerProcessId,
        declaration: Declaration,
        shutdown: CancellationToken,
    ) -> Result<Self, AddressError> {
        let channel = connect(address, identity, clock)?;
        Ok(Self {
            client: WorkerServiceClient::new(channel),
            away: Arc::default(),
            superseded: Arc::default(),
            shutdown,
            process_id: process.to_string(),
            declaration,
        })
    }

    /// Another process of the worker was started after this one.
    pub(crate) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Relaxed)
    }

    /// Takes over what an earlier process of this worker had.
    pub(crate) async fn adopt(&self) -> Result<AdoptResponse, Status> {
        let request =
            AdoptRequest { process_id: self.process_id.clone(), declaration: Some(self.declaration.clone()) };
        let mut client = self.client.clone();
        let call = within(CALL_LIMIT, client.adopt(request)).await;
        self.noted(call).map(tonic::Response::into_inner)
    }

    /// What becomes of an object that no attempt at hand is about.
    pub(crate) async fn judge(&self, found: ClusterObject) -> Result<Verdict, Status> {
        let mut client = self.client.clone();
        let request = JudgeRequest { found: Some(found), process_id: self.process_id.clone() };
        let call = within(CALL_LIMIT, client.judge(request)).await;
        self.noted(call).map(|response| response.into_inner().verdict())
    }

    /// Waits for an attempt to run; `None` when nothing came up in time.
    pub(crate) async fn lease(&self) -> Result<Option<AttemptLease>, Status> {
        let wait_ms = u32::try_from(LEASE_WAIT.as_millis()).unwrap_or(u32::MAX);
        let request = LeaseRequest {
            wait_ms,
            process_id: self.process_id.clone(),
            declaration: Some(self.declaration.clone()),
        };
        let mut client = self.client.clone();
        let call = within(LEASE_WAIT + PREPARING + CALL_LIMIT, client.lease(request)).await;
        self.noted(call).map(|response| response.into_inner().lease)
    }

    /// Keeps leases alive; returns what must stop.
    pub(crate) async fn heartbeat(&self, held: Vec<HeldLease>) -> Result<Vec<Directive>, Status> {
        let mut client = self.client.clone();
        let request = HeartbeatRequest { held, process_id: self.process_id.clone() };
        let call = within(CALL_LIMIT, client.heartbeat(request)).await;
        self.noted(call).map(|response| response.into_inner().stop)
    }

    /// The stream of "stop this attempt".
    pub(crate) async fn directives(&self) -> Result<Streaming<Directive>, Status> {
        let mut client = self.client.clone();
        let call = within(CALL_LIMIT, client.directives(DirectivesRequest {})).await;
        self.noted(call).map(tonic::Response::into_inner)
    }

    /// Tells what happened to an attempt, again and again until the control plane has
    /// answered or `give_up` says there is no time left.
    pub(crate) async fn report(
        &self,
        attempt_id: &str,
        fence: i64,
        what: What,
        give_up: &CancellationToken,
    ) -> Reported {
        let request = ReportRequest { attempt_id: attempt_id.to_owned(), fence, what: Some(what) };
        let mut backoff = Backoff::new();
        loop {
            let mut client = self.client.clone();
            let call = tokio::select! {
                call = within(CALL_LIMIT, client.report(request.clone())) => call,
                () = give_up.cancelled() => return Reported::Left,
            };
            match self.noted(call) {
                Ok(response) if response.get_ref().accepted => {
                    return Reported::Accepted { greeted: response.get_ref().greeted };
                }
                Ok(_) => return Reported::Over,
                Err(_) if self.is_superseded() => return Reported::Left,
                Err(status) if is_final(&status) => {
                    tracing::warn!(attempt_id, code = ?status.code(), reason = status.message(), "the control plane refused a report");
                    return Reported::Refused;
                }
                Err(_) => tokio::select! {
                    () = tokio::time::sleep(backoff.next()) => {}
                    () = give_up.cancelled() => return Reported::Left,
                },
            }
        }
    }

    /// Logs once when the control plane goes away and once when it is back. When it says that another
    /// process is this worker now, this one comes to its end.
    fn noted<T>(&self, call: Result<T, Status>) -> Result<T, Status> {
        match &call {
            Ok(_) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!("the control plane answers again");
                }
            }
            Err(status) if status.code() == Code::FailedPrecondition => {
                self.superseded.store(true, Ordering::Relaxed);
                self.shutdown.cancel();
            }
            Err(status) if is_final(status) => {}
            Err(status) => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(code = ?status.code(), reason = status.message(), "the control plane does not answer; attempts under way go on");
                }
            }
        }
        call
    }
}

/// A call that may not take longer than `limit`.
async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(limit, call)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer from the control plane")))
}

/// True when repeating the call cannot help. A refused identity is not among them: the clock
/// or the enrolment may be put right while we run.
pub(crate) fn is_final(status: &Status) -> bool {
    matches!(status.code(), Code::InvalidArgument | Code::NotFound | Code::OutOfRange | Code::Unimplemented)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_ten_seconds() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = std::iter::repeat_with(|| backoff.next()).take(9).collect();
        assert_eq!(pauses[0], Duration::from_millis(100));
        assert!(pauses.is_sorted());
        assert_eq!(pauses[8], Duration::from_secs(10));
    }
}
