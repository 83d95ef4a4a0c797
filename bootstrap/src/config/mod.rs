//! `callboard.yaml`: one file, unknown keys are errors, secrets are files.

#[cfg(test)]
mod documented;
mod github;
mod load;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use domain::{
    decision::Limits,
    names::{ProjectName, RepositoryName},
    retention::Retention,
    rights::ProjectRole,
    stage::{Ceilings, Pod},
};
use serde::Deserialize;
use std::collections::BTreeMap;
use url::Url;

pub use self::{
    github::{Github, GithubApp, GithubCredential},
    load::{ConfigError, load, read_secret},
};

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `postgres://…`; absent: a private cluster under `data_dir`.
    pub database_url: Option<String>,
    /// Everything the platform keeps on disk.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// Where it listens.
    #[serde(default)]
    pub listen: Listen,
    /// Address of the API gateway as people and the code host see it.
    pub public_url: Option<Url>,
    /// Key for envelope encryption: 32 bytes, base64. Absent: made under `data_dir`.
    pub key_file: Option<PathBuf>,
    /// Where `serve worker` and `serve …-gateway` reach the control plane.
    pub control_plane: Option<String>,
    /// Who a service started by `serve` is.
    pub identity_file: Option<PathBuf>,
    /// The code host.
    pub github: Github,
    /// Tenants.
    #[serde(default)]
    pub projects: Vec<Project>,
    /// What an attempt runs.
    pub agents: Agents,
    /// Model backends the agent gateway passes requests on to.
    #[serde(default)]
    pub models: Vec<Model>,
    /// Where big things are kept.
    #[serde(default)]
    pub objects: Objects,
    /// Where attempts run.
    #[serde(default)]
    pub executor: Executor,
    /// What `serve worker` and `up` say of their worker.
    #[serde(default)]
    pub worker: Worker,
    /// The agent gateway as pods reach it: `https://callboard-agents:8081`.
    pub agents_url: Option<Url>,
    /// How long what is kept.
    #[serde(default)]
    pub retention: Retention,
    /// How much may be started.
    #[serde(default)]
    pub limits: Limits,
}

/// As root the system's place, otherwise the user's.
pub(crate) fn default_data_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/var/lib/callboard".into();
    }
    let home = std::env::var_os("HOME").map_or_else(|| "/".into(), PathBuf::from);
    home.join(".local/share/callboard")
}

/// Listeners.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Webhooks, and later the console.
    pub api: SocketAddr,
    /// `/healthz`, `/readyz`, `/metrics`.
    pub admin: SocketAddr,
    /// The agent gateway; `unix:…`, loopback, or any address with TLS.
    pub agents: Option<String>,
    /// Internal calls of the control plane; `unix:…`, loopback, or any address with TLS.
    pub internal: Option<String>,
    /// Certificate and its chain for `internal` and `agents` over TCP, PEM. Read at the start.
    pub tls_certificate_file: Option<PathBuf>,
    /// Its key, PEM.
    pub tls_key_file: Option<PathBuf>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            api: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin: SocketAddr::from(([127, 0, 0, 1], 8083)),
            agents: None,
            internal: None,
            tls_certificate_file: None,
            tls_key_file: None,
        }
    }
}

/// A tenant.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Unique name.
    pub name: ProjectName,
    /// Its repositories; more are added by `callboard repo add`.
    #[serde(default)]
    pub repositories: Vec<Repository>,
    /// Login to role.
    #[serde(default)]
    pub members: BTreeMap<String, ProjectRole>,
    /// What its own files can only narrow.
    #[serde(default)]
    pub ceilings: Ceilings,
    /// What its stages ask of a cluster that do not say it themselves.
    #[serde(default)]
    pub pods: Pod,
    /// Logins of bots that may ask like people.
    #[serde(default)]
    pub bots: Vec<String>,
}

impl Config {
    /// The largest pods that runs of a project may ask for: thousandths of a processor, mebibytes
    /// of memory and of files.
    pub fn largest_pod(&self, project: &str) -> [u32; 3] {
        let [cpu, memory, storage] = self.executor.pod();
        let Some(project) = self.projects.iter().find(|known| known.name.as_str() == project) else {
            return [cpu, memory, storage];
        };
        let (pods, ceilings) = (&project.pods, project.ceilings_with(&self.executor).pods);
        let most = |worker: u32, project: Option<u32>, ceiling: Option<u32>| {
            worker.max(project.unwrap_or_default()).max(ceiling.unwrap_or_default())
        };
        [
            most(cpu, pods.cpu_millis, ceilings.max_cpu_millis),
            most(memory, pods.memory_mib, ceilings.max_memory_mib),
            most(storage, pods.storage_mib, ceilings.max_storage_mib),
        ]
    }
}

impl Project {
    /// What its own files can only narrow: their pods are no larger than its other pods, and those
    /// as large as the executor makes them.
    pub fn ceilings_with(&self, executor: &Executor) -> Ceilings {
        let pods = self.ceilings.pods.clone().as_large_as(&self.pods, executor.pod());
        Ceilings { pods, ..self.ceilings.clone() }
    }
}

/// A repository.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// `owner/name`
    pub name: RepositoryName,
    /// Last part of the address of its own webhook; required when there is more than one, or an App.
    pub source: Option<String>,
    /// Proves the deliveries of its own webhook. Without one they come by the App's.
    pub webhook_secret_file: Option<PathBuf>,
    /// Still accepted while rotating.
    pub previous_webhook_secret_file: Option<PathBuf>,
    /// Where work starts; absent: asked of the code host.
    pub default_branch: Option<String>,
}

/// What an attempt runs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agents {
    /// Which of the agents below.
    pub default: AgentName,
    /// Any program.
    pub command: Option<CommandAgent>,
    /// The Codex CLI.
    pub codex: Option<CodexAgent>,
    /// Seconds between checkpoints of an attempt; 0: none are taken.
    #[serde(default = "default_checkpoint_seconds")]
    pub checkpoint_seconds: u32,
    /// Minutes an attempt may take, where that is less than the stage allows.
    pub time_limit_minutes: Option<u32>,
    /// Seconds, for short-lived set-ups and tests; wins over minutes.
    pub time_limit_seconds: Option<u32>,
}

fn default_checkpoint_seconds() -> u32 {
    120
}

/// An agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentName {
    /// Any program.
    Command,
    /// The Codex CLI.
    Codex,
}

/// Any program: prompt on standard input, workspace as directory.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandAgent {
    /// Command line. `./agent.sh` is in the repository; an absolute path is on this machine
    /// and is mounted read-only; a bare name is looked up in the sandbox.
    pub argv: Vec<String>,
}

/// The Codex CLI.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodexAgent {
    /// Its binary on this machine, mounted read-only.
    pub binary: PathBuf,
    /// Model to ask for.
    #[serde(default)]
    pub model: String,
}

/// A model backend.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// For people.
    pub name: String,
    /// What it speaks.
    pub backend: Backend,
    /// `https://api.openai.com/v1`
    pub base_url: Url,
    /// Added by the gateway; no pod sees it.
    pub api_key_file: Option<PathBuf>,
}

/// Protocols of model backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// OpenAI's API.
    Openai,
}

/// Where big things are kept.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objects {
    /// A folder; absent: `data_dir/objects`.
    pub directory: Option<PathBuf>,
}

/// Where attempts run.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "ExecutorKeys")]
pub enum Executor {
    /// On this machine.
    Local(LocalExecutor),
    /// As pods of a cluster.
    Kubernetes(Box<KubernetesExecutor>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExecutorKeys {
    local: Option<LocalExecutor>,
    kubernetes: Option<KubernetesExecutor>,
}

impl TryFrom<ExecutorKeys> for Executor {
    type Error = &'static str;
    fn try_from(keys: ExecutorKeys) -> Result<Self, Self::Error> {
        match (keys.local, keys.kubernetes) {
            (local, None) => Ok(Self::Local(local.unwrap_or_default())),
            (None, Some(cluster)) => Ok(Self::Kubernetes(Box::new(cluster))),
            (Some(_), Some(_)) => {
                Err("executor: `local` and `kubernetes` are both there; a worker has one of them")
            }
        }
    }
}

impl Default for Executor {
    fn default() -> Self {
        Self::Local(LocalExecutor::default())
    }
}

impl Executor {
    /// What an attempt may use, wherever it runs.
    pub fn limits(&self) -> AttemptLimits {
        let limits = |memory_mib, processes, output_mib| AttemptLimits { memory_mib, processes, output_mib };
        match self {
            Self::Local(local) => limits(local.memory_mib, local.processes, local.output_mib),
            Self::Kubernetes(cluster) => limits(cluster.memory_mib, cluster.processes, cluster.output_mib),
        }
    }

    /// How large its pods are where nobody says anything: thousandths of a processor, mebibytes of
    /// memory and of files.
    fn pod(&self) -> [u32; 3] {
        let (cpu_millis, memory_mib, storage_mib) = match self {
            // It has no limit of its own for the others; a cluster's worker may be added.
            Self::Local(local) => (default_cpu_millis(), local.memory_mib, default_storage_mib()),
            Self::Kubernetes(cluster) => (cluster.cpu_millis, cluster.memory_mib, cluster.storage_mib),
        };
        // Without a limit everything is less.
        let mib = |mib: u64| u32::try_from(mib).ok().filter(|mib| *mib > 0).unwrap_or(u32::MAX);
        [cpu_millis, mib(memory_mib), mib(storage_mib)]
    }

    /// Attempts at the same time.
    pub fn capacity(&self) -> usize {
        match self {
            Self::Local(local) => local.capacity,
            Self::Kubernetes(cluster) => cluster.capacity,
        }
    }

    /// True when agents run with nothing but a process group around them.
    pub fn is_unsandboxed(&self) -> bool {
        match self {
            Self::Local(local) => local.sandbox == Sandbox::None,
            Self::Kubernetes(_) => false,
        }
    }
}

/// What an attempt may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptLimits {
    /// Mebibytes of memory.
    pub memory_mib: u64,
    /// Processes.
    pub processes: u32,
    /// Mebibytes of output before it is ended.
    pub output_mib: u64,
}

/// What a worker says of itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Worker {
    /// Those of the labels it was enrolled with that it has; absent: all.
    pub labels: Option<BTreeMap<String, String>>,
}

/// As pods of a cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesExecutor {
    /// Absent: `KUBECONFIG`, or the service account of the worker's pod.
    pub kubeconfig: Option<PathBuf>,
    /// Attempts at the same time.
    #[serde(default = "default_cluster_capacity")]
    pub capacity: usize,
    /// What pods run.
    pub image: String,
    /// When a node fetches it.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,
    /// Secrets in the runs' namespaces that a node fetches it with.
    #[serde(default)]
    pub image_pull_secrets: Vec<String>,
    /// The address behind the name in `agents_url`.
    pub gateway_ip: IpAddr,
    /// The authority of its certificate, PEM.
    pub gateway_ca_file: PathBuf,
    /// Its own pods, when it runs in the cluster itself.
    pub gateway_pods: Option<GatewayPods>,
    /// Thousandths of a processor a pod gets.
    #[serde(default = "default_cpu_millis")]
    pub cpu_millis: u32,
    /// Mebibytes of memory an attempt may use.
    #[serde(default = "default_memory_mib")]
    pub memory_mib: u64,
    /// Mebibytes of files a pod may have.
    #[serde(default = "default_storage_mib")]
    pub storage_mib: u64,
    /// Processes an attempt may have.
    #[serde(default = "default_processes")]
    pub processes: u32,
    /// Mebibytes of output before an attempt is ended.
    #[serde(default = "default_output_mib")]
    pub output_mib: u64,
    /// How long a pod may wait for a node, an image or its quota.
    #[serde(default = "default_pending_seconds")]
    pub pending_seconds: u32,
    /// Priority classes of the cluster, by the least priority of a run that gets them.
    #[serde(default)]
    pub priority_classes: BTreeMap<i32, String>,
}

/// When a node fetches an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ImagePullPolicy {
    /// When it does not have it.
    #[default]
    IfNotPresent,
    /// It has it already.
    Never,
    /// Whenever a pod starts.
    Always,
}

/// The agent gateway's own pods.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayPods {
    /// Their namespace.
    pub namespace: String,
    /// Their labels.
    pub labels: BTreeMap<String, String>,
    /// The port they listen on.
    pub port: u16,
}

fn default_cluster_capacity() -> usize {
    4
}
fn default_cpu_millis() -> u32 {
    1000
}
fn default_memory_mib() -> u64 {
    4096
}
fn default_storage_mib() -> u64 {
    8192
}
fn default_processes() -> u32 {
    512
}
fn default_output_mib() -> u64 {
    32
}
fn default_pending_seconds() -> u32 {
    600
}

/// On this machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalExecutor {
    /// How attempts are kept apart from the machine.
    pub sandbox: Sandbox,
    /// Attempts at the same time.
    pub capacity: usize,
    /// Mebibytes of memory an attempt may use.
    pub memory_mib: u64,
    /// Processes an attempt may have.
    pub processes: u32,
    /// Mebibytes of output before an attempt is ended.
    pub output_mib: u64,
}

impl Default for LocalExecutor {
    fn default() -> Self {
        Self {
            sandbox: Sandbox::Bubblewrap,
            capacity: 2,
            memory_mib: default_memory_mib(),
            processes: default_processes(),
            output_mib: default_output_mib(),
        }
    }
}

/// How attempts are kept apart from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sandbox {
    /// bubblewrap, everything unshared.
    Bubblewrap,
    /// Nothing. Said wherever it matters.
    None,
}
