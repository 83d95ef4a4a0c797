//! Read-only git of a run's repository, fetched with a credential that stays here.

use std::collections::HashMap;

use domain::names::RepositoryName;
use forge::{Forge, ForgeError};
use futures::StreamExt;
use http::StatusCode;
use proto::v1::GitFetchPart;
use secrecy::{ExposeSecret, SecretString};
use tonic::Status;
use url::Url;

use crate::settings::Upstream;

/// Request headers that git needs upstream; nothing else is passed on.
const REQUEST_HEADERS: [&str; 4] = ["git-protocol", "content-type", "content-encoding", "accept"];
/// Response headers that git needs back.
const RESPONSE_HEADERS: [&str; 2] = ["content-type", "cache-control"];
/// Bytes of one part of an answer.
const PART_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(crate) struct GitUpstream {
    client: reqwest::Client,
    base: Url,
}

/// One of the two requests of a fetch.
#[derive(Clone, Debug)]
pub(crate) enum FetchStep {
    /// `GET info/refs?service=git-upload-pack`
    Refs,
    /// `POST git-upload-pack`
    UploadPack(Vec<u8>),
}

impl GitUpstream {
    pub(crate) fn new(upstream: &Upstream) -> anyhow::Result<Self> {
        anyhow::ensure!(
            matches!(upstream.git_url.scheme(), "http" | "https"),
            "github.git_url must be http:// or https://, not {}://",
            upstream.git_url.scheme()
        );
        let client = reqwest::Client::builder()
            .connect_timeout(std::time::Duration::from_secs(10))
            .read_timeout(std::time::Duration::from_secs(60))
            // A redirect could carry the credential to another host.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { client, base: upstream.git_url.clone() })
    }

    /// Asks the code host and streams its answer; the first part carries the status, too. A
    /// credential that is refused is asked for anew, once.
    pub(crate) async fn fetch(
        &self,
        forge: &dyn Forge,
        repository: &RepositoryName,
        step: FetchStep,
        headers: &HashMap<String, String>,
    ) -> Result<(StatusCode, impl futures::Stream<Item = Result<GitFetchPart, Status>> + Send + use<>), Status>
    {
        let credential = || async {
            forge.git_credential(repository).await.map_err(|error| no_credential(repository, &error))
        };
        let mut answer = self.ask(repository, step.clone(), headers, &credential().await?).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            forge.forget_access(repository);
            answer = self.ask(repository, step, headers, &credential().await?).await?;
        }
        let status = answer.status();
        let first = GitFetchPart {
            status: u32::from(status.as_u16()),
            headers: RESPONSE_HEADERS
                .iter()
                .filter_map(|n| Some(((*n).to_owned(), answer.headers().get(*n)?.to_str().ok()?.to_owned())))
                .collect(),
            data: Vec::new(),
        };
        let body = answer.bytes_stream().flat_map(|chunk| {
            let parts: Vec<_> = match chunk {
                Ok(bytes) => bytes
                    .chunks(PART_BYTES)
                    .map(|data| Ok(GitFetchPart { status: 0, headers: HashMap::new(), data: data.to_vec() }))
                    .collect(),
                Err(_) => vec![Err(Status::unavailable("the code host's answer broke off"))],
            };
            futures::stream::iter(parts)
        });
        Ok((status, futures::stream::once(async { Ok(first) }).chain(body)))
    }

    async fn ask(
        &self,
        repository: &RepositoryName,
        step: FetchStep,
        headers: &HashMap<String, String>,
        credential: &SecretString,
    ) -> Result<reqwest::Response, Status> {
        let path = format!("{}/{}.git/", self.base.as_str().trim_end_matches('/'), repository);
        let mut request = match step {
            FetchStep::Refs => self.client.get(format!("{path}info/refs?service=git-upload-pack")),
            FetchStep::UploadPack(body) => self.client.post(format!("{path}git-upload-pack")).body(body),
        };
        for (name, value) in headers {
            if REQUEST_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                request = request.header(name, value);
            }
        }
        let request = request.basic_auth("x-access-token", Some(credential.expose_secret()));
        request.send().await.map_err(|error| {
            tracing::warn!(%repository, error = %telemetry::logging::chain(&error.without_url()), "the code host's git does not answer");
            Status::unavailable("the code host's git does not answer")
        })
    }
}

/// What git is told when there is nothing to ask with.
fn no_credential(repository: &RepositoryName, error: &ForgeError) -> Status {
    tracing::warn!(%repository, %error, "no credential for the code host's git");
    match error {
        ForgeError::Denied { .. } | ForgeError::Missing { .. } => {
            Status::permission_denied("the code host does not let the platform read this repository")
        }
        ForgeError::Limited { .. }
        | ForgeError::BadCredential { .. }
        | ForgeError::Conflict { .. }
        | ForgeError::Invalid { .. }
        | ForgeError::Unsupported { .. }
        | ForgeError::Outage { .. } => Status::unavailable("the code host gives no credential now"),
    }
}
