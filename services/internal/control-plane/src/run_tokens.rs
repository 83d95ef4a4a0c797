//! Run tokens: the one secret of an attempt.
//!
//! A token is a pure function of the platform's key and the attempt's row, so that nothing
//! has to be stored to recognise it in a transcript or a changeset.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    clock::Clock,
    ids::{AttemptId, Ids, RunId},
};
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgPool;
use telemetry::signing::{Claims, SigningKey};

use crate::{
    envelope::Envelope,
    steps::{self, Step},
};

const KEY_NAME: &str = "run-token";
/// Audience of run tokens.
const AUDIENCE: &str = "agent-gateway";

#[derive(Debug)]
pub(crate) struct RunTokens {
    key: SigningKey,
}

impl RunTokens {
    /// The platform's signing key; made at the first start. When two control planes start at
    /// once the first one's key wins.
    pub(crate) async fn load_or_create(
        db: &PgPool,
        envelope: &Envelope,
        clock: &dyn Clock,
        ids: &Ids,
    ) -> anyhow::Result<Self> {
        let mut tx = db.begin().await?;
        sqlx::query!("lock table platform_keys in share row exclusive mode").execute(&mut *tx).await?;
        let stored = sqlx::query_scalar!("select secret_id from platform_keys where name = $1", KEY_NAME)
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
                KEY_NAME,
                domain::ids::Id::uuid(id),
                public.as_bytes(),
                clock.now(),
            )
            .execute(&mut *tx)
            .await?;
            key
        };
        steps::commit(tx, Step::RunTokenKeyMade).await?;
        Ok(Self { key })
    }

    /// The public half, for the agent gateway.
    pub(crate) fn public(&self) -> Vec<u8> {
        self.key.public().as_bytes().to_vec()
    }

    /// The token of an attempt.
    pub(crate) fn mint(
        &self,
        run: RunId,
        attempt: AttemptId,
        leased_at: DateTime<Utc>,
        deadline_at: DateTime<Utc>,
    ) -> SecretString {
        let claims = Claims {
            aud: AUDIENCE.to_owned(),
            sub: attempt.to_string(),
            run: Some(run.to_string()),
            iat: leased_at.timestamp(),
            // The deadline ends the attempt, and with it the token; this is the backstop.
            exp: (deadline_at + TimeDelta::minutes(1)).timestamp(),
        };
        self.key.sign(KEY_NAME, &claims)
    }
}
