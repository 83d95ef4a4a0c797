//! Attempts as processes of this machine.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use domain::ids::AttemptId;
use proto::v1::Limits;
use secrecy::SecretString;
use telemetry::steps::{self, Step};

use crate::{LocalSettings, Sandbox};

pub(crate) mod attempt;
mod bubblewrap;
mod cgroup;
pub(crate) mod check;
mod disk;
mod etc;
mod leftovers;
mod process;
mod rlimits;
mod spawner;
mod staging;
mod users;
mod workspace;

use bubblewrap::Bubblewrap;
use process::{Exit, Process};
use spawner::Spawner;
use staging::Staged;
use users::Claim;
use workspace::Workspace;

/// When the platform is root, every slot runs as a host user of its own: the first uid from
/// here that no other platform of the machine has. The numbers lie outside what Debian and
/// systemd hand out.
pub const SANDBOX_FIRST_UID: u32 = 64200;
/// The host group of every sandbox when the platform is root. Give it the agent gateway's
/// socket, and nothing else.
pub const SANDBOX_GID: u32 = 64200;

/// What to run.
pub(crate) struct Task {
    pub(crate) attempt: AttemptId,
    pub(crate) token: SecretString,
    /// Which of the places for attempts it takes, from 0.
    pub(crate) slot: u32,
    pub(crate) limits: Limits,
}

/// Why nothing was started, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {next_step}")]
pub(crate) struct Refused {
    /// What failed: one sentence.
    pub(crate) what: String,
    /// What to do: one sentence.
    pub(crate) next_step: String,
}

impl Refused {
    pub(crate) fn new(what: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self { what: what.into(), next_step: next_step.into() }
    }
}

/// The user a sandbox really is on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// True when we are root and change to it; false when it is who we are.
    pub(crate) dropped: bool,
}

impl HostUser {
    /// Makes `command` run as this user, without any other group.
    pub(crate) fn apply(self, command: &mut std::process::Command) {
        use std::os::unix::process::CommandExt;
        if self.dropped {
            // As root, the standard library also clears the supplementary groups.
            command.gid(self.gid).uid(self.uid);
        }
    }
}

/// What has to be in place before an attempt can start.
#[derive(Clone, Debug)]
struct Ready {
    staged: Staged,
    /// Absent when `sandbox: none` is configured.
    bubblewrap: Option<Bubblewrap>,
}

/// Starts attempts.
pub(crate) struct Executor {
    settings: LocalSettings,
    /// One for each slot.
    users: Vec<Claim>,
    spawner: Spawner,
    cgroups: Option<cgroup::Parent>,
    /// What was found last; looked for again before each attempt while it is an error.
    ready: Mutex<Result<Ready, Refused>>,
}

impl Executor {
    /// Makes the worker's folders, removes what a killed platform left behind, and looks
    /// whether attempts can be started.
    pub(crate) async fn open(mut settings: LocalSettings) -> anyhow::Result<Self> {
        use anyhow::Context;
        let (settings, users, cgroups, ready) = tokio::task::spawn_blocking(move || {
            settings.state_dir = std::path::absolute(&settings.state_dir)?;
            let state_dir = &settings.state_dir;
            workspace::open(state_dir).with_context(|| format!("{}", state_dir.display()))?;
            let users = Claim::many(settings.capacity.max(1)).context("no host user for the sandbox")?;
            let known: Vec<_> = users.iter().map(|claim| claim.user).collect();
            etc::write(&state_dir.join("etc"), &known).context("the sandbox's /etc")?;
            let ready = prepare(&settings, known[0]);
            anyhow::Ok((settings, users, cgroup::Parent::find(), ready))
        })
        .await??;
        match &ready {
            Ok(_) => tracing::info!(
                sandbox = ?settings.sandbox,
                capacity = settings.capacity,
                limits = if cgroups.is_some() { "cgroup" } else { "rlimits" },
                "attempts run on this machine"
            ),
            Err(refused) => tracing::warn!(
                reason = refused.what,
                next_step = refused.next_step,
                "no attempt can run here"
            ),
        }
        Ok(Self { settings, users, spawner: Spawner::start()?, cgroups, ready: Mutex::new(ready) })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.settings.capacity
    }

    /// Who a slot's attempts are on the host.
    pub(crate) fn user(&self, slot: u32) -> HostUser {
        let slot = usize::try_from(slot).unwrap_or_default() % self.users.len();
        self.users[slot].user
    }

    /// Starts the agent runner for `task`.
    pub(crate) async fn start(&self, task: Task) -> Result<Process, Refused> {
        let ready = self.ready().await?;
        let user = self.user(task.slot);
        // Whoever still runs as this user could take the attempt over.
        let alone = tokio::task::spawn_blocking(move || leftovers::end_all_of(user)).await.unwrap_or(false);
        if !alone {
            return Err(Refused::new(
                format!("Processes of host uid {} remain after they were killed.", user.uid),
                "End them on the machine and start the stage again.",
            ));
        }
        let workspace = Workspace::create(&self.settings.state_dir, task.attempt, user, &task.token)
            .map_err(|error| {
                Refused::new(
                    format!("The workspace of the attempt cannot be made: {error}."),
                    "Look at the free space and the rights of data_dir/work.",
                )
            })?;
        let cgroup = self.cgroups.as_ref().and_then(|parent| parent.make(task.attempt, &task.limits));
        let who = if user.dropped { "host uid" } else { "the platform's own uid" };
        let around = if ready.bubblewrap.is_some() { "bubblewrap" } else { "no sandbox" };
        // Without a sandbox, a limit on processes would count everything else that user runs.
        let counted = ready.bubblewrap.is_some() || user.dropped || cgroup.is_some();
        let limited = limited(task.limits, counted, cgroup.is_some());
        let isolation = format!("{around}, {who} {}, {limited}", user.uid);
        let launch = process::Launch {
            user,
            workspace,
            cgroup,
            isolation,
            runner: ready.staged.runner,
            gateway: self.settings.gateway_socket.clone(),
            mounts: ready.staged.mounts,
            etc: self.settings.state_dir.join("etc"),
            attempt: task.attempt,
            limits: task.limits,
            bubblewrap: ready.bubblewrap,
        };
        steps::around(Step::AttemptLaunched, launch.start(&self.spawner)).await
    }

    /// A sentence when the disk of the workspaces is so full that attempts must end.
    pub(crate) fn disk_shortage(&self) -> Option<String> {
        let work = self.settings.state_dir.join("work");
        let space = disk::Space::of(&work).ok().filter(|space| space.is_short())?;
        Some(format!(
            "The disk of {} is nearly full ({space}). Free space there and start the stage again.",
            work.display()
        ))
    }

    async fn ready(&self) -> Result<Ready, Refused> {
        let known = self.ready.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.is_ok() {
            return known;
        }
        let (settings, user) = (self.settings.clone(), self.user(0));
        let found =
            tokio::task::spawn_blocking(move || prepare(&settings, user)).await.unwrap_or_else(|_| {
                Err(Refused::new("The sandbox could not be probed.", "Look at the worker's log."))
            });
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&found);
        found
    }
}

/// What is limited, and by what, in words for people.
fn limited(limits: Limits, processes_counted: bool, by_cgroup: bool) -> String {
    let by = if by_cgroup { "cgroup" } else { "rlimits" };
    match (limits.memory_bytes > 0, limits.processes > 0 && processes_counted) {
        (true, true) => format!("memory and processes limited by {by}"),
        (true, false) => format!("memory limited by {by}, processes not limited"),
        (false, true) => format!("processes limited by {by}, memory not limited"),
        (false, false) => "memory and processes not limited".to_owned(),
    }
}

/// Puts binaries where the sandbox's user can reach them and tries the sandbox. Blocks.
fn prepare(settings: &LocalSettings, user: HostUser) -> Result<Ready, Refused> {
    let bubblewrap = match settings.sandbox {
        Sandbox::Bubblewrap => Some(Bubblewrap::probe(user, &settings.state_dir.join("etc"))?),
        Sandbox::None => None,
    };
    Ok(Ready { staged: Staged::prepare(settings)?, bubblewrap })
}

/// A mount whose host path the sandbox's user can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) host: PathBuf,
    pub(crate) inside: PathBuf,
}
