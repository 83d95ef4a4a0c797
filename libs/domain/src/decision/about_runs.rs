//! What a person's word about one run leads to, by command line.

use super::{
    Decided, Decision, Facts, Reason, RunRef, Start, Trace,
    rules::{Verdict, known_stage, standing},
};
use crate::rights::{Action, Denied, Principal, authorise, authorise_start};

/// What a person's `run retry` of a run leads to. `issue` is the issue it counts to.
pub fn decide_retry(principal: &Principal, facts: &Facts<'_>, run: &RunRef, issue: u64) -> Decided {
    let mut trace = Trace::default();
    let judged = retry(&mut trace, principal, facts, run, issue);
    trace.into(judged)
}

fn retry(
    trace: &mut Trace,
    principal: &Principal,
    facts: &Facts<'_>,
    run: &RunRef,
    issue: u64,
) -> Verdict<Decided> {
    let name = principal.name();
    may(trace, &name, "Starting a run", &authorise(principal, Action::Start))?;
    standing(facts.repository, trace).map_err(|stopped| Decided {
        decision: Decision::Reject { on: None, label: None, need: Vec::new() },
        ..*stopped
    })?;
    let found = if run.is_final { "it is over" } else { "it is not over" };
    trace.rule("The run is over", found, run.is_final, || {
        Decided::refuse(Reason::RunNotFinal, "The run is not over.", "Wait for it, or cancel it first.")
    })?;
    let stage = known_stage(trace, facts.policy, &run.stage, Decided::refuse)?;
    may(trace, &name, "Starting this stage", &authorise_start(principal, stage.start))?;
    let other = facts.record.under_way.as_ref();
    let found = other.map_or_else(|| "none is".to_owned(), |other| format!("run `{}` is", other.id));
    trace.rule("No run of the issue is under way", found, other.is_none(), || {
        let other = other.map_or("", |other| other.id.as_str());
        let rule = format!("Run {other} of the same issue is under way.");
        Decided::refuse(Reason::RunUnderWay, rule, "Wait for it, or cancel it first.")
    })?;
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
    let rule = format!("Retried by {name}.");
    Ok(Decided::new(Decision::Start(Box::new(start)), Reason::CommandLine, rule, ""))
}

/// What a person's `run cancel` leads to.
pub fn decide_cancel(principal: &Principal, run_is_final: bool) -> Decided {
    let mut trace = Trace::default();
    let judged = cancel(&mut trace, principal, run_is_final);
    trace.into(judged)
}

fn cancel(trace: &mut Trace, principal: &Principal, run_is_final: bool) -> Verdict<Decided> {
    let name = principal.name();
    may(trace, &name, "Cancelling", &authorise(principal, Action::Cancel))?;
    let found = if run_is_final { "it is over" } else { "it is not over" };
    trace.rule("The run is not over", found, !run_is_final, || {
        let remedy = "`callboard run retry` starts it again.";
        Decided::refuse(Reason::RunIsFinal, "The run is over already.", remedy)
    })?;
    let rule = format!("Cancelled by {name}.");
    Ok(Decided::new(Decision::Cancel { run: None }, Reason::CommandLine, rule, ""))
}

fn may(trace: &mut Trace, name: &str, what: &str, judged: &Result<(), Denied>) -> Verdict<()> {
    let rule = format!("{what} is allowed to whoever asks");
    trace.rule(&rule, format!("it is `{name}`"), judged.is_ok(), || match judged {
        Err(Denied::TooLittle { needs, .. }) => {
            let rule = format!("{what} takes {needs} permission on the repository.");
            Decided::refuse(Reason::NoWritePermission, rule, format!("Ask somebody with {needs} permission."))
        }
        Err(Denied::PermissionUnknown) | Ok(()) => {
            let rule = "It could not be learnt what you may do on the repository.";
            Decided::refuse(Reason::PermissionUnknown, rule, "Try again in a minute.")
        }
        Err(Denied::OperatorOnly) => {
            let rule = format!("{what} is for the platform's operator only.");
            Decided::refuse(Reason::NoWritePermission, rule, "Ask the operator.")
        }
    })
}
