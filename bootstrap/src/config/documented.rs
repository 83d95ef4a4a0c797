//! Every key of the file stands in its page.

use super::Config;

const PAGE: &str = include_str!("../../../docs/ops/configuration.md");
const GOOD: &str =
    "github: { token_file: token }\nagents: { default: command, command: { argv: [./agent.sh] } }\n";

/// The keys there may be, which the parser names where there is another.
fn keys(text: &str) -> Vec<String> {
    let said = serde_yaml::from_str::<Config>(text).expect_err("an unknown key").to_string();
    let keys: Vec<_> = said.split('`').skip(3).step_by(2).map(str::to_owned).collect();
    assert!(said.contains("unknown field `no_such_key`") && !keys.is_empty(), "{said}");
    keys
}

#[test]
fn every_key_stands_in_its_page() {
    let places = [
        ("", "no_such_key: 1"),
        ("listen.", "listen: { no_such_key: 1 }"),
        ("objects.", "objects: { no_such_key: 1 }"),
        ("worker.", "worker: { no_such_key: 1 }"),
        ("retention.", "retention: { no_such_key: 1 }"),
        ("limits.", "limits: { no_such_key: 1 }"),
        ("models[].", "models: [{ no_such_key: 1 }]"),
        ("projects[].", "projects: [{ no_such_key: 1 }]"),
        ("projects[].repositories[].", "projects: [{ repositories: [{ no_such_key: 1 }] }]"),
        ("executor.local.", "executor: { local: { no_such_key: 1 } }"),
        ("executor.kubernetes.", "executor: { kubernetes: { no_such_key: 1 } }"),
        (
            "executor.kubernetes.gateway_pods.",
            "executor: { kubernetes: { gateway_pods: { no_such_key: 1 } } }",
        ),
    ];
    let missing: Vec<String> = places
        .iter()
        .flat_map(|(place, text)| {
            keys(&format!("{GOOD}{text}\n")).into_iter().map(move |key| format!("{place}{key}"))
        })
        .filter(|key| !["`", ".", "["].iter().any(|end| PAGE.contains(&format!("`{key}{end}"))))
        .collect();
    assert!(missing.is_empty(), "docs/ops/configuration.md does not tell of {missing:?}");
}
