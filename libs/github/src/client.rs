//! The one door to the API: every call is made, timed, counted and judged here.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::forge::{ForgeError, Result};
use bytes::Bytes;
use domain::{clock::Clock, names::RepositoryName};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use octocrab::{Octocrab, service::middleware::retry::RetryConfig};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::failure;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Silence on the connection, in either direction, before it counts as broken.
const SILENT_FOR: Duration = Duration::from_secs(15);
/// A server that trickles is given up as well.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// A page of 100 comments of the greatest length is about 26 MB.
const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;
/// Items on a page of a list; GitHub gives no more.
pub(crate) const PER_PAGE: usize = 100;
const JSON: &str = "application/vnd.github+json";
const RAW: &str = "application/vnd.github.raw+json";

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

/// What a call is for. An App's token carries the permissions for that and no others; a personal
/// access token cannot be narrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Looking at anything.
    Read,
    /// Comments, labels, reactions, reviews, pull requests.
    Talk,
    /// Commits and branches.
    Publish,
    /// Progress on a commit.
    Progress,
    /// A repository's webhook.
    Hooks,
    /// Cloning.
    Clone,
}

/// Where the API is and who we are there.
#[derive(Clone, Debug)]
pub struct GithubSettings {
    /// `https://api.github.com`, or `https://host/api/v3` of an Enterprise Server.
    pub api_url: Url,
    /// Who we are.
    pub credential: Credential,
    /// Rate limits end at a point in time.
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
    /// Not a key an App could sign with.
    #[error("the App's private key is not an RSA key in PEM: {0}; make a new one on the App's settings page")]
    Key(String),
    /// The HTTP client cannot be made, for example because the machine has no CA certificates.
    #[error("the GitHub client cannot be set up: {0}")]
    Client(String),
}

/// Everything goes through here, so that a credential per repository changes nothing else.
pub(crate) struct Client {
    api: Octocrab,
    base: Url,
    token: SecretString,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl Client {
    /// Must be called inside a tokio runtime: the HTTP client has a task of its own.
    pub(crate) fn new(settings: GithubSettings) -> std::result::Result<Self, SetupError> {
        let GithubSettings { api_url: base, credential, clock, list_lag: _ } = settings;
        let plain = base.username().is_empty() && base.password().is_none() && base.query().is_none();
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() || !plain {
            return Err(SetupError::ApiUrl);
        }
        let token = match credential {
            Credential::PersonalAccessToken(token) => SecretString::from(token.expose_secret().trim()),
            Credential::App { .. } => return Err(SetupError::Key("not built yet".to_owned())),
        };
        // octocrab would panic on a token that is no header value.
        let printable = token.expose_secret().bytes().all(|b| b.is_ascii_graphic());
        if token.expose_secret().is_empty() || !printable {
            return Err(SetupError::Token);
        }
        let setup = |error: octocrab::Error| SetupError::Client(chain(&error));
        let api = Octocrab::builder()
            .base_uri(base.as_str())
            .map_err(setup)?
            .personal_token(token.clone())
            // Its retries repeat writes whose outcome is unknown. Ours look first.
            .add_retry_config(RetryConfig::None)
            .set_connect_timeout(Some(CONNECT_WITHIN))
            .set_read_timeout(Some(SILENT_FOR))
            .set_write_timeout(Some(SILENT_FOR))
            .add_header(header::USER_AGENT, concat!("callboard/", env!("CARGO_PKG_VERSION")).to_owned())
            .build()
            .map_err(setup)?;
        Ok(Self { api, base, token, clock })
    }

    /// Calls about one repository, with no more permission than their purpose takes.
    pub(crate) fn for_repository<'a>(
        &'a self,
        repository: &'a RepositoryName,
        purpose: Purpose,
    ) -> Scope<'a> {
        Scope { client: self, repository: Some(repository), purpose }
    }

    /// Calls about ourselves.
    pub(crate) fn for_ourselves(&self) -> Scope<'_> {
        Scope { client: self, repository: None, purpose: Purpose::Read }
    }

    /// Path and query below the API's own path, each segment percent-encoded. The result
    /// starts with the base path, which is where octocrab leaves it alone.
    fn uri(&self, repository: Option<&RepositoryName>, path: &[&str], query: &[(&str, &str)]) -> Result<Uri> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty();
            if let Some(repository) = repository {
                segments.extend(["repos", repository.owner(), repository.name()]);
            }
            segments.extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let text =
            url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        text.parse().map_err(|_| ForgeError::Invalid {
            message: "a name that cannot be part of an address".to_owned(),
        })
    }

    async fn call(&self, method: Method, uri: Uri, accept: &str, body: Option<&Value>) -> Result<Answer> {
        let path = uri.path().to_owned();
        let started = Instant::now();
        let request =
            http::request::Builder::new().method(method.clone()).uri(uri).header(header::ACCEPT, accept);
        let sent = tokio::time::timeout(ANSWER_WITHIN, self.exchange(request, body)).await;
        let seen =
            sent.unwrap_or_else(|_| Err(format!("no whole answer within {} s", ANSWER_WITHIN.as_secs())));
        let status = seen.as_ref().map_or(0, |(status, ..)| status.as_u16());
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(%method, path, status, duration_ms, "called GitHub");
        let (status, headers, body) =
            seen.map_err(|message| ForgeError::Outage { message: self.censored(&message) })?;
        if let Some(remaining) =
            failure::number(&headers, "x-ratelimit-remaining").and_then(|n| u32::try_from(n).ok())
        {
            metrics::gauge!("callboard_github_rate_limit_remaining", "installation" => "token")
                .set(f64::from(remaining));
        }
        if status.is_success() {
            Ok(Answer { headers, body })
        } else {
            Err(failure::classify(status, &headers, &body, self.clock.now(), |words| self.censored(words)))
        }
    }

    async fn exchange(
        &self,
        request: http::request::Builder,
        body: Option<&Value>,
    ) -> std::result::Result<(StatusCode, HeaderMap, Bytes), String> {
        let request = self.api.build_request(request, body).map_err(|error| chain(&error))?;
        let (parts, body) = self.api.execute(request).await.map_err(|error| chain(&error))?.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| chain(&*error))?;
        Ok((parts.status, parts.headers, body.to_bytes()))
    }

    /// A server may repeat what it was sent; our token is not passed on.
    fn censored(&self, words: &str) -> String {
        words.replace(self.token.expose_secret(), "[token]")
    }
}

/// Calls with one credential: a repository's or our own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    client: &'a Client,
    repository: Option<&'a RepositoryName>,
    purpose: Purpose,
}

impl Scope<'_> {
    pub(crate) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Answer> {
        self.call(Method::GET, path, query, JSON, None).await
    }

    /// The file itself instead of a description of it.
    pub(crate) async fn get_raw(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Answer> {
        self.call(Method::GET, path, query, RAW, None).await
    }

    /// One page of a list.
    pub(crate) async fn page(&self, path: &[&str], page: u32) -> Result<Answer> {
        let (per_page, page) = (PER_PAGE.to_string(), page.to_string());
        self.get(path, &[("per_page", &per_page), ("page", &page)]).await
    }

    /// A list from its first page on, at most so many pages.
    pub(crate) async fn pages<T: DeserializeOwned>(&self, path: &[&str], most: u32) -> Result<Vec<T>> {
        let mut items = Vec::new();
        for page in 1..=most {
            let answer = self.page(path, page).await?;
            let read: Vec<T> = answer.json()?;
            let full = read.len() >= PER_PAGE;
            items.extend(read);
            if !answer.has_next_page(full) {
                return Ok(items);
            }
        }
        tracing::warn!(path = path.join("/"), pages = most, "a very long list; what comes later is not read");
        Ok(items)
    }

    pub(crate) async fn post(&self, path: &[&str], body: &Value) -> Result<Answer> {
        self.call(Method::POST, path, &[], JSON, Some(body)).await
    }

    /// A request that says everything by its address.
    pub(crate) async fn post_nothing(&self, path: &[&str]) -> Result<Answer> {
        self.call(Method::POST, path, &[], JSON, None).await
    }

    pub(crate) async fn patch(&self, path: &[&str], body: &Value) -> Result<Answer> {
        self.call(Method::PATCH, path, &[], JSON, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &[&str]) -> Result<Answer> {
        self.call(Method::DELETE, path, &[], JSON, None).await
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        accept: &str,
        body: Option<&Value>,
    ) -> Result<Answer> {
        let uri = self.client.uri(self.repository, path, query)?;
        self.client.call(method, uri, accept, body).await
    }
}

/// An answer of the 2xx kind.
#[derive(Debug)]
pub(crate) struct Answer {
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    /// The body. One that does not read is an outage: what was done is not known.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .map_err(|error| ForgeError::Outage { message: format!("an answer that does not read: {error}") })
    }

    /// True when the body is JSON, and not a file that was asked for.
    pub(crate) fn is_json(&self) -> bool {
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        kind.is_some_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json"))
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.body
    }

    /// True when the list goes on; a server without links says so by full pages.
    pub(crate) fn has_next_page(&self, full: bool) -> bool {
        self.linked_page("next").map_or(full, |next| next.is_some())
    }

    /// The page number of a `Link`, `next` or `last`; the outer `None` when there is no
    /// `Link` header at all. Only the number is taken: the address stays ours.
    pub(crate) fn linked_page(&self, relation: &str) -> Option<Option<u32>> {
        Some(self.linked(relation, "page")?.and_then(|page| page.parse().ok()))
    }

    /// Where a list goes on that is paged by cursor.
    pub(crate) fn next_cursor(&self) -> Option<String> {
        self.linked("next", "cursor").flatten()
    }

    /// A parameter of a `Link`; the outer `None` when there is no `Link` header at all.
    fn linked(&self, relation: &str, parameter: &str) -> Option<Option<String>> {
        let links = self.headers.get(header::LINK)?.to_str().ok()?;
        let relation = format!("rel=\"{relation}\"");
        let link = links.split(',').find(|link| link.split(';').skip(1).any(|part| part.trim() == relation));
        Some(link.and_then(|link| {
            let address = link.split(';').next()?.trim().trim_start_matches('<').trim_end_matches('>');
            let (_, query) = address.split_once('?')?;
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find_map(|(name, value)| (name == parameter).then(|| value.into_owned()))
        }))
    }
}

/// The whole chain of causes on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        // octocrab repeats its cause in its own words.
        if !words.ends_with(&cause_words) {
            words = format!("{words}: {cause_words}");
        }
        source = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge::tests::{noon, settings};

    fn path(base: &str, segments: &[&str], query: &[(&str, &str)]) -> String {
        let client = Client::new(settings(base)).expect("a client");
        let repository = "octocat/hello-world".parse().expect("a name");
        client.uri(Some(&repository), segments, query).expect("a path").to_string()
    }

    #[tokio::test]
    async fn segments_are_encoded_and_the_base_path_is_kept() {
        let github = "https://api.github.com";
        assert_eq!(path(github, &["issues", "1"], &[]), "/repos/octocat/hello-world/issues/1");
        assert_eq!(
            path(github, &["labels", "a/b c?#%ä\\"], &[]),
            "/repos/octocat/hello-world/labels/a%2Fb%20c%3F%23%25%C3%A4%5C"
        );
        assert_eq!(
            path(github, &["pulls"], &[("head", "o:a&b")]),
            "/repos/octocat/hello-world/pulls?head=o%3Aa%26b"
        );
        for enterprise in ["https://ghe.example/api/v3", "https://ghe.example/api/v3/"] {
            assert_eq!(path(enterprise, &["issues"], &[]), "/api/v3/repos/octocat/hello-world/issues");
        }
        // A base path that our own paths happen to begin with.
        assert_eq!(
            path("https://ghe.example/repos", &["issues"], &[]),
            "/repos/repos/octocat/hello-world/issues"
        );
    }

    #[tokio::test]
    async fn settings_that_cannot_work_are_refused_without_showing_them() {
        let with = |url: &str, token: &str| {
            let api_url = url.parse().expect("a URL");
            let credential = Credential::PersonalAccessToken(token.into());
            Client::new(GithubSettings { api_url, credential, clock: noon(), list_lag: Duration::ZERO })
        };
        for url in ["ftp://host", "https://user:secret@host", "https://host/?a=b", "data:text"] {
            let error = with(url, "ghp_token").expect_err(url);
            assert!(matches!(error, SetupError::ApiUrl) && !error.to_string().contains("secret"), "{error}");
        }
        for token in ["", "  \n", "two words", "line\nbreak", "gehe\u{fc}m"] {
            assert!(matches!(with("https://host", token), Err(SetupError::Token)), "{token}");
        }
        // The line break at the end of a token file is no part of the token.
        let client = with("https://host", "ghp_token\n").expect("a client");
        assert_eq!(client.token.expose_secret(), "ghp_token");
        assert!(!format!("{client:?}").contains("ghp_token"));
    }

    #[test]
    fn pages_are_read_from_links() {
        let answer = |link: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(link) = link {
                headers.insert(header::LINK, link.parse().expect("a header"));
            }
            Answer { headers, body: Bytes::new() }
        };
        let middle = answer(Some(
            "<https://api.github.com/x?per_page=100&page=3>; rel=\"next\", <https://api.github.com/x?per_page=100&page=12>; rel=\"last\"",
        ));
        assert_eq!(middle.linked_page("next"), Some(Some(3)));
        assert_eq!(middle.linked_page("last"), Some(Some(12)));
        assert_eq!(middle.linked_page("prev"), Some(None));
        assert_eq!(answer(None).linked_page("next"), None);
    }
}
