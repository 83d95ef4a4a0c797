//! The real Codex CLI in the sandbox, against a scripted model that only the agent gateway
//! can reach.

use scripted_model::{Script, ScriptedModel};
use serde_json::json;

use crate::harness::{REPOSITORY, Setup, World};

#[tokio::test(flavor = "multi_thread")]
async fn the_codex_cli_edits_files_through_the_gateway() {
    let Some(binary) = std::env::var_os("CALLBOARD_TEST_CODEX") else {
        eprintln!("not run: CALLBOARD_TEST_CODEX is not set; `cargo xtask test` sets it");
        return;
    };
    let script = json!({ "steps": [
        { "shell": "printf 'hello from codex\\n' > hello.txt && env | cut -d= -f1 | sort > names.txt" },
        { "text": "Wrote hello.txt." },
    ] });
    let script = Script::from_json(&script.to_string()).expect("a script");
    let key = "sk-the-model-key-of-the-tests";
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into(), script, Some(key.to_owned()))
        .await
        .expect("the model starts");
    let keys = crate::harness::folder();
    let key_file = keys.path().join("model-key");
    std::fs::write(&key_file, key).expect("written");
    let config = json!({
        "agents": { "default": "codex", "codex": { "binary": binary.to_string_lossy(), "model": "scripted" } },
        "models": [{ "name": "scripted", "backend": "openai", "base_url": model.base_url(), "api_key_file": key_file }],
    });
    let world = World::with(Setup { config, ..Setup::default() }).await;
    let issue = world.issue("Write a greeting", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let log = world.follow(&run.id).await;
    let run = world.finished(&run.id).await;
    assert_eq!(run.run.as_ref().expect("a run").state, "succeeded", "{:?} {log:#?}", run.run);
    let pull = world.github.pull_requests(REPOSITORY).pop().expect("a pull request");
    assert!(pull.body.contains("Wrote hello.txt"), "{}", pull.body);
    let diff = world.github.pull_request_diff(REPOSITORY, pull.number).await.expect("a diff");
    assert!(diff.contains("+hello from codex"), "{diff}");
    let requests = model.requests();
    assert!(requests.iter().filter(|r| r.method == "POST").all(|r| r.authorized), "the gateway adds the key");
    assert!(requests.iter().any(|r| r.method == "POST"));
    model.shutdown().await;
    world.end().await;
}
