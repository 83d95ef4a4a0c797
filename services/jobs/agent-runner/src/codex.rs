//! The adapter for `codex exec --json`.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use proto::v1::{Assignment, return_outcome::Status, transcript_line::Stream};
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::{
    agent::{Adapter, Session, Source, Surroundings},
    command::read_summary,
    lines::Line,
    returned::Returned,
    session,
    transcript::LINE_BYTES,
};

/// The variable codex takes the run token from.
const KEY: &str = "CALLBOARD_RUN_TOKEN";
/// The last message's file, in the workspace.
const LAST_MESSAGE: &str = "last-message.md";
/// Characters of a thread's id, a UUID.
const ID_CHARACTERS: usize = 36;
/// A long text inside an event is cut to this, so that the event stays JSON.
const TEXT_BYTES: usize = 2 * 1024;

/// Runs codex without its own sandbox (it is in ours), with the gateway as its only model.
#[derive(Debug, Default)]
pub(crate) struct Codex {
    /// What the turn failed with.
    failure: Option<String>,
    /// The last `error` event; most are about attempts that are repeated.
    last_error: Option<String>,
    /// The last it said on standard error: why it did not even begin.
    complaint: Option<String>,
    /// Ids of commands, edits and tool calls under way.
    under_way: HashSet<String>,
}

/// The id of the thread whose session was written to last: `codex exec resume` wants it.
fn last_thread(sessions: &Path) -> Option<String> {
    let mut folders = vec![sessions.to_owned()];
    let mut newest = None;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
            // rollout-2026-11-21T12-03-11-<id>.jsonl: by name is by time.
            newest = newest.max(entry.file_name().into_string().ok().filter(|name| name.ends_with(".jsonl")));
        }
    }
    let name = newest?;
    let id = name.strip_suffix(".jsonl")?;
    let id = id.get(id.len().checked_sub(ID_CHARACTERS)?..)?;
    id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-').then(|| id.to_owned())
}

impl Codex {
    fn home(surroundings: &Surroundings) -> PathBuf {
        surroundings.home.join(".codex")
    }

    fn sessions_in(surroundings: &Surroundings) -> PathBuf {
        Self::home(surroundings).join("sessions")
    }

    /// Takes note of what an event means for the outcome.
    fn note(&mut self, event: &Value) {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        match event.get("type").and_then(Value::as_str) {
            Some("item.started") => self.under_way.extend(text("/item/id")),
            Some("item.completed") => {
                self.under_way.remove(&text("/item/id").unwrap_or_default());
            }
            Some("turn.failed") => {
                self.failure = text("/error/message").or_else(|| Some("The turn failed.".to_owned()));
            }
            // A turn that is completed after errors did succeed.
            Some("turn.completed") => (self.failure, self.last_error) = (None, None),
            Some("error") => self.last_error = text("/message"),
            // Items of the type `error` are remarks, such as "Model metadata not found".
            Some(_) | None => {}
        }
    }
}

impl Adapter for Codex {
    fn command(&self, assignment: &Assignment, surroundings: &Surroundings) -> Command {
        let spec = assignment.agent.clone().unwrap_or_default();
        let program = spec.argv.first().map_or("codex", String::as_str);
        let mut command = surroundings.command(program);
        command.env("CODEX_HOME", Self::home(surroundings)).env(KEY, surroundings.token.expose_secret());
        command.args(spec.argv.iter().skip(1)).arg("exec");
        let mut set = |key: &str, value: Value| {
            command.arg("-c").arg(format!("{key}={value}"));
        };
        set("model_provider", "callboard".into());
        if !spec.model.is_empty() {
            set("model", spec.model.into());
        }
        // Ours are names for people; codex has its own for the highest.
        match spec.reasoning.as_str() {
            "" => {}
            "extra-high" => set("model_reasoning_effort", "xhigh".into()),
            level => set("model_reasoning_effort", level.into()),
        }
        set("model_providers.callboard.name", "callboard".into());
        set("model_providers.callboard.base_url", format!("{}/model/openai/v1", surroundings.gateway).into());
        set("model_providers.callboard.wire_api", "responses".into());
        set("model_providers.callboard.env_key", KEY.into());
        // Each of these would look for hosts that cannot be reached from here.
        for feature in ["features.plugins", "features.apps", "analytics.enabled"] {
            set(feature, false.into());
        }
        command.args(["--json", "--output-last-message"]).arg(surroundings.workspace.join(LAST_MESSAGE));
        command.arg("--dangerously-bypass-approvals-and-sandbox");
        let goes_on = surroundings.restored || surroundings.session == Session::Restored;
        let thread = goes_on.then(|| last_thread(&Self::sessions_in(surroundings))).flatten();
        if let Some(thread) = thread {
            command.args(["resume", &thread]);
        }
        command.arg("-");
        // codex wants its home to exist; when it cannot be made, codex says so itself.
        let _ = std::fs::create_dir_all(Self::home(surroundings));
        command
    }

    fn sessions(&self, surroundings: &Surroundings) -> Option<PathBuf> {
        Some(Self::sessions_in(surroundings))
    }

    fn is_busy(&self) -> bool {
        !self.under_way.is_empty()
    }

    fn hear(&mut self, source: Source, line: &Line) -> (Stream, String) {
        let plain = || line.marked(LINE_BYTES);
        match source {
            Source::Stderr => {
                if !line.text.trim().is_empty() {
                    self.complaint = Some(line.marked(LINE_BYTES));
                }
                (Stream::Stderr, plain())
            }
            Source::Stdout => match serde_json::from_str::<Value>(&line.text) {
                Ok(mut event) if event.is_object() && line.dropped == 0 => {
                    self.note(&event);
                    if line.text.len() <= LINE_BYTES {
                        return (Stream::Agent, line.text.clone());
                    }
                    shorten(&mut event);
                    let short = event.to_string();
                    if short.len() <= LINE_BYTES { (Stream::Agent, short) } else { (Stream::Stdout, plain()) }
                }
                Ok(_) | Err(_) => (Stream::Stdout, plain()),
            },
        }
    }

    fn conclude(&mut self, exit: ExitStatus, surroundings: &Surroundings) -> Returned {
        let mut returned = Returned::failed(Status::Done, "");
        returned.agent_exit_code = exit.code();
        returned.summary = read_summary(&surroundings.workspace.join(LAST_MESSAGE)).unwrap_or_default();
        returned.session = session::at_the_end(&Self::sessions_in(surroundings));
        if let Some(reason) = self.failure.take() {
            returned.status =
                if of_the_provider(&reason) { Status::ProviderFailed } else { Status::AgentFailed };
            returned.message = format!("codex failed: {}", sentence(&reason));
        } else if !exit.success() {
            let reason = self
                .last_error
                .take()
                .or_else(|| self.complaint.take())
                .unwrap_or_else(|| "it said nothing".to_owned());
            returned.status =
                if of_the_provider(&reason) { Status::ProviderFailed } else { Status::AgentFailed };
            returned.message = format!("codex ended with {exit}: {}", sentence(&reason));
        }
        returned
    }
}

/// One line that ends with a full stop.
fn sentence(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}.", crate::returned::beginning(&line, 500).trim_end_matches('.'))
}

/// True for failures of the model backend that may pass: overload, outage, a broken stream.
fn of_the_provider(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    let said = [
        "stream disconnected",
        "error sending request",
        "connection refused",
        "connection reset",
        "overloaded",
        "rate limit",
        "timed out",
    ];
    let after_status = reason.split("status").skip(1).filter_map(|rest| {
        rest.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse().ok()
    });
    said.iter().any(|words| reason.contains(words))
        || after_status.into_iter().any(|status: u16| status == 429 || (500..600).contains(&status))
}

/// Cuts the long texts of an event.
fn shorten(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > TEXT_BYTES => {
            let kept = crate::returned::beginning(text, TEXT_BYTES);
            *text = format!("{kept} … [{} more bytes]", text.len() - kept.len());
        }
        Value::Array(values) => values.iter_mut().for_each(shorten),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn surroundings(folder: &Path) -> Surroundings {
        Surroundings {
            workspace: folder.to_owned(),
            repo: folder.join("repo"),
            home: folder.join("home"),
            tmp: folder.join("tmp"),
            gateway: "http://127.0.0.1:4000".into(),
            token: "run-token".to_owned().into(),
            relocations: Vec::new(),
            restored: false,
            session: Session::None,
        }
    }

    #[test]
    fn it_is_busy_while_a_tool_works_and_goes_on_with_its_last_thread() {
        let mut codex = Codex::default();
        let mut hear = |text: &str| {
            codex.hear(Source::Stdout, &Line { text: text.to_owned(), dropped: 0 });
            codex.is_busy()
        };
        assert!(!hear(r#"{"type":"turn.started"}"#));
        assert!(hear(r#"{"type":"item.started","item":{"id":"item_1","type":"command_execution"}}"#));
        assert!(hear(r#"{"type":"item.completed","item":{"id":"item_0","type":"agent_message"}}"#));
        assert!(!hear(r#"{"type":"item.completed","item":{"id":"item_1","type":"command_execution"}}"#));

        let folder = tempfile::tempdir().expect("a folder");
        let mut surroundings = surroundings(folder.path());
        let resumed = |surroundings: &Surroundings| {
            let command = Codex::default().command(&Assignment::default(), surroundings);
            let arguments: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
            arguments.iter().position(|a| a == "resume").map(|at| arguments[at + 1..].to_vec())
        };
        let sessions = Codex::sessions_in(&surroundings).join("2026/11/21");
        std::fs::create_dir_all(&sessions).expect("made");
        for (time, id) in [("12-03-11", 'a'), ("09-00-00", 'b')] {
            let id = format!("01a1fdfd-3342-7dd1-b570-15151f3a456{id}");
            std::fs::write(sessions.join(format!("rollout-2026-11-21T{time}-{id}.jsonl")), "")
                .expect("written");
        }
        assert_eq!(resumed(&surroundings), None);
        surroundings.restored = true;
        let expected = ["01a1fdfd-3342-7dd1-b570-15151f3a456a", "-"].map(str::to_owned).to_vec();
        assert_eq!(resumed(&surroundings), Some(expected));
    }

    /// What codex wrote line by line, and how it ended.
    fn play(lines: &[&str], code: i32) -> (Vec<Stream>, Returned) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut codex = Codex::default();
        let streams = lines
            .iter()
            .map(|text| codex.hear(Source::Stdout, &Line { text: (*text).to_owned(), dropped: 0 }).0)
            .collect();
        (streams, codex.conclude(ExitStatus::from_raw(code << 8), &surroundings(folder.path())))
    }

    #[test]
    fn a_finished_turn_is_done_whatever_was_remarked() {
        let (streams, returned) = play(
            &[
                r#"{"type":"thread.started","thread_id":"0198"}"#,
                r#"{"type":"item.completed","item":{"type":"error","message":"Model metadata for `m` not found."}}"#,
                r#"{"type":"error","message":"Reconnecting... 1/5 (unexpected status 529)"}"#,
                r#"{"type":"item.completed","item":{"type":"command_execution","command":"ls","exit_code":0}}"#,
                r#"{"type":"turn.completed","usage":{"input_tokens":330,"output_tokens":20}}"#,
                "a line that is no event",
            ],
            0,
        );
        assert_eq!(returned.status, Status::Done, "{}", returned.message);
        assert_eq!(
            streams,
            [Stream::Agent, Stream::Agent, Stream::Agent, Stream::Agent, Stream::Agent, Stream::Stdout]
        );
    }

    #[test]
    fn failures_of_the_model_are_told_from_failures_of_the_agent() {
        let failed = |message: &str| {
            let event =
                serde_json::json!({ "type": "turn.failed", "error": { "message": message } }).to_string();
            play(&[&event], 1).1
        };
        for message in [
            "exceeded retry limit, last status: 429 Too Many Requests",
            "unexpected status 503 Service Unavailable: overloaded",
            "stream disconnected before completion: closed",
        ] {
            assert_eq!(failed(message).status, Status::ProviderFailed, "{message}");
        }
        for message in
            ["unexpected status 401 Unauthorized", "unexpected status 400: 500 tokens at most", "no"]
        {
            assert_eq!(failed(message).status, Status::AgentFailed, "{message}");
        }
        assert_eq!(failed("no").message, "codex failed: no.");
        assert_eq!(play(&[], 2).1.message, "codex ended with exit status: 2: it said nothing.");
    }

    #[test]
    fn the_token_is_in_the_environment_and_not_among_the_arguments() {
        let folder = tempfile::tempdir().expect("a folder");
        let assignment = Assignment {
            agent: Some(proto::v1::AgentSpec {
                model: "small \"one\"".into(),
                reasoning: "extra-high".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let command = Codex::default().command(&assignment, &surroundings(folder.path()));
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        assert!(arguments.iter().any(|argument| argument == r#"model="small \"one\"""#), "{arguments:?}");
        assert!(arguments.iter().any(|argument| argument == "features.plugins=false"), "{arguments:?}");
        assert!(
            arguments.iter().any(|argument| argument == r#"model_reasoning_effort="xhigh""#),
            "{arguments:?}"
        );
        assert!(!arguments.iter().any(|argument| argument.contains("run-token")));
        assert!(
            command
                .get_envs()
                .any(|(name, value)| name == KEY && value.is_some_and(|value| value == "run-token"))
        );
    }

    #[test]
    fn an_event_that_is_too_long_stays_json() {
        let event = serde_json::json!({ "type": "item.completed", "item": { "aggregated_output": "x".repeat(100_000) } });
        let line = Line { text: event.to_string(), dropped: 0 };
        let (stream, text) = Codex::default().hear(Source::Stdout, &line);
        assert_eq!(stream, Stream::Agent);
        assert!(text.len() <= LINE_BYTES && serde_json::from_str::<Value>(&text).is_ok());
    }
}
