//! A pull request is reviewed by an agent: findings become one review, and nothing else.

use serde_json::json;
use webhook_simulator::ReviewState;

use crate::harness::{REPOSITORY, World, filtered};

#[tokio::test(flavor = "multi_thread")]
async fn findings_become_remarks_on_lines_and_one_summary() {
    let world = World::start().await;
    let steps = json!([{ "write": { "path": "greeting.txt", "content": "helo\nworld\n" } }]);
    let issue = world.scripted_issue("Greet", &steps);
    world.label(issue, "run:dev");
    let first = world.run_of(issue).await;
    world.finished(&first.id).await;
    let pull = world.github.pull_requests(REPOSITORY).pop().expect("a pull request");
    let (before, reports) = (world.file(&pull.head, "greeting.txt"), world.comments(pull.number).len());

    let findings = json!({ "summary": "One typo, @mona.", "findings": [
        { "path": "README.md", "line": 1, "severity": "minor", "body": "Says nothing of greetings." },
        { "path": "greeting.txt", "line": 1, "severity": "blocking", "body": "`helo` is a typo. Closes #1" },
    ] });
    let steps =
        json!([{ "findings": findings }, { "write": { "path": "greeting.txt", "content": "hello\n" } }]);
    world.scripted_comment(pull.number, "Have a look.", &steps);
    world.label(pull.number, "need:reviewer");
    let second = world.next_run(issue, &[&first.id]).await;
    let done = world.finished(&second.id).await;
    let run = done.run.expect("a run");
    assert_eq!(run.state, "succeeded", "{}", run.message);

    let reviews = world.github.reviews(REPOSITORY, pull.number);
    assert_eq!(reviews.len(), 1);
    assert_eq!((reviews[0].author.as_str(), reviews[0].state), ("octocat", ReviewState::Commented));
    let remarks: Vec<_> =
        reviews[0].remarks.iter().map(|r| (r.path.as_str(), r.line, r.body.contains("typo"))).collect();
    assert_eq!(remarks, [("greeting.txt", Some(1), true)]);
    for text in [&reviews[0].body, &reviews[0].remarks[0].body] {
        assert!(!text.contains("@mona") && !text.contains("Closes #1"), "{text}");
    }
    assert!(reviews[0].body.contains("README.md:1"), "{}", reviews[0].body);
    assert!(!world.github.labels(REPOSITORY, pull.number).contains(&"need:reviewer".to_owned()));
    assert!(done.events.iter().any(|e| e.kind == "changes_left_out"), "{:?}", done.events);
    assert_eq!(world.file(&pull.head, "greeting.txt"), before, "a review changes nothing");
    assert_eq!(world.comments(pull.number).len(), reports + 2, "the comment that asked, and one of the run");
    filtered().bind(|| {
        insta::assert_snapshot!("review_body", reviews[0].body);
        insta::assert_snapshot!("review_status_comment", world.comments(pull.number)[reports + 1]);
    });

    // Findings that do not read are said to, and kept as text.
    world.scripted_comment(pull.number, "Again.", &json!([{ "findings": "It is all good." }]));
    world.label(pull.number, "need:reviewer");
    let third = world.next_run(issue, &[&first.id, &second.id]).await;
    let done = world.finished(&third.id).await;
    assert_eq!(done.run.expect("a run").state, "succeeded");
    let review = world.github.reviews(REPOSITORY, pull.number).pop().expect("a review");
    assert!(
        review.body.contains("do not read") && review.body.contains("It is all good."),
        "{}",
        review.body
    );
    world.end().await;
}
