//! Webhooks: once, proven, and answered as documented.

use futures::future::join_all;
use serde_json::json;

use crate::harness::{PATIENCE, REPOSITORY, World, sign};

/// Also the harness's own secret.
const SECRET: &str = "a webhook secret of the tests";

fn labeled(world: &World, issue: u64, repository: &str) -> Vec<u8> {
    let url = format!("{}/{repository}/issues/{issue}", world.github.web_url());
    json!({
        "action": "labeled",
        "label": { "name": "run:dev" },
        "issue": { "number": issue, "title": "Say hello", "body": "Please.", "state": "open", "html_url": url, "user": { "login": "octocat" } },
        "repository": { "full_name": repository },
        "sender": { "login": "mona", "type": "User" },
    })
    .to_string()
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_delivery_fifty_times_at_once_is_one_run() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    let body = labeled(&world, issue, REPOSITORY);
    let signature = sign(SECRET, &body);
    let answers = join_all((0..50).map(|_| world.post("issues", "guid-1", &body, Some(&signature)))).await;
    let mut codes: Vec<u16> = answers.iter().map(|a| a.status().as_u16()).collect();
    codes.sort_unstable();
    assert_eq!(codes.iter().filter(|c| **c == 202).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|c| **c == 200).count(), 49, "{codes:?}");
    let run = world.run_of(issue).await;
    world.finished(&run.id).await;
    let runs = world
        .admin()
        .list_runs(proto::admin::ListRunsRequest::default())
        .await
        .expect("runs")
        .into_inner()
        .runs;
    assert_eq!(runs.len(), 1);
    assert_eq!(world.github.pull_requests(REPOSITORY).len(), 1);
    assert_eq!(world.comments(issue).len(), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_proven_changes_nothing() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    let body = labeled(&world, issue, REPOSITORY);
    let good = sign(SECRET, &body);
    let code = async |event: &str, guid: &str, body: &[u8], signature: Option<&str>| {
        world.post(event, guid, body, signature).await.status().as_u16()
    };
    assert_eq!(code("issues", "g1", &body, None).await, 401);
    assert_eq!(code("issues", "g2", &body, Some(&sign("another secret", &body))).await, 401);
    assert_eq!(code("issues", "g3", &body[..body.len() - 1], Some(&good)).await, 401, "truncated");
    assert_eq!(code("issues", "g4", b"not json", Some(&sign(SECRET, b"not json"))).await, 400);
    assert_eq!(announced(&world, 26_214_401).await, "HTTP/1.1 413 Payload Too Large");
    let nowhere = world.webhook().replace("hello-world", "nowhere");
    assert_eq!(world.post_to(&nowhere, "issues", "g6", &body, Some(&good)).await.status().as_u16(), 401);
    let ping =
        json!({ "zen": "Keep it logically awesome.", "repository": { "full_name": REPOSITORY } }).to_string();
    assert_eq!(code("ping", "g7", ping.as_bytes(), Some(&sign(SECRET, ping.as_bytes()))).await, 200);
    assert_eq!(stored(&world).await, 1, "only the ping was stored");
    assert!(world.comments(issue).is_empty());
    world.end().await;
}

/// The first line of the answer to a body that is only announced: too large is said at once.
async fn announced(world: &World, bytes: usize) -> String {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let mut stream = tokio::net::TcpStream::connect(world.platform().api()).await.expect("connected");
    let head = format!(
        "POST /webhooks/github/hello-world HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nx-github-event: issues\r\n\
         x-github-delivery: g5\r\nx-hub-signature-256: sha256=00\r\ncontent-length: {bytes}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.expect("an answer");
    line.trim().to_owned()
}

async fn stored(world: &World) -> i64 {
    use sqlx::Connection;
    let mut connection = sqlx::PgConnection::connect(&world.database.url).await.expect("connected");
    // Deliveries of the stand-in itself (issue opened) are left out.
    sqlx::query_scalar("select count(*) from deliveries where guid like 'g_'")
        .fetch_one(&mut connection)
        .await
        .expect("a number")
}

/// A correctly signed delivery that names another project's repository is stored as ignored.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_speaks_for_its_own_repository_only() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    let body = labeled(&world, issue, "octocat/secret-plans");
    assert_eq!(
        world.post("issues", "foreign", &body, Some(&sign(SECRET, &body))).await.status().as_u16(),
        202
    );
    let left = world.platform().control_plane().settled(PATIENCE).await.expect("Postgres answers");
    assert!(left.is_empty(), "{left:?}");
    let explained = world.explain("foreign").await;
    assert_eq!(explained[0].reason, "source_mismatch");
    assert_eq!(explained[0].outcome, "ignore");
    assert!(world.comments(issue).is_empty() && world.github.pull_requests(REPOSITORY).is_empty());
    world.end().await;
}
