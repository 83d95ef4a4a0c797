//! The labels a repository's rules name, made at the code host for people to pick from.

use domain::stage::{Policy, Reasoning, StageKind};
use forge::{ForgeError, LabelDefinition};
use serde_json::json;

use super::{Unread, current, read_only};
use crate::{
    App, audit,
    projects::store::Repository,
    steps::{self, Step, around},
};

/// Characters a description may have at GitHub.
const DESCRIPTION_CHARS: usize = 100;

const RUN: &str = "1d76db";
const REVISE: &str = "5319e7";
const STATE: &str = "0e8a16";
const NEED: &str = "d93f0b";
const DISCUSSION: &str = "006b75";
const REASONING: &str = "c5def5";
const MODEL: &str = "bfdadc";

/// What was done about a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Created,
    Updated,
    Unchanged,
}

impl Outcome {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Why labels were not brought up to date.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSynced {
    #[error(transparent)]
    Rules(#[from] Unread),
    #[error("{label}: {error}; what was done until then stays, and the same command goes on")]
    Forge { label: String, error: ForgeError },
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Every label of the rules, with its colour and description.
fn definitions(policy: &Policy) -> Vec<LabelDefinition> {
    let label = |name: String, color: &str, description: &str| LabelDefinition {
        name,
        color: color.to_owned(),
        description: description.chars().take(DESCRIPTION_CHARS).collect(),
    };
    let names = &policy.labels;
    let mut all = Vec::new();
    for (name, stage) in &policy.stages {
        match stage.kind {
            StageKind::Work => {
                all.push(label(names.run_label(name), RUN, &stage.description));
                if stage.revise {
                    let text = format!("Has the open pull request of {name} revised.");
                    all.push(label(names.revise_label(name), REVISE, &text));
                }
            }
            StageKind::Review => {
                all.push(label(names.need_label("reviewer"), NEED, &stage.description));
            }
            StageKind::Discussion => {
                all.push(label(names.discussion.clone(), DISCUSSION, &stage.description));
            }
        }
    }
    for (name, text) in [
        ("blocked", "Waits for something outside."),
        ("in-review", "A result waits for approval. Kept by the platform."),
        ("approved", "The result is approved. Kept by the platform; approve with a review."),
        ("superseded", "Another result took its place."),
        ("abandoned", "Nobody goes on with it."),
    ] {
        all.push(label(names.state_label(name), STATE, text));
    }
    for (name, text) in [
        ("input", "The platform waits for an answer. Kept by the platform."),
        ("pm", "Needs a product manager."),
        ("sa", "Needs an architect."),
        ("qa", "Needs a tester."),
        ("sre", "Needs an operator."),
        ("em", "Needs an engineering manager."),
        ("km", "Needs somebody who keeps the documents."),
    ] {
        all.push(label(names.need_label(name), NEED, text));
    }
    for level in Reasoning::ALL {
        let text = format!("The model is asked to think with {} effort.", level.as_str());
        all.push(label(format!("{}{}", names.reasoning, level.as_str()), REASONING, &text));
    }
    for model in policy.ceilings.models.iter().flatten() {
        all.push(label(format!("{}{model}", names.model), MODEL, &format!("Asks for the model {model}.")));
    }
    all
}

/// Brings a repository's labels up to date with its rules; those that are not ours stay as they
/// are, and none is deleted.
pub(crate) async fn sync_labels(
    app: &App,
    repository: &Repository,
    actor: &str,
    dry_run: bool,
) -> Result<Vec<(LabelDefinition, Outcome)>, NotSynced> {
    let policy = if dry_run { read_only(app, repository).await? } else { current(app, repository).await? };
    let failed = |label: &str| {
        let label = format!("{} of {}", label, repository.name);
        move |error| NotSynced::Forge { label, error }
    };
    let there = app.forge.labels(&repository.name).await.map_err(failed("The labels"))?;
    let mut synced = Vec::new();
    for wanted in definitions(&policy) {
        let found = there.iter().find(|label| label.name.eq_ignore_ascii_case(&wanted.name));
        let same = found.map(|label| {
            label.color.eq_ignore_ascii_case(&wanted.color) && label.description == wanted.description
        });
        let outcome = match same {
            Some(true) => Outcome::Unchanged,
            Some(false) => Outcome::Updated,
            None => Outcome::Created,
        };
        if !dry_run {
            let call = async {
                match outcome {
                    Outcome::Created => app.forge.create_label(&repository.name, &wanted).await,
                    Outcome::Updated => app.forge.update_label(&repository.name, &wanted).await,
                    Outcome::Unchanged => Ok(()),
                }
            };
            match around(Step::CallLabel, call).await {
                // Somebody else made it a moment ago.
                Ok(()) | Err(ForgeError::Conflict { .. }) => {}
                Err(error) => return Err(failed(&format!("The label {}", wanted.name))(error)),
            }
        }
        synced.push((wanted, outcome));
    }
    if !dry_run {
        let count = |which| synced.iter().filter(|(_, outcome)| *outcome == which).count();
        let entry = audit::Entry {
            project: Some(repository.project),
            actor,
            action: "labels.synced",
            subject: format!("repository:{}", repository.id),
            detail: json!({ "created": count(Outcome::Created), "updated": count(Outcome::Updated) }),
            trace_id: None,
        };
        let mut tx = app.db.begin().await?;
        audit::record(&mut tx, &*app.clock, &app.ids, entry).await?;
        steps::commit(tx, Step::LabelsSynced).await?;
    }
    Ok(synced)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use domain::stage::{Ceilings, Pod};

    use super::*;

    #[test]
    fn every_label_has_one_definition_that_github_takes() {
        let models = Some(BTreeSet::from(["gpt-5".to_owned()]));
        let all = definitions(&Policy::of_project(
            None,
            &Ceilings { models, ..Ceilings::default() },
            &Pod::default(),
        ));
        let names: BTreeSet<String> = all.iter().map(|label| label.name.to_lowercase()).collect();
        assert_eq!(names.len(), all.len());
        for name in [
            "run:dev",
            "run:dev:revise",
            "need:reviewer",
            "need:input",
            "mode:discussion",
            "state:approved",
            "ai-reasoning:extra-high",
            "ai-model:gpt-5",
        ] {
            assert!(names.contains(name), "{name} is missing");
        }
        for name in ["run:review", "run:discussion", "run:ai-repair:revise"] {
            assert!(!names.contains(name), "{name} means nothing");
        }
        for label in all {
            assert!(label.name.chars().count() <= 50 && !label.description.is_empty(), "{}", label.name);
        }
    }
}
