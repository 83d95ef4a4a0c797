//! Labels that mean something to us.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Reasoning;

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

/// Characters a label may have at GitHub.
const LONGEST: usize = 50;
/// Characters a stage's name may have.
const LONGEST_STAGE: usize = 32;

impl Labels {
    /// Every name there is, as files write them.
    pub(super) const NAMES: [&str; 8] =
        ["run", "revise", "preview", "state", "need", "discussion", "model", "reasoning"];

    /// Can every label be told from every other? Else why not, as part of a sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        let prefixes = [
            ("run", &self.run),
            ("state", &self.state),
            ("need", &self.need),
            ("model", &self.model),
            ("reasoning", &self.reasoning),
        ];
        let begins = |text: &str, with: &str| text.to_lowercase().starts_with(&with.to_lowercase());
        for (at, (name, prefix)) in prefixes.iter().enumerate() {
            for (other, longer) in prefixes.iter().enumerate().filter(|(o, _)| *o != at).map(|(_, p)| p) {
                if begins(longer, prefix) {
                    return Err(format!(
                        "`labels.{other}` begins like `labels.{name}`, so that their labels cannot be told apart"
                    ));
                }
            }
            if begins(&self.discussion, prefix) {
                return Err(format!(
                    "`labels.discussion` begins like `labels.{name}`, so that their labels cannot be told apart"
                ));
            }
        }
        for (name, suffix) in [("revise", &self.revise), ("preview", &self.preview)] {
            if suffix.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-') {
                return Err(format!(
                    "`labels.{name}` begins with a sign that stage names may have; begin it with another, such as `:`"
                ));
            }
            if self.run.chars().count() + LONGEST_STAGE + suffix.chars().count() > LONGEST {
                return Err(format!(
                    "`labels.run` and `labels.{name}` leave less than {LONGEST_STAGE} of a label's {LONGEST} characters to the stage"
                ));
            }
        }
        if self.revise.eq_ignore_ascii_case(&self.preview) {
            return Err("`labels.revise` and `labels.preview` are the same".to_owned());
        }
        Ok(())
    }

    /// What a label means; `None` when it is none of our business. Compared without regard to
    /// case, as GitHub does.
    pub fn meaning(&self, label: &str) -> Option<Meaning> {
        let spelt = label.trim();
        let label = spelt.to_lowercase();
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
        if after(&self.model).is_some() {
            // Models are asked for as they are spelt.
            let name = spelt.get(self.model.len()..).unwrap_or_default();
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

    /// The stages that `run:` labels among these name, each once.
    pub fn stages(&self, labels: &[String]) -> Vec<String> {
        let stage = |label: &String| match self.meaning(label)? {
            Meaning::Run(stage) | Meaning::Revise(stage) => Some(stage),
            Meaning::Preview(_)
            | Meaning::Reviewer
            | Meaning::Discussion
            | Meaning::Model(_)
            | Meaning::Reasoning(_)
            | Meaning::State(_)
            | Meaning::Need(_) => None,
        };
        labels.iter().filter_map(stage).collect::<BTreeSet<_>>().into_iter().collect()
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
        assert_eq!(labels.meaning("AI-model:Qwen3-Coder"), Some(Meaning::Model("Qwen3-Coder".to_owned())));
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
