//! Labels that mean something to us.

use serde::{Deserialize, Serialize};

use super::{Policy, Reasoning, StageKind};

/// The names of labels, where a project calls them otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Labels {
    /// Before a stage: `run:`.
    pub run: String,
    /// After a stage: `:revise`.
    pub revise: String,
    /// After a stage: `:preview`.
    pub preview: String,
    /// Before a state: `state:`.
    pub state: String,
    /// Before what is needed: `need:`.
    pub need: String,
    /// Starts a discussion: `mode:discussion`.
    pub discussion: String,
    /// Before a model's name: `ai-model:`.
    pub model: String,
    /// Before a level: `ai-reasoning:`.
    pub reasoning: String,
}

impl Default for Labels {
    fn default() -> Self {
        let text = str::to_owned;
        Self {
            run: text("run:"),
            revise: text(":revise"),
            preview: text(":preview"),
            state: text("state:"),
            need: text("need:"),
            discussion: text("mode:discussion"),
            model: text("ai-model:"),
            reasoning: text("ai-reasoning:"),
        }
    }
}

/// What a label asks for or says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// `run:<stage>`; the stage may not exist.
    Run(String),
    /// `run:<stage>:revise`
    Revise(String),
    /// `run:<stage>:preview`
    Preview(String),
    /// `need:reviewer`
    Reviewer,
    /// `mode:discussion`
    Discussion,
    /// `ai-model:<name>`
    Model(String),
    /// `ai-reasoning:<level>`; `None` for a level that does not exist.
    Reasoning(Option<Reasoning>),
    /// `state:<name>`
    State(String),
    /// `need:<name>`, but not `need:reviewer`.
    Need(String),
}

impl Labels {
    /// What a label means; `None` when it is none of our business. Compared without regard to
    /// case, as GitHub does.
    pub fn meaning(&self, label: &str) -> Option<Meaning> {
        let label = label.trim().to_lowercase();
        let after = |prefix: &str| label.strip_prefix(&prefix.to_lowercase()).filter(|rest| !rest.is_empty());
        if label == self.discussion.to_lowercase() {
            return Some(Meaning::Discussion);
        }
        if let Some(stage) = after(&self.run) {
            let without = |suffix: &str| stage.strip_suffix(&suffix.to_lowercase()).filter(|s| !s.is_empty());
            return Some(match (without(&self.revise), without(&self.preview)) {
                (Some(stage), _) => Meaning::Revise(stage.to_owned()),
                (None, Some(stage)) => Meaning::Preview(stage.to_owned()),
                (None, None) => Meaning::Run(stage.to_owned()),
            });
        }
        if let Some(name) = after(&self.model) {
            return Some(Meaning::Model(name.to_owned()));
        }
        if let Some(level) = after(&self.reasoning) {
            return Some(Meaning::Reasoning(Reasoning::parse(level)));
        }
        if let Some(name) = after(&self.state) {
            return Some(Meaning::State(name.to_owned()));
        }
        after(&self.need)
            .map(|name| if name == "reviewer" { Meaning::Reviewer } else { Meaning::Need(name.to_owned()) })
    }

    /// The label that starts a stage.
    pub fn run_label(&self, stage: &str) -> String {
        format!("{}{stage}", self.run)
    }

    /// The label that shows what starting a stage would do.
    pub fn preview_label(&self, stage: &str) -> String {
        format!("{}{stage}{}", self.run, self.preview)
    }

    /// The label that has a stage's result revised.
    pub fn revise_label(&self, stage: &str) -> String {
        format!("{}{stage}{}", self.run, self.revise)
    }

    /// The labels the platform keeps by its records: where they disagree, they are put back.
    /// All others of `state:` and `need:` belong to people.
    pub fn kept(&self) -> [String; 3] {
        [self.state_label("in-review"), self.state_label("approved"), self.need_label("input")]
    }

    /// `state:<name>`
    pub fn state_label(&self, name: &str) -> String {
        format!("{}{name}", self.state)
    }

    /// `need:<name>`
    pub fn need_label(&self, name: &str) -> String {
        format!("{}{name}", self.need)
    }
}

impl Policy {
    /// The stages that `run:` labels start.
    pub fn starting(&self) -> impl Iterator<Item = (&str, &super::Stage)> {
        self.stages
            .iter()
            .filter(|(_, stage)| stage.kind == StageKind::Work)
            .map(|(name, stage)| (name.as_str(), stage))
    }

    /// The stage of a kind that no `run:` label starts.
    pub fn of_kind(&self, kind: StageKind) -> Option<(&str, &super::Stage)> {
        self.stages.iter().find(|(_, stage)| stage.kind == kind).map(|(name, stage)| (name.as_str(), stage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_mean_what_they_say() {
        let labels = Labels::default();
        let run = |stage: &str| Some(Meaning::Run(stage.to_owned()));
        assert_eq!(labels.meaning("run:dev"), run("dev"));
        assert_eq!(labels.meaning("Run:Dev "), run("dev"));
        assert_eq!(labels.meaning("run:dev:revise"), Some(Meaning::Revise("dev".to_owned())));
        assert_eq!(labels.meaning("run:dev:preview"), Some(Meaning::Preview("dev".to_owned())));
        assert_eq!(labels.meaning("need:reviewer"), Some(Meaning::Reviewer));
        assert_eq!(labels.meaning("need:pm"), Some(Meaning::Need("pm".to_owned())));
        assert_eq!(
            labels.meaning("ai-reasoning:extra-high"),
            Some(Meaning::Reasoning(Some(Reasoning::ExtraHigh)))
        );
        assert_eq!(labels.meaning("ai-reasoning:much"), Some(Meaning::Reasoning(None)));
        for nothing in ["bug", "run:", "state:", "", "running:dev"] {
            assert_eq!(labels.meaning(nothing), None, "{nothing}");
        }
    }
}
