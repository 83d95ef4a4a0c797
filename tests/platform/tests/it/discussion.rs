//! A discussion on an issue: one answer per comment, one session over all of them.

use serde_json::json;

use crate::harness::{REPOSITORY, World, filtered};

#[tokio::test(flavor = "multi_thread")]
async fn every_comment_gets_an_answer_and_the_agent_remembers_the_last() {
    let world = World::start().await;
    let steps = json!([
        { "recall": true }, { "remember": "we talked" }, { "write": { "path": "a.txt", "content": "a\n" } },
    ]);
    let issue = world.scripted_issue("What about greetings?", &steps);
    world.label(issue, "mode:discussion");
    let first = world.next_run(issue, &[]).await;
    let done = world.finished(&first.id).await;
    assert_eq!(done.run.expect("a run").state, "succeeded");
    assert!(done.events.iter().any(|e| e.kind == "changes_left_out"), "{:?}", done.events);
    let said = world.comments(issue);
    assert_eq!(said.len(), 1, "the answer, and no status beside it: {said:#?}");
    assert!(said[0].contains("I remember: nothing"), "{}", said[0]);
    filtered().bind(|| insta::assert_snapshot!("discussion_answer", said[0]));

    world.github.add_comment(REPOSITORY, issue, "mona", "And by name?").expect("a comment");
    let second = world.next_run(issue, &[&first.id]).await;
    let run = world.finished(&second.id).await.run.expect("a run");
    assert_eq!(run.state, "succeeded", "{}", run.message);
    let said = world.comments(issue);
    assert_eq!(said.len(), 3, "{said:#?}");
    assert!(said[2].contains("I remember: we talked"), "{}", said[2]);
    assert!(world.github.pull_requests(REPOSITORY).is_empty());

    // Where it goes wrong, people are told.
    world.scripted_comment(issue, "And then?", &json!([{ "exit": 3 }]));
    let third = world.next_run(issue, &[&first.id, &second.id]).await;
    let run = world.finished(&third.id).await.run.expect("a run");
    assert_eq!(run.state, "failed");
    let said = world.comments(issue);
    assert!(said.len() == 5 && said[4].contains("❌"), "{said:#?}");
    world.end().await;
}
