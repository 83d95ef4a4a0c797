//! Commands about Apps, and the App the server can start with.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use serde_json::{Map, Value, json};
use webhook_simulator::{Simulator, USUAL_PERMISSIONS};

use crate::{Control, print, secret_of, write_secret};

#[derive(Debug, Subcommand)]
pub(crate) enum AppCommand {
    /// Register an App and install it nowhere; writes its ids as JSON, its key beside it
    Create {
        /// Name in addresses; its bot is SLUG[bot]
        slug: String,
        /// File the ids are written to; the private key goes to FILE.pem
        #[arg(long)]
        app_file: PathBuf,
    },
    /// Set where an App's deliveries go
    Hook {
        /// Id of the App
        app: u64,
        /// Address
        url: String,
        /// File that holds the secret deliveries are signed with
        #[arg(long)]
        secret_file: PathBuf,
    },
    /// Install an App on an account; prints the installation's id
    Install {
        /// Id of the App
        app: u64,
        /// Login
        account: String,
        /// Repository, as OWNER/NAME; may be given more than once [default: all of the account]
        #[arg(long = "repository", value_name = "REPOSITORY")]
        repositories: Vec<String>,
        /// Permission, such as issues=write; may be given more than once [default: what Callboard needs]
        #[arg(long = "permission", value_name = "NAME=LEVEL", value_parser = permission)]
        permissions: Vec<(String, String)>,
    },
    /// Suspend an installation
    Suspend {
        /// Id of the installation
        installation: u64,
    },
    /// End a suspension
    Unsuspend {
        /// Id of the installation
        installation: u64,
    },
    /// Take an installation away
    Uninstall {
        /// Id of the installation
        installation: u64,
    },
    /// End the life of all installation tokens
    ExpireTokens,
}

/// `issues=write`
fn permission(text: &str) -> Result<(String, String), String> {
    let (name, level) = text.split_once('=').ok_or("write it as NAME=LEVEL, such as issues=write")?;
    Ok((name.to_owned(), level.to_owned()))
}

pub(crate) async fn run(control: &Control, command: AppCommand) -> anyhow::Result<()> {
    let change = async |installation: u64, change: &str| {
        control.post(&format!("installations/{installation}/{change}"), &json!({})).await.map(drop)
    };
    match command {
        AppCommand::Create { slug, app_file } => {
            let app = control.post("apps", &json!({ "slug": slug })).await?;
            let key = app["private_key"].as_str().context("the stand-in answered without a key")?;
            write(&app_file, &app["id"], &app["client_id"], key)?;
            print(&app["id"])
        }
        AppCommand::Hook { app, url, secret_file } => {
            let new = json!({ "url": url, "secret": secret_of(&secret_file)? });
            control.post(&format!("apps/{app}/hook"), &new).await.map(drop)
        }
        AppCommand::Install { app, account, repositories, permissions } => {
            let permissions: Map<String, Value> =
                permissions.into_iter().map(|(name, level)| (name, json!(level))).collect();
            let new = json!({
                "app": app, "account": account, "repositories": repositories, "permissions": permissions,
            });
            print(&control.post("installations", &new).await?["id"])
        }
        AppCommand::Suspend { installation } => change(installation, "suspend").await,
        AppCommand::Unsuspend { installation } => change(installation, "unsuspend").await,
        AppCommand::Uninstall { installation } => change(installation, "uninstall").await,
        AppCommand::ExpireTokens => control.post("tokens/expire", &json!({})).await.map(drop),
    }
}

/// An App on all repositories of an account, for a server that starts.
pub(crate) fn install_one(simulator: &Simulator, account: &str, file: &Path) -> anyhow::Result<()> {
    let app = simulator.create_app("callboard", "", "")?;
    simulator.install_app(app.id, account, &[], &USUAL_PERMISSIONS)?;
    write(file, &json!(app.id), &json!(app.client_id), &app.private_key)
}

/// The App's ids in a file, its key in another one beside it.
fn write(file: &Path, id: &Value, client_id: &Value, key: &str) -> anyhow::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".pem");
    let beside = PathBuf::from(beside);
    write_secret(&beside, key)?;
    let app = json!({ "id": id, "client_id": client_id, "private_key_file": beside });
    write_secret(file, &format!("{app}\n"))
}
