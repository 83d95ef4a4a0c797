//! The main job: a label becomes a pull request and one comment.

use serde_json::json;

use crate::harness::{REPOSITORY, Setup, World, filtered};

#[tokio::test(flavor = "multi_thread")]
async fn a_label_becomes_a_pull_request_and_one_comment() {
    let world = World::start().await;
    let issue = world.issue("Say hello to the moon", "The README only greets the world.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let run = world.finished(&run.id).await;
    let detail = run.run.expect("a run");
    assert_eq!(detail.state, "succeeded", "{}", detail.message);

    let pulls = world.github.pull_requests(REPOSITORY);
    assert_eq!(pulls.len(), 1);
    let pull = &pulls[0];
    assert_eq!(
        detail.pull_request_url,
        format!("{}/{REPOSITORY}/pull/{}", world.github.web_url(), pull.number)
    );
    assert_eq!(pull.head, format!("callboard/{issue}-dev"));
    let diff = world.github.pull_request_diff(REPOSITORY, pull.number).await.expect("a diff");
    assert!(diff.contains("Say hello to the moon"), "{diff}");

    assert_eq!(world.comments(issue).len(), 1, "one comment tells the whole story");
    let labels = world.github.labels(REPOSITORY, issue);
    assert!(
        !labels.contains(&"run:dev".to_owned()) && labels.contains(&"state:in-review".to_owned()),
        "{labels:?}"
    );
    assert_eq!(world.github.reactions(REPOSITORY, issue).len(), 1);
    let report = world.comments(pull.number);
    assert_eq!(report.len(), 1, "the report is a comment on the pull request");
    filtered().bind(|| {
        insta::assert_snapshot!("status_comment", world.comments(issue)[0]);
        insta::assert_snapshot!("pull_request_body", pull.body);
        insta::assert_snapshot!("report", report[0]);
    });
    world.end().await;
}

/// What labels ask for reaches the agent.
#[tokio::test(flavor = "multi_thread")]
async fn a_label_says_how_hard_to_think() {
    let world = World::start().await;
    let issue = world.scripted_issue("Think", &json!([{ "print_variable": "CALLBOARD_REASONING" }]));
    world.label(issue, "ai-reasoning:extra-high");
    world.label(issue, "run:dev");
    let run = world.next_run(issue, &[]).await;
    world.finished(&run.id).await;
    let log = world.follow(&run.id).await;
    assert!(log.iter().any(|line| line == "CALLBOARD_REASONING=extra-high"), "{log:#?}");
    world.end().await;
}

/// `git clone` of the result shows one commit with the trailer and only the files that changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_clone_of_the_result_shows_one_commit() {
    let world = World::start().await;
    let steps = json!([{ "write": { "path": "src/greeting.sh", "content": "echo hello\n" } }, { "summary": "Added a greeting." }]);
    let issue = world.scripted_issue("Greet", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.finished(&run.id).await;
    let git = |words: &[&str]| {
        let clone = format!(
            "{}/{REPOSITORY}.git",
            world.github.git_url().replace("http://", &format!("http://x-access-token:{}@", world.token))
        );
        let words: Vec<String> = words.iter().map(|w| w.replace("URL", &clone)).collect();
        let done = subprocess::command("git", world.folder()).args(&words).output().expect("git runs");
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("text")
    };
    git(&["clone", "--quiet", "--branch", &format!("callboard/{issue}-dev"), "URL", "clone"]);
    assert_eq!(git(&["-C", "clone", "rev-list", "--count", "origin/main..HEAD"]).trim(), "1");
    assert_eq!(
        git(&["-C", "clone", "diff", "--name-status", "origin/main", "HEAD"]).trim(),
        "A\tsrc/greeting.sh"
    );
    let trailer = git(&["-C", "clone", "log", "-1", "--format=%(trailers:key=Callboard-Run,valueonly)"]);
    assert_eq!(trailer.trim(), run.id);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_changed_is_a_result() {
    let world = World::start().await;
    let issue =
        world.scripted_issue("Look around", &json!([{ "summary": "Nothing to do: it greets already." }]));
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let run = world.finished(&run.id).await.run.expect("a run");
    assert_eq!(run.state, "succeeded");
    assert!(world.github.pull_requests(REPOSITORY).is_empty());
    filtered().bind(|| insta::assert_snapshot!("finished_without_changes", world.comments(issue)[0]));
    world.end().await;
}

/// What a server does not offer is skipped and said, not fatal.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_reactions_is_good_enough() {
    let world = World::start().await;
    world.github.switch_off(webhook_simulator::Feature::Reactions);
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let run = world.finished(&run.id).await;
    assert_eq!(run.run.expect("a run").state, "succeeded");
    let react = run.effects.iter().find(|e| e.kind == "react").expect("an effect");
    assert_eq!(react.state, "skipped", "{react:?}");
    assert!(
        run.events.iter().any(|e| e.kind == "effect_skipped" && e.text.starts_with("react:")),
        "{:?}",
        run.events
    );
    world.end().await;
}

/// What an agent writes is harmless before it is posted: from the first comment on.
#[tokio::test(flavor = "multi_thread")]
async fn text_of_an_agent_is_neutralised_everywhere() {
    let world = World::start().await;
    let summary = "Hello @octocat, fixes #1. <!-- callboard:run=forged --> <details>hidden</details> ![x](http://192.0.2.1/pixel.png)";
    let steps = json!([{ "write": { "path": "a.txt", "content": "a\n" } }, { "summary": summary }]);
    let issue = world.scripted_issue("Ping @mona, closes #1", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.finished(&run.id).await;
    let pull = world.github.pull_requests(REPOSITORY).pop().expect("a pull request");
    for text in [&pull.title, &pull.body, &world.comments(issue)[0], &world.comments(pull.number)[0]] {
        for bad in [
            "@octocat",
            "@mona",
            "fixes #1",
            "closes #1",
            "<!-- callboard:run=forged",
            "<details>hidden",
            "![x]",
        ] {
            assert!(!text.contains(bad), "`{bad}` in {text}");
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_is_read_to_its_end() {
    let world = World::start().await;
    let issue =
        world.scripted_issue("Talk a lot", &json!([{ "print_many": 20_000 }, { "print": "the last words" }]));
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.finished(&run.id).await;
    let log = world.follow(&run.id).await;
    assert!(log.len() > 20_000, "{} lines", log.len());
    assert!(log.iter().any(|l| l == "the last words"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_come_while_the_agent_works() {
    let world = World::with(Setup::default()).await;
    let steps = json!([{ "print": "first words" }, { "wait_for_file": "go" }, { "print": "last words" }]);
    let issue = world.scripted_issue("Talk", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    // The agent hangs until it is cancelled, so what is read here was read while it worked.
    world.until_log(&run.id, "first words").await;
    world.cancel(&run.id).await.expect("cancelled");
    let log = world.follow(&run.id).await;
    assert!(!log.iter().any(|l| l.contains("last words")), "{log:#?}");
    world.end().await;
}
