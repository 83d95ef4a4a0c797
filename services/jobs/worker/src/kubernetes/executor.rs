//! A cluster, as a worker uses it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{clock::Clock, cluster::object_name};
use kube::Client;
use proto::v1::AttemptLease;
use tokio_util::sync::CancellationToken;

use super::{KubernetesSettings, attempts::Attempts, client, controller, namespace::Namespace};
use crate::control_plane::ControlPlane;

/// What attempts and the controllers of their namespaces share.
pub(super) struct Shared {
    pub(super) settings: KubernetesSettings,
    pub(super) control_plane: ControlPlane,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) attempts: Attempts,
    /// Uids of `AgentRun`s that are somebody else's, by namespace and name, so that each is judged
    /// once; as long as they are there.
    pub(super) foreign: Mutex<HashMap<(String, String), String>>,
}

/// Starts attempts in a cluster.
pub(crate) struct Executor {
    pub(super) shared: Arc<Shared>,
    client: Client,
    namespaces: Mutex<HashMap<String, Arc<Namespace>>>,
    shutdown: CancellationToken,
}

impl Executor {
    /// # Errors
    /// When nothing says where the cluster is. One that is away is no error: it is waited for.
    pub(crate) async fn open(
        settings: KubernetesSettings,
        control_plane: ControlPlane,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let client = client::connect(&settings).await?;
        tracing::info!(
            capacity = settings.capacity,
            image = settings.image,
            gateway = %settings.gateway.url,
            "attempts run in a cluster"
        );
        let shared = Shared {
            settings,
            control_plane,
            clock,
            attempts: Attempts::default(),
            foreign: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared), client, namespaces: Mutex::default(), shutdown })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.shared.settings.capacity
    }

    /// What is found of this attempt is not asked about: it goes on. Without it, its objects
    /// might be judged before its task begins.
    pub(crate) fn expect(&self, lease: &AttemptLease) {
        if let Ok(attempt) = lease.attempt_id.parse() {
            self.shared.attempts.expect(&lease.namespace, &object_name(attempt));
        }
    }

    /// It will not go on: what is found of it is judged.
    pub(super) fn forget(&self, namespace: &str, attempt: &str) {
        if let Ok(attempt) = attempt.parse() {
            let name = object_name(attempt);
            self.shared.attempts.forget(namespace, &name);
            let namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
            namespaces.get(namespace).into_iter().for_each(|watched| watched.ask(&name));
        }
    }

    /// Watches a namespace from now on.
    pub(crate) fn watch(&self, name: &str) {
        self.namespace(name);
    }

    /// A namespace that is watched from now on.
    pub(super) fn namespace(&self, name: &str) -> Arc<Namespace> {
        // A panic elsewhere leaves the map whole.
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = namespaces.get(name) {
            return Arc::clone(known);
        }
        let (namespace, writers, queue) = Namespace::new(name, self.client.clone());
        namespaces.insert(name.to_owned(), Arc::clone(&namespace));
        let control = controller::run(Arc::clone(&namespace), Arc::clone(&self.shared), writers, queue);
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move { shutdown.run_until_cancelled(control).await });
        namespace
    }
}
