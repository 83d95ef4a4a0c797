//! What was kept long enough is really deleted, and said.

use std::time::Instant;

use chrono::TimeDelta;
use proto::admin::CheckRequest;
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::harness::{PATIENCE, World, filtered};

/// How many kinds of things the job deletes.
const KINDS: i64 = 9;

/// Files of the object store whose path has the text in it.
fn objects(world: &World, kind: &str) -> usize {
    fn count(folder: &std::path::Path, kind: &str) -> usize {
        let entries = std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path());
        entries
            .map(|p| {
                if p.is_dir() { count(&p, kind) } else { usize::from(p.display().to_string().contains(kind)) }
            })
            .sum()
    }
    count(&world.folder().join("data/objects"), kind)
}

/// The next round of the job, after the clock was moved.
async fn round(world: &World, connection: &mut PgConnection, by: TimeDelta) {
    world.clock.advance(by);
    let now = domain::clock::Clock::now(&*world.clock);
    let patience = Instant::now() + PATIENCE;
    loop {
        let kinds: i64 = sqlx::query_scalar("select count(*) from retention where ran_at >= $1")
            .bind(now)
            .fetch_one(&mut *connection)
            .await
            .expect("rounds");
        if kinds == KINDS {
            return;
        }
        assert!(Instant::now() < patience, "the job did not come by; {kinds} of {KINDS} kinds are done");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_deleted_and_what_is_needed_stays() {
    let world = World::start().await;
    let mut connection = PgConnection::connect(&world.database.url).await.expect("connected");
    let steps =
        json!([{ "print": "a word of the agent" }, { "write": { "path": "a.txt", "content": "a\n" } }]);
    let issue = world.scripted_issue("Over", &steps);
    world.label(issue, "run:dev");
    let over = world.run_of(issue).await.id;
    world.finished(&over).await;
    // Its changeset waits for a person, for as long as that takes.
    let steps =
        json!([{ "print": "held" }, { "write": { "path": ".github/workflows/x.yml", "content": "x\n" } }]);
    let issue = world.scripted_issue("Held", &steps);
    world.label(issue, "run:dev");
    let held = world.run_of(issue).await.id;
    world
        .until("the comment", |g| {
            g.comments(crate::harness::REPOSITORY, issue)
                .iter()
                .any(|c| c.body.contains("protected"))
                .then_some(())
        })
        .await;
    assert_eq!((objects(&world, "changesets"), objects(&world, "prompts")), (2, 2));

    round(&world, &mut connection, TimeDelta::days(31)).await;
    let log = world.follow(&over).await;
    assert_eq!(log.len(), 1, "{log:#?}");
    let mut settings = filtered();
    settings.add_filter(r"\d{4}-\d\d-\d\d", "DATE");
    settings.bind(|| insta::assert_snapshot!("deleted_transcript", log[0]));
    let run = world.get(&over).await;
    assert!(
        run.notes.iter().any(|n| n.starts_with("Its changeset and session were deleted on ")),
        "{:#?}",
        run.notes
    );
    assert_eq!(run.run.as_ref().expect("a run").state, "succeeded");
    assert!(!run.events.is_empty() && !run.prompt_digest.is_empty());
    let mut lines = world
        .admin()
        .logs(proto::admin::LogsRequest { run_id: held.clone(), follow: false })
        .await
        .expect("logs")
        .into_inner();
    let mut there = false;
    while let Some(line) = lines.message().await.expect("a line") {
        there |= line.text.contains("held");
    }
    assert!(there, "a run that is not over keeps its transcript");
    let old = domain::clock::Clock::now(&*world.clock) - TimeDelta::days(30);
    let bodies: Vec<bool> =
        sqlx::query_scalar("select octet_length(body) > 0 from deliveries where decided_at < $1")
            .bind(old)
            .fetch_all(&mut connection)
            .await
            .expect("bodies");
    assert!(!bodies.is_empty() && !bodies.contains(&true), "{bodies:?}");
    assert_eq!(objects(&world, "changesets"), 2, "a backup still finds it");

    // The same bytes are stored again meanwhile, so they are needed again.
    let again = world.retry(&over).await.expect("retried");
    world.finished(&again).await;
    round(&world, &mut connection, TimeDelta::days(2)).await;
    assert_eq!(objects(&world, "changesets"), 2);
    round(&world, &mut connection, TimeDelta::days(31)).await;
    round(&world, &mut connection, TimeDelta::days(2)).await;
    assert_eq!(objects(&world, "changesets"), 1, "the held one");
    assert_eq!(objects(&world, "prompts"), 3);
    round(&world, &mut connection, TimeDelta::days(61)).await;
    round(&world, &mut connection, TimeDelta::days(2)).await;
    assert_eq!((objects(&world, "changesets"), objects(&world, "prompts")), (1, 1));
    let run = world.get(&over).await;
    assert!(run.notes.iter().any(|n| n.starts_with("Its prompt was deleted on ")), "{:#?}", run.notes);
    assert!(run.notes.iter().any(|n| n.starts_with("Its effects were deleted")), "{:#?}", run.notes);
    assert!(!run.prompt_digest.is_empty(), "the digest stays");

    let check = world.admin().check(CheckRequest {}).await.expect("checked").into_inner();
    let line = check.findings.iter().find(|f| f.probe == "retention of transcripts").expect("a line");
    assert!(
        line.found.starts_with("kept 30 days; looked at ") && line.found.ends_with("2 in all"),
        "{line:#?}"
    );
    world.cancel(&held).await.expect("cancelled");
    world.finished(&held).await;
    world.end().await;
}
