//! The one door to the API: every call is made, timed, counted and judged here.

mod answer;
mod budget;
mod cache;
mod endpoint;
mod jwt;
mod scope;
mod settings;
mod tokens;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ::forge::{Allowance, ForgeError, Result};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::{clock::Clock, names::RepositoryName};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use octocrab::{Octocrab, service::middleware::retry::RetryConfig};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

pub(crate) use self::{
    answer::Answer,
    scope::{PER_PAGE, Scope},
    tokens::{Grant, Installation, Purpose},
};
use self::{
    budget::{Budget, Hourly},
    cache::{Cache, Key},
    endpoint::Kind,
    jwt::Signer,
    scope::By,
    tokens::{App, held},
};
pub use self::{
    endpoint::Endpoint,
    settings::{Credential, GithubSettings, SetupError},
};
use crate::failure;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Silence on the connection, in either direction, before it counts as broken.
const SILENT_FOR: Duration = Duration::from_secs(15);
/// A server that trickles is given up as well.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// A page of 100 comments of the greatest length is about 26 MB.
const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;
const JSON: &str = "application/vnd.github+json";

/// Whose limits a call counts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Account {
    Token,
    App,
    Installation(u64),
}

impl Account {
    /// As metrics name it.
    fn label(self) -> String {
        match self {
            Self::Token => "token".to_owned(),
            Self::App => "app".to_owned(),
            Self::Installation(id) => id.to_string(),
        }
    }
}

/// What one call proves itself with.
struct Pass {
    secret: SecretString,
    account: Account,
}

/// A call before it is sent.
struct Call<'a> {
    endpoint: Endpoint,
    uri: Uri,
    accept: &'static str,
    body: Option<&'a Value>,
}

/// A call that did not do what it should.
struct Refusal {
    /// None without an answer.
    status: Option<StatusCode>,
    /// What the time is there.
    date: Option<DateTime<Utc>>,
    error: ForgeError,
}

impl From<ForgeError> for Refusal {
    fn from(error: ForgeError) -> Self {
        Self { status: None, date: None, error }
    }
}

enum Identity {
    Person(SecretString),
    App(Box<App>),
}

/// Everything goes through here.
pub(crate) struct Client {
    api: Octocrab,
    base: Url,
    identity: Identity,
    clock: Arc<dyn Clock>,
    budgets: Mutex<HashMap<Account, Budget>>,
    kept: Mutex<Cache>,
}

/// A call that counts to a budget until it is over, also when nobody waits for it any more.
struct UnderWay<'a> {
    client: &'a Client,
    account: Account,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.client.budget(self.account, Budget::over);
    }
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
        let identity = match credential {
            Credential::PersonalAccessToken(token) => {
                let token = token.expose_secret().trim();
                if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
                    return Err(SetupError::Token);
                }
                Identity::Person(token.into())
            }
            Credential::App { id, private_key } => {
                Identity::App(Box::new(App::new(Signer::new(&id, &private_key)?)))
            }
        };
        let setup = |error: octocrab::Error| SetupError::Client(chain(&error));
        let api = Octocrab::builder()
            .base_uri(base.as_str())
            .map_err(setup)?
            // Its retries repeat writes whose outcome is unknown. Ours look first.
            .add_retry_config(RetryConfig::None)
            .set_connect_timeout(Some(CONNECT_WITHIN))
            .set_read_timeout(Some(SILENT_FOR))
            .set_write_timeout(Some(SILENT_FOR))
            .add_header(header::USER_AGENT, concat!("callboard/", env!("CARGO_PKG_VERSION")).to_owned())
            .build()
            .map_err(setup)?;
        Ok(Self { api, base, identity, clock, budgets: Mutex::default(), kept: Mutex::default() })
    }

    /// Tells of every token that is minted.
    pub(crate) fn tell(&mut self, told: impl Fn(&SecretString) + Send + Sync + 'static) {
        match &mut self.identity {
            Identity::App(app) => app.told = Some(Box::new(told)),
            Identity::Person(_) => {}
        }
    }

    pub(crate) fn is_app(&self) -> bool {
        matches!(self.identity, Identity::App(_))
    }

    /// What was learnt of a repository's installation and its tokens is asked again.
    pub(crate) fn forget(&self, repository: &RepositoryName) {
        match &self.identity {
            Identity::App(app) => app.forget(repository),
            Identity::Person(_) => {}
        }
    }

    /// A token of that purpose, for a program that is not us.
    pub(crate) async fn credential(
        &self,
        repository: &RepositoryName,
        purpose: Purpose,
    ) -> Result<SecretString> {
        match &self.identity {
            Identity::Person(token) => Ok(token.clone()),
            Identity::App(app) => Ok(self.token(app, repository, purpose, None).await?.secret),
        }
    }

    /// What is left of the limits that calls about a repository count to. An App's installation
    /// there is known once it was looked up.
    pub(crate) fn allowance(&self, repository: &RepositoryName) -> Allowance {
        let account = match &self.identity {
            Identity::Person(_) => Account::Token,
            Identity::App(app) => match app.installation_of(repository) {
                Some(id) => Account::Installation(id),
                None => return Allowance::FULL,
            },
        };
        let now = self.clock.now();
        self.budget(account, |budget| budget.allowance(now))
    }

    fn budget<T>(&self, account: Account, of: impl FnOnce(&mut Budget) -> T) -> T {
        of(held(&self.budgets).entry(account).or_default())
    }

    /// Calls about one repository, with no more permission than their purpose takes.
    pub(crate) fn for_repository<'a>(
        &'a self,
        repository: &'a RepositoryName,
        purpose: Purpose,
    ) -> Scope<'a> {
        Scope { client: self, by: By::Repository(repository, purpose) }
    }

    /// Calls about the person whose token we have.
    pub(crate) fn for_ourselves(&self) -> Scope<'_> {
        Scope { client: self, by: By::Ourselves }
    }

    /// Calls about the App itself; unsupported without one.
    pub(crate) fn for_app(&self) -> Scope<'_> {
        Scope { client: self, by: By::App }
    }

    fn app(&self) -> Result<&App> {
        match &self.identity {
            Identity::App(app) => Ok(app),
            Identity::Person(_) => Err(ForgeError::Unsupported {
                message: "only a GitHub App has this, and the credential is a personal access token"
                    .to_owned(),
            }),
        }
    }

    fn person(&self) -> Result<Pass> {
        match &self.identity {
            Identity::Person(token) => Ok(Pass { secret: token.clone(), account: Account::Token }),
            Identity::App(_) => Err(ForgeError::Unsupported {
                message: "only a person has this, and the credential is a GitHub App's".to_owned(),
            }),
        }
    }

    /// A call without query and body. The address starts with the base path, which is where
    /// octocrab leaves it alone.
    fn prepared(
        &self,
        endpoint: Endpoint,
        repository: Option<&RepositoryName>,
        parts: &[&str],
    ) -> Result<Call<'static>> {
        let url = endpoint.url(&self.base, repository, parts)?;
        Ok(Call { endpoint, uri: relative(&url)?, accept: JSON, body: None })
    }

    /// A call about a repository. A token that is refused was refused before anything happened, so
    /// the call is made once more with a new one, whatever it does.
    async fn call_about(
        &self,
        repository: &RepositoryName,
        purpose: Purpose,
        call: &Call<'_>,
    ) -> Result<Answer> {
        let app = match &self.identity {
            Identity::App(app) => app,
            Identity::Person(_) => return self.send(&self.person()?, call).await.map_err(|r| r.error),
        };
        let mut pass = self.token(app, repository, purpose, None).await?;
        let mut sent = self.send(&pass, call).await;
        if sent.as_ref().is_err_and(|refusal| refusal.status == Some(StatusCode::UNAUTHORIZED)) {
            pass = self.token(app, repository, purpose, Some(&pass)).await?;
            sent = self.send(&pass, call).await;
        }
        match sent {
            Err(Refusal {
                error: error @ (ForgeError::Denied { .. } | ForgeError::BadCredential { .. }),
                ..
            }) => Err(self.explained(app, repository, purpose, error).await),
            sent => sent.map_err(|refusal| refusal.error),
        }
    }

    /// A call as the App itself. A statement may be refused because our clock is wrong.
    async fn call_as_app(&self, app: &App, call: &Call<'_>) -> Result<Answer> {
        let signed = |now| Ok::<_, ForgeError>(Pass { secret: app.signer.sign(now)?, account: Account::App });
        let now = self.clock.now();
        let mut sent = self.send(&signed(now)?, call).await;
        if let Err(Refusal { status: Some(StatusCode::UNAUTHORIZED), date: Some(there), .. }) = sent
            && app.signer.learn(there, now)
        {
            tracing::warn!(
                ahead_s = (there - now).num_seconds(),
                "GitHub's clock differs from ours; set this machine's clock"
            );
            sent = self.send(&signed(now)?, call).await;
        }
        let unknown = "Integration not found";
        sent.map_err(|refusal| {
            let message = match &refusal.error {
                ForgeError::BadCredential { message } => format!(
                    "GitHub does not take the App's private key for the App's id ({message}): check both on the App's settings page"
                ),
                ForgeError::Missing { message } if message == unknown => {
                    "GitHub knows no App with this id: check it on the App's settings page".to_owned()
                }
                ForgeError::Limited { .. }
                | ForgeError::Denied { .. }
                | ForgeError::Missing { .. }
                | ForgeError::Conflict { .. }
                | ForgeError::Invalid { .. }
                | ForgeError::Unsupported { .. }
                | ForgeError::Outage { .. } => return refusal.error,
            };
            ForgeError::BadCredential { message }
        })
    }

    /// One exchange, within the limits of whoever it counts to.
    async fn send(&self, pass: &Pass, call: &Call<'_>) -> std::result::Result<Answer, Refusal> {
        let kind = call.endpoint.kind();
        let account = pass.account;
        self.budget(account, |budget| budget.admit(kind, self.clock.now()))
            .map_err(|full| ForgeError::Limited { retry_after: full.wait, limit: full.limit })?;
        let under_way = UnderWay { client: self, account };
        let key =
            (kind == Kind::Kept).then(|| Key { account, target: call.uri.to_string(), accept: call.accept });
        let kept = key.as_ref().and_then(|key| held(&self.kept).get(key));
        let (tag, kept) = kept.unzip();

        let (method, path) = (call.endpoint.method(), call.uri.path());
        let started = Instant::now();
        let sent = tokio::time::timeout(ANSWER_WITHIN, self.exchange(pass, call, tag)).await;
        drop(under_way);
        let seen =
            sent.unwrap_or_else(|_| Err(format!("no whole answer within {} s", ANSWER_WITHIN.as_secs())));
        let status = seen.as_ref().map_or(0, |(status, ..)| status.as_u16());
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(%method, path, status, duration_ms, "called GitHub");
        let censored = |words: &str| words.replace(pass.secret.expose_secret(), "[token]");
        let (status, headers, body) =
            seen.map_err(|message| ForgeError::Outage { message: censored(&message) })?;
        // Who is not let in is told the hour of strangers.
        if status != StatusCode::UNAUTHORIZED {
            self.count(account, &headers);
        }
        if status.is_success() {
            let answer = Answer { headers, body };
            if let Some(key) = key {
                held(&self.kept).put(key, &answer);
            }
            return Ok(answer);
        }
        if let (StatusCode::NOT_MODIFIED, Some(kept)) = (status, kept) {
            return Ok(cache::renewed(kept, &headers));
        }
        let now = self.clock.now();
        let date = headers.get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()).map(|date| date.to_utc());
        let error = match failure::limit(status, &headers, &body, now) {
            Some((limit, said)) => {
                let retry_after = self.budget(account, |budget| budget.refused(limit, said, now));
                ForgeError::Limited { retry_after, limit }
            }
            None => failure::classify(status, &headers, &body, censored),
        };
        Err(Refusal { status: Some(status), date, error })
    }

    /// Takes down what an answer says of the hour's limit.
    fn count(&self, account: Account, headers: &HeaderMap) {
        let number = |name| failure::number(headers, name).and_then(|n| u32::try_from(n).ok());
        // Searches and the like have limits of their own.
        let resource = headers.get("x-ratelimit-resource").and_then(|resource| resource.to_str().ok());
        let Some(remaining) =
            number("x-ratelimit-remaining").filter(|_| resource.is_none_or(|r| r == "core"))
        else {
            return;
        };
        metrics::gauge!("callboard_github_rate_limit_remaining", "installation" => account.label())
            .set(f64::from(remaining));
        let resets_at = number("x-ratelimit-reset").and_then(|at| DateTime::from_timestamp(at.into(), 0));
        if let (Some(limit), Some(resets_at)) = (number("x-ratelimit-limit"), resets_at) {
            let told = Hourly { limit, remaining, resets_at };
            self.budget(account, |budget| budget.told(told, self.clock.now()));
        }
    }

    async fn exchange(
        &self,
        pass: &Pass,
        call: &Call<'_>,
        tag: Option<HeaderValue>,
    ) -> std::result::Result<(StatusCode, HeaderMap, Bytes), String> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", pass.secret.expose_secret()))
            .map_err(|_| "a token that cannot be sent".to_owned())?;
        bearer.set_sensitive(true);
        let mut request = http::request::Builder::new()
            .method(call.endpoint.method())
            .uri(call.uri.clone())
            .header(header::ACCEPT, call.accept)
            .header(header::AUTHORIZATION, bearer);
        if let Some(tag) = tag {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        let request = self.api.build_request(request, call.body).map_err(|error| chain(&error))?;
        let (parts, body) = self.api.execute(request).await.map_err(|error| chain(&error))?.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| chain(&*error))?;
        Ok((parts.status, parts.headers, body.to_bytes()))
    }
}

/// Path and query alone.
fn relative(url: &Url) -> Result<Uri> {
    let text = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    text.parse()
        .map_err(|_| ForgeError::Invalid { message: "a name that cannot be part of an address".to_owned() })
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
    use crate::forge::tests::noon;

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
        assert_eq!(client.person().expect("a person").secret.expose_secret(), "ghp_token");
        assert!(!format!("{client:?}").contains("ghp_token"));
    }
}
