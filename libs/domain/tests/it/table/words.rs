//! A decision in the words of the table.

use domain::{
    decision::{Decision, Question, Start},
    run::RunKind,
};

/// What the platform does.
pub(crate) fn words(decision: &Decision) -> String {
    match decision {
        Decision::Start(start) => starts(start),
        Decision::Preview { start } => {
            let label = start.label.as_ref().map_or("", |(_, label)| label);
            format!("shows what starting `{}` would do; takes `{label}` off", start.stage)
        }
        Decision::Approve { pull, head, right, .. } => {
            format!("records #{pull} as approved at {}, by {right}", head.short())
        }
        Decision::WithdrawApproval { pull, .. } => format!("takes the approval of #{pull} back"),
        Decision::RecordEnd { pull, merged: true } => format!("records #{pull} as merged"),
        Decision::RecordReopened { pull } => format!("records #{pull} as open again"),
        Decision::RecordEnd { pull, merged: false } => format!("records #{pull} as closed"),
        Decision::Cancel { run } => format!("cancels `{}`", run.as_deref().unwrap_or("the run")),
        Decision::EndDiscussion { .. } => "ends the discussion".to_owned(),
        Decision::KeepLabels { add, remove, .. } => match (add.as_slice(), remove.as_slice()) {
            ([label], []) => format!("puts `{label}` back"),
            ([], [label]) => format!("takes `{label}` off"),
            other => format!("{other:?}"),
        },
        Decision::NoteParameter { label, set: true, .. } => format!("remembers who set `{label}`"),
        Decision::NoteParameter { label, set: false, .. } => format!("forgets `{label}`"),
        Decision::Answer { question: Question::Status, .. } => "answers with the status".to_owned(),
        Decision::Answer { question: Question::Explain, .. } => "answers with what was decided".to_owned(),
        Decision::NoteRepository { .. } => "takes note".to_owned(),
        Decision::NoteInstallation { .. } => "takes note, and asks what the App reaches now".to_owned(),
        Decision::RefreshPolicy => "reads the project's files anew".to_owned(),
        Decision::Release => "publishes what is held".to_owned(),
        Decision::Ignore => "nothing".to_owned(),
        Decision::Reject { on, label, need } => {
            let mut words = vec![if on.is_some() { "says no" } else { "nothing" }.to_owned()];
            words.extend(label.iter().map(|label| format!("takes `{label}` off")));
            words.extend(need.iter().map(|label| format!("sets `{label}`")));
            words.join("; ")
        }
    }
}

fn starts(start: &Start) -> String {
    let pull = start.pull.map_or_else(String::new, |pull| format!("#{pull}"));
    let mut words = match start.kind {
        RunKind::Work => format!("starts `{}`", start.stage),
        RunKind::Revise => format!("revises {pull} as `{}`", start.stage),
        RunKind::Review => format!("reviews {pull}"),
        RunKind::Discussion => "answers in the discussion".to_owned(),
    };
    words.push_str(&format!(" for #{}", start.issue));
    let mut add = |more: String| words.push_str(&more);
    if let Some(run) = &start.retry_of {
        add(format!(", as `{run}` again"));
    }
    if let Some(run) = &start.behind {
        add(format!(", behind `{run}`"));
    }
    if let Some(run) = &start.supersedes {
        add(format!(", in place of `{run}`"));
    }
    if let Some(model) = &start.model {
        add(format!(", with `{model}`"));
    }
    if let Some(level) = start.reasoning {
        add(format!(", thinking `{}`", level.as_str()));
    }
    if let Some((_, label)) = &start.label {
        add(format!("; takes `{label}` off"));
    }
    words
}
