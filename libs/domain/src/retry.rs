//! When to try again.

use std::time::Duration;

/// Tries and waits of one kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often it is tried in all, the first time included.
    pub tries: u32,
    /// Wait before the second try; doubles from there.
    pub first_wait: Duration,
    /// Longest wait.
    pub longest_wait: Duration,
}

/// An attempt that was lost or could not be started.
pub const INFRASTRUCTURE: RetryPolicy =
    RetryPolicy { tries: 3, first_wait: Duration::from_secs(2), longest_wait: Duration::from_secs(60) };

/// The model backend failed in a way that may pass.
pub const PROVIDER: RetryPolicy =
    RetryPolicy { tries: 3, first_wait: Duration::from_secs(15), longest_wait: Duration::from_secs(300) };

/// What a run needs cannot be read yet: the code host is away or asks to wait.
pub const PREPARING: RetryPolicy =
    RetryPolicy { tries: 60, first_wait: Duration::from_secs(2), longest_wait: Duration::from_secs(300) };

/// The code host asked to wait: as often as it does, and no longer than it says.
pub const LIMITED: RetryPolicy =
    RetryPolicy { tries: u32::MAX, first_wait: Duration::from_secs(1), longest_wait: Duration::from_secs(1) };

/// A change that is nice to have; the ones that matter wait behind it.
pub const NICETY: RetryPolicy =
    RetryPolicy { tries: 3, first_wait: Duration::from_millis(500), longest_wait: Duration::from_secs(5) };

/// A change in the outside world that did not go through; for about a day.
pub const EFFECT: RetryPolicy = RetryPolicy {
    tries: 300,
    first_wait: Duration::from_millis(500),
    longest_wait: Duration::from_secs(300),
};

impl RetryPolicy {
    /// How long to wait after `tries_so_far` failed, or `None` when they are spent.
    /// `fraction` in `0.0..1.0` spreads the wait over 75–125 %.
    pub fn wait(self, tries_so_far: u32, fraction: f64) -> Option<Duration> {
        if tries_so_far >= self.tries {
            return None;
        }
        let doubled = self.first_wait.saturating_mul(1 << tries_so_far.saturating_sub(1).min(20));
        Some(doubled.min(self.longest_wait).mul_f64(0.75 + fraction.clamp(0.0, 1.0) / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_then_end() {
        let waits: Vec<_> = (1..=4).map(|n| INFRASTRUCTURE.wait(n, 0.5).map(|d| d.as_secs_f64())).collect();
        assert_eq!(waits, [Some(2.0), Some(4.0), None, None]);
        assert_eq!(EFFECT.wait(11, 0.5), Some(Duration::from_secs(300)));
    }

    #[test]
    fn jitter_stays_within_a_quarter() {
        assert_eq!(INFRASTRUCTURE.wait(1, 0.0), Some(Duration::from_millis(1500)));
        assert!(INFRASTRUCTURE.wait(1, 1.0).is_some_and(|d| d <= Duration::from_millis(2500)));
    }
}
