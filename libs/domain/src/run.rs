//! States of runs, attempts and publications, and the only moves between them.

use serde::{Deserialize, Serialize};

/// What a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// Work from the default branch that ends in a new pull request.
    #[default]
    Work,
    /// Work that goes on with an open pull request of ours.
    Revise,
    /// Findings about a pull request.
    Review,
    /// An answer on an issue.
    Discussion,
}

impl RunKind {
    /// Every kind there is.
    pub const ALL: [Self; 4] = [Self::Work, Self::Revise, Self::Review, Self::Discussion];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Revise => "revise",
            Self::Review => "review",
            Self::Discussion => "discussion",
        }
    }

    /// Reads [`RunKind::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// True when its changes go to the code host.
    pub fn publishes_changes(self) -> bool {
        match self {
            Self::Work | Self::Revise => true,
            Self::Review | Self::Discussion => false,
        }
    }
}

/// Why a run waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// Parked until a person approves an action.
    Approval,
    /// Parked until a person answers.
    Input,
    /// Parked until there is budget again.
    Budget,
    /// The changeset is held for a person; the agent is done.
    Held,
    /// GitHub's limits; the agent is done.
    RateLimit,
}

impl Waiting {
    /// Parked runs have no process and no lease; the others keep attempt and changeset.
    pub fn parked(self) -> bool {
        match self {
            Self::Approval | Self::Input | Self::Budget => true,
            Self::Held | Self::RateLimit => false,
        }
    }
}

/// What kind of failure ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// Our machines: worker lost, no sandbox, disk full.
    Infrastructure,
    /// The model backend.
    Provider,
    /// The agent itself.
    Agent,
    /// What it wanted to do is not allowed.
    Policy,
    /// Something about the request.
    User,
    /// The deadline.
    TimedOut,
    /// Tried as often as allowed.
    RetriesSpent,
}

impl FailureClass {
    /// May a retry go on from the run's checkpoint? Only when the run ended for no fault of its
    /// work: what an agent spoiled is better made anew.
    pub fn leaves_good_work(self) -> bool {
        match self {
            Self::Infrastructure | Self::Provider | Self::TimedOut | Self::RetriesSpent => true,
            Self::Agent | Self::Policy | Self::User => false,
        }
    }
}

/// A run's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunState {
    /// Waits for a worker.
    Queued,
    /// Has an attempt or a publication under way.
    Active,
    /// Waits for something outside.
    Waiting(Waiting),
    /// Done.
    Succeeded,
    /// Ended without a result.
    Failed(FailureClass),
    /// Ended by a person.
    Cancelled,
}

/// A move the tables in the design do not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{thing} cannot go from {from} to {to}")]
pub struct IllegalMove {
    /// "a run", "an attempt", "a publication".
    pub thing: &'static str,
    /// State it is in.
    pub from: String,
    /// State that was asked for.
    pub to: String,
}

impl RunState {
    /// A final state never changes.
    pub fn is_final(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed(_) | Self::Cancelled => true,
            Self::Queued | Self::Active | Self::Waiting(_) => false,
        }
    }

    /// The state after the move, if there is such a move.
    ///
    /// # Errors
    /// [`IllegalMove`] names both states.
    pub fn to(self, next: Self) -> Result<Self, IllegalMove> {
        use RunState::{Active, Cancelled, Failed, Queued, Succeeded, Waiting as W};
        let legal = match (self, next) {
            (Succeeded | Failed(_) | Cancelled, _) => false,
            (_, Cancelled) => true,
            (Queued, Active) => true,
            (Active, Queued | Succeeded | Failed(_) | W(_)) => true,
            (W(why), Queued) => why.parked(),
            (W(why), Active) => !why.parked(),
            (W(_), Failed(_)) => true,
            // A run nobody may start any more (deadline in the queue, stage gone).
            (Queued, Failed(_)) => true,
            (Queued, Queued | Succeeded | W(_)) | (Active, Active) | (W(_), W(_) | Succeeded) => false,
        };
        if legal {
            Ok(next)
        } else {
            Err(IllegalMove { thing: "a run", from: self.to_string(), to: next.to_string() })
        }
    }

    /// The two columns it is stored in: state, and what kind of it.
    pub fn columns(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Queued => ("queued", None),
            Self::Active => ("active", None),
            Self::Waiting(why) => (
                "waiting",
                Some(match why {
                    Waiting::Approval => "approval",
                    Waiting::Input => "input",
                    Waiting::Budget => "budget",
                    Waiting::Held => "held",
                    Waiting::RateLimit => "rate_limit",
                }),
            ),
            Self::Succeeded => ("succeeded", None),
            Self::Failed(class) => (
                "failed",
                Some(match class {
                    FailureClass::Infrastructure => "infrastructure",
                    FailureClass::Provider => "provider",
                    FailureClass::Agent => "agent",
                    FailureClass::Policy => "policy",
                    FailureClass::User => "user",
                    FailureClass::TimedOut => "timed_out",
                    FailureClass::RetriesSpent => "retries_spent",
                }),
            ),
            Self::Cancelled => ("cancelled", None),
        }
    }

    /// Reads the two columns back; `None` when they do not name a state.
    pub fn from_columns(state: &str, kind: Option<&str>) -> Option<Self> {
        Self::all().find(|s| s.columns() == (state, kind))
    }

    /// Every state, for tables and tests.
    pub fn all() -> impl Iterator<Item = Self> {
        const WAITING: [Waiting; 5] =
            [Waiting::Approval, Waiting::Input, Waiting::Budget, Waiting::Held, Waiting::RateLimit];
        const CLASSES: [FailureClass; 7] = [
            FailureClass::Infrastructure,
            FailureClass::Provider,
            FailureClass::Agent,
            FailureClass::Policy,
            FailureClass::User,
            FailureClass::TimedOut,
            FailureClass::RetriesSpent,
        ];
        [Self::Queued, Self::Active, Self::Succeeded, Self::Cancelled]
            .into_iter()
            .chain(WAITING.map(Self::Waiting))
            .chain(CLASSES.map(Self::Failed))
    }
}

impl std::fmt::Display for RunState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.columns() {
            (state, Some(kind)) => write!(f, "{state}({kind})"),
            (state, None) => f.write_str(state),
        }
    }
}

macro_rules! named_states {
    ($(#[$doc:meta])* $name:ident, $thing:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }
        impl $name {
            /// Every state, for tables and tests.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The name it is stored and shown under.
            pub fn as_str(self) -> &'static str { match self { $(Self::$variant => $text),+ } }
            /// Reads the name back.
            pub fn parse(text: &str) -> Option<Self> { Self::ALL.iter().copied().find(|s| s.as_str() == text) }
            /// The state after the move, if there is such a move.
            ///
            /// # Errors
            /// [`IllegalMove`] names both states.
            pub fn to(self, next: Self) -> Result<Self, IllegalMove> {
                if self.may_become(next) { Ok(next) } else {
                    Err(IllegalMove { thing: $thing, from: self.as_str().to_owned(), to: next.as_str().to_owned() })
                }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.as_str()) }
        }
    };
}

named_states! {
    /// An attempt's state.
    AttemptState, "an attempt" {
        /// A worker has it.
        Leased = "leased",
        /// The sandbox is being made.
        Preparing = "preparing",
        /// The runner said hello.
        Running = "running",
        /// The result is with us.
        Returned = "returned",
        /// The worker went silent or the process died.
        Lost = "lost",
        /// Ended by us: cancel, deadline, parked.
        Stopped = "stopped",
    }
}

impl AttemptState {
    fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Leased, Self::Preparing)
            | (Self::Preparing, Self::Running)
            | (Self::Running, Self::Returned)
            | (Self::Leased | Self::Preparing | Self::Running, Self::Lost | Self::Stopped) => true,
            (Self::Returned | Self::Lost | Self::Stopped, _)
            | (_, Self::Leased | Self::Preparing | Self::Running | Self::Returned) => false,
        }
    }

    /// True while a process may exist for it and its run token is good.
    pub fn is_live(self) -> bool {
        match self {
            Self::Leased | Self::Preparing | Self::Running => true,
            Self::Returned | Self::Lost | Self::Stopped => false,
        }
    }
}

named_states! {
    /// A publication's state.
    PublicationState, "a publication" {
        /// The changeset is being judged.
        Checking = "checking",
        /// On its way to the forge.
        Publishing = "publishing",
        /// Kept until a person releases it.
        Held = "held",
        /// Will never be published.
        Refused = "refused",
        /// The pull request is there.
        Published = "published",
    }
}

impl PublicationState {
    fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Checking, Self::Publishing | Self::Held | Self::Refused)
            | (Self::Held, Self::Publishing | Self::Refused)
            // Held: the branch moved, found before anything reached the forge.
            | (Self::Publishing, Self::Published | Self::Held | Self::Refused) => true,
            (Self::Refused | Self::Published, _)
            | (Self::Checking, Self::Checking | Self::Published)
            | (Self::Held, Self::Checking | Self::Held | Self::Published)
            | (Self::Publishing, Self::Checking | Self::Publishing) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_run_state() -> impl Strategy<Value = RunState> {
        proptest::sample::select(RunState::all().collect::<Vec<_>>())
    }

    proptest! {
        /// Whatever is asked of a run, in any order: a final state never changes, and every
        /// state it passes through can be stored and read back.
        #[test]
        fn a_final_run_never_changes(moves in proptest::collection::vec(any_run_state(), 1..40)) {
            let mut state = RunState::Queued;
            for next in moves {
                let before = state;
                state = state.to(next).unwrap_or(state);
                if before.is_final() { prop_assert_eq!(before, state); }
                let (text, kind) = state.columns();
                prop_assert_eq!(RunState::from_columns(text, kind), Some(state));
            }
        }

        /// Cancel works from every state that is not final, and from no other.
        #[test]
        fn cancel_works_until_the_end(state in any_run_state()) {
            prop_assert_eq!(state.to(RunState::Cancelled).is_ok(), !state.is_final());
        }

        /// A run succeeds only from `active`: never out of the queue and never while it waits.
        #[test]
        fn success_comes_from_active_only(state in any_run_state()) {
            prop_assert_eq!(state.to(RunState::Succeeded).is_ok(), state == RunState::Active);
        }

        /// A parked run has no attempt, so it must queue again; a held one must not run its agent again.
        #[test]
        fn waiting_goes_back_the_way_it_came(state in any_run_state()) {
            if let RunState::Waiting(why) = state {
                prop_assert_eq!(state.to(RunState::Queued).is_ok(), why.parked());
                prop_assert_eq!(state.to(RunState::Active).is_ok(), !why.parked());
            }
        }

        /// An attempt that is over stays over, however late its reports come.
        #[test]
        fn an_ended_attempt_stays_ended(moves in proptest::collection::vec(proptest::sample::select(AttemptState::ALL), 1..30)) {
            let mut state = AttemptState::Leased;
            for next in moves {
                let before = state;
                state = state.to(next).unwrap_or(state);
                prop_assert!(before.is_live() || before == state);
            }
        }

        /// What is published or refused stays so; nothing is published without being checked.
        #[test]
        fn a_publication_ends_once(moves in proptest::collection::vec(proptest::sample::select(PublicationState::ALL), 1..30)) {
            let mut state = PublicationState::Checking;
            let mut seen = vec![state];
            for next in moves {
                if let Ok(moved) = state.to(next) { state = moved; seen.push(state); }
            }
            let ends = seen.iter().filter(|s| matches!(s, PublicationState::Published | PublicationState::Refused)).count();
            prop_assert!(ends <= 1);
            if let Some(at) = seen.iter().position(|s| *s == PublicationState::Published) {
                prop_assert_eq!(seen[at - 1], PublicationState::Publishing);
            }
        }
    }

    #[test]
    fn every_legal_move_of_a_run() {
        let moves: Vec<String> = RunState::all()
            .flat_map(|from| RunState::all().filter(move |to| from.to(*to).is_ok()).map(move |to| (from, to)))
            .filter(|(_, to)| !matches!(to, RunState::Failed(c) if *c != FailureClass::Agent))
            .map(|(from, to)| format!("{from} -> {to}"))
            .collect();
        insta::assert_snapshot!(moves.join("\n"));
    }
}
