//! Hostile texts where a decision reads text: as the name of a label and as a login.

use std::collections::BTreeSet;

use super::*;
use crate::{hostile, neutralise::is_hidden, rights::Permission, stage::Policy};

fn labeled(label: &str, login: &str) -> Event {
    Event {
        name: "issues".to_owned(),
        action: Some("labeled".to_owned()),
        repository: None,
        repository_id: None,
        default_branch: None,
        installation: None,
        actor: Some(Account { login: login.to_owned(), is_bot: false }),
        happening: Happening::Labeled {
            on: Thread {
                number: 7,
                open: true,
                author: "mona".to_owned(),
                labels: vec![label.to_owned()],
                pull: None,
            },
            label: label.to_owned(),
        },
    }
}

/// None of them starts anything, and what people are told about them is harmless.
#[test]
fn a_hostile_label_starts_nothing() {
    let policy = Policy::built_in();
    let bots = BTreeSet::new();
    let facts = Facts {
        policy: &policy,
        permission: Some(Permission::Admin),
        role: None,
        bots: &bots,
        own_effect: false,
        told: Told::Delivered,
        repository: RepositoryStanding::Enabled,
        default_branch: None,
        record: Record::default(),
        admission: Admission::default(),
    };
    for hostile in hostile::texts() {
        for label in
            [hostile.text.clone(), format!("run:{}", hostile.text), format!("run:dev{}", hostile.text)]
        {
            let decided = decide(&labeled(&label, "mona"), &facts);
            assert!(
                matches!(decided.reason, Reason::LabelNotATrigger | Reason::UnknownStage),
                "{}: {decided:?}",
                hostile.name
            );
            let said = format!("{}\n{}", decided.rule, decided.remedy);
            // In a code span nothing of it means anything.
            let outside: String = said.split('`').step_by(2).collect();
            assert!(said.matches('`').count().is_multiple_of(2) && !outside.contains("<!--"), "{said}");
            assert!(
                !said.contains(|c| is_hidden(c) && !matches!(c, '\u{200b}' | '\u{200d}' | '\u{fe0f}')),
                "{said:?}"
            );
        }
        // A right is not read out of a name.
        let nobody = Facts { permission: Some(Permission::Read), ..facts.clone() };
        let decided = decide(&labeled("run:dev", &hostile.text), &nobody);
        assert_eq!(decided.reason, Reason::NoWritePermission, "{}", hostile.name);
    }
}
