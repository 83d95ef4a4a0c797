//! What happens to pull requests themselves. Our records follow, whoever did it.

use super::{Case, Verdict};
use crate::decision::{Decided, Decision, Pull, Reason, Thread};

/// A new head: what was approved is not what would be merged.
pub(super) fn synchronized(case: &mut Case<'_>, on: &Thread) -> Verdict<Decided> {
    let head = on.pull.as_ref().and_then(|pull| pull.head.clone());
    let results = case.facts.record.results.iter().filter(|result| result.pull == on.number);
    let approval = results.filter_map(|result| result.approval.as_ref()).next_back();
    let stale = approval.is_some_and(|approval| head.as_ref() != Some(&approval.head));
    let found = match (approval, stale) {
        (None, _) => "no approval stands".to_owned(),
        (Some(approval), true) => format!("{} was approved", approval.head.short()),
        (Some(_), false) => "the approved head is the present one".to_owned(),
    };
    case.trace.rule("An approval of another head stands", found, stale, || {
        Decided::ignore(Reason::EventNotUsed, "No approval of another head stands on this pull request.")
    })?;
    let rule = "The pull request has a new head, and what was approved is the old one.";
    let remedy = "Look at the new commits and approve again.";
    Ok(Decided::new(Decision::WithdrawApproval { pull: on.number, head }, Reason::NewHead, rule, remedy))
}

/// It is open again: what was recorded of its end does not hold any more.
pub(super) fn reopened(case: &mut Case<'_>, on: &Thread) -> Verdict<Decided> {
    let record = &case.facts.record;
    let ours = record.ours || record.results.iter().any(|result| result.pull == on.number);
    let found = if ours { "one of our runs opened it" } else { "none of our runs opened it" };
    case.trace.rule("The pull request is ours", found, ours, || {
        Decided::ignore(Reason::NotOurs, "No run of ours has to do with this pull request.")
    })?;
    let rule = "The pull request of a result is open again.";
    Ok(Decided::new(Decision::RecordReopened { pull: on.number }, Reason::PullRequestReopened, rule, ""))
}

pub(super) fn closed(case: &mut Case<'_>, on: &Thread, pull: &Pull) -> Verdict<Decided> {
    let record = &case.facts.record;
    let (reason, how) =
        if pull.merged { (Reason::Merged, "merged") } else { (Reason::PullRequestClosed, "closed") };
    if record.ours || record.results.iter().any(|result| result.pull == on.number) {
        case.trace.note("The pull request is ours", format!("one of our runs opened it; it was {how}"));
        let rule = format!("The pull request of a result was {how}.");
        let decision = Decision::RecordEnd { pull: on.number, merged: pull.merged };
        return Ok(Decided::new(decision, reason, rule, ""));
    }
    let about_it = record.under_way.as_ref().filter(|run| run.pull == Some(on.number));
    let found = about_it.map_or_else(|| "none is".to_owned(), |run| format!("run `{}` is", run.id));
    let run = case.trace.found("A run about it is under way", found, about_it, || {
        Decided::ignore(Reason::NotOurs, "No run of ours has to do with this pull request.")
    })?;
    let decision = Decision::Cancel { run: Some(run.id.clone()) };
    Ok(Decided::new(decision, reason, format!("The pull request was {how}."), ""))
}
