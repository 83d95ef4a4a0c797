//! How much of GitHub's limits is left to whom.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use http::Method;
use serde_json::{Value, json};

use crate::{caller::Caller, refusal::Refusal, world::World};

/// What somebody used of their hour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spending {
    used: u32,
    reset: DateTime<Utc>,
}

/// Requests an hour with a token, and without one.
const LIMITS: (u32, u32) = (5000, 60);

/// Requests that make content, in a minute and in an hour.
const CONTENT: [(usize, TimeDelta); 2] = [(80, TimeDelta::minutes(1)), (500, TimeDelta::hours(1))];

/// The state of somebody's limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    limit: u32,
    used: u32,
    reset: DateTime<Utc>,
    pub(crate) exhausted: bool,
}

impl Rate {
    pub(crate) fn json(self) -> Value {
        json!({
            "limit": self.limit, "used": self.used, "remaining": self.limit - self.used,
            "reset": self.reset.timestamp(),
        })
    }

    pub(crate) fn headers(self) -> [(&'static str, String); 5] {
        [
            ("x-ratelimit-limit", self.limit.to_string()),
            ("x-ratelimit-remaining", (self.limit - self.used).to_string()),
            ("x-ratelimit-used", self.used.to_string()),
            ("x-ratelimit-reset", self.reset.timestamp().to_string()),
            ("x-ratelimit-resource", "core".to_owned()),
        ]
    }
}

impl World {
    /// How much is left, after this request when `cost` is 1.
    pub(crate) fn spend(&mut self, caller: &Caller, cost: u32) -> Rate {
        let now = self.now();
        let whose = caller.budget();
        let limit = if whose.is_some() { LIMITS.0 } else { LIMITS.1 };
        let fresh = Spending { used: 0, reset: now + TimeDelta::hours(1) };
        let spending = self.spending.entry(whose.unwrap_or_default()).or_insert(fresh);
        if spending.reset <= now {
            *spending = fresh;
        }
        let exhausted = spending.used >= limit;
        spending.used = (spending.used + cost).min(limit);
        Rate { limit, used: spending.used, reset: spending.reset, exhausted }
    }

    /// Gives a request back: nothing had changed since it was made before.
    pub(crate) fn refund(&mut self, caller: &Caller) -> Rate {
        if let Some(spending) = self.spending.get_mut(&caller.budget().unwrap_or_default()) {
            spending.used = spending.used.saturating_sub(1);
        }
        self.spend(caller, 0)
    }

    /// Counts a request that makes content where that is limited. When there were too many, how
    /// many seconds to wait.
    pub(crate) fn make_content(&mut self, caller: &Caller, method: &Method, template: &str) -> Option<i64> {
        let now = self.now();
        if !self.limits_content || !is_content(method, template) {
            return None;
        }
        let made: &mut VecDeque<DateTime<Utc>> =
            self.content.entry(caller.budget().unwrap_or_default()).or_default();
        for (most, within) in CONTENT {
            let first = made.len().checked_sub(most).and_then(|at| made.get(at));
            if let Some(free) = first.map(|first| *first + within).filter(|free| *free > now) {
                return Some((free - now).num_seconds().max(1));
            }
        }
        made.push_back(now);
        None
    }
}

/// What people are told about: issues, pull requests, comments, reviews.
fn is_content(method: &Method, template: &str) -> bool {
    let writes = [Method::POST, Method::PATCH, Method::PUT].contains(method);
    writes && template.split('/').any(|part| part == "issues" || part == "pulls")
}

/// 403 of a limit that is not told beforehand.
pub(crate) fn too_fast() -> Refusal {
    Refusal::forbidden(
        "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
    )
}
