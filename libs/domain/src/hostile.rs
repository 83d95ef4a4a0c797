//! Texts of people and agents who want what they may not have: for the tests of every crate
//! that stores, renders or posts text.

use serde::Deserialize;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostileText {
    /// What it is, for the words of a failing test.
    pub name: String,
    /// The text. `{delimiter}` stands for the delimiter of a prompt, `{half}` and
    /// `{other half}` for its halves: whoever tries it puts in the one that counts.
    pub text: String,
    /// What must not happen, in words.
    pub must_not: String,
}

impl HostileText {
    /// The text of somebody who has guessed the delimiter.
    pub fn knowing(&self, delimiter: &str) -> String {
        let (half, other) = delimiter.split_at(delimiter.floor_char_boundary(delimiter.len() / 2));
        self.text.replace("{delimiter}", delimiter).replace("{half}", half).replace("{other half}", other)
    }
}

/// All of them.
///
/// # Panics
/// Never in a released build: the file is read by a test.
pub fn texts() -> Vec<HostileText> {
    serde_yaml::from_str(include_str!("hostile_texts.yaml")).expect("hostile_texts.yaml is valid")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::stage::{Meaning, Policy};

    #[test]
    fn there_are_many_and_each_is_another() {
        let texts = texts();
        assert!(texts.len() >= 60, "{}", texts.len());
        for part in [|t: &HostileText| t.name.clone(), |t: &HostileText| t.text.clone()] {
            assert_eq!(texts.iter().map(part).collect::<BTreeSet<_>>().len(), texts.len());
        }
    }

    /// What only looks like a trigger is none: no text here starts a stage there is.
    #[test]
    fn none_is_a_label_that_starts_something() {
        let policy = Policy::built_in();
        for hostile in texts() {
            match policy.labels.meaning(&hostile.text) {
                Some(Meaning::Run(stage) | Meaning::Revise(stage) | Meaning::Preview(stage)) => {
                    assert!(policy.get(&stage).is_none(), "{}", hostile.name);
                }
                Some(Meaning::Reviewer | Meaning::Discussion) => panic!("{}", hostile.name),
                Some(Meaning::Model(_) | Meaning::Reasoning(_) | Meaning::State(_) | Meaning::Need(_))
                | None => {}
            }
        }
    }
}
