//! The rules, in the order they are looked at.

use super::{Decided, Decision, Event, Facts, Happening, Reason, RepositoryStanding, Start};
use crate::{
    rights::{Action, Denied, Principal, authorise},
    run::RunKind,
    stage::{Meaning, Policy},
};

/// Whether deciding on this event takes the actor's permission, so that the code host is
/// asked for events that could start something and for no others.
pub fn needs_permission(event: &Event, policy: &Policy) -> bool {
    let Happening::Labeled { on, label } = &event.happening else { return false };
    let known = match policy.labels.meaning(label) {
        Some(Meaning::Run(stage)) => policy.get(&stage).is_some(),
        Some(_) | None => false,
    };
    on.open && on.pull.is_none() && known && event.actor.as_ref().is_some_and(|a| !a.is_bot)
}

/// What an event leads to.
pub fn decide(event: &Event, facts: &Facts<'_>) -> Decided {
    let Happening::Labeled { on, label } = &event.happening else {
        return Decided::ignore(Reason::EventNotUsed, "Only labels on issues start something.");
    };
    let Some(Meaning::Run(stage)) = facts.policy.labels.meaning(label) else {
        let rule = format!("The label `{}` does not start anything.", for_people(label));
        return Decided::ignore(Reason::LabelNotATrigger, rule);
    };
    decide_start(event, facts, on, label, &stage)
}

/// Labels come from outside; at most 60 characters of one line of them go into a sentence.
fn for_people(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && *c != '`').take(60).collect()
}

fn decide_start(
    event: &Event,
    facts: &Facts<'_>,
    on: &super::Thread,
    label: &str,
    stage_name: &str,
) -> Decided {
    let reject = |reason, rule: String, remedy: String| {
        // Bots are not told, lest two of them talk to each other for ever.
        let told = event.actor.as_ref().is_some_and(|a| !a.is_bot).then_some(on.number);
        let decision = Decision::Reject { on: told, label: Some(label.to_owned()), need: Vec::new() };
        Decided::new(decision, reason, rule, remedy)
    };
    if facts.own_effect {
        return Decided::ignore(Reason::OwnEffect, "A change made by the platform never starts a run.");
    }
    let Some(actor) = &event.actor else {
        return Decided::ignore(Reason::NoActor, "The event does not say who set the label.");
    };
    if facts.repository != RepositoryStanding::Enabled {
        return Decided::ignore(Reason::RepositoryDisabled, "The repository takes no runs.");
    }
    if actor.is_bot {
        return reject(
            Reason::BotActor,
            format!("`{}` is a bot, and bots do not start runs.", for_people(&actor.login)),
            "A person with write permission can set the label.".to_owned(),
        );
    }
    if let Some(pull) = &on.pull {
        return if pull.from_fork {
            reject(Reason::ForkHead, "The head of this pull request lives in a fork, and code from forks is never run with this repository's rights.".to_owned(), "Open an issue in this repository and label that.".to_owned())
        } else {
            reject(
                Reason::NotOnPullRequests,
                format!("`{}` starts from an issue, not from a pull request.", for_people(label)),
                "Put the label on the issue that describes the work.".to_owned(),
            )
        };
    }
    if facts.policy.get(stage_name).is_none() {
        return reject(
            Reason::UnknownStage,
            format!("There is no stage `{}`.", for_people(stage_name)),
            format!(
                "Stages here: {}.",
                facts.policy.names().iter().map(|n| format!("`run:{n}`")).collect::<Vec<_>>().join(", ")
            ),
        );
    }
    if !on.open {
        return reject(
            Reason::IssueClosed,
            "The issue is closed.".to_owned(),
            format!("Reopen it and set `{label}` again."),
        );
    }
    let principal = Principal::ForgeAccount {
        login: actor.login.clone(),
        permission: facts.permission,
        role: facts.role,
    };
    match authorise(&principal, Action::Start) {
        Ok(()) => {}
        Err(Denied::PermissionUnknown) => {
            return reject(
                Reason::PermissionUnknown,
                format!(
                    "It could not be learnt what `{}` may do here, and nothing starts on a guess.",
                    for_people(&actor.login)
                ),
                format!(
                    "Try again in a minute: take `{label}` off and set it again. If it stays so, the platform's token lacks the right to read collaborators."
                ),
            );
        }
        Err(Denied::TooLittle { has, needs }) => {
            return reject(
                Reason::NoWritePermission,
                format!(
                    "Starting a run takes {needs} permission on the repository; `{}` has {has}.",
                    for_people(&actor.login)
                ),
                "Ask somebody with write permission to set the label.".to_owned(),
            );
        }
        Err(Denied::OperatorOnly) => {
            return reject(
                Reason::NoWritePermission,
                "Only the platform's operator may do this.".to_owned(),
                String::new(),
            );
        }
    }
    if let Some(run) = &facts.record.under_way {
        return reject(
            Reason::RunUnderWay,
            format!(
                "A `{}` run of this issue is under way since {} (run `{}`).",
                run.stage,
                run.since.format("%Y-%m-%d %H:%M UTC"),
                run.id
            ),
            format!("Wait for it, or end it with `callboard run cancel {}` and set `{label}` again.", run.id),
        );
    }
    let start = Start {
        kind: RunKind::Work,
        stage: stage_name.to_owned(),
        issue: on.number,
        pull: None,
        label: Some((on.number, label.to_owned())),
        behind: None,
        supersedes: None,
        retry_of: None,
        model: None,
        reasoning: None,
    };
    Decided::new(
        Decision::Start(Box::new(start)),
        Reason::TriggerLabel,
        format!(
            "`{label}` set by `{}`, who has {} permission.",
            for_people(&actor.login),
            facts.permission.map_or_else(String::new, |p| p.to_string())
        ),
        "",
    )
}
