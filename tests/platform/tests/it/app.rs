//! The platform as a GitHub App: its own login, tokens for one repository and purpose, and what
//! `check` says of its permissions.

use chrono::TimeDelta;
use proto::admin::{EffectActionRequest, ListEffectsRequest, list_effects_request::Wanted};
use serde_json::{Value, json};
use webhook_simulator::Fault;

use crate::harness::{APP, APP_PERMISSIONS, PATIENCE, REPOSITORY, SOURCE, Setup, World, filtered};

async fn as_app() -> World {
    World::with(Setup { app: true, ..Setup::default() }).await
}

/// Everybody sees who did it: the App, with nobody's own token.
#[tokio::test(flavor = "multi_thread")]
async fn a_label_becomes_a_pull_request_of_the_app() {
    let world = as_app().await;
    let issue = world.issue("Say hello to the moon", "The README only greets the world.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let run = world.finished(&run.id).await.run.expect("a run");
    assert_eq!(run.state, "succeeded", "{}", run.message);

    let bot = format!("{APP}[bot]");
    let pull = world.github.pull_requests(REPOSITORY).pop().expect("a pull request");
    let comments = world.github.comments(REPOSITORY, issue);
    assert_eq!((pull.author.as_str(), comments.len()), (bot.as_str(), 1));
    assert_eq!(comments[0].author, bot);
    assert!(!world.github.labels(REPOSITORY, issue).contains(&"run:dev".to_owned()));
    // The author is left out, so GitHub signs in the App's name.
    let git = world.folder().join("github").join(format!("{REPOSITORY}.git"));
    let shown = subprocess::command("git", world.folder())
        .arg("--git-dir")
        .arg(git)
        .args(["log", "-1", "--format=%an", &pull.head])
        .output()
        .expect("git runs");
    assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), bot);
    // Each token is for this repository, and what reads cannot write.
    let minted = world.github.tokens_minted();
    assert!(minted.iter().all(|token| token.repositories == [REPOSITORY]), "{minted:#?}");
    assert!(minted.iter().all(|token| token.permissions.len() < APP_PERMISSIONS.len()), "{minted:#?}");
    // None of them is anywhere in our records.
    let mut db = world.db().await;
    let tokens: i64 = sqlx::query_scalar(
        "select count(*) from effects e, runs r, events v where e::text || r::text || v::text like '%ghs\\_%'",
    )
    .fetch_one(&mut db)
    .await
    .expect("an answer");
    assert_eq!(tokens, 0);
    world.end().await;
}

/// Every token is dead between the commit and the branch: a new one is minted, nothing is done
/// twice, and nobody notices.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_expire_in_the_middle_of_a_publication_are_made_anew() {
    let world = as_app().await;
    world.github.fault(Fault::TokenExpires, "POST /repos/{owner}/{repo}/git/refs", 1);
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    let run = world.finished(&run.id).await;
    assert_eq!(run.run.expect("a run").state, "succeeded");
    let of_result = ["commit", "branch", "pull_request"];
    let tried: Vec<_> = run.effects.iter().filter(|e| of_result.contains(&e.kind.as_str())).collect();
    assert!(tried.iter().all(|e| e.attempts == 1 && e.last_error.is_empty()), "{tried:#?}");
    assert_eq!(world.github.pull_requests(REPOSITORY).len(), 1);
    let refused = world.github.request_log().into_iter().filter(|request| request.status == 401).count();
    assert!(refused >= 1, "a token was refused");
    world.end().await;
}

/// This machine's clock is an hour off, in either direction.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_an_hour_off_does_no_harm() {
    for off in [TimeDelta::hours(1), TimeDelta::hours(-1)] {
        let world = World::with(Setup { app: true, clock_off: off, ..Setup::default() }).await;
        let issue = world.issue("Say hello", "Please.");
        world.label(issue, "run:dev");
        let run = world.run_of(issue).await;
        assert_eq!(world.finished(&run.id).await.run.expect("a run").state, "succeeded", "{off}");
        world.end().await;
    }
}

/// A repository with a webhook of its own beside the App's: a label that comes by both counts
/// once.
#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_comes_by_two_webhooks_counts_once() {
    let own = json!([{ "name": REPOSITORY, "source": SOURCE, "webhook_secret_file": "secret" }]);
    let config = json!({ "projects": [{ "name": "demo", "repositories": own }] });
    let world = World::with(Setup { app: true, config, ..Setup::default() }).await;
    let url = format!("{}/{SOURCE}", world.webhook());
    world.github.add_hook(REPOSITORY, &url, crate::harness::SECRET).expect("a hook of its own");
    let issue = world.issue("Say hello", "Please.");
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.finished(&run.id).await;
    let mut db = world.db().await;
    let (runs, labelled): (i64, i64) = sqlx::query_as(
        "select (select count(*) from runs), (select count(*) from decisions where subject = 'issues.labeled' and actor = 'mona')",
    )
    .fetch_one(&mut db)
    .await
    .expect("an answer");
    assert_eq!((runs, labelled), (1, 2));
    let explained = world.explain(&format!("#{issue}")).await;
    let second = explained.iter().find(|e| e.reason == "own_hook").expect("the second one is explained");
    insta::assert_snapshot!(second.rule, @"octocat/hello-world has a webhook of its own, which brings this event too: that one is decided.");
    world.end().await;
}

/// What `check` says of the code host and of the repository.
async fn said_by_check(world: &World) -> String {
    let (_, out, _) = world.callboard(&["check", "-o", "json"]).await;
    let findings: Vec<Value> = serde_json::from_str(&out).expect("JSON");
    let of_access = findings.iter().filter(|finding| {
        let probe = finding["probe"].as_str().unwrap_or_default();
        probe == "code host" || probe.starts_with("repository ")
    });
    let line = |f: &Value| {
        let text = |key: &str| f[key].as_str().unwrap_or_default().to_owned();
        let next = text("next_step");
        let next = if next.is_empty() { next } else { format!("\n    next: {next}") };
        format!("{}: {}{next}", text("probe"), text("found"))
    };
    of_access.map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_who_we_are_and_what_is_missing() {
    let app = as_app().await;
    let mut settings = filtered();
    settings.add_filter(r"installation \d+", "installation N");
    settings.bind(|| ());
    let whole = said_by_check(&app).await;
    let installation = app.installed().installation;
    app.github
        .set_installation_permissions(
            installation,
            &[("metadata", "read"), ("contents", "write"), ("issues", "read"), ("pull_requests", "write")],
        )
        .expect("permissions");
    let narrowed = said_by_check(&app).await;
    app.end().await;
    let person = World::start().await;
    let token = said_by_check(&person).await;
    person.end().await;
    settings.bind(|| {
        insta::assert_snapshot!("check_of_the_app", whole);
        insta::assert_snapshot!("check_of_the_app_that_lacks_permissions", narrowed);
        insta::assert_snapshot!("check_of_a_person", token);
    });
}

/// First checks are taken from the App, then issues: the work goes on, what cannot be done is said
/// with the permission's name, and is made up for once that is there again.
#[tokio::test(flavor = "multi_thread")]
async fn permissions_are_taken_away_and_given_back() {
    let world = as_app().await;
    let installation = world.installed().installation;
    let without = |names: &[&str]| -> Vec<(&str, &str)> {
        APP_PERMISSIONS.into_iter().filter(|(name, _)| !names.contains(name)).collect()
    };
    world.github.set_installation_permissions(installation, &without(&["checks"])).expect("taken");
    let first = world.issue("Say hello", "Please.");
    world.label(first, "run:dev");
    let run = world.run_of(first).await;
    let done = world.finished(&run.id).await;
    assert_eq!(done.run.expect("a run").state, "succeeded", "progress is a nicety");

    let mut read_only = without(&["issues"]);
    read_only.push(("issues", "read"));
    world.github.set_installation_permissions(installation, &read_only).expect("taken");
    let second = world.issue("Say it again", "Please.");
    world.label(second, "run:dev");
    let run = world.next_run(second, &[]).await;
    world
        .until_run(&run.id, "its result is there", |run| {
            run.run.as_ref().is_some_and(|r| r.state == "succeeded")
        })
        .await;
    let effects = async || {
        let request = ListEffectsRequest { wanted: Wanted::Dead.into() };
        world.admin().list_effects(request).await.expect("effects").into_inner().effects
    };
    let until = tokio::time::Instant::now() + PATIENCE;
    let dead = loop {
        let dead = effects().await;
        if dead.iter().any(|effect| effect.kind == "status_comment") {
            break dead;
        }
        assert!(
            tokio::time::Instant::now() < until,
            "no comment was given up: {:#?}",
            world.get(&run.id).await
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let mut settings = filtered();
    settings.add_filter(r"installations/\d+", "installations/N");
    settings.bind(|| insta::assert_snapshot!("comment_without_the_permission", dead[0].last_error));
    world.github.set_installation_permissions(installation, &APP_PERMISSIONS).expect("given back");
    // One that was on its way when the permission came back may have died since.
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        for effect in effects().await {
            // A newer comment may have replaced it meanwhile.
            drop(world.admin().retry_effect(EffectActionRequest { id: effect.id }).await);
        }
        let left = world.platform().control_plane().settled(std::time::Duration::from_secs(2)).await;
        let left = left.expect("Postgres answers");
        if left.is_empty() {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "{left:#?}");
    }
    assert_eq!(world.comments(second).len(), 1, "its comment tells the story after all");
    world.end().await;
}

/// One click: the manifest becomes an App, and its code becomes files and a block of the
/// configuration.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_made_from_its_manifest() {
    let world = World::start().await;
    let (code, out, _) = world
        .callboard(&[
            "github",
            "app-manifest",
            "--public-url",
            "https://callboard.example.com",
            "--html",
            "new.html",
            "-o",
            "json",
        ])
        .await;
    assert_eq!(code, 0);
    let manifest: Value = serde_json::from_str(&out).expect("JSON");
    let page = std::fs::read_to_string(world.folder().join("new.html")).expect("the page");
    assert!(
        page.contains("/settings/apps/new") && page.contains("&quot;default_permissions&quot;"),
        "{page}"
    );
    let given = world.github.submit_manifest(&manifest).expect("GitHub takes it");
    let fetch = ["github", "app-manifest", "--code", given.as_str(), "--into", "app"];
    let (code, block, hint) = world.callboard(&fetch).await;
    assert_eq!(code, 0, "{hint}");
    let key = std::fs::read_to_string(world.folder().join("app/github-app.private-key.pem")).expect("a key");
    assert!(key.starts_with("-----BEGIN RSA PRIVATE KEY-----") && !block.contains("PRIVATE KEY-----"));
    for file in ["github-app.private-key.pem", "github-app.webhook-secret"] {
        use std::os::unix::fs::PermissionsExt;
        let mode =
            std::fs::metadata(world.folder().join("app").join(file)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let mut settings = filtered();
    settings.add_filter(r"id: \d+", "id: N");
    settings.bind(|| insta::assert_snapshot!("app_block", format!("{block}{hint}")));
    // What was written is not written over, and the code is used up.
    let (code, _, said) = world.callboard(&fetch).await;
    assert!(code == 1 && said.contains("is there already"), "{said}");
    let (code, _, said) =
        world.callboard(&["github", "app-manifest", "--code", given.as_str(), "--into", "other"]).await;
    assert!(code == 1 && said.contains("good once"), "{said}");
    world.end().await;
}
