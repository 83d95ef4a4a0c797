//! A test delivery: asked for, and waited for until it is stored.

use std::time::Duration;

use forge::{ForgeError, Hook};
use tokio::time::Instant;

use super::{
    hook::address,
    progress::{Halt, Progress, done, failed, unanswered, warning},
    store::{Managed, newest_ping},
};
use crate::{
    App,
    projects::store::Repository,
    steps::{Step, around},
    wake::{Topic, news},
};

const STEP: &str = "test delivery";
/// Longest wait for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the webhook is asked what it was answered, while nothing arrives.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// A test of a repository's webhook.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival<'a> {
    pub(super) app: &'a App,
    pub(super) repository: &'a Repository,
    pub(super) managed: Managed,
}

impl Arrival<'_> {
    /// Has a ping sent, and says whether it arrived, was verified with the current secret, and
    /// stored.
    pub(super) async fn test(&self, hook: &Hook, progress: &Progress) -> Result<bool, Halt> {
        let (app, name) = (self.app, &self.repository.name);
        let mut wake = app.wake.subscribe(Topic::Deliveries);
        let known = newest_ping(&app.db, &self.repository.source).await?.map(|(id, _)| id);
        let asked = around(Step::CallPing, app.forge.ping_hook(name, hook.id)).await;
        asked.map_err(|error| unanswered(STEP, &error))?;
        let until = Instant::now() + PATIENCE;
        let (mut answer, mut looked_at) = (None, Instant::now());
        loop {
            wake.mark_unchanged();
            match newest_ping(&app.db, &self.repository.source).await? {
                Some((id, false)) if Some(id) != known => {
                    progress.say(done(STEP, "arrived, verified and stored")).await;
                    return Ok(true);
                }
                Some((id, true)) if Some(id) != known => {
                    let next = "run the same again in a minute; the previous secret stays good";
                    let found = "arrived, but the code host still signs with the previous secret";
                    progress.say(warning(STEP, found, next)).await;
                    return Ok(false);
                }
                Some(_) | None => {}
            }
            let refused = |answer: &Option<(u16, String)>| {
                answer.as_ref().is_some_and(|(status, _)| !(200..300).contains(status))
            };
            // What it was answered before does not count.
            if Instant::now() >= until || (refused(&answer) && answer != hook.last_response) {
                break;
            }
            news(&mut wake, ASK_EVERY).await;
            // Others' deliveries wake us too.
            if looked_at.elapsed() >= ASK_EVERY {
                answer = self.answered(hook.id).await;
                looked_at = Instant::now();
            }
        }
        let (found, next) = self.explain(answer.as_ref());
        progress.say(failed(STEP, found, next)).await;
        Ok(false)
    }

    /// What the code host was answered last.
    async fn answered(&self, hook: u64) -> Option<(u16, String)> {
        let hooks: Result<Vec<Hook>, ForgeError> = self.app.forge.hooks(&self.repository.name).await;
        hooks.ok()?.into_iter().find(|found| found.id == hook)?.last_response
    }

    /// Why nothing was stored, and what to do.
    fn explain(&self, answer: Option<&(u16, String)>) -> (String, String) {
        let (url, name) = (address(self.app, self.repository), &self.repository.name);
        explain(answer, &url, &name.to_string(), self.managed)
    }
}

/// The answer GitHub got in words, and what to do about it.
pub(super) fn explain(
    answer: Option<&(u16, String)>,
    url: &str,
    name: &str,
    managed: Managed,
) -> (String, String) {
    let reach = "see that public_url in the configuration is right and that proxy, tunnel and firewall let it through to listen.api; then run the same again";
    match answer {
        None => {
            ("nothing arrived within 10 s, and the code host does not say why".to_owned(), reach.to_owned())
        }
        Some((401, _)) => (
            "it was refused (401): the webhook signs with another secret than ours".to_owned(),
            match managed {
                Managed::Command => format!("run `callboard repo add {name} --reset-secret`"),
                Managed::File => format!(
                    "run `callboard repo add {name} --reset-secret`: it gives the webhook the secret of webhook_secret_file"
                ),
            },
        ),
        Some((status @ (404 | 405), _)) => {
            (format!("something answers at {url}, but not this platform ({status})"), reach.to_owned())
        }
        Some((status @ (502 | 504), words)) => {
            (format!("the code host could not reach {url}: {words} ({status})"), reach.to_owned())
        }
        Some((503, _)) => (
            "it arrived, and could not be stored (503)".to_owned(),
            "look at the platform's log and at Postgres; then run the same again".to_owned(),
        ),
        Some((status, _)) if (200..300).contains(status) => (
            format!("the code host was answered {status}, but nothing is stored here"),
            format!("see that {url} is this platform and not another one"),
        ),
        Some((status, words)) => (format!("the code host was answered {status}: {words}"), reach.to_owned()),
    }
}
