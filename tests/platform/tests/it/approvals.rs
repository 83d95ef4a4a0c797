//! What becomes of a result: approved by whom, at which head, and merged. Labels follow the
//! records.

use domain::rights::Permission;
use serde_json::json;

use crate::harness::{REPOSITORY, World};

/// Waits until a label of the issue is as it should be.
async fn until_label(world: &World, issue: u64, label: &str) {
    world
        .until(label, |g| {
            let kept: Vec<String> =
                g.labels(REPOSITORY, issue).into_iter().filter(|l| l.starts_with("state:")).collect();
            (kept == [label]).then_some(())
        })
        .await;
}

async fn standing(world: &World) -> Vec<(String, String, String)> {
    let mut db = world.db().await;
    sqlx::query_as("select approved_by, by_right, head_sha from approvals where withdrawn_at is null")
        .fetch_all(&mut db)
        .await
        .expect("approvals")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_of_one_head_by_somebody_with_the_right() {
    let world = World::start().await;
    for login in ["maintainer", "stranger"] {
        world.github.add_user(login, false);
    }
    world.github.set_permission(REPOSITORY, "maintainer", Permission::Maintain).expect("a permission");
    let steps = json!([{ "write": { "path": "hello.txt", "content": "Hello\n" } }, { "summary": "Done." }]);
    let issue = world.scripted_issue("Say hello", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.finished(&run.id).await;
    let pull = world.github.pull_requests(REPOSITORY).remove(0);
    until_label(&world, issue, "state:in-review").await;

    // Who may only write code approves nothing, and hears nothing.
    world.github.review(REPOSITORY, pull.number, "mona", "approve", "Nice.", &[]).await.expect("a review");
    let approval = world
        .github
        .review(REPOSITORY, pull.number, "maintainer", "approve", "Nice.", &[])
        .await
        .expect("one");
    until_label(&world, issue, "state:approved").await;
    let approved = standing(&world).await;
    assert_eq!(approved.len(), 1);
    assert_eq!((approved[0].0.as_str(), approved[0].1.as_str()), ("maintainer", "maintain"));
    assert_eq!(approved[0].2, pull.head_sha, "{approved:?}");

    // Dismissed: it is taken back.
    world.github.dismiss_review(REPOSITORY, pull.number, approval, "octocat").expect("dismissed");
    until_label(&world, issue, "state:in-review").await;
    assert!(standing(&world).await.is_empty());

    // Approved again, and then somebody pushes: it was of another head.
    world.github.review(REPOSITORY, pull.number, "maintainer", "approve", "", &[]).await.expect("a review");
    until_label(&world, issue, "state:approved").await;
    let pushed = world
        .github
        .push_to_branch(REPOSITORY, &pull.head, "mona", "More", &[("more.txt", "More\n")])
        .await
        .expect("pushed");
    until_label(&world, issue, "state:in-review").await;
    assert!(standing(&world).await.is_empty());

    world.github.review(REPOSITORY, pull.number, "maintainer", "approve", "", &[]).await.expect("a review");
    until_label(&world, issue, "state:approved").await;
    assert_eq!(standing(&world).await[0].2, pushed);
    world.github.merge(REPOSITORY, pull.number, "maintainer").await.expect("merged");
    let mut db = world.db().await;
    world
        .until_run(&run.id, "the merge is recorded", |detail| {
            detail.events.iter().any(|e| e.text.contains("was merged by"))
        })
        .await;
    let merged: (bool, Option<String>) =
        sqlx::query_as("select merged, merged_by from publications").fetch_one(&mut db).await.expect("one");
    assert_eq!(merged, (true, Some("maintainer".to_owned())));
    until_label(&world, issue, "state:approved").await;
    let actions: Vec<String> =
        sqlx::query_scalar("select action from events where action like 'result.%' order by ordinal")
            .fetch_all(&mut db)
            .await
            .expect("events");
    assert_eq!(
        actions,
        [
            "result.approved",
            "result.approval_withdrawn",
            "result.approved",
            "result.approval_withdrawn",
            "result.approved",
            "result.merged",
        ]
    );
    let reasons: Vec<String> =
        world.explain(&format!("#{}", pull.number)).await.into_iter().map(|e| e.reason).collect();
    assert!(reasons.iter().any(|r| r == "no_approve_right"), "{reasons:?}");
    world.end().await;
}
