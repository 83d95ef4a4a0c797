//! Runs the coding agent, whichever it is.

use std::{
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context;
use proto::v1::{Assignment, agent_spec::Kind, return_outcome::Status, transcript_line::Stream};
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::SecretString;
use tokio::{
    io::{AsyncRead, AsyncWriteExt, BufReader},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Relocation,
    codex::Codex,
    command::CommandAgent,
    lines::{self, Line},
    processes,
    returned::Returned,
    transcript::Transcript,
};

/// Bytes of one line an adapter gets to see; events of codex can be long.
const LINE_BYTES: usize = 1024 * 1024;
/// How long output may still come after the agent has ended and all it started is killed.
const LAST_OUTPUT: Duration = Duration::from_secs(5);

/// Where an agent runs.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) workspace: PathBuf,
    pub(crate) repo: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) tmp: PathBuf,
    /// `http://127.0.0.1:port`: the gateway, as TCP.
    pub(crate) gateway: String,
    pub(crate) token: SecretString,
    pub(crate) relocations: Vec<Relocation>,
}

impl Surroundings {
    /// A command of the agent's, with what every agent finds in its environment.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = subprocess::command(self.relocated(program), &self.repo);
        command.env("HOME", &self.home).env("TMPDIR", &self.tmp);
        command
    }

    /// Where a path of the sandbox is when nothing is mounted.
    pub(crate) fn relocated(&self, argument: &str) -> String {
        let moved = self.relocations.iter().find_map(|relocation| {
            let rest = PathBuf::from(argument).strip_prefix(&relocation.inside).ok()?.to_owned();
            // Joining an empty rest would add a slash to a file.
            let path = if rest.as_os_str().is_empty() {
                relocation.host.clone()
            } else {
                relocation.host.join(rest)
            };
            Some(path.to_string_lossy().into_owned())
        });
        moved.unwrap_or_else(|| argument.to_owned())
    }
}

/// Which of the agent's outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout,
    Stderr,
}

/// How one kind of agent is started and understood.
pub(crate) trait Adapter: Send {
    /// The command to run in the repository. Its prompt comes on standard input.
    fn command(&self, assignment: &Assignment, surroundings: &Surroundings) -> Command;
    /// Takes note of a line; says how it goes into the transcript.
    fn hear(&mut self, source: Source, line: &Line) -> (Stream, String);
    /// What the agent's end means.
    fn conclude(&mut self, exit: ExitStatus, surroundings: &Surroundings) -> Returned;
}

/// Runs the agent the assignment asks for, to its end or until `stop`. When this returns,
/// no process of the agent is left.
pub(crate) async fn run(
    assignment: &Assignment,
    surroundings: &Surroundings,
    transcript: &Transcript,
    stop: &CancellationToken,
) -> anyhow::Result<Returned> {
    let spec = assignment.agent.clone().unwrap_or_default();
    let mut adapter: Box<dyn Adapter> = match spec.kind() {
        Kind::Command => Box::<CommandAgent>::default(),
        Kind::Codex => Box::<Codex>::default(),
        Kind::Unspecified => anyhow::bail!("the assignment names no kind of agent this runner knows"),
    };
    let command = adapter.command(assignment, surroundings);
    let name = command.get_program().to_string_lossy().into_owned();
    transcript.runner(&format!("Starting the agent: {name}.")).await;
    let Some(exit) = execute(command, &assignment.prompt, adapter.as_mut(), transcript, stop)
        .await
        .with_context(|| format!("the agent {name} cannot be run"))?
    else {
        let message = "The platform ended the agent: its output limit is used up, or the attempt is over.";
        return Ok(Returned::failed(Status::AgentFailed, message));
    };
    transcript.runner(&format!("The agent ended with {exit}.")).await;
    Ok(adapter.conclude(exit, surroundings))
}

/// `None` when it was stopped.
async fn execute(
    mut command: Command,
    prompt: &str,
    adapter: &mut dyn Adapter,
    transcript: &Transcript,
    stop: &CancellationToken,
) -> anyhow::Result<Option<ExitStatus>> {
    use std::os::unix::process::CommandExt;
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut ended_children = signal(SignalKind::child())?;
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    let group = child
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
        .context("a process without an id")?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let prompt = prompt.to_owned();
    let feeding = tokio::spawn(async move {
        if let Some(mut stdin) = stdin {
            // An agent may end, or close its input, without having read all of it.
            let _ = stdin.write_all(prompt.as_bytes()).await;
        }
    });
    let (heard, mut hearing) = mpsc::channel(64);
    let mut readers = tokio::task::JoinSet::new();
    readers.spawn(listen(stdout, Source::Stdout, heard.clone()));
    readers.spawn(listen(stderr, Source::Stderr, heard));

    let (mut exit, mut open, mut stopped) = (None, true, false);
    let mut silence = Instant::now();
    while open || exit.is_none() {
        tokio::select! {
            line = hearing.recv(), if open => match line {
                Some((source, line)) => {
                    let (stream, text) = adapter.hear(source, &line);
                    transcript.line(stream, text).await;
                }
                None => open = false,
            },
            status = child.wait(), if exit.is_none() => {
                exit = Some(status?);
                end_leftovers().await?;
                silence = Instant::now() + LAST_OUTPUT;
            }
            () = stop.cancelled(), if !stopped => {
                stopped = true;
                // Gone already is as good.
                let _ = kill_process_group(group, Signal::KILL);
            }
            _ = ended_children.recv(), if exit.is_none() => processes::reap(Some(group)),
            () = tokio::time::sleep_until(silence), if exit.is_some() => break,
        }
    }
    feeding.abort();
    Ok(exit.filter(|_| !stopped))
}

/// What the agent left running would go on changing files.
async fn end_leftovers() -> anyhow::Result<()> {
    let gone = tokio::task::spawn_blocking(processes::end_descendants).await?;
    anyhow::ensure!(gone, "processes of the agent remain after they were killed");
    Ok(())
}

async fn listen(source: Option<impl AsyncRead + Unpin>, from: Source, heard: mpsc::Sender<(Source, Line)>) {
    let Some(source) = source else { return };
    let mut source = BufReader::new(source);
    while let Some(line) = lines::next(&mut source, LINE_BYTES).await {
        if heard.send((from, line)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_mounts_the_agents_files_are_where_they_are() {
        let surroundings = Surroundings {
            workspace: "/w".into(),
            repo: "/w/repo".into(),
            home: "/w/home".into(),
            tmp: "/tmp".into(),
            gateway: String::new(),
            token: String::new().into(),
            relocations: vec![
                Relocation { inside: "/opt/agent".into(), host: "/srv/codex".into() },
                Relocation { inside: "/opt/run.sh".into(), host: "/home/me/run.sh".into() },
            ],
        };
        assert_eq!(surroundings.relocated("/opt/agent/bin/codex"), "/srv/codex/bin/codex");
        assert_eq!(surroundings.relocated("/opt/run.sh"), "/home/me/run.sh");
        assert_eq!(surroundings.relocated("/opt/agents"), "/opt/agents");
        assert_eq!(surroundings.relocated("--flag"), "--flag");
    }
}
