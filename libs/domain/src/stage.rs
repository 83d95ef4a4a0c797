//! Stages: what a label starts, as data.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// The stages of a project, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stages {
    /// Format of this file; 1.
    pub version: u32,
    /// By the name that follows `run:`.
    pub stages: BTreeMap<String, Stage>,
}

/// What one stage does and may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// One line for people.
    pub description: String,
    /// Who the agent is told to be.
    pub role: String,
    /// Name of the prompt template.
    pub template: String,
    /// Globs of paths the agent may change; anything else is held for a person. Empty: it changes
    /// nothing.
    pub write_scope: Vec<String>,
    /// Higher goes first in the queue.
    #[serde(default)]
    pub priority: i32,
    /// Minutes an attempt may take.
    pub time_limit_minutes: u32,
    /// Bytes a changeset may have.
    #[serde(default = "default_changeset_bytes")]
    pub max_changeset_bytes: u64,
    /// Files a changeset may have.
    #[serde(default = "default_changeset_files")]
    pub max_changeset_files: usize,
    /// Lines a changeset may write.
    #[serde(default = "default_changeset_lines")]
    pub max_changeset_lines: usize,
    /// What happens to a second trigger while a run of the issue is under way.
    #[serde(default)]
    pub second_trigger: SecondTrigger,
    /// Where the stage may reach. Only `code-only` exists.
    #[serde(default)]
    pub mode: Mode,
    /// Whether what passes the checks is published at once.
    #[serde(default)]
    pub publication: PublicationRule,
}

/// What a second trigger does while a run is active on the same issue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondTrigger {
    /// It is refused with a word on the issue.
    #[default]
    Refuse,
}

/// Where a stage may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The repository and the model, nothing else.
    #[default]
    CodeOnly,
}

/// Whether what passes the checks is published at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PublicationRule {
    /// What passes the checks is published.
    #[default]
    Checked,
    /// A person with the right releases every changeset.
    Approver,
}

const fn default_changeset_bytes() -> u64 {
    10 * 1024 * 1024
}
const fn default_changeset_files() -> usize {
    300
}
const fn default_changeset_lines() -> usize {
    20_000
}

/// Why a stages file is not one.
#[derive(Debug, thiserror::Error)]
pub enum StagesError {
    /// Not YAML, an unknown field, a wrong type: the parser's own words with line and column.
    #[error("{0}")]
    Syntax(#[from] serde_yaml::Error),
    /// Well-formed, but it says something that cannot be.
    #[error("stages.{stage}.{field}: {problem}")]
    Value {
        /// The stage.
        stage: String,
        /// The field.
        field: &'static str,
        /// What is wrong and what is expected.
        problem: String,
    },
}

impl Stage {
    /// How long an attempt may take.
    pub fn time_limit(&self) -> Duration {
        Duration::from_secs(u64::from(self.time_limit_minutes) * 60)
    }
}

impl Stages {
    /// The stages that come with the product.
    ///
    /// # Panics
    /// Never in a released build: the built-in file is parsed by a test.
    pub fn built_in() -> Self {
        Self::parse(include_str!("stages.yaml")).expect("the built-in stages.yaml is valid")
    }

    /// Reads and checks a stages file.
    ///
    /// # Errors
    /// [`StagesError`] names the line or the field.
    pub fn parse(yaml: &str) -> Result<Self, StagesError> {
        let stages: Self = serde_yaml::from_str(yaml)?;
        let value = |stage: &str, field, problem: String| StagesError::Value {
            stage: stage.to_owned(),
            field,
            problem,
        };
        if stages.version != 1 {
            return Err(value("*", "version", format!("{} is not known; write 1", stages.version)));
        }
        for (name, stage) in &stages.stages {
            let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
            if name.is_empty() || name.len() > 40 || !name.bytes().all(plain) {
                return Err(value(
                    name,
                    "name",
                    "use lower case letters, digits and dashes, at most 40".to_owned(),
                ));
            }
            if !(1..=24 * 60).contains(&stage.time_limit_minutes) {
                return Err(value(name, "time_limit_minutes", "expected 1 to 1440".to_owned()));
            }
            for glob in &stage.write_scope {
                globset::Glob::new(glob)
                    .map_err(|e| value(name, "write_scope", format!("`{glob}`: {}", e.kind())))?;
            }
        }
        Ok(stages)
    }

    /// The stage of that name.
    pub fn get(&self, name: &str) -> Option<&Stage> {
        self.stages.get(name)
    }

    /// Names, for sentences.
    pub fn names(&self) -> Vec<&str> {
        self.stages.keys().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_file_has_dev() {
        let stages = Stages::built_in();
        let dev = stages.get("dev").expect("dev");
        assert_eq!(dev.time_limit(), Duration::from_secs(3600));
        assert_eq!(dev.write_scope, ["**"]);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let built_in = include_str!("stages.yaml");
        let error = |yaml: String| Stages::parse(&yaml).expect_err("a mistake").to_string();
        insta::assert_snapshot!(error(built_in.replace("priority", "prioriti")), @"stages.dev: unknown field `prioriti`, expected one of `description`, `role`, `template`, `write_scope`, `priority`, `time_limit_minutes`, `max_changeset_bytes`, `max_changeset_files`, `max_changeset_lines`, `second_trigger`, `mode`, `publication` at line 9 column 5");
        insta::assert_snapshot!(error(built_in.replace("time_limit_minutes: 60", "time_limit_minutes: 0")), @"stages.dev.time_limit_minutes: expected 1 to 1440");
        insta::assert_snapshot!(error(built_in.replace("version: 1", "version: 7")), @"stages.*.version: 7 is not known; write 1");
        insta::assert_snapshot!(error(built_in.replace("\"**\"", "\"a[\"")), @"stages.dev.write_scope: `a[`: unclosed character class; missing ']'");
    }
}
