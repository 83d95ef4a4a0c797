//! Ed25519 signatures: in JWT form for run tokens and service identities, plain for what we
//! keep ourselves.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use serde::{Deserialize, Serialize};

/// Why a token is not accepted. Never says more than this to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token, a wrong signature, a wrong audience.
    #[error("the token is not valid")]
    Invalid,
    /// Past its time.
    #[error("the token has expired")]
    Expired,
}

/// A private key that does not print.
pub struct SigningKey {
    pkcs8: SecretBox<Vec<u8>>,
    encoding: EncodingKey,
    public: VerifyingKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// The public half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// From 32 raw bytes; `None` for any other length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
    /// The 32 raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Did the private half sign exactly this?
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

/// What every token of ours says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who it is for.
    pub aud: String,
    /// Who it is about.
    pub sub: String,
    /// The run, in run tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Unix seconds.
    pub iat: i64,
    /// Unix seconds.
    pub exp: i64,
}

impl SigningKey {
    /// A new key.
    ///
    /// # Panics
    /// When the operating system has no randomness to give.
    pub fn generate() -> Self {
        let pair = Ed25519KeyPair::generate().expect("the operating system gives randomness");
        let pkcs8 = pair.to_pkcs8().expect("a fresh key can be written").as_ref().to_vec();
        Self::from_pkcs8(pkcs8).expect("a fresh key can be read")
    }

    /// Reads a key in PKCS#8 form.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] when it is none.
    pub fn from_pkcs8(pkcs8: Vec<u8>) -> Result<Self, TokenError> {
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| TokenError::Invalid)?;
        let public = VerifyingKey::from_bytes(pair.public_key().as_ref()).ok_or(TokenError::Invalid)?;
        let encoding = EncodingKey::from_ed_der(&pkcs8);
        Ok(Self { pkcs8: SecretBox::new(Box::new(pkcs8)), encoding, public })
    }

    /// The key in PKCS#8 form, for storing it encrypted or in a file of mode 0600.
    pub fn pkcs8(&self) -> &[u8] {
        self.pkcs8.expose_secret()
    }

    /// The signature of these bytes, 64 bytes long.
    ///
    /// # Panics
    /// Never: the key was readable when this was made.
    pub fn sign_bytes(&self, message: &[u8]) -> Vec<u8> {
        let pair = Ed25519KeyPair::from_pkcs8(self.pkcs8()).expect("the key was readable");
        pair.sign(message).as_ref().to_vec()
    }

    /// The public half.
    pub fn public(&self) -> VerifyingKey {
        self.public
    }

    /// A signed token; `key_id` tells the verifier which key to take.
    ///
    /// # Panics
    /// Never: a key that was read can sign, and the claims are plain JSON.
    pub fn sign(&self, key_id: &str, claims: &Claims) -> SecretString {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(key_id.to_owned());
        jsonwebtoken::encode(&header, claims, &self.encoding).expect("a key that was read can sign").into()
    }
}

/// The key id a token names, unverified.
pub fn key_id(token: &str) -> Option<String> {
    jsonwebtoken::decode_header(token).ok()?.kid
}

/// Checks signature, audience and time, by the clock that is handed in.
///
/// # Errors
/// [`TokenError`].
pub fn verify(
    token: &str,
    key: &VerifyingKey,
    audience: &str,
    now: DateTime<Utc>,
) -> Result<Claims, TokenError> {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["exp", "aud", "sub"]);
    // The library reads the system clock; ours is injected and checked below.
    validation.validate_exp = false;
    let claims =
        jsonwebtoken::decode::<Claims>(token, &DecodingKey::from_ed_der(key.as_bytes()), &validation)
            .map_err(|_| TokenError::Invalid)?
            .claims;
    if claims.exp <= now.timestamp() { Err(TokenError::Expired) } else { Ok(claims) }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn claims(now: DateTime<Utc>) -> Claims {
        Claims {
            aud: "agent-gateway".into(),
            sub: "attempt".into(),
            run: Some("run".into()),
            iat: now.timestamp(),
            exp: now.timestamp() + 60,
        }
    }

    #[test]
    fn only_the_right_key_audience_and_time_pass() {
        let (key, other) = (SigningKey::generate(), SigningKey::generate());
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let token = key.sign("k1", &claims(now));
        let token = token.expose_secret();
        assert_eq!(key_id(token).as_deref(), Some("k1"));
        assert_eq!(verify(token, &key.public(), "agent-gateway", now), Ok(claims(now)));
        assert_eq!(verify(token, &other.public(), "agent-gateway", now), Err(TokenError::Invalid));
        assert_eq!(verify(token, &key.public(), "control-plane", now), Err(TokenError::Invalid));
        assert_eq!(
            verify(token, &key.public(), "agent-gateway", now + TimeDelta::seconds(60)),
            Err(TokenError::Expired)
        );
    }

    #[test]
    fn an_unsigned_or_symmetric_token_is_refused() {
        let key = SigningKey::generate();
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        // The public key used as an HMAC secret, and `alg: none`: the two classic forgeries.
        let hs256 = jsonwebtoken::encode(
            &Header::new(Algorithm::HS256),
            &claims(now),
            &EncodingKey::from_secret(key.public().as_bytes()),
        )
        .expect("hs256");
        assert_eq!(verify(&hs256, &key.public(), "agent-gateway", now), Err(TokenError::Invalid));
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJhdWQiOiJhZ2VudC1nYXRld2F5Iiwic3ViIjoiYSIsImlhdCI6MCwiZXhwIjo5OTk5OTk5OTk5fQ.";
        assert_eq!(verify(none, &key.public(), "agent-gateway", now), Err(TokenError::Invalid));
    }

    #[test]
    fn bytes_are_signed_by_one_key() {
        let (key, other) = (SigningKey::generate(), SigningKey::generate());
        let signature = key.sign_bytes(b"so it was");
        assert!(key.public().signed(b"so it was", &signature));
        assert!(!key.public().signed(b"so it is", &signature));
        assert!(!other.public().signed(b"so it was", &signature));
    }

    #[test]
    fn a_stored_key_reads_back_and_does_not_print() {
        let key = SigningKey::generate();
        let again = SigningKey::from_pkcs8(key.pkcs8().to_vec()).expect("readable");
        assert_eq!(again.public(), key.public());
        assert!(!format!("{key:?}").contains("pkcs8"));
    }
}
