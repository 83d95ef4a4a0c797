//! What a stage asks of the cluster its attempts run in: how large its pods are, what they run,
//! and which nodes they go to. Where pods go is Kubernetes' business; this is passed through.

mod ceilings;
mod syntax;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use ceilings::PodCeilings;
pub(super) use syntax::{IMAGE, IMAGE_CHARS, KEY, KEY_CHARS, VALUE, is_image};
pub(crate) use syntax::{is_label_key, is_label_value};

use super::fields::POD;

/// What is asked of a pod; what is left out is as the project has it, and else as the worker has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pod {
    /// Thousandths of a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
    /// Mebibytes of memory. Holds on this machine, too; everything else is for clusters only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Mebibytes of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_mib: Option<u32>,
    /// What it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Labels its node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that do not keep it away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// How pods of the project are spread over nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topology_spread: Vec<TopologySpread>,
}

/// A taint that does not keep a pod away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Toleration {
    /// The taint's key.
    pub key: String,
    /// Its value; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Its effect; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// What a taint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Nothing new comes to the node.
    NoSchedule,
    /// Nothing new comes to the node where there is another.
    PreferNoSchedule,
    /// What is there has to go.
    NoExecute,
}

impl Effect {
    /// Every effect.
    pub const ALL: [Self; 3] = [Self::NoSchedule, Self::PreferNoSchedule, Self::NoExecute];

    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

/// How pods of the project are spread over a label of nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopologySpread {
    /// Label of nodes.
    pub topology_key: String,
    /// By how many pods the values of that label may differ.
    #[serde(default = "one")]
    pub max_skew: u32,
    /// Otherwise the pod waits.
    #[serde(default)]
    pub schedule_anyway: bool,
}

const fn one() -> u32 {
    1
}

impl Toleration {
    /// True when it tolerates nothing that `other` does not.
    fn is_within(&self, other: &Self) -> bool {
        self.key == other.key
            && (other.value.is_none() || self.value == other.value)
            && (other.effect.is_none() || self.effect == other.effect)
    }
}

impl std::fmt::Display for Toleration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, "={value}")?;
        }
        self.effect.map_or(Ok(()), |effect| write!(f, ":{}", effect.as_str()))
    }
}

impl Pod {
    /// True when nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// This over `defaults`: what it says holds, what it leaves out is theirs, tolerations add up.
    pub(super) fn over(&mut self, defaults: &Self) {
        let own = std::mem::take(self);
        *self = Self {
            cpu_millis: own.cpu_millis.or(defaults.cpu_millis),
            memory_mib: own.memory_mib.or(defaults.memory_mib),
            storage_mib: own.storage_mib.or(defaults.storage_mib),
            image: own.image.or_else(|| defaults.image.clone()),
            ..defaults.clone()
        };
        self.node_selector.extend(own.node_selector);
        for toleration in own.tolerations {
            if !self.tolerations.contains(&toleration) {
                self.tolerations.push(toleration);
            }
        }
        // Kubernetes takes one for each label.
        for spread in own.topology_spread {
            self.topology_spread.retain(|other| other.topology_key != spread.topology_key);
            self.topology_spread.push(spread);
        }
    }

    /// What Kubernetes would not take: the field, and what is wrong and expected, as part of a
    /// sentence.
    pub fn problem(&self) -> Option<(String, String)> {
        let value = serde_yaml::to_value(self).ok()?;
        POD.wrong(&value).map(|(field, problem)| (field.trim_start_matches('.').to_owned(), problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(yaml: &str) -> Pod {
        serde_yaml::from_str(yaml).expect("a pod")
    }

    #[test]
    fn what_a_stage_leaves_out_is_the_projects() {
        let defaults = pod("
            cpu_millis: 500
            image: ghcr.io/acme/agents:1
            node_selector: {pool: agents, disk: hdd}
            tolerations: [{key: agents}]
            topology_spread: [{topology_key: zone, max_skew: 2}, {topology_key: host}]");
        let mut stage = pod("
            cpu_millis: 250
            memory_mib: 1024
            node_selector: {disk: ssd}
            tolerations: [{key: agents}, {key: spot, effect: NoSchedule}]
            topology_spread: [{topology_key: zone, schedule_anyway: true}]");
        stage.over(&defaults);
        let both = pod("
            cpu_millis: 250
            memory_mib: 1024
            image: ghcr.io/acme/agents:1
            node_selector: {pool: agents, disk: ssd}
            tolerations: [{key: agents}, {key: spot, effect: NoSchedule}]
            topology_spread: [{topology_key: host}, {topology_key: zone, schedule_anyway: true}]");
        assert_eq!(stage, both);
        let mut nothing = Pod::default();
        nothing.over(&defaults);
        assert_eq!(nothing, defaults);
    }

    #[test]
    fn an_effect_reads_as_it_is_written() {
        for effect in Effect::ALL {
            assert_eq!(serde_yaml::to_value(effect).unwrap(), effect.as_str());
        }
    }

    /// What an operator writes is held to the same rules, with the same words.
    #[test]
    fn what_kubernetes_would_not_take_has_a_place() {
        assert_eq!(
            pod("{cpu_millis: 500, node_selector: {a/b: c}, tolerations: [{key: x}]}").problem(),
            None
        );
        let wrong = [
            "{cpu_millis: 0}",
            "{image: 'https://ghcr.io/acme/agents'}",
            "{node_selector: {'a b': c}}",
            "{node_selector: {disk: 'very fast'}}",
            "{tolerations: [{key: a}, {key: b, value: ''}]}",
            "{topology_spread: [{topology_key: zone, max_skew: 0}]}",
        ];
        let said = wrong.map(|yaml| {
            let (field, problem) = pod(yaml).problem().expect("a problem");
            format!("`{field}` {problem}.")
        });
        insta::assert_snapshot!(said.join("\n"));
    }
}
