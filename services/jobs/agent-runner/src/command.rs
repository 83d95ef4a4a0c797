//! The adapter for any program that reads a prompt and edits files.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use proto::v1::{Assignment, return_outcome::Status, transcript_line::Stream};
use rustix::fs::OFlags;
use secrecy::ExposeSecret;

use crate::{
    agent::{Adapter, Source, Surroundings},
    lines::Line,
    returned::Returned,
    session,
    transcript::LINE_BYTES,
};

/// Bytes of a summary file that are read.
const SUMMARY_BYTES: u64 = 64 * 1024;
/// Bytes of a file of findings that are read.
const FINDINGS_BYTES: u64 = 256 * 1024;
/// Without a summary file, this much of the end of the output is the summary.
const TAIL_BYTES: usize = 4 * 1024;
/// The summary's name in the workspace, outside the repository.
const SUMMARY: &str = "summary.md";
/// Where the agent finds, and leaves, what it remembers; in its home.
const SESSION: &str = ".session";

/// Runs `argv` with the prompt on standard input.
#[derive(Debug, Default)]
pub(crate) struct CommandAgent {
    tail: String,
}

impl Adapter for CommandAgent {
    fn command(&self, assignment: &Assignment, surroundings: &Surroundings) -> Command {
        let argv = assignment.agent.as_ref().map(|agent| agent.argv.as_slice()).unwrap_or_default();
        let (program, arguments) =
            argv.split_first().map_or(("", argv), |(first, rest)| (first.as_str(), rest));
        let mut command = surroundings.command(program);
        command
            .args(arguments.iter().map(|argument| surroundings.relocated(argument)))
            .env("CALLBOARD_RUN_ID", &assignment.run_id)
            .env("CALLBOARD_ATTEMPT_ID", &assignment.attempt_id)
            .env("CALLBOARD_SUMMARY_FILE", surroundings.workspace.join(SUMMARY))
            .env("CALLBOARD_GATEWAY", &surroundings.gateway)
            .env("CALLBOARD_SESSION_DIR", session_of(surroundings))
            .env("OPENAI_BASE_URL", format!("{}/model/openai/v1", surroundings.gateway))
            .env("OPENAI_API_KEY", surroundings.token.expose_secret());
        let spec = assignment.agent.clone().unwrap_or_default();
        for (name, value) in [("CALLBOARD_MODEL", spec.model), ("CALLBOARD_REASONING", spec.reasoning)] {
            if !value.is_empty() {
                command.env(name, value);
            }
        }
        if surroundings.restored {
            command.env("CALLBOARD_RESTORED", "1");
        }
        command
    }

    fn sessions(&self, surroundings: &Surroundings) -> Option<PathBuf> {
        Some(session_of(surroundings))
    }

    /// It does not say when it uses a tool.
    fn is_busy(&self) -> bool {
        false
    }

    fn hear(&mut self, source: Source, line: &Line) -> (Stream, String) {
        let text = line.marked(LINE_BYTES);
        match source {
            Source::Stdout => {
                self.tail.push_str(&text);
                self.tail.push('\n');
                let excess = self.tail.len().saturating_sub(TAIL_BYTES);
                self.tail.drain(..self.tail.ceil_char_boundary(excess));
                (Stream::Stdout, text)
            }
            Source::Stderr => (Stream::Stderr, text),
        }
    }

    fn conclude(&mut self, exit: ExitStatus, surroundings: &Surroundings) -> Returned {
        let status = if exit.success() { Status::Done } else { Status::AgentFailed };
        let message = if exit.success() { String::new() } else { format!("The agent failed: {exit}.") };
        let summary = match read_summary(&surroundings.workspace.join(SUMMARY)) {
            Some(summary) if !summary.trim().is_empty() => summary,
            Some(_) | None => self.tail.trim().to_owned(),
        };
        let session = session::at_the_end(&session_of(surroundings));
        Returned { summary, session, agent_exit_code: exit.code(), ..Returned::failed(status, message) }
    }
}

fn session_of(surroundings: &Surroundings) -> PathBuf {
    surroundings.home.join(SESSION)
}

/// Reads the agent's summary.
pub(crate) fn read_summary(path: &Path) -> Option<String> {
    read_text(path, SUMMARY_BYTES)
}

/// Reads the agent's findings.
pub(crate) fn read_findings(path: &Path) -> Option<String> {
    read_text(path, FINDINGS_BYTES)
}

/// Reads a text the agent has written. A link in its place is not followed.
fn read_text(path: &Path, most_bytes: u64) -> Option<String> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let read = || -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
        if file.metadata()?.is_file() {
            file.take(most_bytes).read_to_end(&mut text)?;
        }
        Ok(text)
    };
    read().ok().map(|text| String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_the_output_is_kept_in_whole_characters() {
        let mut agent = CommandAgent::default();
        for _ in 0..2000 {
            agent.hear(Source::Stdout, &Line { text: "äöü".into(), dropped: 0 });
        }
        agent.hear(Source::Stderr, &Line { text: "noise".into(), dropped: 0 });
        assert!(agent.tail.len() <= TAIL_BYTES && agent.tail.ends_with("äöü\n"));
    }

    #[test]
    fn a_summary_that_is_a_link_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("summary.md");
        std::os::unix::fs::symlink("/etc/passwd", &path).expect("linked");
        assert_eq!(read_summary(&path), None);
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "# Done").expect("written");
        assert_eq!(read_summary(&path).as_deref(), Some("# Done"));
    }
}
