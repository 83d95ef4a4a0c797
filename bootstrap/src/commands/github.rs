//! `callboard github …`: nothing of it needs a running platform.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Subcommand;
use forge::ForgeError;
use github::app::{LONGEST_NAME, Manifest, convert};
use secrecy::ExposeSecret;
use serde::Serialize;
use url::Url;

use super::{
    CommandError, Result,
    output::{Format, complain, print},
};
use crate::{config::Config, data_dir::write_private};

/// The files that hold an App's secrets.
const KEY_FILE: &str = "github-app.private-key.pem";
const SECRET_FILE: &str = "github-app.webhook-secret";

#[derive(Debug, Subcommand)]
pub(crate) enum GithubCommand {
    /// Makes the GitHub App: prints its manifest, writes a page that creates it with one click,
    /// and fetches its key with the code GitHub sends back.
    AppManifest(Box<AppManifest>),
}

#[derive(Debug, clap::Args)]
pub(crate) struct AppManifest {
    /// The App's name, unique at GitHub.
    #[arg(long, default_value = "Callboard")]
    name: String,
    /// Where people and GitHub reach the platform; absent: public_url of the configuration.
    #[arg(long, value_name = "URL")]
    public_url: Option<Url>,
    /// The organization that is to own the App; absent: your own account.
    #[arg(long, value_name = "ORG")]
    organization: Option<String>,
    /// GitHub's pages; absent: github.web_url of the configuration, or https://github.com.
    #[arg(long, value_name = "URL")]
    web_url: Option<Url>,
    /// GitHub's API; absent: github.api_url of the configuration, or https://api.github.com.
    #[arg(long, value_name = "URL")]
    api_url: Option<Url>,
    /// Writes a page that creates the App: open it in a browser and press its button.
    #[arg(long, value_name = "FILE", conflicts_with = "code")]
    html: Option<PathBuf>,
    /// The code GitHub sent the browser back with; good once, and for an hour.
    #[arg(long, requires = "into")]
    code: Option<String>,
    /// Where key and webhook secret go, as files only you can read.
    #[arg(long, value_name = "DIR", requires = "code")]
    into: Option<PathBuf>,
}

/// What goes into `callboard.yaml`.
#[derive(Serialize)]
struct Block {
    github: Keys,
}

#[derive(Serialize)]
struct Keys {
    app: App,
}

#[derive(Serialize)]
struct App {
    id: u64,
    private_key_file: PathBuf,
    webhook_secret_file: PathBuf,
}

impl GithubCommand {
    pub(crate) async fn run(self, config: Option<&Config>, format: Format) -> Result<()> {
        match self {
            Self::AppManifest(asked) => asked.run(config, format).await,
        }
    }
}

fn address(given: Option<&Url>, configured: Option<&Url>, usual: &str) -> String {
    let address = given.or(configured).map_or(usual, Url::as_str);
    address.trim_end_matches('/').to_owned()
}

impl AppManifest {
    async fn run(self, config: Option<&Config>, format: Format) -> Result<()> {
        if let (Some(code), Some(into)) = (&self.code, &self.into) {
            let configured = config.map(|config| &config.github.api_url);
            let api_url = address(self.api_url.as_ref(), configured, "https://api.github.com");
            return fetch(&api_url.parse()?, code, into, format).await;
        }
        let given = self.public_url.as_ref().or(config.and_then(|config| config.public_url.as_ref()));
        let Some(public_url) = given.filter(|url| matches!(url.scheme(), "http" | "https")) else {
            return Err(CommandError::Usage(
                "where is the platform to be reached? Write --public-url https://…, or public_url in the configuration"
                    .to_owned(),
            ));
        };
        if self.name.trim().is_empty() || self.name.chars().count() > LONGEST_NAME {
            return Err(CommandError::Usage(format!("--name: 1 to {LONGEST_NAME} characters")));
        }
        let manifest = Manifest::new(&self.name, public_url.as_str().trim_end_matches('/'));
        if let Some(file) = &self.html {
            let configured = config.map(|config| &config.github.web_url);
            let web_url = address(self.web_url.as_ref(), configured, "https://github.com");
            let action = match &self.organization {
                Some(organization) => {
                    format!("{web_url}/organizations/{}/settings/apps/new", escaped(organization))
                }
                None => format!("{web_url}/settings/apps/new"),
            };
            let text = page(&manifest, &action)?;
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
            complain(&format!(
                "Open {} in a browser and press its button. GitHub then sends the browser to {}?code=…, which may show nothing: \
                 copy the code from its address and run\n\n  callboard github app-manifest --code CODE --into DIR\n",
                file.display(),
                manifest.redirect_url,
            ));
        }
        print(format, &manifest, |manifest| serde_json::to_string_pretty(manifest).unwrap_or_default())
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A page with one button.
fn page(manifest: &Manifest, action: &str) -> Result<String> {
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Create the GitHub App</title>\n\
         <form method=\"post\" action=\"{action}\">\n\
         <input type=\"hidden\" name=\"manifest\" value=\"{}\">\n\
         <button>Create the GitHub App “{}”</button>\n</form>\n</html>\n",
        escaped(&serde_json::to_string(manifest)?),
        escaped(&manifest.name),
    ))
}

/// Exchanges the code for the App's secrets, and writes them down.
async fn fetch(api_url: &Url, code: &str, into: &Path, format: Format) -> Result<()> {
    // Before the code is used up: it is good once.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(into)
        .with_context(|| format!("cannot make {}", into.display()))?;
    let into = fs::canonicalize(into).with_context(|| format!("cannot look at {}", into.display()))?;
    let (key, secret) = (into.join(KEY_FILE), into.join(SECRET_FILE));
    for file in [&key, &secret] {
        if file.exists() {
            let problem = format!("{} is there already; name another folder with --into", file.display());
            return Err(CommandError::Failed(anyhow::anyhow!(problem)));
        }
    }
    let created = match convert(api_url, code).await {
        Ok(created) => created,
        Err(ForgeError::Missing { .. }) => {
            return Err(CommandError::Failed(anyhow::anyhow!(
                "GitHub does not take the code: it is good once, and for an hour. Make the App's key and webhook secret anew on its settings page."
            )));
        }
        Err(error) => return Err(error.into()),
    };
    write_private(&key, created.pem.expose_secret().as_bytes())
        .with_context(|| format!("cannot write {}", key.display()))?;
    let given = created.webhook_secret.as_ref().map(ExposeSecret::expose_secret);
    let given = given.context("GitHub gave no webhook secret; set one on the App's settings page")?;
    write_private(&secret, given.as_bytes()).with_context(|| format!("cannot write {}", secret.display()))?;
    let app = App { id: created.id, private_key_file: key, webhook_secret_file: secret };
    let block = Block { github: Keys { app } };
    let written = serde_yaml::to_string(&block)?;
    print(format, &block, |_| written.trim_end().to_owned())?;
    complain(&format!(
        "\nPut this into callboard.yaml, then install the App on your repositories: {}/installations/new",
        created.html_url
    ));
    Ok(())
}
