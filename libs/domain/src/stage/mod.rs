//! Stages: what a label starts, as data.

mod ceilings;
mod fields;
mod file;
mod holds;
mod labels;
mod next;
mod pod;
mod policy;
mod schema;
mod yaml;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

pub use ceilings::Ceilings;
pub use fields::{FIELDS, Field};
pub use holds::Holds;
pub use labels::{Labels, Meaning};
pub use next::Next;
pub use pod::{Effect, Pod, PodCeilings, Toleration, TopologySpread};
pub(crate) use pod::{is_label_key, is_label_value};
pub use policy::{Broken, Off, Policy};
pub use schema::schema;

use crate::rights::Permission;

/// What one stage does and may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// One line for people.
    pub description: String,
    /// What its runs are.
    #[serde(default)]
    pub kind: StageKind,
    /// Who the agent is told to be.
    pub role: String,
    /// Name of the prompt template; the stage's own name when absent.
    #[serde(default)]
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
    /// Model to ask for; the operator's when absent.
    #[serde(default)]
    pub model: Option<String>,
    /// How hard the model is asked to think; the model's own when absent.
    #[serde(default)]
    pub reasoning: Option<Reasoning>,
    /// Least permission on the repository to start it: write, maintain or admin.
    #[serde(default = "default_start")]
    pub start: Permission,
    /// Whether what passes the checks is published at once.
    #[serde(default)]
    pub publication: PublicationRule,
    /// What our records must say about the issue before it may start.
    #[serde(default)]
    pub requires: Vec<Requirement>,
    /// Stages the final comment offers.
    #[serde(default)]
    pub next: Vec<String>,
    /// Whether `run:<stage>:revise` exists.
    #[serde(default = "default_true")]
    pub revise: bool,
    /// True: who asked for a run cannot approve its result.
    #[serde(default)]
    pub four_eyes: bool,
    /// What its runs ask of a cluster. Written only where something is asked: the release before
    /// reads the runs of this one.
    #[serde(default, skip_serializing_if = "Pod::is_empty")]
    pub pod: Pod,
    /// Labels a worker must have to be given its runs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub worker_labels: BTreeMap<String, String>,
}

/// What the runs of a stage are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageKind {
    /// Work on the repository that ends in a pull request; started by `run:<stage>`.
    #[default]
    Work,
    /// Findings about a pull request; started by `need:reviewer`.
    Review,
    /// An answer on an issue; started by `mode:discussion`.
    Discussion,
}

/// What a second trigger does while a run is active on the same issue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondTrigger {
    /// It is refused with a word on the issue.
    #[default]
    Refuse,
    /// It waits for the end of the first.
    Queue,
    /// The first is cancelled.
    Supersede,
}

/// Where a stage may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The repository and the model, nothing else.
    #[default]
    CodeOnly,
}

/// How hard a model is asked to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reasoning {
    /// `ai-reasoning:low`
    Low,
    /// `ai-reasoning:medium`
    Medium,
    /// `ai-reasoning:high`
    High,
    /// `ai-reasoning:extra-high`
    ExtraHigh,
}

impl Reasoning {
    /// Every level, lowest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::ExtraHigh];

    /// As labels and files write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::ExtraHigh => "extra-high",
        }
    }

    /// Reads [`Reasoning::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }
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

/// What our records must say about an earlier stage of the same issue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// The stage.
    pub stage: String,
    /// How far it must be.
    pub is: Progress,
}

/// How far a result is. A merged result counts as published; it counts as approved only where
/// somebody with the right approved it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// There is a pull request, open or merged.
    Published,
    /// Somebody with the right approved its present head.
    Approved,
    /// It is merged.
    Merged,
}

const fn default_changeset_bytes() -> u64 {
    10 * 1024 * 1024
}
const fn default_changeset_files() -> usize {
    300
}
const fn default_changeset_lines() -> usize {
    50_000
}
const fn default_start() -> Permission {
    Permission::Write
}
const fn default_true() -> bool {
    true
}

/// What a file says, in a sentence: at most 300 plain characters of one line.
fn plain(text: &str) -> String {
    let plain = |c: char| match c {
        '`' => '\'',
        c if c.is_control() => ' ',
        c => c,
    };
    text.chars().map(plain).take(300).collect()
}

impl Stage {
    /// How long an attempt may take.
    pub fn time_limit(&self) -> Duration {
        Duration::from_secs(u64::from(self.time_limit_minutes) * 60)
    }
}
