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

use futures::StreamExt;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Event, Pod},
};
use kube::{
    Resource,
    api::{ListParams, ObjectMeta, Patch, PatchParams, TypeMeta},
    runtime::controller::{self, Action},
};
use proto::v1::{ClusterObject, judge_response::Verdict};
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
    status,
};

/// Whose fields they are, for server-side apply.
const MANAGER: &str = "callboard-worker";
/// After what failed.
const RETRY: Duration = Duration::from_secs(2);
/// How long a Job may have no pod before its events are read, and how often then.
const NO_POD: Duration = Duration::from_secs(4);
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
        controller::Config::default(),
    );
    let looks = looks.for_each(|look| {
        match look {
            Ok(_) => {}
            Err(controller::Error::ObjectNotFound(object)) => {
                shared.attempts.missed(&namespace.name, &object.name);
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
            Role::Ours(ours, made) => self.tend(found, &ours, made).await,
            Role::Left => Ok(Action::await_change()),
            Role::Unknown | Role::Another => self.judge(found).await,
        }
    }

    /// Makes what is missing of an attempt, and tells what is seen of it.
    async fn tend(&self, found: &Found, ours: &Ours, mut made: Made) -> Result<Action, Failure> {
        let (namespace, name) = (&self.namespace, ours.desired.name.as_str());
        let job = namespace.owned(&namespace.jobs, name, &ours.uid);
        if let (Some(job), None) = (&job, &made.job) {
            made.job = job.metadata.uid.clone().map(|uid| (uid, Instant::now()));
        }
        let pod = self.pod_of(name, &made);
        made.pod = pod.clone().or(made.pod);
        // An earlier process has said that all was there.
        let job_was_made = made.job.is_some() || found.status.as_ref().is_some_and(says_ready);

        let hangs = pod.is_none() && made.job.as_ref().is_some_and(|(_, since)| since.elapsed() >= NO_POD);
        let vanished = pod.is_none() && made.pod.is_some();
        let events = if hangs || vanished { self.events(&made).await? } else { Vec::new() };
        let seen = Seen {
            spec: &ours.desired.spec,
            job: job.as_deref(),
            job_was_made,
            pod: pod.as_deref(),
            last_pod: made.pod.as_deref(),
            events: &events,
            now: self.shared.clock.now(),
        };
        let mut observed = observe(&seen);
        let mut is_ready = false;
        if !matches!(observed, Observed::Ended { .. }) {
            match self.apply(ours, &mut made, job_was_made).await? {
                Ok(()) => is_ready = true,
                Err(refusal) => {
                    observed = Observed::Waiting {
                        cause: refusal.cause,
                        message: refusal.message,
                        at_once: refusal.at_once,
                    };
                }
            }
        }
        let is_slow = made.job.is_some() && pod.is_none()
            || pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
        self.shared.attempts.note(&namespace.name, name, made);
        self.shared.attempts.show(&namespace.name, name, observed.clone());
        let now = self.shared.clock.now();
        self.write_status(found, status::status(&observed, is_ready, found.status.as_ref(), now)).await?;
        Ok(match observed {
            Observed::Ended { .. } => Action::await_change(),
            _ if !is_ready => Action::requeue(NO_POD),
            _ if is_slow => Action::requeue(if hangs { LOOK_AGAIN } else { NO_POD }),
            Observed::Nothing | Observed::Waiting { .. } | Observed::Running { .. } => Action::await_change(),
        })
    }

    /// The attempt's pod: the first there was. An attempt has one.
    fn pod_of(&self, name: &str, made: &Made) -> Option<Arc<Pod>> {
        let (job, _) = made.job.as_ref()?;
        let mut pods = self.namespace.pods_of(name);
        pods.retain(|pod| super::namespace::is_owned(&pod.metadata, job));
        let first = made.pod.as_ref().and_then(|pod| pod.metadata.uid.clone());
        match first {
            Some(first) => pods.into_iter().find(|pod| pod.metadata.uid.as_deref() == Some(&first)),
            None => pods.into_iter().min_by_key(|pod| pod.metadata.creation_timestamp.clone()),
        }
    }

    /// Applies what is missing or was changed. A Job is made once: without it the attempt is over.
    async fn apply(
        &self,
        ours: &Ours,
        made: &mut Made,
        job_was_made: bool,
    ) -> Result<Result<(), Refusal>, Failure> {
        let (namespace, name, uid) = (&self.namespace, ours.desired.name.as_str(), ours.uid.as_str());
        let version = |meta: Option<ObjectMeta>| meta.and_then(|meta| meta.resource_version);
        let there = [
            version(namespace.owned(&namespace.accounts, name, uid).map(|o| o.metadata.clone())),
            version(namespace.owned(&namespace.secrets, name, uid).map(|o| o.metadata.clone())),
            version(namespace.owned(&namespace.policies, name, uid).map(|o| o.metadata.clone())),
        ];
        let is_as_applied: Vec<bool> =
            there.iter().zip(&made.versions).map(|(there, made)| there.is_some() && there == made).collect();
        if job_was_made && is_as_applied.iter().all(|same| *same) {
            return Ok(Ok(()));
        }
        let mut owner = ours.desired.agent_run();
        owner.metadata.uid = Some(ours.uid.clone());
        let children = match Children::of(&ours.desired, &owner, &self.shared.settings) {
            Ok(children) => children,
            Err(message) => {
                return Ok(Err(Refusal {
                    cause: proto::v1::attempt_ended::Cause::Denied,
                    message,
                    at_once: true,
                }));
            }
        };
        let applied = steps::around(Step::ChildrenApplied, async {
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
            if !job_was_made {
                let job = self.apply_one(&children.job, "its Job").await?;
                made.job = job.uid.map(|uid| (uid, Instant::now()));
            }
            Ok(())
        })
        .await;
        match applied {
            Ok(()) => Ok(Ok(())),
            Err(NotApplied::Refused(refusal)) => Ok(Err(refusal)),
            Err(NotApplied::Failed(error)) => Err(error.into()),
        }
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
        if found.is_going() || foreign().contains(found.uid()) {
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
                foreign().insert(found.uid().to_owned());
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

enum NotApplied {
    Refused(Refusal),
    Failed(kube::Error),
}

/// All of its objects were there once.
fn says_ready(status: &AgentRunStatus) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
