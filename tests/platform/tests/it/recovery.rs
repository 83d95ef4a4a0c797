//! No label is lost: what happens at GitHub while nobody listens is made up for, each label once,
//! and the gap is reported.

use chrono::{DateTime, TimeDelta, Utc};
use domain::clock::Clock;
use serde_json::{Value, json};
use webhook_simulator::Simulator;

use crate::harness::{
    Database, PATIENCE, Plan, REPOSITORY, SECRET, Server, Setup, Site, World, filtered, sign,
    story::free_address,
};

/// A world whose webhook keeps its address when the platform is started again.
async fn world(app: bool) -> World {
    World::with(Setup { config: json!({ "listen": { "api": free_address() } }), app, ..Setup::default() })
        .await
}

/// The findings of `callboard check` about what was missed.
async fn checked(world: &World) -> String {
    let (_, out, err) = world.callboard(&["check", "-o", "json"]).await;
    let all: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    let all = all.as_array().unwrap_or_else(|| panic!("{all:#}"));
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let ours = all.iter().filter(|f| {
        let probe = text(f, "probe");
        probe.starts_with("missed deliveries") || probe.starts_with("gap of")
    });
    ours.map(|f| format!("{}: {}\n  {}\n", text(f, "probe"), text(f, "found"), text(f, "next_step")))
        .collect()
}

/// The sentences about gaps in the log of events.
async fn reported(world: &World) -> Vec<String> {
    let (code, out, err) = world.callboard(&["audit", "export"]).await;
    assert_eq!(code, 0, "{err}");
    let events = out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let gaps = events.filter(|event| event["action"] == "deliveries.gap_closed");
    gaps.map(|event| event["text"].as_str().expect("a sentence").to_owned()).collect()
}

/// Waits until so many gaps are reported, and gives their sentences.
async fn until_reported(world: &World, gaps: usize) -> Vec<String> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let said = reported(world).await;
        if said.len() >= gaps {
            return said;
        }
        assert!(tokio::time::Instant::now() < until, "{said:?}; {}", checked(world).await);
    }
}

/// Waits until recovery has looked since then, and nothing that it found is under way.
async fn until_caught_up(world: &World, since: DateTime<Utc>) {
    let until = tokio::time::Instant::now() + PATIENCE;
    let caught_up = "select exists (select from recovery_hooks where looked_to >= $1)
        and not exists (select from missed_deliveries where recovered_at is null and given_up_at is null)";
    let mut db = world.db().await;
    while !sqlx::query_scalar::<_, bool>(caught_up).bind(since).fetch_one(&mut db).await.expect("an answer") {
        assert!(tokio::time::Instant::now() < until, "{}", checked(world).await);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// What was decided about labels of an issue, with how it came to us, oldest first.
async fn decisions(world: &World, issue: u64) -> Vec<(String, String)> {
    sqlx::query_as(
        "select l.provenance, d.reason from decisions d join deliveries l using (delivery_id)
         where d.issue_number = $1 and d.subject like '%.labeled' and d.reason <> 'own_effect' order by d.decided_at",
    )
    .bind(i64::try_from(issue).expect("a number"))
    .fetch_all(&mut world.db().await)
    .await
    .expect("decisions")
}

fn told(how: &str, reason: &str) -> (String, String) {
    (how.to_owned(), reason.to_owned())
}

/// Ten minutes without the platform: a label by somebody who may, one by somebody who may not, and
/// one that is taken off again.
async fn ten_minutes_away(reachable: bool, app: bool) {
    let mut world = world(app).await;
    let [wanted, refused, moved] =
        ["Say hello", "Let me", "Twice"].map(|title| world.issue(title, "Please."));
    world.settled().await;
    world.down().await;
    world.label(wanted, "run:dev");
    world.label_by(refused, "run:dev", "reader");
    world.clock.advance(TimeDelta::minutes(7));
    world.label(moved, "run:plan");
    world.github.remove_label(REPOSITORY, moved, "run:plan", "mona").expect("taken off");
    world.delivered().await;
    world.clock.advance(TimeDelta::minutes(3));
    world.github.unreachable(!reachable);
    let since = world.clock.now();
    world.up().await;
    if app {
        // GitHub may not have listed yet at the first look what it had just tried.
        until_caught_up(&world, since).await;
        world.clock.advance(TimeDelta::minutes(6));
    }

    let runs = [world.run_of(wanted).await, world.run_of(moved).await];
    for run in &runs {
        world.finished(&run.id).await;
    }
    let said = until_reported(&world, 1).await;
    let how = if reachable { "webhook" } else { "fetched" };
    assert_eq!(decisions(&world, wanted).await, [told(how, "trigger_label")]);
    assert_eq!(decisions(&world, moved).await, [told(how, "trigger_label")]);
    assert_eq!(decisions(&world, refused).await, [told(how, "no_write_permission")]);
    let comments = |issue| world.github.comments(REPOSITORY, issue).len();
    assert_eq!((comments(wanted), comments(refused), comments(moved)), (1, 1, 1));
    assert_eq!(world.github.pull_requests(REPOSITORY).len(), 2);
    assert!(said[0].starts_with("gap ") && said[0].contains('–'), "{said:?}");
    if reachable {
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].ends_with(", 4 deliveries recovered"), "{said:?}");
    } else {
        // What our own effects caused meanwhile could not be handed over either.
        assert!(said[0].ends_with("deliveries recovered"), "{said:?}");
    }
    let check = checked(&world).await;
    assert!(check.contains(&said[0]), "{check}");
    world.github.unreachable(false);
    let (_, explained, _) = world.callboard(&["explain", &format!("#{wanted}")]).await;
    assert!(explained.contains("trigger_label"), "{explained}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_minutes_without_the_platform_are_made_up_for() {
    ten_minutes_away(true, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_again_is_fetched() {
    ten_minutes_away(false, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_asks_for_the_deliveries_of_its_own_webhook() {
    ten_minutes_away(true, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_to_an_app_is_fetched() {
    ten_minutes_away(false, true).await;
}

/// The webhook is gone, so no delivery is ever made: the histories of the issues tell.
#[tokio::test(flavor = "multi_thread")]
async fn labels_that_no_delivery_told_of_are_decided_once() {
    let world = world(false).await;
    let [wanted, refused, young] =
        ["Say hello", "Let me", "At last"].map(|title| world.issue(title, "Please."));
    let edited = world.github.open_issue(REPOSITORY, "reader", "Mine", "Say hello.").expect("an issue");
    world.delivered().await;
    world.api("PATCH", &format!("hooks/{}", world.hook), Some(&json!({ "active": false }))).await;
    world.label(wanted, "run:dev");
    world.label_by(refused, "run:dev", "reader");
    world.label(edited, "run:dev");
    world.clock.advance(TimeDelta::minutes(2));
    world.github.edit_issue_body(REPOSITORY, edited, "reader", "Say something else.").expect("edited");
    world.clock.advance(TimeDelta::minutes(4));

    let run = world.run_of(wanted).await;
    world.finished(&run.id).await;
    let said = until_reported(&world, 1).await;
    assert_eq!(decisions(&world, wanted).await, [told("reconciled", "trigger_label")]);
    assert_eq!(decisions(&world, refused).await, [told("reconciled", "no_write_permission")]);
    assert_eq!(decisions(&world, edited).await, [told("reconciled", "edited_since")]);
    assert_eq!(world.github.pull_requests(REPOSITORY).len(), 1);
    assert!(said[0].ends_with(", 3 labels reconciled"), "{said:?}");
    let comment = world.github.comments(REPOSITORY, edited).pop().expect("a word").body;
    filtered().bind(|| insta::assert_snapshot!("edited_since", comment));

    // It is looked again, and nothing is decided twice, not even when a delivery comes after all.
    world.label(young, "run:plan");
    world.clock.advance(TimeDelta::minutes(6));
    let run = world.run_of(young).await;
    world.finished(&run.id).await;
    until_reported(&world, 2).await;
    let late = json!({
        "action": "labeled", "label": { "name": "run:dev" }, "sender": { "login": "mona", "type": "User" },
        "repository": { "full_name": REPOSITORY },
        "issue": { "number": wanted, "title": "t", "state": "open", "user": { "login": "octocat" }, "html_url": "http://x",
                   "updated_at": set_at(&world, wanted).await },
    });
    let body = late.to_string().into_bytes();
    let answer = world.post("issues", "late", &body, Some(&sign(SECRET, &body))).await;
    assert_eq!(answer.status().as_u16(), 202);
    world.settled().await;
    assert_eq!(
        decisions(&world, wanted).await,
        [told("reconciled", "trigger_label"), told("webhook", "decided_before")]
    );
    world.end().await;
}

/// The token's owner may write and not see webhooks, so nobody tells what was sent: the histories
/// of the issues do.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_not_see_webhooks_loses_no_label() {
    let config = json!({ "listen": { "api": free_address() } });
    let mut world = World::with(Setup { config, token_of: Some("mona"), ..Setup::default() }).await;
    let [by_the_owner, by_another] = ["Say hello", "Say more"].map(|title| world.issue(title, "Please."));
    world.settled().await;
    world.down().await;
    world.label_by(by_the_owner, "run:dev", "mona");
    world.label_by(by_another, "run:plan", "octocat");
    world.delivered().await;
    world.clock.advance(TimeDelta::minutes(10));
    world.up().await;

    for issue in [by_the_owner, by_another] {
        let run = world.run_of(issue).await;
        world.finished(&run.id).await;
        assert_eq!(decisions(&world, issue).await, [told("reconciled", "trigger_label")]);
    }
    let said = until_reported(&world, 1).await;
    assert!(said[0].ends_with(", 2 labels reconciled"), "{said:?}");
    let check = checked(&world).await;
    assert!(check.contains("may not see the repository's webhook"), "{check}");
    world.end().await;
}

/// Nobody can tell who set a label or when: that is said once, and it is taken off.
#[tokio::test(flavor = "multi_thread")]
async fn a_label_without_a_history_is_explained_once() {
    let mut world = world(false).await;
    let [nameless, wanted] = ["Say hello", "Say more"].map(|title| world.issue(title, "Please."));
    world.settled().await;
    world.api("PATCH", &format!("hooks/{}", world.hook), Some(&json!({ "active": false }))).await;
    world.label(nameless, "run:dev");
    world.github.forget_history(REPOSITORY, nameless).expect("forgotten");
    world.clock.advance(TimeDelta::minutes(6));
    let explained = |g: &Simulator| {
        let taken_off = g.labels(REPOSITORY, nameless).iter().all(|label| label != "run:dev");
        (taken_off && !g.comments(REPOSITORY, nameless).is_empty()).then_some(())
    };
    world.until("an explanation", explained).await;
    world.settled().await;
    let comment = world.github.comments(REPOSITORY, nameless).pop().expect("a word").body;
    filtered().bind(|| insta::assert_snapshot!("setter_unknown", comment));

    // The run of another label tells that everything was looked at once more.
    world.down().await;
    world.label(wanted, "run:dev");
    world.clock.advance(TimeDelta::minutes(10));
    world.up().await;
    let run = world.run_of(wanted).await;
    world.finished(&run.id).await;
    until_reported(&world, 1).await;
    assert_eq!(decisions(&world, nameless).await, [told("reconciled", "setter_unknown")]);
    assert_eq!(world.github.comments(REPOSITORY, nameless).len(), 1);
    world.end().await;
}

/// The database is lost, and a backup of before is restored: what was delivered since is in GitHub's
/// list, though everything was answered.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_after_the_backup_is_asked_for_again() {
    let mut world = world(false).await;
    let [wanted, refused] = ["Say hello", "Let me"].map(|title| world.issue(title, "Please."));
    world.settled().await;
    let (backup, url) = (world.folder().join("dump"), world.database.url.clone());
    let perform = |program: &str, arguments: &[&str]| {
        let mut command = subprocess::command(program, world.folder());
        let done = command.args(arguments).output().expect("it runs");
        assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let backup = backup.to_str().expect("text");
    perform("pg_dump", &["--format=custom", "--file", backup, &url]);
    world.pause("", "the story").await.expect("paused");
    world.label(wanted, "run:dev");
    world.label_by(refused, "run:dev", "reader");
    for issue in [wanted, refused] {
        let said = |g: &Simulator| (!g.comments(REPOSITORY, issue).is_empty()).then_some(());
        world.until("a word", said).await;
    }
    world.delivered().await;

    let restored = Database::empty();
    perform("pg_restore", &["--no-owner", "--exit-on-error", "--dbname", &restored.url, backup]);
    world.down().await;
    let path = world.folder().join("callboard.yaml");
    let config = std::fs::read_to_string(&path).expect("read");
    std::fs::write(&path, config.replace(&url, &restored.url)).expect("written");
    world.database = restored;
    world.clock.advance(TimeDelta::minutes(10));
    world.up().await;
    let said = until_reported(&world, 1).await;
    assert!(said[0].ends_with(" deliveries recovered"), "{said:?}");
    let run = world.next_run(wanted, &[]).await;
    world.finished(&run.id).await;
    assert_eq!(decisions(&world, wanted).await, [told("webhook", "trigger_label")]);
    assert_eq!(decisions(&world, refused).await, [told("webhook", "no_write_permission")]);
    // The platform that is gone said it too.
    assert_eq!(world.github.comments(REPOSITORY, refused).len(), 2);
    assert_eq!(world.github.pull_requests(REPOSITORY).len(), 1);
    world.end().await;
}

/// Two platforms come up at the same time after both were away: one of them makes up for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_control_planes_make_up_for_each_label_once() {
    let server = Server::start(false);
    let site = Site::start(&server.database(), &Plan { platforms: 2, ..Plan::default() }).await;
    site.ready().await;
    let sent = ["Say hello", "Say more"].map(|title| site.issue(title, None));
    let unsaid = site.issue("Never told of", None);
    site.settled().await;
    site.change_hook(false, &site.webhook()).await;
    site.set_a_while_ago(unsaid, "run:dev").await;
    site.change_hook(true, Site::NOWHERE).await;
    for issue in sent {
        site.label(issue, "run:dev");
        site.until_a_delivery_failed().await;
    }
    site.change_hook(true, &site.webhook()).await;
    for platform in &site.platforms {
        platform.kill();
    }
    site.until("the gap to be reported", async || {
        let said = "select exists (select from events where action = 'deliveries.gap_closed')";
        sqlx::query_scalar(said).fetch_one(&site.db).await.unwrap_or(false).then_some(())
    })
    .await;
    for issue in [sent[0], sent[1], unsaid] {
        site.run_of(issue).await;
    }
    site.settled().await;
    assert_eq!(site.runs().await, 3);
    let asked = "POST /repos/{owner}/{repo}/hooks/{hook}/deliveries/{delivery}/attempts";
    let missed: i64 = sqlx::query_scalar("select count(*) from missed_deliveries")
        .fetch_one(&site.db)
        .await
        .expect("a number");
    let counts = site.github.request_counts();
    assert_eq!(counts.get(asked).copied(), usize::try_from(missed).ok(), "{counts:#?}");
    let told: Vec<(i64, i64)> = sqlx::query_as(
        "select count(*) filter (where guid like 'label-event-%'), count(distinct issue_number)
         from decisions join deliveries using (delivery_id) where reason = 'trigger_label'",
    )
    .fetch_all(&site.db)
    .await
    .expect("decisions");
    assert_eq!(told, [(1, 3)]);
    assert_eq!(site.violations().await, Vec::<String>::new(), "{}", site.logs());
    assert_eq!(site.github.pull_requests(REPOSITORY).len(), 3);
    site.github.shutdown().await;
}

/// When a label was set, by the issue's history.
async fn set_at(world: &World, issue: u64) -> Value {
    let history = world.api("GET", &format!("issues/{issue}/timeline"), None).await;
    let labeled =
        history.as_array().expect("events").iter().find(|event| event["event"] == "labeled").cloned();
    labeled.expect("it was labelled")["created_at"].clone()
}
