//! The rules a project brings along: its own stages, what is broken in them, and what the
//! operator allows.

use proto::admin::{ListRunsRequest, Run};
use serde_json::{Value, json};

use crate::harness::{REPOSITORY, SOURCE, Setup, World};

/// Adds a stage, changes one, and spoils one.
const STAGES: &str = r#"version: 1
stages:
  translate:
    description: Translates the documents.
    role: km
    write_scope: ["**/*.md"]
    time_limit_minutes: 600
    second_trigger: queue
    pod: { memory_mib: 9000, image: "ghcr.io/acme/agents:1", node_selector: { disk: ssd } }
    worker_labels: { arch: arm64 }
  summarise:
    description: Sums up.
    role: km
    write_scope: ["**/*.md"]
    time_limit_minutes: 10
  dev:
    second_trigger: queue
  qa:
    time_limit_minutes: soon
"#;

/// Its own template, over the product's blocks.
const TRANSLATE: &str = r#"{% extends "blocks/frame.md.j2" %}
{% block task %}
Translate into Russian what the issue names.
{% endblock %}
"#;

fn setup() -> Setup {
    let config = json!({ "projects": [{
        "name": "demo", "pods": { "memory_mib": 1024, "cpu_millis": 500 },
        "ceilings": {
            "time_limit_minutes": 30, "stages": ["translate", "summarise", "dev", "qa"],
            "pods": { "images": ["ghcr.io/acme/*"], "worker_labels": {} },
        },
        "repositories": [{ "name": REPOSITORY, "source": SOURCE, "webhook_secret_file": "secret" }],
    }] });
    let files = vec![
        (".callboard/stages.yaml", STAGES),
        (".callboard/prompts/en/translate.work.md.j2", TRANSLATE),
        (".callboard/prompts/en/summarise.work.md.j2", "Sum up:\n{{ isue.title }}\n"),
    ];
    Setup { config, files, ..Setup::default() }
}

async fn runs(world: &World) -> Vec<Run> {
    world.admin().list_runs(ListRunsRequest::default()).await.expect("runs").into_inner().runs
}

async fn first_comment(world: &World, issue: u64) -> String {
    world.until("a comment", |g| (!g.comments(REPOSITORY, issue).is_empty()).then_some(())).await;
    world.comments(issue).remove(0)
}

/// A stage of the project's own runs without a change of ours, inside the operator's ceilings;
/// what is broken beside it says which field to mend.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_has_stages_of_its_own_within_the_ceilings() {
    let world = World::with(setup()).await;
    let steps = json!([
        { "write": { "path": "docs/hello.ru.md", "content": "Привет\n" } },
        { "print_file": "/proc/self/limits" },
        { "summary": "Translated." },
    ]);
    let issue = world.scripted_issue("Translate the documents", &steps);
    world.label(issue, "run:translate");
    let run = world.run_of(issue).await;
    let run = world.finished(&run.id).await.run.expect("a run");
    assert_eq!((run.stage.as_str(), run.state.as_str()), ("translate", "succeeded"), "{}", run.message);
    let mut db = world.db().await;
    let definition: Value =
        sqlx::query_scalar("select definition from runs").fetch_one(&mut db).await.expect("one");
    assert_eq!(definition["time_limit_minutes"], 30, "the ceiling holds");
    // No label of a worker is allowed, so that any worker takes it; the image is, and what it
    // leaves out is the operator's.
    let pod = json!({ "cpu_millis": 500, "memory_mib": 1024, "image": "ghcr.io/acme/agents:1" });
    assert_eq!((&definition["pod"], definition.get("worker_labels")), (&pod, None));
    world.until_log(&run.id, "Max data size             1073741824").await;
    let said = first_comment(&world, issue).await;
    for field in ["time_limit_minutes", "pod.memory_mib", "pod.node_selector.disk", "worker_labels.arch"] {
        let clip = format!("`stages.translate.{field}` asks for");
        assert!(said.contains(&clip), "the comment says {clip}: {said}");
    }

    let key: String =
        sqlx::query_scalar("select prompt_key from runs").fetch_one(&mut db).await.expect("one");
    let prompt = std::fs::read_to_string(world.data().join("objects").join(key)).expect("a prompt");
    assert!(
        prompt.contains("Translate into Russian") && prompt.contains("Translate the documents"),
        "{prompt}"
    );

    // A template of its own that does not render stops nothing but its stage.
    let misspelt = world.issue("Sum it up", "Please.");
    world.label(misspelt, "run:summarise");
    let run = world.next_run(misspelt, &[]).await;
    let run = world.finished(&run.id).await.run.expect("a run");
    assert_eq!(run.state, "failed", "{}", run.message);
    assert!(
        run.message.contains(".callboard/prompts/en/summarise.work.md.j2:2") && run.message.contains("isue"),
        "{}",
        run.message
    );

    let broken = world.issue("Test it", "Please.");
    world.label(broken, "run:qa");
    let said = first_comment(&world, broken).await;
    assert!(said.contains("stages.qa.time_limit_minutes"), "{said}");
    let not_allowed = world.issue("Plan it", "Please.");
    world.label(not_allowed, "run:plan");
    let said = first_comment(&world, not_allowed).await;
    assert!(said.contains("does not allow the stage `plan`"), "{said}");

    // The same on a person's machine, before it is pushed.
    let folder = world.folder().join("clone");
    std::fs::create_dir_all(folder.join(".callboard")).expect("made");
    std::fs::write(folder.join(".callboard/stages.yaml"), STAGES).expect("written");
    let words = ["policy", "check", folder.to_str().expect("a path")];
    let (code, out, err) = world.callboard(&words).await;
    assert_eq!(code, 1, "{err}");
    assert!(out.contains("✗ stages.qa.time_limit_minutes") && out.contains("asks for 600"), "{out}");
    assert!(out.contains("asks for 9000; the operator allows 1024, so 1024 holds."), "{out}");
    std::fs::write(folder.join(".callboard/stages.yaml"), "version: 1\n").expect("written");
    assert_eq!(world.callboard(&words).await.0, 0);
    world.end().await;
}

/// A second trigger waits behind the first, comes forward when that one ends, and ends with the
/// issue.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_behind_another() {
    let world = World::with(setup()).await;
    let issue = world.scripted_issue("Take your time", &json!([{ "print": "working" }, { "hang": true }]));
    world.label(issue, "run:dev");
    let first = world.run_of(issue).await;
    world.until_log(&first.id, "working").await;
    let second = async |world: &World, label: &str| -> Run {
        let off = |g: &webhook_simulator::Simulator| !g.labels(REPOSITORY, issue).iter().any(|l| l == label);
        world.until("the label to be off", |g| off(g).then_some(())).await;
        let comments = world.comments(issue).len();
        world.label(issue, label);
        world.until("its comment", |g| (g.comments(REPOSITORY, issue).len() > comments).then_some(())).await;
        runs(world).await.remove(0)
    };
    let waits = second(&world, "run:translate").await;
    assert_eq!((waits.stage.as_str(), waits.state.as_str()), ("translate", "queued"));
    assert!(waits.message.contains(&first.id), "{}", waits.message);
    let off =
        |g: &webhook_simulator::Simulator| !g.labels(REPOSITORY, issue).iter().any(|l| l.starts_with("run:"));
    world.until("the label to be off", |g| off(g).then_some(())).await;
    world.label(issue, "run:translate");
    world
        .until("a refusal", |g| {
            g.comments(REPOSITORY, issue).iter().any(|c| c.body.contains("already_waiting")).then_some(())
        })
        .await;
    world.cancel(&first.id).await.expect("cancelled");
    // It comes forward, and works.
    world.until_log(&waits.id, "working").await;
    let last = second(&world, "run:dev").await;
    assert_eq!(last.state, "queued");
    world.github.close_issue(REPOSITORY, issue, "mona").expect("closed");
    for run in [&waits, &last] {
        assert_eq!(world.finished(&run.id).await.run.expect("a run").state, "cancelled");
    }
    world.end().await;
}

/// Labels are made with colours and descriptions, mended, and never deleted.
#[tokio::test(flavor = "multi_thread")]
async fn labels_are_brought_up_to_date() {
    let world = World::with(setup()).await;
    let outcomes = async |world: &World, words: &[&str]| -> Vec<(String, String)> {
        let (code, out, err) = world.callboard(&[words, &["-o", "json"]].concat()).await;
        assert_eq!(code, 0, "{err}");
        let labels: Vec<Value> = serde_json::from_str(&out).expect("JSON");
        let text = |v: &Value| v.as_str().expect("text").to_owned();
        labels.iter().map(|l| (text(&l["name"]), text(&l["outcome"]))).collect()
    };
    let all = |outcomes: &[(String, String)], what: &str| outcomes.iter().all(|(_, o)| o == what);
    let before = world.api("GET", "labels?per_page=100", None).await;
    let planned = outcomes(&world, &["repo", "sync-labels", "--dry-run"]).await;
    assert!(
        planned.iter().any(|(name, _)| name == "run:translate") && all(&planned, "created"),
        "{planned:?}"
    );
    assert_eq!(world.api("GET", "labels?per_page=100", None).await, before, "nothing was made");
    assert!(all(&outcomes(&world, &["repo", "sync-labels", REPOSITORY]).await, "created"));
    assert!(all(&outcomes(&world, &["repo", "sync-labels"]).await, "unchanged"));
    let made = world.api("GET", "labels?per_page=100", None).await;
    let dev = made.as_array().expect("labels").iter().find(|l| l["name"] == "run:dev").expect("run:dev");
    assert_eq!(dev["description"], "Implements an issue and opens a pull request.");
    world.api("PATCH", "labels/run:dev", Some(&json!({ "color": "ffffff" }))).await;
    let mended = outcomes(&world, &["repo", "sync-labels"]).await;
    let updated: Vec<_> = mended.iter().filter(|(_, o)| o == "updated").map(|(n, _)| n.as_str()).collect();
    assert_eq!(updated, ["run:dev"]);
    world.end().await;
}
