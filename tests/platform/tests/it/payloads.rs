//! Every example payload GitHub publishes is accepted and explained.

use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{PATIENCE, Setup, World, errors_logged, sign};

/// Also the harness's own secret.
const SECRET: &str = "a webhook secret of the tests";

/// The `index.json` of npm `@octokit/webhooks-examples` 7.6.1, which `cargo xtask test` unpacks.
fn examples() -> Option<PathBuf> {
    std::env::var_os("CALLBOARD_TEST_PAYLOADS").map(PathBuf::from)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_payload_is_accepted_and_explained() {
    let Some(path) = examples() else {
        eprintln!("not run: CALLBOARD_TEST_PAYLOADS is not set; `cargo xtask test` sets it");
        return;
    };
    let path = if path.is_dir() { path.join("index.json") } else { path };
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let index: Value = serde_json::from_slice(&text).expect("JSON");
    let payloads: Vec<(String, Vec<u8>)> = index
        .as_array()
        .expect("a list of events")
        .iter()
        .flat_map(|event| {
            let name = event["name"].as_str().expect("a name").to_owned();
            event["examples"]
                .as_array()
                .expect("examples")
                .iter()
                .map(move |e| (name.clone(), e.to_string().into_bytes()))
        })
        .collect();
    assert_eq!(payloads.len(), 329);
    let world = World::with(Setup::default()).await;
    for (number, (event, body)) in payloads.iter().enumerate() {
        let answer = world.post(event, &format!("example-{number}"), body, Some(&sign(SECRET, body))).await;
        assert!(answer.status().is_success(), "{event} {number}: {}", answer.status());
    }
    let left = world.platform().control_plane().settled(PATIENCE).await.expect("Postgres answers");
    assert!(left.is_empty(), "{left:?}");
    for (number, (event, _)) in payloads.iter().enumerate() {
        let explained = world.explain(&format!("example-{number}")).await;
        assert_eq!(explained.len(), 1, "{event}");
        assert!(!explained[0].rule.is_empty() && explained[0].outcome != "start");
    }
    world.end().await;
    assert_eq!(errors_logged(), 0, "no error-level log line");
}
