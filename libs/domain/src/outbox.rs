//! What a person may do about an effect that the platform gave up.

use crate::{
    rights::{Action, Principal, authorise},
    run::{PublicationState, RunState, Waiting},
};

/// An effect's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EffectState {
    /// To be applied, or applied again.
    Pending,
    /// Applied.
    Done,
    /// Not applied, and nobody misses it.
    Skipped,
    /// Given up; a person decides.
    Dead,
}

impl EffectState {
    /// Every state, for tables and tests.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Done, Self::Skipped, Self::Dead];

    /// The name it is stored and shown under.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Dead => "dead",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// What a person wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Try it again.
    Retry,
    /// Never mind.
    Drop,
}

/// What is known about the effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its state.
    pub state: EffectState,
    /// Without it its run has no result.
    pub publishes: bool,
    /// State of its run, when it has one.
    pub run: Option<RunState>,
    /// State of the run's publication, when there is one.
    pub publication: Option<PublicationState>,
}

/// How far the order reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The effect alone.
    Effect,
    /// Its run too, which waits for it: it goes on with a retry and fails with a drop.
    Run,
}

/// Why nothing is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is so.
    pub rule: &'static str,
    /// What to do next.
    pub remedy: &'static str,
}

/// Decides what `outbox retry` and `outbox drop` do.
///
/// # Errors
/// [`Refusal`] says why nothing is done, and what to do next.
pub fn decide(principal: &Principal, order: Order, facts: &Facts) -> Result<Reach, Refusal> {
    let refuse = |rule, remedy| Err(Refusal { rule, remedy });
    if authorise(principal, Action::ManageOutbox).is_err() {
        return refuse("Only the platform's operator may change the outbox.", "");
    }
    match facts.state {
        EffectState::Done => return refuse("It is done.", ""),
        EffectState::Skipped => return refuse("It was skipped, and nobody waits for it.", ""),
        EffectState::Pending => {
            return refuse(
                "It was not given up: it is tried again by itself.",
                "`callboard outbox list --pending` shows when.",
            );
        }
        EffectState::Dead => {}
    }
    if !facts.publishes {
        return Ok(Reach::Effect);
    }
    // A review has no publication: it waits for its one effect.
    let waits = facts.run == Some(RunState::Waiting(Waiting::Held))
        && facts.publication.is_none_or(|state| state == PublicationState::Publishing);
    match (waits, order) {
        (true, Order::Retry | Order::Drop) => Ok(Reach::Run),
        (false, Order::Drop) => Ok(Reach::Effect),
        (false, Order::Retry) => refuse(
            "Its run does not wait for it any more.",
            "`callboard run retry` starts the run again; `callboard outbox drop` clears this away.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::FailureClass;

    const OPERATOR: Principal = Principal::PlatformOperator { uid: 0 };

    fn facts(state: EffectState) -> Facts {
        Facts {
            state,
            publishes: true,
            run: Some(RunState::Waiting(Waiting::Held)),
            publication: Some(PublicationState::Publishing),
        }
    }

    #[test]
    fn only_what_was_given_up_is_touched() {
        for order in [Order::Retry, Order::Drop] {
            for state in EffectState::ALL {
                assert_eq!(EffectState::parse(state.as_str()), Some(state));
                let decided = decide(&OPERATOR, order, &facts(state));
                assert_eq!(decided.is_ok(), state == EffectState::Dead, "{order:?} {state:?}");
            }
        }
    }

    #[test]
    fn a_run_that_waits_for_it_goes_on_or_ends_with_it() {
        for order in [Order::Retry, Order::Drop] {
            assert_eq!(decide(&OPERATOR, order, &facts(EffectState::Dead)), Ok(Reach::Run));
            let comment = Facts { publishes: false, ..facts(EffectState::Dead) };
            assert_eq!(decide(&OPERATOR, order, &comment), Ok(Reach::Effect));
        }
    }

    #[test]
    fn a_run_that_is_over_stays_over() {
        for (run, publication) in [
            (RunState::Failed(FailureClass::Infrastructure), PublicationState::Refused),
            (RunState::Cancelled, PublicationState::Refused),
            // Held by the checks, not by this effect.
            (RunState::Waiting(Waiting::Held), PublicationState::Held),
        ] {
            let facts = Facts { run: Some(run), publication: Some(publication), ..facts(EffectState::Dead) };
            assert!(decide(&OPERATOR, Order::Retry, &facts).is_err_and(|r| r.remedy.contains("run retry")));
            assert_eq!(decide(&OPERATOR, Order::Drop, &facts), Ok(Reach::Effect));
        }
    }

    #[test]
    fn it_is_the_operators() {
        let mona = Principal::ForgeAccount {
            login: "mona".to_owned(),
            permission: Some(crate::rights::Permission::Admin),
            role: Some(crate::rights::ProjectRole::Admin),
        };
        assert!(decide(&mona, Order::Retry, &facts(EffectState::Dead)).is_err());
    }
}
