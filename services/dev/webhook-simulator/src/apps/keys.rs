//! Keys Apps sign with.

use std::sync::OnceLock;

use anyhow::Context;
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{Engine, prelude::BASE64_STANDARD};

/// An App's key.
#[derive(Clone)]
pub(crate) struct Key {
    /// The private half: PKCS#1 in PEM, which is what GitHub lets people download.
    pub(crate) pem: String,
    /// The public half, DER.
    pub(crate) public: Vec<u8>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

/// Bytes of PKCS#8 before the PKCS#1 key in it, for a key of 2,048 bits.
const WRAPPING: usize = 26;

impl Key {
    /// A key nobody else has. Takes a moment.
    pub(crate) fn generate() -> anyhow::Result<Self> {
        let pair = KeyPair::generate(KeySize::Rsa2048).ok().context("no RSA key could be made")?;
        let wrapped: Pkcs8V1Der<'_> = pair.as_der().ok().context("the RSA key could not be written")?;
        let der = wrapped.as_ref().get(WRAPPING..).context("an RSA key of another size")?;
        let text = BASE64_STANDARD.encode(der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|l| str::from_utf8(l).ok()).collect();
        let pem =
            format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n", lines.join("\n"));
        Ok(Self { pem, public: pair.public_key().as_ref().to_vec() })
    }

    /// The one key of this process, made when it is first asked for.
    pub(crate) fn shared() -> anyhow::Result<Self> {
        static KEY: OnceLock<Key> = OnceLock::new();
        if let Some(key) = KEY.get() {
            return Ok(key.clone());
        }
        let made = Self::generate()?;
        Ok(KEY.get_or_init(|| made).clone())
    }
}
