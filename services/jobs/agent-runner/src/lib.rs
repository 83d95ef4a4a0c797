//! What happens inside a sandbox: clone, run the agent, tell what it does, return what it
//! changed. Knows nothing but the agent gateway; everything it returns is a claim.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use domain::clock::Clock;
use proto::v1::{Assignment, return_outcome::Status};
use secrecy::SecretString;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

mod agent;
mod changeset;
mod checkpoint;
mod codex;
mod command;
mod connect;
mod forward;
mod gateway;
mod git;
mod limits;
mod lines;
mod memory;
mod processes;
mod restore;
mod returned;
mod session;
mod steering;
mod transcript;

pub use connect::GatewayAddress;

use agent::{Session, Surroundings};
use connect::Connector;
use gateway::Gateway;
use returned::Returned;
use steering::Steering;
use transcript::Transcript;

/// How the runner was started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the agent gateway is.
    pub gateway: GatewayAddress,
    /// The file with the run token.
    pub token_file: PathBuf,
    /// A folder that is ours alone; `repo`, `home` and `tmp` are made in it.
    pub workspace: PathBuf,
    /// Where the agent's files are when nothing is mounted (`sandbox: none`).
    pub relocations: Vec<Relocation>,
    /// False when the user has processes beside the attempt's, which a limit would count.
    pub limit_processes: bool,
}

/// A file or folder that is on the host where it is, not where it would be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Path it would have in a sandbox.
    pub inside: PathBuf,
    /// Path it has.
    pub host: PathBuf,
}

/// Why there is no result when we were told to end.
const TOLD_TO_END: &str = "told to end before there was a result";

/// Does the whole of one attempt. Returns what the platform answered to the result.
///
/// # Errors
/// When no result could be returned, or we were told to end before there was one. A failure of
/// clone or agent is a result.
pub async fn run(options: &Options, clock: Arc<dyn Clock>) -> anyhow::Result<String> {
    processes::die_with_parent().context("cannot be tied to its parent")?;
    processes::adopt_orphans().context("cannot look after orphaned processes")?;
    let token = std::fs::read_to_string(&options.token_file)
        .with_context(|| format!("the run token in {} cannot be read", options.token_file.display()))?;
    let token = SecretString::from(token.trim().to_owned());
    let told_to_end = told_to_end().context("cannot listen to signals")?;
    let connector = Connector::new(&options.gateway)?;
    let gateway = Gateway::connect(&connector, &token)?;
    let greeted = async {
        connector.prove().await?;
        gateway.hello().await.context("the agent gateway did not say what to do")
    };
    let assignment = tokio::select! {
        assignment = greeted => assignment?,
        () = told_to_end.cancelled() => bail!(TOLD_TO_END),
    };
    let since = Instant::now();

    let stop = CancellationToken::new();
    let (transcript, sending) = Transcript::start(gateway.clone(), clock, stop.clone());
    let work = Work {
        options,
        assignment: &assignment,
        connector,
        gateway: &gateway,
        transcript: &transcript,
        since,
    };
    let returned = match work.run(token, &stop, &told_to_end).await {
        Ok(returned) => returned,
        Err(error) => {
            let message = format!("{error:#}");
            transcript.runner(&message).await;
            Some(Returned::failed(Status::RunnerFailed, message))
        }
    };
    // What was said comes before what was done; nothing is listened to after that.
    drop(transcript);
    sending.await.context("the transcript")?;
    let returned = returned.context(TOLD_TO_END)?;
    gateway.give_back(&returned, &assignment.base_sha).await.context("the result could not be returned")
}

/// Cancelled at the first SIGTERM. Listened to from the start: to the first process of a
/// container a signal nobody listens to does nothing.
fn told_to_end() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let told = CancellationToken::new();
    let tell = told.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        tell.cancel();
    });
    Ok(told)
}

/// What one attempt has to do, and whom to tell.
struct Work<'a> {
    options: &'a Options,
    assignment: &'a Assignment,
    connector: Connector,
    gateway: &'a Gateway,
    transcript: &'a Transcript,
    /// When its time began.
    since: Instant,
}

/// Everything an agent finds when it starts.
struct Prepared {
    git: git::Git,
    base: changeset::Base,
    surroundings: Surroundings,
    adapter: Box<dyn agent::Adapter>,
    keeper: checkpoint::Keeper,
}

impl Work<'_> {
    /// Clone, agent, changeset. `None` when we were told to end.
    async fn run(
        &self,
        token: SecretString,
        stop: &CancellationToken,
        told_to_end: &CancellationToken,
    ) -> anyhow::Result<Option<Returned>> {
        let Prepared { git, base, surroundings, mut adapter, mut keeper } = tokio::select! {
            prepared = self.prepare(token) => prepared?,
            () = told_to_end.cancelled() => return Ok(None),
        };
        let listened = agent::Ending { stop, told_to_end };
        let ended =
            agent::run(self.assignment, &mut *adapter, &surroundings, self.transcript, &mut keeper, listened)
                .await?;
        drop(keeper);
        let Some(mut returned) = ended else { return Ok(None) };
        if returned.status == Status::Done {
            self.add_changes(&mut returned, &git, &base, &surroundings.repo).await?;
        }
        Ok(Some(returned))
    }

    /// Everything that comes before the agent.
    async fn prepare(&self, token: SecretString) -> anyhow::Result<Prepared> {
        let Self { options, assignment, ref connector, gateway, transcript, since } = *self;
        let folder = |name: &str| {
            let folder = options.workspace.join(name);
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("{} cannot be made", folder.display()))?;
            anyhow::Ok(folder)
        };
        let (repo, home) = (folder("repo")?, folder("home")?);
        // In a sandbox /tmp is private already.
        let tmp = std::env::var_os("TMPDIR").map_or_else(|| options.workspace.join("tmp"), PathBuf::from);
        std::fs::create_dir_all(&tmp).with_context(|| format!("{} cannot be made", tmp.display()))?;
        let port =
            forward::listen(connector.clone()).await.context("no loopback port for git and the agent")?;

        limits::before_cloning(assignment, options.limit_processes)?;
        let git = git::Git::new(&options.workspace, &home);
        let mut base = git.clone_pinned(assignment, &repo, port, &token).await?;
        transcript
            .runner(&format!(
                "Cloned {} at {} ({} files).",
                assignment.repository,
                &assignment.base_sha[..7],
                base.len()
            ))
            .await;
        let steering = Steering::of(&git, assignment, &repo, &mut base).await?;
        steering.put_back(&repo)?;
        if steering.files() > 0 {
            let files = steering.files();
            transcript
                .runner(&format!(
                    "Steering files that differ were put to the default branch's version: {files}."
                ))
                .await;
        }
        limits::before_the_agent(assignment)?;

        let mut surroundings = Surroundings {
            workspace: options.workspace.clone(),
            repo: repo.clone(),
            home,
            tmp,
            gateway: format!("http://127.0.0.1:{port}"),
            token,
            relocations: options.relocations.clone(),
            restored: false,
            session: Session::None,
        };
        let adapter = agent::adapter(assignment)?;
        let sessions = adapter.sessions(&surroundings);
        let session_only = assignment.restore.as_ref().is_some_and(|point| point.session_only);
        let restored =
            restore::restore(gateway, assignment, &git, &repo, &steering, sessions.as_deref()).await?;
        surroundings.restored = restored.is_some();
        if assignment.restore.is_some() && !session_only {
            let said = match &restored {
                Some((_, files)) => format!("Going on from a checkpoint: {files} files restored."),
                None => "The checkpoint could not be restored; starting afresh.".to_owned(),
            };
            transcript.runner(&said).await;
        }
        if session_only || !assignment.earlier_base_sha.is_empty() {
            surroundings.session = self.earlier(sessions.as_deref(), session_only).await?;
        }
        let source = checkpoint::Source { git: git.clone(), base: base.clone(), repo, sessions };
        let kept = restored.map(|(fingerprint, _)| fingerprint);
        let keeper =
            checkpoint::Keeper::new(assignment, source, kept, since, gateway.clone(), transcript.clone());
        Ok(Prepared { git, base, surroundings, adapter, keeper })
    }

    /// What an earlier attempt or run left beside the files of the base.
    async fn earlier(
        &self,
        sessions: Option<&std::path::Path>,
        session_only: bool,
    ) -> anyhow::Result<Session> {
        let Self { options, assignment, gateway, transcript, .. } = *self;
        let folder = options.workspace.join("earlier");
        let found = restore::earlier_work(gateway, assignment, &folder, sessions).await;
        if !assignment.earlier_base_sha.is_empty() {
            let said = match &found {
                Ok(1) => "1 file of an earlier attempt is in ../earlier.".to_owned(),
                Ok(files) => format!("{files} files of an earlier attempt are in ../earlier."),
                Err(error) => format!("What an earlier attempt changed is not at hand: {error:#}."),
            };
            transcript.runner(&said).await;
        }
        if !session_only {
            return Ok(Session::None);
        }
        let Err(error) = found else {
            transcript.runner("The agent's session of the earlier run is restored.").await;
            return Ok(Session::Restored);
        };
        gateway.afresh(&format!("{error:#}")).await.context("the platform could not be told")?;
        transcript
            .runner(&format!("The agent's session of the earlier run is not at hand: {error:#}."))
            .await;
        Ok(Session::Lost)
    }

    async fn add_changes(
        &self,
        returned: &mut Returned,
        git: &git::Git,
        base: &changeset::Base,
        repo: &std::path::Path,
    ) -> anyhow::Result<()> {
        let most = self.assignment.max_changeset_bytes;
        match changeset::compute(git, base, repo, most, changeset::Specials::Remove).await {
            Ok(changeset) => {
                for note in &changeset.notes {
                    self.transcript.runner(note).await;
                }
                self.transcript
                    .runner(&format!(
                        "{} files changed, {} bytes.",
                        changeset.changes.len(),
                        changeset.bytes()
                    ))
                    .await;
                returned.changes = changeset.changes;
            }
            Err(changeset::Failure::Agent(message)) => {
                self.transcript.runner(&message).await;
                returned.status = Status::AgentFailed;
                returned.message = message;
            }
            Err(changeset::Failure::Runner(error)) => {
                return Err(error.context("the changes cannot be determined"));
            }
        }
        Ok(())
    }
}
