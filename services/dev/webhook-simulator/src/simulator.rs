//! The running stand-in, and what a test says to it in the field's terms.

mod apps;
mod issues;
mod pulls;
mod refs;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use anyhow::Context;
use axum::serve::ListenerExt;
use domain::{names::RepositoryName, rights::Permission};
use telemetry::shutdown::Shutdown;
use tokio::sync::watch;

use crate::{
    Options, control,
    delivery::{self, Delivery},
    echo, exchange,
    gate::{self, Feature, LoggedRequest},
    pages,
    payload::Urls,
    rest, smart_http,
    world::{CheckRun, CommitStatus, Label, World},
};

/// Running requests get this long to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Events a hook made in a test gets.
const EVENTS: [&str; 6] =
    ["issue_comment", "issues", "pull_request", "pull_request_review", "push", "repository"];

/// A running stand-in. Clones are the same one. Methods that change something make the
/// deliveries GitHub would make; they do not check anybody's rights, the REST API does.
/// Call them inside the tokio runtime.
#[derive(Clone, Debug)]
pub struct Simulator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    urls: Urls,
    git_http_backend: PathBuf,
    data: PathBuf,
    world: Mutex<World>,
    /// Counts changes, so that a test can wait for one.
    version: watch::Sender<u64>,
    client: reqwest::Client,
    shutdown: Shutdown,
    record: exchange::Record,
    /// Do refusals repeat what was sent?
    repeats_credentials: AtomicBool,
}

impl Simulator {
    /// Starts listening.
    ///
    /// # Errors
    /// When the address is taken, the folder cannot be made, or git is missing.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let Options { listen, data, clock, ids } = options;
        std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        let data = data.canonicalize().with_context(|| format!("cannot open {}", data.display()))?;
        let listener = tokio::net::TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}; is it in use?"))?;
        let urls = Urls::new(listener.local_addr()?);
        let client = reqwest::Client::builder()
            .timeout(delivery::TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let shared = Shared {
            git_http_backend: smart_http::backend(&data).await?,
            world: Mutex::new(World::new(clock, ids, urls.clone())),
            version: watch::Sender::new(0),
            shutdown: Shutdown::new(),
            record: exchange::Record::default(),
            repeats_credentials: AtomicBool::new(false),
            urls,
            data,
            client,
        };
        let simulator = Self { shared: Arc::new(shared) };
        simulator.serve(listener);
        Ok(simulator)
    }

    fn serve(&self, listener: tokio::net::TcpListener) {
        let router = axum::Router::new()
            .nest("/api/v3", rest::routes())
            .nest("/_stand-in", control::routes())
            .merge(smart_http::routes())
            .merge(pages::routes())
            .fallback(gate::unknown)
            .method_not_allowed_fallback(gate::unknown)
            .layer(axum::middleware::from_fn_with_state(self.clone(), gate::pass))
            .layer(axum::middleware::from_fn_with_state(self.clone(), echo::repeat))
            .layer(axum::middleware::from_fn_with_state(self.clone(), exchange::keep))
            .with_state(self.clone());
        let token = self.shared.shutdown.token();
        let listener = listener.tap_io(|stream| {
            // Only costs latency when it fails.
            stream.set_nodelay(true).ok();
        });
        self.shared.shutdown.spawn(async move {
            let service = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
            let server = axum::serve(listener, service).with_graceful_shutdown(token.cancelled_owned());
            if let Err(error) = server.await {
                tracing::error!(%error, "the stand-in stopped listening");
            }
        });
    }

    /// Stops listening, cuts deliveries and clones under way, and waits a few seconds for
    /// the other requests.
    pub async fn shutdown(&self) {
        self.shared.shutdown.finish(PATIENCE).await;
    }

    /// Base address of the REST API, as for GitHub Enterprise Server.
    pub fn api_url(&self) -> String {
        self.shared.urls.api()
    }

    /// Where repositories are cloned from: `{git_url}/{owner}/{name}.git`.
    pub fn git_url(&self) -> String {
        self.shared.urls.web().to_owned()
    }

    /// Where the pages for people are.
    pub fn web_url(&self) -> String {
        self.git_url()
    }

    pub(crate) fn urls(&self) -> &Urls {
        &self.shared.urls
    }

    pub(crate) fn git_http_backend(&self) -> &std::path::Path {
        &self.shared.git_http_backend
    }

    pub(crate) fn repeats_credentials(&self) -> &AtomicBool {
        &self.shared.repeats_credentials
    }

    pub(crate) fn recorded(&self) -> &exchange::Record {
        &self.shared.record
    }

    /// Folder of the bare repositories.
    pub(crate) fn data(&self) -> &std::path::Path {
        &self.shared.data
    }

    /// A task that [`Self::shutdown`] ends.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let token = self.shared.shutdown.token();
        self.shared.shutdown.spawn_work(async move {
            tokio::select! {
                () = task => {}
                () = token.cancelled() => {}
            }
        });
    }

    /// Looks at the state.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&self.shared.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the state, then sends the deliveries this made and wakes who waits.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let (result, outgoing) = {
            let mut world = self.shared.world.lock().unwrap_or_else(PoisonError::into_inner);
            let result = change(&mut world);
            (result, std::mem::take(&mut world.outgoing))
        };
        for id in outgoing {
            self.spawn(delivery::send(self.clone(), self.shared.client.clone(), id));
        }
        self.shared.version.send_modify(|version| *version += 1);
        result
    }

    /// Waits until `probe` gives something, looking again after every change. Has no time
    /// limit of its own.
    pub async fn wait_until<T>(&self, mut probe: impl FnMut(&Self) -> Option<T>) -> T {
        let mut changes = self.shared.version.subscribe();
        loop {
            if let Some(found) = probe(self) {
                return found;
            }
            changes.changed().await.expect("the sender lives in self");
        }
    }

    /// Adds an account; one that is there stays as it is.
    pub fn add_user(&self, login: &str, is_bot: bool) {
        self.change(|world| world.add_user(login, is_bot));
    }

    /// A new personal access token of an account, good for all it may do.
    ///
    /// # Errors
    /// When there is no such account.
    pub fn add_token(&self, login: &str) -> anyhow::Result<String> {
        self.add_token_with(login, &["repo", "admin:repo_hook"])
    }

    /// A new personal access token with these scopes. Without `repo` it writes nothing and sees
    /// nothing private; hooks take `repo`, `admin:repo_hook` or, to look, `read:repo_hook`.
    ///
    /// # Errors
    /// When there is no such account.
    pub fn add_token_with(&self, login: &str, scopes: &[&str]) -> anyhow::Result<String> {
        self.change(|world| world.add_token(login, scopes))
            .with_context(|| format!("there is no user {login}"))
    }

    /// From now on requests that make content are limited to 80 a minute and 500 an hour, or not
    /// any more.
    pub fn enforce_content_limits(&self, enforced: bool) {
        self.change(|world| world.limits_content = enforced);
    }

    /// From now on deliveries fail as when nothing listens, or arrive again.
    pub fn unreachable(&self, unreachable: bool) {
        self.change(|world| world.unreachable = unreachable);
    }

    /// What an account may do with a repository. The owner may everything, always; a public
    /// repository can be read by everybody.
    ///
    /// # Errors
    /// When there is no such repository.
    pub fn set_permission(
        &self,
        repository: &str,
        login: &str,
        permission: Permission,
    ) -> anyhow::Result<()> {
        let key = key(repository)?;
        self.change(|world| {
            world.repository_mut(&key)?.permissions.insert(login.to_lowercase(), permission);
            Ok(())
        })
    }

    /// Adds a hook for issues, comments, pull requests, their reviews, pushes and the repository
    /// itself, and pings it. Gives its id.
    ///
    /// # Errors
    /// When there is no such repository, or it has this hook.
    pub fn add_hook(&self, repository: &str, url: &str, secret: &str) -> anyhow::Result<u64> {
        let key = key(repository)?;
        let owner = key.split('/').next().unwrap_or_default();
        let events = EVENTS.map(str::to_owned).to_vec();
        Ok(self.change(|w| w.add_hook(&key, url, Some(secret.to_owned().into()), events, true, owner))?)
    }

    /// The hooks of a repository, as the API shows them.
    pub fn hooks(&self, repository: &str) -> Vec<serde_json::Value> {
        let Ok(key) = key(repository) else { return Vec::new() };
        self.read(|world| {
            let Some(repository) = world.repositories.get(&key) else { return Vec::new() };
            repository.hooks.iter().map(|hook| crate::payload::hook(world, repository, hook)).collect()
        })
    }

    /// Statuses of a commit, newest first.
    pub fn statuses(&self, repository: &str, sha: &str) -> Vec<CommitStatus> {
        let Ok(key) = key(repository) else { return Vec::new() };
        self.read(|world| {
            let all = world.repositories.get(&key).map(|r| r.statuses.as_slice()).unwrap_or_default();
            all.iter().rev().filter(|s| s.sha == sha).cloned().collect()
        })
    }

    /// Check runs of a commit, oldest first; none when there is no such repository.
    pub fn check_runs(&self, repository: &str, sha: &str) -> Vec<CheckRun> {
        let Ok(key) = key(repository) else { return Vec::new() };
        self.read(|world| {
            let all = world.repositories.get(&key).map(|r| r.check_runs.as_slice()).unwrap_or_default();
            all.iter().filter(|r| r.head_sha == sha).cloned().collect()
        })
    }

    /// Labels a repository has, used or not; none when there is no such repository.
    pub fn label_definitions(&self, repository: &str) -> Vec<Label> {
        let Ok(key) = key(repository) else { return Vec::new() };
        self.read(|world| world.repositories.get(&key).map(|r| r.labels.clone()).unwrap_or_default())
    }

    /// Requests to the API, to git and to the pages, oldest first. The program's own control
    /// requests are not among them.
    pub fn request_log(&self) -> Vec<LoggedRequest> {
        self.read(|world| world.log.clone())
    }

    /// Requests by method and template, such as `POST /repos/{owner}/{repo}/pulls`.
    pub fn request_counts(&self) -> BTreeMap<String, usize> {
        self.read(|world| gate::counts(&world.log))
    }

    /// Deliveries of a hook, oldest first, also those under way.
    pub fn deliveries(&self, hook: u64) -> Vec<Delivery> {
        self.read(|world| world.deliveries.values().filter(|d| d.hook == hook).cloned().collect())
    }

    /// Sends a delivery again, with the same GUID and body. Gives the new delivery's id.
    ///
    /// # Errors
    /// When there is no such delivery, or its hook is gone.
    pub fn redeliver(&self, delivery: u64) -> anyhow::Result<u64> {
        Ok(self.change(|world| world.redeliver(delivery))?)
    }

    /// From now on the server does not offer this.
    pub fn switch_off(&self, feature: Feature) {
        self.change(|world| world.switched_off.insert(feature));
    }
}

/// How the state names a repository.
pub(crate) fn key(repository: &str) -> anyhow::Result<String> {
    Ok(repository.parse::<RepositoryName>()?.key())
}
