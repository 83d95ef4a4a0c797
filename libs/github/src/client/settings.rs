//! Where the API is and who we are there.

use std::{sync::Arc, time::Duration};

use domain::clock::Clock;
use secrecy::SecretString;
use url::Url;

/// How we prove who we are.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A person's token, classic or fine-grained. It cannot be narrowed to one repository.
    PersonalAccessToken(SecretString),
    /// An App, which mints a token for each repository and purpose.
    App {
        /// Its id or its client id; GitHub takes either.
        id: String,
        /// Its private key, PEM.
        private_key: SecretString,
    },
}

/// Where the API is and who we are there.
#[derive(Clone, Debug)]
pub struct GithubSettings {
    /// `https://api.github.com`, or `https://host/api/v3` of an Enterprise Server.
    pub api_url: Url,
    /// Who we are.
    pub credential: Credential,
    /// Tokens and rate limits end at a point in time.
    pub clock: Arc<dyn Clock>,
    /// How long a list may not show yet what was made.
    pub list_lag: Duration,
}

/// Settings that cannot work.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SetupError {
    /// Not an address of an API.
    #[error(
        "github.api_url must be http(s)://host[/path] without a user name or query, such as https://api.github.com"
    )]
    ApiUrl,
    /// Not a token at all: it is empty or has characters no token has.
    #[error(
        "the GitHub token is empty or has spaces or control characters in it; check the file it is read from"
    )]
    Token,
    /// Neither an id nor a client id of an App.
    #[error(
        "the App's id is empty or has spaces in it; it is the App ID or Client ID on the App's settings page"
    )]
    AppId,
    /// Not a key an App could sign with.
    #[error("the App's private key is not an RSA key in PEM: {0}; make a new one on the App's settings page")]
    Key(String),
    /// The HTTP client cannot be made, for example because the machine has no CA certificates.
    #[error("the GitHub client cannot be set up: {0}")]
    Client(String),
}
