//! Setting repositories up by command: from nothing to a first run, again and again, with what
//! goes wrong on the way, and their secrets changed while deliveries come in.

use chrono::TimeDelta;
use domain::rights::Permission;
use proto::admin::RepositoryRequest;
use serde_json::{Value, json};
use webhook_simulator::Fault;

use crate::harness::{PATIENCE, REPOSITORY, Setup, World, filtered, merge, sign, story::free_address};

const FRESH: &str = "octocat/fresh";
const HOOK: &str = "/repos/{owner}/{repo}/hooks/{hook}";

/// A world whose platform knows its own address, and a repository nobody has set up.
async fn world(config: &Value) -> World {
    world_of(config, false).await
}

async fn world_of(config: &Value, app: bool) -> World {
    let mut all = json!({ "listen": { "api": free_address() } });
    merge(&mut all, config);
    let world = World::with(Setup { config: all, app, ..Setup::default() }).await;
    world.github.create_repository(FRESH, true, &[("README.md", "# Fresh\n")]).await.expect("a repository");
    world.github.set_permission(FRESH, "mona", Permission::Write).expect("a permission");
    world
}

/// What a command says and how it exits, as a person sees it.
async fn said(world: &World, words: &[&str]) -> String {
    let (code, out, err) = world.callboard(words).await;
    let err = if err.is_empty() { err } else { format!("-- stderr --\n{err}") };
    format!("$ callboard {}\n{out}{err}exit {code}\n", words.join(" "))
}

fn words() -> insta::Settings {
    // Before a port looks like a time.
    let mut first = insta::Settings::clone_current();
    first.add_filter(r"http://127\.0\.\d+\.\d+:\d+", "HOST");
    let mut settings = first.bind(filtered);
    settings.add_filter(r" +(\n|$)", "$1");
    // A column is as wide as the port is long.
    settings.add_filter(r"(WEBHOOK|HOST/webhooks/\S+) {2,}", "$1  ");
    settings
}

fn writes(world: &World) -> Vec<String> {
    let log = world.github.request_log();
    let writes = log.iter().filter(|r| r.method != "GET" && r.template.starts_with("/repos"));
    writes.map(|r| format!("{} {}", r.method, r.template)).collect()
}

async fn rows(world: &World) -> Vec<i64> {
    let mut rows = Vec::new();
    for table in ["repositories", "secrets", "policies", "events"] {
        let query = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
        rows.push(sqlx::query_scalar(query).fetch_one(&mut world.db().await).await.expect("a count"));
    }
    rows
}

/// The webhook's secret as the platform has it.
async fn secret(world: &World, repository: &str) -> String {
    let request = RepositoryRequest { repository: repository.to_owned() };
    world.admin().webhook_secret(request).await.expect("a secret").into_inner().secret
}

/// Somebody changes a webhook on the code host's pages.
async fn change_hook(world: &World, repository: &str, change: &Value) {
    let url = world.github.hooks(repository)[0]["url"].as_str().expect("an address").to_owned();
    let request = reqwest::Client::new().patch(url).bearer_auth(&world.token).json(change);
    assert!(request.send().await.expect("an answer").status().is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_added_from_nothing_to_its_first_run() {
    let world = world(&json!({ "projects": [{ "name": "demo" }] })).await;
    let (before, asked) = (rows(&world).await, writes(&world));
    let mut told = said(&world, &["repo", "add", FRESH, "--dry-run"]).await;
    assert_eq!(writes(&world), asked, "a plan changes nothing there");
    assert_eq!(rows(&world).await, before, "and nothing here");

    told += &said(&world, &["repo", "add", FRESH]).await;
    let hooks = world.github.hooks(FRESH);
    assert_eq!(hooks.len(), 1);
    assert_eq!(hooks[0]["last_response"]["code"], 200, "{}", hooks[0]);

    let asked = writes(&world).len();
    told += &said(&world, &["repo", "add", FRESH]).await;
    told += &said(&world, &["repo", "add", FRESH, "--dry-run"]).await;
    let again = writes(&world).split_off(asked);
    assert_eq!(again, [format!("POST {HOOK}/pings")], "the second time nothing but the test delivery");

    let issue = world.github.open_issue(FRESH, "octocat", "Say hello", "Please.").expect("an issue");
    world.github.add_label(FRESH, issue, "run:dev", "mona").expect("a label");
    let run = world.next_run(issue, &[]).await;
    let run = world.finished(&run.id).await.run.expect("the run");
    assert_eq!((run.state.as_str(), run.repository.as_str()), ("succeeded", FRESH));
    assert_eq!(world.github.pull_requests(FRESH).len(), 1);

    told += &said(&world, &["repo", "check", FRESH]).await;
    told += &said(&world, &["repo", "list"]).await;
    told += &said(&world, &["repo", "remove", FRESH]).await;
    told += &said(&world, &["repo", "remove", FRESH]).await;
    told += &said(&world, &["repo", "check", FRESH]).await;
    words().bind(|| insta::assert_snapshot!("from_nothing", told));
    let (code, steps, _) = world.callboard(&["repo", "add", FRESH, "-o", "json"]).await;
    let steps: Vec<Value> = serde_json::from_str(&steps).expect("a list");
    assert_eq!((code, steps.len()), (0, 5), "{steps:#?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_differs_is_mended_and_others_are_left_alone() {
    let world = world(&json!({})).await;
    // Somebody has made webhooks already: one of another tool, one for us with the wrong events.
    world.github.add_hook(FRESH, "http://127.0.0.1:9/elsewhere", "theirs").expect("a hook");
    let elsewhere = world.github.hooks(FRESH)[0].clone();
    let ours = world.webhook().replace("hello-world", "fresh");
    let url = elsewhere["url"].as_str().expect("an address").rsplit_once('/').expect("a path").0.to_owned();
    let by_hand = json!({ "name": "web", "active": false, "events": ["push"], "config": { "url": ours } });
    let made = reqwest::Client::new().post(url).bearer_auth(&world.token).json(&by_hand).send().await;
    assert!(made.expect("an answer").status().is_success());
    let mut told = said(&world, &["repo", "add", FRESH]).await;
    let hooks = world.github.hooks(FRESH);
    assert_eq!(hooks.len(), 2);
    assert_eq!(hooks[0]["config"], elsewhere["config"]);
    assert_eq!((&hooks[1]["active"], &hooks[1]["config"]["secret"]), (&json!(true), &json!("********")));
    assert_eq!(hooks[1]["events"].as_array().map(Vec::len), Some(6));

    // Of the configuration file: nothing of it is changed, and its webhook is mended all the same.
    told += &said(&world, &["repo", "add", REPOSITORY]).await;
    let changed = json!({ "config": { "url": world.webhook(), "secret": "changed by somebody" } });
    change_hook(&world, REPOSITORY, &changed).await;
    told += &said(&world, &["repo", "add", REPOSITORY]).await;
    told += &said(&world, &["repo", "check", REPOSITORY]).await;
    told += &said(&world, &["repo", "add", REPOSITORY, "--reset-secret"]).await;
    told += &said(&world, &["repo", "rotate-secret", REPOSITORY]).await;
    words().bind(|| insta::assert_snapshot!("mended", told));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_repository_from_being_set_up_is_said() {
    let world = world(&json!({})).await;
    let mut told = said(&world, &["repo", "add", "octocat/nowhere"]).await;
    told += &said(&world, &["repo", "add", FRESH, "--project", "nobodys"]).await;
    told += &said(&world, &["repo", "add", FRESH, "--source", "hello-world"]).await;
    told += &said(&world, &["repo", "add", FRESH, "--source", "app"]).await;
    told += &said(&world, &["repo", "add", "fresh"]).await;
    world.github.archive(FRESH).expect("archived");
    told += &said(&world, &["repo", "add", FRESH]).await;
    world.github.rename_repository(FRESH, "renamed", "octocat").expect("renamed");
    told += &said(&world, &["repo", "add", FRESH]).await;

    // A token that may write and does not administer: the webhook is made by hand.
    let theirs = "mona/theirs";
    world.github.create_repository(theirs, true, &[("README.md", "# Theirs\n")]).await.expect("made");
    world.github.set_permission(theirs, "octocat", Permission::Read).expect("a permission");
    told += &said(&world, &["repo", "add", theirs]).await;
    assert!(!told.contains("✓"), "nothing was made: {told}");
    world.github.set_permission(theirs, "octocat", Permission::Write).expect("a permission");
    let file = world.folder().join("theirs-secret");
    told += &said(&world, &["repo", "add", theirs, "--write-secret", file.to_str().expect("text")]).await;
    let secret = std::fs::read_to_string(&file).expect("written");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).expect("there").permissions());
    assert_eq!((secret.len(), mode & 0o777), (64, 0o600));
    assert!(!told.contains(&secret));
    let url = world.webhook().replace("hello-world", "theirs");
    let hook = world.github.add_hook(theirs, &url, &secret).expect("made by hand");
    world
        .until("the ping to be taken", |github| {
            github.deliveries(hook)[0].answer.as_ref().map(|answer| assert_eq!(answer.status_code, 200))
        })
        .await;
    told += &said(&world, &["repo", "check", theirs]).await;
    words().bind(|| insta::assert_snapshot!("refused", told));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_cannot_be_reached_is_said() {
    let world = world(&json!({ "public_url": "http://127.0.0.1:9" })).await;
    let mut told = said(&world, &["repo", "add", FRESH]).await;
    told += &said(&world, &["repo", "check", FRESH]).await;
    words().bind(|| insta::assert_snapshot!("unreachable", told));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_rotated_while_deliveries_are_under_way() {
    let world = world(&json!({})).await;
    let (code, out, err) = world.callboard(&["repo", "add", FRESH]).await;
    assert_eq!(code, 0, "{out}{err}");
    let url = world.webhook().replace("hello-world", "fresh");
    let body = json!({ "repository": { "full_name": FRESH }, "sender": { "login": "mona" } }).to_string();
    let taken = async |guid: &str, secret: &str| {
        let signature = sign(secret, body.as_bytes());
        let answer = world.post_to(&url, "star", guid, body.as_bytes(), Some(&signature)).await;
        answer.status().as_u16()
    };
    let old = secret(&world, FRESH).await;
    assert_eq!(taken("g1", &old).await, 202);

    // It is broken off where the webhook should get the new one: both are good, however long.
    world.github.fault(Fault::Refuse(500), &format!("PATCH {HOOK}"), 1);
    let mut told = said(&world, &["repo", "rotate-secret", FRESH]).await;
    let new = secret(&world, FRESH).await;
    assert_ne!(old, new);
    told += &said(&world, &["repo", "rotate-secret", FRESH, "--finish"]).await;
    let day = TimeDelta::hours(26);
    world.clock.advance(day);
    retention_ran(&world).await;
    assert_eq!((taken("g2", &old).await, taken("g3", &new).await), (202, 202));

    // Run again it goes on, and makes no third secret.
    told += &said(&world, &["repo", "rotate-secret", FRESH]).await;
    told += &said(&world, &["repo", "rotate-secret", FRESH]).await;
    assert_eq!(secret(&world, FRESH).await, new);
    assert_eq!((taken("g4", &old).await, taken("g5", &new).await), (202, 202));
    told += &said(&world, &["repo", "rotate-secret", FRESH, "--finish"]).await;
    told += &said(&world, &["repo", "rotate-secret", FRESH, "--finish"]).await;
    // The gateway learns of it with the next signature that it does not know.
    assert_eq!(taken("g6", "nobody's").await, 401);
    assert_eq!((taken("g7", &old).await, taken("g8", &new).await), (401, 202));

    // Nobody ends the next one: a day does.
    let (code, ..) = world.callboard(&["repo", "rotate-secret", FRESH]).await;
    assert_eq!(code, 0);
    world.clock.advance(day);
    retention_ran(&world).await;
    assert_eq!((taken("g9", "nobody's").await, taken("g10", &new).await), (401, 401));
    told += &said(&world, &["repo", "check", FRESH]).await;
    words().bind(|| insta::assert_snapshot!("rotated", told));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_needs_no_webhook_of_the_repository() {
    let world = world_of(&json!({}), true).await;
    let mut told = said(&world, &["repo", "add", FRESH]).await;
    world.github.add_to_installation(world.installed().installation, FRESH).expect("covered");
    told += &said(&world, &["repo", "add", FRESH, "--dry-run"]).await;
    told += &said(&world, &["repo", "add", FRESH]).await;
    told += &said(&world, &["repo", "add", FRESH]).await;
    assert!(world.github.hooks(FRESH).is_empty());
    told += &said(&world, &["repo", "rotate-secret", FRESH]).await;
    let issue = world.github.open_issue(FRESH, "octocat", "Say hello", "Please.").expect("an issue");
    world.github.add_label(FRESH, issue, "run:dev", "mona").expect("a label");
    let run = world.next_run(issue, &[]).await;
    let run = world.finished(&run.id).await.run.expect("the run");
    assert_eq!((run.state.as_str(), run.repository.as_str()), ("succeeded", FRESH));
    told += &said(&world, &["repo", "check", FRESH]).await;
    words().bind(|| insta::assert_snapshot!("by_an_app", told));
    world.end().await;
}

/// Waits until the hourly round has looked at everything on the clock as it is now.
async fn retention_ran(world: &World) {
    let now = domain::clock::Clock::now(&*world.clock);
    let mut db = world.db().await;
    let patience = tokio::time::Instant::now() + PATIENCE;
    loop {
        let ran: Option<bool> =
            sqlx::query_scalar("select ran_at >= $1 from retention where kind = 'objects'")
                .bind(now)
                .fetch_optional(&mut db)
                .await
                .expect("Postgres answers");
        if ran == Some(true) {
            return;
        }
        assert!(tokio::time::Instant::now() < patience, "retention never ran");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
