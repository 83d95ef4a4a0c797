//! The repository's webhook at the code host: as it should be, and as it is.

use std::collections::BTreeSet;

use forge::{ForgeError, Hook, NewHook};
use github::webhook::EVENTS;
use secrecy::SecretString;
use serde_json::json;

use super::{
    Asked,
    progress::{Halt, Progress, done, failed, planned, unanswered, unchanged},
    record,
    store::{self, Managed, Record},
};
use crate::{
    App,
    projects::store::Repository,
    steps::{self, Step, around},
};

pub(super) const STEP: &str = "webhook";

/// Where the webhook has to send to.
pub(super) fn address(app: &App, repository: &Repository) -> String {
    if repository.own_hook {
        format!("{}/webhooks/github/{}", app.public_url, repository.source)
    } else {
        format!("{}/webhooks/github", app.public_url)
    }
}

fn same_address(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// What is not as it should be, in words.
pub(super) fn differences(hook: &Hook, url: &str) -> Vec<&'static str> {
    let events: BTreeSet<&str> = hook.events.iter().map(String::as_str).collect();
    [
        (!same_address(&hook.url, url), "another address"),
        (events != BTreeSet::from(EVENTS), "other events"),
        (!hook.sends_json, "not application/json"),
        (!hook.active, "switched off"),
        (hook.is_insecure, "certificates are not checked"),
        (!hook.has_secret, "no secret"),
    ]
    .into_iter()
    .filter_map(|(differs, words)| differs.then_some(words))
    .collect()
}

/// Ours among them: the one we made, else the one that sends to us.
pub(super) fn ours<'h>(hooks: &'h [Hook], known: Option<u64>, url: &str) -> Option<&'h Hook> {
    let made = hooks.iter().find(|hook| known == Some(hook.id));
    made.or_else(|| hooks.iter().find(|hook| same_address(&hook.url, url)))
}

/// What a person does where our credential may not.
pub(super) fn by_hand(app: &App, record: &Record) -> String {
    let secret = match record.managed {
        Managed::File => "the secret of webhook_secret_file".to_owned(),
        Managed::Command => {
            format!(
                "the secret that `callboard repo add {} --write-secret FILE` writes",
                record.repository.name
            )
        }
    };
    format!(
        "give the token the right to manage webhooks (its owner administers the repository) and run the same again; \
         or make the webhook by hand: address {}, content type application/json, {secret}, events {}",
        address(app, &record.repository),
        EVENTS.join(", ")
    )
}

/// The code host's words, without the secret that was sent.
fn without_secret(app: &App, error: ForgeError, secret: &SecretString) -> ForgeError {
    let clean = |message: String| app.censor.with(secret.clone()).censor(&message).into_owned();
    match error {
        ForgeError::Limited { retry_after, limit } => ForgeError::Limited { retry_after, limit },
        ForgeError::BadCredential { message } => ForgeError::BadCredential { message: clean(message) },
        ForgeError::Denied { message } => ForgeError::Denied { message: clean(message) },
        ForgeError::Missing { message } => ForgeError::Missing { message: clean(message) },
        ForgeError::Conflict { message } => ForgeError::Conflict { message: clean(message) },
        ForgeError::Invalid { message } => ForgeError::Invalid { message: clean(message) },
        ForgeError::Unsupported { message } => ForgeError::Unsupported { message: clean(message) },
        ForgeError::Outage { message } => ForgeError::Outage { message: clean(message) },
    }
}

/// Makes the webhook, or makes it what it should be with the current secret, and records it.
pub(super) async fn give(app: &App, actor: &str, record: &Record, id: Option<u64>) -> Result<Hook, Halt> {
    let Some(current) = record.current_secret else { return Err(sqlx::Error::RowNotFound.into()) };
    let wanted = NewHook {
        url: address(app, &record.repository),
        events: EVENTS.map(str::to_owned).to_vec(),
        secret: record::secret(app, current).await?,
    };
    let name = &record.repository.name;
    let call = async {
        match id {
            Some(id) => app.forge.update_hook(name, id, &wanted).await,
            None => app.forge.create_hook(name, &wanted).await,
        }
    };
    let hook = around(Step::CallHook, call)
        .await
        .map_err(|error| unanswered(STEP, &without_secret(app, error, &wanted.secret)))?;
    let mut tx = app.db.begin().await?;
    // A file's secret has another row after every start.
    let given = (record.managed == Managed::Command).then_some(current);
    store::note_hook(&mut tx, record.repository.id, hook.id, given).await?;
    let detail = json!({ "hook": hook.id, "url": hook.url, "made": id.is_none() });
    record::note(&mut tx, app, &record.repository, actor, "repository.hook_set", detail).await?;
    steps::commit(tx, Step::HookRecorded).await?;
    Ok(hook)
}

/// Sees that the webhook is as it should be. `None`: there is none to test.
pub(super) async fn set(
    app: &App,
    actor: &str,
    record: &Record,
    asked: &Asked,
    progress: &Progress,
) -> Result<Option<Hook>, Halt> {
    let url = address(app, &record.repository);
    let hooks = match app.forge.hooks(&record.repository.name).await {
        Ok(hooks) => hooks,
        Err(
            error @ (ForgeError::Denied { .. } | ForgeError::Missing { .. } | ForgeError::Unsupported { .. }),
        ) => {
            let found = format!("our credential may not see the repository's webhooks ({error})");
            progress.say(failed(STEP, found, by_hand(app, record))).await;
            return Ok(None);
        }
        Err(
            error @ (ForgeError::Limited { .. }
            | ForgeError::BadCredential { .. }
            | ForgeError::Conflict { .. }
            | ForgeError::Invalid { .. }
            | ForgeError::Outage { .. }),
        ) => return Err(unanswered(STEP, &error)),
    };
    let found = ours(&hooks, record.hook, &url);
    let others = hooks.len() - usize::from(found.is_some());
    let others = match others {
        0 => String::new(),
        1 => "; another webhook is left alone".to_owned(),
        n => format!("; {n} other webhooks are left alone"),
    };
    let Some(hook) = found else {
        if asked.dry_run {
            progress.say(planned(STEP, format!("would be made, to {url}{others}"))).await;
            return Ok(None);
        }
        let made = give(app, actor, record, None).await?;
        progress.say(done(STEP, format!("made, to {url}{others}"))).await;
        return Ok(Some(made));
    };
    let mut wrong = differences(hook, &url);
    if record.owes_secret() {
        wrong.push("a secret that may not be ours");
    } else if asked.reset_secret {
        wrong.push("its secret is set again");
    }
    if wrong.is_empty() {
        progress.say(unchanged(STEP, format!("sends what we need to {url}{others}"))).await;
        return Ok((!asked.dry_run).then(|| hook.clone()));
    }
    let wrong = wrong.join(", ");
    if asked.dry_run {
        progress.say(planned(STEP, format!("would be mended, to {url}: {wrong}{others}"))).await;
        return Ok(None);
    }
    let mended = give(app, actor, record, Some(hook.id)).await?;
    progress.say(done(STEP, format!("mended, to {url}: {wrong}{others}"))).await;
    // What it answered before says nothing about the webhook as it is now.
    Ok(Some(Hook { last_response: hook.last_response.clone(), ..mended }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let right = Hook {
            id: 1,
            url: "https://x/h/".to_owned(),
            events: EVENTS.into_iter().rev().map(str::to_owned).collect(),
            active: true,
            sends_json: true,
            is_insecure: false,
            has_secret: true,
            last_response: None,
        };
        assert!(differences(&right, "https://x/h").is_empty());
        let wrong = Hook {
            url: "https://y".to_owned(),
            events: vec!["*".to_owned()],
            active: false,
            sends_json: false,
            is_insecure: true,
            has_secret: false,
            ..right.clone()
        };
        assert_eq!(
            differences(&wrong, "https://x/h"),
            [
                "another address",
                "other events",
                "not application/json",
                "switched off",
                "certificates are not checked",
                "no secret"
            ]
        );
        let moved = [Hook { id: 7, ..wrong }, right];
        // The one we made is ours wherever it points to; else the one that points to us.
        assert_eq!(ours(&moved, Some(7), "https://x/h").map(|h| h.id), Some(7));
        assert_eq!(ours(&moved, Some(9), "https://x/h").map(|h| h.id), Some(1));
        assert_eq!(ours(&moved, None, "https://z").map(|h| h.id), None);
    }
}
