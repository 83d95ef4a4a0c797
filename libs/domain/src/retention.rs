//! How long things are kept.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Days, Months, Utc};
use serde::Deserialize;

/// How long one kind of thing is kept: `30d`, `4w`, `13mo`, `forever`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Keep {
    /// So many days.
    Days(u32),
    /// So many weeks.
    Weeks(u32),
    /// So many months of the calendar.
    Months(u32),
    /// Never deleted.
    Forever,
}

/// Text that is not a time to keep something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time to keep something; write 30d, 4w, 13mo or forever")]
pub struct InvalidKeep(String);

/// Longest number of days, weeks or months; more is `forever`.
const MOST: u32 = 12_000;

impl Keep {
    /// What ended before this moment is deleted; `None` when nothing ever is.
    pub fn cutoff(self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Days(n) => now.checked_sub_days(Days::new(n.into())),
            Self::Weeks(n) => now.checked_sub_days(Days::new(u64::from(n) * 7)),
            Self::Months(n) => now.checked_sub_months(Months::new(n)),
            Self::Forever => None,
        }
    }
}

impl FromStr for Keep {
    type Err = InvalidKeep;
    fn from_str(text: &str) -> Result<Self, InvalidKeep> {
        let invalid = || InvalidKeep(text.chars().take(40).collect());
        if text == "forever" {
            return Ok(Self::Forever);
        }
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let number = number.parse().ok().filter(|n| (1..=MOST).contains(n)).ok_or_else(invalid)?;
        match unit {
            "d" => Ok(Self::Days(number)),
            "w" => Ok(Self::Weeks(number)),
            "mo" => Ok(Self::Months(number)),
            _ => Err(invalid()),
        }
    }
}

impl TryFrom<String> for Keep {
    type Error = InvalidKeep;
    fn try_from(text: String) -> Result<Self, InvalidKeep> {
        text.parse()
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self {
            Self::Days(n) => (n, "day"),
            Self::Weeks(n) => (n, "week"),
            Self::Months(n) => (n, "month"),
            Self::Forever => return f.write_str("forever"),
        };
        write!(f, "{number} {unit}{}", if *number == 1 { "" } else { "s" })
    }
}

/// How long each kind is kept, counted from its end: a delivery's decision, a run's end. What
/// a run needs that is not over is always kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Bodies and headers of deliveries; what was decided on them stays.
    pub deliveries: Keep,
    /// What agents and runners said.
    pub transcripts: Keep,
    /// Changesets and sessions.
    pub changesets: Keep,
    /// Checkpoints of attempts.
    pub checkpoints: Keep,
    /// Prompts; their digests stay.
    pub prompts: Keep,
    /// Effects that were applied or skipped.
    pub effects: Keep,
    /// The log of events, by whole months.
    pub events: Keep,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            deliveries: Keep::Days(30),
            transcripts: Keep::Days(30),
            changesets: Keep::Days(30),
            checkpoints: Keep::Days(14),
            prompts: Keep::Days(90),
            effects: Keep::Days(90),
            events: Keep::Months(13),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_write_them() {
        for (text, said) in
            [("30d", "30 days"), ("1w", "1 week"), ("13mo", "13 months"), ("forever", "forever")]
        {
            assert_eq!(text.parse::<Keep>().expect("valid").to_string(), said);
        }
        for text in ["", "30", "0d", "d", "-1d", "13m", "99999999999d", "1.5d", "30 d", "13000d"] {
            let error = text.parse::<Keep>().expect_err(text).to_string();
            assert!(error.contains("write 30d, 4w, 13mo or forever"), "{error}");
        }
    }

    #[test]
    fn cutoffs_follow_the_calendar() {
        let now: DateTime<Utc> = "2027-03-31T12:00:00Z".parse().expect("a time");
        let cutoff = |text: &str| text.parse::<Keep>().expect("valid").cutoff(now).map(|t| t.to_rfc3339());
        assert_eq!(cutoff("30d").as_deref(), Some("2027-03-01T12:00:00+00:00"));
        assert_eq!(cutoff("1mo").as_deref(), Some("2027-02-28T12:00:00+00:00"));
        assert_eq!(cutoff("forever"), None);
    }
}
