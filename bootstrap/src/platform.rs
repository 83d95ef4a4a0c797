//! The whole platform in one process: the same services as in a cluster, talking over Unix
//! sockets with the same identities.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use control_plane::{
    AgentKind, ControlPlane, HookSecrets, HookSeed, InternalListener, LocalWorker, ProjectSeed,
    RepositorySeed, Tls, Upstream,
};
use domain::{
    censor::Censor,
    clock::Clock,
    ids::{Ids, WorkerId},
};
use github::{Credential, GithubForge, GithubSettings};
use private_postgres::PrivatePostgres;
use secrecy::{SecretBox, SecretString};
use telemetry::{
    address::Address,
    admin::Readiness,
    identity::{Identity, Subject},
    shutdown::Shutdown,
};
use tokio::net::TcpListener;

use crate::{
    config::{
        AgentName, Config, ConfigError, Executor, GithubCredential, ImagePullPolicy, KubernetesExecutor,
        Listen, LocalExecutor, Sandbox, read_secret,
    },
    data_dir::DataDir,
};

/// How long services get to end; after that the process ends without them.
const PATIENCE: Duration = Duration::from_secs(15);
/// Where the agent's own files are inside the sandbox.
const AGENT_FOLDER: &str = "/opt/callboard/agent";
/// Said wherever it matters while there is no sandbox.
pub(crate) const NO_SANDBOX: &str =
    "`sandbox: none` is configured: agents run with the rights of an ordinary process on this machine.";

/// What comes from outside and not from the file.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids and randomness.
    pub ids: Ids,
    /// The `agent-runner` binary; absent: beside this program.
    pub runner: Option<PathBuf>,
}

/// A running platform.
#[derive(Debug)]
pub struct Platform {
    api: SocketAddr,
    admin: SocketAddr,
    data: DataDir,
    control_plane: ControlPlane,
    agents: Shutdown,
    edge: Shutdown,
    core: Shutdown,
    postgres: Option<PrivatePostgres>,
    _lock: std::fs::File,
}

/// One part, supervised: when it ends by itself the platform ends.
pub(crate) fn supervise<F>(group: &Shutdown, name: &'static str, service: F)
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let this = group.clone();
    group.spawn(async move {
        if let Err(error) = service.await {
            tracing::error!(service = name, error = format!("{error:#}"), "service failed");
            this.fail();
        }
    });
}

impl Platform {
    /// Starts everything and returns once webhooks are taken.
    ///
    /// # Errors
    /// With a sentence that says what is wrong in the configuration or on this machine.
    pub async fn start(config: &Config, options: Options) -> anyhow::Result<Self> {
        // Before anything counts: what is recorded without a recorder is lost.
        telemetry::admin::metrics();
        let data = DataDir::prepare(&config.data_dir)?;
        let lock = data.lock().await?;
        if config.executor.is_unsandboxed() {
            tracing::warn!("{NO_SANDBOX}");
        }
        let (postgres, database_url) = database(config, &data).await?;
        let worker_identity =
            Arc::new(local_worker_identity(&data.identities().join("worker-local.json"), &options.ids)?);
        let (agents_group, edge, core) = (Shutdown::new(), Shutdown::new(), Shutdown::new());

        let mut settings = control_plane_settings(config, &data, database_url, &options)?;
        let labels = config.worker.labels.clone().unwrap_or_default();
        settings.local_worker = Some(LocalWorker { identity: Arc::clone(&worker_identity), labels });
        // Before the control plane asks for what was missed to be sent again: it finds an open port.
        let listener = bind("listen.api", config.listen.api).await?;
        let api = listener.local_addr()?;
        let control_plane = ControlPlane::start(settings, &core).await?;

        let internal = Address::Unix(data.control_plane_socket());
        let identity = |name: &str| -> anyhow::Result<Arc<Identity>> {
            Ok(Arc::new(Identity::load(&data.identities().join(format!("{name}.json")))?))
        };

        let agent_gateway =
            agent_gateway_settings(config, internal.clone(), identity("agent-gateway")?, &options)?;
        let agents = agents_address(config, &data)?;
        let listen = agents_listener(config, &agents).await?;
        supervise(&edge, "agent-gateway", agent_gateway::run(agent_gateway, listen, edge.token()));

        let api_gateway = api_gateway::Settings {
            control_plane: internal.clone(),
            identity: identity("api-gateway")?,
            clock: Arc::clone(&options.clock),
            ids: options.ids.clone(),
        };
        let api_ready = api_gateway::readiness(&api_gateway);
        supervise(&edge, "api-gateway", api_gateway::run(api_gateway, listener, edge.token()));

        let local = worker_identity.subject();
        let worker = worker::Settings {
            control_plane: internal,
            identity: worker_identity,
            clock: Arc::clone(&options.clock),
            process: options.ids.next(),
            labels: config.worker.labels.clone().unwrap_or_default(),
            executor: executor(config, &data, &agents, &options)?,
        };
        supervise(&agents_group, "worker", worker::run(worker, agents_group.token()));

        let ready: Readiness = {
            let control_plane = control_plane.clone();
            Arc::new(move || {
                let (control_plane, api_ready) = (control_plane.clone(), Arc::clone(&api_ready));
                Box::pin(async move {
                    let mut missing = control_plane.readiness().await;
                    missing.extend(api_ready().await);
                    if let Subject::Worker(id) = local
                        && !control_plane.has_seen(id).await
                    {
                        missing.push("worker: has not asked for work yet".to_owned());
                    }
                    missing
                })
            })
        };
        let admin = spawn_admin(config.listen.admin, ready, &edge).await?;
        tracing::info!(%api, %admin, data_dir = %config.data_dir.display(), "platform is up");
        Ok(Self { api, admin, data, control_plane, agents: agents_group, edge, core, postgres, _lock: lock })
    }

    /// Where webhooks are taken.
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// Where health, readiness and metrics are.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The CLI's socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.data.admin_socket()
    }

    /// The control plane, for tests that ask what is left to do.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// Returns when a part has ended by itself.
    pub async fn broken(&self) {
        tokio::select! {
            () = self.agents.failure() => {}
            () = self.edge.failure() => {}
            () = self.core.failure() => {}
        }
    }

    /// Ends everything, agents first, Postgres last. True when all parts ended in time.
    pub async fn stop(self) -> bool {
        // Their last checkpoints go through the gateway.
        let agents = self.agents.finish(PATIENCE).await;
        let edge = self.edge.finish(PATIENCE).await;
        let core = self.core.finish(PATIENCE).await;
        if let Some(postgres) = self.postgres {
            match tokio::task::spawn_blocking(|| postgres.stop()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(error = %telemetry::logging::chain(&error), "Postgres did not stop");
                }
                Err(error) => tracing::warn!(%error, "Postgres did not stop"),
            }
        }
        agents && edge && core
    }
}

/// The configured database, or the private one.
pub(crate) async fn database(
    config: &Config,
    data: &DataDir,
) -> anyhow::Result<(Option<PrivatePostgres>, String)> {
    if let Some(url) = &config.database_url {
        return Ok((None, url.clone()));
    }
    let settings = private_postgres::Settings { directory: data.postgres(), durable: true };
    let postgres = tokio::task::spawn_blocking(move || private_postgres::start(&settings)).await??;
    let url = postgres.url("callboard");
    Ok((Some(postgres), url))
}

fn local_worker_identity(path: &Path, ids: &Ids) -> anyhow::Result<Identity> {
    if path.exists() {
        return Ok(Identity::load(path)?);
    }
    let identity = Identity::generate(Subject::Worker(ids.next::<WorkerId>()));
    identity.save(path)?;
    Ok(identity)
}

/// What the control plane is told.
pub(crate) fn control_plane_settings(
    config: &Config,
    data: &DataDir,
    database_url: String,
    options: &Options,
) -> anyhow::Result<control_plane::Settings> {
    let (credential, secret, app_hook) = credential(&config.github.credential)?;
    let censor = Censor::default();
    let minted = censor.clone();
    let forge = GithubForge::new(GithubSettings {
        api_url: config.github.api_url.clone(),
        credential,
        clock: Arc::clone(&options.clock),
        list_lag: Duration::from_secs(u64::from(config.github.list_lag_seconds)),
    })?
    .telling(move |token| minted.learn(token));
    let address = match &config.listen.internal {
        Some(text) => text.parse().context("listen.internal")?,
        None => Address::Unix(data.control_plane_socket()),
    };
    let objects = config.objects.directory.clone().unwrap_or_else(|| data.objects());
    anyhow::ensure!(objects.is_dir(), "objects.directory: {} is not a folder", objects.display());
    let mut notes = Vec::new();
    if config.executor.is_unsandboxed() {
        notes.push(NO_SANDBOX.to_owned());
    }
    Ok(control_plane::Settings {
        database_url,
        objects,
        key: data.key(config.key_file.as_deref())?,
        internal: InternalListener { tls: internal_tls(config, &address)?, address },
        admin_socket: data.admin_socket(),
        identities: data.identities(),
        local_worker: None,
        forge: Arc::new(forge),
        upstream: Upstream { git_url: config.github.git_url.clone(), web_url: config.github.web_url.clone() },
        app_hook,
        public_url: config.public_url.as_ref().map_or_else(
            || format!("http://{}", config.listen.api),
            |url| url.as_str().trim_end_matches('/').to_owned(),
        ),
        projects: projects(config)?,
        agents: agents(config),
        other_secrets: model_keys(config)?.into_iter().chain([secret]).collect(),
        censor,
        notes,
        retention: config.retention.clone(),
        limits: config.limits,
        clock: Arc::clone(&options.clock),
        ids: options.ids.clone(),
    })
}

/// What proves to others who we are, where we listen beyond sockets.
fn tls(config: &Config) -> anyhow::Result<Option<Tls>> {
    let Listen { tls_certificate_file, tls_key_file, .. } = &config.listen;
    match (tls_certificate_file, tls_key_file) {
        (Some(certificate), Some(key)) => Ok(Some(Tls {
            certificate: std::fs::read(certificate)
                .with_context(|| format!("listen.tls_certificate_file: {}", certificate.display()))?,
            key: SecretBox::new(Box::new(
                std::fs::read(key).with_context(|| format!("listen.tls_key_file: {}", key.display()))?,
            )),
        })),
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => {
            anyhow::bail!("listen: tls_certificate_file and tls_key_file belong together")
        }
    }
}

/// The certificate of `listen.internal`. A socket of this machine has none: the files are there for
/// the agent gateway then.
fn internal_tls(config: &Config, address: &Address) -> anyhow::Result<Option<Tls>> {
    match address {
        Address::Unix(_) => Ok(None),
        Address::Tcp(_) | Address::Tls(_) => tls(config),
    }
}

/// Who we are, the secret that proves it, and what proves an App's deliveries.
fn credential(
    configured: &GithubCredential,
) -> anyhow::Result<(Credential, SecretString, Option<HookSecrets>)> {
    Ok(match configured {
        GithubCredential::Token(file) => {
            let token = read_secret("github.token_file", file)?;
            (Credential::PersonalAccessToken(token.clone()), token, None)
        }
        GithubCredential::App(app) => {
            let key = read_secret("github.app.private_key_file", &app.private_key_file)?;
            let secrets =
                hook_secrets(&app.webhook_secret_file, app.previous_webhook_secret_file.as_deref())?;
            (Credential::App { id: app.id.clone(), private_key: key.clone() }, key, Some(secrets))
        }
    })
}

fn hook_secrets(current: &Path, previous: Option<&Path>) -> Result<HookSecrets, ConfigError> {
    Ok(HookSecrets {
        current: read_secret("webhook_secret_file", current)?,
        previous: previous.map(|file| read_secret("previous_webhook_secret_file", file)).transpose()?,
    })
}

fn projects(config: &Config) -> anyhow::Result<Vec<ProjectSeed>> {
    config
        .projects
        .iter()
        .map(|project| {
            let repositories = project.repositories.iter().map(|repository| {
                let hook = |current: &PathBuf| {
                    let source = &repository.source;
                    anyhow::Ok(HookSeed {
                        source: source.clone().unwrap_or_else(|| repository.name.name().to_owned()),
                        secrets: hook_secrets(current, repository.previous_webhook_secret_file.as_deref())?,
                    })
                };
                Ok(RepositorySeed {
                    name: repository.name.clone(),
                    hook: repository.webhook_secret_file.as_ref().map(hook).transpose()?,
                    default_branch: repository.default_branch.clone(),
                })
            });
            Ok(ProjectSeed {
                name: project.name.clone(),
                repositories: repositories.collect::<anyhow::Result<_>>()?,
                members: project.members.iter().map(|(login, role)| (login.clone(), *role)).collect(),
                ceilings: project.ceilings_with(&config.executor),
                pods: project.pods.clone(),
                bots: project.bots.clone(),
            })
        })
        .collect()
}

fn model_keys(config: &Config) -> anyhow::Result<Vec<SecretString>> {
    let files = config.models.iter().filter_map(|m| m.api_key_file.as_deref());
    Ok(files.map(|f| read_secret("models[].api_key_file", f)).collect::<Result<_, _>>()?)
}

/// The agent's program inside the sandbox: what is on this machine is mounted, what is in
/// the repository or in `/usr` is not.
fn inside(host: &Path) -> PathBuf {
    Path::new(AGENT_FOLDER).join(host.file_name().unwrap_or(host.as_os_str()))
}

fn agents(config: &Config) -> control_plane::Agents {
    let limits = config.executor.limits();
    let (kind, argv, model) = match config.agents.default {
        AgentName::Command => {
            let mut argv = config.agents.command.as_ref().map(|c| c.argv.clone()).unwrap_or_default();
            if let Some(program) = argv.first_mut().filter(|p| is_on_host(p)) {
                *program = inside(Path::new(program.as_str())).display().to_string();
            }
            (AgentKind::Command, argv, String::new())
        }
        AgentName::Codex => {
            let codex = config.agents.codex.as_ref();
            let program = codex.map(|c| inside(&c.binary).display().to_string());
            (
                AgentKind::Codex,
                program.into_iter().collect(),
                codex.map(|c| c.model.clone()).unwrap_or_default(),
            )
        }
    };
    let mib = |n: u64| n.saturating_mul(1024 * 1024);
    let seconds =
        config.agents.time_limit_seconds.or(config.agents.time_limit_minutes.map(|m| m.saturating_mul(60)));
    control_plane::Agents {
        kind,
        argv,
        model,
        memory_bytes: mib(limits.memory_mib),
        processes: limits.processes,
        output_bytes: mib(limits.output_mib),
        file_bytes: mib(1024),
        checkpoint_seconds: config.agents.checkpoint_seconds,
        time_limit: seconds.map(|s| Duration::from_secs(u64::from(s))),
    }
}

/// An absolute path outside `/usr`: `/usr` is in the sandbox anyway.
fn is_on_host(program: &str) -> bool {
    program.starts_with('/') && !["/usr/", "/bin/", "/sbin/"].iter().any(|p| program.starts_with(p))
}

pub(crate) fn agent_gateway_settings(
    config: &Config,
    control_plane: Address,
    identity: Arc<Identity>,
    options: &Options,
) -> anyhow::Result<agent_gateway::Settings> {
    let models = config.models.iter().map(|model| {
        let api_key =
            model.api_key_file.as_deref().map(|f| read_secret("models[].api_key_file", f)).transpose()?;
        Ok(agent_gateway::ModelBackend {
            name: model.name.clone(),
            base_url: model.base_url.clone(),
            api_key,
        })
    });
    Ok(agent_gateway::Settings {
        control_plane,
        identity,
        clock: Arc::clone(&options.clock),
        models: models.collect::<anyhow::Result<_>>()?,
    })
}

pub(crate) fn agents_address(config: &Config, data: &DataDir) -> anyhow::Result<Address> {
    match &config.listen.agents {
        Some(text) => text.parse().context("listen.agents"),
        None => Ok(Address::Unix(data.agents_socket())),
    }
}

pub(crate) async fn agents_listener(
    config: &Config,
    address: &Address,
) -> anyhow::Result<agent_gateway::Listen> {
    Ok(match address {
        Address::Unix(path) => {
            // As root the sandbox has a user and a group of its own, and this is the one
            // socket that group may open.
            let group = rustix::process::geteuid().is_root().then_some(worker::SANDBOX_GID);
            agent_gateway::Listen::Unix { path: path.clone(), group }
        }
        Address::Tcp(address) => {
            let tls = tls(config)?;
            anyhow::ensure!(
                tls.is_some() || address.ip().is_loopback(),
                "listen.agents: {address} is beyond loopback, and run tokens must not travel in the clear; write listen.tls_certificate_file and listen.tls_key_file, or leave listen.agents out for a socket of this machine"
            );
            let listener = bind("listen.agents", *address).await?;
            match tls {
                Some(Tls { certificate, key }) => agent_gateway::Listen::Tls { listener, certificate, key },
                None => agent_gateway::Listen::Tcp(listener),
            }
        }
        Address::Tls(url) => {
            anyhow::bail!("listen.agents: `{url}` is an address to connect to, not one to listen on")
        }
    })
}

/// Where attempts run, and how; `agents` is where the agent gateway listens.
pub(crate) fn executor(
    config: &Config,
    data: &DataDir,
    agents: &Address,
    options: &Options,
) -> anyhow::Result<worker::ExecutorSettings> {
    match &config.executor {
        Executor::Local(local) => {
            let Address::Unix(socket) = agents else {
                anyhow::bail!(
                    "listen.agents: the local executor needs the agent gateway on a Unix socket of this machine; leave the key out or write unix:/path"
                );
            };
            let settings = local_executor(config, local, data, socket.clone(), options)?;
            Ok(worker::ExecutorSettings::Local(settings))
        }
        Executor::Kubernetes(cluster) => {
            Ok(worker::ExecutorSettings::Kubernetes(kubernetes_executor(config, cluster)?))
        }
    }
}

/// How attempts run in a cluster.
pub(crate) fn kubernetes_executor(
    config: &Config,
    cluster: &KubernetesExecutor,
) -> anyhow::Result<worker::KubernetesSettings> {
    let mib = |n: u64| n.saturating_mul(1024 * 1024);
    let url = config.agents_url.clone().context(
        "agents_url is missing; write how pods reach the agent gateway, such as https://callboard-agents:8081",
    )?;
    let ca = &cluster.gateway_ca_file;
    Ok(worker::KubernetesSettings {
        kubeconfig: cluster.kubeconfig.clone(),
        capacity: cluster.capacity,
        image: cluster.image.clone(),
        image_pull_policy: match cluster.image_pull_policy {
            ImagePullPolicy::IfNotPresent => worker::ImagePullPolicy::IfNotPresent,
            ImagePullPolicy::Never => worker::ImagePullPolicy::Never,
            ImagePullPolicy::Always => worker::ImagePullPolicy::Always,
        },
        image_pull_secrets: cluster.image_pull_secrets.clone(),
        gateway: worker::Gateway {
            url,
            ip: cluster.gateway_ip,
            ca: std::fs::read_to_string(ca)
                .with_context(|| format!("executor.kubernetes.gateway_ca_file: {}", ca.display()))?,
            pods: cluster.gateway_pods.as_ref().map(|pods| worker::GatewayPods {
                namespace: pods.namespace.clone(),
                labels: pods.labels.clone(),
                port: pods.port,
            }),
        },
        cpu_millis: cluster.cpu_millis,
        storage_bytes: mib(cluster.storage_mib),
        patience: Duration::from_secs(u64::from(cluster.pending_seconds)),
        priority_classes: cluster.priority_classes.clone(),
    })
}

/// How attempts run on this machine.
pub(crate) fn local_executor(
    config: &Config,
    local: &LocalExecutor,
    data: &DataDir,
    gateway_socket: PathBuf,
    options: &Options,
) -> anyhow::Result<worker::LocalSettings> {
    let program = match config.agents.default {
        AgentName::Command => config
            .agents
            .command
            .as_ref()
            .and_then(|c| c.argv.first())
            .filter(|p| is_on_host(p))
            .map(PathBuf::from),
        AgentName::Codex => config.agents.codex.as_ref().map(|c| c.binary.clone()),
    };
    if let Some(program) = &program {
        anyhow::ensure!(program.exists(), "agents: {} does not exist", program.display());
    }
    let runner = match &options.runner {
        Some(runner) => runner.clone(),
        None => std::env::current_exe()?.with_file_name("agent-runner"),
    };
    Ok(worker::LocalSettings {
        sandbox: match local.sandbox {
            Sandbox::Bubblewrap => worker::Sandbox::Bubblewrap,
            Sandbox::None => worker::Sandbox::None,
        },
        capacity: local.capacity,
        state_dir: data.root().to_path_buf(),
        runner,
        gateway_socket,
        mounts: program.into_iter().map(|host| worker::Mount { inside: inside(&host), host }).collect(),
    })
}

pub(crate) async fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{key}: cannot listen on {address}; is something else running there?"))
}

/// Starts the admin listener: health, readiness, metrics.
pub(crate) async fn spawn_admin(
    address: SocketAddr,
    ready: Readiness,
    group: &Shutdown,
) -> anyhow::Result<SocketAddr> {
    let listener = bind("listen.admin", address).await?;
    let address = listener.local_addr()?;
    let ended = group.token();
    let served = axum::serve(listener, telemetry::admin::router(ready))
        .with_graceful_shutdown(ended.cancelled_owned());
    supervise(group, "admin", async move { Ok(served.await?) });
    Ok(address)
}
