//! What comes late is decided as things are now: who closed or edited an issue meanwhile is not
//! overtaken, and nothing that came late is lost.

use chrono::TimeDelta;
use serde_json::{Value, json};
use webhook_simulator::{DeliveryFault, Simulator};

use crate::harness::{PATIENCE, REPOSITORY, SECRET, SOURCE, Setup, World, sign};

/// How often recovery looks.
const NEXT_LOOK: TimeDelta = TimeDelta::minutes(6);

/// What was decided about what `mona`, or nobody that is known, asked for on a thread: how it came,
/// and why it was decided so. Waits until there are so many.
async fn decided(world: &World, number: u64, many: usize) -> Vec<(String, String)> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found: Vec<(String, String)> = sqlx::query_as(
            "select l.provenance, d.reason from decisions d join deliveries l using (delivery_id)
             where d.issue_number = $1 and (d.subject like '%.labeled' or d.subject like 'issue_comment.%')
               and coalesce(d.actor, 'mona') = 'mona' order by d.decided_at",
        )
        .bind(i64::try_from(number).expect("a number"))
        .fetch_all(&mut world.db().await)
        .await
        .expect("decisions");
        if found.len() >= many {
            world.settled().await;
            return found;
        }
        assert!(
            tokio::time::Instant::now() < until,
            "{found:?}; left: {:?}",
            world.platform().control_plane().work_left().await
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn told(how: &str, reason: &str) -> (String, String) {
    (how.to_owned(), reason.to_owned())
}

async fn runs(world: &World) -> i64 {
    sqlx::query_scalar("select count(*) from runs").fetch_one(&mut world.db().await).await.expect("a number")
}

/// The label and the command are lost on their way, the end of the issue is not.
#[tokio::test(flavor = "multi_thread")]
async fn an_issue_that_was_closed_in_the_gap_starts_nothing() {
    for reachable in [true, false] {
        let world = World::start().await;
        let [labelled, commanded] = ["Say hello", "Say good day"].map(|title| world.issue(title, "Please."));
        world.settled().await;
        world.until_looked(0).await;
        world.github.fault_delivery(DeliveryFault::Drop, "issues", 1);
        world.github.fault_delivery(DeliveryFault::Drop, "issue_comment", 1);
        world.label(labelled, "run:dev");
        world.github.add_comment(REPOSITORY, commanded, "mona", "/callboard run dev").expect("a comment");
        world.settled().await;
        world.clock.advance(TimeDelta::seconds(2));
        for issue in [labelled, commanded] {
            world.github.close_issue(REPOSITORY, issue, "mona").expect("closed");
        }
        world.settled().await;
        world.github.unreachable(!reachable);
        world.clock.advance(NEXT_LOOK);

        let how = if reachable { "webhook" } else { "fetched" };
        assert_eq!(decided(&world, labelled, 1).await, [told(how, "issue_closed")]);
        assert_eq!(decided(&world, commanded, 1).await, [told(how, "issue_closed")]);
        assert_eq!(runs(&world).await, 0);
        world.github.unreachable(false);
        world.end().await;
    }
}

/// A pull request's label does not tell the text of its issue.
#[tokio::test(flavor = "multi_thread")]
async fn an_issue_that_was_edited_after_a_late_label_of_its_pull_request_starts_nothing() {
    let world = World::start().await;
    let issue = world.github.open_issue(REPOSITORY, "reader", "Greet", "Please.").expect("an issue");
    world.label(issue, "run:dev");
    let first = world.run_of(issue).await;
    world.finished(&first.id).await;
    let pull = world.github.pull_requests(REPOSITORY).pop().expect("a pull request").number;
    let late_label = || {
        world.clock.advance(TimeDelta::minutes(1));
        world.github.fault_delivery(DeliveryFault::Drop, "pull_request", 1);
        world.label(pull, "run:dev:revise");
    };

    world.settled().await;
    late_label();
    world.settled().await;
    world.clock.advance(NEXT_LOOK);
    let second = world.next_run(issue, &[&first.id]).await;
    world.finished(&second.id).await;
    world.settled().await;
    let looks = world.looks();
    world.clock.advance(NEXT_LOOK);
    world.until_looked(looks).await;

    late_label();
    world.settled().await;
    world.clock.advance(TimeDelta::seconds(2));
    world.github.edit_issue_body(REPOSITORY, issue, "reader", "Something else.").expect("edited");
    world.settled().await;
    world.clock.advance(NEXT_LOOK);
    assert_eq!(
        decided(&world, pull, 2).await,
        [told("webhook", "trigger_label"), told("webhook", "edited_since")]
    );
    assert_eq!(runs(&world).await, 2);
    world.end().await;
}

/// The history does not tell of a label that was just set; it is waited for. The label's delivery
/// counts even after it was said that nobody knows who set it.
#[tokio::test(flavor = "multi_thread")]
async fn a_label_whose_history_lags_is_not_lost() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    world.settled().await;
    world.api("PATCH", &format!("hooks/{}", world.hook), Some(&json!({ "active": false }))).await;
    world.clock.advance(NEXT_LOOK - TimeDelta::seconds(20));
    let histories = "GET /repos/{owner}/{repo}/issues/{number}/timeline";
    let looks = |g: &Simulator| g.request_counts().get(histories).copied().unwrap_or_default();
    let before = looks(&world.github);
    world.label(issue, "run:dev");
    let set_at = world.api("GET", &format!("issues/{issue}"), None).await["updated_at"].clone();
    world.github.forget_history(REPOSITORY, issue).expect("forgotten");
    world.clock.advance(TimeDelta::seconds(20));
    world.until("a look at the history", |g| (looks(g) > before).then_some(())).await;
    world.settled().await;
    assert_eq!(decided(&world, issue, 0).await, []);
    assert!(world.github.labels(REPOSITORY, issue).contains(&"run:dev".to_owned()));

    world.clock.advance(TimeDelta::minutes(2));
    assert_eq!(decided(&world, issue, 1).await, [told("reconciled", "setter_unknown")]);
    let late = delivery(&world, issue, &set_at);
    let answer = world.post("issues", "late", &late, Some(&sign(SECRET, &late))).await;
    assert_eq!(answer.status().as_u16(), 202);
    assert_eq!(
        decided(&world, issue, 2).await,
        [told("reconciled", "setter_unknown"), told("webhook", "trigger_label")]
    );
    assert_eq!(runs(&world).await, 1);
    world.end().await;
}

/// The delivery of a label, as GitHub made it.
fn delivery(world: &World, issue: u64, set_at: &Value) -> Vec<u8> {
    let page = format!("{}/{REPOSITORY}/issues/{issue}", world.github.web_url());
    let event = json!({
        "action": "labeled", "label": { "name": "run:dev" }, "sender": { "login": "mona", "type": "User" },
        "repository": { "full_name": REPOSITORY },
        "issue": { "number": issue, "title": "Say hello", "body": "Please.", "state": "open",
                   "user": { "login": "octocat" }, "html_url": page, "updated_at": set_at },
    });
    event.to_string().into_bytes()
}

/// The App's webhook leaves a label to the repository's own one, which fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_was_left_to_a_webhook_that_failed_is_not_lost() {
    let own = json!([{ "name": REPOSITORY, "source": SOURCE, "webhook_secret_file": "secret" }]);
    let config = json!({ "projects": [{ "name": "demo", "repositories": own }] });
    let world = World::with(Setup { app: true, config, ..Setup::default() }).await;
    let issue = world.issue("Say hello", "Please.");
    world.settled().await;
    world.label(issue, "run:dev");
    assert_eq!(decided(&world, issue, 1).await, [told("webhook", "own_hook")]);
    world.clock.advance(NEXT_LOOK);
    assert_eq!(
        decided(&world, issue, 2).await,
        [told("webhook", "own_hook"), told("reconciled", "trigger_label")]
    );
    assert_eq!(runs(&world).await, 1);
    world.end().await;
}
