//! What must be true before a run may start: one label at a time, parameters by people with the
//! right, and earlier stages as far as the stage asks.

use super::{Case, Verdict, ask::Ask, for_people, listed};
use crate::{
    decision::{Decided, Reason, ResultRecord},
    rights::Permission,
    run::RunKind,
    stage::{Ceilings, Labels, Meaning, Progress, Reasoning, Requirement, Stage},
};

/// No other trigger label stands. One whose run is under way or waits is decided already; it is
/// only not taken off yet.
pub(super) fn alone(case: &mut Case<'_>, ask: &Ask<'_>) -> Verdict<()> {
    let facts = case.facts;
    let labels = &facts.policy.labels;
    let decided = [&facts.record.under_way, &facts.record.behind];
    let decided =
        |kind, stage: &str| decided.into_iter().flatten().any(|run| run.kind == kind && run.stage == stage);
    let own = ask.label().unwrap_or_default();
    let others: Vec<&str> = ask
        .on
        .labels
        .iter()
        .filter(|other| !other.eq_ignore_ascii_case(own))
        .filter(|other| match labels.meaning(other) {
            Some(Meaning::Run(stage)) => !decided(RunKind::Work, &stage),
            Some(Meaning::Revise(stage)) => !decided(RunKind::Revise, &stage),
            Some(
                Meaning::Preview(_)
                | Meaning::Reviewer
                | Meaning::Discussion
                | Meaning::Model(_)
                | Meaning::Reasoning(_)
                | Meaning::State(_)
                | Meaning::Need(_),
            )
            | None => false,
        })
        .map(String::as_str)
        .collect();
    // On a pull request `run:` labels mark its stage.
    let holds = others.is_empty() || ask.on.pull.is_some();
    let found = if others.is_empty() { "no other stands".to_owned() } else { listed(&others) };
    case.trace.rule("One trigger label stands at a time", found, holds, || {
        ask.reject(
            Reason::TriggerConflict,
            format!(
                "{} stand at once, and which of them is meant is a guess.",
                listed(others.iter().copied().chain([own]))
            ),
            format!("Take all of them off, and set the one you want, such as `{}`.", for_people(own)),
        )
    })
}

/// The model and the level that labels ask for.
pub(super) fn parameters(case: &mut Case<'_>, ask: &Ask<'_>) -> Verdict<(Option<String>, Option<Reasoning>)> {
    let model = parameter(case, ask, "model", |meaning| matches!(meaning, Meaning::Model(_)))?;
    let level = parameter(case, ask, "reasoning", |meaning| matches!(meaning, Meaning::Reasoning(_)))?;
    let model = model.and_then(|meaning| if let Meaning::Model(name) = meaning { Some(name) } else { None });
    let level = level.and_then(|meaning| if let Meaning::Reasoning(level) = meaning { level } else { None });
    Ok((model, level))
}

/// The one label of a kind that counts.
fn parameter(
    case: &mut Case<'_>,
    ask: &Ask<'_>,
    what: &str,
    of_kind: impl Fn(&Meaning) -> bool,
) -> Verdict<Option<Meaning>> {
    let facts = case.facts;
    let policy = facts.policy;
    let mut standing: Vec<(&str, Meaning)> = ask
        .on
        .labels
        .iter()
        .filter_map(|label| {
            policy.labels.meaning(label).filter(&of_kind).map(|meaning| (label.as_str(), meaning))
        })
        .collect();
    let names = listed(standing.iter().map(|(label, _)| *label));
    case.trace.rule(&format!("At most one {what} label stands"), &names, standing.len() < 2, || {
        ask.reject(
            Reason::ParameterConflict,
            format!("{names} stand at once."),
            format!("Take all but one of them off, and {}.", ask.again()),
        )
    })?;
    let Some((label, meaning)) = standing.pop() else { return Ok(None) };
    let shown = for_people(label);
    let parameter = facts.record.parameters.iter().find(|p| p.label.eq_ignore_ascii_case(label));
    let setter = parameter.and_then(|p| p.setter.as_deref()).map(for_people);
    let permission = parameter.and_then(|p| p.permission);
    let found = match (&setter, permission) {
        (None, _) => format!("nobody knows who set `{shown}`"),
        (Some(setter), None) => format!("`{setter}` set `{shown}`, with an unknown permission"),
        (Some(setter), Some(has)) => format!("`{setter}` set `{shown}`, with {has} permission"),
    };
    let holds = setter.is_some() && permission.is_some_and(|has| has >= Permission::Write);
    let rule = format!("The {what} label was set by somebody with write permission");
    case.trace.rule(&rule, found, holds, || {
        let rule = match (setter, permission) {
            (None, _) => format!("It is not known who set `{shown}`."),
            (Some(setter), None) => {
                format!("`{setter}` set `{shown}`, and it could not be learnt what `{setter}` may do here.")
            }
            (Some(setter), Some(has)) => {
                format!("`{setter}` set `{shown}` and has {has} permission; choosing a {what} takes write.")
            }
        };
        let remedy = format!(
            "Take `{shown}` off, or have somebody with write permission set it anew; then {}.",
            ask.again()
        );
        ask.reject(Reason::ParameterNotAllowed, rule, remedy)
    })?;
    may_be_asked_for(case, ask, label, &meaning)?;
    Ok(Some(meaning))
}

/// May this model or level be asked for here?
pub(super) fn may_be_asked_for(
    case: &mut Case<'_>,
    ask: &Ask<'_>,
    label: &str,
    meaning: &Meaning,
) -> Verdict<()> {
    let policy = case.facts.policy;
    let (rule, problem) = match meaning {
        Meaning::Model(name) => {
            ("The operator allows the model", model_problem(&policy.ceilings, &policy.labels, name))
        }
        Meaning::Reasoning(level) => (
            "The level exists and the operator allows it",
            level_problem(&policy.ceilings, &policy.labels, *level),
        ),
        Meaning::Run(_)
        | Meaning::Revise(_)
        | Meaning::Preview(_)
        | Meaning::Reviewer
        | Meaning::Discussion
        | Meaning::State(_)
        | Meaning::Need(_) => return Ok(()),
    };
    let shown = for_people(label);
    let found = if problem.is_some() {
        format!("`{shown}` is not one of them")
    } else {
        format!("`{shown}` may be asked for")
    };
    case.trace.rule(rule, found, problem.is_none(), || {
        let (said, remedy) = problem.unwrap_or_default();
        ask.reject(Reason::ModelNotAllowed, format!("`{shown}`: {said}."), format!("{remedy}."))
    })
}

fn model_problem(ceilings: &Ceilings, labels: &Labels, name: &str) -> Option<(String, String)> {
    if ceilings.allows_model(name) {
        return None;
    }
    let allowed = ceilings.models.iter().flatten();
    let known = listed(allowed.map(|model| format!("{}{model}", labels.model)));
    Some((
        "the operator does not allow this model here".to_owned(),
        format!("Use one of {known}, or none of them"),
    ))
}

fn level_problem(ceilings: &Ceilings, labels: &Labels, level: Option<Reasoning>) -> Option<(String, String)> {
    let most = ceilings.reasoning.unwrap_or(Reasoning::ExtraHigh);
    let known = Reasoning::ALL.into_iter().filter(|level| *level <= most);
    let known = listed(known.map(|level| format!("{}{}", labels.reasoning, level.as_str())));
    match level {
        Some(level) if level <= most => None,
        Some(_) => {
            Some(("it is more than the operator allows here".to_owned(), format!("Use one of {known}")))
        }
        None => Some(("there is no such level".to_owned(), format!("Use one of {known}"))),
    }
}

/// Are the earlier stages as far as this one asks, by our records?
pub(super) fn required(case: &mut Case<'_>, ask: &Ask<'_>, name: &str, stage: &Stage) -> Verdict<()> {
    let facts = case.facts;
    for Requirement { stage: earlier, is } in &stage.requires {
        let results = facts.record.results.iter().filter(|result| &result.stage == earlier);
        let mut newest_first: Vec<&ResultRecord> = results.collect();
        newest_first.reverse();
        let reached = newest_first.iter().any(|result| reaches(result, *is));
        let pulls: Vec<String> = newest_first.iter().map(|result| format!("#{}", result.pull)).collect();
        let found = match (pulls.is_empty(), reached) {
            (true, _) => format!("`{earlier}` has no result here"),
            (false, true) => format!("it is ({})", pulls.join(", ")),
            (false, false) => format!("it is not ({})", pulls.join(", ")),
        };
        case.trace.rule(&format!("`{earlier}` is {}", how_far(*is)), found, reached, || {
            not_yet(&case.facts.policy.labels, ask, name, earlier, *is, newest_first.first().copied())
        })?;
    }
    Ok(())
}

fn reaches(result: &ResultRecord, is: Progress) -> bool {
    let approved = result
        .approval
        .as_ref()
        .is_some_and(|approval| result.head.as_ref().is_none_or(|head| *head == approval.head));
    match is {
        Progress::Published => result.open || result.merged,
        Progress::Approved => (result.open || result.merged) && approved,
        Progress::Merged => result.merged,
    }
}

fn how_far(is: Progress) -> &'static str {
    match is {
        Progress::Published => "published",
        Progress::Approved => "approved",
        Progress::Merged => "merged",
    }
}

fn not_yet(
    labels: &Labels,
    ask: &Ask<'_>,
    name: &str,
    earlier: &str,
    is: Progress,
    newest: Option<&ResultRecord>,
) -> Decided {
    let newest = newest.filter(|result| result.open || result.merged);
    let first = match (newest, is) {
        (None, _) => format!("Set `{}` first", labels.run_label(earlier)),
        (Some(result), Progress::Approved) => {
            format!("Have somebody with maintain permission approve #{} in a review", result.pull)
        }
        (Some(result), Progress::Published | Progress::Merged) => format!("Merge #{}", result.pull),
    };
    ask.reject(
        Reason::NotYet,
        format!(
            "`{}` asks for a result of `{earlier}` that is {}, and there is none.",
            for_people(name),
            how_far(is)
        ),
        format!("{first}; then {}.", ask.again()),
    )
}
