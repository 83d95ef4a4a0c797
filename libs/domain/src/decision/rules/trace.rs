//! Every rule that was looked at, in order, so that a decision can be explained.

use crate::decision::{Decided, Looked};

/// A rule that let the event pass, or the decision it led to instead.
pub(in crate::decision) type Verdict<T> = Result<T, Box<Decided>>;

/// What was looked at so far.
#[derive(Debug, Default)]
pub(in crate::decision) struct Trace(Vec<Looked>);

impl Trace {
    /// Looks at a rule; where it does not hold, `otherwise` is what follows.
    pub(in crate::decision) fn rule(
        &mut self,
        rule: &str,
        found: impl Into<String>,
        holds: bool,
        otherwise: impl FnOnce() -> Decided,
    ) -> Verdict<()> {
        self.found(rule, found, holds.then_some(()), otherwise)
    }

    /// Looks for something the rule asks for; where it is not there, `otherwise` is what follows.
    pub(in crate::decision) fn found<T>(
        &mut self,
        rule: &str,
        found: impl Into<String>,
        what: Option<T>,
        otherwise: impl FnOnce() -> Decided,
    ) -> Verdict<T> {
        self.0.push(Looked { rule: rule.to_owned(), passed: what.is_some(), found: found.into() });
        what.ok_or_else(|| Box::new(otherwise()))
    }

    /// Notes the rule that stops the event.
    pub(in crate::decision) fn stop<T>(
        &mut self,
        rule: &str,
        found: impl Into<String>,
        decided: Decided,
    ) -> Verdict<T> {
        self.found(rule, found, None, || decided)
    }

    /// Notes what was found where nothing can stop.
    pub(in crate::decision) fn note(&mut self, rule: &str, found: impl Into<String>) {
        self.0.push(Looked { rule: rule.to_owned(), passed: true, found: found.into() });
    }

    /// The decision, with all that was looked at.
    pub(in crate::decision) fn into(self, judged: Verdict<Decided>) -> Decided {
        let decided = match judged {
            Ok(decided) => decided,
            Err(stopped) => *stopped,
        };
        Decided { trace: self.0, ..decided }
    }
}
