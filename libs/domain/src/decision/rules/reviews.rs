//! Reviews of pull requests: changes requested, approved, dismissed.

use super::{
    Case, Verdict,
    ask::{Ask, How},
    for_people, listed,
    starts::{self, Wanted},
};
use crate::{
    decision::{Decided, Decision, Reason, ResultRecord, Review, ReviewVerdict, Thread},
    rights::{Action, Denied, authorise_start, right},
    run::RunKind,
};

pub(super) fn reviewed(case: &mut Case<'_>, on: &Thread, review: &Review) -> Verdict<Decided> {
    let (found, says_something) = match review.verdict {
        ReviewVerdict::Approved => ("it approves", true),
        ReviewVerdict::ChangesRequested => ("it requests changes", true),
        ReviewVerdict::Commented => ("it only comments", false),
    };
    case.trace.rule("The review approves or requests changes", found, says_something, || {
        Decided::ignore(Reason::EventNotUsed, "A review that only comments starts nothing.")
    })?;
    let ask = case.ask(on, How::Review)?;
    let record = &case.facts.record;
    let found = if record.ours { "one of our runs opened it" } else { "none of our runs opened it" };
    case.trace.rule("The pull request is ours", found, record.ours, || {
        Decided::ignore(Reason::NotOurs, "No run of ours opened this pull request.")
    })?;
    let found = if on.open { "it is open" } else { "it is closed" };
    case.trace.rule("The pull request is open", found, on.open, || {
        Decided::ignore(Reason::IssueClosed, "The pull request is closed.")
    })?;
    match review.verdict {
        ReviewVerdict::Approved => approve(case, &ask, review),
        ReviewVerdict::ChangesRequested | ReviewVerdict::Commented => revise(case, &ask),
    }
}

/// Changes requested by somebody who may start: the next run goes on with the pull request.
fn revise(case: &mut Case<'_>, ask: &Ask<'_>) -> Verdict<Decided> {
    let facts = case.facts;
    let least = crate::rights::Permission::Write;
    let judged = authorise_start(&ask.principal(facts), least);
    let enough = !matches!(judged, Err(Denied::TooLittle { .. } | Denied::OperatorOnly));
    // A review by a reader is an ordinary thing, and nobody waits for a word about it.
    case.trace.rule("The reviewer has at least write permission", ask.has(facts), enough, || {
        let rule =
            "A review that requests changes starts a run when somebody with write permission submits it.";
        Decided::ignore(Reason::NoWritePermission, rule)
    })?;
    let stage = stage_of(case, ask)?;
    let wanted = Wanted {
        kind: RunKind::Revise,
        stage: &stage,
        issue: facts.record.linked_issue.unwrap_or(ask.on.number),
        pull: Some(ask.on.number),
        retry_of: None,
        reason: Reason::ChangesRequested,
    };
    starts::start(case, ask, &wanted)
}

/// The stage that is revised: by the labels of the pull request, by those of its issue, by the
/// last run on the pull request, by the last one of the issue.
fn stage_of(case: &mut Case<'_>, ask: &Ask<'_>) -> Verdict<String> {
    let facts = case.facts;
    let record = &facts.record;
    let of_run = |run: &Option<crate::decision::RunRef>| {
        run.iter().filter(|run| run.kind.publishes_changes()).map(|run| run.stage.clone()).collect()
    };
    let mut issue = record.issue_labels.clone();
    issue.sort();
    issue.dedup();
    let places: [(&str, Vec<String>); 4] = [
        ("the pull request's labels", facts.policy.labels.stages(&ask.on.labels)),
        ("the issue's labels", issue),
        ("the last run on the pull request", of_run(&record.last_of_pull)),
        ("the last work on the issue", of_run(&record.last_of_issue)),
    ];
    let rule = "It is clear which stage is revised";
    let ambiguous = |said: String| {
        let labels = &facts.policy.labels;
        let example =
            record.results.iter().rev().find(|r| r.pull == ask.on.number).map_or("dev", |r| &r.stage);
        let label = labels.revise_label(example);
        let remedy = format!("Put `{label}` on the pull request, with the stage you mean.");
        ask.question(labels.need_label("input"), Reason::StageAmbiguous, said, remedy)
    };
    for (place, stages) in places {
        match stages.as_slice() {
            [] => {}
            [stage] => {
                case.trace.note(rule, format!("`{}`, by {place}", for_people(stage)));
                return Ok(stage.clone());
            }
            several => {
                let names = listed(several);
                let said = format!("It is not clear which stage to revise: by {place} it is {names}.");
                return case.trace.stop(rule, format!("{names}, by {place}"), ambiguous(said));
            }
        }
    }
    let said = "It is not clear which stage to revise: neither labels nor earlier runs tell.";
    case.trace.stop(rule, "neither labels nor runs tell", ambiguous(said.to_owned()))
}

/// The newest result with that pull request.
fn result_of<'a>(case: &Case<'a>, pull: u64) -> Option<&'a ResultRecord> {
    case.facts.record.results.iter().rev().find(|result| result.pull == pull)
}

fn approve(case: &mut Case<'_>, ask: &Ask<'_>, review: &Review) -> Verdict<Decided> {
    let facts = case.facts;
    let pull = ask.on.number;
    let result = result_of(case, pull);
    let found =
        result.map_or_else(|| "no result is".to_owned(), |r| format!("run `{}` of `{}`", r.run, r.stage));
    let result = case.trace.found("A result stands behind the pull request", found, result, || {
        Decided::ignore(Reason::NotOurs, "No result of ours stands behind this pull request.")
    })?;
    let judged = right(&ask.principal(facts), Action::Approve);
    let rule = "The reviewer has maintain permission, or the project's approver role";
    let right = case.trace.found(rule, ask.has(facts), judged.as_ref().ok(), || match &judged {
        // A reader's approval is an ordinary thing, and nobody waits for a word about it.
        Err(Denied::TooLittle { .. } | Denied::OperatorOnly) | Ok(_) => {
            let rule = "Approving a result takes maintain permission on the repository, or the project's approver role.";
            Decided::ignore(Reason::NoApproveRight, rule)
        }
        Err(Denied::PermissionUnknown) => {
            let who = for_people(&review.author);
            let rule = format!("It could not be learnt what `{who}` may do here, and nothing is approved on a guess.");
            Decided::ignore(Reason::PermissionUnknown, rule)
        }
    })?;
    // A stage that is gone from the project's files keeps nobody from approving what it made,
    // and takes no second person.
    let four_eyes = facts.policy.get(&result.stage).is_some_and(|stage| stage.four_eyes);
    // A revision stands on what was asked for before it.
    let of_pull = facts.record.results.iter().filter(|result| result.pull == pull);
    let own = of_pull.clone().any(|result| result.asked_by.eq_ignore_ascii_case(&review.author));
    let who = for_people(&review.author);
    let found = match (four_eyes, own) {
        (false, _) => format!("`{}` does not ask for a second person", result.stage),
        (true, false) => {
            format!("{} asked, `{who}` approves", listed(of_pull.map(|result| &result.asked_by)))
        }
        (true, true) => format!("`{who}` did both"),
    };
    case.trace.rule("Who asked for the result does not approve it", found, !(four_eyes && own), || {
        ask.reject(
            Reason::OwnResult,
            format!(
                "`{who}` asked for this result, and `{}` takes a second person to approve.",
                result.stage
            ),
            "Ask somebody else with maintain permission to approve it.",
        )
    })?;
    let head = ask.on.pull.as_ref().and_then(|pull| pull.head.as_ref());
    let short =
        |sha: Option<&crate::names::CommitSha>| sha.map_or("an unknown commit", |sha| sha.short()).to_owned();
    let same = head.filter(|head| review.commit.as_ref() == Some(*head));
    let found = format!("it is about {}, the head is {}", short(review.commit.as_ref()), short(head));
    let head = case.trace.found("The review is about the present head", found, same, || {
        ask.reject(
            Reason::StaleReview,
            format!(
                "The review is about {}, and the head is {} by now.",
                short(review.commit.as_ref()),
                short(head)
            ),
            "Look at the new commits and approve again.",
        )
    })?;
    let rule = format!("`{who}` approved {} and may: {right}.", head.short());
    let decision = Decision::Approve {
        pull,
        run: result.run.clone(),
        head: head.clone(),
        review: review.id,
        right: right.clone(),
    };
    Ok(Decided::new(decision, Reason::ReviewApproved, rule, ""))
}

pub(super) fn dismissed(case: &mut Case<'_>, on: &Thread, review: &Review) -> Verdict<Decided> {
    let approval = result_of(case, on.number).and_then(|result| result.approval.as_ref());
    let stands = approval.is_some_and(|approval| approval.review == review.id);
    let found = match approval {
        None => "no approval stands",
        Some(_) if stands => "it is the one that stands",
        Some(_) => "another review's approval stands",
    };
    case.trace.rule("The review is the approval that stands", found, stands, || {
        Decided::ignore(Reason::EventNotUsed, "The dismissed review is not the approval that stands.")
    })?;
    let head = on.pull.as_ref().and_then(|pull| pull.head.clone());
    let rule = format!("The review of `{}` that approved it was dismissed.", for_people(&review.author));
    Ok(Decided::new(Decision::WithdrawApproval { pull: on.number, head }, Reason::ReviewDismissed, rule, ""))
}
