//! What was missed while nobody listened: labels that stand, and whether they were decided on.

use chrono::{DateTime, TimeDelta, Utc};

/// A label being put on, as the code host's history of the issue tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labeling {
    /// Id of the event at the code host.
    pub id: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who, and whether that is a bot; none for an account that is gone.
    pub by: Option<(String, bool)>,
}

/// What is to be done about a label that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stands {
    /// Nothing: it was decided on, or was set before the platform looked after the repository.
    Decided,
    /// Nothing yet: its delivery may be on its way.
    TooYoung,
    /// It was set, and nothing was decided about that.
    Missed(Labeling),
    /// It stands, and the history does not tell who set it.
    Unexplained,
}

/// Clocks of ours and of the code host may differ by this much.
const SKEW: TimeDelta = TimeDelta::minutes(1);

/// A delivery may take this long.
const ON_ITS_WAY: TimeDelta = TimeDelta::minutes(1);

/// What became of a label that stands on an issue: its `labelings` by the code host's history, the
/// times of what was `decided` about labels of that name there (when each event arrived), `from`
/// when on the platform looks after the repository, and
/// when the issue was `changed_at` last, later by what lists of the code host may lag.
///
/// A history may not tell yet what was just done: that nobody set a label counts only when the
/// issue has been left alone for as long as a delivery may take. Only the last labeling is why it stands. Each decision is about one labeling: the latest one
/// not later than itself that no other decision is about, or, where the clocks differ, the first
/// one after it. The order in which they were made does not matter.
pub fn stands(
    labelings: &[Labeling],
    decided: &[DateTime<Utc>],
    from: DateTime<Utc>,
    changed_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Stands {
    let mut open: Vec<&Labeling> = labelings.iter().collect();
    open.sort_by_key(|labeling| (labeling.at, labeling.id));
    let Some(last) = open.last().copied() else {
        return if !decided.is_empty() {
            Stands::Decided
        } else if now - changed_at < ON_ITS_WAY {
            Stands::TooYoung
        } else {
            Stands::Unexplained
        };
    };
    let mut decided = decided.to_vec();
    decided.sort();
    for at in decided {
        let before = open.iter().rposition(|labeling| labeling.at <= at);
        let after = || open.iter().position(|labeling| labeling.at > at && labeling.at <= at + SKEW);
        if let Some(found) = before.or_else(after) {
            open.remove(found);
        }
    }
    if last.at < from || !open.contains(&last) {
        Stands::Decided
    } else if now - last.at < ON_ITS_WAY {
        Stands::TooYoung
    } else if last.by.is_none() {
        Stands::Unexplained
    } else {
        Stands::Missed(last.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn labeling(id: u64, seconds: i64) -> Labeling {
        Labeling { id, at: at(seconds), by: Some(("mona".to_owned(), false)) }
    }

    fn labelings(seconds: &[i64]) -> Vec<Labeling> {
        seconds.iter().zip(1..).map(|(seconds, id)| labeling(id, *seconds)).collect()
    }

    /// When labels were set, when decisions were made, and what became of the last label.
    #[test]
    fn a_label_stands_for_a_reason() {
        let missed = |id, seconds| Stands::Missed(labeling(id, seconds));
        for (what, set, decided, expected) in [
            ("decided a second later", &[100][..], &[101][..], Stands::Decided),
            ("never decided", &[100], &[], missed(1, 100)),
            ("decided by a clock that is half a minute behind", &[100], &[70], Stands::Decided),
            ("decided long before it was set", &[1000], &[100], missed(1, 1000)),
            ("set again, and only the first was decided", &[100, 1000], &[101], missed(2, 1000)),
            ("set again, and both were decided", &[100, 1000], &[101, 1001], Stands::Decided),
            ("set again at once, and only the first was decided", &[100, 130], &[101], missed(2, 130)),
            ("set again at once, and both were decided", &[100, 130], &[101, 131], Stands::Decided),
            ("the first was made up for after the second", &[100, 1000], &[1001, 100], Stands::Decided),
            ("the first was never decided, the second was", &[100, 1000], &[1001], Stands::Decided),
            ("set half a minute ago", &[9_970], &[], Stands::TooYoung),
            ("no history", &[], &[], Stands::Unexplained),
            ("no history, and it was said", &[], &[100], Stands::Decided),
        ] {
            assert_eq!(
                stands(&labelings(set), &at_all(decided), at(0), at(0), at(10_000)),
                expected,
                "{what}"
            );
        }
        assert_eq!(
            stands(&labelings(&[100]), &[], at(200), at(0), at(10_000)),
            Stands::Decided,
            "before our time"
        );
        let nobody = Labeling { by: None, ..labeling(1, 100) };
        assert_eq!(
            stands(&[nobody], &[], at(0), at(0), at(10_000)),
            Stands::Unexplained,
            "its setter is gone"
        );
    }

    /// When the issue was changed, what was decided, and what a label is that no history tells of.
    #[test]
    fn a_history_that_lags_is_waited_for() {
        for (what, changed, decided, expected) in [
            ("just now", 9_999, &[][..], Stands::TooYoung),
            ("within the minute", 9_941, &[], Stands::TooYoung),
            ("a minute ago", 9_940, &[], Stands::Unexplained),
            ("by a clock ahead of ours", 10_020, &[], Stands::TooYoung),
            ("just now, and it was decided on", 9_999, &[9_999], Stands::Decided),
        ] {
            assert_eq!(stands(&[], &at_all(decided), at(0), at(changed), at(10_000)), expected, "{what}");
        }
    }

    fn at_all(seconds: &[i64]) -> Vec<DateTime<Utc>> {
        seconds.iter().map(|seconds| at(*seconds)).collect()
    }

    proptest! {
        /// Labels set at any times, each decided at once or never: the last one is missed exactly
        /// when nothing was decided about it, in whatever order anything is told.
        #[test]
        fn the_last_labeling_is_missed_or_decided(
            mut set in prop::collection::vec((1_i64..5_000, any::<bool>(), 0_i64..2), 1..12),
            turn in 0_usize..12,
        ) {
            set.sort();
            set.dedup_by_key(|(seconds, ..)| *seconds);
            // Two seconds apart, so that a decision a second later is before the next.
            let times: Vec<i64> = set.iter().map(|(seconds, ..)| seconds * 2).collect();
            let mut decided: Vec<i64> =
                set.iter().filter(|(_, was, _)| *was).map(|(seconds, _, late)| seconds * 2 + late).collect();
            let mut told = labelings(&times);
            let last = told.last().cloned().expect("one at least");
            let expected = if set.last().is_some_and(|(_, was, _)| *was) { Stands::Decided } else { Stands::Missed(last) };
            let expected_if_alone = expected.clone();
            prop_assert_eq!(stands(&told, &at_all(&decided), at(0), at(0), at(20_000)), expected);
            let (by, of) = (turn % told.len(), turn % decided.len().max(1));
            told.rotate_left(by);
            decided.rotate_left(of);
            prop_assert_eq!(stands(&told, &at_all(&decided), at(0), at(0), at(20_000)), expected_if_alone);
        }

        /// Whatever is told, at most one thing is made up for, and it is the last labeling.
        #[test]
        fn only_the_last_is_made_up_for(
            set in prop::collection::vec(0_i64..1_000, 0..10),
            decided in prop::collection::vec(0_i64..1_000, 0..10),
        ) {
            let told = labelings(&set);
            match stands(&told, &at_all(&decided), at(0), at(0), at(10_000)) {
                Stands::Missed(missed) => prop_assert_eq!(Some(missed.at), told.iter().map(|l| l.at).max()),
                Stands::Unexplained => prop_assert!(told.is_empty() && decided.is_empty()),
                Stands::Decided => prop_assert!(!decided.is_empty()),
                Stands::TooYoung => prop_assert!(false, "nothing is young here"),
            }
        }
    }
}
