//! What the control plane has to be told.

use std::{path::PathBuf, sync::Arc};

use domain::{
    censor::Censor,
    clock::Clock,
    decision::Limits,
    ids::Ids,
    names::{ProjectName, RepositoryName},
    retention::Retention,
    rights::ProjectRole,
    stage::{Ceilings, Pod},
    workers::Labels,
};
use forge::Forge;
use secrecy::{SecretBox, SecretString};
use telemetry::{address::Address, identity::Identity};
use url::Url;

/// Everything the control plane is told at start.
#[derive(Debug)]
pub struct Settings {
    /// `postgres://…`
    pub database_url: String,
    /// Folder of the object store.
    pub objects: PathBuf,
    /// Key-encryption key, 32 bytes.
    pub key: SecretBox<Vec<u8>>,
    /// Where the other services reach it.
    pub internal: InternalListener,
    /// The CLI's socket.
    pub admin_socket: PathBuf,
    /// Folder with the identities of the gateways; made when absent.
    pub identities: PathBuf,
    /// Enrolled at start under the name `local`, for every project of the configuration.
    pub local_worker: Option<LocalWorker>,
    /// The code host.
    pub forge: Arc<dyn Forge>,
    /// Where its git and its pages live.
    pub upstream: Upstream,
    /// Proves the deliveries of the App that the platform is; `None`: it is none.
    pub app_hook: Option<HookSecrets>,
    /// Where people and the code host reach the platform, without a slash at the end.
    pub public_url: String,
    /// Projects of the configuration file.
    pub projects: Vec<ProjectSeed>,
    /// What an attempt runs.
    pub agents: Agents,
    /// Other secrets (the credential at the code host, model keys) that must not be stored or
    /// posted either.
    pub other_secrets: Vec<SecretString>,
    /// Knows the tokens that `forge` mints; the other secrets are added to it.
    pub censor: Censor,
    /// Repeated by `check` and in comments: "sandbox: none is configured …".
    pub notes: Vec<String>,
    /// How long what is kept.
    pub retention: Retention,
    /// How much may be started.
    pub limits: Limits,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids and randomness.
    pub ids: Ids,
}

impl Settings {
    pub(crate) fn secrets(&self) -> Vec<SecretString> {
        let repositories = self.projects.iter().flat_map(|project| &project.repositories);
        let hooks = repositories.filter_map(|repository| Some(&repository.hook.as_ref()?.secrets));
        let hooks = hooks
            .chain(&self.app_hook)
            .flat_map(|secrets| std::iter::once(secrets.current.clone()).chain(secrets.previous.clone()));
        hooks.chain(self.other_secrets.iter().cloned()).collect()
    }
}

/// The worker of `callboard up`.
#[derive(Clone, Debug)]
pub struct LocalWorker {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// What runs may ask of it.
    pub labels: Labels,
}

/// Where internal calls come in.
#[derive(Debug)]
pub struct InternalListener {
    /// A Unix socket, loopback, or with TLS any TCP address.
    pub address: Address,
    /// Required beyond loopback.
    pub tls: Option<Tls>,
}

/// A server certificate.
#[derive(Debug)]
pub struct Tls {
    /// PEM, leaf first.
    pub certificate: Vec<u8>,
    /// PEM.
    pub key: SecretBox<Vec<u8>>,
}

/// Where the code host's git and pages are.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Clone source, `https://github.com`.
    pub git_url: Url,
    /// What people open in a browser, `https://github.com`.
    pub web_url: Url,
}

/// What proves the deliveries of a webhook.
#[derive(Clone, Debug)]
pub struct HookSecrets {
    /// The one in use.
    pub current: SecretString,
    /// Still accepted while rotating.
    pub previous: Option<SecretString>,
}

/// What an attempt runs.
#[derive(Clone, Debug)]
pub struct Agents {
    /// Which adapter.
    pub kind: AgentKind,
    /// Command line inside the sandbox; for codex the path of its binary.
    pub argv: Vec<String>,
    /// Model name, empty when the agent needs none.
    pub model: String,
    /// Bytes of memory an attempt may use.
    pub memory_bytes: u64,
    /// Processes an attempt may have.
    pub processes: u32,
    /// Bytes of transcript before an attempt is ended.
    pub output_bytes: u64,
    /// Bytes of one file the agent may write.
    pub file_bytes: u64,
    /// Seconds between checkpoints of an attempt; 0: none are taken.
    pub checkpoint_seconds: u32,
    /// Shorter than the stage's limit, where the operator wants that.
    pub time_limit: Option<std::time::Duration>,
}

/// Adapters the runner has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentKind {
    /// Any program: prompt on standard input, workspace as directory.
    Command,
    /// The Codex CLI.
    Codex,
}

/// A project of the configuration file.
#[derive(Debug)]
pub struct ProjectSeed {
    /// Unique name.
    pub name: ProjectName,
    /// Its repositories.
    pub repositories: Vec<RepositorySeed>,
    /// Logins and roles.
    pub members: Vec<(String, ProjectRole)>,
    /// What its own files can only narrow.
    pub ceilings: Ceilings,
    /// What its stages ask of a cluster that do not say it themselves.
    pub pods: Pod,
    /// Bots that may ask like people.
    pub bots: Vec<String>,
}

/// A repository of the configuration file.
#[derive(Debug)]
pub struct RepositorySeed {
    /// `owner/name`
    pub name: RepositoryName,
    /// Its own webhook; `None`: its deliveries come by the App's.
    pub hook: Option<HookSeed>,
    /// Where work starts; asked of the code host when absent.
    pub default_branch: Option<String>,
}

/// A repository's own webhook.
#[derive(Debug)]
pub struct HookSeed {
    /// Last part of its address.
    pub source: String,
    /// Prove its deliveries.
    pub secrets: HookSecrets,
}
