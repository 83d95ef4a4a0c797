//! The rules a repository's labels go by.

use std::{collections::BTreeMap, sync::LazyLock};

use super::{Ceilings, Labels, Pod, Stage, file};

/// The rules a repository's labels go by.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// By the name that follows `run:`; only what reads and may start here.
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
    /// Why the file as a whole does not read, with line and column or the field's path, as part of
    /// a sentence: "`version` is `2`; expected 1".
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
    /// What is wrong and what is expected, as part of a sentence: "is `long`; expected a whole
    /// number from 1 to 1440".
    pub problem: String,
}

impl Policy {
    /// The stages that come with the product.
    pub fn built_in() -> Self {
        PRODUCT.clone()
    }

    /// The stages of a project: its own `.callboard/stages.yaml`, where it has one, over those of
    /// the product, and the operator's ceilings over both; `pods` is what the operator has for
    /// stages that do not say it themselves. Never fails: what does not read is in `broken` and
    /// `problem`, and everything else holds.
    pub fn of_project(file: Option<&str>, ceilings: &Ceilings, pods: &Pod) -> Self {
        let product = &*PRODUCT;
        let read = file.map_or_else(|| Ok(product.clone()), |text| file::over(product, text));
        let mut policy = read.unwrap_or_else(|problem| Self { problem: Some(problem), ..product.clone() });
        policy.ceilings = ceilings.clone();
        ceilings.narrow(&mut policy, product, pods);
        policy
    }

    /// The stage of that name.
    pub fn get(&self, name: &str) -> Option<&Stage> {
        self.stages.get(name)
    }

    /// Names, for sentences.
    pub fn names(&self) -> Vec<&str> {
        self.stages.keys().map(String::as_str).collect()
    }

    /// The stages that `run:` labels start.
    pub fn starting(&self) -> impl Iterator<Item = (&str, &Stage)> {
        self.stages
            .iter()
            .filter(|(_, stage)| stage.kind == super::StageKind::Work)
            .map(|(name, stage)| (name.as_str(), stage))
    }

    /// The stage of a kind that no `run:` label starts.
    pub fn of_kind(&self, kind: super::StageKind) -> Option<(&str, &Stage)> {
        self.stages.iter().find(|(_, stage)| stage.kind == kind).map(|(name, stage)| (name.as_str(), stage))
    }
}

/// The product's own stages; that they read without a word is a test.
static PRODUCT: LazyLock<Policy> = LazyLock::new(|| {
    let nothing = Policy {
        stages: BTreeMap::new(),
        profiles: BTreeMap::new(),
        labels: Labels::default(),
        language: "en".to_owned(),
        broken: BTreeMap::new(),
        off: BTreeMap::new(),
        ceilings: Ceilings::default(),
        clipped: Vec::new(),
        problem: None,
    };
    file::over(&nothing, include_str!("stages.yaml")).unwrap_or(nothing)
});
