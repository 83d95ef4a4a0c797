//! How far a project's files may go with its pods. Without a word of the operator: as large as
//! the operator's own pods are, the operator's image, and no nodes that are not for everybody.

use std::collections::{BTreeMap, BTreeSet};

use globset::GlobBuilder;
use serde::{Deserialize, Serialize};

use super::{Pod, Toleration};
use crate::stage::{Stage, ceilings::Clips};

/// Any value of a label.
const ANY: &str = "*";

/// What an operator allows a project's files to ask of its pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PodCeilings {
    /// Thousandths of a processor; the operator's pods' when absent.
    pub max_cpu_millis: Option<u32>,
    /// Mebibytes of memory; the operator's pods' when absent.
    pub max_memory_mib: Option<u32>,
    /// Mebibytes of files; the operator's pods' when absent.
    pub max_storage_mib: Option<u32>,
    /// Patterns of images. `*` stays between two slashes, `**` does not.
    pub images: BTreeSet<String>,
    /// Labels of nodes that may be asked for, each with its values; `*`: any.
    pub node_selector: BTreeMap<String, BTreeSet<String>>,
    /// Taints that may be tolerated, and what is within them.
    pub tolerations: Vec<Toleration>,
    /// Labels of workers that may be asked for, each with its values, `*`: any. All when absent:
    /// a project's runs go to its own workers only.
    pub worker_labels: Option<BTreeMap<String, BTreeSet<String>>>,
}

/// Largest pods where nobody says anything: cpu, memory, storage, as workers have them.
const PRODUCT: [u32; 3] = [1000, 4096, 8192];

impl PodCeilings {
    /// What Kubernetes would not take, or no pattern: the field, and what is wrong, as part of a
    /// sentence.
    pub fn problem(&self) -> Option<(String, String)> {
        if let Some(bad) = self.images.iter().find(|image| glob(image).is_none()) {
            return Some(("images".to_owned(), format!("has `{bad}`, which is not a pattern of images")));
        }
        // Sizes are of the same kind, and so are keys.
        let as_pod = Pod {
            cpu_millis: self.max_cpu_millis,
            memory_mib: self.max_memory_mib,
            storage_mib: self.max_storage_mib,
            tolerations: self.tolerations.clone(),
            ..Pod::default()
        };
        if let Some((field, problem)) = as_pod.problem() {
            let field = if field.starts_with("tolerations") { field } else { format!("max_{field}") };
            return Some((field, problem));
        }
        let labels =
            [("node_selector", Some(&self.node_selector)), ("worker_labels", self.worker_labels.as_ref())];
        for (field, labels) in labels {
            for (key, values) in labels.into_iter().flatten() {
                let value = values.iter().find(|value| *value != ANY && !super::is_label_value(value));
                if !super::is_label_key(key) || value.is_some() {
                    let shown = value.map_or_else(|| key.clone(), |value| format!("{key}: {value}"));
                    return Some((
                        field.to_owned(),
                        format!("has `{shown}`; expected a label's key and a list of its values, or of `*`"),
                    ));
                }
            }
        }
        None
    }

    fn allows_image(&self, image: &str) -> bool {
        self.images.iter().filter_map(|pattern| glob(pattern)).any(|pattern| pattern.is_match(image))
    }

    /// With the sizes that are open filled in: as large as the operator's pods are, and where those
    /// leave it open, as the worker makes them (cpu, memory, storage).
    #[must_use]
    pub fn as_large_as(self, pods: &Pod, worker: [u32; 3]) -> Self {
        let [cpu, memory, storage] = worker;
        Self {
            max_cpu_millis: self.max_cpu_millis.or(pods.cpu_millis).or(Some(cpu)),
            max_memory_mib: self.max_memory_mib.or(pods.memory_mib).or(Some(memory)),
            max_storage_mib: self.max_storage_mib.or(pods.storage_mib).or(Some(storage)),
            ..self
        }
    }

    /// Narrows what a stage asks of its pods and workers, and lays it over what the operator has
    /// for them.
    pub(in crate::stage) fn narrow(&self, stage: &mut Stage, pods: &Pod, clips: &mut Clips<'_>) {
        let pod = &mut stage.pod;
        let [cpu, memory, storage] = PRODUCT;
        for (field, asked, most, product) in [
            ("pod.cpu_millis", &mut pod.cpu_millis, self.max_cpu_millis, cpu),
            ("pod.memory_mib", &mut pod.memory_mib, self.max_memory_mib, memory),
            ("pod.storage_mib", &mut pod.storage_mib, self.max_storage_mib, storage),
        ] {
            if let Some(asked) = asked {
                clips.most(field, asked, most, product, None);
            }
        }
        if let Some(asked) =
            pod.image.take_if(|asked| pods.image.as_ref() != Some(asked) && !self.allows_image(asked))
        {
            clips.say("pod.image", &asked, "operator", &listed(&self.images), "the operator's own image");
        }
        pod.node_selector.retain(|key, asked| {
            let field = format!("pod.node_selector.{key}");
            clips.keeps(&field, asked, self.node_selector.get(key), pods.node_selector.get(key))
        });
        pod.tolerations.retain(|asked| {
            let all = || pods.tolerations.iter().chain(&self.tolerations);
            let allowed = all().any(|allowed| asked.is_within(allowed));
            if !allowed {
                let shown: BTreeSet<String> = all().map(Toleration::to_string).collect();
                clips.leave_out("pod.tolerations", &asked.to_string(), &listed(&shown));
            }
            allowed
        });
        pod.over(pods);
        if let Some(labels) = &self.worker_labels {
            stage.worker_labels.retain(|key, asked| {
                clips.keeps(&format!("worker_labels.{key}"), asked, labels.get(key), None)
            });
        }
    }
}

impl Clips<'_> {
    /// True when a label may be asked for; else it is said what becomes of it. `own`: what the
    /// operator has there.
    fn keeps(
        &mut self,
        field: &str,
        asked: &str,
        allowed: Option<&BTreeSet<String>>,
        own: Option<&String>,
    ) -> bool {
        let mut all: BTreeSet<String> = allowed.into_iter().flatten().cloned().collect();
        all.extend(own.cloned());
        let keeps = all.contains(asked) || all.contains(ANY);
        match own {
            Some(own) if !keeps => self.say(field, asked, "operator", &listed(&all), own),
            None if !keeps => self.leave_out(field, asked, &listed(&all)),
            Some(_) | None => {}
        }
        keeps
    }
}

fn glob(pattern: &str) -> Option<globset::GlobMatcher> {
    let pattern = Some(pattern).filter(|pattern| !pattern.is_empty() && pattern.len() <= 300)?;
    GlobBuilder::new(pattern).literal_separator(true).build().ok().map(|glob| glob.compile_matcher())
}

/// "`a`, `b`", or "none".
fn listed(all: &BTreeSet<String>) -> String {
    let all: Vec<String> = all.iter().map(|one| format!("`{one}`")).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

#[cfg(test)]
mod tests {
    use proptest::{
        collection::{btree_map, btree_set, vec},
        option,
        prelude::*,
        sample::select,
    };

    use super::*;
    use crate::stage::{Ceilings, Effect, Policy};

    fn words(all: &'static [&'static str]) -> impl Strategy<Value = String> {
        select(all).prop_map(str::to_owned)
    }

    fn toleration() -> impl Strategy<Value = Toleration> {
        let effect = option::of(select(&Effect::ALL[..]));
        (words(&["spot", "gpu"]), option::of(words(&["a", "b"])), effect)
            .prop_map(|(key, value, effect)| Toleration { key, value, effect })
    }

    prop_compose! {
        fn pod()(
            cpu_millis in option::of(10..5000_u32), memory_mib in option::of(64..9000_u32), storage_mib in option::of(64..9000_u32),
            image in option::of(words(&["a", "a:1", "r.io/x/a", "r.io/x/y/a"])),
            node_selector in btree_map(words(&["disk", "pool"]), words(&["a", "b"]), 0..3),
            tolerations in vec(toleration(), 0..4),
        ) -> Pod {
            Pod { cpu_millis, memory_mib, storage_mib, image, node_selector, tolerations, topology_spread: Vec::new() }
        }
    }

    prop_compose! {
        fn ceilings()(
            max_cpu_millis in option::of(10..5000_u32), max_memory_mib in option::of(64..9000_u32), max_storage_mib in option::of(64..9000_u32),
            images in btree_set(words(&["a", "a:*", "r.io/*/*", "**"]), 0..3),
            node_selector in btree_map(words(&["disk", "pool"]), btree_set(words(&["a", "b", "*"]), 0..3), 0..3),
            tolerations in vec(toleration(), 0..4),
            worker_labels in option::of(btree_map(words(&["disk", "pool"]), btree_set(words(&["a", "b", "*"]), 0..3), 0..3)),
        ) -> PodCeilings {
            PodCeilings { max_cpu_millis, max_memory_mib, max_storage_mib, images, node_selector, tolerations, worker_labels }
        }
    }

    /// What holds for a stage that asks for this.
    fn narrowed(
        ceilings: &PodCeilings,
        asked: &Pod,
        labels: &BTreeMap<String, String>,
        pods: &Pod,
    ) -> (Stage, Vec<String>) {
        let file = serde_json::json!({ "version": 1, "stages": { "dev": { "pod": asked, "worker_labels": labels } } });
        let ceilings = Ceilings { pods: ceilings.clone(), ..Ceilings::default() };
        let mut policy = Policy::of_project(Some(&file.to_string()), &ceilings, pods);
        assert!(policy.broken.is_empty(), "{:?}", policy.broken);
        (policy.stages.remove("dev").expect("dev"), policy.clipped)
    }

    proptest! {
        /// Whatever is asked, allowed, and there already: each thing that holds is the operator's
        /// own or was both asked for and allowed, and whatever was asked for and does not hold is said.
        #[test]
        fn narrowing_never_widens(
            ceilings in ceilings(), asked in pod(), pods in pod(),
            labels in btree_map(words(&["disk", "pool"]), words(&["a", "b"]), 0..3),
        ) {
            let (stage, said) = narrowed(&ceilings, &asked, &labels, &pods);
            let holds = stage.pod;
            for (holds, asked, own, most) in [
                (holds.cpu_millis, asked.cpu_millis, pods.cpu_millis, ceilings.max_cpu_millis.unwrap_or(1000)),
                (holds.memory_mib, asked.memory_mib, pods.memory_mib, ceilings.max_memory_mib.unwrap_or(4096)),
                (holds.storage_mib, asked.storage_mib, pods.storage_mib, ceilings.max_storage_mib.unwrap_or(8192)),
            ] {
                prop_assert_eq!(holds, asked.map(|asked| asked.min(most)).or(own));
            }
            let image = asked.image.clone().filter(|image| ceilings.allows_image(image)).or(pods.image.clone());
            prop_assert_eq!(&holds.image, &image);
            let allows = |labels: &BTreeMap<String, BTreeSet<String>>, key: &String, value: &String| {
                labels.get(key).is_some_and(|values| values.contains(value) || values.contains("*"))
            };
            for (key, value) in &holds.node_selector {
                let was_asked = asked.node_selector.get(key) == Some(value) && allows(&ceilings.node_selector, key, value);
                prop_assert!(was_asked || pods.node_selector.get(key) == Some(value), "{key}={value}");
            }
            prop_assert!(pods.node_selector.keys().all(|key| holds.node_selector.contains_key(key)), "the operator's stay");
            for one in &holds.tolerations {
                let mut all = pods.tolerations.iter().chain(&ceilings.tolerations);
                prop_assert!(pods.tolerations.contains(one) || asked.tolerations.contains(one), "{one}");
                prop_assert!(all.any(|allowed| one.is_within(allowed)), "{one}");
            }
            for (key, value) in &stage.worker_labels {
                prop_assert_eq!(labels.get(key), Some(value));
                prop_assert!(ceilings.worker_labels.as_ref().is_none_or(|allowed| allows(allowed, key, value)));
            }
            let sizes = [
                (holds.cpu_millis, asked.cpu_millis),
                (holds.memory_mib, asked.memory_mib),
                (holds.storage_mib, asked.storage_mib),
            ];
            let all_hold = sizes.iter().all(|(holds, asked)| asked.is_none() || holds == asked)
                && (asked.image.is_none() || holds.image == asked.image)
                && asked.node_selector.iter().all(|(key, value)| holds.node_selector.get(key) == Some(value))
                && asked.tolerations.iter().all(|one| holds.tolerations.contains(one))
                && stage.worker_labels == labels;
            prop_assert_eq!(said.is_empty(), all_hold, "{:?}", said);
            // What was narrowed once stays as it is.
            let (again, _) = narrowed(&ceilings, &holds, &stage.worker_labels, &pods);
            prop_assert_eq!(again.worker_labels, stage.worker_labels);
            prop_assert_eq!(again.pod.image, holds.image);
            prop_assert_eq!(again.pod.tolerations, holds.tolerations);
            prop_assert_eq!(again.pod.node_selector, holds.node_selector);
        }
    }
}
