//! Every example payload GitHub publishes reads, and says what it should.

use std::{collections::BTreeMap, path::PathBuf};

use domain::decision::{Happening, RepositoryChange};
use serde_json::Value;

fn kind(happening: &Happening) -> &'static str {
    match happening {
        Happening::Labeled { .. } => "labeled",
        Happening::Unlabeled { .. } => "unlabeled",
        Happening::Closed { .. } => "closed",
        Happening::Deleted { .. } => "deleted",
        Happening::TransferredAway { .. } => "transferred away",
        Happening::Commented { .. } => "commented",
        Happening::Synchronized { .. } => "synchronized",
        Happening::Reopened { .. } => "reopened",
        Happening::Reviewed { .. } => "reviewed",
        Happening::ReviewDismissed { .. } => "review dismissed",
        Happening::Pushed { branch: Some(_), .. } => "pushed",
        Happening::Pushed { branch: None, .. } => "tagged",
        Happening::Installation { .. } => "installation",
        Happening::Repository { change: RepositoryChange::Renamed { .. } } => "renamed",
        Happening::Repository { change: RepositoryChange::Transferred { from: Some(_) } } => "transferred",
        Happening::Repository { .. } => "another change of the repository",
        Happening::Other => "other",
    }
}

#[test]
fn every_example_reads() {
    // The `index.json` of npm `@octokit/webhooks-examples` 7.6.1, which `cargo xtask test` unpacks.
    let Some(path) = std::env::var_os("CALLBOARD_TEST_PAYLOADS").map(PathBuf::from) else {
        eprintln!("not run: CALLBOARD_TEST_PAYLOADS is not set; `cargo xtask test` sets it");
        return;
    };
    let path = if path.is_dir() { path.join("index.json") } else { path };
    let index: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut kinds = BTreeMap::<&str, usize>::new();
    for event in &index {
        let name = event["name"].as_str().unwrap();
        for example in event["examples"].as_array().unwrap() {
            let event = github::payload::parse(name, example.to_string().as_bytes());
            let event = event.unwrap_or_else(|error| panic!("{name} {}: {error}", example["action"]));
            assert_eq!(event.repository_id, example["repository"]["id"].as_u64(), "{name}");
            // None of the heads is in a fork.
            let told = event.happening.on().and_then(|on| on.pull.as_ref());
            assert!(told.is_none_or(|pull| !pull.from_fork && pull.head.is_some()), "{name} {told:?}");
            *kinds.entry(kind(&event.happening)).or_default() += 1;
        }
    }
    let expected = [
        ("another change of the repository", 5),
        ("closed", 2),
        ("commented", 5),
        ("deleted", 1),
        ("installation", 10),
        ("labeled", 4),
        ("other", 0),
        ("pushed", 2),
        ("renamed", 1),
        ("reopened", 2),
        ("review dismissed", 1),
        ("reviewed", 3),
        ("synchronized", 1),
        ("tagged", 5),
        ("transferred", 3),
        ("transferred away", 1),
        ("unlabeled", 4),
    ];
    let used: usize = expected.iter().map(|(_, count)| count).sum();
    let total: usize = kinds.values().sum();
    assert_eq!(total, 329);
    let expected = expected.map(|(kind, count)| (kind, if kind == "other" { total - used } else { count }));
    assert_eq!(kinds, BTreeMap::from(expected));
}
