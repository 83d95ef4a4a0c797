//! What every start has to pass, whoever asks and however.

use super::{
    Case, Verdict,
    ask::{Ask, How},
    entry, for_people, listed,
};
use crate::{
    decision::{Admission, Decided, Decision, Reason, RunRef, Start, Told, Trace},
    names::nearest,
    run::RunKind,
    stage::{Off, Policy, SecondTrigger, Stage, StageKind},
};

/// What is to be started.
pub(super) struct Wanted<'a> {
    pub(super) kind: RunKind,
    pub(super) stage: &'a str,
    /// The issue it counts to.
    pub(super) issue: u64,
    /// The pull request it goes on with or reviews.
    pub(super) pull: Option<u64>,
    /// The final run it repeats.
    pub(super) retry_of: Option<&'a RunRef>,
    pub(super) reason: Reason,
}

/// Starts it, or says which rule is in the way.
pub(super) fn start(case: &mut Case<'_>, ask: &Ask<'_>, wanted: &Wanted<'_>) -> Verdict<Decided> {
    let facts = case.facts;
    let stage = stage(case, ask, wanted)?;
    let thread = if ask.on.pull.is_some() { "pull request" } else { "issue" };
    let found = if ask.on.open { "it is open" } else { "it is closed" };
    case.trace.rule(&format!("The {thread} is open"), found, ask.on.open, || {
        let remedy = format!("Reopen it and {}.", ask.again());
        ask.reject(Reason::IssueClosed, format!("The {thread} is closed."), remedy)
    })?;
    ask.may_start(case, wanted.stage, stage.start)?;
    as_it_was(case, ask)?;
    if matches!(ask.how, How::Label(_)) && wanted.kind != RunKind::Discussion {
        entry::alone(case, ask)?;
    }
    let (model, reasoning) = entry::parameters(case, ask)?;
    if wanted.kind == RunKind::Work {
        entry::required(case, ask, wanted.stage, stage)?;
    }
    admission(&mut case.trace, ask, &facts.admission)?;
    let (behind, supersedes) = in_front(case, ask, wanted, stage.second_trigger)?;
    // A discussion goes on while its label stands, so that one is not taken off.
    let keeps_label = wanted.kind == RunKind::Discussion;
    let start = Start {
        kind: wanted.kind,
        stage: wanted.stage.to_owned(),
        issue: wanted.issue,
        pull: wanted.pull,
        label: ask.label().filter(|_| !keeps_label).map(|label| (ask.on.number, label.to_owned())),
        behind,
        supersedes,
        retry_of: wanted.retry_of.map(|run| run.id.clone()),
        model,
        reasoning,
    };
    let rule = match facts.permission {
        Some(permission) => format!("{}, who has {permission} permission.", ask.asked()),
        None => format!("{}.", ask.asked()),
    };
    let start = Box::new(start);
    let preview = wanted.reason == Reason::PreviewLabel;
    let decision = if preview { Decision::Preview { start } } else { Decision::Start(start) };
    Ok(Decided::new(decision, wanted.reason, rule, ""))
}

/// A run works on what stood there when it was asked for. Where only the history told of the label,
/// and where a delivery came late that does not tell the text, that cannot be had any more.
fn as_it_was(case: &mut Case<'_>, ask: &Ask<'_>) -> Verdict<()> {
    let same = "it did not change since, or its author may write here";
    let edited = "it was changed since, and its author has no write permission";
    let (found, because) = match case.facts.told {
        Told::Delivered | Told::Twice | Told::Nobody => return Ok(()),
        Told::History => (same, None),
        Told::HistoryEdited => (edited, Some("No delivery told of this label")),
        Told::LateEdited => (edited, Some("This came late")),
    };
    let what = "The text is the one that was there when it was asked for";
    case.trace.rule(what, found, because.is_none(), || {
        let thread = if ask.on.pull.is_some() { "pull request or its issue" } else { "issue" };
        let because = because.unwrap_or_default();
        ask.reject(
            Reason::EditedSince,
            format!("{because}, and the {thread} was changed after it was asked for, so what was asked for is not known any more."),
            format!("Read it once more and {}.", ask.again()),
        )
    })
}

/// The stage of a kind that no `run:` label starts, by its name.
pub(super) fn of_kind(policy: &Policy, kind: StageKind) -> String {
    let built_in = match kind {
        StageKind::Work => "dev",
        StageKind::Review => "review",
        StageKind::Discussion => "discussion",
    };
    policy.of_kind(kind).map_or(built_in, |(name, _)| name).to_owned()
}

/// The stage, if it exists, reads, is allowed here, and does what is asked.
fn stage<'a>(case: &mut Case<'a>, ask: &Ask<'_>, wanted: &Wanted<'_>) -> Verdict<&'a Stage> {
    let policy = case.facts.policy;
    let no = |reason, rule, remedy| ask.reject(reason, rule, remedy);
    let stage = known(&mut case.trace, policy, wanted.stage, no)?;
    let name = for_people(wanted.stage);
    let expected = match wanted.kind {
        RunKind::Work | RunKind::Revise => StageKind::Work,
        RunKind::Review => StageKind::Review,
        RunKind::Discussion => StageKind::Discussion,
    };
    case.trace.rule(
        "The stage is started in this way",
        format!("`{name}` is for {}", by_what(stage.kind)),
        stage.kind == expected,
        || {
            let remedy = match stage.kind {
                StageKind::Work => {
                    format!("Put `{}` on the issue.", policy.labels.run_label(&name))
                }
                StageKind::Review => {
                    format!("Put `{}` on the pull request.", policy.labels.need_label("reviewer"))
                }
                StageKind::Discussion => format!("Put `{}` on the issue.", policy.labels.discussion),
            };
            ask.reject(Reason::LabelNotATrigger, format!("`{name}` is not started in this way."), remedy)
        },
    )?;
    if wanted.kind == RunKind::Revise {
        let found = if stage.revise { "it can be" } else { "it cannot be" };
        case.trace.rule(&format!("The stage `{name}` can be revised"), found, stage.revise, || {
            ask.reject(
                Reason::NotRevisable,
                format!("A result of `{name}` cannot be revised."),
                format!("Put `{}` on the issue to have it done anew.", policy.labels.run_label(&name)),
            )
        })?;
    }
    Ok(stage)
}

fn by_what(kind: StageKind) -> &'static str {
    match kind {
        StageKind::Work => "work on an issue",
        StageKind::Review => "reviews of pull requests",
        StageKind::Discussion => "discussions on issues",
    }
}

/// Does the stage exist, read, and is it allowed here?
pub(in crate::decision) fn known<'a>(
    trace: &mut Trace,
    policy: &'a Policy,
    stage: &str,
    no: impl FnOnce(Reason, String, String) -> Decided,
) -> Verdict<&'a Stage> {
    let rule = "The stage exists, reads and is allowed";
    let name = for_people(stage);
    if let Some(stage) = policy.get(stage) {
        trace.note(rule, format!("`{name}` does"));
        return Ok(stage);
    }
    let stages = || listed(policy.starting().map(|(name, _)| policy.labels.run_label(name)));
    let (found, reason, said, remedy) = if let Some(broken) = policy.broken.get(stage) {
        (
            format!("`{}`: {}", broken.field, broken.problem),
            Reason::BrokenStage,
            format!("The stage `{name}` does not read: `{}` {}.", for_people(&broken.field), broken.problem),
            "Mend that field in `.callboard/stages.yaml` on the default branch.".to_owned(),
        )
    } else {
        match policy.off.get(stage) {
            Some(Off::Operator) => (
                "the operator's ceilings leave it out".to_owned(),
                Reason::StageNotAllowed,
                format!("The operator does not allow the stage `{name}` here."),
                format!("Start here: {}.", stages()),
            ),
            Some(Off::Project) => (
                "the project switched it off".to_owned(),
                Reason::UnknownStage,
                format!("The stage `{name}` is switched off in `.callboard/stages.yaml`."),
                format!("Start here: {}.", stages()),
            ),
            None => {
                let remedy = match (&policy.problem, nearest(stage, policy.starting().map(|(name, _)| name)))
                {
                    (Some(problem), _) => {
                        format!("`.callboard/stages.yaml` does not read: {problem}. Mend it first.")
                    }
                    (None, Some(meant)) => format!("Did you mean `{}`?", policy.labels.run_label(meant)),
                    (None, None) => format!("Stages here: {}.", stages()),
                };
                (
                    "there is none".to_owned(),
                    Reason::UnknownStage,
                    format!("There is no stage `{name}`."),
                    remedy,
                )
            }
        }
    };
    trace.stop(rule, found, no(reason, said, remedy))
}

/// Has enough been started for now?
fn admission(trace: &mut Trace, ask: &Ask<'_>, admission: &Admission) -> Verdict<()> {
    let who = for_people(&ask.actor.login);
    let day = format!("The last 24 hours count: wait and {}, or have the operator raise", ask.again());
    let limits = [
        (
            format!("`{who}` may ask for one more run today"),
            admission.actor_today,
            Reason::TooMany,
            format!(
                "`{who}` asked for {} runs in the last 24 hours, and that is the limit.",
                admission.actor_today.0
            ),
            format!("{day} `limits.actor_per_day`."),
        ),
        (
            "The repository may have one more run today".to_owned(),
            admission.repository_today,
            Reason::TooMany,
            format!(
                "The repository had {} runs in the last 24 hours, and that is the limit.",
                admission.repository_today.0
            ),
            format!("{day} `limits.repository_per_day`."),
        ),
        (
            "The issue may have one more run".to_owned(),
            admission.of_issue,
            Reason::TooMany,
            format!("The issue had {} runs, and that is the limit.", admission.of_issue.0),
            "Go on in a new issue, or have the operator raise `limits.per_issue`.".to_owned(),
        ),
        (
            "Not too many runs led one to the other".to_owned(),
            admission.chain,
            Reason::ChainTooLong,
            format!("{} runs led one to the other up to here, and that is the limit.", admission.chain.0),
            "Go on in a new issue, or have the operator raise `limits.chain`.".to_owned(),
        ),
    ];
    for (rule, (have, most), reason, said, remedy) in limits {
        trace.rule(&rule, format!("{have} of {most}"), have < most, || ask.reject(reason, said, remedy))?;
    }
    Ok(())
}

/// The run it waits behind, and the run it supersedes.
type Place = (Option<String>, Option<String>);

/// One run of an issue at a time: what becomes of the one that is under way?
fn in_front(
    case: &mut Case<'_>,
    ask: &Ask<'_>,
    wanted: &Wanted<'_>,
    second: SecondTrigger,
) -> Verdict<Place> {
    let record = &case.facts.record;
    let rule = "One run of an issue works at a time";
    let Some(first) = &record.under_way else {
        case.trace.note(rule, "none is under way");
        return Ok((None, None));
    };
    let found = format!(
        "`{}` ({}) is under way since {}",
        first.id,
        first.stage,
        first.since.format("%Y-%m-%d %H:%M UTC")
    );
    // Work ends a discussion, with what waits for its turn in it.
    if first.kind == RunKind::Discussion
        && wanted.kind.publishes_changes()
        && record.behind.as_ref().is_none_or(|run| run.kind == RunKind::Discussion)
    {
        case.trace.note(rule, format!("{found}; work ends a discussion"));
        return Ok((None, Some(first.id.clone())));
    }
    let under_way = format!(
        "A `{}` run of this issue is under way since {} (run `{}`)",
        first.stage,
        first.since.format("%Y-%m-%d %H:%M UTC"),
        first.id
    );
    let wait = format!("Wait for it, or end it with `/callboard cancel`, and {}.", ask.again());
    let (place, found) = match second {
        SecondTrigger::Refuse => {
            let decided = ask.reject(Reason::RunUnderWay, format!("{under_way}."), wait);
            return case.trace.stop(rule, format!("{found}; a second one is refused"), decided);
        }
        SecondTrigger::Queue => {
            ((Some(first.id.clone()), None), format!("{found}; this one waits behind it"))
        }
        SecondTrigger::Supersede => {
            ((None, Some(first.id.clone())), format!("{found}; this one takes its place"))
        }
    };
    case.trace.note(rule, found);
    let waiting = match &record.behind {
        Some(run) => format!("`{}` ({}) waits already", run.id, run.stage),
        None => "none waits".to_owned(),
    };
    case.trace.rule("At most one run waits behind it", waiting, record.behind.is_none(), || {
        let waits = record.behind.as_ref().map_or("", |run| run.id.as_str());
        let rule = format!("{under_way}, and run `{waits}` waits behind it already.");
        match ask.how {
            How::Comment => Decided::ignore(Reason::AlreadyWaiting, rule),
            How::Label(_) | How::Command(_) | How::Review => ask.reject(Reason::AlreadyWaiting, rule, wait),
        }
    })?;
    Ok(place)
}
