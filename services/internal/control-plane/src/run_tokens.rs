//! Run tokens: the one secret of an attempt.
//!
//! A token is a pure function of the platform's key and the attempt's row, so that nothing
//! has to be stored to recognise it in a transcript or a changeset.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    clock::Clock,
    ids::{AttemptId, Ids, RunId},
};
use secrecy::SecretString;
use sqlx::PgPool;
use telemetry::signing::{Claims, SigningKey};

use crate::{envelope::Envelope, platform_keys, steps::Step};

const KEY_NAME: &str = "run-token";
/// Audience of run tokens.
const AUDIENCE: &str = "agent-gateway";

#[derive(Debug)]
pub(crate) struct RunTokens {
    key: SigningKey,
}

impl RunTokens {
    /// With the platform's signing key.
    pub(crate) async fn load_or_create(
        db: &PgPool,
        envelope: &Envelope,
        clock: &dyn Clock,
        ids: &Ids,
    ) -> anyhow::Result<Self> {
        let step = Step::RunTokenKeyMade;
        Ok(Self { key: platform_keys::load_or_create(db, envelope, clock, ids, KEY_NAME, step).await? })
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
