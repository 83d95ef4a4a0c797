//! Keys of the platform itself, by name, encrypted in Postgres.

use domain::{
    clock::Clock,
    ids::{Id, Ids},
};
use secrecy::ExposeSecret;
use sqlx::PgPool;
use telemetry::signing::SigningKey;

use crate::{
    envelope::Envelope,
    steps::{self, Step},
};

/// The key of that name; made at the first start, which is `step`. When two control planes
/// start at once the first one's key wins.
pub(crate) async fn load_or_create(
    db: &PgPool,
    envelope: &Envelope,
    clock: &dyn Clock,
    ids: &Ids,
    name: &str,
    step: Step,
) -> anyhow::Result<SigningKey> {
    let mut tx = db.begin().await?;
    sqlx::query!("lock table platform_keys in share row exclusive mode").execute(&mut *tx).await?;
    let stored = sqlx::query_scalar!("select secret_id from platform_keys where name = $1", name)
        .fetch_optional(&mut *tx)
        .await?;
    let key = if let Some(id) = stored {
        SigningKey::from_pkcs8(envelope.read(&mut *tx, id).await?.expose_secret().clone())?
    } else {
        let key = SigningKey::generate();
        let public = key.public();
        let id = envelope.store(&mut tx, clock, ids, key.pkcs8()).await?;
        sqlx::query!(
            "insert into platform_keys (name, secret_id, public_key, created_at) values ($1, $2, $3, $4)",
            name,
            id.uuid(),
            public.as_bytes(),
            clock.now(),
        )
        .execute(&mut *tx)
        .await?;
        key
    };
    steps::commit(tx, step).await?;
    Ok(key)
}
