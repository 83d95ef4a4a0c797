//! A hostile agent inside the sandbox: everything is refused, and all it ever finds is its
//! run token.

use serde_json::{Value, json};

use crate::harness::{REPOSITORY, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_agent_finds_nothing_but_its_run_token() {
    let world = World::start().await;
    let data = world.folder().join("data");
    // Another service of this machine, which a sandbox must not reach.
    let neighbour = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let ports = json!([
        world.platform().api().port(),
        world.platform().admin().port(),
        neighbour.local_addr().expect("an address").port(),
        world.github.web_url().rsplit(':').next().and_then(|p| p.parse::<u16>().ok()).expect("a port"),
    ]);
    let postgres = world
        .database
        .url
        .split("host=")
        .nth(1)
        .map(|p| p.replace("%2F", "/").replace("%2f", "/"))
        .expect("a socket folder");
    let paths: Vec<String> = [
        data.join("admin.sock"),
        data.join("internal/control-plane.sock"),
        data.join("agents/gateway.sock"),
        data.join("identities/worker-local.json"),
        data.join("key"),
        data.join("objects"),
        data.clone(),
        world.folder().join("token"),
        world.folder().join("secret"),
        world.folder().to_path_buf(),
        format!("{postgres}/.s.PGSQL.5432").into(),
        "/etc/shadow".into(),
        "/etc/passwd".into(),
        "/root".into(),
        "/home".into(),
        "/var/lib".into(),
        "/proc/1/environ".into(),
    ]
    .iter()
    .map(|p: &std::path::PathBuf| p.display().to_string())
    .collect();
    let steps = json!([{ "probe": { "ports": ports, "paths": paths } }, { "fork_bomb": 2000 }]);
    let issue = world.scripted_issue("Break out", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let detail = world.finished(&run.id).await;
    assert_eq!(detail.run.as_ref().expect("a run").state, "succeeded", "{:?}", detail.run);
    assert!(detail.attempts[0].isolation.contains("bubblewrap"), "{:?}", detail.attempts);

    let pull = world.github.pull_requests(REPOSITORY).pop().expect("its findings");
    assert!(pull.body.contains("processes, then was refused"), "the bomb ended by itself: {}", pull.body);
    let diff = world.github.pull_request_diff(REPOSITORY, pull.number).await.expect("a diff");
    let report: String = diff
        .lines()
        .filter(|l| l.starts_with('+') && !l.starts_with("+++"))
        .map(|l| format!("{}\n", &l[1..]))
        .collect();
    let findings: Vec<Value> = findings(&report);
    assert!(findings.len() > 30, "it tried a lot: {}", findings.len());
    let bad: Vec<&Value> = findings.iter().filter(|f| !is_harmless(f)).collect();
    assert!(bad.is_empty(), "the sandbox let these through: {bad:#?}");

    // No secret of ours in anything it wrote: token, webhook secret, keys.
    for secret in [world.token.as_str(), "a webhook secret of the tests"] {
        assert!(!report.contains(secret));
    }
    world.end().await;
}

/// The list, whether the agent wrote it bare or under a name.
fn findings(report: &str) -> Vec<Value> {
    let report: Value = serde_json::from_str(report).unwrap_or_else(|e| panic!("{e}: {report}"));
    let list = report.as_array().or_else(|| report["findings"].as_array());
    list.unwrap_or_else(|| panic!("no findings: {report}")).clone()
}

/// Of a file of this machine, as the agent would report it.
fn sha256(path: &str) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(std::fs::read(path).unwrap_or_default()))
}

/// Refused; or the run token; or what the sandbox gives every agent.
fn is_harmless(finding: &Value) -> bool {
    let outcome = finding["outcome"].as_str().unwrap_or_default();
    let detail = finding["detail"].as_str().unwrap_or_default();
    match outcome {
        // What the sandbox gives every agent is noted, not reached: its own uid, say.
        "refused" | "noted" => true,
        // The run token is a JWT; its place is its file or the agent's environment.
        "found" => detail.contains("eyJ"),
        "reached" => match finding["attempt"].as_str().unwrap_or_default() {
            // The sandbox's own, written by the worker: three users, none of this machine's.
            "read /etc/passwd" => !detail.contains(&sha256("/etc/passwd")),
            // The first process of its own namespace; a token in it would have been `found`.
            "read /proc/1/environ" => !detail.contains(&sha256("/proc/1/environ")),
            _ => false,
        },
        _ => false,
    }
}
