//! `callboard.yaml`: one file, unknown keys are errors, secrets are files.

mod github;
mod load;

use std::{net::SocketAddr, path::PathBuf};

use domain::{
    decision::Limits,
    names::{ProjectName, RepositoryName},
    retention::Retention,
    rights::ProjectRole,
    stage::Ceilings,
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
    /// The agent gateway; `unix:…` or loopback.
    pub agents: Option<String>,
    /// Internal calls of the control plane; `unix:…`, loopback, or any address with TLS.
    pub internal: Option<String>,
    /// Certificate for `internal`, PEM.
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
    /// Logins of bots that may ask like people.
    #[serde(default)]
    pub bots: Vec<String>,
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
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Executor {
    /// On this machine.
    #[serde(default)]
    pub local: LocalExecutor,
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
        Self { sandbox: Sandbox::Bubblewrap, capacity: 2, memory_mib: 4096, processes: 512, output_mib: 32 }
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
