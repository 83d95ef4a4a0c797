//! What comes after a stage.

use super::{Policy, Stage, StageKind};

/// A stage that may come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// Its name.
    pub stage: String,
    /// The launch profiles whose next step it is, in the order of their names; none when it is
    /// allowed, but on no path.
    pub profiles: Vec<String>,
}

impl Policy {
    /// What may come after a stage: the next step of every profile first, then what the stage
    /// itself allows. Each stage once; only stages that a label can start.
    pub fn next_of(&self, name: &str, definition: &Stage) -> Vec<Next> {
        let mut all: Vec<Next> = Vec::new();
        let mut add = |stage: &str, profile: Option<&str>| {
            if stage == name || self.get(stage).is_none_or(|s| s.kind != StageKind::Work) {
                return;
            }
            let at = all.iter().position(|next| next.stage == stage).unwrap_or_else(|| {
                all.push(Next { stage: stage.to_owned(), profiles: Vec::new() });
                all.len() - 1
            });
            all[at].profiles.extend(profile.map(str::to_owned));
        };
        for (profile, path) in &self.profiles {
            // Of the stages on the path, the first one after this that exists here.
            let later = path.iter().skip_while(|step| *step != name).skip(1);
            let known = |step: &&String| self.get(step).is_some();
            if let Some(step) = later.into_iter().find(known) {
                add(step, Some(profile));
            }
        }
        for step in &definition.next {
            add(step, None);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "qa (feature, quick-fix)"
    fn next(policy: &Policy, stage: &str) -> Vec<String> {
        let definition = policy.get(stage).expect("a stage");
        let words = |next: Next| match next.profiles.as_slice() {
            [] => next.stage,
            profiles => format!("{} ({})", next.stage, profiles.join(", ")),
        };
        policy.next_of(stage, definition).into_iter().map(words).collect()
    }

    #[test]
    fn every_path_has_its_next_step_and_the_same_ones_are_merged() {
        let policy = Policy::built_in();
        assert_eq!(next(&policy, "intake"), ["prd (feature)", "vision (new-service)", "plan (quick-fix)"]);
        assert_eq!(next(&policy, "prd"), ["design (feature)", "arch (new-service)", "rethink"]);
        assert_eq!(next(&policy, "dev"), ["qa (feature, new-service, quick-fix)", "doc-audit", "rethink"]);
        assert_eq!(next(&policy, "ops"), ["self-improve", "doc-audit", "rethink"]);
        assert_eq!(next(&policy, "rethink"), ["intake", "prd", "plan"]);
    }

    #[test]
    fn stages_that_are_not_there_or_no_label_starts_are_not_offered() {
        let mut policy = Policy::built_in();
        policy.stages.remove("qa");
        policy.stages.get_mut("dev").expect("dev").next.push("review".to_owned());
        assert_eq!(
            next(&policy, "dev"),
            ["release (feature, new-service, quick-fix)", "doc-audit", "rethink"]
        );
        let gone = policy.stages.remove("dev").expect("dev");
        assert_eq!(policy.next_of("dev", &gone).len(), 3, "a run goes by the stage it was started with");
    }

    /// Whatever the stage: nothing is offered twice, nor itself.
    #[test]
    fn each_once() {
        let policy = Policy::built_in();
        for (name, stage) in &policy.stages {
            let mut offered: Vec<_> = policy.next_of(name, stage).into_iter().map(|n| n.stage).collect();
            let all = offered.len();
            offered.sort();
            offered.dedup();
            assert_eq!(offered.len(), all, "{name}");
            assert!(!offered.contains(name), "{name}");
        }
    }
}
