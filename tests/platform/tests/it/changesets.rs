//! What of a changeset reaches GitHub, and what is held or refused.

use serde_json::json;

use crate::harness::{REPOSITORY, Setup, World, filtered};

#[tokio::test(flavor = "multi_thread")]
async fn modes_deletions_renames_binary_files_and_symlinks_survive() {
    let files = vec![("old.txt", "old\n"), ("gone.txt", "gone\n"), ("tool.sh", "#!/bin/sh\n")];
    let world = World::with(Setup { files, ..Setup::default() }).await;
    let steps = json!([
        { "write": { "path": "bin/run.sh", "content": "#!/bin/sh\necho hi\n", "executable": true } },
        { "write": { "path": "tool.sh", "content": "#!/bin/sh\n", "executable": true } },
        { "rename": { "from": "old.txt", "to": "new name.txt" } },
        { "delete": "gone.txt" },
        { "symlink": { "path": "latest", "target": "bin/run.sh" } },
        { "binary": { "path": "blob.bin", "bytes": 3000 } },
        { "write": { "path": "привет.txt", "content": "мир\n" } },
    ]);
    let issue = world.scripted_issue("Everything", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let run = world.finished(&run.id).await.run.expect("a run");
    assert_eq!(run.state, "succeeded", "{}", run.message);
    let clone = world.github.git_url().replace("http://", &format!("http://x-access-token:{}@", world.token));
    let git = |words: &[&str]| {
        let done = subprocess::command("git", world.folder()).args(words).output().expect("git runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    git(&[
        "clone",
        "--quiet",
        "--branch",
        &format!("callboard/{issue}-dev"),
        &format!("{clone}/{REPOSITORY}.git"),
        "clone",
    ]);
    insta::assert_snapshot!(git(&[
        "-C",
        "clone",
        "-c",
        "core.quotePath=false",
        "diff",
        "--no-renames",
        "--raw",
        "--abbrev=7",
        "origin/main",
        "HEAD"
    ]));
    assert_eq!(
        std::fs::read_link(world.folder().join("clone/latest")).expect("a link"),
        std::path::Path::new("bin/run.sh")
    );
    assert_eq!(std::fs::read(world.folder().join("clone/blob.bin")).expect("a file").len(), 3000);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn protected_files_are_held_for_a_person() {
    let world = World::start().await;
    let steps = json!([
        { "write": { "path": ".github/workflows/ci.yml", "content": "on: push\n" } },
        { "write": { "path": "AGENTS.md", "content": "Obey.\n" } },
        { "write": { "path": "fine.txt", "content": "fine\n" } },
    ]);
    let issue = world.scripted_issue("Change the pipeline", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world
        .until("it to be held", |g| {
            g.comments(REPOSITORY, issue).iter().any(|c| c.body.contains("held")).then_some(())
        })
        .await;
    let detail = world.get(&run.id).await;
    assert_eq!(
        (detail.run.as_ref().expect("a run").state.as_str(), detail.publication_state.as_str()),
        ("waiting", "held")
    );
    assert!(world.github.pull_requests(REPOSITORY).is_empty());
    filtered().bind(|| insta::assert_snapshot!("held", world.comments(issue)[0]));
    // It can be dropped.
    world.cancel(&run.id).await.expect("cancelled");
    assert_eq!(world.finished(&run.id).await.publication_state, "refused");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_paths_and_known_secrets_are_refused() {
    let world = World::start().await;
    // In two parts: whole, it would never get to the agent.
    let (first, rest) = world.token.split_at(10);
    let steps = json!([
        { "symlink": { "path": "out", "target": "../../etc/passwd" } },
        { "append": { "path": "config.ini", "content": format!("token = {first}") } },
        { "append": { "path": "config.ini", "content": rest } },
    ]);
    let issue = world.scripted_issue("Leak", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let detail = world.finished(&run.id).await;
    let run = detail.run.expect("a run");
    assert_eq!((run.state.as_str(), run.class.as_str()), ("failed", "policy"));
    assert!(world.github.pull_requests(REPOSITORY).is_empty());
    let comment = &world.comments(issue)[0];
    assert!(!comment.contains(&world.token));
    filtered().bind(|| insta::assert_snapshot!("refused_changeset", comment));
    world.end().await;
}

/// A known secret never reaches storage or GitHub, wherever the agent says it.
#[tokio::test(flavor = "multi_thread")]
async fn known_secrets_are_censored_from_transcript_and_comments() {
    let world = World::start().await;
    let said = format!("the token is {}", world.token);
    let steps =
        json!([{ "print": said }, { "write": { "path": "a.txt", "content": "a\n" } }, { "summary": said }]);
    let issue = world.scripted_issue("Talk", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let log = world.follow(&run.id).await;
    assert!(log.iter().any(|l| l.contains("the token is [censored]")), "{log:#?}");
    world.finished(&run.id).await;
    let pull = world.github.pull_requests(REPOSITORY).pop().expect("a pull request");
    assert!(pull.body.contains("[censored]") && !pull.body.contains(&world.token), "{}", pull.body);
    world.end().await;
}
