//! Making a GitHub App: the manifest that describes it, and what GitHub gives for the code it
//! sends back once a person has created it.

use std::collections::BTreeMap;

use ::forge::{Capability, ForgeError, Result};
use http::header;
use http_body_util::{BodyExt, Limited};
use octocrab::Octocrab;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{client::Endpoint, failure, forge::grants, webhook::EVENTS};

/// Characters of an App's name, at GitHub.
pub const LONGEST_NAME: usize = 34;
/// Bytes of an answer; it has a key in it.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// An App as GitHub is told to make it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// Its name; unique at GitHub.
    pub name: String,
    /// Its page, for people.
    pub url: String,
    /// Where its deliveries go.
    pub hook_attributes: HookAttributes,
    /// Where GitHub sends the browser with the code.
    pub redirect_url: String,
    /// False: only its owner can install it.
    pub public: bool,
    /// What it may do, by GitHub's names.
    pub default_permissions: BTreeMap<&'static str, &'static str>,
    /// What it is told of.
    pub default_events: Vec<&'static str>,
}

/// Where an App's deliveries go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookAttributes {
    /// The address.
    pub url: String,
    /// False: nothing is sent.
    pub active: bool,
}

/// What an App of ours may do: exactly what the platform makes use of.
pub fn permissions() -> BTreeMap<&'static str, &'static str> {
    let mut all = BTreeMap::new();
    for (name, level) in Capability::ALL.into_iter().flat_map(grants) {
        let held = all.entry(*name).or_insert(*level);
        if *held == "read" {
            *held = level;
        }
    }
    all
}

impl Manifest {
    /// An App of that name for the platform people reach at `public_url`, which has no slash at
    /// its end.
    pub fn new(name: &str, public_url: &str) -> Self {
        Self {
            name: name.to_owned(),
            url: public_url.to_owned(),
            hook_attributes: HookAttributes { url: format!("{public_url}/webhooks/github"), active: true },
            redirect_url: format!("{public_url}/"),
            public: false,
            default_permissions: permissions(),
            default_events: EVENTS.to_vec(),
        }
    }
}

/// An App that was just created. Its secrets are told this once.
#[derive(Debug, Deserialize)]
pub struct Created {
    /// Its id.
    pub id: u64,
    /// Its name in addresses.
    pub slug: String,
    /// Its page.
    pub html_url: String,
    /// Its private key, PEM.
    pub pem: SecretString,
    /// What its deliveries are signed with.
    pub webhook_secret: Option<SecretString>,
}

/// Exchanges the code that GitHub sent after an App was created from a manifest. A code is good
/// once, and for an hour. Must be called inside a tokio runtime.
///
/// # Errors
/// [`ForgeError::Missing`] when the code is not good any more, others as every call has them.
pub async fn convert(api_url: &Url, code: &str) -> Result<Created> {
    let outage = |error: &dyn std::fmt::Display| ForgeError::Outage { message: error.to_string() };
    let endpoint = Endpoint::ConvertManifest;
    let url = endpoint.url(api_url, None, &[code])?;
    let api = Octocrab::builder()
        .base_uri(api_url.as_str())
        .and_then(|builder| {
            builder
                .add_header(header::USER_AGENT, concat!("callboard/", env!("CARGO_PKG_VERSION")).to_owned())
                .build()
        })
        .map_err(|error| outage(&error))?;
    let request = http::request::Builder::new()
        .method(endpoint.method())
        .uri(url.path())
        .header(header::ACCEPT, "application/vnd.github+json");
    let request = api.build_request(request, None::<&()>).map_err(|error| outage(&error))?;
    let (parts, body) = api.execute(request).await.map_err(|error| outage(&error))?.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| outage(&error))?;
    let body = body.to_bytes();
    if !parts.status.is_success() {
        return Err(failure::classify(parts.status, &parts.headers, &body, str::to_owned));
    }
    // Its words may hold what it could not read.
    serde_json::from_slice(&body)
        .map_err(|_| ForgeError::Outage { message: "an answer that does not read as a new App".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_asks_for_what_is_used_and_nothing_else() {
        let manifest = Manifest::new("Callboard", "https://callboard.example.com");
        insta::assert_snapshot!(serde_json::to_string_pretty(&manifest).expect("JSON"));
    }
}
