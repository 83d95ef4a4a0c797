//! Runs attempts as pods of a Kubernetes cluster.
//!
//! An attempt is an `AgentRun`, and what belongs to it is owned by that. What is made comes from
//! what the control plane sent, never from what is found in the cluster.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use url::Url;

mod agent_run;
pub(crate) mod attempt;
mod attempts;
mod client;
mod controller;
mod deleting;
mod desired;
mod executor;
mod found;
mod manifests;
mod namespace;
mod objects;
mod observe;
mod policy;
mod probe;
mod restricted;
mod rights;
mod status;

#[cfg(test)]
mod fixtures;

pub use agent_run::{AgentRun, AgentRunSpec, AgentRunStatus, Phase, Toleration, TopologySpread};
pub(crate) use executor::Executor;
pub use manifests::{Grantee, Most, RunsOf, manifests};
pub use probe::probe as probe_cluster;
pub use rights::{RIGHTS, Right};

/// How attempts run in a cluster.
#[derive(Clone, Debug)]
pub struct KubernetesSettings {
    /// Where the cluster is; absent: `KUBECONFIG`, or the service account of our own pod.
    pub kubeconfig: Option<PathBuf>,
    /// Attempts at the same time.
    pub capacity: usize,
    /// What pods run, unless the run asks for another image.
    pub image: String,
    /// When a node fetches it.
    pub image_pull_policy: ImagePullPolicy,
    /// Secrets of the run's namespace a node fetches it with.
    pub image_pull_secrets: Vec<String>,
    /// The agent gateway.
    pub gateway: Gateway,
    /// Thousandths of a processor a pod gets, unless the run asks for more or less.
    pub cpu_millis: u32,
    /// Bytes of files a pod may have, unless the run asks for more or less.
    pub storage_bytes: u64,
    /// How long a pod may wait for a node, an image or its quota.
    pub patience: Duration,
    /// Priority classes by the least priority of a run that gets them.
    pub priority_classes: BTreeMap<i32, String>,
}

/// When a node fetches an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImagePullPolicy {
    /// When it does not have it.
    IfNotPresent,
    /// It has it already.
    Never,
    /// Whenever a pod starts.
    Always,
}

impl ImagePullPolicy {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
            Self::Always => "Always",
        }
    }
}

/// The agent gateway, as pods reach it: the one address they may connect to.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// `https://callboard-agents:8081`; its certificate is for this name.
    pub url: Url,
    /// The address behind the name.
    pub ip: IpAddr,
    /// The authority of its certificate, PEM.
    pub ca: String,
    /// Where its pods are when it runs in the cluster itself: there, policies see these and not
    /// the address of their Service.
    pub pods: Option<GatewayPods>,
}

/// The agent gateway's own pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayPods {
    /// Their namespace.
    pub namespace: String,
    /// Their labels.
    pub labels: BTreeMap<String, String>,
    /// The port they listen on.
    pub port: u16,
}
