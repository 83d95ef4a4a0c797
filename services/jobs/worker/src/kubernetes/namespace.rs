//! One namespace, as it is watched: what of it is kept in memory, and who is told of changes.
//!
//! At the start each kind is listed once, in pages, and watched from there on. After that a
//! list is asked for only when the API server no longer knows where a watch was.

use std::{
    convert::Infallible,
    fmt::Debug,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, channel::mpsc};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        batch::v1::Job,
        core::v1::{Pod, PodSpec, Secret, ServiceAccount},
        networking::v1::NetworkPolicy,
    },
};
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store, store::Writer},
        utils::Backoff as Pausing,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::{attempts::Attempts, client::WATCH_SECONDS, found::Found, rights};
use crate::control_plane::Backoff;

/// Objects in one answer to a list.
const PAGE: u32 = 100;
/// How long until rights that were missing are looked for again.
const RIGHTS_AGAIN: Duration = Duration::from_secs(30);
/// Every object of an attempt has this label.
const OF_AN_ATTEMPT: &str = "callboard.dev/attempt";

/// Only what a deletion and a comparison need.
pub(super) type Meta<K> = PartialObjectMeta<K>;

/// Whether what is kept is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Not yet: rights are asked for, everything is listed once.
    Begun,
    /// The worker may not do what it has to: a sentence.
    Lacking(String),
    Open,
}

/// A namespace of runs.
pub(super) struct Namespace {
    pub(super) name: String,
    pub(super) client: Client,
    pub(super) agent_runs: Store<Found>,
    pub(super) jobs: Store<Job>,
    pub(super) pods: Store<Pod>,
    pub(super) accounts: Store<Meta<ServiceAccount>>,
    pub(super) secrets: Store<Meta<Secret>>,
    pub(super) policies: Store<Meta<NetworkPolicy>>,
    opening: watch::Sender<Opening>,
    changed: watch::Sender<()>,
    queue: mpsc::UnboundedSender<ObjectRef<Found>>,
    /// Watches of it that fail.
    away: AtomicUsize,
}

/// What fills a [`Namespace`].
pub(super) struct Writers {
    agent_runs: Writer<Found>,
    jobs: Writer<Job>,
    pods: Writer<Pod>,
    accounts: Writer<Meta<ServiceAccount>>,
    secrets: Writer<Meta<Secret>>,
    policies: Writer<Meta<NetworkPolicy>>,
}

/// Which `AgentRun`s are to be looked at.
pub(super) type Queue = mpsc::UnboundedReceiver<ObjectRef<Found>>;

impl Namespace {
    pub(super) fn new(name: &str, client: Client) -> (Arc<Self>, Writers, Queue) {
        let writers = Writers {
            agent_runs: Writer::default(),
            jobs: Writer::default(),
            pods: Writer::default(),
            accounts: Writer::default(),
            secrets: Writer::default(),
            policies: Writer::default(),
        };
        let (queue, asked) = mpsc::unbounded();
        let namespace = Self {
            name: name.to_owned(),
            client,
            agent_runs: writers.agent_runs.as_reader(),
            jobs: writers.jobs.as_reader(),
            pods: writers.pods.as_reader(),
            accounts: writers.accounts.as_reader(),
            secrets: writers.secrets.as_reader(),
            policies: writers.policies.as_reader(),
            opening: watch::Sender::new(Opening::Begun),
            changed: watch::Sender::new(()),
            queue,
            away: AtomicUsize::new(0),
        };
        (Arc::new(namespace), writers, asked)
    }

    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType: Default>,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Waits until everything in it was seen once.
    ///
    /// # Errors
    /// A sentence when the worker has not the rights for it.
    pub(super) async fn opened(&self) -> Result<(), String> {
        let mut opening = self.opening.subscribe();
        // It lives as long as we do.
        let now = opening.wait_for(|now| *now != Opening::Begun).await.map(|now| now.clone());
        match now {
            Ok(Opening::Lacking(sentence)) => Err(sentence),
            Ok(Opening::Open | Opening::Begun) | Err(_) => Ok(()),
        }
    }

    /// Waits until everything in it was seen once, and the worker has its rights.
    pub(super) async fn open(&self) {
        // It lives as long as we do.
        let _ = self.opening.subscribe().wait_for(|now| *now == Opening::Open).await;
    }

    /// Tells of every change.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Has one `AgentRun` looked at.
    pub(super) fn ask(&self, name: &str) {
        // The controller ends with the process only.
        let _ = self.queue.unbounded_send(ObjectRef::new(name).within(&self.name));
    }

    /// An object of `store` under this name that `owner` owns.
    pub(super) fn owned<K>(&self, store: &Store<K>, name: &str, owner: &str) -> Option<Arc<K>>
    where
        K: Resource<DynamicType = ()> + Clone,
    {
        let found = store.get(&ObjectRef::new(name).within(&self.name))?;
        is_owned(found.meta(), owner).then_some(found)
    }

    /// The pods of the attempt's Job, whichever that was.
    pub(super) fn pods_of(&self, name: &str) -> Vec<Arc<Pod>> {
        self.pods.state_filter(|pod| job_of(&pod.metadata) == Some(name))
    }

    /// Keeps itself up to date, as long as it is polled.
    pub(super) async fn follow(&self, writers: Writers, attempts: &Attempts) {
        self.rights().await;
        let ready = async {
            // Their writers live as long as this.
            let _ = self.agent_runs.wait_until_ready().await;
            let _ = self.jobs.wait_until_ready().await;
            let _ = self.pods.wait_until_ready().await;
            let _ = self.accounts.wait_until_ready().await;
            let _ = self.secrets.wait_until_ready().await;
            let _ = self.policies.wait_until_ready().await;
            self.opening.send_replace(Opening::Open);
            tracing::info!(
                namespace = self.name,
                agent_runs = self.agent_runs.len(),
                "the namespace is watched"
            );
        };
        tokio::join!(
            ready,
            self.watch(writers.agent_runs, None, attempts, |_| {}, own_name),
            self.watch(writers.jobs, Some(OF_AN_ATTEMPT), attempts, prune_job, own_name),
            self.watch(writers.pods, Some(OF_AN_ATTEMPT), attempts, prune_pod, job_of),
            self.watch(writers.accounts, Some(OF_AN_ATTEMPT), attempts, |_| {}, own_name),
            self.watch(writers.secrets, Some(OF_AN_ATTEMPT), attempts, |_| {}, own_name),
            self.watch(writers.policies, Some(OF_AN_ATTEMPT), attempts, |_| {}, own_name),
        );
    }

    /// Waits until the worker may do in it what it has to.
    async fn rights(&self) {
        let mut backoff = Backoff::new();
        let mut is_away = false;
        loop {
            let missing = rights::missing(&self.client, &self.name).await;
            if missing.is_ok() {
                self.noted::<Infallible>(&mut is_away, None);
            }
            match missing {
                Ok(missing) if missing.is_empty() => return,
                Ok(missing) => {
                    let sentence = format!(
                        "The worker may not do what it has to in the namespace {}: {}. Apply what `callboard worker manifests` prints.",
                        self.name,
                        missing.join(", ")
                    );
                    tracing::error!(
                        namespace = self.name,
                        missing = missing.join(", "),
                        "the worker lacks rights"
                    );
                    self.opening.send_replace(Opening::Lacking(sentence));
                    tokio::time::sleep(RIGHTS_AGAIN).await;
                }
                Err(error) => {
                    self.noted(&mut is_away, Some(&error));
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    async fn watch<K>(
        &self,
        mut writer: Writer<K>,
        label: Option<&str>,
        attempts: &Attempts,
        prune: fn(&mut K),
        attempt: fn(&ObjectMeta) -> Option<&str>,
    ) where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let mut config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
        config.label_selector = label.map(ToOwned::to_owned);
        let mut is_away = false;
        let mut events = pin!(watcher(self.api::<K>(), config).backoff(Pauses(Backoff::new())));
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event.modify(|object| {
                    let meta = object.meta_mut();
                    meta.managed_fields = None;
                    meta.annotations = None;
                    prune(object);
                }),
                Err(error) => {
                    self.noted(&mut is_away, Some(&error));
                    continue;
                }
            };
            self.noted::<Infallible>(&mut is_away, None);
            writer.apply_watcher_event(&event);
            match &event {
                Event::Apply(object) | Event::Delete(object) => {
                    attempt(object.meta()).into_iter().for_each(|name| self.ask(name));
                }
                Event::Init | Event::InitApply(_) => continue,
                // What went meanwhile is not told one by one.
                Event::InitDone => {
                    let found = self.agent_runs.state();
                    found.iter().for_each(|found| self.ask(found.name()));
                    attempts.names(&self.name).iter().for_each(|name| self.ask(name));
                }
            }
            self.changed.send_replace(());
        }
    }

    /// Logs once when the cluster goes away, and once when it is back for all that asked;
    /// `is_away`: for this one.
    fn noted<E: std::error::Error + 'static>(&self, is_away: &mut bool, error: Option<&E>) {
        let was_away = std::mem::replace(is_away, error.is_some());
        match error {
            Some(error) if !was_away && self.away.fetch_add(1, Ordering::Relaxed) == 0 => {
                tracing::warn!(namespace = self.name, error = %telemetry::logging::chain(error), "the cluster does not answer, or refuses to; attempts go on");
            }
            Some(error) => {
                tracing::debug!(namespace = self.name, error = %telemetry::logging::chain(error), "not watched");
            }
            None => {
                if was_away && self.away.fetch_sub(1, Ordering::Relaxed) == 1 {
                    tracing::info!(namespace = self.name, "the cluster answers again");
                }
            }
        }
    }
}

/// Growing pauses between tries to watch.
struct Pauses(Backoff);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0.next())
    }
}

impl Pausing for Pauses {
    fn reset(&mut self) {
        self.0 = Backoff::new();
    }
}

/// Whether the owner has this uid.
pub(super) fn is_owned(meta: &ObjectMeta, owner: &str) -> bool {
    meta.owner_references.iter().flatten().any(|reference| reference.uid == owner)
}

fn own_name(meta: &ObjectMeta) -> Option<&str> {
    meta.name.as_deref()
}

fn job_of(meta: &ObjectMeta) -> Option<&str> {
    let owner = meta.owner_references.iter().flatten().find(|reference| reference.kind == "Job")?;
    Some(&owner.name)
}

// What nobody reads is not kept: with hundreds of attempts this is most of the memory.
fn prune_job(job: &mut Job) {
    job.spec = None;
}

fn prune_pod(pod: &mut Pod) {
    if let Some(spec) = &mut pod.spec {
        let node_name = spec.node_name.take();
        *spec = PodSpec { node_name, ..PodSpec::default() };
    }
}

#[cfg(test)]
impl Namespace {
    /// Opened, with this in it and no watch: what it holds stays as it is.
    pub(super) fn holding(client: Client, name: &str, jobs: &[Job], pods: &[Pod]) -> (Arc<Self>, Writers) {
        fn fill<K>(writer: &mut Writer<K>, objects: &[K])
        where
            K: Resource<DynamicType = ()> + Clone,
        {
            writer.apply_watcher_event(&Event::Init);
            for object in objects {
                writer.apply_watcher_event(&Event::InitApply(object.clone()));
            }
            writer.apply_watcher_event(&Event::InitDone);
        }
        let (namespace, mut writers, _) = Self::new(name, client);
        fill(&mut writers.agent_runs, &[]);
        fill(&mut writers.jobs, jobs);
        fill(&mut writers.pods, pods);
        namespace.opening.send_replace(Opening::Open);
        (namespace, writers)
    }
}
