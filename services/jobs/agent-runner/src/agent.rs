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
    checkpoint::Keeper,
    codex::Codex,
    command::{CommandAgent, read_findings},
    lines::{self, Line},
    memory, processes,
    returned::Returned,
    transcript::Transcript,
};

/// Bytes of one line an adapter gets to see; events of codex can be long.
const LINE_BYTES: usize = 1024 * 1024;
/// How long output may still come after the agent has ended and all it started is killed.
const LAST_OUTPUT: Duration = Duration::from_secs(5);

/// What a restored agent reads after its prompt.
const GO_ON: &str = "

---

This is another attempt at the same work. An earlier one was cut off: the files here are those of its last checkpoint, and you go on from them. What it did after that is gone, and so are files that git ignores. Look at what is there before you build on it.
";

/// What an agent reads after its prompt when the session its run should go on with is not there.
const WITHOUT_SESSION: &str = "

---

The session of the earlier run could not be restored: you have no memory of it. Look at the repository and at the texts above before you go on.
";

/// What the agent's user is called.
const USER: &str = "agent";

/// The findings' name in the workspace, outside the repository.
const FINDINGS: &str = "findings.json";

/// What the agent remembers of an earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    /// Nothing, and it was not meant to.
    None,
    /// Its session is there.
    Restored,
    /// It was meant to be there, and is not.
    Lost,
}

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
    /// The files, and the session where there is one, are those of an earlier attempt.
    pub(crate) restored: bool,
    /// What it remembers of an earlier run, where the files are not an earlier attempt's.
    pub(crate) session: Session,
}

impl Surroundings {
    /// A command of the agent's, with what every agent finds in its environment.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = subprocess::command(self.relocated(program), &self.repo);
        command.env("HOME", &self.home).env("TMPDIR", &self.tmp);
        // In a pod there is no entry for our user, and programs that want its name ask for this.
        command.env("USER", USER).env("LOGNAME", USER);
        command.env("CALLBOARD_FINDINGS_FILE", self.workspace.join(FINDINGS));
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
    /// Where the agent keeps its sessions, when it does.
    fn sessions(&self, surroundings: &Surroundings) -> Option<PathBuf>;
    /// A tool call is under way: not the moment for a checkpoint, if it can be helped.
    fn is_busy(&self) -> bool;
    /// What the agent's end means.
    fn conclude(&mut self, exit: ExitStatus, surroundings: &Surroundings) -> Returned;
}

/// The adapter for the agent the assignment asks for.
pub(crate) fn adapter(assignment: &Assignment) -> anyhow::Result<Box<dyn Adapter>> {
    match assignment.agent.clone().unwrap_or_default().kind() {
        Kind::Command => Ok(Box::<CommandAgent>::default()),
        Kind::Codex => Ok(Box::<Codex>::default()),
        Kind::Unspecified => anyhow::bail!("the assignment names no kind of agent this runner knows"),
    }
}

/// What ends an agent before it does so itself.
#[derive(Clone, Copy)]
pub(crate) struct Ending<'a> {
    /// The platform wants to hear no more of it.
    pub(crate) stop: &'a CancellationToken,
    /// We were told to end.
    pub(crate) told_to_end: &'a CancellationToken,
}

/// How the agent came to its end.
enum End {
    Exited(ExitStatus),
    /// The platform wants to hear no more of it.
    Stopped,
    /// We were told to end.
    Terminated,
}

/// Runs the agent to its end, or until it is ended; when we are told to end there is no result. When this returns, no process of the agent is left.
pub(crate) async fn run(
    assignment: &Assignment,
    adapter: &mut dyn Adapter,
    surroundings: &Surroundings,
    transcript: &Transcript,
    keeper: &mut Keeper,
    ending: Ending<'_>,
) -> anyhow::Result<Option<Returned>> {
    let command = adapter.command(assignment, surroundings);
    let name = command.get_program().to_string_lossy().into_owned();
    transcript.runner(&format!("Starting the agent: {name}.")).await;
    let more = match (surroundings.restored, surroundings.session) {
        (true, Session::None | Session::Restored | Session::Lost) => GO_ON,
        (false, Session::Lost) => WITHOUT_SESSION,
        (false, Session::None | Session::Restored) => "",
    };
    let prompt = format!("{}{more}", assignment.prompt);
    let killed_before = memory::kills();
    let end = execute(command, prompt, adapter, transcript, keeper, ending)
        .await
        .with_context(|| format!("the agent {name} cannot be run"))?;
    match end {
        End::Exited(exit) => {
            transcript.runner(&format!("The agent ended with {exit}.")).await;
            let mut returned = adapter.conclude(exit, surroundings);
            let killed = memory::kills().saturating_sub(killed_before);
            if returned.status != Status::Done && killed > 0 {
                returned.status = Status::OutOfMemory;
                returned.message = format!(
                    "It ran out of memory: the kernel ended {killed} of its processes. Make the task smaller, or have `pod.memory_mib` of the stage raised."
                );
            }
            returned.findings = read_findings(&surroundings.workspace.join(FINDINGS)).unwrap_or_default();
            Ok(Some(returned))
        }
        End::Stopped => {
            let message =
                "The platform ended the agent: its output limit is used up, or the attempt is over.";
            Ok(Some(Returned::failed(Status::AgentFailed, message)))
        }
        End::Terminated => {
            transcript.runner("The agent was ended from outside: its pod was deleted, or its machine or worker is going down.").await;
            Ok(None)
        }
    }
}

async fn execute(
    mut command: Command,
    prompt: String,
    adapter: &mut dyn Adapter,
    transcript: &Transcript,
    keeper: &mut Keeper,
    Ending { stop, told_to_end }: Ending<'_>,
) -> anyhow::Result<End> {
    use std::os::unix::process::CommandExt;
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut ended_children = signal(SignalKind::child())?;
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    let group = child
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
        .context("a process without an id")?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
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

    let (mut exit, mut open, mut ended) = (None, true, None);
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
                end_leftovers()?;
                silence = Instant::now() + LAST_OUTPUT;
            }
            () = stop.cancelled(), if ended.is_none() => {
                ended = Some(End::Stopped);
                // Gone already is as good.
                let _ = kill_process_group(group, Signal::KILL);
            }
            () = keeper.due(adapter.is_busy()), if ended.is_none() && exit.is_none() => keeper.take().await,
            () = keeper.sent(), if keeper.is_sending() => {}
            () = told_to_end.cancelled(), if ended.is_none() && exit.is_none() => {
                keeper.last().await;
                ended = Some(End::Terminated);
                let _ = kill_process_group(group, Signal::KILL);
            }
            _ = ended_children.recv(), if exit.is_none() => processes::reap(Some(group)),
            () = tokio::time::sleep_until(silence), if exit.is_some() => break,
        }
    }
    feeding.abort();
    Ok(match (ended, exit) {
        (Some(ended), _) => ended,
        (None, Some(exit)) => End::Exited(exit),
        (None, None) => anyhow::bail!("the agent's end was missed"),
    })
}

/// What the agent left running would go on changing files. On this thread: where its processes
/// have filled their limit, there is no other to be had.
fn end_leftovers() -> anyhow::Result<()> {
    anyhow::ensure!(processes::end_descendants(), "processes of the agent remain after they were killed");
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
            restored: false,
            session: Session::None,
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
