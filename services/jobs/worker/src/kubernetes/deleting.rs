//! What was made for an attempt goes again.

use std::{fmt::Debug, sync::Arc, time::Duration};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        batch::v1::Job,
        core::v1::{Pod, Secret, ServiceAccount},
        networking::v1::NetworkPolicy,
    },
};
use kube::{
    Resource,
    api::{DeleteParams, ListParams, ObjectMeta, Preconditions},
    runtime::reflector::ObjectRef,
};
use serde::de::DeserializeOwned;
use telemetry::steps::{self, Step};
use tokio::time::Instant;

use super::{
    AgentRun,
    controller::is_starting,
    namespace::{Namespace, is_owned},
};

/// How long it is waited for what was deleted, before it is deleted again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long it is waited when the API server has what was not seen to be there.
const NOT_CLEAR: Duration = Duration::from_millis(500);
/// How long a pod that has a node may take to run before it is asked to end. Kubernetes before 1.22
/// forgets to end one whose start its node has not told of yet.
const STARTS_WITHIN: Duration = Duration::from_secs(5);
/// When it is said that something is still there.
const TOO_LONG: Duration = Duration::from_secs(60);

/// Deletes everything of the attempt, its pod without grace, and returns when nothing is left. What
/// is left is not known before the namespace is watched: it waits for that.
pub(super) async fn delete(namespace: &Namespace, name: &str, uid: &str) {
    let mut changes = namespace.changes();
    let gone = async {
        namespace.open().await;
        loop {
            steps::around(Step::ObjectsDeleted, delete_once(namespace, name, uid)).await;
            let again = Instant::now() + AGAIN;
            while !is_gone(namespace, name, uid) {
                if tokio::time::timeout_at(again, changes.changed()).await.is_err() {
                    break;
                }
            }
            match what_is_left(namespace, name, uid).await {
                Left::Unknowable => return,
                Left::Nothing if is_gone(namespace, name, uid) => return,
                Left::Nothing | Left::Something => tokio::time::sleep(NOT_CLEAR).await,
            }
        }
    };
    tokio::pin!(gone);
    if tokio::time::timeout(TOO_LONG, &mut gone).await.is_err() {
        tracing::error!(
            namespace = namespace.name,
            name,
            "objects of the attempt remain in the cluster, or it does not let itself be watched; its place is not used until they are gone"
        );
        gone.await;
    }
}

/// Ends an attempt's Job, and the pods it made in the place of the one that goes: they would work
/// beside it.
pub(super) async fn end_others(namespace: &Namespace, name: &str, job: Option<&Job>, others: &[Arc<Pod>]) {
    tracing::warn!(namespace = namespace.name, name, "its Job made another pod; that is ended");
    steps::around(Step::ObjectsDeleted, async {
        // First the Job, which would make yet another.
        if let Some(job) = job {
            delete_owned::<Job>(namespace, name, job.metadata.uid.clone()).await;
        }
        for pod in others {
            delete_one::<Pod>(namespace, &pod.metadata, &DeleteParams::default().grace_period(0)).await;
        }
    })
    .await;
}

/// Ends the pod as a person would: its runner may take a last checkpoint.
pub(super) async fn end_gently(namespace: &Namespace, name: &str, uid: &str, patience: Duration) {
    let mut changes = namespace.changes();
    let gently = async {
        // What there is, is not known before.
        namespace.open().await;
        let started = async {
            while namespace.pods_of(name).iter().any(|pod| is_starting(pod)) {
                // Its sender lives as long as the namespace.
                let _ = changes.changed().await;
            }
        };
        // One that does not start is ended as it is.
        let _ = tokio::time::timeout(STARTS_WITHIN, started).await;
        loop {
            // First the Job, which would make another pod.
            steps::around(Step::ObjectsDeleted, async {
                if let Some(job) = owned_uid(namespace, &namespace.jobs, name, uid) {
                    delete_owned::<Job>(namespace, name, Some(job)).await;
                }
                for pod in namespace.pods_of(name) {
                    if pod.metadata.deletion_timestamp.is_none() {
                        delete_one::<Pod>(namespace, &pod.metadata, &DeleteParams::default()).await;
                    }
                }
            })
            .await;
            let again = tokio::time::sleep(AGAIN);
            tokio::pin!(again);
            loop {
                if namespace.pods_of(name).iter().all(|pod| has_ended(pod)) {
                    return;
                }
                tokio::select! {
                    _ = changes.changed() => {}
                    () = &mut again => break,
                }
            }
        }
    };
    if tokio::time::timeout(patience, gently).await.is_err() {
        tracing::warn!(namespace = namespace.name, name, "the pod does not end by itself");
    }
}

/// Nothing of it runs, though the cluster may take a while to clear it away.
fn has_ended(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let has_phase = status.is_some_and(|s| matches!(s.phase.as_deref(), Some("Succeeded" | "Failed")));
    let all_ended =
        containers.iter().all(|c| c.state.as_ref().is_some_and(|state| state.terminated.is_some()));
    has_phase || (!containers.is_empty() && all_ended)
}

/// Deletes what is seen to be there. What is not seen yet goes with its owner.
async fn delete_once(namespace: &Namespace, name: &str, uid: &str) {
    if let Some(job) = owned_uid(namespace, &namespace.jobs, name, uid) {
        delete_owned::<Job>(namespace, name, Some(job)).await;
    }
    for pod in namespace.pods_of(name) {
        delete_one::<Pod>(namespace, &pod.metadata, &DeleteParams::default().grace_period(0)).await;
    }
    if let Some(secret) = owned_uid(namespace, &namespace.secrets, name, uid) {
        delete_owned::<Secret>(namespace, name, Some(secret)).await;
    }
    if let Some(policy) = owned_uid(namespace, &namespace.policies, name, uid) {
        delete_owned::<NetworkPolicy>(namespace, name, Some(policy)).await;
    }
    if let Some(account) = owned_uid(namespace, &namespace.accounts, name, uid) {
        delete_owned::<ServiceAccount>(namespace, name, Some(account)).await;
    }
    delete_owned::<AgentRun>(namespace, name, Some(uid.to_owned())).await;
}

/// What the API server has of an attempt that could work.
enum Left {
    Nothing,
    Something,
    /// The rights to look went, as they do with a namespace; so did those to watch.
    Unknowable,
}

/// Whether the API server, too, has no Job and no pod of it: what is watched may be behind. What
/// there is, is deleted.
async fn what_is_left(namespace: &Namespace, name: &str, uid: &str) -> Left {
    let (named, made) = (format!("metadata.name={name}"), format!("job-name={name}"));
    let (named, made) = (ListParams::default().fields(&named), ListParams::default().labels(&made));
    let listed = async {
        let jobs = namespace.api::<Job>().list_metadata(&named).await?;
        Ok::<_, kube::Error>((jobs, namespace.api::<Pod>().list_metadata(&made).await?))
    };
    let (mut jobs, pods) = match listed.await {
        Ok(found) => found,
        Err(kube::Error::Api(status)) if status.is_forbidden() => return Left::Unknowable,
        Err(_) => return Left::Something,
    };
    jobs.items.retain(|job| is_owned(&job.metadata, uid));
    if jobs.items.is_empty() && pods.items.is_empty() {
        return Left::Nothing;
    }
    steps::around(Step::ObjectsDeleted, async {
        for job in &jobs.items {
            delete_owned::<Job>(namespace, name, job.metadata.uid.clone()).await;
        }
        for pod in &pods.items {
            delete_one::<Pod>(namespace, &pod.metadata, &DeleteParams::default().grace_period(0)).await;
        }
    })
    .await;
    Left::Something
}

fn is_gone(namespace: &Namespace, name: &str, uid: &str) -> bool {
    let run = namespace.agent_runs.get(&ObjectRef::new(name).within(&namespace.name));
    run.is_none_or(|run| run.uid() != uid)
        && namespace.pods_of(name).is_empty()
        && namespace.owned(&namespace.jobs, name, uid).is_none()
        && namespace.owned(&namespace.secrets, name, uid).is_none()
        && namespace.owned(&namespace.policies, name, uid).is_none()
        && namespace.owned(&namespace.accounts, name, uid).is_none()
}

fn owned_uid<K>(
    namespace: &Namespace,
    store: &kube::runtime::reflector::Store<K>,
    name: &str,
    owner: &str,
) -> Option<String>
where
    K: Resource<DynamicType = ()> + Clone,
{
    namespace.owned(store, name, owner).and_then(|found| found.meta().uid.clone())
}

async fn delete_owned<K>(namespace: &Namespace, name: &str, uid: Option<String>)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let meta = ObjectMeta { name: Some(name.to_owned()), uid, ..ObjectMeta::default() };
    delete_one::<K>(namespace, &meta, &DeleteParams::background()).await;
}

/// What cannot be deleted now is tried again by the caller.
async fn delete_one<K>(namespace: &Namespace, meta: &ObjectMeta, params: &DeleteParams)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let name = meta.name.as_deref().unwrap_or_default();
    let mut params = params.clone();
    params.preconditions =
        meta.uid.clone().map(|uid| Preconditions { uid: Some(uid), resource_version: None });
    match namespace.api::<K>().delete(name, &params).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
        Err(error) => tracing::debug!(
            kind = %K::kind(&()),
            name,
            error = %telemetry::logging::chain(&error),
            "not deleted yet"
        ),
    }
}

#[cfg(test)]
mod tests;
