//! Real processes: `callboard up --config` against a GitHub-compatible server it did not
//! start and knows only by address, the daily commands, and `kill -9`.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::{Database, filtered, folder, program};

/// A child that does not outlive its story.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port()
}

fn run(command: &mut Command) -> (i32, String, String) {
    let done = command.output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (done.status.code().unwrap_or(-1), text(done.stdout), text(done.stderr))
}

struct Story {
    folder: tempfile::TempDir,
    github: Value,
    admin: u16,
    platform: Option<Process>,
    _stand_in: Process,
    _database: Database,
}

impl Story {
    fn start() -> Self {
        let (folder, database) = (folder(), Database::migrated());
        std::fs::write(folder.path().join("secret"), "the secret of the processes' story").expect("written");
        let mut stand_in = subprocess::command(program("webhook-simulator"), folder.path());
        stand_in
            .args(["serve", "--listen", "127.0.0.1:0", "--data", "github", "--token-file", "token"])
            .stdout(Stdio::piped());
        let mut stand_in = stand_in.spawn().expect("the stand-in starts");
        let mut line = String::new();
        BufReader::new(stand_in.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let github: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let (api, admin) = (free_port(), free_port());
        let config = json!({
            "database_url": database.url,
            "data_dir": "data",
            "listen": { "api": format!("127.0.0.1:{api}"), "admin": format!("127.0.0.1:{admin}") },
            "github": { "api_url": github["api_url"], "web_url": github["web_url"], "git_url": github["git_url"], "token_file": "token" },
            "projects": [{ "name": "demo", "repositories": [{ "name": "octocat/hello-world", "webhook_secret_file": "secret" }] }],
            "agents": { "default": "command", "command": { "argv": [program("scripted-agent")] } },
        });
        std::fs::write(folder.path().join("callboard.yaml"), config.to_string()).expect("written");
        let mut story =
            Self { folder, github, admin, platform: None, _stand_in: Process(stand_in), _database: database };
        story.up();
        let hook = format!("http://127.0.0.1:{api}/webhooks/github/hello-world");
        story.stand_in(&["seed", "--hook-url", &hook, "--hook-secret-file", "secret"]);
        story
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn up(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path().join("log"))
            .expect("a log");
        let mut platform = subprocess::command(program("callboard"), self.path());
        platform.args(["up", "--config", "callboard.yaml"]).stderr(log);
        self.platform = Some(Process(platform.spawn().expect("the platform starts")));
        let patience = Instant::now() + Duration::from_secs(60);
        while !self.is_ready() {
            assert!(Instant::now() < patience, "not ready: {}", self.log());
            std::thread::yield_now();
        }
    }

    fn is_ready(&self) -> bool {
        use std::io::{Read, Write};
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.admin)) else { return false };
        let mut answer = String::new();
        let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    fn stand_in(&self, words: &[&str]) -> String {
        let server = self.github["web_url"].as_str().expect("an address");
        let mut command = subprocess::command(program("webhook-simulator"), self.path());
        let (code, out, err) = run(command.args(words).env("WEBHOOK_SIMULATOR_URL", server));
        assert_eq!(code, 0, "{words:?}: {err}");
        out
    }

    fn callboard(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = subprocess::command(program("callboard"), self.path());
        run(command.args(words).env("CALLBOARD_CONFIG", "callboard.yaml"))
    }

    fn json(&self, words: &[&str]) -> Value {
        let (code, out, err) = self.callboard(&[words, &["-o", "json"]].concat());
        assert_eq!(code, 0, "{words:?}: {err}");
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }

    /// The id of the newest run, once there is one.
    fn newest_run(&self) -> String {
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(id) = self.json(&["run", "list"])[0]["id"].as_str() {
                return id.to_owned();
            }
            assert!(Instant::now() < patience, "no run; {}", self.log());
        }
    }

    fn until_final(&self, id: &str) -> Value {
        let patience = Instant::now() + Duration::from_secs(90);
        loop {
            let run = self.json(&["run", "get", id]);
            let effects = run["effects"].as_array().expect("effects");
            let state = run["run"]["state"].as_str().expect("a state");
            if ["succeeded", "failed", "cancelled"].contains(&state)
                && effects.iter().all(|e| e["state"] != "pending")
            {
                return run;
            }
            assert!(Instant::now() < patience, "{run:#}\n{}", self.log());
        }
    }
}

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
            .find(|e| e.contains("issues.labeled") && e.contains("start"))
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
    });
    let (code, out, _) = story.callboard(&["check"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("✓ Postgres") && out.contains("acts as octocat"), "{out}");
    let workers = story.json(&["worker", "list"]);
    assert_eq!(workers[0]["name"], "local");

    let metrics = story.metrics();
    for name in [
        "callboard_webhook_deliveries_total",
        "callboard_decisions_total",
        "callboard_effects_total",
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

impl Story {
    fn metrics(&self) -> String {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.admin)).expect("connected");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }
}

/// `kill -9` while the agent works: nothing is lost, nothing happens twice.
#[test]
fn killed_platform_takes_its_agents_with_it_and_goes_on_where_it_was() {
    let mut story = Story::start();
    let script = "Please.\n\n```agent-script\n[{\"print\":\"working\"},{\"write\":{\"path\":\"a.txt\",\"content\":\"a\\n\"}},{\"wait_for_file\":\"/tmp/go\"}]\n```\n";
    let number = story.stand_in(&["issue", "--title", "Take your time", "--body", script]);
    story.stand_in(&["label", "octocat/hello-world", number.trim(), "run:dev"]);
    let id = story.newest_run();
    let patience = Instant::now() + Duration::from_secs(60);
    while !story.callboard(&["run", "logs", &id]).1.contains("working") {
        assert!(Instant::now() < patience, "{}", story.log());
    }
    let work = story.path().join("data/work").display().to_string();
    assert!(agents(&work) > 0);

    let mut platform = story.platform.take().expect("it runs");
    platform.0.kill().expect("killed");
    platform.0.wait().expect("gone");
    let patience = Instant::now() + Duration::from_secs(10);
    while agents(&work) > 0 {
        assert!(Instant::now() < patience, "agents outlive the platform");
    }
    assert_eq!(story.callboard(&["run", "list"]).0, 1, "nobody answers");

    story.up();
    // The lease runs out by the database's clock, then a second attempt works.
    let patience = Instant::now() + Duration::from_secs(90);
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
