//! What an operator allows a project's files to ask for.

use std::{collections::BTreeSet, fmt::Display};

use serde::{Deserialize, Serialize};

use super::{Off, Pod, PodCeilings, Policy, PublicationRule, Reasoning, Stage};
use crate::rights::Permission;

/// What an operator allows a project's own files to ask for. Absent: as the product has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ceilings {
    /// The only stages that may start.
    pub stages: Option<BTreeSet<String>>,
    /// Least permission to start anything.
    pub start: Option<Permission>,
    /// `approver`: a person releases every changeset.
    pub publication: Option<PublicationRule>,
    /// The only models that may be asked for.
    pub models: Option<BTreeSet<String>>,
    /// The hardest a model may be asked to think.
    pub reasoning: Option<Reasoning>,
    /// Minutes an attempt may take; 240 when absent.
    pub time_limit_minutes: Option<u32>,
    /// Bytes a changeset may have; 20971520 when absent.
    pub max_changeset_bytes: Option<u64>,
    /// Files a changeset may have; 1000 when absent.
    pub max_changeset_files: Option<usize>,
    /// Lines a changeset may write; 100000 when absent.
    pub max_changeset_lines: Option<usize>,
    /// Priority in the queue; 100 when absent.
    pub priority: Option<i32>,
    /// What may be asked of pods and workers. Stored beside the others: the release before knows
    /// only those.
    #[serde(skip_serializing)]
    pub pods: PodCeilings,
}

impl Ceilings {
    /// True when the model may be asked for; compared without regard to case, as labels are.
    pub fn allows_model(&self, name: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.iter().any(|model| model.eq_ignore_ascii_case(name)))
    }

    /// Narrows every stage to what is allowed. What the project's file asked for beyond it is
    /// said; where the product's own stages ask for more, they are narrowed without a word. What
    /// they leave out of their pods is as in `pods`.
    pub(super) fn narrow(&self, policy: &mut Policy, product: &Policy, pods: &Pod) {
        for (name, stage) in &mut policy.stages {
            let own = product.get(name);
            let mut clips = Clips { name, said: Vec::new() };
            self.narrow_limits(stage, own, &mut clips);
            self.narrow_model(stage, own, &mut clips);
            self.narrow_rights(stage, own, &mut clips);
            self.narrow_placement(stage, own, pods, &mut clips);
            policy.clipped.extend(clips.said);
        }
        if let Some(allowed) = &self.stages {
            let (kept, left_out) =
                std::mem::take(&mut policy.stages).into_iter().partition(|(name, _)| allowed.contains(name));
            policy.stages = kept;
            let left_out: std::collections::BTreeMap<String, Stage> = left_out;
            policy.off.extend(left_out.into_keys().map(|name| (name, Off::Operator)));
        }
    }

    fn narrow_limits(&self, stage: &mut Stage, own: Option<&Stage>, clips: &mut Clips<'_>) {
        clips.most(
            "time_limit_minutes",
            &mut stage.time_limit_minutes,
            self.time_limit_minutes,
            240,
            own.map(|s| s.time_limit_minutes),
        );
        clips.most(
            "max_changeset_bytes",
            &mut stage.max_changeset_bytes,
            self.max_changeset_bytes,
            20 * 1024 * 1024,
            Some(own.map_or(super::default_changeset_bytes(), |s| s.max_changeset_bytes)),
        );
        clips.most(
            "max_changeset_files",
            &mut stage.max_changeset_files,
            self.max_changeset_files,
            1000,
            Some(own.map_or(super::default_changeset_files(), |s| s.max_changeset_files)),
        );
        clips.most(
            "max_changeset_lines",
            &mut stage.max_changeset_lines,
            self.max_changeset_lines,
            100_000,
            Some(own.map_or(super::default_changeset_lines(), |s| s.max_changeset_lines)),
        );
        clips.most("priority", &mut stage.priority, self.priority, 100, own.map(|s| s.priority));
    }

    fn narrow_model(&self, stage: &mut Stage, own: Option<&Stage>, clips: &mut Clips<'_>) {
        if let Some(asked) = stage.model.take_if(|model| !self.allows_model(model)) {
            let allowed =
                self.models.iter().flatten().map(|m| format!("`{m}`")).collect::<Vec<_>>().join(", ");
            let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed };
            if own.is_none_or(|own| own.model.as_ref() != Some(&asked)) {
                clips.say("model", &asked, "operator", &allowed, "the operator's own model");
            }
        }
        if let (Some(asked), Some(most)) = (stage.reasoning, self.reasoning)
            && asked > most
        {
            stage.reasoning = Some(most);
            if own.is_none_or(|own| own.reasoning != Some(asked)) {
                clips.say("reasoning", asked.as_str(), "operator", most.as_str(), most.as_str());
            }
        }
    }

    fn narrow_placement(&self, stage: &mut Stage, own: Option<&Stage>, pods: &Pod, clips: &mut Clips<'_>) {
        let is_own =
            own.is_some_and(|own| (&own.pod, &own.worker_labels) == (&stage.pod, &stage.worker_labels));
        let said = clips.said.len();
        self.pods.narrow(stage, pods, clips);
        if is_own {
            clips.said.truncate(said);
        }
    }

    fn narrow_rights(&self, stage: &mut Stage, own: Option<&Stage>, clips: &mut Clips<'_>) {
        let floors = [("operator", self.start), ("product", own.map(|own| own.start))];
        for (who, floor) in floors {
            if let Some(floor) = floor.filter(|floor| stage.start < *floor) {
                if own.is_none_or(|own| own.start != stage.start) {
                    clips.say(
                        "start",
                        &stage.start.to_string(),
                        who,
                        &format!("{floor} and more"),
                        &floor.to_string(),
                    );
                }
                stage.start = floor;
            }
        }
        let floors = [("operator", self.publication), ("product", own.map(|own| own.publication))];
        for (who, floor) in floors {
            if floor == Some(PublicationRule::Approver) && stage.publication == PublicationRule::Checked {
                if own.is_none_or(|own| own.publication != PublicationRule::Checked) {
                    clips.say("publication", "checked", who, "approver", "approver");
                }
                stage.publication = PublicationRule::Approver;
            }
        }
    }
}

/// What one stage asked for beyond what is allowed.
pub(super) struct Clips<'a> {
    name: &'a str,
    said: Vec<String>,
}

impl Clips<'_> {
    pub(super) fn say(&mut self, field: &str, asked: &str, who: &str, allowed: &str, holds: &str) {
        let asked = super::plain(asked);
        self.said.push(format!(
            "`stages.{}.{field}` asks for {asked}; the {who} allows {allowed}, so {holds} holds.",
            self.name
        ));
    }

    /// Nothing takes the place of what was asked for.
    pub(super) fn leave_out(&mut self, field: &str, asked: &str, allowed: &str) {
        let asked = super::plain(asked);
        self.said.push(format!(
            "`stages.{}.{field}` asks for {asked}; the operator allows {allowed}, so it is left out.",
            self.name
        ));
    }

    /// Limits a number; nobody is told where the product's own stage asked for it.
    pub(super) fn most<T: Copy + Ord + Display>(
        &mut self,
        field: &str,
        value: &mut T,
        operator: Option<T>,
        product: T,
        own: Option<T>,
    ) {
        let (who, most) = operator.map_or(("product", product), |most| ("operator", most));
        if *value > most {
            if own != Some(*value) {
                self.say(field, &value.to_string(), who, &most.to_string(), &most.to_string());
            }
            *value = most;
        }
    }
}
