//! Calls with one credential, as the rest of the crate makes them.

use ::forge::Result;
use domain::names::RepositoryName;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Answer, Call, Client, Endpoint, JSON, Purpose, relative};

/// Items on a page of a list; GitHub gives no more.
pub(crate) const PER_PAGE: usize = 100;
const RAW: &str = "application/vnd.github.raw+json";

/// With whose credential.
#[derive(Clone, Copy, Debug)]
pub(super) enum By<'a> {
    Repository(&'a RepositoryName, Purpose),
    Ourselves,
    App,
}

/// Calls with one credential: a repository's or our own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    pub(super) client: &'a Client,
    pub(super) by: By<'a>,
}

impl Scope<'_> {
    /// Is it an App that calls?
    pub(crate) fn is_app(&self) -> bool {
        self.client.is_app()
    }

    /// Reads. `parts` stand for what is in braces in the path, without owner and repository.
    pub(crate) async fn get(
        &self,
        endpoint: Endpoint,
        parts: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Answer> {
        self.call(endpoint, parts, query, JSON, None).await
    }

    /// The file itself instead of a description of it.
    pub(crate) async fn get_raw(
        &self,
        endpoint: Endpoint,
        parts: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Answer> {
        self.call(endpoint, parts, query, RAW, None).await
    }

    /// One page of a list.
    pub(crate) async fn page(&self, endpoint: Endpoint, parts: &[&str], page: u32) -> Result<Answer> {
        let (per_page, page) = (PER_PAGE.to_string(), page.to_string());
        self.get(endpoint, parts, &[("per_page", &per_page), ("page", &page)]).await
    }

    /// A list from its first page on, at most so many pages.
    pub(crate) async fn pages<T: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        parts: &[&str],
        most: u32,
    ) -> Result<Vec<T>> {
        let mut items = Vec::new();
        for page in 1..=most {
            let answer = self.page(endpoint, parts, page).await?;
            let read: Vec<T> = answer.json()?;
            let full = read.len() >= PER_PAGE;
            items.extend(read);
            if !answer.has_next_page(full) {
                return Ok(items);
            }
        }
        tracing::warn!(
            list = endpoint.template(),
            pages = most,
            "a very long list; what comes later is not read"
        );
        Ok(items)
    }

    /// Writes: the endpoint says how.
    pub(crate) async fn write(&self, endpoint: Endpoint, parts: &[&str], body: &Value) -> Result<Answer> {
        self.call(endpoint, parts, &[], JSON, Some(body)).await
    }

    /// Writes by the address alone.
    pub(crate) async fn act(&self, endpoint: Endpoint, parts: &[&str]) -> Result<Answer> {
        self.call(endpoint, parts, &[], JSON, None).await
    }

    async fn call(
        &self,
        endpoint: Endpoint,
        parts: &[&str],
        query: &[(&str, &str)],
        accept: &'static str,
        body: Option<&Value>,
    ) -> Result<Answer> {
        let client = self.client;
        let repository = match self.by {
            By::Repository(name, _) => Some(name),
            By::Ourselves | By::App => None,
        };
        let mut url = endpoint.url(&client.base, repository, parts)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let call = Call { endpoint, uri: relative(&url)?, accept, body };
        match self.by {
            By::Repository(name, purpose) => client.call_about(name, purpose, &call).await,
            By::Ourselves => client.send(&client.person()?, &call).await.map_err(|refusal| refusal.error),
            By::App => client.call_as_app(client.app()?, &call).await,
        }
    }
}
