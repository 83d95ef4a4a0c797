//! The platform under demonstration: its configuration, its process, its command line.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{children::Children, pods::Pods, stand_in::StandIn};
use crate::environment::output;

/// How long a start may take; initdb included, which a busy disk makes wait.
const START: Duration = Duration::from_secs(180);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Name of the platform's log in the demo's folder.
pub(super) const LOG: &str = "platform.log";

/// A running `callboard up`.
#[derive(Debug)]
pub(super) struct Platform {
    program: PathBuf,
    folder: PathBuf,
    /// Where webhooks go.
    pub(super) api: SocketAddr,
    /// `/healthz`, `/readyz`, `/metrics`.
    pub(super) admin: SocketAddr,
}

/// What works on the issue.
#[derive(Debug)]
pub(super) enum Agent {
    /// The program that edits files as it was told in advance.
    Scripted {
        /// Its path.
        program: PathBuf,
    },
    /// The Codex CLI, with a scripted model behind the gateway.
    Codex {
        /// Its path.
        binary: PathBuf,
        /// Where the model is.
        base_url: String,
        /// What the gateway proves itself with there.
        key_file: PathBuf,
    },
}

impl Platform {
    /// Chooses free ports; nothing is started yet.
    ///
    /// # Errors
    /// When there is no free port.
    pub(super) fn new(program: &Path, folder: &Path) -> Result<Self> {
        // Both are held until both are known, so that they differ.
        let (api, admin) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
        Ok(Self {
            program: program.to_path_buf(),
            folder: folder.to_path_buf(),
            api: api.local_addr()?,
            admin: admin.local_addr()?,
        })
    }

    /// Writes the configuration, starts the platform, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get ready.
    pub(super) fn start(
        &self,
        children: &Children,
        stand_in: &StandIn,
        agent: &Agent,
        pods: Option<&Pods>,
    ) -> Result<()> {
        let mut configuration = self.configuration(stand_in, agent);
        if let Some(pods) = pods {
            pods.put_into(&mut configuration);
        }
        fs::write(self.configuration_file(), serde_json::to_string_pretty(&configuration)?)?;
        let log = fs::File::create(self.folder.join(LOG))?;
        let mut command = subprocess::command(&self.program, &self.folder);
        command.arg("up").arg("--config").arg(self.configuration_file());
        command.stdout(Stdio::null()).stderr(log).env("CALLBOARD_LOG_FORMAT", "text");
        children.start("callboard up", &mut command)?;
        let deadline = Instant::now() + START;
        while !self.is_ready() {
            if let Some(status) = children.ended("callboard up") {
                bail!("`callboard up` ended ({status})");
            }
            if Instant::now() > deadline {
                bail!("the platform is not ready after {} s", START.as_secs());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// JSON is YAML, and nothing in it needs quoting by hand.
    fn configuration(&self, stand_in: &StandIn, agent: &Agent) -> Value {
        let (agents, models) = match agent {
            Agent::Scripted { program } => {
                (json!({"default": "command", "command": {"argv": [program]}}), json!([]))
            }
            Agent::Codex { binary, base_url, key_file } => (
                json!({"default": "codex", "codex": {"binary": binary, "model": "scripted"}}),
                json!([{"name": "scripted", "backend": "openai", "base_url": base_url, "api_key_file": key_file}]),
            ),
        };
        json!({
            "data_dir": self.folder.join("data"),
            "listen": {"api": self.api, "admin": self.admin},
            "public_url": format!("http://{}", self.api),
            "github": {
                "api_url": stand_in.api_url,
                "web_url": stand_in.web_url,
                "git_url": stand_in.git_url,
                "token_file": stand_in.token_file,
            },
            "projects": [{
                "name": "demo",
                "repositories": [{
                    "name": super::REPOSITORY,
                    "source": super::SOURCE,
                    "webhook_secret_file": stand_in.hook_secret_file,
                }],
                "members": {"octocat": "admin"},
            }],
            "agents": agents,
            "models": models,
            "executor": {"local": {"sandbox": "bubblewrap", "capacity": 2}},
        })
    }

    /// The file that names this platform to every command.
    pub(super) fn configuration_file(&self) -> PathBuf {
        self.folder.join("callboard.yaml")
    }

    /// Where GitHub would send its webhooks.
    pub(super) fn hook_url(&self) -> String {
        format!("http://{}/webhooks/github/{}", self.api, super::SOURCE)
    }

    fn is_ready(&self) -> bool {
        status(self.admin, "/readyz").is_ok_and(|status| status == 200)
    }

    /// A `callboard` command about this platform.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = subprocess::command(&self.program, &self.folder);
        command.args(words).env("CALLBOARD_CONFIG", self.configuration_file()).env("NO_COLOR", "1");
        command
    }

    /// What such a command answers as JSON.
    ///
    /// # Errors
    /// What it said.
    pub(super) fn ask(&self, words: &[&str]) -> Result<Value> {
        let answer = output(self.command(words).args(["-o", "json"]))?;
        serde_json::from_str(&answer)
            .with_context(|| format!("`callboard {}` did not answer JSON", words.join(" ")))
    }
}

/// The status code of a GET; the body is not needed.
fn status(address: SocketAddr, path: &str) -> Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    // In one piece: `write!` would send fragments, and a server may answer the first.
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    answer.split_ascii_whitespace().nth(1).and_then(|code| code.parse().ok()).context("no HTTP answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_the_status_code() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a caller");
            let mut request = [0; 512];
            let length = stream.read(&mut request).expect("a request");
            stream
                .write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
                .expect("answered");
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        assert_eq!(status(address, "/readyz").expect("an answer"), 503);
        assert!(server.join().expect("served").starts_with("GET /readyz HTTP/1.1\r\n"));
    }
}
