//! Changing a webhook's secret without losing a delivery: two are good at once, the webhook gets
//! the new one, a test delivery proves it, and only then the old one may go.

use chrono::{TimeDelta, Utc};
use domain::{ids::Id, names::RepositoryName};
use forge::{ForgeError, Hook};
use proto::admin::SetupStep;
use serde_json::json;

use super::{
    arrival::Arrival,
    hook::{self, address, by_hand},
    progress::{Halt, Progress, done, refused, unanswered, unchanged},
    record::{known, make_secret, note},
    store::{self, Managed, Record},
};
use crate::{
    App,
    steps::{self, Step},
};

const STEP: &str = "secret";

/// How long the old secret is good when nobody ends the rotation.
const OVERLAP: TimeDelta = TimeDelta::hours(24);

/// Rotates the secret, or goes on with a rotation that is open; `finish` ends it.
pub(crate) async fn rotate(
    app: &App,
    actor: &str,
    name: &RepositoryName,
    finish: bool,
    progress: &Progress,
) -> Result<(), Halt> {
    let record = known(app, name).await?;
    if record.managed == Managed::File {
        return Err(refused(
            STEP,
            format!("the configuration file has {name}, and its secret"),
            "let previous_webhook_secret_file name the old secret's file and webhook_secret_file a new one, restart \
             the platform, then run `callboard repo add` with --reset-secret; later take previous_webhook_secret_file \
             out and restart again",
        ));
    }
    if !record.repository.own_hook {
        return Err(refused(
            STEP,
            "the App delivers for all its repositories, with one secret",
            "change it on the App's settings page: let github.app.previous_webhook_secret_file name the old one and \
             github.app.webhook_secret_file the new one, restart the platform, then change it there",
        ));
    }
    if finish {
        return end(app, actor, name, &record, progress).await;
    }
    let record = open(app, actor, record, progress).await?;
    let hook = give(app, actor, &record, progress).await?;
    let arrival = Arrival { app, repository: &record.repository, managed: record.managed };
    if arrival.test(&hook, progress).await? {
        let found = format!(
            "both secrets are good; the old one until {}, or until `callboard repo rotate-secret {name} --finish`",
            until(&record)
                .map_or_else(|| "then".to_owned(), |at| at.format("%Y-%m-%d %H:%M UTC").to_string())
        );
        progress.say(done("rotation", found)).await;
    }
    Ok(())
}

fn until(record: &Record) -> Option<chrono::DateTime<Utc>> {
    record.rotated_at.map(|at| at + OVERLAP)
}

/// From here on both secrets are good. A rotation that is open is gone on with: a third secret
/// would take away the one the webhook may still have.
async fn open(app: &App, actor: &str, mut record: Record, progress: &Progress) -> Result<Record, Halt> {
    if record.previous_secret.is_some() {
        progress.say(unchanged(STEP, "a rotation is open, and goes on")).await;
        return Ok(record);
    }
    let mut tx = app.db.begin().await?;
    store::lock(&mut tx).await?;
    let now = app.clock.now();
    let new = make_secret(&mut tx, app).await?;
    match store::rotate(&mut tx, record.repository.id, new, now).await {
        Ok(()) => {}
        Err(sqlx::Error::RowNotFound) => {
            return Err(refused(STEP, "somebody else rotates it now", "run the same again"));
        }
        Err(error) => return Err(error.into()),
    }
    note(&mut tx, app, &record.repository, actor, "repository.secret_rotated", json!({})).await?;
    steps::commit(tx, Step::SecretRotated).await?;
    record.previous_secret = record.current_secret.replace(new.uuid());
    record.rotated_at = Some(now);
    progress.say(done(STEP, "a new one is made; the old one is still good")).await;
    Ok(record)
}

/// The webhook signs with the new secret from now on.
async fn give(app: &App, actor: &str, record: &Record, progress: &Progress) -> Result<Hook, Halt> {
    let repository = &record.repository;
    let url = address(app, repository);
    let hooks = app.forge.hooks(&repository.name).await.map_err(|error| match error {
        ForgeError::Denied { .. } | ForgeError::Missing { .. } => refused(
            hook::STEP,
            format!("our credential may not change the webhook ({error}); the old secret stays good"),
            by_hand(app, record),
        ),
        ForgeError::Limited { .. }
        | ForgeError::BadCredential { .. }
        | ForgeError::Conflict { .. }
        | ForgeError::Invalid { .. }
        | ForgeError::Unsupported { .. }
        | ForgeError::Outage { .. } => unanswered(hook::STEP, &error),
    })?;
    let Some(found) = hook::ours(&hooks, record.hook, &url) else {
        return Err(refused(
            hook::STEP,
            format!("no webhook sends to {url}; the old secret stays good"),
            format!("run `callboard repo add {}`: it makes one with the new secret", repository.name),
        ));
    };
    if !record.owes_secret() && hook::differences(found, &url).is_empty() {
        progress.say(unchanged(hook::STEP, "has the new secret")).await;
        return Ok(found.clone());
    }
    let given = hook::give(app, actor, record, Some(found.id)).await.map_err(|halt| match halt {
        Halt::Refused(step) => {
            Halt::Refused(SetupStep { found: format!("{}; both secrets stay good", step.found), ..step })
        }
        Halt::Database(_) | Halt::Secret(_) => halt,
    })?;
    progress.say(done(hook::STEP, "has the new secret")).await;
    Ok(Hook { last_response: found.last_response.clone(), ..given })
}

async fn end(
    app: &App,
    actor: &str,
    name: &RepositoryName,
    record: &Record,
    progress: &Progress,
) -> Result<(), Halt> {
    if record.previous_secret.is_none() {
        progress.say(unchanged("rotation", "none is open; one secret is good")).await;
        return Ok(());
    }
    if record.owes_secret() {
        return Err(refused(
            "rotation",
            "the webhook has not got the new secret yet; both stay good",
            format!("run `callboard repo rotate-secret {name}` first: it goes on with the rotation"),
        ));
    }
    ended(app, actor, record).await?;
    progress.say(done("rotation", "over: only the new secret is good")).await;
    Ok(())
}

async fn ended(app: &App, actor: &str, record: &Record) -> Result<(), Halt> {
    let mut tx = app.db.begin().await?;
    store::lock(&mut tx).await?;
    match store::end_rotation(&mut tx, record.repository.id).await {
        Ok(()) => {}
        Err(sqlx::Error::RowNotFound) => {
            return Err(refused(
                "rotation",
                "somebody else ended it, or began another",
                "run the same again",
            ));
        }
        Err(error) => return Err(error.into()),
    }
    note(&mut tx, app, &record.repository, actor, "repository.rotation_finished", json!({})).await?;
    steps::commit(tx, Step::RotationFinished).await?;
    Ok(())
}

/// Ends the rotations that are open for a day, where the webhook has the new secret.
pub(crate) async fn end_old_rotations(app: &App) -> Result<(), Halt> {
    store::note_proven(&app.db).await?;
    for name in store::old_rotations(&app.db, app.clock.now() - OVERLAP).await? {
        let record = known(app, &name).await?;
        ended(app, "platform", &record).await?;
        tracing::info!(repository = %name, "the previous webhook secret is good no more");
    }
    Ok(())
}
