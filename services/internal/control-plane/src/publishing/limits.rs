//! The code host's limits, as the publisher honours them: what people wait for goes first, the
//! rest waits, and a run whose result waits says so.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::run::{RunState, Waiting};
use forge::{Allowance, Level};
use sqlx::PgConnection;

use super::{
    effects::{Priority, after},
    queue::{self, Pending},
    say_status,
};
use crate::{
    App,
    runs::{self, Run, RunError},
    steps::{self, Step},
};

/// Waits up to here are not worth a word.
const WORTH_A_WORD: TimeDelta = TimeDelta::seconds(10);
/// When a budget that is nearly used up is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Until when an effect waits, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) until: DateTime<Utc>,
    pub(super) why: String,
    /// The code host's limits are why, and not something that is to be mended.
    pub(super) is_limit: bool,
}

/// How long an effect of that priority waits, by what is left; `None`: it may go.
pub(super) fn wait(priority: Priority, left: &Allowance, now: DateTime<Utc>) -> Option<Wait> {
    let wait = |until, why: &str| Some(Wait { until, why: why.to_owned(), is_limit: true });
    if let Some(until) = left.closed_until.filter(|until| *until > now) {
        return wait(until, "the code host's limit is used up");
    }
    let gives_way = match left.level {
        Level::Plenty => false,
        Level::Low => priority >= Priority::Nicety,
        Level::Scarce => priority >= Priority::Label,
    };
    if gives_way {
        return wait(
            after(now, LOOK_AGAIN),
            "the code host's limit is nearly used up, and people wait for other effects",
        );
    }
    if left.writes_in.is_zero() {
        return None;
    }
    wait(after(now, left.writes_in), "the code host's limit on new content is used up")
}

/// A call is about to go out; a run that waited for it is active again. False when the effect is
/// not pending any more, or another publisher was first.
pub(super) async fn begin(
    app: &App,
    pending: &Pending,
    now: DateTime<Utc>,
    known_at: DateTime<Utc>,
) -> Result<bool, RunError> {
    let mut tx = app.db.begin().await?;
    let run = of_result(&mut tx, pending).await?;
    if !queue::mark_tried(&mut tx, pending, now, known_at).await? {
        return Ok(false);
    }
    if let Some(run) = run.filter(waits) {
        let run = go_on(&mut tx, app, &run).await?;
        say_status(&mut tx, app, &run).await?;
    }
    steps::commit(tx, Step::EffectTried).await?;
    Ok(true)
}

/// An effect waits; nothing happened. Where limits are why, the run whose result it is waits too,
/// and says until when. `was_tried`: a call was refused.
pub(super) async fn hold_back(
    app: &App,
    pending: &Pending,
    wait: &Wait,
    was_tried: bool,
) -> Result<(), RunError> {
    let mut tx = app.db.begin().await?;
    let run = of_result(&mut tx, pending).await?;
    if !queue::hold_back(&mut tx, pending, wait.until, &wait.why, was_tried).await? {
        return Ok(());
    }
    let long = wait.is_limit && wait.until - app.clock.now() > WORTH_A_WORD;
    if let Some(run) = run
        && (waits(&run) || long && run.state == RunState::Active)
    {
        let mut run = if waits(&run) { go_on(&mut tx, app, &run).await? } else { run };
        if long {
            let state = RunState::Waiting(Waiting::RateLimit);
            run = runs::move_run(&mut tx, app, &run, state, "platform", &sentence(wait.until)).await?;
        }
        say_status(&mut tx, app, &run).await?;
    }
    Ok(steps::commit(tx, Step::EffectPutOff).await?)
}

/// The run whose result the effect is part of, locked.
async fn of_result(tx: &mut PgConnection, pending: &Pending) -> Result<Option<Run>, RunError> {
    match pending.run.filter(|_| pending.effect.is_of_result()) {
        Some(id) => runs::lock(tx, id).await,
        None => Ok(None),
    }
}

fn waits(run: &Run) -> bool {
    run.state == RunState::Waiting(Waiting::RateLimit)
}

async fn go_on(tx: &mut PgConnection, app: &App, run: &Run) -> Result<Run, RunError> {
    runs::move_run(tx, app, run, RunState::Active, "platform", "Publishing goes on.").await
}

/// What the run waits for.
fn sentence(until: DateTime<Utc>) -> String {
    let at = minute_of(until);
    format!("The result is ready and kept. GitHub's limit is used up; publishing goes on by itself at {at}.")
}

/// The minute by which something has gone on, for people.
pub(crate) fn minute_of(until: DateTime<Utc>) -> String {
    (until + TimeDelta::seconds(59)).format("%H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Priority; 4] = [Priority::Result, Priority::Word, Priority::Label, Priority::Nicety];

    fn now() -> DateTime<Utc> {
        "2026-11-22T14:02:10Z".parse().expect("a time")
    }

    /// Seconds each priority waits: results, words, labels, niceties.
    fn waits(left: &Allowance) -> [i64; 4] {
        ALL.map(|priority| wait(priority, left, now()).map_or(0, |wait| (wait.until - now()).num_seconds()))
    }

    #[test]
    fn what_nobody_waits_for_gives_way_first() {
        let full = Allowance::FULL;
        assert_eq!(waits(&full), [0, 0, 0, 0]);
        assert_eq!(waits(&Allowance { level: Level::Low, ..full }), [0, 0, 0, 60]);
        assert_eq!(waits(&Allowance { level: Level::Scarce, ..full }), [0, 0, 60, 60]);
        let paced = Allowance { writes_in: Duration::from_secs(7), level: Level::Low, ..full };
        assert_eq!(waits(&paced), [7, 7, 7, 60]);
        let closed = |seconds| Some(now() + TimeDelta::seconds(seconds));
        assert_eq!(waits(&Allowance { closed_until: closed(1800), ..paced }), [1800; 4]);
        assert_eq!(waits(&Allowance { closed_until: closed(-1), ..full }), [0; 4], "it is over");
    }

    #[test]
    fn it_says_the_minute_in_which_it_has_gone_on() {
        assert!(sentence(now()).ends_with("at 14:03 UTC."), "{}", sentence(now()));
    }
}
