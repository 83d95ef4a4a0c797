//! `github:` where the code host is, and who we are there.

use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

/// The code host.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Keys")]
pub struct Github {
    /// REST.
    pub api_url: Url,
    /// What people open.
    pub web_url: Url,
    /// Clone source.
    pub git_url: Url,
    /// Who we are.
    pub credential: GithubCredential,
    /// Seconds after which a list shows what was made. So long a comment whose fate is unknown
    /// is not looked for; six times as long a second one is.
    pub list_lag_seconds: u32,
}

/// Who we are at the code host.
#[derive(Clone, Debug)]
pub enum GithubCredential {
    /// An App, with tokens for each repository and purpose.
    App(GithubApp),
    /// The file of a person's token, for small set-ups.
    Token(PathBuf),
}

/// A GitHub App.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GithubApp {
    /// Its id, or its client id.
    #[serde(deserialize_with = "number_or_text")]
    pub id: String,
    /// Its private key, PEM.
    pub private_key_file: PathBuf,
    /// Proves the deliveries of its webhook.
    pub webhook_secret_file: PathBuf,
    /// Still accepted while rotating.
    pub previous_webhook_secret_file: Option<PathBuf>,
}

/// The keys as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default = "default_api_url")]
    api_url: Url,
    #[serde(default = "default_web_url")]
    web_url: Url,
    #[serde(default = "default_web_url")]
    git_url: Url,
    app: Option<GithubApp>,
    token_file: Option<PathBuf>,
    #[serde(default = "default_list_lag")]
    list_lag_seconds: u32,
}

impl TryFrom<Keys> for Github {
    type Error = &'static str;

    fn try_from(keys: Keys) -> Result<Self, Self::Error> {
        let credential = match (keys.app, keys.token_file) {
            (Some(app), None) => GithubCredential::App(app),
            (None, Some(file)) => GithubCredential::Token(file),
            (Some(_), Some(_)) => {
                return Err("has `app:` and `token_file:`, and the platform is one of them; leave one out");
            }
            (None, None) => {
                return Err(
                    "says not who the platform is; write `app:` (`callboard github app-manifest` makes one) or `token_file:`",
                );
            }
        };
        let Keys { api_url, web_url, git_url, list_lag_seconds, .. } = keys;
        Ok(Self { api_url, web_url, git_url, credential, list_lag_seconds })
    }
}

/// GitHub calls Apps by number, or by a client id that is text.
fn number_or_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "the App's id, or its client id")]
    enum Id {
        Number(u64),
        Text(String),
    }
    Ok(match Id::deserialize(deserializer)? {
        Id::Number(number) => number.to_string(),
        Id::Text(text) => text,
    })
}

fn default_list_lag() -> u32 {
    10
}

fn default_api_url() -> Url {
    Url::parse("https://api.github.com").expect("a constant URL")
}

fn default_web_url() -> Url {
    Url::parse("https://github.com").expect("a constant URL")
}
