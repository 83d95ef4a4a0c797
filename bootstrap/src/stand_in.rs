//! `callboard up` without a file: a stand-in for GitHub with one repository, and a
//! configuration that points at it, all in a folder that vanishes at the end.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path};

use anyhow::Context;
use serde_json::json;
use webhook_simulator::Simulator;

use crate::{
    Options,
    config::{Config, load},
};

const REPOSITORY: &str = "octocat/hello-world";
const OWNER: &str = "octocat";
const SOURCE: &str = "hello-world";

#[derive(Debug)]
pub(crate) struct StandIn {
    simulator: Simulator,
    config: Config,
    folder: tempfile::TempDir,
    secret: String,
}

impl StandIn {
    /// Starts the stand-in and writes the configuration.
    pub(crate) async fn start(options: Options) -> anyhow::Result<Self> {
        let agent = std::env::current_exe()?.with_file_name("scripted-agent");
        anyhow::ensure!(
            agent.exists(),
            "without a file `up` plays with a scripted agent, and there is none beside this program\n\n\
             hint: `cargo build --workspace` makes it; or name your own set-up with --config FILE"
        );
        let folder = tempfile::Builder::new().prefix("callboard-").tempdir()?;
        // Postgres and agents run as other users below it when this is root.
        let shared = if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 };
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(shared))?;
        let simulator = Simulator::start(webhook_simulator::Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data: folder.path().join("stand-in"),
            clock: options.clock,
            ids: options.ids.clone(),
        })
        .await?;
        simulator.add_user(OWNER, false);
        simulator.create_repository(REPOSITORY, false, &[("README.md", "# Hello, world\n")]).await?;
        let secret: [u8; 16] = options.ids.bytes();
        let secret: String = secret.iter().map(|b| format!("{b:02x}")).collect();
        let config = write(folder.path(), &simulator, &agent, &secret)?;
        Ok(Self { simulator, config, folder, secret })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Points the repository's webhook at the platform.
    pub(crate) fn connect(&self, api: SocketAddr) -> anyhow::Result<()> {
        self.simulator.add_hook(
            REPOSITORY,
            &format!("http://{api}/webhooks/github/{SOURCE}"),
            &self.secret,
        )?;
        Ok(())
    }

    /// What a person can do now.
    pub(crate) fn instructions(&self) -> String {
        let url = self.simulator.web_url();
        format!(
            "\nThe platform is up, with a stand-in for GitHub at {url}. Try it in another terminal:\n\n  \
             webhook-simulator issue --server {url} --title 'Say hello' --body 'Please.'\n  \
             webhook-simulator label --server {url} {REPOSITORY} 1 run:dev\n  \
             callboard --config {} run list\n\nCtrl-C ends it, and nothing of it stays.\n",
            self.folder.path().join("callboard.yaml").display()
        )
    }

    pub(crate) async fn stop(self) {
        self.simulator.shutdown().await;
    }
}

fn write(folder: &Path, simulator: &Simulator, agent: &Path, secret: &str) -> anyhow::Result<Config> {
    fs::write(folder.join("token"), simulator.add_token(OWNER)?)?;
    fs::write(folder.join("webhook-secret"), secret)?;
    for private in ["token", "webhook-secret"] {
        fs::set_permissions(folder.join(private), fs::Permissions::from_mode(0o600))?;
    }
    let path = folder.join("callboard.yaml");
    // JSON is YAML.
    let text = json!({
        "data_dir": folder.join("data"),
        "github": { "api_url": simulator.api_url(), "web_url": simulator.web_url(), "git_url": simulator.git_url(), "token_file": "token", "list_lag_seconds": 0 },
        "projects": [{ "name": "demo", "repositories": [{ "name": REPOSITORY, "source": SOURCE, "webhook_secret_file": "webhook-secret" }] }],
        "agents": { "default": "command", "command": { "argv": [agent] } },
    });
    fs::write(&path, serde_json::to_string_pretty(&text)?)?;
    load(&path, &|name| std::env::var(name).ok()).context("the stand-in's own configuration")
}
