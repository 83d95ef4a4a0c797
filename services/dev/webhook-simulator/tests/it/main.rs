//! The stand-in, seen from outside: by git, by octocrab, by plain HTTP and by a hook.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop right there")]

mod app_hooks;
mod apps;
mod checks;
mod contents;
mod faults;
mod forge;
mod forge_app;
mod git;
mod history;
mod hooks;
mod octocrab_client;
mod program;
mod pulls;
mod rest;

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{clock::Clock, ids::Ids};
use serde_json::Value;
use webhook_simulator::{Options, Simulator};

pub(crate) const REPOSITORY: &str = "octocat/hello-world";

/// Always the same time.
#[derive(Debug)]
pub(crate) struct Stopped(pub(crate) DateTime<Utc>);

impl Clock for Stopped {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }
}

/// Goes on when told.
#[derive(Debug)]
pub(crate) struct Hand(Mutex<DateTime<Utc>>);

impl Hand {
    pub(crate) fn at_noon() -> Arc<Self> {
        Arc::new(Self(Mutex::new("2026-03-01T12:00:00Z".parse().unwrap())))
    }

    pub(crate) fn pass(&self, seconds: i64) {
        *self.0.lock().unwrap() += TimeDelta::seconds(seconds);
    }
}

impl Clock for Hand {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

/// A stand-in with `octocat/hello-world`, and octocat's token.
pub(crate) struct Fixture {
    pub(crate) github: Simulator,
    pub(crate) token: String,
    pub(crate) http: reqwest::Client,
    pub(crate) folder: tempfile::TempDir,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(Arc::new(Stopped("2026-03-01T12:00:00Z".parse().unwrap()))).await
    }

    pub(crate) async fn with(clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ids = Ids::seeded(clock.clone(), 1);
        let options = Options::new(folder.path().join("github"), clock, ids);
        let github = Simulator::start(options).await.unwrap();
        let files = [("README.md", "# Hello\n"), ("src/greeting.sh", "#!/bin/sh\necho hello\n")];
        github.create_repository(REPOSITORY, false, &files).await.unwrap();
        let token = github.add_token("octocat").unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { github, token, http, folder }
    }

    /// A request under `/repos/octocat/hello-world`, or elsewhere when the path starts with
    /// a slash; as octocat.
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.token)
    }

    pub(crate) fn anonymous(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let base = self.github.api_url();
        let url = match path.strip_prefix('/') {
            Some(path) => format!("{base}/{path}"),
            None => format!("{base}/repos/{REPOSITORY}/{path}"),
        };
        self.http.request(method.parse().unwrap(), url)
    }

    /// Status and JSON of an answer.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = self.request(method, path);
        answer(if body.is_null() { request } else { request.json(&body) }).await
    }

    /// Address of the repository with octocat's token in it.
    pub(crate) fn remote(&self) -> String {
        let origin = self.github.git_url().replacen("http://", "", 1);
        format!("http://x-access-token:{}@{origin}/{REPOSITORY}.git", self.token)
    }
}

pub(crate) async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Runs git; success, and both outputs.
pub(crate) async fn run_git(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = tokio::process::Command::from(subprocess::command("git", folder))
        .args(["-c", "user.name=Mona", "-c", "user.email=mona@example.com"])
        .args(arguments)
        .env("HOME", folder)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .await
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Runs git, which has to succeed.
pub(crate) async fn git(folder: &Path, arguments: &[&str]) -> String {
    let (done, text) = run_git(folder, arguments).await;
    assert!(done, "git {arguments:?}: {text}");
    text
}
