//! Work that outlives its worker: checkpoints are taken, kept whole, and gone on from.

use std::{path::PathBuf, time::Instant};

use chrono::TimeDelta;
use proto::v1::{
    CheckpointEnd, CheckpointHead, CheckpointPart, FileChange, checkpoint_part::Part, file_change::Mode,
    runner_service_client::RunnerServiceClient,
};
use scripted_model::{Script, ScriptedModel};
use serde_json::{Value, json};
use sqlx::Connection;
use telemetry::address::Address;

use crate::harness::{PATIENCE, REPOSITORY, Setup, World, filtered, story::Story};

/// Steps that edit in every way there is, and end only when they go on from there.
fn edits() -> Value {
    json!([
        { "unless_restored": [
            { "append": { "path": "README.md", "content": "Edited.\n" } },
            { "delete": "src/greeting.sh" },
            { "write": { "path": "new.txt", "content": "untracked\n" } },
            { "write": { "path": "bin/run.sh", "content": "#!/bin/sh\n", "executable": true } },
            { "symlink": { "path": "latest", "target": "bin/run.sh" } },
            { "print": "edited" },
            { "hang": true },
        ] },
        { "when_restored": [{ "write": { "path": "after.txt", "content": "went on\n" } }] },
    ])
}

fn scripted(steps: &Value) -> String {
    format!("Please.\n\n```agent-script\n{steps}\n```\n")
}

/// What a checked-out result changed: modes, status and paths.
fn changes(folder: &std::path::Path, git_url: &str, token: &str, branch: &str) -> String {
    let url = git_url.replace("http://", &format!("http://x-access-token:{}@", token.trim()));
    let git = |words: &[&str]| {
        let done = subprocess::command("git", folder).args(words).output().expect("git runs");
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    git(&["clone", "--quiet", "--branch", branch, &format!("{url}/{REPOSITORY}.git"), "result"]);
    let raw = git(&["-C", "result", "diff", "--no-renames", "--raw", "--abbrev=1", "origin/main", "HEAD"]);
    raw.lines().map(|line| line.replace(':', "")).fold(String::new(), |all, line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        format!("{all}{} {} {} {}\n", fields[0], fields[1], fields[4], fields[5])
    })
}

/// Waits until a run is so.
fn until(story: &Story, run: &str, what: &str, probe: impl Fn(&Value) -> bool) {
    let patience = Instant::now() + PATIENCE;
    loop {
        let detail = story.json(&["run", "get", run]);
        if probe(&detail) {
            return;
        }
        assert!(Instant::now() < patience, "{what}: {detail:#}\n{}", story.log());
    }
}

/// `kill -9` of a worker with two attempts: one had a checkpoint, the other had done nothing yet.
#[test]
fn after_its_worker_is_killed_an_attempt_goes_on_from_its_checkpoint() {
    let mut story = Story::prepare();
    let path = story.path().join("callboard.yaml");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON");
    config["agents"]["checkpoint_seconds"] = json!(1);
    std::fs::write(&path, config.to_string()).expect("written");
    story.serve("control-plane");
    let identity = "data/identities/worker.json";
    let enrolled = story.callboard(&[
        "worker",
        "enroll",
        "--project",
        "demo",
        "--name",
        "far",
        "--identity-file",
        identity,
    ]);
    assert_eq!(enrolled.0, 0, "{}", enrolled.2);
    for service in ["agent-gateway", "api-gateway", "worker"] {
        story.serve(service);
    }
    story.seed();
    let start = |title: &str, steps: &Value| {
        let number = story.stand_in(&["issue", "--title", title, "--body", &scripted(steps)]);
        let number: u64 = number.trim().parse().expect("a number");
        story.stand_in(&["label", REPOSITORY, &number.to_string(), "run:dev"]);
        let patience = Instant::now() + PATIENCE;
        loop {
            let runs = story.json(&["run", "list"]);
            let all = runs.as_array().expect("runs");
            if let Some(run) = all.iter().find(|run| run["issue"] == number) {
                return (number, run["id"].as_str().expect("an id").to_owned());
            }
            assert!(Instant::now() < patience, "{}", story.log());
        }
    };
    let (issue, run) = start("Edit", &edits());
    let (idle_issue, idle) = start("Think", &json!([{ "print": "thinking" }, { "hang": true }]));
    until(&story, &run, "a checkpoint", |run| run["attempts"][0]["checkpoint"]["files"] == 5);
    until(&story, &idle, "the other attempt", |run| run["attempts"][0]["state"] == "running");

    story.replace("worker");
    let done = story.until_final(&run);
    assert_eq!(done["run"]["state"], "succeeded", "{done:#}");
    assert_eq!(done["attempts"][1]["restored_from"], done["attempts"][0]["id"]);
    let token = std::fs::read_to_string(story.path().join("token")).expect("the token");
    let git_url = story.github["git_url"].as_str().expect("an address");
    let branch = format!("callboard/{issue}-dev");
    insta::assert_snapshot!("the_edits_of_both", changes(story.path(), git_url, &token, &branch));
    let comment = |number: u64| {
        let shown = story.stand_in(&["show", "comments", REPOSITORY, &number.to_string()]);
        let comments: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(comments.as_array().expect("a list").len(), 1, "{comments:#}");
        comments[0]["body"].as_str().expect("a text").to_owned()
    };
    let (code, shown, _) = story.callboard(&["run", "get", &run]);
    assert_eq!(code, 0);
    let attempts: Vec<_> = shown
        .lines()
        .skip_while(|line| !line.starts_with("attempt"))
        .take_while(|line| line.starts_with("attempt") || line.starts_with(' '))
        .collect();
    filtered().bind(|| {
        insta::assert_snapshot!("goes_on", comment(issue));
        insta::assert_snapshot!("run_get", attempts.join("\n"));
    });

    until(&story, &idle, "a second attempt", |run| run["attempts"][1]["state"] == "running");
    let patience = Instant::now() + PATIENCE;
    while !comment(idle_issue).contains("Attempt 2 starts afresh") {
        assert!(Instant::now() < patience, "{}", comment(idle_issue));
    }
    // The worker's word on how it is isolated may come before this comment or after it.
    let said = comment(idle_issue);
    let said: Vec<&str> = said.lines().filter(|line| !line.starts_with("- bubblewrap")).collect();
    filtered().bind(|| insta::assert_snapshot!("starts_afresh", said.join("\n")));
    assert_eq!(story.callboard(&["run", "cancel", &idle]).0, 0);
    story.until_final(&idle);
}

/// The platform is told to end: what the agent did until then is not lost, however young.
#[tokio::test(flavor = "multi_thread")]
async fn a_planned_stop_takes_a_last_checkpoint() {
    let files = vec![("src/greeting.sh", "echo Hello, world!\necho How are you?\n")];
    let mut world = World::with(Setup { files, ..Setup::default() }).await;
    let issue = world.scripted_issue("Edit", &edits());
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.until_log(&run.id, "edited").await;
    world.down().await;
    world.up().await;
    world.clock.advance(TimeDelta::seconds(10));
    let run = world.finished(&run.id).await;
    assert_eq!(run.run.as_ref().expect("a run").state, "succeeded", "{run:#?}");
    assert_eq!(run.attempts[1].restored_from, run.attempts[0].id);
    assert_eq!(run.attempts[0].checkpoint.as_ref().map(|c| c.files), Some(5));
    let pull = world.github.pull_requests(REPOSITORY).pop().expect("a pull request");
    let diff = world.github.pull_request_diff(REPOSITORY, pull.number).await.expect("a diff");
    for part in ["+Edited.", "deleted file mode", "+untracked", "new file mode 100755", "+went on"] {
        assert!(diff.contains(part), "`{part}` in {diff}");
    }
    world.end().await;
}

/// A run that ran out of time is retried by a person: on the same commit, although the branch
/// has moved on, because the files belong to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_goes_on_from_the_run_it_retries() {
    let config = json!({ "agents": { "checkpoint_seconds": 1 } });
    let files = vec![("src/greeting.sh", "echo Hello, world!\necho How are you?\n")];
    let world = World::with(Setup { config, files, ..Setup::default() }).await;
    let issue = world.scripted_issue("Edit", &edits());
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.until_log(&run.id, "Checkpoint taken: 5 files changed").await;
    world.clock.advance(TimeDelta::minutes(61));
    let first = world.finished(&run.id).await;
    assert_eq!(first.run.as_ref().expect("a run").class, "timed_out");

    let clone = world.github.git_url().replace("http://", &format!("http://x-access-token:{}@", world.token));
    let git = |words: &[&str]| {
        let done = subprocess::command("git", world.folder()).args(words).output().expect("git runs");
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["clone", "--quiet", &format!("{clone}/{REPOSITORY}.git"), "moved"]);
    std::fs::write(world.folder().join("moved/elsewhere.txt"), "moved on\n").expect("written");
    git(&["-C", "moved", "add", "-A"]);
    git(&["-C", "moved", "-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "-q", "-m", "on"]);
    git(&["-C", "moved", "push", "--quiet"]);

    let second = world.retry(&run.id).await.expect("retried");
    let second = world.finished(&second).await;
    assert_eq!(second.run.as_ref().expect("a run").state, "succeeded", "{second:#?}");
    assert_eq!(second.base_sha, first.base_sha, "base and files belong together");
    assert_eq!(second.attempts[0].restored_from, first.attempts[0].id);
    let pull = world.github.pull_requests(REPOSITORY).pop().expect("a pull request");
    let diff = world.github.pull_request_diff(REPOSITORY, pull.number).await.expect("a diff");
    assert!(diff.contains("+untracked") && diff.contains("+went on"), "{diff}");
    filtered().bind(|| insta::assert_snapshot!("a_retry_goes_on", second.attempts[0].start_note));

    world.end().await;
}

/// A run that a person ended leaves nothing to go on from, nor does one whose commit is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_starts_afresh_where_it_must() {
    let config = json!({ "agents": { "checkpoint_seconds": 1 } });
    let world = World::with(Setup { config, ..Setup::default() }).await;
    let steps = json!([{ "write": { "path": "half.txt", "content": "half" } }, { "print": "edited" }, { "hang": true }]);
    let mut notes = Vec::new();
    for gone in [false, true] {
        let issue = world.scripted_issue("Edit", &steps);
        world.label(issue, "run:dev");
        let run = world.run_of(issue).await;
        world.until_log(&run.id, "Checkpoint taken").await;
        if gone {
            world.clock.advance(TimeDelta::minutes(61));
        } else {
            world.cancel(&run.id).await.expect("cancelled");
        }
        world.finished(&run.id).await;
        if gone {
            // The code host has collected it meanwhile.
            let mut connection = sqlx::PgConnection::connect(&world.database.url).await.expect("connected");
            sqlx::query("update checkpoints set base_sha = repeat('f', 40)")
                .execute(&mut connection)
                .await
                .expect("changed");
        }
        let again = world.retry(&run.id).await.expect("retried");
        world.until_log(&again, "edited").await;
        let attempt = world.get(&again).await.attempts.remove(0);
        assert_eq!(attempt.restored_from, "");
        notes.push(attempt.start_note);
        world.cancel(&again).await.expect("cancelled");
        world.finished(&again).await;
    }
    filtered().bind(|| insta::assert_snapshot!("retries_start_afresh", notes.join("\n")));
    world.end().await;
}

/// Somebody changed a checkpoint in the store: the runner uses nothing of it, and people are told.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_cannot_be_restored_is_said() {
    let mut world = World::start().await;
    let steps = json!([{ "write": { "path": "half.txt", "content": "half" } }, { "print": "edited" }, { "hang": true }]);
    let issue = world.scripted_issue("Edit", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.until_log(&run.id, "edited").await;
    let base = world.get(&run.id).await.base_sha;
    world.down().await;
    let folder = |path: PathBuf| {
        std::fs::read_dir(path).expect("a folder").next().expect("an entry").expect("read").path()
    };
    let object = folder(folder(world.data().join("objects")).join("changesets"));
    // `../../out`
    let file =
        json!({ "path": "Li4vLi4vb3V0", "change": { "kind": "put", "mode": "regular", "content": "eA==" } });
    let hostile = json!({ "format": 1, "changeset": { "base": base, "files": [file] } });
    std::fs::write(object, hostile.to_string()).expect("written");
    world.up().await;
    world.clock.advance(TimeDelta::seconds(10));
    let told = |g: &webhook_simulator::Simulator| {
        let comments = g.comments(REPOSITORY, issue);
        comments.into_iter().map(|c| c.body).find(|body| body.contains("could not be restored"))
    };
    let comment = world.until("the comment", told).await;
    filtered().bind(|| insta::assert_snapshot!("could_not_be_restored", comment));
    let detail = world.get(&run.id).await;
    assert_eq!(detail.attempts[1].restored_from, "");
    let kinds: Vec<_> = detail.events.iter().map(|event| event.kind.as_str()).collect();
    assert!(kinds.contains(&"restored") && kinds.contains(&"afresh"), "{kinds:?}");
    world.cancel(&run.id).await.expect("cancelled");
    world.finished(&run.id).await;
    world.end().await;
}

/// The real Codex CLI goes on with its own conversation.
#[tokio::test(flavor = "multi_thread")]
async fn a_codex_session_is_resumed() {
    let Some(binary) = std::env::var_os("CALLBOARD_TEST_CODEX") else {
        eprintln!("not run: CALLBOARD_TEST_CODEX is not set; `cargo xtask test` sets it");
        return;
    };
    let shell = "if [ -e first.txt ]; then echo two > second.txt; else echo one > first.txt; echo working >&2; sleep 1000; fi";
    let script = json!({ "steps": [{ "shell": shell }, { "text": "Wrote both." }] });
    let script = Script::from_json(&script.to_string()).expect("a script");
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into(), script, None).await.expect("it starts");
    let config = json!({
        "agents": { "default": "codex", "codex": { "binary": binary.to_string_lossy(), "model": "scripted" } },
        "models": [{ "name": "scripted", "backend": "openai", "base_url": model.base_url() }],
    });
    let mut world = World::with(Setup { config, ..Setup::default() }).await;
    let issue = world.issue("Write two files", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.until_log(&run.id, "command_execution").await;
    let first = || {
        std::fs::read_dir(world.data().join("work"))
            .expect("there")
            .flatten()
            .any(|attempt| attempt.path().join("workspace/repo/first.txt").exists())
    };
    let patience = Instant::now() + PATIENCE;
    while !first() {
        assert!(Instant::now() < patience, "the command never ran");
        tokio::task::yield_now().await;
    }
    world.down().await;
    world.up().await;
    world.clock.advance(TimeDelta::seconds(10));
    let log = world.follow(&run.id).await;
    let run = world.finished(&run.id).await;
    assert_eq!(run.run.as_ref().expect("a run").state, "succeeded", "{log:#?}");
    let threads: Vec<_> = log.iter().filter(|line| line.contains("thread.started")).collect();
    assert_eq!(threads.len(), 2, "{log:#?}");
    assert_eq!(threads[0], threads[1], "the same conversation");
    let last = model.requests().pop().expect("a request").body.to_string();
    assert_eq!(last.matches("This is another attempt at the same work.").count(), 1, "{last}");
    let pull = world.github.pull_requests(REPOSITORY).pop().expect("a pull request");
    let diff = world.github.pull_request_diff(REPOSITORY, pull.number).await.expect("a diff");
    assert!(diff.contains("+one") && diff.contains("+two"), "{diff}");
    model.shutdown().await;
    world.end().await;
}

fn part(part: Part) -> CheckpointPart {
    CheckpointPart { part: Some(part) }
}

/// Whatever holds a run token may send what it likes; nothing of it is kept unless all of it is
/// sound.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_a_claim() {
    let world = World::start().await;
    let issue = world.scripted_issue("Wait", &json!([{ "print": "waiting" }, { "hang": true }]));
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.until_log(&run.id, "waiting").await;
    let base = world.get(&run.id).await.base_sha;
    let tokens: Vec<PathBuf> = std::fs::read_dir(world.data().join("work"))
        .expect("there")
        .flatten()
        .map(|attempt| attempt.path().join("token"))
        .collect();
    let token = std::fs::read_to_string(&tokens[0]).expect("a token");
    let gateway = Address::Unix(world.data().join("agents/gateway.sock")).channel().expect("a socket");
    let send = async |parts: Vec<CheckpointPart>| {
        let mut request = tonic::Request::new(futures::stream::iter(parts));
        let bearer = format!("Bearer {token}").parse().expect("a header");
        request.metadata_mut().insert("authorization", bearer);
        match RunnerServiceClient::new(gateway.clone()).checkpoint(request).await {
            Ok(answer) => (answer.get_ref().stored, answer.into_inner().message),
            Err(status) => (false, status.message().to_owned()),
        }
    };
    let checkpoint = |path: &str, mode: Mode, content: &str, session: &[u8]| {
        let size = content.len() as u64;
        vec![
            part(Part::Head(CheckpointHead { base_sha: base.clone() })),
            part(Part::File(FileChange {
                path: path.into(),
                mode: mode.into(),
                content: content.into(),
                size,
            })),
            part(Part::Session(session.to_vec())),
            part(Part::End(CheckpointEnd { files: 1, bytes: size, session_bytes: session.len() as u64 })),
        ]
    };
    let sound = || checkpoint("a.txt", Mode::File, "a", b"session");
    let other_base = {
        let mut parts = sound();
        parts[0] = part(Part::Head(CheckpointHead { base_sha: "f".repeat(40) }));
        parts
    };
    for (why, parts) in [
        ("has a part `.` or `..`", checkpoint("../../out", Mode::File, "x", b"")),
        ("git's own folder", checkpoint(".git/hooks/post-checkout", Mode::Executable, "x", b"")),
        ("a link whose target", checkpoint("link", Mode::Symlink, "../../etc/passwd", b"")),
        ("inside the repository", checkpoint("nested", Mode::Submodule, "", b"")),
        ("a secret of this platform", checkpoint("config.ini", Mode::File, &world.token, b"")),
        ("a secret of this platform", checkpoint("a.txt", Mode::File, "a", world.token.as_bytes())),
        ("a secret of this platform", checkpoint("a.txt", Mode::File, token.trim(), b"")),
        ("on another commit", other_base),
        // Half of one: the session is cut short, or the end never came.
        ("is missing", sound().into_iter().enumerate().filter(|(n, _)| *n != 2).map(|(_, p)| p).collect()),
        ("without its end", sound().into_iter().take(3).collect()),
        ("begins with its head", sound().into_iter().skip(1).collect()),
    ] {
        let (stored, said) = send(parts).await;
        assert!(!stored && said.contains(why), "{why}: {said}");
    }
    assert!(world.get(&run.id).await.attempts[0].checkpoint.is_none(), "nothing of it was kept");
    for number in 1..=10 {
        assert_eq!(send(sound()).await, (true, String::new()), "{number}");
    }
    let (stored, said) = send(sound()).await;
    assert!(!stored && said.contains("more of them"), "{said}");
    let mut connection = sqlx::PgConnection::connect(&world.database.url).await.expect("connected");
    let kept: i64 = sqlx::query_scalar("select count(*) from checkpoints")
        .fetch_one(&mut connection)
        .await
        .expect("read");
    assert_eq!(kept, 1, "the newest replaces the one before");
    world.cancel(&run.id).await.expect("cancelled");
    world.finished(&run.id).await;
    let (stored, said) = send(sound()).await;
    assert!(!stored && said.starts_with("the attempt"), "{said}");
    world.end().await;
}
