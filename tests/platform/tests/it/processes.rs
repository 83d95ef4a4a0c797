//! Real processes: `callboard up --config` against a GitHub-compatible server it did not
//! start and knows only by address, the daily commands, and `kill -9`.

use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{
    PATIENCE,
    certificates::certificates,
    filtered, folder, program,
    story::{Story, free_address, http_get, run},
};

#[test]
fn a_label_becomes_a_pull_request_through_real_processes() {
    let story = Story::start();
    let issue = story.stand_in(&["issue", "--title", "Say hello", "--body", "Please."]);
    let number = issue.trim();
    story.stand_in(&["label", "octocat/hello-world", number, "run:dev"]);
    let id = story.newest_run();
    let run = story.until_final(&id);
    assert_eq!(run["run"]["state"], "succeeded", "{run:#}");
    for timing in ["received_to_leased", "received_to_comment", "received_to_finished"] {
        assert!(run["timings_ms"][timing].is_number(), "{timing} in {:#}", run["timings_ms"]);
    }

    let settings = filtered();
    settings.bind(|| {
        let (code, out, err) = story.callboard(&["explain", &format!("octocat/hello-world#{number}")]);
        assert_eq!((code, err.as_str()), (0, ""));
        let decision = out
            .split("\n\n")
            .find(|e| e.contains("issues.labeled") && e.contains("start (trigger_label)"))
            .expect("the decision");
        insta::assert_snapshot!("explain", decision);
        let (code, out, _) = story.callboard(&["run", "logs", &id]);
        assert_eq!(code, 0);
        assert!(out.contains("cloned") || out.contains("runner"), "{out}");
        let (code, _, err) = story.callboard(&["run", "cancel", &id]);
        assert_eq!(code, 1);
        insta::assert_snapshot!("cancel_of_a_finished_run", err);
        let (code, _, err) = story.callboard(&["run", "get", "nonsense"]);
        assert_eq!(code, 2);
        insta::assert_snapshot!("get_of_nonsense", err);
        let (code, _, err) = story.callboard(&["explain", "nothing-like-this"]);
        assert_eq!(code, 1);
        insta::assert_snapshot!("explain_of_nothing", err);
        let (code, out, _) = story.callboard(&["outbox", "list"]);
        assert_eq!((code, out.as_str()), (0, "Nothing was given up.\n"));
        let (code, _, err) = story.callboard(&["outbox", "retry", "nonsense"]);
        assert_eq!(code, 2);
        insta::assert_snapshot!("outbox_retry_of_nonsense", err);
    });
    let (code, out, _) = story.callboard(&["check"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("✓ Postgres") && out.contains("acts as octocat"), "{out}");
    let workers = story.json(&["worker", "list"]);
    assert_eq!(workers[0]["name"], "local");

    let done = story.json(&["outbox", "list", "--all"]);
    let done = done.as_array().expect("effects").iter().find(|e| e["kind"] == "pull_request").expect("one");
    assert_eq!(done["state"], "done");
    let (code, _, err) = story.callboard(&["outbox", "drop", done["id"].as_str().expect("an id")]);
    assert!(code == 1 && err.contains("It is done."), "{code} {err}");

    let metrics = http_get(story.admin, "/metrics").expect("metrics");
    for name in [
        "callboard_webhook_deliveries_total",
        "callboard_decisions_total",
        "callboard_effects_total",
        "callboard_effects_dead",
        "callboard_runs",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    // One trace id from delivery to comment.
    let trace = run["trace_id"].as_str().expect("a trace");
    let log = story.log();
    for event in ["delivery decided", "run queued", "effect applied"] {
        assert!(
            log.lines().any(|l| l.contains(event) && l.contains(trace)),
            "`{event}` with trace {trace} in\n{log}"
        );
    }
    // No secret in the log.
    let token = std::fs::read_to_string(story.path().join("token")).expect("the token");
    assert!(!log.contains(token.trim()) && !log.contains("the secret of the processes' story"));
}

/// `kill -9` while the agent works: nothing is lost, nothing happens twice.
#[test]
fn killed_platform_takes_its_agents_with_it_and_goes_on_where_it_was() {
    let mut story = Story::start();
    let script = "Please.\n\n```agent-script\n[{\"print\":\"working\"},{\"write\":{\"path\":\"a.txt\",\"content\":\"a\\n\"}},{\"wait_for_file\":\"/tmp/go\"}]\n```\n";
    let number = story.stand_in(&["issue", "--title", "Take your time", "--body", script]);
    story.stand_in(&["label", "octocat/hello-world", number.trim(), "run:dev"]);
    let id = story.newest_run();
    let patience = Instant::now() + PATIENCE;
    while !story.callboard(&["run", "logs", &id]).1.contains("working") {
        assert!(Instant::now() < patience, "{}", story.log());
    }
    let work = story.path().join("data/work").display().to_string();
    assert!(agents(&work) > 0);

    let mut platform = story.platform.take().expect("it runs");
    platform.0.kill().expect("killed");
    platform.0.wait().expect("gone");
    let patience = Instant::now() + PATIENCE;
    while agents(&work) > 0 {
        assert!(Instant::now() < patience, "agents outlive the platform");
    }
    assert_eq!(story.callboard(&["run", "list"]).0, 1, "nobody answers");

    story.up();
    // The lease runs out by the database's clock, then a second attempt works.
    let patience = Instant::now() + PATIENCE;
    loop {
        let run = story.json(&["run", "get", &id]);
        let attempts = run["attempts"].as_array().expect("attempts");
        if attempts.len() == 2 && attempts[1]["state"] == "running" {
            assert_eq!(attempts[0]["state"], "lost");
            break;
        }
        assert!(Instant::now() < patience, "{run:#}\n{}", story.log());
    }
    assert_eq!(story.callboard(&["run", "cancel", &id]).0, 0);
    let run = story.until_final(&id);
    assert_eq!(run["run"]["state"], "cancelled");
    let comments: Value =
        serde_json::from_str(&story.stand_in(&["show", "comments", "octocat/hello-world", number.trim()]))
            .expect("JSON");
    let comments = comments.as_array().expect("a list");
    assert_eq!(comments.len(), 1, "{comments:#?}");
}

fn agents(work: &str) -> usize {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries
        .filter_map(|e| std::fs::read(e.ok()?.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(work))
        .count()
}

/// A worker reaches the control plane over TCP inside TLS, and in no other way.
#[test]
fn a_worker_over_tcp_uses_tls() {
    let mut story = Story::prepare();
    let internal = free_address();
    certificates(story.path(), &internal.ip().to_string());
    let path = story.path().join("callboard.yaml");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON");
    config["listen"]["internal"] = json!(internal);
    config["listen"]["tls_certificate_file"] = json!("cert.pem");
    config["listen"]["tls_key_file"] = json!("key.pem");
    config["control_plane"] = json!(format!("https://{internal}"));
    std::fs::write(&path, config.to_string()).expect("written");
    story.serve("control-plane");
    let (code, _, err) = story.callboard(&[
        "worker",
        "enroll",
        "--project",
        "demo",
        "--name",
        "far",
        "--identity-file",
        "data/identities/worker.json",
    ]);
    assert_eq!(code, 0, "{err}");
    for service in ["agent-gateway", "api-gateway", "worker"] {
        story.serve(service);
    }
    story.seed();
    let number = story.stand_in(&["issue", "--title", "Say hello", "--body", "Please."]);
    story.stand_in(&["label", "octocat/hello-world", number.trim(), "run:dev"]);
    let run = story.until_final(&story.newest_run());
    assert_eq!(run["run"]["state"], "succeeded", "{run:#}\n{}", story.log());

    // Without TLS the service refuses before it says anything.
    config["control_plane"] = json!("http://192.0.2.1:8082");
    std::fs::write(&path, config.to_string()).expect("written");
    let (code, _, err) = story.callboard(&["serve", "worker"]);
    assert_eq!(code, 1);
    assert!(err.contains("neither loopback nor TLS"), "{err}");
}

/// The same crates as separate processes, each with its own identity, and a worker that was
/// enrolled for the project by command.
#[test]
fn each_service_runs_as_its_own_process() {
    let mut story = Story::prepare();
    story.serve("control-plane");
    let (code, _, err) = story.callboard(&[
        "worker",
        "enroll",
        "--project",
        "demo",
        "--name",
        "this-machine",
        "--identity-file",
        "data/identities/worker.json",
    ]);
    assert_eq!(code, 0, "{err}");
    story.serve("agent-gateway");
    story.serve("api-gateway");
    story.serve("worker");
    story.seed();
    let number = story.stand_in(&["issue", "--title", "Say hello", "--body", "Please."]);
    story.stand_in(&["label", "octocat/hello-world", number.trim(), "run:dev"]);
    let run = story.until_final(&story.newest_run());
    assert_eq!(run["run"]["state"], "succeeded", "{run:#}\n{}", story.log());
    assert_eq!(run["attempts"][0]["worker"], "this-machine");
    let (code, out, _) = story.callboard(&["worker", "enroll", "--project", "nowhere", "--name", "lost"]);
    assert_eq!((code, out.as_str()), (1, ""), "an unknown project is refused");
}

/// `kill -9` of each service in turn while an agent works. Only the worker takes its attempt
/// with it; the others are not missed.
#[test]
fn each_service_may_be_killed_while_an_agent_works() {
    let mut story = Story::prepare();
    story.serve("control-plane");
    let identity = "data/identities/worker.json";
    let words =
        ["worker", "enroll", "--project", "demo", "--name", "this-machine", "--identity-file", identity];
    let (code, _, err) = story.callboard(&words);
    assert_eq!(code, 0, "{err}");
    for service in ["agent-gateway", "api-gateway", "worker"] {
        story.serve(service);
    }
    story.seed();
    for (service, attempts) in [("control-plane", 1), ("agent-gateway", 1), ("api-gateway", 1), ("worker", 2)]
    {
        let script = "Please.\n\n```agent-script\n[{\"print\":\"working\"},{\"write\":{\"path\":\"a.txt\",\"content\":\"a\\n\"}},{\"wait_for_file\":\".git/go\"}]\n```\n";
        let number = story.stand_in(&["issue", "--title", &format!("Without {service}"), "--body", script]);
        let known = story.json(&["run", "list"]).as_array().map_or(0, Vec::len);
        story.stand_in(&["label", "octocat/hello-world", number.trim(), "run:dev"]);
        let id = story.until(&format!("a run without {service}"), |story| {
            let runs = story.json(&["run", "list"]);
            let new = runs.as_array().is_some_and(|runs| runs.len() > known);
            new.then(|| runs[0]["id"].as_str().expect("an id").to_owned())
        });
        let at_work = |attempts: usize| {
            let id = id.clone();
            move |story: &Story| {
                let said = story.callboard(&["run", "logs", &id]).1.matches("working").count();
                (said == attempts).then_some(())
            }
        };
        story.until("an agent at work", at_work(1));
        story.replace(service);
        story.until("an agent at work", at_work(attempts));
        for workspace in std::fs::read_dir(story.path().join("data/work")).expect("workspaces") {
            let repository = workspace.expect("one").path().join("workspace/repo/.git");
            if repository.exists() {
                std::fs::write(repository.join("go"), "").expect("written");
            }
        }
        let run = story.until_final(&id);
        assert_eq!(run["run"]["state"], "succeeded", "without {service}: {run:#}\n{}", story.log());
        assert_eq!(run["attempts"].as_array().map(Vec::len), Some(attempts), "without {service}: {run:#}");
    }
}

/// Wrong usage is exit code 2 with a sentence.
#[test]
fn mistakes_in_the_configuration_are_named() {
    let folder = folder();
    let config = "github: { token_file: token }\nagents: { default: command, command: { argv: [x] } }\nlisten: { apy: 1 }\n";
    std::fs::write(folder.path().join("callboard.yaml"), config).expect("written");
    let mut command = subprocess::command(program("callboard"), folder.path());
    let (code, _, err) = run(command.args(["up", "--config", "callboard.yaml"]));
    assert_eq!(code, 2);
    filtered().bind(|| insta::assert_snapshot!("unknown_key", err));
}
