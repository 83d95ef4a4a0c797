//! What is held: looked at, released by a person, or made again because the branch moved.

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::harness::{GO, REPOSITORY, Setup, World, filtered};

async fn held(world: &World, issue: u64) {
    let waits = |g: &webhook_simulator::Simulator| {
        let said = g.comments(REPOSITORY, issue);
        said.iter().any(|c| c.body.contains("held for a person")).then_some(())
    };
    world.until("it to be held", waits).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_shown_and_released_by_a_person() {
    let world = World::start().await;
    let steps = json!([
        { "write": { "path": "AGENTS.md", "content": "Be kind.\n" } },
        { "write": { "path": "bin/run.sh", "content": "#!/bin/sh\n", "executable": true } },
        { "summary": "Wrote a rule." },
    ]);
    let issue = world.scripted_issue("Add a rule", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    held(&world, issue).await;

    let detail = world.get(&run.id).await;
    assert!(detail.findings[0].contains("AGENTS.md"), "{:?}", detail.findings);
    let kept = detail.changeset.expect("it is kept");
    let files: Vec<_> =
        kept.files.iter().map(|f| (f.path.as_str(), f.change.as_str(), f.mode.as_str(), f.bytes)).collect();
    assert_eq!(files, [("AGENTS.md", "written", "100644", 9), ("bin/run.sh", "written", "100755", 10)]);

    let (code, listing, _) = world.callboard(&["run", "changeset", &run.id]).await;
    assert_eq!(code, 0, "{listing}");
    filtered().bind(|| insta::assert_snapshot!("changeset", listing.replace(&kept.digest, "DIGEST")));
    let (_, shown, _) = world.callboard(&["run", "get", &run.id]).await;
    assert!(shown.contains("file          written 100755 bin/run.sh"), "{shown}");

    let message = world.release(&run.id, "We agreed on @mona's rule").await.expect("released");
    assert!(message.starts_with("Released by uid:"), "{message}");
    let finished = world.finished(&run.id).await;
    assert_eq!(finished.run.expect("a run").state, "succeeded");
    let pull = world.github.pull_requests(REPOSITORY).pop().expect("a pull request");
    filtered().bind(|| {
        insta::assert_snapshot!("released_pull_request", pull.body);
        insta::assert_snapshot!("released_comment", world.comments(issue)[0]);
    });

    // Who, which publication, and which bytes: in the audit log and among the decisions.
    let mut database = PgConnection::connect(&world.database.url).await.expect("connected");
    let (actor, digest): (String, String) = sqlx::query_as(
        "select actor, detail ->> 'changeset' from events where action = 'publication.released'",
    )
    .fetch_one(&mut database)
    .await
    .expect("one row");
    assert!(actor.starts_with("uid:") && digest == kept.digest, "{actor} {digest}");
    let explained = world.explain(&format!("#{issue}")).await;
    assert!(explained.iter().any(|e| e.outcome == "release"), "{explained:?}");

    let (code, _, again) = world.callboard(&["run", "release", &run.id]).await;
    assert!(code == 1 && again.contains("nothing of it is held"), "{again}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_kept_and_never_released() {
    let world = World::start().await;
    let issue =
        world.scripted_issue("Escape", &json!([{ "symlink": { "path": "out", "target": "../../etc" } }]));
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let detail = world.finished(&run.id).await;
    assert_eq!(detail.publication_state, "refused");
    assert_eq!(detail.changeset.expect("it is kept").files[0].mode, "120000");
    let refused = world.release(&run.id, "").await.expect_err("refused");
    assert!(refused.contains("never published") && refused.contains("run retry"), "{refused}");
    world.end().await;
}

/// The agent waits, says "a", and is done.
fn waits_and_changes_the_readme() -> Value {
    json!([{ "wait_for_file": GO }, { "append": { "path": "README.md", "content": "a\n" } }, { "summary": "Said a." }])
}

async fn commit(world: &World, path: &str, content: &str) -> String {
    world.github.commit(REPOSITORY, "Somebody else's work", &[(path, content)]).await.expect("a commit")
}

/// Somebody else changed another file meanwhile: the pull request merges, so it is opened.
#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_moved_in_other_files_is_no_obstacle() {
    let world = World::start().await;
    let issue = world.scripted_issue("Say a", &waits_and_changes_the_readme());
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.until_waiting(&run.id, 1).await;
    commit(&world, "other.txt", "other\n").await;
    world.let_go(&run.id).await;
    let detail = world.finished(&run.id).await;
    assert_eq!((detail.run.expect("a run").state.as_str(), detail.attempts.len()), ("succeeded", 1));
    assert_eq!(world.github.pull_requests(REPOSITORY).len(), 1);
    world.end().await;
}

/// Somebody else changed the same file: nothing is published, and the next attempt works on
/// the new state and knows what the first one changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_moved_in_the_same_file_takes_a_new_attempt() {
    let world = World::start().await;
    let issue = world.scripted_issue("Say a", &waits_and_changes_the_readme());
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.until_waiting(&run.id, 1).await;
    let first = world.get(&run.id).await;
    let head = commit(&world, "README.md", "# Hello, all of you\n").await;
    world.let_go(&run.id).await;
    world.until_waiting(&run.id, 2).await;

    let second = world.get(&run.id).await;
    assert!(world.github.pull_requests(REPOSITORY).is_empty());
    assert_eq!(second.publication_state, "refused");
    assert_eq!(second.base_sha, head, "it is pinned anew");
    assert_ne!(second.prompt_digest, first.prompt_digest);
    let said = second.events.iter().filter(|e| e.kind == "queued").nth(1).expect("queued again");
    filtered().bind(|| insta::assert_snapshot!("head_moved_event", said.text));
    let mut database = PgConnection::connect(&world.database.url).await.expect("connected");
    let prompt: String = sqlx::query_scalar("select prompt_key from runs where run_id = $1::uuid")
        .bind(&run.id)
        .fetch_one(&mut database)
        .await
        .expect("the run");
    let prompt = std::fs::read_to_string(world.folder().join("data/objects").join(prompt)).expect("a prompt");
    let expected = format!("finished on commit {}", first.base_sha);
    assert!(prompt.contains(&expected) && prompt.contains("\n- `README.md`\n"), "{prompt}");
    // What the first one wrote is at hand, beside the clone of the new state.
    let attempt = &second.attempts.last().expect("the second").id;
    let workspace = world.folder().join("data/work").join(attempt);
    let read = |path: &str| std::fs::read_to_string(workspace.join("workspace").join(path)).expect("a file");
    assert_eq!(read("earlier/README.md"), "# Hello, world\na\n");
    assert!(read("repo/README.md").starts_with("# Hello, all of you\n"));

    world.let_go(&run.id).await;
    let detail = world.finished(&run.id).await;
    assert_eq!(detail.run.expect("a run").state, "succeeded");
    assert_eq!(detail.publication_state, "published");
    let pulls = world.github.pull_requests(REPOSITORY);
    assert_eq!(pulls.len(), 1);
    let diff = world.github.pull_request_diff(REPOSITORY, pulls[0].number).await.expect("a diff");
    assert!(diff.contains(" # Hello, all of you\n+a\n"), "{diff}");
    assert_eq!(world.comments(issue).len(), 1);
    world.end().await;
}

/// A checkpoint of the old state is of no use on the new one, and nobody says that it is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_moved_is_not_gone_on_from_at_the_old_state() {
    let config = json!({ "agents": { "checkpoint_seconds": 1 } });
    let world = World::with(Setup { config, ..Setup::default() }).await;
    let steps = json!([{ "append": { "path": "README.md", "content": "a\n" } }, { "wait_for_file": GO }]);
    let issue = world.scripted_issue("Say a", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.until_waiting(&run.id, 1).await;
    world.until_run(&run.id, "there is a checkpoint", |detail| detail.attempts[0].checkpoint.is_some()).await;
    let head = commit(&world, "README.md", "# Hello, all of you\n").await;
    world.let_go(&run.id).await;
    world.until_waiting(&run.id, 2).await;
    let second = world.get(&run.id).await;
    assert_eq!(second.base_sha, head);
    assert_eq!(second.attempts[1].restored_from, "");
    let note = &second.attempts[1].start_note;
    assert!(note.contains("works on the branch as it is now"), "{note}");
    world.let_go(&run.id).await;
    assert_eq!(world.finished(&run.id).await.run.expect("a run").state, "succeeded");
    world.end().await;
}

/// The second time a person is asked, who may have it published as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_moves_twice_is_a_question_to_a_person() {
    let world = World::start().await;
    let issue = world.scripted_issue("Say a", &waits_and_changes_the_readme());
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    for attempt in 1..=2 {
        world.until_waiting(&run.id, attempt).await;
        commit(&world, "README.md", &format!("# Hello {attempt}\n")).await;
        world.let_go(&run.id).await;
    }
    held(&world, issue).await;
    assert!(world.github.pull_requests(REPOSITORY).is_empty());
    filtered().bind(|| insta::assert_snapshot!("head_moved_twice", world.comments(issue)[0]));

    world.release(&run.id, "").await.expect("released");
    let detail = world.finished(&run.id).await;
    assert_eq!((detail.run.expect("a run").state.as_str(), detail.attempts.len()), ("succeeded", 2));
    let pull = world.github.pull_requests(REPOSITORY).pop().expect("a pull request");
    let (_, checked) = pull.body.split_once("### Checked").expect("what was checked");
    filtered().bind(|| insta::assert_snapshot!("released_although_the_head_moved", checked));
    world.end().await;
}
