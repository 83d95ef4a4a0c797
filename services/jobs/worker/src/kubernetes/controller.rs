//! Keeps what the cluster has of each attempt as it should be, and tells its task what it sees.
//!
//! It acts on what is there now, not on what changed: a lost watch, a restart and a person who
//! deletes something all end in the same comparison.

use std::{
    convert::Infallible,
    fmt::Debug,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures::StreamExt;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        batch::v1::Job,
        core::v1::{Event, Pod},
    },
};
use kube::{
    Resource,
    api::{ListParams, ObjectMeta, Patch, PatchParams, TypeMeta},
    runtime::controller::{self, Action},
};
use proto::v1::{ClusterObject, attempt_ended::Cause, judge_response::Verdict};
use serde::{Serialize, de::DeserializeOwned};
use telemetry::steps::{self, Step};

use super::{
    AgentRun, AgentRunStatus,
    attempts::{Made, Ours, Role},
    client::Refusal,
    deleting,
    executor::Shared,
    found::Found,
    namespace::{Namespace, Queue, Writers},
    objects::Children,
    observe::{Observed, Seen, observe},
    status::{self, Objects},
};

/// Whose fields they are, for server-side apply.
const MANAGER: &str = "callboard-worker";
/// `AgentRun`s looked at at the same time: anybody may make any number of them.
const AT_ONCE: u16 = 100;
/// After what failed.
const RETRY: Duration = Duration::from_secs(2);
/// How long a Job may have no pod before its events are read, and how often then.
const NO_POD: Duration = Duration::from_secs(4);
/// How long a node may take to start a pod before its events are read.
const SLOW_START_SECONDS: i64 = 30;
/// What was made is looked for when the watch has not told of it by then.
const UNSEEN: Duration = Duration::from_secs(15);
/// How long the cluster may fail at something before people are told.
pub(super) const SAID_AFTER: Duration = Duration::from_secs(10);
/// How often something is looked at that only time changes.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// An attempt of the worker that is not at hand, or not any more.
const JUDGE_AGAIN: Duration = Duration::from_secs(30);
/// Events in one answer: the newest few tell.
const EVENTS: u32 = 20;

/// Why one look came to nothing; it is repeated.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the cluster")]
    Cluster(#[from] kube::Error),
    #[error("the control plane")]
    ControlPlane(#[from] tonic::Status),
}

struct Controller {
    namespace: Arc<Namespace>,
    shared: Arc<Shared>,
}

/// Tends everything in a namespace, as long as it is polled.
pub(super) async fn run(namespace: Arc<Namespace>, shared: Arc<Shared>, writers: Writers, queue: Queue) {
    let this = Arc::new(Controller { namespace: Arc::clone(&namespace), shared: Arc::clone(&shared) });
    let looks = controller::applier(
        |found, this: Arc<Controller>| Box::pin(async move { this.look(&found).await }),
        |_, _, _| Action::requeue(RETRY),
        this,
        namespace.agent_runs.clone(),
        queue.map(Ok::<_, Infallible>),
        controller::Config::default().concurrency(AT_ONCE),
    );
    let looks = looks.for_each(|look| {
        match look {
            Ok(_) => {}
            Err(controller::Error::ObjectNotFound(object)) => {
                shared.attempts.missed(&namespace.name, &object.name);
                let mut foreign = shared.foreign.lock().unwrap_or_else(PoisonError::into_inner);
                foreign.remove(&(namespace.name.clone(), object.name));
            }
            Err(error) => tracing::debug!(
                namespace = namespace.name,
                error = %telemetry::logging::chain(&error),
                "looked at in vain"
            ),
        }
        std::future::ready(())
    });
    tokio::join!(looks, namespace.follow(writers, &shared.attempts));
}

impl Controller {
    async fn look(&self, found: &Found) -> Result<Action, Failure> {
        // What is missing can be told only when everything was seen.
        if self.namespace.opened().await.is_err() {
            return Ok(Action::requeue(RETRY));
        }
        match self.shared.attempts.role(&self.namespace.name, found) {
            Role::Ours(ours, made) => self.tend(found, &ours, *made).await,
            Role::Left => Ok(Action::await_change()),
            Role::Unknown | Role::Another => self.judge(found).await,
        }
    }

    /// Makes what is missing of an attempt, and tells what is seen of it.
    async fn tend(&self, found: &Found, ours: &Ours, mut made: Made) -> Result<Action, Failure> {
        let (namespace, name) = (&self.namespace, ours.desired.name.as_str());
        let now = self.shared.clock.now();
        let job = namespace.owned(&namespace.jobs, name, &ours.uid);
        self.look_for_the_job(found, name, job.as_deref(), &mut made).await?;
        let (pod, others) = self.pods_of(name, &made);
        made.pod = pod.clone().or(made.pod);
        if !others.is_empty() {
            made.ended_job = made.ended_job.or_else(|| job.clone());
            deleting::end_others(namespace, name, job.as_deref(), &others).await;
            // The next look finds neither, whatever becomes of this one.
            self.shared.attempts.note(&namespace.name, name, made.clone());
        }

        let is_starting = pod.as_deref().is_some_and(is_starting);
        let hangs = match pod.as_deref() {
            None => made.job.as_ref().is_some_and(|(_, since)| since.elapsed() >= NO_POD),
            Some(pod) => is_starting && is_old(pod, now),
        };
        let vanished = pod.is_none() && made.pod.is_some();
        let events = if hangs || vanished { self.events(&made).await? } else { Vec::new() };
        let seen = Seen {
            spec: &ours.desired.spec,
            job: made.ended_job.as_deref().or(job.as_deref()),
            job_was_seen: made.job_was_seen,
            has_run: found.status.as_ref().is_some_and(status::has_run),
            pod: pod.as_deref(),
            last_pod: made.pod.as_deref(),
            events: &events,
            now,
        };
        let mut observed = observe(&seen);
        // What an object owns goes with it, and may be seen to go first.
        if matches!(observed, Observed::Ended { cause: Cause::Deleted, .. }) && !self.is_there(found).await? {
            self.shared.attempts.missed(&namespace.name, name);
            return Ok(Action::await_change());
        }
        let objects = match observed {
            Observed::Ended { .. } => Objects::Over,
            Observed::Nothing | Observed::Waiting { .. } | Observed::Running { .. } => {
                match self.applied(ours, &mut made).await {
                    Ok(()) => Objects::Applied,
                    Err(NotApplied::Refused(refusal)) => {
                        self.refused(found, &mut observed, &refusal);
                        Objects::Refused(refusal.message)
                    }
                    Err(NotApplied::Failed(error)) => {
                        self.shared.attempts.note(&namespace.name, name, made);
                        return Err(error.into());
                    }
                }
            }
        };
        let is_slow = made.job.is_some() && pod.is_none()
            || is_starting
            || pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
        self.shared.attempts.note(&namespace.name, name, made);
        self.shared.attempts.show(&namespace.name, name, observed.clone());
        self.write_status(found, status::status(&observed, &objects, found.status.as_ref(), now)).await?;
        Ok(match (observed, objects) {
            (Observed::Ended { .. }, _) => Action::await_change(),
            (Observed::Running { .. }, Objects::Refused(_)) => Action::requeue(LOOK_AGAIN),
            (_, Objects::Refused(_)) => Action::requeue(NO_POD),
            (_, Objects::Applied | Objects::Over) if is_slow => {
                Action::requeue(if hangs { LOOK_AGAIN } else { NO_POD })
            }
            (_, Objects::Applied | Objects::Over) => Action::await_change(),
        })
    }

    /// Whether the API server has it, and means to keep it.
    async fn is_there(&self, found: &Found) -> Result<bool, Failure> {
        match self.namespace.api::<Found>().get_opt(found.name()).await {
            Ok(now) => Ok(now.is_some_and(|now| now.uid() == found.uid() && !now.is_going())),
            // The rights to look went, as with their namespace: what was seen is all there is to tell.
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether its Job was there. What is watched of Jobs may be behind what we made and behind
    /// what is watched of other kinds; it is complete when a namespace is opened.
    async fn look_for_the_job(
        &self,
        found: &Found,
        name: &str,
        job: Option<&Job>,
        made: &mut Made,
    ) -> Result<(), Failure> {
        if let Some(job) = job {
            made.job_was_seen = true;
            if made.job.is_none() {
                made.job = job.metadata.uid.clone().map(|uid| (uid, Instant::now()));
            }
        }
        made.job_was_seen |= match &made.job {
            // An earlier process made it.
            None => found.status.as_ref().is_some_and(status::was_made),
            Some((uid, since)) if !made.job_was_seen && since.elapsed() >= UNSEEN => {
                let named = ListParams::default().fields(&format!("metadata.name={name}"));
                let there = self.namespace.api::<Job>().list_metadata(&named).await?;
                !there.items.iter().any(|job| job.metadata.uid.as_ref() == Some(uid))
            }
            Some(_) => false,
        };
        Ok(())
    }

    /// The attempt's pod: the first there was. An attempt has one; Jobs of old Kubernetes put
    /// others in the place of one that goes.
    fn pods_of(&self, name: &str, made: &Made) -> (Option<Arc<Pod>>, Vec<Arc<Pod>>) {
        let Some((job, _)) = &made.job else { return (None, Vec::new()) };
        let mut pods = self.namespace.pods_of(name);
        pods.retain(|pod| super::namespace::is_owned(&pod.metadata, job));
        pods.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
        let first = made.pod.as_ref().or(pods.first()).and_then(|pod| pod.metadata.uid.clone());
        let (first, others): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| pod.metadata.uid == first);
        (first.into_iter().next(), others)
    }

    /// What the cluster does not take keeps an attempt from its pod, and does not end one that has it.
    fn refused(&self, found: &Found, observed: &mut Observed, refusal: &Refusal) {
        match observed {
            Observed::Nothing | Observed::Waiting { .. } => {
                *observed = Observed::Waiting {
                    cause: refusal.cause,
                    message: refusal.message.clone(),
                    at_once: refusal.at_once,
                };
            }
            Observed::Running { .. } | Observed::Ended { .. } => {
                if found.status.as_ref().is_none_or(|before| !status::says(before, &refusal.message)) {
                    tracing::warn!(
                        namespace = self.namespace.name,
                        name = found.name(),
                        reason = refusal.message,
                        "what belongs to an attempt is not put back; it goes on without"
                    );
                }
            }
        }
    }

    /// Applies what is missing or was changed. What fails for a while is as good as refused.
    async fn applied(&self, ours: &Ours, made: &mut Made) -> Result<(), NotApplied> {
        // Showing how it was refused has it looked at again at once.
        if let Some((since, refusal)) = &made.refused
            && since.elapsed() < NO_POD
        {
            return Err(NotApplied::Refused(refusal.clone()));
        }
        let refusal = match self.apply(ours, made).await {
            Ok(()) => {
                (made.failing, made.refused) = (None, None);
                return Ok(());
            }
            Err(NotApplied::Failed(error)) => {
                let since = *made.failing.get_or_insert_with(Instant::now);
                if since.elapsed() < SAID_AFTER {
                    return Err(NotApplied::Failed(error));
                }
                Refusal::unanswered(&error)
            }
            Err(NotApplied::Refused(refusal)) => {
                made.failing = None;
                refusal
            }
        };
        made.refused = Some((Instant::now(), refusal.clone()));
        Err(NotApplied::Refused(refusal))
    }

    /// A Job is made once: without it the attempt is over.
    async fn apply(&self, ours: &Ours, made: &mut Made) -> Result<(), NotApplied> {
        let (namespace, name, uid) = (&self.namespace, ours.desired.name.as_str(), ours.uid.as_str());
        let job_was_made = made.job.is_some() || made.job_was_seen;
        let version = |meta: Option<ObjectMeta>| meta.and_then(|meta| meta.resource_version);
        let there = [
            version(namespace.owned(&namespace.accounts, name, uid).map(|o| o.metadata.clone())),
            version(namespace.owned(&namespace.secrets, name, uid).map(|o| o.metadata.clone())),
            version(namespace.owned(&namespace.policies, name, uid).map(|o| o.metadata.clone())),
        ];
        let is_as_applied: Vec<bool> =
            there.iter().zip(&made.versions).map(|(there, made)| there.is_some() && there == made).collect();
        if job_was_made && is_as_applied.iter().all(|same| *same) {
            return Ok(());
        }
        let mut owner = ours.desired.agent_run();
        owner.metadata.uid = Some(ours.uid.clone());
        let children = Children::of(&ours.desired, &owner, &self.shared.settings).map_err(|message| {
            NotApplied::Refused(Refusal { cause: Cause::Denied, message, at_once: true })
        })?;
        steps::around(Step::ChildrenApplied, async {
            if !is_as_applied[0] {
                made.versions[0] =
                    version(Some(self.apply_one(&children.service_account, "its ServiceAccount").await?));
            }
            if !is_as_applied[1] {
                made.versions[1] = version(Some(self.apply_one(&children.secret, "its Secret").await?));
            }
            if !is_as_applied[2] {
                made.versions[2] =
                    version(Some(self.apply_one(&children.network_policy, "its NetworkPolicy").await?));
            }
            // It may have been ended meanwhile.
            if !job_was_made && !self.shared.attempts.is_ending(&namespace.name, name) {
                let job = self.apply_one(&children.job, "its Job").await?;
                made.job = job.uid.map(|uid| (uid, Instant::now()));
            }
            Ok(())
        })
        .await
    }

    async fn apply_one<K>(&self, object: &K, what: &str) -> Result<ObjectMeta, NotApplied>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let name = object.meta().name.as_deref().unwrap_or_default();
        let params = PatchParams::apply(MANAGER).force();
        match self.namespace.api::<K>().patch(name, &params, &Patch::Apply(object)).await {
            Ok(mut applied) => Ok(std::mem::take(applied.meta_mut())),
            Err(error) => Err(match Refusal::of(&error, what, &self.namespace.name) {
                Some(refusal) => NotApplied::Refused(refusal),
                None => NotApplied::Failed(error),
            }),
        }
    }

    /// What the cluster says about a Job that has no pod, and about a pod that is gone.
    async fn events(&self, made: &Made) -> Result<Vec<Event>, Failure> {
        let job = made.job.as_ref().map(|(uid, _)| uid.as_str());
        let pod = made.pod.as_ref().and_then(|pod| pod.metadata.uid.as_deref());
        let mut events = Vec::new();
        for uid in job.into_iter().chain(pod) {
            let about = ListParams::default().fields(&format!("involvedObject.uid={uid}")).limit(EVENTS);
            match self.namespace.api::<Event>().list(&about).await {
                Ok(found) => events.extend(found.items),
                // They explain; without them it goes on.
                Err(kube::Error::Api(status)) if status.is_forbidden() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(events)
    }

    /// Asks the control plane about what no attempt at hand is about.
    async fn judge(&self, found: &Found) -> Result<Action, Failure> {
        let foreign = || self.shared.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (self.namespace.name.clone(), found.name().to_owned());
        if found.is_going() || foreign().get(&key).is_some_and(|uid| uid == found.uid()) {
            return Ok(Action::await_change());
        }
        let object = ClusterObject {
            namespace: self.namespace.name.clone(),
            name: found.name().to_owned(),
            digest: found.digest.clone(),
            uid: found.uid().to_owned(),
        };
        match self.shared.control_plane.judge(object).await? {
            Verdict::Over | Verdict::Recreate => {
                tracing::info!(
                    namespace = self.namespace.name,
                    name = found.name(),
                    "what an attempt left is deleted"
                );
                deleting::delete(&self.namespace, found.name(), found.uid()).await;
                Ok(Action::await_change())
            }
            Verdict::Foreign => {
                tracing::warn!(
                    namespace = self.namespace.name,
                    name = found.name(),
                    uid = found.uid(),
                    "an AgentRun that the platform did not ask for is refused"
                );
                self.write_status(found, status::refused(found.status.as_ref(), self.shared.clock.now()))
                    .await?;
                foreign().insert(key, found.uid().to_owned());
                Ok(Action::await_change())
            }
            // Another worker's, or of one that just came or went.
            Verdict::Ours | Verdict::Unspecified => Ok(Action::requeue(JUDGE_AGAIN)),
        }
    }

    /// Shows people how far it is; only when that is news.
    async fn write_status(&self, found: &Found, now: AgentRunStatus) -> Result<(), Failure> {
        if found.status.as_ref() == Some(&now) {
            return Ok(());
        }
        let types = TypeMeta::resource::<AgentRun>();
        let patch = serde_json::json!({
            "apiVersion": types.api_version, "kind": types.kind, "status": now,
            // Not one of the same name that was made since.
            "metadata": { "uid": found.uid() },
        });
        let params = PatchParams::apply(MANAGER).force();
        let (api, patch) = (self.namespace.api::<Found>(), Patch::Apply(&patch));
        let written = steps::around(Step::AgentRunShown, api.patch_status(found.name(), &params, &patch));
        match written.await {
            Ok(_) => Ok(()),
            // It is gone, or another: nothing to show it on.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[derive(Debug)]
enum NotApplied {
    Refused(Refusal),
    Failed(kube::Error),
}

/// It has a node, and does not run yet.
pub(super) fn is_starting(pod: &Pod) -> bool {
    let is_pending = pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Pending"));
    is_pending && pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
}

/// It should run by now.
fn is_old(pod: &Pod, now: DateTime<Utc>) -> bool {
    let made = pod.metadata.creation_timestamp.as_ref();
    made.is_some_and(|made| now.timestamp() - made.0.as_second() >= SLOW_START_SECONDS)
}

#[cfg(test)]
mod tests;
