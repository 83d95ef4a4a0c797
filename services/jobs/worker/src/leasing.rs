//! Which attempts this worker holds: leases them, keeps them alive, stops them when told.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use domain::workers::DRAIN;
use proto::v1::{AdoptedAttempt, AttemptLease, ClusterObject, Directive, HeldLease};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    control_plane::{Backoff, ControlPlane, is_final},
    kubernetes, local,
};

/// Well below the seconds a lease lives without a heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// An empty answer faster than this means that the control plane does not hold the call open.
const TOO_FAST: Duration = Duration::from_millis(200);

/// Where attempts run.
pub(crate) enum Executor {
    /// As processes of this machine, which end with us.
    Local(local::Executor),
    /// As pods of a cluster, which do not.
    Kubernetes(kubernetes::Executor),
}

impl Executor {
    /// Attempts at the same time.
    fn capacity(&self) -> usize {
        match self {
            Self::Local(local) => local.capacity(),
            Self::Kubernetes(cluster) => cluster.capacity(),
        }
    }
}

/// A worker at work.
pub(crate) struct Worker {
    pub(crate) executor: Executor,
    pub(crate) control_plane: ControlPlane,
    /// The process is ending.
    pub(crate) shutdown: CancellationToken,
    held: Mutex<HashMap<String, Held>>,
    /// A lease came: its first heartbeat is due at once.
    leased: Notify,
}

/// One lease.
struct Held {
    fence: i64,
    beat: Duration,
    stop: Stop,
}

/// What is to become of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// It ends at once, for this reason.
    Stop(String),
    /// It takes a last checkpoint and ends: another worker goes on with it.
    Drain,
}

/// Whether the order to end one attempt was given.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<watch::Sender<Option<Order>>>);

impl Stop {
    /// Gives the order; the first reason counts. One that is drained may still be stopped.
    pub(crate) fn order(&self, reason: &str) {
        let order = if reason == DRAIN { Order::Drain } else { Order::Stop(reason.to_owned()) };
        self.0.send_if_modified(|now| {
            let is_new = match (&now, &order) {
                (None, _) | (Some(Order::Drain), Order::Stop(_)) => true,
                (Some(Order::Drain), Order::Drain) | (Some(Order::Stop(_)), _) => false,
            };
            if is_new {
                *now = Some(order);
            }
            is_new
        });
    }

    /// Returns the order once it is given.
    pub(crate) async fn ordered(&self) -> Order {
        self.given(|_| true).await
    }

    /// Returns why it ends at once, once that is ordered, even when it was drained before.
    pub(crate) async fn stopped(&self) -> Order {
        self.given(|order| matches!(order, Order::Stop(_))).await
    }

    async fn given(&self, wanted: impl Fn(&Order) -> bool) -> Order {
        let mut given = self.0.subscribe();
        let order = given.wait_for(|order| order.as_ref().is_some_and(&wanted)).await;
        // It lives as long as we do.
        order.ok().and_then(|order| order.clone()).unwrap_or(Order::Stop(String::new()))
    }
}

/// A place for one attempt. Its number decides the host user the attempt runs as.
pub(crate) struct Slot {
    pub(crate) number: u32,
    free: Arc<Mutex<BTreeSet<u32>>>,
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    /// Never gives it back: a process may still run as its user.
    fn withhold(self) {
        tracing::error!(
            slot = self.number,
            "processes of the attempt remain; its place is not used again until the worker restarts"
        );
        self.retire();
    }

    /// There is one place less from now on.
    fn retire(self) {
        std::mem::forget(self);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        locked(&self.free).insert(self.number);
    }
}

struct Slots {
    semaphore: Arc<Semaphore>,
    free: Arc<Mutex<BTreeSet<u32>>>,
}

impl Slots {
    fn new(capacity: usize) -> Self {
        let numbers = (0..u32::try_from(capacity).unwrap_or(u32::MAX)).collect();
        Self { semaphore: Arc::new(Semaphore::new(capacity)), free: Arc::new(Mutex::new(numbers)) }
    }

    async fn take(&self) -> Slot {
        let permit =
            Arc::clone(&self.semaphore).acquire_owned().await.expect("the semaphore is never closed");

        // A slot gives its number back before its permit, so there is one for every permit.
        let number = locked(&self.free).pop_first().expect("as many numbers as permits");
        Slot { number, free: Arc::clone(&self.free), _permit: permit }
    }
}

/// A panic elsewhere leaves these collections whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leases and runs attempts until `shutdown`, and returns when none is left.
pub(crate) async fn run(executor: Executor, control_plane: ControlPlane, shutdown: CancellationToken) {
    let worker =
        Arc::new(Worker { executor, control_plane, shutdown, held: Mutex::default(), leased: Notify::new() });
    let attempts = TaskTracker::new();
    let over = CancellationToken::new();
    let leasing = async {
        lease(&worker, &attempts).await;
        attempts.close();
        attempts.wait().await;
        over.cancel();
    };
    tokio::join!(
        leasing,
        over.run_until_cancelled(heartbeats(&worker)),
        over.run_until_cancelled(directives(&worker)),
    );
}

async fn lease(worker: &Arc<Worker>, attempts: &TaskTracker) {
    let capacity = worker.executor.capacity();
    let mut adopted = Vec::new();
    if let Executor::Kubernetes(cluster) = &worker.executor {
        let Some(all) = worker.shutdown.run_until_cancelled(adopt(worker, cluster)).await else { return };
        adopted.extend(all.into_iter().filter_map(|AdoptedAttempt { lease, object }| Some((lease?, object))));
    }
    // The earlier process may have had a larger capacity.
    let surplus = adopted.len().saturating_sub(capacity);
    let slots = Slots::new(capacity + surplus);
    for (lease, object) in adopted {
        begin(worker, attempts, lease, object, slots.take().await);
    }
    for _ in 0..surplus {
        let Some(slot) = worker.shutdown.run_until_cancelled(slots.take()).await else { return };
        slot.retire();
    }
    let mut backoff = Backoff::new();
    loop {
        let asked = Instant::now();
        let next = async {
            let slot = slots.take().await;
            (slot, worker.control_plane.lease().await)
        };
        let Some((slot, answer)) = worker.shutdown.run_until_cancelled(next).await else { return };
        let pause = match answer {
            Ok(Some(lease)) => {
                backoff = Backoff::new();
                begin(worker, attempts, lease, None, slot);
                continue;
            }
            Ok(None) => {
                backoff = Backoff::new();
                TOO_FAST.saturating_sub(asked.elapsed())
            }
            Err(_) => backoff.next(),
        };
        drop(slot);
        if worker.shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

/// Takes over the attempts of the worker's earlier process.
async fn adopt(worker: &Worker, cluster: &kubernetes::Executor) -> Vec<AdoptedAttempt> {
    let mut backoff = Backoff::new();
    let mut is_told = false;
    loop {
        match worker.control_plane.adopt().await {
            Ok(answer) => {
                tracing::info!(
                    attempts = answer.attempts.len(),
                    namespaces = answer.namespaces.len(),
                    "attempts of an earlier process go on"
                );
                // Attempts at hand come first: what is found is judged by them.
                for lease in answer.attempts.iter().filter_map(|adopted| adopted.lease.as_ref()) {
                    cluster.expect(lease);
                }
                for namespace in &answer.namespaces {
                    cluster.watch(namespace);
                }
                return answer.attempts;
            }
            Err(status) => {
                // What waiting may mend is logged when it begins and when it ends.
                if is_final(&status) && !is_told {
                    is_told = true;
                    tracing::error!(code = ?status.code(), reason = status.message(), "the control plane does not let this worker take over its attempts; it leases nothing before");
                }
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

fn begin(
    worker: &Arc<Worker>,
    attempts: &TaskTracker,
    lease: AttemptLease,
    object: Option<ClusterObject>,
    slot: Slot,
) {
    let span = tracing::info_span!(
        "attempt",
        attempt_id = lease.attempt_id,
        run_id = lease.run_id,
        project = lease.project,
        trace_id = lease.trace_id
    );
    let stop = Stop::default();
    // Three beats fit into the life of a lease, however short it is.
    let beat = HEARTBEAT.min(Duration::from_secs(u64::from(lease.lease_seconds)) / 4);
    let held = Held { fence: lease.fence, beat, stop: stop.clone() };
    locked(&worker.held).insert(lease.attempt_id.clone(), held);
    worker.leased.notify_one();
    let worker = Arc::clone(worker);
    let attempt = async move {
        let id = lease.attempt_id.clone();
        let nothing_left = match &worker.executor {
            Executor::Local(local) => local::attempt::run(&worker, local, lease, slot.number, stop).await,
            Executor::Kubernetes(cluster) => {
                kubernetes::attempt::run(&worker, cluster, lease, object, stop).await;
                true
            }
        };
        locked(&worker.held).remove(&id);
        if !nothing_left {
            slot.withhold();
        }
    };
    attempts.spawn(attempt.instrument(span));
}

async fn heartbeats(worker: &Worker) {
    loop {
        let (held, beat) = {
            let held = locked(&worker.held);
            let leases: Vec<_> = held
                .iter()
                .map(|(id, held)| HeldLease { attempt_id: id.clone(), fence: held.fence })
                .collect();
            (leases, held.values().map(|held| held.beat).min().unwrap_or(HEARTBEAT))
        };
        if !held.is_empty()
            && let Ok(orders) = worker.control_plane.heartbeat(held).await
        {
            orders.iter().for_each(|order| obey(worker, order));
        }
        tokio::select! {
            () = tokio::time::sleep(beat.max(Duration::from_millis(100))) => {}
            () = worker.leased.notified() => {}
        }
    }
}

async fn directives(worker: &Worker) {
    let mut backoff = Backoff::new();
    loop {
        if let Ok(mut orders) = worker.control_plane.directives().await {
            while let Ok(Some(order)) = orders.message().await {
                backoff = Backoff::new();
                obey(worker, &order);
            }
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

fn obey(worker: &Worker, order: &Directive) {
    if let Some(held) = locked(&worker.held).get(&order.attempt_id) {
        held.stop.order(&order.reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slot_that_is_given_back_is_taken_again() {
        let slots = Slots::new(2);
        let (first, second) = (slots.take().await, slots.take().await);
        assert_eq!((first.number, second.number), (0, 1));
        drop(first);
        assert_eq!(slots.take().await.number, 0);
    }

    #[tokio::test]
    async fn a_slot_that_is_withheld_is_gone() {
        let slots = Slots::new(2);
        slots.take().await.withhold();
        assert_eq!(slots.take().await.number, 1);
        assert_eq!(slots.semaphore.available_permits(), 1);
    }

    #[tokio::test]
    async fn the_first_reason_to_stop_counts() {
        let stop = Stop::default();
        stop.order("cancelled");
        stop.order("deadline");
        assert_eq!(stop.ordered().await, Order::Stop("cancelled".to_owned()));
        let stop = Stop::default();
        stop.order(DRAIN);
        assert_eq!(stop.ordered().await, Order::Drain);
        stop.order("cancelled");
        assert_eq!(stop.stopped().await, Order::Stop("cancelled".to_owned()), "it need not wait any more");
    }
}
