//! Runs attempts: on this machine, or as pods of a cluster.
//!
//! A worker opens no port: it leases attempts from the control plane, starts an agent runner
//! for each in a sandbox, keeps the lease alive, and reports how it ended. Whatever happens
//! to the platform, no process of an attempt on this machine outlives it, and a pod outlives only
//! the worker's process: the next one adopts it, or removes it, in the namespaces of the projects the
//! worker is enrolled for.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use domain::{clock::Clock, ids::WorkerProcessId};
use leasing::Executor;
use proto::v1::Declaration;
use telemetry::{address::Address, identity::Identity};
use tokio_util::sync::CancellationToken;

mod control_plane;
mod kubernetes;
mod leasing;
mod local;

pub use kubernetes::{
    AgentRun, AgentRunSpec, AgentRunStatus, Gateway, GatewayPods, Grantee, ImagePullPolicy,
    KubernetesSettings, Most, Phase, RIGHTS, Right, RunsOf, Toleration, TopologySpread, manifests,
    probe_cluster,
};
pub use local::{SANDBOX_FIRST_UID, SANDBOX_GID, check::probe};

/// What a worker needs to know.
#[derive(Debug)]
pub struct Settings {
    /// Where the control plane is reached.
    pub control_plane: Address,
    /// Who this worker is, as enrolled.
    pub identity: Arc<Identity>,
    /// The clock its tokens are made with.
    pub clock: Arc<dyn Clock>,
    /// This process, as opposed to earlier ones of the same worker.
    pub process: WorkerProcessId,
    /// Those of the labels it was enrolled with that it has.
    pub labels: BTreeMap<String, String>,
    /// Where attempts run.
    pub executor: ExecutorSettings,
}

/// Where attempts run.
#[expect(clippy::large_enum_variant, reason = "a process has one")]
#[derive(Clone, Debug)]
pub enum ExecutorSettings {
    /// On this machine.
    Local(LocalSettings),
    /// In a cluster.
    Kubernetes(KubernetesSettings),
}

/// How attempts run on this machine.
#[derive(Clone, Debug)]
pub struct LocalSettings {
    /// What keeps an attempt away from the machine.
    pub sandbox: Sandbox,
    /// Attempts at the same time.
    pub capacity: usize,
    /// The platform's `data_dir`. The worker owns `work/`, `bin/` and `etc/` in it; when the
    /// platform is root, sandbox users must be able to pass through it (mode 0711).
    pub state_dir: PathBuf,
    /// The `agent-runner` binary on the host.
    pub runner: PathBuf,
    /// The agent gateway's Unix socket on the host.
    pub gateway_socket: PathBuf,
    /// The agent's own files, read-only in the sandbox.
    pub mounts: Vec<Mount>,
}

/// What keeps an attempt away from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// bubblewrap with everything unshared.
    Bubblewrap,
    /// Nothing but a process group and, as root, an unprivileged user.
    None,
}

/// A file or folder of the host that the agent may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// File or folder on the host.
    pub host: PathBuf,
    /// Absolute path in the sandbox, outside `/usr`, `/etc`, `/proc`, `/dev` and `/work`.
    pub inside: PathBuf,
}

/// Runs attempts until `shutdown`. Those on this machine may take a last checkpoint then (some
/// seconds), are ended and reported, and their workspaces removed. Those in a cluster go on, and
/// the worker's next process with them.
///
/// # Errors
/// When the folders of the worker cannot be made, nothing says where the cluster is, the
/// control plane's address would let tokens travel in the clear, or another process of the worker was
/// started after this one, which has everything then ([`Superseded`]). An absent control plane, cluster
/// or sandbox is no error here: the first two are waited for, the last is reported with every
/// attempt.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    // Ends by itself, too: see `ControlPlane`.
    let shutdown = shutdown.child_token();
    let cluster = matches!(settings.executor, ExecutorSettings::Kubernetes(_));
    let declaration = Declaration { cluster, labels: settings.labels.into_iter().collect() };
    let control_plane = control_plane::ControlPlane::connect(
        &settings.control_plane,
        settings.identity,
        Arc::clone(&settings.clock),
        settings.process,
        declaration,
        shutdown.clone(),
    )?;
    let executor = match settings.executor {
        ExecutorSettings::Local(local) => Executor::Local(local::Executor::open(local).await?),
        ExecutorSettings::Kubernetes(cluster) => Executor::Kubernetes(
            kubernetes::Executor::open(cluster, control_plane.clone(), settings.clock, shutdown.clone())
                .await?,
        ),
    };
    leasing::run(executor, control_plane.clone(), shutdown).await;
    if control_plane.is_superseded() {
        return Err(Superseded.into());
    }
    Ok(())
}

/// Why a worker ended by itself: its identity is another process's now.
#[derive(Debug, thiserror::Error)]
#[error(
    "another process of this worker was started after this one, and has its attempts now; \
     two at the same time need an identity each: `callboard worker enroll` makes one"
)]
pub struct Superseded;
