//! May a held changeset be published?

use super::{Decided, Decision, Reason};
use crate::{
    rights::{Action, Principal, authorise},
    run::{PublicationState, RunState, Waiting},
};

/// What a person's `run release` leads to, by the state of the run and of its newest
/// publication.
pub fn decide_release(
    principal: &Principal,
    run: RunState,
    publication: Option<PublicationState>,
) -> Decided {
    let reject = |reason, rule: String, remedy: &str| Decided::refuse(reason, rule, remedy);
    if authorise(principal, Action::Release).is_err() {
        return reject(
            Reason::NoReleaseRight,
            "Releasing takes maintain permission on the repository, or the project's approver role."
                .to_owned(),
            "Ask somebody who has it.",
        );
    }
    match (run, publication) {
        (RunState::Waiting(Waiting::Held), Some(PublicationState::Held)) => Decided::new(
            Decision::Release,
            Reason::CommandLine,
            format!("Released by {}.", principal.name()),
            "",
        ),
        (_, Some(PublicationState::Refused)) => reject(
            Reason::ChangesetRefused,
            "The changeset was refused, and what is refused is never published.".to_owned(),
            "Look at it with `callboard run changeset`; `callboard run retry` has the work done anew.",
        ),
        (RunState::Waiting(Waiting::Held), Some(PublicationState::Publishing)) => reject(
            Reason::RunNotHeld,
            "Nothing of the run is held for a word of yours: publishing it failed, and waits to be tried again."
                .to_owned(),
            "`callboard outbox list` shows what failed; `callboard outbox retry ID` tries it again.",
        ),
        (
            _,
            None
            | Some(
                PublicationState::Checking
                | PublicationState::Publishing
                | PublicationState::Held
                | PublicationState::Published,
            ),
        ) => reject(
            Reason::RunNotHeld,
            format!("The run is {run}: nothing of it is held."),
            "`callboard run list --state waiting` shows what is.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rights::{Permission, ProjectRole};

    /// Everything but a held run with a held publication is refused with a remedy.
    #[test]
    fn only_what_is_held_is_released() {
        let operator = Principal::PlatformOperator { uid: 0 };
        let publications = PublicationState::ALL.iter().copied().map(Some).chain([None]);
        for publication in publications {
            for run in RunState::all() {
                let decided = decide_release(&operator, run, publication);
                let held =
                    run == RunState::Waiting(Waiting::Held) && publication == Some(PublicationState::Held);
                assert_eq!(decided.decision == Decision::Release, held, "{run} {publication:?}");
                assert_eq!(decided.remedy.is_empty(), held, "{}", decided.rule);
            }
        }
    }

    #[test]
    fn maintainers_and_approvers_release() {
        let decide = |permission, role| {
            let account = Principal::ForgeAccount { login: "mona".to_owned(), permission, role };
            decide_release(&account, RunState::Waiting(Waiting::Held), Some(PublicationState::Held)).reason
        };
        assert_eq!(decide(Some(Permission::Maintain), None), Reason::CommandLine);
        assert_eq!(decide(None, Some(ProjectRole::Approver)), Reason::CommandLine);
        assert_eq!(decide(Some(Permission::Write), Some(ProjectRole::Operator)), Reason::NoReleaseRight);
        assert_eq!(decide(None, None), Reason::NoReleaseRight);
    }
}
