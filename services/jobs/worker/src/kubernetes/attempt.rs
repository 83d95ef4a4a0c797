//! One attempt in a cluster, from lease to report. It outlives this process: the next one goes
//! on with it.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    api::{DeleteParams, LogParams, PostParams, Preconditions},
    runtime::reflector::ObjectRef,
};
use proto::v1::{
    AttemptEnded, AttemptLease, AttemptStarted, AttemptWaits, ClusterObject,
    attempt_ended::{Cause, Outcome},
    report_request::What,
};
use telemetry::steps::{self, Step};
use tokio::{sync::watch, time::Instant};

use super::{
    AgentRun,
    attempts::{Ours, View, deleted},
    client::Refusal,
    controller::SAID_AFTER,
    deleting,
    desired::Desired,
    executor::Executor,
    found::Found,
    namespace::Namespace,
    observe::{Observed, tidy},
};
use crate::{
    control_plane::{Backoff, Reported},
    leasing::{Order, Stop, Worker},
};

/// How long a pod may take to end by itself: its grace, and the cluster's own time.
const PARTING: Duration = Duration::from_secs(45);
/// What was made is looked for when the watch has not told of it by then.
const UNSEEN: Duration = Duration::from_secs(30);
/// How long rights may be away that the worker had.
const RIGHTS_RETURN: Duration = Duration::from_secs(30);
/// What a pod's log may add to a sentence.
const LOG_LINES: i64 = 20;
const LOG_BYTES: i64 = 16 << 10;

/// How this process's part of it ends.
enum End {
    Ordered(Order),
    /// Reported.
    Ended(AttemptEnded),
    /// The control plane has given it up, or does not take what we say.
    Over,
    /// This process has no part in it any more; the next one goes on.
    Left,
}

/// Runs the leased attempt until it has ended, is reported, and nothing of it is left; or
/// leaves it to the next process when this one ends.
pub(crate) async fn run(
    worker: &Worker,
    executor: &Executor,
    lease: AttemptLease,
    object: Option<ClusterObject>,
    stop: Stop,
) {
    let deadline = Instant::now() + Duration::from_secs(u64::from(lease.deadline_seconds));
    let (attempt_id, namespace, fence) = (lease.attempt_id.clone(), lease.namespace.clone(), lease.fence);
    tracing::info!(stage = lease.stage, number = lease.number, adopted = object.is_some(), "attempt leased");
    let settings = &executor.shared.settings;
    let desired = match Desired::of(lease, settings) {
        Ok(desired) => Arc::new(desired),
        Err(sentence) => {
            let ended = not_started(Cause::Denied, sentence);
            report_end(worker, &attempt_id, fence, ended).await;
            // What an earlier process made of it is judged like any other now.
            executor.forget(&namespace, &attempt_id);
            return;
        }
    };
    let view = executor.shared.attempts.expect(&desired.namespace, &desired.name);
    let namespace = executor.namespace(&desired.namespace);
    let attempt = Attempt { worker, executor, namespace, desired, attempt_id, fence, view };
    let mut uid = object.as_ref().map(|object| object.uid.clone()).filter(|uid| !uid.is_empty());
    let end = tokio::select! {
        // Left as it is; the next process adopts it.
        () = worker.shutdown.cancelled() => return,
        order = stop.ordered() => End::Ordered(order),
        // The control plane watches the deadline too; this holds while it is away.
        () = tokio::time::sleep_until(deadline) => End::Ordered(Order::Stop("deadline".to_owned())),
        end = attempt.live(object, &mut uid) => end,
    };
    if matches!(end, End::Left) {
        return;
    }
    if worker.shutdown.run_until_cancelled(attempt.finish(end, uid.as_deref(), &stop)).await.is_some() {
        let (namespace, name) = (&attempt.namespace, &attempt.desired.name);
        executor.shared.attempts.forget(&namespace.name, name);
        // An object whose uid we never learnt is judged like any other now.
        namespace.ask(name);
    }
}

struct Attempt<'a> {
    worker: &'a Worker,
    executor: &'a Executor,
    namespace: Arc<Namespace>,
    desired: Arc<Desired>,
    attempt_id: String,
    fence: i64,
    view: watch::Receiver<View>,
}

impl Attempt<'_> {
    async fn live(&self, object: Option<ClusterObject>, uid: &mut Option<String>) -> End {
        match &object {
            // What runs there goes on, however long the cluster is away.
            Some(_) => self.namespace.open().await,
            None => {
                if let Err(end) = self.opened().await {
                    return end;
                }
            }
        }
        let digest = match object.filter(|object| !object.uid.is_empty()) {
            Some(object) if !self.is_there(&object.uid) => {
                return End::Ended(died(Cause::Deleted, deleted(&self.desired.name)));
            }
            Some(object) => object.digest,
            None => match self.make(uid).await {
                Ok(digest) => digest,
                Err(end) => return end,
            },
        };
        let Some(uid) = uid.clone() else { return End::Over };
        let (attempts, name) = (&self.executor.shared.attempts, &self.desired.name);
        attempts.begin(Ours { desired: Arc::clone(&self.desired), uid: uid.clone(), digest });
        self.namespace.ask(name);
        self.follow(&uid).await
    }

    /// Waits for the namespace, and for rights the worker lacks in it: an administrator may be about
    /// to give them.
    async fn opened(&self) -> Result<(), End> {
        let patience = self.executor.shared.settings.patience;
        let mut lacks = None;
        let opened = async {
            if let Err(sentence) = self.namespace.opened().await {
                lacks = Some(sentence.clone());
                self.said(What::Waits(AttemptWaits { message: sentence })).await?;
            }
            self.namespace.open().await;
            Ok(())
        };
        if let Ok(opened) = tokio::time::timeout(patience, opened).await {
            return opened;
        }
        let sentence = lacks.unwrap_or_else(|| {
            format!(
                "The cluster did not let itself be watched within {} minutes. Run `callboard check` for the worker.",
                patience.as_secs() / 60
            )
        });
        Err(End::Ended(not_started(Cause::Unschedulable, sentence)))
    }

    /// Whether its `AgentRun` was among what was found when the namespace was opened.
    fn is_there(&self, uid: &str) -> bool {
        let object = ObjectRef::new(&self.desired.name).within(&self.namespace.name);
        self.namespace.agent_runs.get(&object).is_some_and(|found| found.uid() == uid)
    }

    /// Makes its `AgentRun`; nothing before the plan is stored, and it counts only once its uid is.
    async fn make(&self, uid: &mut Option<String>) -> Result<String, End> {
        let digest = self.desired.spec.digest();
        let mut object = ClusterObject {
            namespace: self.desired.namespace.clone(),
            name: self.desired.name.clone(),
            digest: digest.clone(),
            uid: String::new(),
        };
        self.said(What::Planned(object.clone())).await?;
        let made = self.create(&object).await?;
        *uid = Some(made.clone());
        object.uid = made;
        self.said(What::Created(object)).await?;
        Ok(digest)
    }

    /// Creates the `AgentRun`, and returns its uid; waits for what may pass, and says so. One that
    /// is there already was never reported: whoever made it, it is deleted.
    async fn create(&self, plan: &ClusterObject) -> Result<String, End> {
        let api = self.namespace.api::<AgentRun>();
        let (object, name) = (self.desired.agent_run(), self.desired.name.as_str());
        let patience = self.executor.shared.settings.patience;
        let mut backoff = Backoff::new();
        let begun = Instant::now();
        let mut without_rights = None;
        let mut said = String::new();
        loop {
            let created =
                steps::around(Step::AgentRunMade, api.create(&PostParams::default(), &object)).await;
            let error = match created {
                Ok(created) => return Ok(created.metadata.uid.unwrap_or_default()),
                Err(kube::Error::Api(status)) if status.is_already_exists() => {
                    // The next process may have made it, if there is one by now: said again, the plan
                    // is taken from the present one only.
                    self.said(What::Planned(plan.clone())).await?;
                    self.delete_unreported(name).await;
                    tokio::time::sleep(backoff.next()).await;
                    continue;
                }
                Err(error) => error,
            };
            tracing::debug!(error = %telemetry::logging::chain(&error), "the AgentRun is not made yet");
            let refusal = Refusal::of(&error, "the AgentRun", &self.namespace.name);
            let is_news = refusal.is_some() || begun.elapsed() >= SAID_AFTER;
            let Refusal { cause, message, at_once } = refusal.unwrap_or_else(|| Refusal::unanswered(&error));
            without_rights = (cause == Cause::Denied).then(|| without_rights.unwrap_or_else(Instant::now));
            // Rights that are gone for longer went with their namespace.
            let went = without_rights.is_some_and(|since| since.elapsed() >= RIGHTS_RETURN);
            if at_once || went || begun.elapsed() >= patience {
                return Err(End::Ended(not_started(cause, message)));
            }
            if is_news && message != said {
                said.clone_from(&message);
                self.said(What::Waits(AttemptWaits { message })).await?;
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn delete_unreported(&self, name: &str) {
        let api = self.namespace.api::<Found>();
        if let Ok(Some(found)) = api.get_opt(name).await {
            tracing::warn!(
                name,
                uid = found.uid(),
                "an AgentRun that was never reported is deleted and made anew"
            );
            let exactly = Preconditions { uid: Some(found.uid().to_owned()), resource_version: None };
            let params = DeleteParams::background().preconditions(exactly);
            // Looked for again by the caller.
            let _ = steps::around(Step::ObjectsDeleted, api.delete(name, &params)).await;
        }
    }

    /// Follows what is seen of it to its end.
    async fn follow(&self, uid: &str) -> End {
        let patience = self.executor.shared.settings.patience;
        let mut view = self.view.clone();
        let begun = Instant::now();
        let mut said = String::new();
        let mut started = false;
        loop {
            let now = view.borrow_and_update().clone();
            let is_unseen = matches!(now, View::Unseen);
            match now {
                View::Gone(sentence) => return End::Ended(died(Cause::Deleted, sentence)),
                View::Seen(Observed::Ended { outcome, cause, exit_code, message }) => {
                    let ended =
                        AttemptEnded { outcome: outcome.into(), message, exit_code, cause: cause.into() };
                    return self.ended(ended, started).await;
                }
                View::Seen(Observed::Running { node }) if !started => {
                    if let Err(end) = self.said(What::Started(self.started(node.as_deref()))).await {
                        return end;
                    }
                    tracing::info!(node, "attempt started");
                    started = true;
                    continue;
                }
                View::Seen(Observed::Running { .. }) => {}
                View::Seen(Observed::Waiting { cause, message, at_once }) => {
                    // One that has run is not waited for.
                    if !started && (at_once || begun.elapsed() >= patience) {
                        return End::Ended(not_started(passing(cause), message));
                    }
                    // That its node is at work is news only where something else was said before.
                    if message != said && (cause != Cause::Unspecified || !said.is_empty()) {
                        said.clone_from(&message);
                        if let Err(end) = self.said(What::Waits(AttemptWaits { message })).await {
                            return end;
                        }
                        continue;
                    }
                }
                View::Unseen | View::Seen(Observed::Nothing) => {
                    if !started && begun.elapsed() >= patience {
                        let minutes = patience.as_secs() / 60;
                        let sentence = format!(
                            "The cluster made no pod within {minutes} minutes, and does not say why. Look at its controllers."
                        );
                        return End::Ended(not_started(Cause::Unschedulable, sentence));
                    }
                }
            }
            tokio::select! {
                changed = view.changed() => if changed.is_err() { return End::Over },
                () = tokio::time::sleep_until(begun + patience), if !started => {}
                gone = self.is_missing(uid), if is_unseen => if gone {
                    return End::Ended(died(Cause::Deleted, deleted(&self.desired.name)));
                },
            }
        }
    }

    /// After a while without a word of it: whether it is not there any more.
    async fn is_missing(&self, uid: &str) -> bool {
        loop {
            tokio::time::sleep(UNSEEN).await;
            if let Ok(found) = self.namespace.api::<Found>().get_opt(&self.desired.name).await {
                return found.is_none_or(|found| found.uid() != uid);
            }
        }
    }

    fn started(&self, node: Option<&str>) -> AttemptStarted {
        let node = node.map(|node| format!(" on node {node}")).unwrap_or_default();
        let isolation = format!("a restricted pod in {}{node}", self.namespace.name);
        AttemptStarted { isolation, unsandboxed: false }
    }

    /// The end of its pod. A runner that never said hello is asked through the kubelet what it
    /// said; of every other the platform has the transcript.
    async fn ended(&self, mut ended: AttemptEnded, started: bool) -> End {
        // Without a code nothing of it has run.
        let Some(code) = ended.exit_code else { return End::Ended(ended) };
        if started && code == 0 {
            return End::Ended(ended);
        }
        // The end must not overtake the start. Saying it twice changes nothing.
        let node = self.pod().and_then(|pod| pod.spec.as_ref()?.node_name.clone());
        match self.said(What::Started(self.started(node.as_deref()))).await {
            Ok(false) if code != 0 => {
                if let Some(line) = self.last_line().await {
                    ended.message = format!("{} Its last line: {line}", ended.message);
                }
            }
            Ok(_) => {}
            Err(end) => return end,
        }
        End::Ended(ended)
    }

    fn pod(&self) -> Option<Arc<Pod>> {
        self.executor.shared.attempts.pod(&self.namespace.name, &self.desired.name)
    }

    /// The last line of its log, if the kubelet still has it.
    async fn last_line(&self) -> Option<String> {
        let name = self.pod()?.metadata.name.clone()?;
        let params =
            LogParams { tail_lines: Some(LOG_LINES), limit_bytes: Some(LOG_BYTES), ..LogParams::default() };
        let log = self.namespace.api::<Pod>().logs(&name, &params).await.ok()?;
        log.lines().rev().map(tidy).find(|line| !line.is_empty())
    }

    /// Says it until it is stored; returns whether the runner has said hello.
    async fn said(&self, what: What) -> Result<bool, End> {
        let report =
            self.worker.control_plane.report(&self.attempt_id, self.fence, what, &self.worker.shutdown);
        match report.await {
            Reported::Accepted { greeted } => Ok(greeted),
            Reported::Over | Reported::Refused => Err(End::Over),
            Reported::Left => Err(End::Left),
        }
    }

    /// Reports the end, and returns when nothing is left in the cluster.
    async fn finish(&self, end: End, uid: Option<&str>, stop: &Stop) {
        let name = self.desired.name.as_str();
        self.executor.shared.attempts.end(&self.namespace.name, name);
        let ended = match end {
            // What it returned or why it is over is known: first that, then what is left. A crash
            // in between leaves objects of an attempt that is over.
            End::Ended(ended) => {
                if report_end(self.worker, &self.attempt_id, self.fence, ended).await == Reported::Left {
                    return;
                }
                None
            }
            End::Ordered(Order::Drain) => {
                if let Some(uid) = uid {
                    tokio::select! {
                        () = deleting::end_gently(&self.namespace, name, uid, PARTING) => {}
                        // A cancelled run needs no last checkpoint.
                        _ = stop.stopped() => {}
                    }
                }
                let ended = AttemptEnded {
                    outcome: Outcome::Shutdown.into(),
                    message: "The worker is drained; the attempt was ended.".to_owned(),
                    ..AttemptEnded::default()
                };
                if report_end(self.worker, &self.attempt_id, self.fence, ended).await == Reported::Left {
                    return;
                }
                None
            }
            // Its pod goes at once, whatever else is away.
            End::Ordered(Order::Stop(reason)) => Some(AttemptEnded {
                outcome: Outcome::Stopped.into(),
                message: format!("Stopped: {reason}."),
                ..AttemptEnded::default()
            }),
            End::Over => {
                tracing::info!("the control plane had given the attempt up");
                None
            }
            End::Left => return,
        };
        if let Some(uid) = uid {
            deleting::delete(&self.namespace, name, uid).await;
        }
        if let Some(ended) = ended {
            report_end(self.worker, &self.attempt_id, self.fence, ended).await;
        }
    }
}

async fn report_end(worker: &Worker, attempt_id: &str, fence: i64, ended: AttemptEnded) -> Reported {
    tracing::info!(
        outcome = ended.outcome().as_str_name(),
        cause = ended.cause().as_str_name(),
        exit_code = ended.exit_code,
        reason = ended.message,
        "attempt ended"
    );
    let reported = worker.control_plane.report(attempt_id, fence, What::Ended(ended), &worker.shutdown).await;
    match reported {
        Reported::Accepted { .. } => {}
        Reported::Over => tracing::info!("the control plane had given the attempt up"),
        Reported::Refused => tracing::warn!("the end of the attempt was not reported"),
        Reported::Left => tracing::info!("the next process of the worker reports the end of the attempt"),
    }
    reported
}

fn not_started(cause: Cause, message: String) -> AttemptEnded {
    AttemptEnded { outcome: Outcome::NotStarted.into(), message, exit_code: None, cause: cause.into() }
}

/// A node that was at work for too long: another may be faster.
fn passing(cause: Cause) -> Cause {
    if cause == Cause::Unspecified { Cause::Unschedulable } else { cause }
}

fn died(cause: Cause, message: String) -> AttemptEnded {
    AttemptEnded { outcome: Outcome::Died.into(), message, exit_code: None, cause: cause.into() }
}
