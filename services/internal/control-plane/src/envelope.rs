//! Envelope encryption: every secret in Postgres has its own data key, wrapped by the
//! platform's key. Rotating the platform's key rewraps data keys and leaves secrets alone.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use domain::{
    clock::Clock,
    ids::{Id, Ids, SecretId},
};
use secrecy::{ExposeSecret, SecretBox};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

/// Why a secret cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvelopeError {
    #[error(
        "the secret was encrypted with key {stored}, and the configured key is {configured}; set key_file back"
    )]
    OtherKey { stored: String, configured: String },
    #[error(
        "a stored secret does not decrypt: its row was changed, or key_file is not the one it was written with"
    )]
    Damaged,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// The platform's key-encryption key.
pub(crate) struct Envelope {
    key_id: String,
    key: LessSafeKey,
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Envelope({})", self.key_id)
    }
}

fn aes(key: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("keys are 32 bytes"))
}

/// Nonces and data keys come from the operating system, never from seeded randomness.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

fn seal(key: &LessSafeKey, context: &[u8], plain: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE_LEN] = random();
    let mut sealed = plain.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut sealed)
        .expect("secrets are far below the cipher's limit");
    [nonce.as_slice(), &sealed].concat()
}

fn open(key: &LessSafeKey, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or(EnvelopeError::Damaged)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| EnvelopeError::Damaged)?;
    let mut bytes = rest.to_vec();
    let plain =
        key.open_in_place(nonce, Aad::from(context), &mut bytes).map_err(|_| EnvelopeError::Damaged)?;
    Ok(plain.to_vec())
}

impl Envelope {
    /// From a key of 32 bytes, which the configuration has checked.
    pub(crate) fn new(key: &SecretBox<Vec<u8>>) -> Self {
        let key = key.expose_secret();
        Self { key_id: hex::encode(&Sha256::digest(key)[..6]), key: aes(key) }
    }

    /// Encrypts and stores a secret. Its id is bound into the ciphertext, so that rows
    /// cannot be swapped.
    pub(crate) async fn store(
        &self,
        tx: &mut PgConnection,
        clock: &dyn Clock,
        ids: &Ids,
        plain: &[u8],
    ) -> sqlx::Result<SecretId> {
        let id: SecretId = ids.next();
        let data_key: [u8; 32] = random();
        let (context, wrapped) = (id.uuid().into_bytes(), seal(&self.key, id.uuid().as_bytes(), &data_key));
        sqlx::query!(
            "insert into secrets (secret_id, key_id, wrapped_key, ciphertext, created_at) values ($1, $2, $3, $4, $5)",
            id.uuid(),
            self.key_id,
            wrapped,
            seal(&aes(&data_key), &context, plain),
            clock.now(),
        )
        .execute(tx)
        .await?;
        Ok(id)
    }

    /// Reads a secret back.
    pub(crate) async fn read(
        &self,
        db: impl sqlx::PgExecutor<'_>,
        id: Uuid,
    ) -> Result<SecretBox<Vec<u8>>, EnvelopeError> {
        let row =
            sqlx::query!("select key_id, wrapped_key, ciphertext from secrets where secret_id = $1", id)
                .fetch_one(db)
                .await?;
        if row.key_id != self.key_id {
            return Err(EnvelopeError::OtherKey { stored: row.key_id, configured: self.key_id.clone() });
        }
        let data_key = open(&self.key, id.as_bytes(), &row.wrapped_key)?;
        if data_key.len() != 32 {
            return Err(EnvelopeError::Damaged);
        }
        Ok(SecretBox::new(Box::new(open(&aes(&data_key), id.as_bytes(), &row.ciphertext)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_or_another_context_does_not_open() {
        let key = aes(&[7; 32]);
        let sealed = seal(&key, b"row-1", b"hunter2");
        assert_eq!(open(&key, b"row-1", &sealed).expect("opens"), b"hunter2");
        assert!(open(&key, b"row-2", &sealed).is_err());
        assert!(open(&aes(&[8; 32]), b"row-1", &sealed).is_err());
        let mut changed = sealed.clone();
        changed[NONCE_LEN] ^= 1;
        assert!(open(&key, b"row-1", &changed).is_err());
        assert!(open(&key, b"row-1", &sealed[..5]).is_err());
    }

    #[test]
    fn the_key_does_not_print() {
        let envelope = Envelope::new(&SecretBox::new(Box::new(vec![7; 32])));
        assert!(format!("{envelope:?}").len() < 30);
    }
}
