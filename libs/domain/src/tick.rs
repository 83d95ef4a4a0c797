//! How often the status comments of runs under way are refreshed.

use std::time::Duration;

/// Never more often than this.
const SHORTEST: Duration = Duration::from_secs(10);
const HOUR_MS: u64 = 60 * 60 * 1000;

/// How long each status comment stays as it is while its run only goes on.
///
/// `active_runs` are all runs of one identity at the code host, `hourly_budget` the requests an
/// hour in which that identity may write something. All refreshes together take three tenths of
/// it. Comments that tell of a new phase have two tenths, so that both stay below half; the
/// other half belongs to commits, pull requests and reports.
pub fn tick_interval(active_runs: usize, hourly_budget: u32) -> Duration {
    let runs = u64::try_from(active_runs).unwrap_or(u64::MAX);
    let tenths = u64::from(hourly_budget.max(1)) * 3;
    Duration::from_millis(runs.saturating_mul(HOUR_MS * 10).div_ceil(tenths)).max(SHORTEST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_few_runs_are_refreshed_often_and_many_seldom() {
        let seconds = |runs| tick_interval(runs, 500).as_secs();
        assert_eq!([0, 1, 3, 10, 100].map(seconds), [10, 24, 72, 240, 2400]);
    }

    proptest! {
        /// However many runs there are: all refreshes of an hour stay below their share.
        #[test]
        fn the_budget_holds(runs in 0..100_000_usize, budget in 1..20_000_u32) {
            let interval = tick_interval(runs, budget);
            prop_assert!(interval >= SHORTEST);
            let writes = runs as f64 * 3600.0 / interval.as_secs_f64();
            prop_assert!(writes <= f64::from(budget) * 0.3 + 1e-6, "{writes}");
        }

        /// One more run never makes the others faster.
        #[test]
        fn more_runs_wait_longer(runs in 0..100_000_usize, budget: u32) {
            prop_assert!(tick_interval(runs + 1, budget) >= tick_interval(runs, budget));
        }
    }
}
