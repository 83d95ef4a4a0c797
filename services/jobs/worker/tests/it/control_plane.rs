//! A control plane that hands out the attempts a test gives it and collects the reports.

use std::{
    collections::VecDeque,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use proto::v1::{
    AdoptRequest, AdoptResponse, AttemptEnded, AttemptLease, AttemptStarted, ClusterObject, Directive,
    DirectivesRequest, HeartbeatRequest, HeartbeatResponse, JudgeRequest, JudgeResponse, LeaseRequest,
    LeaseResponse, ReportRequest, ReportResponse,
    judge_response::Verdict,
    report_request::What,
    worker_service_server::{WorkerService, WorkerServiceServer},
};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{BroadcastStream, UnixListenerStream},
};
use tonic::{Request, Response, Status};

use crate::PATIENCE;

/// What the service and the test share.
#[derive(Debug)]
struct State {
    leases: Mutex<VecDeque<AttemptLease>>,
    offered: Notify,
    reports: mpsc::UnboundedSender<ReportRequest>,
    orders: broadcast::Sender<Directive>,
    beats: mpsc::UnboundedSender<Vec<String>>,
    /// Reports that get "unavailable" before one is accepted.
    outages: AtomicU32,
    /// Another process of the worker is there.
    superseded: AtomicBool,
    /// What an earlier process of the worker had.
    adopted: Mutex<AdoptResponse>,
    /// What is said of objects that were found, and what was asked about.
    verdict: Mutex<Verdict>,
    judged: mpsc::UnboundedSender<ClusterObject>,
}

/// The test's end.
pub(crate) struct ControlPlane {
    state: Arc<State>,
    reports: mpsc::UnboundedReceiver<ReportRequest>,
    pub(crate) judged: mpsc::UnboundedReceiver<ClusterObject>,
    pub(crate) beats: mpsc::UnboundedReceiver<Vec<String>>,
}

impl ControlPlane {
    /// Serves on a Unix socket.
    pub(crate) fn serve(socket: &Path) -> Self {
        let (report_sender, reports) = mpsc::unbounded_channel();
        let (beat_sender, beats) = mpsc::unbounded_channel();
        let (judged_sender, judged) = mpsc::unbounded_channel();
        let state = Arc::new(State {
            leases: Mutex::default(),
            offered: Notify::new(),
            reports: report_sender,
            orders: broadcast::channel(8).0,
            beats: beat_sender,
            outages: AtomicU32::new(0),
            superseded: AtomicBool::new(false),
            adopted: Mutex::default(),
            verdict: Mutex::new(Verdict::Foreign),
            judged: judged_sender,
        });
        let listener = tokio::net::UnixListener::bind(socket).expect("the socket is free");
        let service = WorkerServiceServer::new(Service(Arc::clone(&state)));
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        Self { state, reports, judged, beats }
    }

    pub(crate) fn offer(&self, lease: AttemptLease) {
        self.state.leases.lock().expect("not poisoned").push_back(lease);
        self.state.offered.notify_one();
    }

    pub(crate) fn stop(&self, attempt_id: &str, reason: &str) {
        let order = Directive { attempt_id: attempt_id.to_owned(), reason: reason.to_owned() };
        assert!(self.state.orders.send(order).is_ok(), "the worker listens");
    }

    pub(crate) fn fail_reports(&self, times: u32) {
        self.state.outages.store(times, Ordering::SeqCst);
    }

    /// Another process of the worker is there, or is not any more.
    pub(crate) fn supersede(&self, superseded: bool) {
        self.state.superseded.store(superseded, Ordering::SeqCst);
    }

    /// What the worker's next process goes on with.
    pub(crate) fn leave(&self, adopted: AdoptResponse) {
        *self.state.adopted.lock().expect("not poisoned") = adopted;
    }

    /// What is said of objects that were found.
    pub(crate) fn say(&self, verdict: Verdict) {
        *self.state.verdict.lock().expect("not poisoned") = verdict;
    }

    pub(crate) async fn report(&mut self) -> ReportRequest {
        tokio::time::timeout(PATIENCE, self.reports.recv())
            .await
            .expect("a report in time")
            .expect("the service runs")
    }

    pub(crate) async fn started(&mut self) -> AttemptStarted {
        match self.report().await.what {
            Some(What::Started(started)) => started,
            other => panic!("expected a start, got {other:?}"),
        }
    }

    pub(crate) async fn ended(&mut self) -> AttemptEnded {
        match self.report().await.what {
            Some(What::Ended(ended)) => ended,
            other => panic!("expected an end, got {other:?}"),
        }
    }

    /// Reports that nobody asked for.
    pub(crate) fn more_reports(&mut self) -> usize {
        std::iter::from_fn(|| self.reports.try_recv().ok()).count()
    }
}

struct Service(Arc<State>);

impl Service {
    fn present(&self) -> Result<(), Status> {
        match self.0.superseded.load(Ordering::SeqCst) {
            true => {
                Err(Status::failed_precondition("another process of this worker was started after this one"))
            }
            false => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl WorkerService for Service {
    async fn lease(&self, request: Request<LeaseRequest>) -> Result<Response<LeaseResponse>, Status> {
        assert!(request.metadata().contains_key("authorization"), "every call says who is calling");
        self.present()?;
        let wait = Duration::from_millis(u64::from(request.get_ref().wait_ms));
        let next = async {
            loop {
                let offered = self.0.offered.notified();
                if let Some(lease) = self.0.leases.lock().expect("not poisoned").pop_front() {
                    return lease;
                }
                offered.await;
            }
        };
        let lease = tokio::time::timeout(wait, next).await.ok();
        Ok(Response::new(LeaseResponse { lease }))
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        self.present()?;
        let held = request.into_inner().held.into_iter().map(|held| held.attempt_id).collect();
        // The test may have ended.
        let _ = self.0.beats.send(held);
        Ok(Response::new(HeartbeatResponse::default()))
    }

    async fn adopt(&self, request: Request<AdoptRequest>) -> Result<Response<AdoptResponse>, Status> {
        let declaration = request.into_inner().declaration.unwrap_or_default();
        assert!(declaration.cluster, "attempts of any other worker end with it");
        Ok(Response::new(self.0.adopted.lock().expect("not poisoned").clone()))
    }

    async fn judge(&self, request: Request<JudgeRequest>) -> Result<Response<JudgeResponse>, Status> {
        self.present()?;
        // The test may have ended.
        let _ = self.0.judged.send(request.into_inner().found.unwrap_or_default());
        let verdict = *self.0.verdict.lock().expect("not poisoned");
        Ok(Response::new(JudgeResponse { verdict: verdict.into() }))
    }

    type DirectivesStream = Pin<Box<dyn Stream<Item = Result<Directive, Status>> + Send>>;

    async fn directives(
        &self,
        _: Request<DirectivesRequest>,
    ) -> Result<Response<Self::DirectivesStream>, Status> {
        let orders = BroadcastStream::new(self.0.orders.subscribe());
        Ok(Response::new(Box::pin(orders.map(|order| order.map_err(|_| Status::aborted("lagged"))))))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        self.present()?;
        let outage = |left: u32| left.checked_sub(1);
        if self.0.outages.fetch_update(Ordering::SeqCst, Ordering::SeqCst, outage).is_ok() {
            return Err(Status::unavailable("restarting"));
        }
        let _ = self.0.reports.send(request.into_inner());
        Ok(Response::new(ReportResponse { accepted: true, greeted: false }))
    }
}
