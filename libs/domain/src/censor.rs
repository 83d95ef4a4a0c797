//! Removes secrets from everything stored or posted: those the platform knows, and whatever has
//! the shape of one.
//!
//! Two sets of shapes: a small one of our own, fast enough for every line of a transcript, which
//! nothing switches off; and gitleaks' rules, for what is published.

mod gitleaks;
mod go_regex;
mod lines;
mod patterns;
mod suspects;

use std::{
    borrow::Cow,
    collections::VecDeque,
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
};

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use secrecy::{ExposeSecret, SecretString};

pub use lines::CensoredLines;
pub use suspects::{Suspect, SuspectSearch};

/// What stands where a secret stood.
const CENSORED: &str = "[censored]";
/// Bytes below which a secret is not looked for: it would be found everywhere.
const SHORTEST: usize = 8;
/// Bytes from which one line of a secret of many lines (a private key) is looked for alone.
const SHORTEST_LINE: usize = 16;
/// Passing secrets that are learnt on the way; the oldest is forgotten. What is minted is good for an
/// hour, and has the shape of a token besides.
const MOST_LEARNT: usize = 100;

/// Finds what has the shape of a token, and known secrets: plain, in base64 (wherever they stand in what was encoded),
/// in hex, percent-encoded, as JSON writes them, and line by line. Cheap to clone.
#[derive(Clone, Default)]
pub struct Censor {
    /// One search per call that added secrets, so that adding one builds nothing anew.
    searches: Vec<Arc<AhoCorasick>>,
    /// Secrets that came up later, the same for every clone.
    learnt: Arc<RwLock<VecDeque<Learnt>>>,
}

struct Learnt {
    secret: SecretString,
    /// It is not forgotten for newer ones.
    for_good: bool,
    search: Arc<AhoCorasick>,
}

impl std::fmt::Debug for Censor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Censor").finish_non_exhaustive()
    }
}

impl Censor {
    /// A censor that knows these secrets. Surrounding white space does not count;
    /// secrets shorter than 8 bytes are not looked for.
    pub fn new(secrets: impl IntoIterator<Item = SecretString>) -> Self {
        Self::default().knowing(secrets)
    }

    /// A censor that also knows one more secret.
    #[must_use]
    pub fn with(&self, extra: SecretString) -> Self {
        self.clone().knowing([extra])
    }

    /// From now on this one is known as well, here and in every clone, older ones included: a
    /// token that was just minted.
    pub fn learn(&self, secret: &SecretString) {
        self.add(secret, false);
    }

    /// The same for one that does not end by itself, and is never forgotten: a webhook's.
    pub fn learn_for_good(&self, secret: &SecretString) {
        self.add(secret, true);
    }

    fn add(&self, secret: &SecretString, for_good: bool) {
        let mut learnt = self.learnt.write().unwrap_or_else(PoisonError::into_inner);
        if learnt.iter().any(|known| known.secret.expose_secret() == secret.expose_secret()) {
            return;
        }
        learnt.extend(search([secret]).map(|search| Learnt { secret: secret.clone(), for_good, search }));
        let passing = || learnt.iter().enumerate().filter(|(_, known)| !known.for_good);
        let oldest = passing().next().map(|(at, _)| at);
        if let (true, Some(oldest)) = (passing().count() > MOST_LEARNT, oldest) {
            learnt.remove(oldest);
        }
    }

    /// The same censor, which also knows these secrets.
    #[must_use]
    pub fn knowing(mut self, secrets: impl IntoIterator<Item = SecretString>) -> Self {
        let secrets: Vec<SecretString> = secrets.into_iter().collect();
        self.searches.extend(search(&secrets));
        self
    }

    /// Every search there is now.
    fn searches(&self) -> impl Iterator<Item = Arc<AhoCorasick>> {
        let learnt = self.learnt.read().unwrap_or_else(PoisonError::into_inner);
        let learnt: Vec<_> = learnt.iter().map(|known| Arc::clone(&known.search)).collect();
        self.searches.iter().cloned().chain(learnt)
    }

    /// The text with `[censored]` in place of every known secret and of everything that looks
    /// like a well-known token.
    pub fn censor<'t>(&self, text: &'t str) -> Cow<'t, str> {
        without(text, self.found(text))
    }

    /// The same for text that is posted, also without what gitleaks' rules find.
    pub fn censor_for_posting<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut found = self.found(text);
        // All of it: what is posted is short.
        let mut effort = usize::MAX;
        let leaks = gitleaks::leaks(text.as_bytes(), None, &mut effort).into_iter().map(|leak| leak.range);
        found.extend(
            leaks.map(|range| text.floor_char_boundary(range.start)..text.ceil_char_boundary(range.end)),
        );
        without(text, found)
    }

    fn found(&self, text: &str) -> Vec<Range<usize>> {
        // All occurrences, also those that overlap: the rest of the shorter one would be left.
        let mut found: Vec<Range<usize>> = Vec::new();
        for search in self.searches() {
            found.extend(search.find_overlapping_iter(text).map(|m| m.range()));
        }
        found.extend(patterns::tokens(text.as_bytes()).into_iter().map(|(_, range)| range));
        found
    }

    /// What others wrote, to be kept as they wrote it: censored only when a known secret is in it.
    pub fn without_known(&self, text: String) -> String {
        if self.found_in(text.as_bytes()) { self.censor(&text).into_owned() } else { text }
    }

    /// True when a known secret is in there.
    pub fn found_in(&self, bytes: &[u8]) -> bool {
        self.searches().any(|search| search.is_match(bytes))
    }
}

/// The text with `[censored]` in place of these parts.
fn without(text: &str, mut secrets: Vec<Range<usize>>) -> Cow<'_, str> {
    if secrets.is_empty() {
        return Cow::Borrowed(text);
    }
    secrets.sort_unstable_by_key(|r| r.start);
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for range in secrets {
        if range.start > end || out.is_empty() {
            out.push_str(&text[end..range.start]);
            out.push_str(CENSORED);
        }
        end = end.max(range.end);
    }
    out.push_str(&text[end..]);
    Cow::Owned(out)
}

/// One pass for all of them; none when there is nothing to look for.
fn search<'s>(secrets: impl IntoIterator<Item = &'s SecretString>) -> Option<Arc<AhoCorasick>> {
    let mut forms: Vec<String> = secrets.into_iter().flat_map(|s| forms(s.expose_secret().trim())).collect();
    forms.sort_unstable();
    forms.dedup();
    if forms.is_empty() {
        return None;
    }
    // The compact kind: private keys are long, and a table per state would not be cheap.
    let search = AhoCorasick::builder()
        .kind(Some(AhoCorasickKind::ContiguousNFA))
        .build(&forms)
        .expect("secrets are far smaller than what a search can hold");
    Some(Arc::new(search))
}

/// Every way a secret is likely to be written.
fn forms(secret: &str) -> Vec<String> {
    if secret.len() < SHORTEST {
        return Vec::new();
    }
    let mut forms = vec![secret.to_owned()];
    for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
        forms.push(engine.encode(secret));
    }
    for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        forms.extend((0..3).map(|bytes_before| base64_inside(&engine, secret, bytes_before)));
    }
    forms.push(hex::encode(secret));
    forms.push(hex::encode_upper(secret));
    forms.push(percent_encoded(secret, false));
    forms.push(percent_encoded(secret, true));
    let json = serde_json::Value::from(secret).to_string();
    forms.push(json[1..json.len() - 1].to_owned());
    if secret.contains('\n') {
        let lines =
            secret.lines().map(str::trim).filter(|l| l.len() >= SHORTEST_LINE && !l.starts_with("-----"));
        forms.extend(lines.map(str::to_owned));
    }
    forms
}

/// The base64 digits that come from the secret alone when other bytes stand around it, as in
/// the `user:token` of basic authentication. `bytes_before` counts modulo three.
fn base64_inside(engine: &impl Engine, secret: &str, bytes_before: usize) -> String {
    let mut bytes = vec![0; bytes_before];
    bytes.extend_from_slice(secret.as_bytes());
    let digits = engine.encode(&bytes);
    let mixed_before = (bytes_before * 8).div_ceil(6);
    let mixed_after = usize::from(!bytes.len().is_multiple_of(3));
    digits[mixed_before..digits.len() - mixed_after].to_owned()
}

fn percent_encoded(secret: &str, lower_case: bool) -> String {
    let mut out = String::with_capacity(secret.len());
    for byte in secret.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else if lower_case {
            out.push_str(&format!("%{byte:02x}"));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn censor(secrets: &[&str]) -> Censor {
        Censor::new(secrets.iter().map(|s| SecretString::from(*s)))
    }

    #[test]
    fn secrets_vanish_in_every_form() {
        let censor = censor(&["gh/p_se+cret\n"]);
        assert_eq!(censor.censor("token gh/p_se+cret."), "token [censored].");
        assert_eq!(censor.censor("https://x:gh%2Fp_se%2Bcret@h/"), "https://x:[censored]@h/");
        assert_eq!(censor.censor("https://x:gh%2fp_se%2bcret@h/"), "https://x:[censored]@h/");
        assert_eq!(censor.censor(&STANDARD.encode("gh/p_se+cret")), "[censored]");
        assert_eq!(
            censor.censor("67682f705f73652b63726574, 67682F705F73652B63726574"),
            "[censored], [censored]"
        );
        assert_eq!(censor.censor("nothing here"), "nothing here");
    }

    #[test]
    fn what_others_wrote_stays_as_it_is_without_a_known_secret() {
        let censor = censor(&["first-secret"]);
        let example = "use a token such as ghp_0123456789abcdefghijABCDEFGHIJ012345";
        assert_eq!(censor.without_known(example.to_owned()), example);
        assert_eq!(censor.without_known("it is first-secret".to_owned()), "it is [censored]");
    }

    #[test]
    fn what_is_short_is_not_looked_for() {
        let censor = censor(&["short", "  \n", ""]);
        assert_eq!(censor.censor("a short text"), "a short text");
        assert!(!censor.found_in(b"short"));
    }

    #[test]
    fn overlapping_secrets_leave_no_rest() {
        let censor = censor(&["abcdefgh", "efghijkl", "bcdefghi"]).with(SecretString::from("ijklmnop"));
        assert_eq!(censor.censor("-abcdefghijklmnop-"), "-[censored]-");
        assert_eq!(censor.censor("abcdefgh abcdefgh"), "[censored] [censored]");
    }

    #[test]
    fn one_more_secret_does_not_change_the_first_censor() {
        let first = censor(&["first-secret"]);
        let both = first.with(SecretString::from("second-secret"));
        assert_eq!(both.censor("first-secret second-secret"), "[censored] [censored]");
        assert_eq!(first.censor("first-secret second-secret"), "[censored] second-secret");
    }

    #[test]
    fn what_is_learnt_is_known_everywhere_and_the_oldest_is_forgotten() {
        let platform = censor(&["configured-secret"]);
        let attempt = platform.with(SecretString::from("attempt-secret"));
        platform.learn_for_good(&SecretString::from("webhook-secret"));
        for number in 0..=MOST_LEARNT {
            platform.learn(&SecretString::from(format!("minted-secret-{number:04}")));
            platform.learn(&SecretString::from(format!("minted-secret-{number:04}")));
        }
        let text = "minted-secret-0001 attempt-secret configured-secret";
        assert_eq!(attempt.censor(text), "[censored] [censored] [censored]");
        assert_eq!(platform.censor(text), "[censored] attempt-secret [censored]");
        assert!(attempt.found_in(STANDARD.encode("minted-secret-0100").as_bytes()));
        assert!(!platform.found_in(b"minted-secret-0000"));
        assert!(attempt.found_in(b"webhook-secret"), "it is never forgotten");
    }

    #[test]
    fn a_private_key_is_found_line_by_line_and_in_json() {
        let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nBAQEFAASCBKcwggSjAgEAAo\n-----END PRIVATE KEY-----\n";
        let censor = censor(&[key]);
        assert_eq!(censor.censor("  MIIEvQIBADANBgkqhkiG9w0"), "  [censored]");
        assert_eq!(censor.censor("-----BEGIN PRIVATE KEY-----"), "-----BEGIN PRIVATE KEY-----");
        assert_eq!(censor.censor(&serde_json::Value::from(key.trim()).to_string()), "\"[censored]\"");
    }

    #[test]
    fn it_does_not_print_secrets() {
        assert_eq!(format!("{:?}", censor(&["first-secret"])), "Censor { .. }");
    }

    proptest! {
        /// Whatever stands around a secret, it is gone, and base64 around it does not hide it.
        #[test]
        fn no_secret_survives(
            secrets in proptest::collection::vec("[ -~]{8,40}", 1..5),
            around in proptest::collection::vec("[ -~é]{0,9}", 6),
        ) {
            let censor = Censor::new(secrets.iter().map(|s| SecretString::from(s.as_str())));
            let mut text = String::new();
            for (secret, before) in secrets.iter().zip(&around) {
                text.push_str(before);
                text.push_str(secret);
            }
            let censored = censor.censor(&text);
            for secret in secrets.iter().map(|s| s.trim()).filter(|s| s.len() >= SHORTEST) {
                // The word that replaces it may of course be the secret's own spelling.
                prop_assert!(!censored.replace(CENSORED, "").contains(secret) || CENSORED.contains(secret));
                prop_assert!(censor.found_in(text.as_bytes()));
                prop_assert!(censor.found_in(STANDARD.encode(&text).as_bytes()));
                prop_assert!(censor.found_in(URL_SAFE_NO_PAD.encode(&text).as_bytes()));
            }
        }
    }
}
