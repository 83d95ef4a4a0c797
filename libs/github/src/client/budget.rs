//! What is left of GitHub's limits to one credential: arithmetic, and nothing else.
//!
//! A call that does not fit is not sent. What GitHub refuses closes the whole budget: going on
//! calling is what gets an App banned.

use std::{collections::VecDeque, time::Duration};

use ::forge::{Allowance, Level, Limit};
use chrono::{DateTime, TimeDelta, Utc};

use super::endpoint::Kind;

const MINUTE: TimeDelta = TimeDelta::minutes(1);
const HOUR: TimeDelta = TimeDelta::hours(1);

/// Of GitHub's 900 a minute: a read is one point, a write is five.
const POINTS_A_MINUTE: u32 = 850;
/// How many of them writes leave to reads: what is said of some runs must not keep others from
/// beginning, for which reads are enough.
const LEFT_TO_READS: u32 = 100;
/// Of GitHub's 100 at the same time.
const AT_A_TIME: u32 = 90;
/// GitHub's numbers for what people are notified of, and how many of them we leave to those who
/// share the account.
const CONTENT_A_MINUTE: (u32, usize) = (80, 5);
const CONTENT_AN_HOUR: (u32, usize) = (500, 20);

/// When a limit says nothing about how long it holds.
const CLOSED_FOR: TimeDelta = TimeDelta::seconds(60);
/// A limit that comes this soon after the last one ended is the same one: we came back too early.
const AGAIN_WITHIN: TimeDelta = TimeDelta::minutes(10);
/// However often it came.
const CLOSED_AT_MOST: TimeDelta = HOUR;
/// However long GitHub says; no clock is trusted with more.
const SAID_AT_MOST: TimeDelta = TimeDelta::days(1);

/// Why a call is not sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) wait: Duration,
    pub(super) limit: Limit,
}

/// GitHub's own count of calls in the hour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hourly {
    pub(super) limit: u32,
    pub(super) remaining: u32,
    pub(super) resets_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug)]
struct Closed {
    until: DateTime<Utc>,
    limit: Limit,
    /// Limits that said nothing, one after the other.
    times: u32,
}

/// The limits of one installation or token.
#[derive(Debug, Default)]
pub(super) struct Budget {
    hourly: Option<Hourly>,
    closed: Option<Closed>,
    under_way: u32,
    /// What was spent in the last minute.
    points: VecDeque<(DateTime<Utc>, u32)>,
    /// When content was made in the last hour.
    content: VecDeque<DateTime<Utc>>,
}

fn points(kind: Kind) -> u32 {
    match kind {
        Kind::Kept | Kind::Fresh => 1,
        Kind::Content | Kind::Change => 5,
    }
}

/// Until then, and never nothing.
fn until(then: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (then - now).max(TimeDelta::seconds(1)).to_std().unwrap_or(Duration::from_secs(1))
}

impl Budget {
    /// Counts a call that is about to be made; [`Self::over`] belongs to it.
    pub(super) fn admit(&mut self, kind: Kind, now: DateTime<Utc>) -> Result<(), Full> {
        self.fits(kind, now)?;
        while self.points.front().is_some_and(|(at, _)| *at + MINUTE <= now) {
            self.points.pop_front();
        }
        while self.content.front().is_some_and(|at| *at + HOUR <= now) {
            self.content.pop_front();
        }
        self.points.push_back((now, points(kind)));
        if kind == Kind::Content {
            self.content.push_back(now);
        }
        self.under_way += 1;
        Ok(())
    }

    /// A call ended, however.
    pub(super) fn over(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    fn fits(&self, kind: Kind, now: DateTime<Utc>) -> Result<(), Full> {
        if let Some((then, limit)) = self.closed_until(now) {
            return Err(Full { wait: until(then, now), limit });
        }
        if self.under_way >= AT_A_TIME {
            return Err(Full { wait: Duration::from_secs(1), limit: Limit::Pace });
        }
        let most = match kind {
            Kind::Kept | Kind::Fresh => POINTS_A_MINUTE,
            Kind::Content | Kind::Change => POINTS_A_MINUTE - LEFT_TO_READS,
        };
        let recent = self.points.iter().filter(|(at, _)| *at + MINUTE > now);
        let mut over =
            (recent.clone().map(|(_, points)| points).sum::<u32>() + points(kind)).saturating_sub(most);
        for (at, points) in recent {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(*points);
            if over == 0 {
                return Err(Full { wait: until(*at + MINUTE, now), limit: Limit::Pace });
            }
        }
        if kind == Kind::Content {
            self.content_fits(now)?;
        }
        Ok(())
    }

    fn content_fits(&self, now: DateTime<Utc>) -> Result<(), Full> {
        for ((most, left), window, limit) in [
            (CONTENT_AN_HOUR, HOUR, Limit::ContentPerHour(CONTENT_AN_HOUR.0)),
            (CONTENT_A_MINUTE, MINUTE, Limit::ContentPerMinute(CONTENT_A_MINUTE.0)),
        ] {
            let ours = most as usize - left;
            // The one that has to leave the window first.
            let leaves = self.content.len().checked_sub(ours).and_then(|at| self.content.get(at));
            if let Some(at) = leaves.filter(|at| **at + window > now) {
                return Err(Full { wait: until(*at + window, now), limit });
            }
        }
        Ok(())
    }

    /// GitHub's own count, as an answer tells it. Answers may overtake each other.
    pub(super) fn told(&mut self, told: Hourly, now: DateTime<Utc>) {
        // Windows are an hour long; a clock that is wrong must not make us wait for more.
        let mut told = Hourly { resets_at: told.resets_at.clamp(now, now + HOUR), ..told };
        if let Some(known) = self.hourly.filter(|known| known.resets_at > now) {
            if told.resets_at < known.resets_at - TimeDelta::seconds(2) {
                return;
            }
            if told.resets_at <= known.resets_at + TimeDelta::seconds(2) {
                told.remaining = told.remaining.min(known.remaining);
            }
        }
        self.hourly = Some(told);
    }

    /// GitHub refused a call because of a limit, and perhaps said for how long. Returns how long
    /// nothing is sent.
    pub(super) fn refused(&mut self, limit: Limit, said: Option<Duration>, now: DateTime<Utc>) -> Duration {
        let before = self.closed.filter(|closed| now < closed.until + AGAIN_WITHIN);
        let times = before.map_or(0, |closed| closed.times);
        let (wait, times) = match said.map(|said| TimeDelta::from_std(said).unwrap_or(SAID_AT_MOST)) {
            Some(said) => (said.min(SAID_AT_MOST), times),
            // Refused by the same limit at the same time is once.
            None if before.is_some_and(|closed| now < closed.until) => (CLOSED_FOR, times),
            None => ((CLOSED_FOR * (1 << times.min(6))).min(CLOSED_AT_MOST), times.saturating_add(1)),
        };
        let then = now + wait;
        let later = before.filter(|closed| closed.until >= then);
        let closed = Closed {
            until: later.map_or(then, |closed| closed.until),
            limit: later.map_or(limit, |closed| closed.limit),
            times,
        };
        self.closed = Some(closed);
        until(closed.until, now)
    }

    fn closed_until(&self, now: DateTime<Utc>) -> Option<(DateTime<Utc>, Limit)> {
        let closed = self.closed.map(|closed| (closed.until, closed.limit));
        let spent = self.hourly.filter(|hourly| hourly.remaining == 0);
        let spent = spent.map(|hourly| (hourly.resets_at, Limit::Calls));
        closed.into_iter().chain(spent).filter(|(until, _)| *until > now).max_by_key(|(until, _)| *until)
    }

    /// What is left of it all.
    pub(super) fn allowance(&self, now: DateTime<Utc>) -> Allowance {
        let hourly = self.hourly.filter(|hourly| hourly.resets_at > now && hourly.limit > 0);
        let calls = hourly.map_or(100, |h| u64::from(h.remaining) * 100 / u64::from(h.limit));
        let most = u64::from(CONTENT_AN_HOUR.0);
        let made = self.content.iter().filter(|at| **at + HOUR > now).count();
        let content = most.saturating_sub(u64::try_from(made).unwrap_or(most)) * 100 / most;
        let level = match calls.min(content) {
            0..5 => Level::Scarce,
            5..20 => Level::Low,
            20.. => Level::Plenty,
        };
        Allowance {
            closed_until: self.closed_until(now).map(|(until, _)| until),
            level,
            writes_in: self.fits(Kind::Content, now).err().map_or(Duration::ZERO, |full| full.wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(1_800_000_000 + seconds)
    }

    fn secs(full: Result<(), Full>) -> Option<(u64, Limit)> {
        full.err().map(|full| (full.wait.as_secs(), full.limit))
    }

    /// As many as fit, one after the other at once.
    fn fill(budget: &mut Budget, kind: Kind, now: DateTime<Utc>) -> usize {
        (0..).take_while(|_| budget.admit(kind, now).map(|()| budget.over()).is_ok()).count()
    }

    #[test]
    fn each_limit_has_room_for_so_many() {
        let mut budget = Budget::default();
        assert_eq!(fill(&mut budget, Kind::Fresh, at(0)), 850);
        assert_eq!(secs(budget.admit(Kind::Fresh, at(10))), Some((50, Limit::Pace)));
        assert_eq!(fill(&mut budget, Kind::Change, at(60)), 150);
        assert_eq!(secs(budget.admit(Kind::Change, at(70))), Some((50, Limit::Pace)));
        assert_eq!(fill(&mut budget, Kind::Fresh, at(70)), 100, "whoever only reads goes on");

        let mut budget = Budget::default();
        assert_eq!(fill(&mut budget, Kind::Content, at(0)), 75);
        assert_eq!(secs(budget.admit(Kind::Content, at(20))), Some((40, Limit::ContentPerMinute(80))));
        assert!(budget.admit(Kind::Change, at(20)).is_ok(), "what makes no content goes on");
        for minute in 1..6 {
            assert_eq!(fill(&mut budget, Kind::Content, at(minute * 60)), 75);
        }
        assert_eq!(fill(&mut budget, Kind::Content, at(360)), 30);
        assert_eq!(secs(budget.admit(Kind::Content, at(420))), Some((3180, Limit::ContentPerHour(500))));

        let mut budget = Budget::default();
        for _ in 0..90 {
            budget.admit(Kind::Fresh, at(0)).expect("room");
        }
        assert_eq!(secs(budget.admit(Kind::Fresh, at(0))), Some((1, Limit::Pace)));
        budget.over();
        assert!(budget.admit(Kind::Fresh, at(0)).is_ok());
    }

    #[test]
    fn nothing_is_sent_before_the_hour_is_over() {
        let mut budget = Budget::default();
        let told = |budget: &mut Budget, remaining, resets: i64| {
            budget.told(Hourly { limit: 5000, remaining, resets_at: at(resets) }, at(0));
        };
        told(&mut budget, 7, 600);
        // An answer that was overtaken, and one of the hour before.
        told(&mut budget, 8, 600);
        told(&mut budget, 4000, 100);
        assert_eq!(budget.hourly.map(|h| h.remaining), Some(7));
        told(&mut budget, 0, 600);
        assert_eq!(secs(budget.admit(Kind::Fresh, at(0))), Some((600, Limit::Calls)));
        assert_eq!(budget.allowance(at(0)).closed_until, Some(at(600)));
        assert!(budget.admit(Kind::Fresh, at(600)).is_ok());
        assert_eq!(budget.allowance(at(600)), Allowance { ..Allowance::FULL });
        // A clock that is a day off.
        told(&mut budget, 0, 86_400);
        assert_eq!(secs(budget.admit(Kind::Fresh, at(0))), Some((3600, Limit::Calls)));
    }

    #[test]
    fn what_github_says_closes_everything() {
        let mut budget = Budget::default();
        let said = Some(Duration::from_secs(7));
        assert_eq!(budget.refused(Limit::Pace, said, at(0)).as_secs(), 7);
        assert_eq!(secs(budget.admit(Kind::Fresh, at(6))), Some((1, Limit::Pace)));
        assert!(budget.admit(Kind::Fresh, at(7)).is_ok());
        // Nothing is said: a minute, then longer and longer.
        let mut now = 1000;
        for wait in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
            assert_eq!(budget.refused(Limit::Pace, None, at(now)).as_secs(), wait);
            // Others were under way and were refused as well.
            assert_eq!(budget.refused(Limit::Pace, None, at(now)).as_secs(), wait);
            now += i64::try_from(wait).expect("small");
        }
        now += 601;
        assert_eq!(budget.refused(Limit::Pace, None, at(now)).as_secs(), 60, "that was long ago");
        // A shorter word does not open what a longer one closed.
        assert_eq!(budget.refused(Limit::Pace, said, at(now)).as_secs(), 60);
        let days = Some(Duration::from_secs(u64::MAX));
        assert_eq!(budget.refused(Limit::Pace, days, at(now)).as_secs(), 86_400);
    }

    #[test]
    fn levels() {
        for (remaining, level) in [
            (5000, Level::Plenty),
            (1000, Level::Plenty),
            (999, Level::Low),
            (250, Level::Low),
            (249, Level::Scarce),
            (0, Level::Scarce),
        ] {
            let mut budget = Budget::default();
            budget.told(Hourly { limit: 5000, remaining, resets_at: at(60) }, at(0));
            assert_eq!(budget.allowance(at(0)).level, level, "{remaining}");
        }
        let mut budget = Budget::default();
        for minute in 0..6 {
            fill(&mut budget, Kind::Content, at(minute * 60));
        }
        let allowance = budget.allowance(at(300));
        assert_eq!((allowance.level, allowance.writes_in.as_secs()), (Level::Low, 60));
        fill(&mut budget, Kind::Content, at(360));
        assert_eq!(budget.allowance(at(360)).level, Level::Scarce);
        assert_eq!(budget.allowance(at(4200)), Allowance::FULL);
    }

    fn kinds() -> impl Strategy<Value = Kind> {
        prop_oneof![Just(Kind::Fresh), Just(Kind::Change), Just(Kind::Content), Just(Kind::Content)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whatever comes when: no window holds more than it may, and who waits as told gets in.
        #[test]
        fn no_window_overflows(calls in proptest::collection::vec((kinds(), 0_i64..20), 500..1000)) {
            let (mut budget, mut now) = (Budget::default(), 0);
            let mut made: Vec<(i64, Kind)> = Vec::new();
            for (kind, later) in calls {
                now += later / 8;
                if let Err(full) = budget.admit(kind, at(now)) {
                    now += i64::try_from(full.wait.as_secs()).expect("small");
                    // Content waits for two windows, one after the other at most.
                    if let Err(full) = budget.admit(kind, at(now)) {
                        prop_assert!(full.limit != Limit::Calls);
                        continue;
                    }
                }
                budget.over();
                made.push((now, kind));
                let within = |window: i64| made.iter().rev().take_while(move |(at, _)| *at > now - window);
                let content = |window| within(window).filter(|(_, kind)| *kind == Kind::Content).count();
                prop_assert!(content(60) <= 75 && content(3600) <= 480);
                prop_assert!(within(60).map(|(_, kind)| points(*kind)).sum::<u32>() <= 850);
            }
        }

        /// Nothing is sent before the end of what GitHub said last, or longest.
        #[test]
        fn what_is_closed_stays_closed(
            refusals in proptest::collection::vec((proptest::option::of(1_u64..4000), 0_i64..300), 1..20),
        ) {
            let (mut budget, mut now, mut closed_until) = (Budget::default(), 0, 0);
            for (said, later) in refusals {
                let wait = budget.refused(Limit::Pace, said.map(Duration::from_secs), at(now));
                let wait = i64::try_from(wait.as_secs()).expect("small");
                closed_until = closed_until.max(now + i64::try_from(said.unwrap_or(60)).expect("small"));
                prop_assert!(now + wait >= closed_until);
                closed_until = now + wait;
                now += later;
                prop_assert_eq!(budget.admit(Kind::Fresh, at(now)).is_ok(), now >= closed_until);
            }
        }
    }
}
