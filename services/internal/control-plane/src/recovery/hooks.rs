//! Which webhook at the code host brings a repository's deliveries, and whether we may see what
//! became of them.

use chrono::{DateTime, TimeDelta, Utc};
use domain::names::APP_SOURCE;
use forge::{ForgeError, Hook, HookOf};

use super::{BrokenOff, store};
use crate::{App, projects::store::Repository};

/// How long it is believed that nothing can be seen.
const BELIEVED: TimeDelta = TimeDelta::hours(1);

/// Whether the deliveries of a webhook can be looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// They can.
    On,
    /// The credential may not see them.
    NoRight,
    /// No webhook sends to our address.
    NoHook,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::NoRight => "no_right",
            Self::NoHook => "no_hook",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::On, Self::NoRight, Self::NoHook].into_iter().find(|state| state.name() == name)
    }
}

/// The webhook whose deliveries are looked through, and how far they were.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) of: HookOf,
    pub(super) looked_to: Option<DateTime<Utc>>,
}

/// The source its deliveries are stored under.
pub(super) fn source(repository: &Repository) -> &str {
    if repository.own_hook { &repository.source } else { APP_SOURCE }
}

/// Where the repository's deliveries are sent.
pub(super) fn address(app: &App, repository: &Repository) -> String {
    if repository.own_hook {
        format!("{}/webhooks/github/{}", app.public_url, repository.source)
    } else {
        format!("{}/webhooks/github", app.public_url)
    }
}

/// The webhook to look at; `None`: there is none that can be seen. That is believed for a while, but
/// not by the `first` look of a process.
pub(super) async fn watched(
    app: &App,
    repository: &Repository,
    first: bool,
) -> Result<Option<Watched>, BrokenOff> {
    let known = store::hook(&app.db, repository).await?;
    let looked_to = known.as_ref().and_then(|known| known.looked_to);
    if !repository.own_hook {
        // An App has one webhook, and may always see what became of its deliveries.
        // Before, it may have been known by a hook of its own that could not be seen.
        if known.is_none_or(|known| known.state != State::On) {
            store::note_hook(app, repository, State::On, None).await?;
        }
        return Ok(Some(Watched { of: HookOf::App, looked_to }));
    }
    let watched = |id| {
        let of = HookOf::Repository { name: repository.name.clone(), id };
        Some(Watched { of, looked_to })
    };
    if let Some(known) = &known {
        match (known.state, known.hook_id) {
            (State::On, Some(id)) => return Ok(watched(id)),
            (State::On, None) => {}
            // A delivery that came since shows that there is a webhook by now.
            (State::NoRight | State::NoHook, _) => {
                let young = app.clock.now() - known.asked_at < BELIEVED;
                if young && !first && !known.was_heard_of {
                    return Ok(None);
                }
            }
        }
    }
    Ok(found(app, repository).await?.and_then(watched))
}

/// Asks the code host which webhook it is, and remembers it.
pub(super) async fn found(app: &App, repository: &Repository) -> Result<Option<u64>, BrokenOff> {
    let (state, id) = match app.forge.hooks(&repository.name).await {
        Ok(hooks) => match find(&hooks, &address(app, repository), &repository.source) {
            Some(hook) => (State::On, Some(hook.id)),
            None => (State::NoHook, None),
        },
        Err(error) => (off(error)?, None),
    };
    store::note_hook(app, repository, state, id).await?;
    Ok(id)
}

/// What a refusal means; another failure is one.
pub(super) fn off(error: ForgeError) -> Result<State, BrokenOff> {
    match error {
        ForgeError::Denied { .. } | ForgeError::Missing { .. } | ForgeError::Unsupported { .. } => {
            Ok(State::NoRight)
        }
        ForgeError::Limited { .. }
        | ForgeError::BadCredential { .. }
        | ForgeError::Conflict { .. }
        | ForgeError::Invalid { .. }
        | ForgeError::Outage { .. } => Err(BrokenOff::Forge(error)),
    }
}

/// The one that sends to our address; else the only one that sends to this source somewhere,
/// such as to the address we had before.
fn find<'a>(hooks: &'a [Hook], address: &str, source: &str) -> Option<&'a Hook> {
    let path = format!("/webhooks/github/{source}");
    let ours = |hook: &&Hook| hook.url.trim_end_matches('/').ends_with(&path);
    hooks.iter().find(|hook| hook.url == address).or_else(|| {
        let mut alike = hooks.iter().filter(ours);
        alike.next().filter(|_| alike.next().is_none())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(id: u64, url: &str) -> Hook {
        Hook {
            id,
            url: url.to_owned(),
            events: Vec::new(),
            active: true,
            sends_json: true,
            is_insecure: false,
            has_secret: true,
            last_response: None,
        }
    }

    #[test]
    fn our_webhook_is_found_by_its_address() {
        let ours = "https://callboard.example/webhooks/github/hello";
        let found = |hooks: &[Hook]| find(hooks, ours, "hello").map(|hook| hook.id);
        let other = hook(1, "https://ci.example/hook");
        let before = hook(2, "http://10.0.0.7:8080/webhooks/github/hello");
        assert_eq!(found(std::slice::from_ref(&other)), None);
        assert_eq!(found(&[other, before.clone()]), Some(2));
        assert_eq!(found(&[before.clone(), hook(3, ours)]), Some(3));
        assert_eq!(found(&[before, hook(4, "https://else.example/webhooks/github/hello")]), None);
    }
}
