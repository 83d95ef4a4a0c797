//! Answers that are kept, and asked for again by their tag: an answer of "not changed" costs
//! nothing of the hour.
//!
//! Only what [`Kind::Kept`](super::endpoint::Kind) says. GitHub's tags change with the token, so
//! an entry is good as long as the tokens of its installation are.

use std::collections::HashMap;

use http::{HeaderMap, HeaderValue, header};

use super::{Account, Answer};

/// Entries; the one that was not used for longest goes.
const MOST: usize = 512;
/// Larger answers are not kept.
const MOST_BYTES: usize = 64 * 1024;

/// Whose answer, to what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) account: Account,
    /// Path and query.
    pub(super) target: String,
    pub(super) accept: &'static str,
}

#[derive(Debug)]
struct Entry {
    answer: Answer,
    used: u64,
}

/// Answers by what was asked.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Key, Entry>,
    uses: u64,
}

impl Cache {
    /// The kept answer, and the tag to ask by.
    pub(super) fn get(&mut self, key: &Key) -> Option<(HeaderValue, Answer)> {
        self.uses += 1;
        let entry = self.entries.get_mut(key)?;
        entry.used = self.uses;
        let tag = entry.answer.headers.get(header::ETAG)?.clone();
        Some((tag, entry.answer.clone()))
    }

    /// Keeps an answer that has a tag and is not too large.
    pub(super) fn put(&mut self, key: Key, answer: &Answer) {
        if !answer.headers.contains_key(header::ETAG) || answer.body.len() > MOST_BYTES {
            self.entries.remove(&key);
            return;
        }
        self.uses += 1;
        self.entries.insert(key, Entry { answer: answer.clone(), used: self.uses });
        if self.entries.len() > MOST {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.entries.remove(&oldest);
            }
        }
    }
}

/// The kept answer with what "not changed" says anew about it.
pub(super) fn renewed(mut kept: Answer, headers: &HeaderMap) -> Answer {
    for (name, value) in headers {
        if name != header::CONTENT_LENGTH && name != header::CONTENT_TYPE {
            kept.headers.insert(name, value.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn key(target: &str) -> Key {
        Key { account: Account::Token, target: target.to_owned(), accept: "x" }
    }

    fn answer(bytes: usize, tag: Option<&'static str>) -> Answer {
        let mut headers = HeaderMap::new();
        headers.extend(tag.map(|tag| (header::ETAG, HeaderValue::from_static(tag))));
        Answer { headers, body: Bytes::from(vec![b'x'; bytes]) }
    }

    #[test]
    fn what_was_used_last_stays() {
        let mut cache = Cache::default();
        for number in 0..=MOST {
            cache.put(key(&number.to_string()), &answer(1, Some("\"a\"")));
            assert!(cache.get(&key("0")).is_some(), "it is used all the time");
        }
        assert!(cache.get(&key("1")).is_none());
        assert_eq!(cache.entries.len(), MOST);
        let other = Key { account: Account::Installation(7), ..key("0") };
        assert!(cache.get(&other).is_none(), "another credential's answer is none of ours");
    }

    #[test]
    fn what_is_large_or_has_no_tag_is_not_kept() {
        let mut cache = Cache::default();
        for (bytes, tag, kept) in
            [(MOST_BYTES, Some("\"a\""), true), (MOST_BYTES + 1, Some("\"b\""), false), (1, None, false)]
        {
            cache.put(key("x"), &answer(bytes, tag));
            assert_eq!(cache.get(&key("x")).is_some(), kept);
        }
    }
}
