//! What an App proves itself with: a signed statement that is good for ten minutes.

use std::sync::atomic::{AtomicI64, Ordering};

use ::forge::{ForgeError, Result};
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::settings::SetupError;

/// How far back it says it was made, for a server whose clock is behind.
const BACK: TimeDelta = TimeDelta::seconds(60);
/// How long after that it is good; GitHub takes no more.
const GOOD_FOR: TimeDelta = TimeDelta::minutes(10);
/// A difference between two clocks that is not worth another try.
const SAME_TIME: TimeDelta = TimeDelta::seconds(5);

#[derive(Serialize)]
struct Claims<'a> {
    iat: i64,
    exp: i64,
    iss: &'a str,
}

/// An App's id and key, and how far GitHub's clock is ahead of ours.
pub(super) struct Signer {
    id: String,
    key: EncodingKey,
    ahead_ms: AtomicI64,
}

impl Signer {
    pub(super) fn new(id: &str, key: &SecretString) -> std::result::Result<Self, SetupError> {
        let id = id.trim();
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(SetupError::AppId);
        }
        let pem = key.expose_secret().trim();
        let refuse = |why: &str| SetupError::Key(why.to_owned());
        // The library would take a public key as well, and its words say nothing.
        match pem.lines().next().map(str::trim) {
            None => return Err(refuse("the file is empty")),
            Some("-----BEGIN RSA PRIVATE KEY-----" | "-----BEGIN PRIVATE KEY-----") => {}
            Some(first) if first.contains("ENCRYPTED") => {
                return Err(refuse("it is encrypted with a passphrase"));
            }
            Some(first) if first.contains("PUBLIC KEY") || first.contains("CERTIFICATE") => {
                return Err(refuse("it is a public key"));
            }
            Some(first) if first.starts_with("-----BEGIN EC") || first.starts_with("-----BEGIN OPENSSH") => {
                return Err(refuse("it is a key of another kind"));
            }
            Some(_) => return Err(refuse("it does not begin with a line `-----BEGIN … PRIVATE KEY-----`")),
        }
        let key = EncodingKey::from_rsa_pem(pem.as_bytes())
            .map_err(|_| refuse("it cannot be read, or is a key of another kind"))?;
        let signer = Self { id: id.to_owned(), key, ahead_ms: AtomicI64::new(0) };
        // Whether it can sign is seen by signing.
        match signer.sign(DateTime::UNIX_EPOCH) {
            Ok(_) => Ok(signer),
            Err(_) => Err(refuse("nothing can be signed with it; is it whole?")),
        }
    }

    /// What the time is at GitHub, as far as we learnt.
    pub(super) fn there(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + TimeDelta::milliseconds(self.ahead_ms.load(Ordering::Relaxed))
    }

    pub(super) fn sign(&self, now: DateTime<Utc>) -> Result<SecretString> {
        let iat = self.there(now) - BACK;
        let claims = Claims { iat: iat.timestamp(), exp: (iat + GOOD_FOR).timestamp(), iss: &self.id };
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &self.key)
            .map(SecretString::from)
            .map_err(|_| ForgeError::Denied {
                message: "nothing can be signed with the App's key".to_owned(),
            })
    }

    /// A statement was refused by a server whose time is this. True when the next one will differ.
    pub(super) fn learn(&self, there: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        let believed = self.there(now);
        self.ahead_ms.store((there - now).num_milliseconds(), Ordering::Relaxed);
        (there - believed).abs() > SAME_TIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::forge::tests::app_key;

    fn refusal(pem: &str) -> String {
        Signer::new("7", &pem.into()).map(|_| ()).expect_err(pem).to_string()
    }

    #[test]
    fn a_key_that_cannot_sign_is_refused_without_showing_it() {
        let other = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
        for (pem, why) in [
            ("", "the file is empty"),
            ("ghp_0123456789", "does not begin with"),
            ("-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----", "a public key"),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----",
                "passphrase",
            ),
            ("-----BEGIN EC PRIVATE KEY-----\nMIIB\n-----END EC PRIVATE KEY-----", "another kind"),
            (other, "another kind"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIBsecret\n-----END RSA PRIVATE KEY-----", "cannot be read"),
        ] {
            let said = refusal(pem);
            assert!(said.contains(why), "{said}");
            let shown = pem.lines().nth(1).is_some_and(|line| said.contains(line));
            assert!(!shown && !said.contains("ghp_"), "{said}");
        }
        let cut = app_key().replacen("MII", "MIJ", 1);
        assert!(refusal(&cut).contains("cannot be read"));
        for id in ["", " ", "my app"] {
            assert!(matches!(Signer::new(id, &app_key().into()), Err(SetupError::AppId)));
        }
    }

    #[test]
    fn a_clock_that_is_wrong_is_learnt() {
        let signer = Signer::new(" Iv1.8a61f9b3a7aba766\n", &app_key().into()).expect("a signer");
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let times = |signer: &Signer| {
            let jwt = signer.sign(now).expect("a statement");
            let claims = jwt.expose_secret().split('.').nth(1).expect("claims").to_owned();
            let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims);
            let claims: serde_json::Value = serde_json::from_slice(&claims.expect("base64")).expect("JSON");
            assert_eq!(claims["iss"], "Iv1.8a61f9b3a7aba766");
            let at = |name: &str| claims[name].as_i64().expect("a time") - now.timestamp();
            (at("iat"), at("exp"))
        };
        assert_eq!(times(&signer), (-60, 540));
        assert!(signer.learn(now + TimeDelta::minutes(7), now));
        assert_eq!(times(&signer), (360, 960));
        assert!(!signer.learn(now + TimeDelta::minutes(7) + TimeDelta::seconds(1), now), "known already");
        assert!(signer.learn(now, now));
        assert_eq!(times(&signer), (-60, 540));
    }
}
