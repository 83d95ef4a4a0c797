//! The stand-in for GitHub, as a process of its own that the platform knows by address only.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{REPOSITORY, children::Children};
use crate::environment::output;

/// A running stand-in.
#[derive(Debug)]
pub(super) struct StandIn {
    program: PathBuf,
    folder: PathBuf,
    /// REST.
    pub(super) api_url: String,
    /// Clones.
    pub(super) git_url: String,
    /// People, and the stand-in's own commands.
    pub(super) web_url: String,
    /// The platform's personal access token.
    pub(super) token_file: PathBuf,
    /// What signs deliveries.
    pub(super) hook_secret_file: PathBuf,
}

impl StandIn {
    /// Starts it, with one repository in it.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn start(program: &Path, folder: &Path, children: &Children) -> Result<Self> {
        let token_file = folder.join("github-token");
        let hook_secret_file = super::secret(folder, "webhook-secret")?;
        let mut command = subprocess::command(program, folder);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder.join("stand-in"));
        command.arg("--token-file").arg(&token_file);
        let line = children.start_and_hear("webhook-simulator", &mut command)?;
        let said: Value =
            serde_json::from_str(&line).context("the stand-in does not say where it listens")?;
        let address = |key: &str| {
            let address = said[key].as_str().map(ToOwned::to_owned);
            address.with_context(|| format!("the stand-in does not say its {key}"))
        };
        Ok(Self {
            program: program.to_path_buf(),
            folder: folder.to_path_buf(),
            api_url: address("api_url")?,
            git_url: address("git_url")?,
            web_url: address("web_url")?,
            token_file,
            hook_secret_file,
        })
    }

    /// Points the repository's hook at `hook_url`.
    ///
    /// # Errors
    /// What the stand-in said.
    pub(super) fn connect(&self, hook_url: &str) -> Result<()> {
        let secret = self.hook_secret_file.to_string_lossy();
        self.ask(&["seed", "--hook-url", hook_url, "--hook-secret-file", &secret]).map(drop)
    }

    /// Opens an issue as a person and returns its number.
    ///
    /// # Errors
    /// What the stand-in said.
    pub(super) fn open_issue(&self, title: &str, body: &str) -> Result<u64> {
        let number = self.ask(&["issue", "--repository", REPOSITORY, "--title", title, "--body", body])?;
        number.trim().parse().context("the stand-in does not say which issue it opened")
    }

    /// Puts a label on an issue as a person, which sends the delivery.
    ///
    /// # Errors
    /// What the stand-in said.
    pub(super) fn label(&self, issue: u64, label: &str) -> Result<()> {
        self.ask(&["label", REPOSITORY, &issue.to_string(), label]).map(drop)
    }

    /// The pull request's changes.
    ///
    /// # Errors
    /// What the stand-in said.
    pub(super) fn diff(&self, pull_request_url: &str) -> Result<String> {
        let number = pull_request_url.rsplit('/').next().unwrap_or_default();
        self.ask(&["show", "pull", REPOSITORY, number, "--diff"])
    }

    /// The text of a comment on an issue.
    ///
    /// # Errors
    /// What the stand-in said, or that the comment is not there.
    pub(super) fn comment(&self, issue: u64, comment_url: &str) -> Result<String> {
        let id: Option<u64> = comment_url.rsplit('-').next().and_then(|id| id.parse().ok());
        let comments = self.ask(&["show", "comments", REPOSITORY, &issue.to_string()])?;
        let comments: Vec<Value> = serde_json::from_str(&comments).context("comments are a list")?;
        let found = comments.iter().find(|comment| id.is_some() && comment["id"].as_u64() == id);
        let body = found.and_then(|comment| comment["body"].as_str());
        body.map(ToOwned::to_owned)
            .with_context(|| format!("there is no comment {comment_url} on issue {issue}"))
    }

    /// One of its commands.
    fn ask(&self, words: &[&str]) -> Result<String> {
        let mut command = subprocess::command(&self.program, &self.folder);
        output(command.args(["--server", &self.web_url]).args(words))
    }
}
