//! What a person's word about one run leads to, whatever the channel.

use super::{Decided, Decision, Facts, Reason, RepositoryStanding, RunRef, Start};
use crate::rights::{Action, Principal, authorise};

/// What a person's `run retry` of a run leads to. `issue` is the issue it counts to.
pub fn decide_retry(principal: &Principal, facts: &Facts<'_>, run: &RunRef, issue: u64) -> Decided {
    if authorise(principal, Action::Start).is_err() {
        let rule = "Starting a run takes write permission on the repository.";
        return Decided::refuse(Reason::NoWritePermission, rule, "");
    }
    match facts.repository {
        RepositoryStanding::Enabled => {}
        RepositoryStanding::Disabled => {
            let rule = "The repository is no longer in the configuration.";
            return Decided::refuse(Reason::RepositoryDisabled, rule, "Put it back under `projects:` first.");
        }
        RepositoryStanding::Archived => {
            let rule = "The repository is archived.";
            return Decided::refuse(Reason::RepositoryArchived, rule, "Take it out of the archive first.");
        }
        RepositoryStanding::Gone => {
            let rule = "The repository was transferred or deleted.";
            return Decided::refuse(Reason::RepositoryGone, rule, "Put its new name under `projects:`.");
        }
    }
    if !run.is_final {
        let remedy = "Wait for it, or cancel it first.";
        return Decided::refuse(Reason::RunNotFinal, "The run is not over.", remedy);
    }
    if facts.policy.get(&run.stage).is_none() {
        let rule = format!("There is no stage `{}` any more.", run.stage);
        return Decided::refuse(Reason::UnknownStage, rule, "");
    }
    if let Some(other) = &facts.record.under_way {
        let rule = format!("Run {} of the same issue is under way.", other.id);
        return Decided::refuse(Reason::RunUnderWay, rule, "Wait for it, or cancel it first.");
    }
    let start = Start {
        kind: run.kind,
        stage: run.stage.clone(),
        issue,
        pull: run.pull,
        label: None,
        behind: None,
        supersedes: None,
        retry_of: Some(run.id.clone()),
        model: None,
        reasoning: None,
    };
    let rule = format!("Retried by {}.", principal.name());
    Decided::new(Decision::Start(Box::new(start)), Reason::CommandLine, rule, "")
}

/// What a person's `run cancel` leads to.
pub fn decide_cancel(principal: &Principal, run_is_final: bool) -> Decided {
    if authorise(principal, Action::Cancel).is_err() {
        let rule = "Cancelling takes triage permission or the operator role.";
        return Decided::refuse(Reason::NoWritePermission, rule, "");
    }
    if run_is_final {
        let remedy = "`callboard run retry` starts it again.";
        return Decided::refuse(Reason::RunIsFinal, "The run is over already.", remedy);
    }
    let rule = format!("Cancelled by {}.", principal.name());
    Decided::new(Decision::Cancel { run: None }, Reason::CommandLine, rule, "")
}
