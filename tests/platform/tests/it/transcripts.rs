//! What an attempt said: nothing secret in it, and the same before and after it is put away.

use chrono::TimeDelta;
use proto::admin::LogsRequest;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::harness::{GO, PATIENCE, REPOSITORY, World, filtered};

/// Every row of every table that has the text in it.
async fn rows_with(world: &World, text: &str) -> Vec<String> {
    let mut connection = PgConnection::connect(&world.database.url).await.expect("connected");
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables where table_schema = 'public'",
    )
    .fetch_all(&mut connection)
    .await
    .expect("tables");
    assert!(tables.len() > 10);
    let mut found = Vec::new();
    for table in tables {
        let query = format!("select t::text from \"{table}\" t where position($1 in t::text) > 0");
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(query))
            .bind(text)
            .fetch_all(&mut connection)
            .await
            .expect("rows");
        found.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
    }
    found
}

fn files_with(folder: &std::path::Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().is_dir() {
            found.extend(files_with(&entry.path(), text));
        } else if String::from_utf8_lossy(&std::fs::read(entry.path()).expect("read")).contains(text) {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

async fn until_compacted(world: &World) {
    let mut connection = PgConnection::connect(&world.database.url).await.expect("connected");
    let patience = std::time::Instant::now() + PATIENCE;
    loop {
        let left: i64 = sqlx::query_scalar(
            "select (select count(*) from transcript_chunks) + (select count(*) from attempts where transcript_key is null)",
        )
        .fetch_one(&mut connection)
        .await
        .expect("counted");
        if left == 0 {
            return;
        }
        assert!(std::time::Instant::now() < patience, "{left} are left");
    }
}

/// A token nobody told the platform about, and a private key, line by line.
#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_a_token_never_reaches_storage_or_github() {
    let world = World::start().await;
    let body = "a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXyZ";
    let token = format!("ghp_{body}");
    let key = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC";
    let steps = json!([
        { "print_joined": ["found ", "ghp_", body, " in a file"] },
        { "print_joined": ["-----BEGIN RSA PRIV", "ATE KEY-----\n", "MIIEvQIBADANBgkq", "hkiG9w0BAQEFAASC\n", "-----END RSA PRIV", "ATE KEY-----"] },
        { "print": "done" },
        { "write": { "path": "a.txt", "content": "a\n" } },
    ]);
    let issue = world.scripted_issue("Print a token", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let run = world.finished(&run.id).await;
    assert_eq!(run.run.as_ref().expect("a run").state, "succeeded");
    let id = run.run.expect("a run").id;
    let log = world.follow(&id).await;
    let said: Vec<_> = log.iter().skip_while(|line| !line.starts_with("found ")).take(5).cloned().collect();
    assert_eq!(
        said,
        [
            "found [censored] in a file",
            "-----BEGIN RSA PRIVATE KEY-----",
            "[censored]",
            "-----END RSA PRIVATE KEY-----",
            "done"
        ]
    );
    for secret in [token.as_str(), key] {
        assert_eq!(rows_with(&world, secret).await, [""; 0]);
        assert_eq!(files_with(&world.data().join("objects"), secret), [""; 0]);
    }
    world.clock.advance(TimeDelta::minutes(1));
    until_compacted(&world).await;
    assert_eq!(world.follow(&id).await, log, "the object says the same");
    let pull = world.github.pull_requests(REPOSITORY).pop().expect("a pull request");
    for text in [world.comments(issue), world.comments(pull.number), vec![pull.body]].concat() {
        assert!(!text.contains(&token) && !text.contains(key), "{text}");
    }
    world.end().await;
}

/// In a file it may be meant: a person decides.
#[tokio::test(flavor = "multi_thread")]
async fn a_changeset_with_something_like_a_token_is_held() {
    let world = World::start().await;
    // One we know ourselves and one that only gitleaks' rules know.
    let ocean = format!("dop_v1_{}", "0123456789abcdef".repeat(4));
    let content = format!("token = \"glpat-a1B2c3D4e5F6g7H8i9J0\"\nocean = \"{ocean}\"\n");
    let steps = json!([
        { "write": { "path": "config.toml", "content": content } },
        { "summary": format!("The key is {ocean}") },
    ]);
    let issue = world.scripted_issue("Configure", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let held = |g: &webhook_simulator::Simulator| {
        g.comments(REPOSITORY, issue).iter().any(|c| c.body.contains("held")).then_some(())
    };
    world.until("it to be held", held).await;
    filtered().bind(|| insta::assert_snapshot!("held_for_a_token", world.comments(issue)[0]));
    assert!(world.github.pull_requests(REPOSITORY).is_empty());
    // A person who lets it through is named with what was let through.
    world.release(&run.id, "an example").await.expect("released");
    world.finished(&run.id).await;
    let pull = world.github.pull_requests(REPOSITORY).pop().expect("a pull request");
    let checked = "released by `uid:0` (\"an example\"):\n  - `config.toml` contains what looks like";
    assert!(pull.body.contains(checked), "{}", pull.body);
    assert!(pull.body.contains("The key is [censored]"), "{}", pull.body);
    world.end().await;
}

/// A reader who is in the middle when the transcript is put away does not notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_transcript_is_the_same_before_and_after_it_is_compacted() {
    let world = World::start().await;
    let issue =
        world.scripted_issue("Talk a lot", &json!([{ "print_many": 20_000 }, { "print": "the last words" }]));
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.finished(&run.id).await;
    let before = world.follow(&run.id).await;
    let request = LogsRequest { run_id: run.id.clone(), follow: true };
    let mut reader = world.admin().logs(request).await.expect("logs").into_inner();
    let mut across = vec![reader.message().await.expect("a line").expect("a line").text];

    world.clock.advance(TimeDelta::minutes(1));
    until_compacted(&world).await;
    while let Some(line) = reader.message().await.expect("a line") {
        across.push(line.text);
    }
    assert_eq!(across.len(), before.len());
    assert_eq!(across, before, "in the middle");
    assert_eq!(world.follow(&run.id).await, before, "afterwards");
    let raw = before.iter().map(String::len).sum::<usize>();
    let kept: u64 = walk(&world.data().join("objects")).iter().sum();
    assert!(kept < raw as u64 / 2, "{kept} of {raw} bytes");
    world.end().await;
}

/// Sizes of the transcripts below a folder.
fn walk(folder: &std::path::Path) -> Vec<u64> {
    let mut sizes = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().is_dir() {
            sizes.extend(walk(&entry.path()));
        } else if folder.ends_with("transcripts") {
            sizes.push(entry.metadata().expect("its size").len());
        }
    }
    sizes
}

/// Whoever ends a run has it locked and wants its attempt: what the agent says locks the attempt, and
/// must not wait for the run then.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_says_is_stored_while_its_run_is_locked() {
    let world = World::start().await;
    let steps = json!([{ "print": "before" }, { "wait_for_file": GO }, { "print": "after" }]);
    let issue = world.scripted_issue("Talk", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.until_waiting(&run.id, 1).await;
    let mut db = world.db().await;
    let mut lock = db.begin().await.expect("a transaction");
    sqlx::query("select from runs where run_id = $1::uuid for update")
        .bind(&run.id)
        .execute(&mut *lock)
        .await
        .expect("locked");
    world.let_go(&run.id).await;
    world.until_log(&run.id, "after").await;
    lock.rollback().await.expect("let go");
    world.finished(&run.id).await;
    world.end().await;
}
