//! Proving that a webhook call comes from GitHub, before anything of it is believed.

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};
use secrecy::{ExposeSecret, SecretSlice};
use serde::de::IgnoredAny;

/// The events a webhook has to send: all that are decided on, and no others.
pub const EVENTS: [&str; 6] =
    ["issues", "issue_comment", "pull_request", "pull_request_review", "push", "repository"];
const SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");
/// Kept for explaining, as GitHub writes them.
const KEPT: [&str; 4] = [
    "X-GitHub-Hook-ID",
    "X-GitHub-Hook-Installation-Target-Type",
    "X-GitHub-Hook-Installation-Target-ID",
    "User-Agent",
];
/// GitHub's names and GUIDs are far shorter.
const MAX_HEADER_BYTES: usize = 200;

/// The secrets of one source.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// The one that is set at GitHub, or will be.
    pub current: SecretSlice<u8>,
    /// Still accepted while a secret is being rotated.
    pub previous: Option<SecretSlice<u8>>,
}

/// Why a call is not taken as a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// No `X-Hub-Signature-256`: the webhook has no secret, or this is not GitHub.
    #[error("there is no signature")]
    MissingSignature,
    /// Signed with another secret, or changed on the way.
    #[error("the signature does not match")]
    BadSignature,
    /// A header GitHub always sends is missing or not readable.
    #[error("the header {0} is missing or not readable")]
    MissingHeader(&'static str),
    /// The webhook is set to another content type.
    #[error("the content type is not application/json; set it in the webhook's settings")]
    NotJson,
    /// The body is not a JSON object.
    #[error("the body is not a JSON object")]
    Malformed,
}

impl Unverified {
    /// True when the sender is not proven (401), false when a proven sender sent something
    /// we cannot read (400).
    pub fn is_unauthenticated(self) -> bool {
        match self {
            Self::MissingSignature | Self::BadSignature => true,
            Self::MissingHeader(_) | Self::NotJson | Self::Malformed => false,
        }
    }
}

/// A delivery whose signature was checked. There is no other way to make one than [`verify`].
#[derive(Clone, Debug)]
pub struct VerifiedDelivery {
    guid: String,
    event: String,
    kept_headers: Vec<(&'static str, String)>,
    body: Bytes,
    used_previous_secret: bool,
}

impl VerifiedDelivery {
    /// `X-GitHub-Delivery`: the same for a redelivery.
    pub fn guid(&self) -> &str {
        &self.guid
    }
    /// `X-GitHub-Event`.
    pub fn event(&self) -> &str {
        &self.event
    }
    /// The bytes that were signed: a JSON object.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
    /// The same, given away.
    pub fn into_body(self) -> Bytes {
        self.body
    }
    /// True when only the previous secret matched: the rotation is not over at GitHub.
    pub fn used_previous_secret(&self) -> bool {
        self.used_previous_secret
    }
    /// Which hook sent it, and with what user agent; those that were there.
    pub fn kept_headers(&self) -> &[(&'static str, String)] {
        &self.kept_headers
    }
}

/// Checks signature, headers and form of a call, in this order. The size is the caller's
/// business.
///
/// # Errors
/// [`Unverified`], the first thing that is wrong.
pub fn verify(headers: &HeaderMap, body: Bytes, secrets: &Secrets) -> Result<VerifiedDelivery, Unverified> {
    let signature = headers.get(SIGNATURE).ok_or(Unverified::MissingSignature)?;
    let signature = signature.as_bytes().strip_prefix(b"sha256=").ok_or(Unverified::BadSignature)?;
    let signature = hex::decode(signature).map_err(|_| Unverified::BadSignature)?;
    let matches = |secret: &SecretSlice<u8>| is_signed_with(secret.expose_secret(), &body, &signature);
    let used_previous_secret = if matches(&secrets.current) {
        false
    } else if secrets.previous.as_ref().is_some_and(matches) {
        true
    } else {
        return Err(Unverified::BadSignature);
    };
    let event = required(headers, "X-GitHub-Event")?;
    let guid = required(headers, "X-GitHub-Delivery")?;
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Unverified::NotJson);
    }
    if !is_json_object(&body) {
        return Err(Unverified::Malformed);
    }
    let kept = |name: &'static str| {
        Some((name, headers.get(name)?.to_str().ok()?.chars().take(MAX_HEADER_BYTES).collect()))
    };
    let kept_headers = KEPT.into_iter().filter_map(kept).collect();
    Ok(VerifiedDelivery { guid, event, kept_headers, body, used_previous_secret })
}

/// Constant time. An empty secret signs nothing: anybody knows it.
fn is_signed_with(secret: &[u8], body: &[u8], signature: &[u8]) -> bool {
    let key = hmac::Key::new(HMAC_SHA256, secret);
    hmac::verify(&key, body, signature).is_ok() && !secret.is_empty()
}

fn required(headers: &HeaderMap, name: &'static str) -> Result<String, Unverified> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .filter(|value| {
            (1..=MAX_HEADER_BYTES).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic())
        })
        .map(str::to_owned)
        .ok_or(Unverified::MissingHeader(name))
}

/// Reads through the whole body without keeping anything and without recursion, however
/// deep it nests.
fn is_json_object(body: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(body) else { return false };
    text.trim_ascii_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "It's a Secret to Everybody";

    fn secrets(current: &str, previous: Option<&str>) -> Secrets {
        let secret = |text: &str| SecretSlice::from(text.as_bytes().to_vec());
        Secrets { current: secret(current), previous: previous.map(secret) }
    }

    fn signature(secret: &str, body: &[u8]) -> String {
        let key = hmac::Key::new(HMAC_SHA256, secret.as_bytes());
        format!("sha256={}", hex::encode(hmac::sign(&key, body)))
    }

    /// The headers of a delivery; `changes` replaces, or with an empty value removes.
    fn headers(body: &[u8], changes: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let signature = signature(SECRET, body);
        let defaults = [
            ("x-hub-signature-256", signature.as_str()),
            ("x-github-event", "issues"),
            ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
            ("content-type", "application/json"),
            ("x-github-hook-id", "292430182"),
            ("user-agent", "GitHub-Hookshot/044aadd"),
        ];
        for (name, value) in defaults.iter().chain(changes) {
            match value.is_empty() {
                true => headers.remove(*name),
                false => headers.insert(*name, value.parse().expect("a value")),
            };
        }
        headers
    }

    fn outcome(
        body: &'static [u8],
        changes: &[(&'static str, &str)],
    ) -> Result<VerifiedDelivery, Unverified> {
        verify(&headers(body, changes), Bytes::from_static(body), &secrets(SECRET, None))
    }

    #[test]
    fn githubs_documented_vector() {
        let body = Bytes::from_static(b"Hello, World!");
        let documented = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let headers = headers(&body, &[("x-hub-signature-256", documented)]);
        // The signature is right; the body of the example is no JSON.
        assert_eq!(
            verify(&headers, body.clone(), &secrets(SECRET, None)).expect_err("no JSON"),
            Unverified::Malformed
        );
        assert_eq!(
            verify(&headers, body, &secrets("another", None)).expect_err("a secret"),
            Unverified::BadSignature
        );
    }

    #[test]
    fn a_good_delivery_gives_its_parts() {
        let delivery =
            outcome(b" {\"action\":\"labeled\"}\n", &[("content-type", "application/json; charset=utf-8")])
                .expect("verified");
        assert_eq!((delivery.event(), delivery.guid()), ("issues", "72d3162e-cc78-11e3-81ab-4c9367dc0958"));
        assert_eq!(&delivery.body()[..], b" {\"action\":\"labeled\"}\n");
        assert!(!delivery.used_previous_secret());
        let kept: Vec<_> =
            delivery.kept_headers().iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(kept, ["X-GitHub-Hook-ID: 292430182", "User-Agent: GitHub-Hookshot/044aadd"]);
    }

    #[test]
    fn what_is_not_signed_by_us_is_not_looked_at() {
        let bad = |changes: &[(&'static str, &str)]| outcome(b"{}", changes).expect_err("not verified");
        assert_eq!(bad(&[("x-hub-signature-256", "")]), Unverified::MissingSignature);
        let right = signature(SECRET, b"{}");
        let bare = right.trim_start_matches("sha256=");
        for wrong in [
            signature("another", b"{}"),
            signature(SECRET, b"{} "),
            right[..right.len() - 2].to_owned(),
            format!("{right}00"),
            bare.to_owned(),
            format!("sha1={bare}"),
            "sha256=".to_owned(),
            "sha256=zz".to_owned(),
            right.replace("sha256=", "sha256= "),
        ] {
            // Everything else is wrong too, and still the signature is what is named.
            let changes = [
                ("x-hub-signature-256", wrong.as_str()),
                ("x-github-event", ""),
                ("content-type", "text/plain"),
            ];
            assert_eq!(bad(&changes), Unverified::BadSignature, "{wrong}");
            assert!(bad(&changes).is_unauthenticated());
        }
    }

    #[test]
    fn an_empty_secret_verifies_nothing() {
        let headers = headers(b"{}", &[("x-hub-signature-256", signature("", b"{}").as_str())]);
        for secrets in [secrets("", None), secrets("other", Some(""))] {
            assert_eq!(
                verify(&headers, Bytes::from_static(b"{}"), &secrets).expect_err("empty"),
                Unverified::BadSignature
            );
        }
    }

    #[test]
    fn the_previous_secret_is_accepted_and_said() {
        let delivery = verify(&headers(b"{}", &[]), Bytes::from_static(b"{}"), &secrets("new", Some(SECRET)))
            .expect("verified");
        assert!(delivery.used_previous_secret());
    }

    #[test]
    fn a_proven_sender_is_told_what_is_wrong() {
        let bad = |changes: &[(&'static str, &str)]| outcome(b"{}", changes).expect_err("not taken");
        let long = "x".repeat(201);
        for value in ["", "two words", long.as_str()] {
            assert_eq!(bad(&[("x-github-event", value)]), Unverified::MissingHeader("X-GitHub-Event"));
            assert_eq!(bad(&[("x-github-delivery", value)]), Unverified::MissingHeader("X-GitHub-Delivery"));
        }
        for kind in ["", "application/x-www-form-urlencoded", "text/json", "application/jsonx"] {
            assert_eq!(bad(&[("content-type", kind)]), Unverified::NotJson);
        }
        for body in
            [&b""[..], b"[]", b"null", b"{", b"{}}", b"{\"a\":}", b"payload=%7B%7D", b"{\"a\":\"\xff\"}"]
        {
            assert_eq!(outcome(body, &[]).expect_err("malformed"), Unverified::Malformed, "{body:?}");
            assert!(!Unverified::Malformed.is_unauthenticated());
        }
    }

    #[test]
    fn deep_nesting_costs_no_stack() {
        let deep: &'static [u8] =
            format!("{{\"a\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000)).into_bytes().leak();
        assert!(outcome(deep, &[]).is_ok());
    }

    #[test]
    fn secrets_do_not_print() {
        let text = format!("{:?}", secrets("hunter2", Some("hunter1")));
        assert!(!text.contains("hunter") && !text.contains("104"), "{text}");
    }
}
