//! Labels that are set and taken off.

use super::{
    Case, Verdict,
    ask::{Ask, How},
    entry, for_people,
    starts::{self, Wanted},
};
use crate::{
    decision::{Decided, Decision, Pull, Reason, Thread, Told},
    rights::Permission,
    run::RunKind,
    stage::{Meaning, StageKind},
};

pub(super) fn labeled(case: &mut Case<'_>, on: &Thread, label: &str) -> Verdict<Decided> {
    let meaning = case.facts.policy.labels.meaning(label);
    let shown = for_people(label);
    let meaning =
        case.trace
            .found("The label means something here", format!("`{shown}`"), meaning, || nothing(&shown))?;
    told(case, on, label)?;
    let how = How::Label(label.to_owned());
    match meaning {
        Meaning::Run(stage) => {
            let ask = case.ask(on, how)?;
            work(case, &ask, &stage, Reason::TriggerLabel)
        }
        Meaning::Preview(stage) => {
            let ask = case.ask(on, how)?;
            work(case, &ask, &stage, Reason::PreviewLabel)
        }
        Meaning::Revise(stage) => {
            let ask = case.ask(on, how)?;
            revise(case, &ask, &stage, Reason::TriggerLabel)
        }
        Meaning::Reviewer => {
            let ask = case.ask(on, how)?;
            review(case, &ask)
        }
        Meaning::Discussion => {
            let ask = case.ask(on, how)?;
            discuss(case, &ask)
        }
        Meaning::Model(_) | Meaning::Reasoning(_) => {
            let ask = case.ask(on, how)?;
            parameter(case, &ask, label, &meaning)
        }
        Meaning::State(_) | Meaning::Need(_) => kept(case, on, label, true),
    }
}

/// Was the label told of before, and does anybody know who set it?
fn told(case: &mut Case<'_>, on: &Thread, label: &str) -> Verdict<()> {
    let shown = for_people(label);
    let found = match case.facts.told {
        Told::Delivered | Told::LateEdited => return Ok(()),
        Told::Twice => {
            let rule = format!(
                "It was decided already that `{shown}` was set: the issue's history and a delivery tell of the same."
            );
            let decided = Decided::ignore(Reason::DecidedBefore, rule);
            return case.trace.stop("It was not decided before", "it was", decided);
        }
        Told::Nobody => {
            let rule = format!(
                "`{shown}` stands here, and the history does not tell who set it, so nothing starts."
            );
            let remedy = format!("Somebody with write permission can put `{shown}` on again.");
            let decision =
                Decision::Reject { on: Some(on.number), label: Some(label.to_owned()), need: Vec::new() };
            let decided = Decided::new(decision, Reason::SetterUnknown, rule, remedy);
            return case.trace.stop("It is known who set the label", "the history does not tell", decided);
        }
        Told::History | Told::HistoryEdited => "by the history; no delivery came",
    };
    case.trace.note("It is known who set the label", found);
    Ok(())
}

pub(super) fn unlabeled(case: &mut Case<'_>, on: &Thread, label: &str) -> Verdict<Decided> {
    let shown = for_people(label);
    case.trace.note("A label was taken off", format!("`{shown}`"));
    match case.facts.policy.labels.meaning(label) {
        Some(Meaning::State(_) | Meaning::Need(_)) => kept(case, on, label, false),
        Some(Meaning::Model(_) | Meaning::Reasoning(_)) => {
            case.not_ours()?;
            let decision = Decision::NoteParameter { number: on.number, label: label.to_owned(), set: false };
            let rule = format!("`{shown}` was taken off and counts no longer.");
            Ok(Decided::new(decision, Reason::ParameterNoted, rule, ""))
        }
        Some(Meaning::Discussion) => {
            case.not_ours()?;
            let open = case.facts.record.discussion.is_some();
            let found = if open { "one is open" } else { "none is open" };
            case.trace.rule("A discussion is open on the issue", found, open, || {
                Decided::ignore(Reason::LabelNotATrigger, "No discussion is open, so none ends.")
            })?;
            let rule = format!("`{shown}` was taken off, which ends the discussion.");
            Ok(Decided::new(Decision::EndDiscussion { issue: on.number }, Reason::DiscussionEnded, rule, ""))
        }
        Some(Meaning::Run(_) | Meaning::Revise(_) | Meaning::Preview(_) | Meaning::Reviewer) => {
            let rule = "Taking a trigger label off starts and ends nothing; `/callboard cancel` ends a run.";
            Ok(Decided::ignore(Reason::LabelNotATrigger, rule))
        }
        None => Ok(nothing(&shown)),
    }
}

fn nothing(shown: &str) -> Decided {
    Decided::ignore(Reason::LabelNotATrigger, format!("The label `{shown}` does not start anything."))
}

/// `run:<stage>`, and the same by command.
pub(super) fn work(case: &mut Case<'_>, ask: &Ask<'_>, stage: &str, reason: Reason) -> Verdict<Decided> {
    let name = for_people(stage);
    let labels = &case.facts.policy.labels;
    if let Some(pull) = &ask.on.pull {
        no_fork(case, ask, pull)?;
    }
    let found = if ask.on.pull.is_some() { "it is a pull request" } else { "it is an issue" };
    case.trace.rule("Work starts from an issue", found, ask.on.pull.is_none(), || {
        ask.reject(
            Reason::NotOnPullRequests,
            format!("`{name}` starts from an issue, not from a pull request."),
            format!(
                "Put `{}` on the issue that describes the work; to go on with this pull request, set `{}` here.",
                labels.run_label(&name),
                labels.revise_label(&name)
            ),
        )
    })?;
    let issue = ask.on.number;
    let wanted = Wanted { kind: RunKind::Work, stage, issue, pull: None, retry_of: None, reason };
    starts::start(case, ask, &wanted)
}

/// `run:<stage>:revise`, and the same by command.
pub(super) fn revise(case: &mut Case<'_>, ask: &Ask<'_>, stage: &str, reason: Reason) -> Verdict<Decided> {
    let record = &case.facts.record;
    let name = for_people(stage);
    let (issue, pull) = match &ask.on.pull {
        Some(pull) => {
            no_fork(case, ask, pull)?;
            let found = if record.ours { "one of our runs opened it" } else { "none of our runs opened it" };
            case.trace.rule("The pull request is ours", found, record.ours, || {
                ask.reject(
                    Reason::NotOurs,
                    "This pull request was not opened by a run, so no run goes on with it.",
                    format!(
                        "Put `{}` on an issue that describes the work.",
                        case.facts.policy.labels.run_label(&name)
                    ),
                )
            })?;
            (record.linked_issue.unwrap_or(ask.on.number), Some(ask.on.number))
        }
        None => {
            let newest = record.results.iter().rev().find(|result| result.open && result.stage == stage);
            (ask.on.number, newest.map(|result| result.pull))
        }
    };
    let wanted = Wanted { kind: RunKind::Revise, stage, issue, pull, retry_of: None, reason };
    if case.facts.policy.get(stage).is_some_and(|stage| stage.revise && stage.kind == StageKind::Work) {
        let found = pull.map_or_else(|| "none is open".to_owned(), |pull| format!("#{pull} is open"));
        let rule = format!("There is an open pull request of `{name}`");
        case.trace.rule(&rule, found, pull.is_some(), || {
            ask.reject(
                Reason::NoPullRequest,
                format!("This issue has no open pull request of `{name}` to go on with."),
                format!(
                    "Set `{}` to have the work done, or reopen its pull request.",
                    case.facts.policy.labels.run_label(&name)
                ),
            )
        })?;
    }
    starts::start(case, ask, &wanted)
}

/// `need:reviewer`
fn review(case: &mut Case<'_>, ask: &Ask<'_>) -> Verdict<Decided> {
    let labels = &case.facts.policy.labels;
    let number = ask.on.number;
    let found = if ask.on.pull.is_some() { "it is a pull request" } else { "it is an issue" };
    case.trace.rule("Reviews are of pull requests", found, ask.on.pull.is_some(), || {
        ask.reject(
            Reason::OnlyOnPullRequests,
            format!(
                "`{}` asks for a review, and an issue has no changes to review.",
                labels.need_label("reviewer")
            ),
            "Put it on the pull request.",
        )
    })?;
    if let Some(pull) = &ask.on.pull {
        no_fork(case, ask, pull)?;
    }
    let stage = starts::of_kind(case.facts.policy, StageKind::Review);
    let issue = case.facts.record.linked_issue.unwrap_or(number);
    let reason = Reason::TriggerLabel;
    let wanted =
        Wanted { kind: RunKind::Review, stage: &stage, issue, pull: Some(number), retry_of: None, reason };
    starts::start(case, ask, &wanted)
}

/// `mode:discussion`
fn discuss(case: &mut Case<'_>, ask: &Ask<'_>) -> Verdict<Decided> {
    let found = if ask.on.pull.is_some() { "it is a pull request" } else { "it is an issue" };
    case.trace.rule("Discussions are on issues", found, ask.on.pull.is_none(), || {
        ask.reject(
            Reason::NotOnPullRequests,
            "Discussions are held on issues, not on pull requests.",
            format!("Put `{}` on the issue.", case.facts.policy.labels.discussion),
        )
    })?;
    let open = case.facts.record.discussion.as_ref();
    let found = open.map_or_else(
        || "none is open".to_owned(),
        |d| format!("one is open since {}", d.since.format("%Y-%m-%d %H:%M UTC")),
    );
    case.trace.rule("No discussion is open yet", found, open.is_none(), || {
        Decided::ignore(Reason::AlreadyOpen, "A discussion is open on this issue already.")
    })?;
    let stage = starts::of_kind(case.facts.policy, StageKind::Discussion);
    let (issue, reason) = (ask.on.number, Reason::TriggerLabel);
    let wanted =
        Wanted { kind: RunKind::Discussion, stage: &stage, issue, pull: None, retry_of: None, reason };
    starts::start(case, ask, &wanted)
}

/// Code from forks never runs with this repository's rights.
fn no_fork(case: &mut Case<'_>, ask: &Ask<'_>, pull: &Pull) -> Verdict<()> {
    let found = if pull.from_fork { "it lives in a fork, or it is not told where" } else { "it lives here" };
    case.trace.rule("The head lives in this repository", found, !pull.from_fork, || {
        ask.reject(
            Reason::ForkHead,
            "The head of this pull request lives in a fork, and code from forks is never run with this repository's rights.",
            "Open an issue in this repository and label that, or push the branch to this repository.",
        )
    })
}

/// A label that asks for a model or a level: its setter is remembered, and judged again when a
/// run starts.
fn parameter(case: &mut Case<'_>, ask: &Ask<'_>, label: &str, meaning: &Meaning) -> Verdict<Decided> {
    let facts = case.facts;
    let shown = for_people(label);
    let has = facts.permission;
    let holds = has.is_some_and(|has| has >= Permission::Write);
    case.trace.rule("Whoever sets it has at least write permission", ask.has(facts), holds, || {
        let who = for_people(&ask.actor.login);
        match has {
            Some(has) => ask.reject(
                Reason::ParameterNotAllowed,
                format!("`{shown}` takes write permission on the repository; `{who}` has {has}."),
                "Ask somebody with write permission to set it.",
            ),
            None => ask.denied("", None),
        }
    })?;
    entry::may_be_asked_for(case, ask, label, meaning)?;
    let decision = Decision::NoteParameter { number: ask.on.number, label: label.to_owned(), set: true };
    let rule = format!("{}: it counts for the next run.", ask.asked());
    Ok(Decided::new(decision, Reason::ParameterNoted, rule, ""))
}

/// `state:` and `need:` labels say what our records say; whoever changes them by hand changes
/// nothing, and they are put back.
fn kept(case: &mut Case<'_>, on: &Thread, label: &str, set: bool) -> Verdict<Decided> {
    let facts = case.facts;
    let shown = for_people(label);
    let ours = facts.policy.labels.kept().into_iter().find(|kept| kept.eq_ignore_ascii_case(label.trim()));
    let found = if ours.is_some() { "the platform keeps it" } else { "it belongs to people" };
    let ours = case.trace.found("The platform keeps the label", found, ours, || {
        let rule = format!("`{shown}` belongs to people; the platform neither reads nor changes it.");
        Decided::ignore(Reason::LabelNotATrigger, rule)
    })?;
    case.not_ours()?;
    let wanted = facts.record.kept_labels.iter().any(|kept| kept.eq_ignore_ascii_case(&ours));
    let found = if wanted { "by our records it stands" } else { "by our records it does not stand" };
    case.trace.rule("The change disagrees with our records", found, wanted != set, || {
        Decided::ignore(Reason::LabelNotATrigger, format!("`{shown}` is as our records have it."))
    })?;
    let (add, remove, rule) = if wanted {
        let rule =
            format!("`{shown}` follows what happened here, and by our records it stands: it is put back.");
        (vec![ours.clone()], Vec::new(), rule)
    } else {
        let rule = format!(
            "`{shown}` follows what happened here, and by our records it does not stand: it is taken off."
        );
        (Vec::new(), vec![label.to_owned()], rule)
    };
    let labels = &facts.policy.labels;
    let remedy = if ours == labels.state_label("approved") {
        "A review that approves the pull request, by somebody with maintain permission, sets it; dismissing that review takes it off."
    } else if ours == labels.state_label("in-review") {
        "It stands while a pull request of a run is open and not approved."
    } else {
        "It stands while the platform waits for an answer."
    };
    let decision = Decision::KeepLabels { number: on.number, add, remove };
    Ok(Decided::new(decision, Reason::LabelPutBack, rule, remedy))
}
