//! JSON web tokens, with which an App proves who it is.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::StatusCode;
use serde_json::Value;

use crate::{refusal::Refusal, world::World};

/// A token is good for ten minutes at most.
const LONGEST_SECONDS: i64 = 600;

fn refused(words: &str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, words)
}

fn undecodable() -> Refusal {
    refused("A JSON web token could not be decoded")
}

/// True for what looks like a JSON web token, and not like a token GitHub gives out.
pub(crate) fn is_one(token: &str) -> bool {
    token.split('.').count() == 3 && token.starts_with("eyJ")
}

fn object(part: &str) -> Result<Value, Refusal> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| undecodable())?;
    serde_json::from_slice(&bytes).map_err(|_| undecodable())
}

impl World {
    /// The App that signed the token, now.
    pub(crate) fn app_of(&self, token: &str) -> Result<u64, Refusal> {
        let (signed, signature) = token.rsplit_once('.').ok_or_else(undecodable)?;
        let (head, claims) = signed.split_once('.').ok_or_else(undecodable)?;
        if object(head)?["alg"] != "RS256" {
            return Err(undecodable());
        }
        let claims = object(claims)?;
        let issuer = match &claims["iss"] {
            Value::Number(id) => id.to_string(),
            Value::String(id) => id.clone(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                return Err(refused("Missing 'issuer' claim ('iss') in assertion"));
            }
        };
        let same = |a: &&super::App| a.id.to_string() == issuer || a.client_id == issuer;
        let app = self.apps.registered.values().find(same);
        let app = app.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "Integration not found"))?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| undecodable())?;
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &app.public_key);
        key.verify(signed.as_bytes(), &signature).map_err(|_| undecodable())?;
        let now = self.now().timestamp();
        let ends = claims["exp"].as_i64().filter(|ends| *ends > now).ok_or_else(|| {
            refused(
                "'Expiration time' claim ('exp') must be a numeric value representing the future time at \
                 which the assertion expires",
            )
        })?;
        if ends > now + LONGEST_SECONDS {
            return Err(refused("'Expiration time' claim ('exp') is too far in the future"));
        }
        // Ahead of GitHub's clock it is refused as well: clients set it back a little.
        claims["iat"].as_i64().filter(|since| *since <= now).ok_or_else(|| {
            refused(
                "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was \
                 issued",
            )
        })?;
        Ok(app.id)
    }
}
