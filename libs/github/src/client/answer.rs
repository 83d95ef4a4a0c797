//! What came back, when it is of the 2xx kind.

use ::forge::{ForgeError, Result};
use bytes::Bytes;
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;

/// An answer of the 2xx kind.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// The body. One that does not read is an outage: what was done is not known.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .map_err(|error| ForgeError::Outage { message: format!("an answer that does not read: {error}") })
    }

    /// True when the body is JSON, and not a file that was asked for.
    pub(crate) fn is_json(&self) -> bool {
        let kind = self.header(header::CONTENT_TYPE.as_str());
        kind.is_some_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json"))
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.body
    }

    /// A header that is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// True when the list goes on; a server without links says so by full pages.
    pub(crate) fn has_next_page(&self, full: bool) -> bool {
        self.linked("next", "page").map_or(full, |next| next.is_some())
    }

    /// The page number of a `Link`, `next` or `last`; the outer `None` when there is no
    /// `Link` header at all. Only the number is taken: the address stays ours.
    pub(crate) fn linked_page(&self, relation: &str) -> Option<Option<u32>> {
        self.linked(relation, "page").map(|page| page?.parse().ok())
    }

    /// A value in the query of the address a `Link` names: a page's number, or the cursor of a
    /// list that is read by one.
    pub(crate) fn linked(&self, relation: &str, key: &str) -> Option<Option<&str>> {
        let links = self.header(header::LINK.as_str())?;
        let relation = format!("rel=\"{relation}\"");
        let link = links.split(',').find(|link| link.split(';').skip(1).any(|part| part.trim() == relation));
        Some(link.and_then(|link| {
            let address = link.split(';').next()?.trim().trim_start_matches('<').trim_end_matches('>');
            let (_, query) = address.split_once('?')?;
            query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(middle.has_next_page(false) && answer(None).has_next_page(true));
        let deliveries =
            answer(Some("<https://api.github.com/app/hook/deliveries?per_page=1&cursor=v1_5>; rel=\"next\""));
        assert_eq!(deliveries.linked("next", "cursor"), Some(Some("v1_5")));
    }
}
