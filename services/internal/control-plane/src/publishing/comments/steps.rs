//! What to do next.

use domain::{
    neutralise::neutralise_line,
    run::{FailureClass, PublicationState, RunKind, RunState, Waiting},
    stage::StageKind,
};

use super::phrases::{label_again, name};
use crate::{
    publishing::{Publication, about::About},
    runs::Run,
};

/// The end of a status comment: what people may do now.
pub(super) fn next_steps(run: &Run, about: &About) -> String {
    let publication = about.publication.as_ref();
    let again = |before: &str| {
        let label = label_again(run, &about.policy.labels);
        format!("{before}put {label}, or write `/callboard retry`.")
    };
    let one = |step: String| format!("\n**Next:** {step}\n");
    match run.state {
        RunState::Queued | RunState::Active => {
            format!("\nFollow it with `callboard run logs -f {}`, end it with `/callboard cancel`.\n", run.id)
        }
        // Its message says what to do about the effect that failed.
        RunState::Waiting(Waiting::Held)
            if publication.is_some_and(|p| p.state == PublicationState::Publishing) =>
        {
            one(format!(
                "mend what the message names. `callboard run changeset {}` shows the result.",
                run.id
            ))
        }
        RunState::Waiting(Waiting::Held) => one(format!(
            "look at it with `callboard run changeset {0}`; then `callboard run release {0}` publishes it, `/callboard cancel` drops it. Releasing takes maintain permission or the approver role.",
            run.id
        )),
        RunState::Waiting(Waiting::RateLimit) => {
            one("nothing: it goes on by itself. `/callboard cancel` drops the result.".to_owned())
        }
        RunState::Waiting(Waiting::Approval | Waiting::Input | Waiting::Budget) => {
            one(format!("`callboard run get {}` shows what it waits for.", run.id))
        }
        RunState::Succeeded => after_success(run, about),
        RunState::Cancelled => one(again("nothing, unless it is still wanted: then ")),
        RunState::Failed(class) => one(match class {
            FailureClass::Infrastructure => again("when the platform is well again, "),
            FailureClass::Provider => again("when the model answers again, "),
            FailureClass::RetriesSpent => again("when the cause is mended, "),
            FailureClass::Agent => again("make the task plainer where the agent stumbled, then "),
            FailureClass::Policy => again("ask for something that stays inside what the stage may do, then "),
            FailureClass::User => again("mend what the message names, then "),
            FailureClass::TimedOut => again("cut the task into smaller ones, then "),
        }),
    }
}

fn after_success(run: &Run, about: &About) -> String {
    match run.kind {
        // The review and the answer stand where they were asked for.
        RunKind::Review | RunKind::Discussion => String::new(),
        RunKind::Work | RunKind::Revise => {
            let pull = about.publication.as_ref().and_then(pull_request);
            let mut text = "\n**Next**\n\n".to_owned();
            if let Some(pull) = &pull {
                text.push_str(&about_the_pull_request(run, about, pull));
            }
            text.push_str(&stages(run, about));
            if text.ends_with("**Next**\n\n") { String::new() } else { text }
        }
    }
}

fn pull_request(publication: &Publication) -> Option<String> {
    let number = publication.pull_request_number?;
    let url = publication.pull_request_url.as_ref()?;
    Some(format!("[#{number}]({url})"))
}

/// What may be done with a result, wherever it is said.
pub(super) fn about_the_pull_request(run: &Run, about: &About, pull: &str) -> String {
    let labels = &about.policy.labels;
    let mut text = String::new();
    if run.definition.revise {
        text.push_str(&format!(
            "- review {pull}: approve and merge it, or request changes, and they are made on the same branch; {} has the same done\n",
            name(&labels.revise_label(&run.stage))
        ));
    } else {
        text.push_str(&format!("- review {pull}, and merge it\n"));
    }
    if about.policy.of_kind(StageKind::Review).is_some() {
        text.push_str(&format!(
            "- {} on {pull}: an agent reviews it too\n",
            name(&labels.need_label("reviewer"))
        ));
    }
    text
}

/// The stages that may come next, and on which path.
fn stages(run: &Run, about: &About) -> String {
    let next = about.policy.next_of(&run.stage, &run.definition);
    if next.is_empty() {
        return String::new();
    }
    let mut text = "- go on, by a label on this issue or by the command:\n".to_owned();
    for next in next {
        let what = about.policy.get(&next.stage).map(|s| neutralise_line(&s.description, 120));
        let paths = match next.profiles.as_slice() {
            [] => String::new(),
            profiles => format!(" ({})", neutralise_line(&profiles.join(", "), 120)),
        };
        text.push_str(&format!(
            "  - {} or `/callboard run {}`{paths}: {}\n",
            name(&about.policy.labels.run_label(&next.stage)),
            next.stage,
            what.unwrap_or_default(),
        ));
    }
    text
}
