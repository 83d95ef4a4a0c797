//! The publisher: applies effects, one process at a time, in order within a run.

use std::{collections::HashSet, sync::Arc, time::Duration};

use domain::{
    censor::Censor,
    run::{RunState, Waiting},
};
use forge::ForgeError;
use futures::{StreamExt, stream::FuturesUnordered};
use telemetry::shutdown::Shutdown;
use tokio_util::sync::CancellationToken;

use super::{
    applying::{Failure, apply},
    effects::{self, Effect, End, Made, after},
    limits::{self, Wait},
    queue::{self, Pending},
    recording::record,
    say_status,
    tick::tick,
};
use crate::{
    App,
    installations::{Learnt, learn},
    projects::store::by_id,
    runs::{self, RunError},
    singleton::{self, Leads, Singleton},
    steps::{self, Step, around},
    wake::{Topic, news},
};

/// How often effects are looked for without a wake-up.
const SWEEP: Duration = Duration::from_secs(1);
/// Effects that are applied at the same time.
const AT_ONCE: usize = 4;

/// Applies effects until the process ends.
pub(crate) fn spawn(app: &Arc<App>, shutdown: &Shutdown) {
    // Its patterns are compiled at first use, which nobody should wait for.
    domain::neutralise::neutralise("", 1);
    domain::neutralise::neutralise_line("", 1);
    // And gitleaks' rules are read from their file.
    tokio::task::spawn_blocking(|| Censor::default().censor_for_posting("").len());
    singleton::spawn(app, shutdown, Singleton::Publisher, |app, leads, ended| {
        Box::pin(work(app, leads, ended))
    });
}

/// Applies effects as long as this process leads.
async fn work(app: &App, leads: &mut Leads, ended: &CancellationToken) -> anyhow::Result<()> {
    let mut wake = app.wake.subscribe(Topic::Effects);
    let mut busy = HashSet::new();
    let mut under_way = FuturesUnordered::new();
    loop {
        wake.mark_unchanged();
        if ended.is_cancelled() {
            // What is out gets to its end; nothing new is begun.
            while under_way.next().await.is_some() {}
            return Ok(());
        }
        leads.still().await?;
        tick(app, app.clock.now()).await?;
        for effect in queue::due(&app.db, app.clock.now()).await? {
            if under_way.len() < AT_ONCE && busy.insert(effect.lane.clone()) {
                under_way.push(async move {
                    let lane = effect.lane.clone();
                    attempt(app, effect).await;
                    lane
                });
            }
        }
        tokio::select! {
            Some(lane) = under_way.next() => {
                busy.remove(&lane);
            }
            () = news(&mut wake, SWEEP) => {}
            () = ended.cancelled() => {}
        }
    }
}

/// Applies an effect, and records how it ended.
async fn attempt(app: &App, pending: Pending) {
    let kind = pending.effect.kind();
    let now = app.clock.now();
    let known_at = after(now, pending.effect.in_doubt_for(app.forge.list_lag()));
    let result = match by_id(&app.db, pending.repository).await {
        Ok(repository) => {
            let left = app.forge.allowance(&repository.name);
            match limits::wait(pending.effect.priority(), &left, now) {
                Some(wait) => limits::hold_back(app, &pending, &wait, false).await.map_err(Failure::from),
                None => match limits::begin(app, &pending, now, known_at).await {
                    Ok(true) => {
                        match around(pending.effect.step(), apply(app, &pending, &repository)).await {
                            Ok(applied) => record(app, &pending, applied).await.map_err(Failure::from),
                            Err(failure) => Err(failure),
                        }
                    }
                    Ok(false) => Ok(()),
                    Err(error) => Err(error.into()),
                },
            }
        }
        Err(error) => Err(error.into()),
    };
    let Err(failure) = result else { return };
    if let Err(error) = give_up_or_retry(app, &pending, failure).await {
        tracing::warn!(effect_id = %pending.id, kind, error = %telemetry::logging::chain(&error), "cannot record how an effect ended; it is tried again");
        // Postgres is away: do not spin.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Tries again, skips what is nice to have, or gives up with a sentence.
async fn give_up_or_retry(app: &App, pending: &Pending, failure: Failure) -> Result<(), RunError> {
    let mut failure = failure;
    let mut text = app.censor.censor(&sentence(&failure)).into_owned();
    let now = app.clock.now();
    let kind = pending.effect.kind();
    // It may be the repository that is out of reach or moved, and not this call that is wrong.
    if matches!(failure, Failure::Forge(ForgeError::Denied { .. } | ForgeError::Missing { .. })) {
        let why = match learn(app, pending.repository).await? {
            Learnt::Closed(why) => Some(why),
            Learnt::Moved => Some(text.clone()),
            Learnt::Unknown(error) => {
                // Work is not given up on a guess: it waits for the answer.
                failure = Failure::Forge(error);
                text = app.censor.censor(&sentence(&failure)).into_owned();
                None
            }
            Learnt::Nothing => None,
        };
        if let Some(why) = why {
            tracing::warn!(effect_id = %pending.id, kind, why, "the effect waits for its repository");
            return limits::hold_back(app, pending, &Wait { until: now, why, is_limit: false }, true).await;
        }
    }
    let tries = u32::try_from(pending.tries).unwrap_or_default() + 1;
    if let Failure::Forge(error) = &failure
        && let Some(wait) = error.no_try()
    {
        tracing::warn!(effect_id = %pending.id, kind, wait_s = wait.as_secs(), error = text, "the effect waits");
        let is_limit = matches!(error, ForgeError::Limited { .. });
        let wait = Wait { until: after(now, wait), why: text, is_limit };
        return limits::hold_back(app, pending, &wait, true).await;
    }
    let (wait, refused) = match failure {
        Failure::Forge(
            ForgeError::Limited { .. } | ForgeError::BadCredential { .. } | ForgeError::Outage { .. },
        )
        | Failure::Database(_)
        | Failure::Run(_) => (pending.effect.retry_policy().wait(tries, app.ids.fraction()), false),
        Failure::Forge(
            ForgeError::Denied { .. }
            | ForgeError::Missing { .. }
            | ForgeError::Conflict { .. }
            | ForgeError::Invalid { .. }
            | ForgeError::Unsupported { .. },
        )
        | Failure::Changeset(_) => (None, true),
    };
    if let Some(wait) = wait {
        tracing::warn!(effect_id = %pending.id, trace_id = pending.trace_id, kind, tries, error = text, "effect failed; trying again");
        let wait = wait.max(pending.effect.in_doubt_for(app.forge.list_lag()));
        return Ok(queue::put_off(&app.db, pending, after(now, wait), &text).await?);
    }
    give_up(app, pending, &text, refused).await
}

/// What happened, and what a person can do about it.
fn sentence(failure: &Failure) -> String {
    let said = failure.to_string();
    match failure {
        Failure::Forge(error) if !error.remedy().is_empty() => {
            format!("{}. {}", said.trim_end_matches('.'), error.remedy())
        }
        Failure::Forge(_) | Failure::Run(_) | Failure::Database(_) | Failure::Changeset(_) => said,
    }
}

/// Nobody tries it any more by itself.
async fn give_up(app: &App, pending: &Pending, text: &str, refused: bool) -> Result<(), RunError> {
    let mut tx = app.db.begin().await?;
    let run = match pending.run {
        Some(id) => runs::lock(&mut tx, id).await?,
        None => None,
    };
    let of_result = pending.effect.is_of_result();
    let end = match &run {
        // A person can have it tried again, unless its run is over.
        Some(run) if of_result && run.state != RunState::Active => End::Skipped,
        Some(_) | None if can_be_done_without(&pending.effect, refused) => End::Skipped,
        Some(_) | None => End::Dead,
    };
    if !effects::end(&mut tx, pending.id, end, app.clock.now(), &Made::default(), Some(text)).await? {
        return Ok(());
    }
    if let Some(run) = &run {
        let kind = format!("effect_{}", end.name());
        runs::event(&mut tx, app, run.id, &kind, &format!("{}: {text}", pending.effect.kind())).await?;
        if of_result && end == End::Dead {
            // The work is done and kept: a person decides what becomes of it.
            let message = format!(
                "The result is ready and kept, but could not be published. The {} failed: {text}\n\n\
                 Fix it, then `callboard outbox retry {}`, or `callboard run cancel {}`.",
                pending.effect.kind().replace('_', " "),
                pending.id,
                run.id,
            );
            let held = RunState::Waiting(Waiting::Held);
            let run = runs::move_run(&mut tx, app, run, held, "platform", &message).await?;
            say_status(&mut tx, app, &run).await?;
        }
    }
    steps::commit(tx, Step::EffectGivenUp).await?;
    metrics::counter!("callboard_effects_total", "kind" => pending.effect.kind(), "result" => end.name())
        .increment(1);
    tracing::warn!(effect_id = %pending.id, trace_id = pending.trace_id, kind = pending.effect.kind(), result = end.name(), error = text, "effect given up");
    Ok(())
}

/// What the code host will not do is skipped and said where it is a nicety; what only could not
/// be reached for a day is kept for a person, but for small signs.
fn can_be_done_without(effect: &Effect, refused: bool) -> bool {
    let is_small =
        matches!(effect, Effect::React { .. } | Effect::ReactToComment { .. } | Effect::Progress { .. });
    effect.is_nicety() && (refused || is_small)
}
