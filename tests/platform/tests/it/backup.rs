//! The runbook's commands, taken from its page: a running platform is backed up, and restored
//! in another folder, with a database of one's own and with the private one.

use std::{path::Path, process::Command, time::Instant};

use serde_json::{Value, json};

use crate::harness::{
    Database, PATIENCE, filtered, folder,
    story::{Story, run},
};

/// A block of commands of the page, by the name after its language.
fn block(name: &str) -> String {
    let page = include_str!("../../../../docs/ops/backup.md");
    let start = format!("```sh {name}\n");
    let (_, rest) = page.split_once(&start).unwrap_or_else(|| panic!("no block `{name}`"));
    rest.split_once("```").expect("its end").0.to_owned()
}

/// Does what a block says, with the variables of the page.
fn perform(name: &str, data_dir: &Path, database: &str, backup: &Path) {
    let mut shell: Command = subprocess::command("sh", Path::new("/"));
    shell
        .args(["-eu", "-c", &block(name)])
        .env("DATA_DIR", data_dir)
        .env("OBJECTS", data_dir.join("objects"))
        .env("KEY_FILE", data_dir.join("key"))
        .env("DATABASE_URL", database)
        .env("BACKUP", backup);
    let (code, out, err) = run(&mut shell);
    assert_eq!(code, 0, "{name}: {out}{err}");
}

/// Everything people can ask about the runs.
fn history(story: &Story, runs: &[String]) -> Vec<Value> {
    let mut all = vec![story.json(&["run", "list"])];
    for id in runs {
        all.push(story.json(&["run", "get", id]));
        let (code, log, _) = story.callboard(&["run", "logs", id]);
        assert_eq!(code, 0);
        all.push(json!(log));
    }
    all
}

fn labelled(story: &Story, title: &str, body: &str) -> String {
    let number = story.stand_in(&["issue", "--title", title, "--body", body]);
    story.stand_in(&["label", "octocat/hello-world", number.trim(), "run:dev"]);
    story.run_of(number.trim())
}

/// Ends the platform as Ctrl-C does, its private Postgres included.
fn end(story: &mut Story) {
    let mut platform = story.platform.take().expect("it runs");
    let pid = platform.0.id().to_string();
    assert_eq!(run(subprocess::command("kill", Path::new("/")).args(["-TERM", &pid])).0, 0);
    assert!(platform.0.wait().expect("it ends").success(), "{}", story.log());
}

#[test]
fn a_backup_of_a_running_platform_is_restored_elsewhere() {
    let mut story = Story::start();
    let published = labelled(&story, "Say hello", "Please.");
    story.until_final(&published);
    let steps = json!([{ "write": { "path": ".github/workflows/x.yml", "content": "x\n" } }]);
    let held = labelled(&story, "Hold", &format!("Please.\n\n```agent-script\n{steps}\n```\n"));
    story.until_state(&held, "waiting");
    let runs = [published, held];
    let before = history(&story, &runs);

    let path = story.path().join("callboard.yaml");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON");
    let url = config["database_url"].as_str().expect("an address").to_owned();
    let (elsewhere, backup) = (folder(), story.path().join("backup"));
    perform("backup", &story.path().join("data"), &url, &backup);
    end(&mut story);

    let database = Database::empty();
    let data = elsewhere.path().join("own");
    perform("restore-files", &data, &database.url, &backup);
    perform("restore-external", &data, &database.url, &backup);
    config["data_dir"] = json!(data);
    config["database_url"] = json!(database.url);
    std::fs::write(&path, config.to_string()).expect("written");
    story.up();
    assert_eq!(history(&story, &runs), before);
    // What came between the backup and the end is asked for again, and told of.
    let patience = Instant::now() + PATIENCE;
    let (code, out, err) = loop {
        let verified = story.callboard(&["audit", "verify"]);
        if !verified.1.contains("wait for their number") {
            break verified;
        }
        assert!(Instant::now() < patience, "{}", verified.1);
    };
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let mut settings = filtered();
    settings.add_filter(r"\b[0-9a-f]{64}\b", "HASH");
    settings.add_filter(r"\d+ (events|seals)", "N $1");
    settings.add_filter(r"sequence \d+", "sequence N");
    settings.bind(|| insta::assert_snapshot!("audit_verify", out));

    // Somebody with every right in the database changes a word.
    let change = "set session_replication_role = replica; update events set actor = 'mallory' where action = 'run.queued'";
    let mut psql = subprocess::command("psql", Path::new("/"));
    let (code, _, err) = run(psql.args(["-v", "ON_ERROR_STOP=1", "-c", change, &database.url]));
    assert_eq!(code, 0, "{err}");
    let (code, out, _) = story.callboard(&["audit", "verify", "--project", "demo"]);
    assert_eq!(code, 1, "{out}");
    settings.bind(|| insta::assert_snapshot!("audit_verify_changed", out));
    end(&mut story);

    let data = elsewhere.path().join("private");
    perform("restore-files", &data, "", &backup);
    perform("restore-private", &data, "", &backup);
    config["data_dir"] = json!(data);
    config.as_object_mut().expect("an object").remove("database_url");
    std::fs::write(&path, config.to_string()).expect("written");
    story.up();
    assert_eq!(history(&story, &runs), before);
    let (code, out, _) = story.callboard(&["audit", "verify"]);
    assert_eq!(code, 0, "{out}");

    // It goes on: the held run is still somebody's to decide, and new work is done.
    assert_eq!(story.callboard(&["run", "cancel", &runs[1]]).0, 0);
    story.until_final(&runs[1]);
    exported(&story);
    end(&mut story);
}

/// The log in both formats, with the same events in the same order.
fn exported(story: &Story) {
    let patience = Instant::now() + PATIENCE;
    let (events, cancelled) = loop {
        let (code, lines, err) = story.callboard(&["audit", "export"]);
        assert_eq!((code, err.as_str()), (0, ""));
        let events: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        // It gets its number a moment after it happened.
        if let Some(cancelled) = events.iter().find(|e| e["action"] == "run.cancelled").cloned() {
            break (events, cancelled);
        }
        assert!(Instant::now() < patience, "{lines}");
    };
    for (event, number) in events.iter().zip(1..) {
        assert_eq!(event["sequence"], number);
    }
    assert_eq!(cancelled["project"], "demo");
    assert!(
        cancelled["text"].as_str().expect("a sentence").starts_with("Cancelled by uid:"),
        "{cancelled:#}"
    );
    let (code, csv, _) = story.callboard(&["audit", "export", "--format", "csv", "--after", "3"]);
    let mut lines = csv.lines();
    assert_eq!((code, lines.next().and_then(|header| header.split(',').next())), (0, Some("sequence")));
    assert!(lines.next().is_some_and(|first| first.starts_with("4,")), "{csv}");
    let (code, _, err) = story.callboard(&["audit", "export", "--project", "nowhere"]);
    assert_eq!(code, 1);
    assert!(err.contains("there is no project `nowhere`"), "{err}");
}
