//! Installations are suspended, removed and narrowed; repositories are renamed, transferred,
//! archived, hidden and deleted. What is under way waits and goes on, or ends, and says why.

use std::time::Duration;

use proto::admin::{Explanation, ListEffectsRequest, list_effects_request::Wanted};
use serde_json::{Value, json};

use crate::harness::{APP_PERMISSIONS, GO, PATIENCE, REPOSITORY, Setup, World, filtered};

async fn as_app() -> World {
    World::with(Setup { app: true, ..Setup::default() }).await
}

/// How a repository stands in our records: its name, and why it is closed.
async fn standing(world: &World) -> (String, Option<String>) {
    sqlx::query_as(
        "select full_name, case when gone_at is not null then 'gone' when archived_at is not null then 'archived' else no_access_why end
         from repositories",
    )
    .fetch_one(&mut world.db().await)
    .await
    .expect("the repository")
}

async fn until_standing(
    world: &World,
    what: &str,
    probe: impl Fn(&str, Option<&str>) -> bool,
) -> Option<String> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (name, closed) = standing(world).await;
        if probe(&name, closed.as_deref()) {
            return closed;
        }
        assert!(tokio::time::Instant::now() < until, "waited in vain until {what}: {name} {closed:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until_closed(world: &World) -> String {
    until_standing(world, "it is out of reach", |_, closed| closed.is_some()).await.unwrap_or_default()
}

async fn until_open(world: &World) {
    until_standing(world, "it is within reach", |_, closed| closed.is_none()).await;
}

/// A run whose agent waits for [`GO`].
async fn at_work(world: &World) -> (u64, String) {
    let steps = json!([{ "print": "waiting for the word" }, { "wait_for_file": GO }, { "write": { "path": "a.txt", "content": "a\n" } }]);
    let issue = world.scripted_issue("Take your time", &steps);
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.until_waiting(&run.id, 1).await;
    (issue, run.id)
}

/// Lets the agent finish, and waits until its result waits for the repository.
async fn result_waits(world: &World, run: &str) {
    world.let_go(run).await;
    world
        .until_run(run, "its result waits", |run| {
            run.effects.iter().any(|effect| effect.kind == "commit" && effect.state == "pending")
        })
        .await;
}

/// What people read where they look: the run, the outbox, `check`, and what was decided.
async fn said(world: &World, run: &str, event: &str) -> String {
    let message = world.get(run).await.run.expect("a run").message;
    let request = ListEffectsRequest { wanted: Wanted::Pending.into() };
    let effects = world.admin().list_effects(request).await.expect("effects").into_inner().effects;
    let commit = effects.iter().find(|effect| effect.kind == "commit").map(|e| e.last_error.clone());
    let (_, out, _) = world.callboard(&["check", "-o", "json"]).await;
    let findings: Vec<Value> = serde_json::from_str(&out).expect("JSON");
    let probe = format!("repository {REPOSITORY}");
    let of_it = findings.iter().find(|f| f["probe"] == probe.as_str()).expect("a finding");
    let decided: (String, String) = sqlx::query_as(
        "select rule, remedy from decisions where subject = $1 order by decided_at desc limit 1",
    )
    .bind(event)
    .fetch_one(&mut world.db().await)
    .await
    .expect("it was decided");
    format!(
        "run:     {message}\noutbox:  {}\ncheck:   {} -> {}\n{event}: {} {}",
        commit.unwrap_or_default(),
        of_it["found"].as_str().unwrap_or_default(),
        of_it["next_step"].as_str().unwrap_or_default(),
        decided.0,
        decided.1,
    )
}

fn snapshot(name: &str, said: &str) {
    let mut settings = filtered();
    settings.add_filter(r"installations/\d+", "installations/N");
    settings.bind(|| insta::assert_snapshot!(name, said));
}

async fn succeeds(world: &World, run: &str) {
    let done = world.finished(run).await.run.expect("a run");
    assert_eq!(done.state, "succeeded", "{}", done.message);
    let (name, _) = standing(world).await;
    assert_eq!(world.github.pull_requests(&name).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_installation_waits_until_it_is_unsuspended() {
    let world = as_app().await;
    let (_, run) = at_work(&world).await;
    world.github.suspend(world.installed().installation).expect("suspended");
    until_closed(&world).await;
    result_waits(&world, &run).await;
    snapshot("suspended", &said(&world, &run, "installation.suspend").await);
    world.github.unsuspend(world.installed().installation).expect("unsuspended");
    succeeds(&world, &run).await;
    let events: Vec<String> = world.get(&run).await.events.into_iter().map(|event| event.kind).collect();
    assert!(["access_lost", "access_back"].iter().all(|kind| events.iter().any(|e| e == kind)), "{events:?}");
    world.end().await;
}

/// The App is removed, and installed again: another installation, the same repository.
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_installation_waits_until_the_app_is_installed_again() {
    let world = as_app().await;
    let (_, run) = at_work(&world).await;
    world.github.uninstall(world.installed().installation).expect("removed");
    until_closed(&world).await;
    result_waits(&world, &run).await;
    snapshot("removed", &said(&world, &run, "installation.deleted").await);
    let app = world.installed().app;
    world.github.install_app(app, "octocat", &[REPOSITORY], &APP_PERMISSIONS).expect("installed");
    succeeds(&world, &run).await;
    world.end().await;
}

/// The repository is left out of the installation. A run that is queued there waits, too, and
/// when the event that tells of its return is lost, it is found out by asking.
#[tokio::test(flavor = "multi_thread")]
async fn a_repository_left_out_of_the_installation_waits_until_it_is_back() {
    let world = as_app().await;
    let (_, run) = at_work(&world).await;
    let Ok(()) = world.pause("", "the story").await.map(drop) else { panic!("not paused") };
    let second = world.issue("Say hello", "Please.");
    world.label(second, "run:dev");
    let queued = world.next_run(second, &[&run]).await;
    let installed = world.installed();
    world.github.remove_from_installation(installed.installation, REPOSITORY).expect("left out");
    let why = until_closed(&world).await;
    world.resume("").await.expect("resumed");
    result_waits(&world, &run).await;
    snapshot("left_out", &said(&world, &run, "installation_repositories.removed").await);
    let waits = world.get(&queued.id).await.run.expect("a run");
    assert_eq!((waits.state.as_str(), waits.message), ("queued", why));
    // Nobody tells us.
    world.github.set_app_hook(installed.app, "", crate::harness::SECRET).expect("no hook");
    world.github.add_to_installation(installed.installation, REPOSITORY).expect("back");
    world.clock.advance(chrono::TimeDelta::minutes(2));
    world.finished(&queued.id).await;
    assert_eq!(world.get(&run).await.run.expect("a run").state, "succeeded");
    assert_eq!(world.github.pull_requests(REPOSITORY).len(), 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_repository_gets_its_result_under_the_new_name() {
    let world = as_app().await;
    let (_, run) = at_work(&world).await;
    world.github.rename_repository(REPOSITORY, "hello-moon", "octocat").expect("renamed");
    until_standing(&world, "it is renamed", |name, _| name == "octocat/hello-moon").await;
    world.let_go(&run).await;
    succeeds(&world, &run).await;
    world.end().await;
}

/// It goes to an account where the App is installed as well: the same repository, under a new
/// name. It goes to one where it is not: its runs are over.
#[tokio::test(flavor = "multi_thread")]
async fn a_transferred_repository_goes_on_where_the_app_is_installed() {
    let world = as_app().await;
    let (_, run) = at_work(&world).await;
    world.github.add_user("hubot", false);
    world.github.install_app(world.installed().app, "hubot", &[], &APP_PERMISSIONS).expect("installed");
    world.github.transfer_repository(REPOSITORY, "hubot").expect("transferred");
    until_standing(&world, "it has a new owner", |name, closed| {
        name == "hubot/hello-world" && closed.is_none()
    })
    .await;
    world.let_go(&run).await;
    succeeds(&world, &run).await;
    world.end().await;

    let world = as_app().await;
    let (_, run) = at_work(&world).await;
    world.github.transfer_repository(REPOSITORY, "elsewhere").expect("transferred");
    until_closed(&world).await;
    result_waits(&world, &run).await;
    let message = world.get(&run).await.run.expect("a run").message;
    insta::assert_snapshot!(message, @"The App does not reach octocat/hello-world. Install it there, or add the repository to its installation, and what waits goes on.");
    world.cancel(&run).await.expect("cancelled");
    world.github.transfer_repository("elsewhere/hello-world", "octocat").expect("back");
    let installation = world.installed().installation;
    world.github.add_to_installation(installation, REPOSITORY).expect("back");
    until_open(&world).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_repository_waits_until_it_takes_changes_again() {
    let world = as_app().await;
    let (_, run) = at_work(&world).await;
    world.github.archive(REPOSITORY).expect("archived");
    until_standing(&world, "it is archived", |_, closed| closed == Some("archived")).await;
    result_waits(&world, &run).await;
    snapshot("archived", &said(&world, &run, "repository.archived").await);
    world.github.unarchive(REPOSITORY).expect("taken out");
    succeeds(&world, &run).await;
    world.end().await;
}

/// The event is lost: the refusal of the first call tells.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_nobody_told_us_of_is_learnt_from_a_refusal() {
    let world = as_app().await;
    let (_, run) = at_work(&world).await;
    let installed = world.installed();
    world.github.set_app_hook(installed.app, "", crate::harness::SECRET).expect("no hook");
    world.github.archive(REPOSITORY).expect("archived");
    world.let_go(&run).await;
    until_standing(&world, "it is known to be archived", |_, closed| closed == Some("archived")).await;
    world.github.set_app_hook(installed.app, &world.webhook(), crate::harness::SECRET).expect("the hook");
    world.github.unarchive(REPOSITORY).expect("taken out");
    succeeds(&world, &run).await;
    world.end().await;
}

/// An App that covers it still sees it; a person whose token does not is told what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_repository_made_private_works_while_it_is_covered() {
    let world = as_app().await;
    let (_, run) = at_work(&world).await;
    world.github.set_private(REPOSITORY, false).expect("public");
    world.github.set_private(REPOSITORY, true).expect("private");
    world.let_go(&run).await;
    succeeds(&world, &run).await;
    let private = sqlx::query_scalar::<_, i64>(
        "select count(*) from decisions where subject = 'repository.privatized'",
    )
    .fetch_one(&mut world.db().await)
    .await
    .expect("an answer");
    assert_eq!((private, standing(&world).await.1), (1, None));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runs_of_a_deleted_repository_are_over() {
    let world = as_app().await;
    let (issue, run) = at_work(&world).await;
    world.github.delete_repository(REPOSITORY).expect("deleted");
    until_standing(&world, "it is gone", |_, closed| closed == Some("gone")).await;
    let done = world
        .until_run(&run, "it is over", |run| run.run.as_ref().is_some_and(|r| r.state == "cancelled"))
        .await;
    insta::assert_snapshot!(done.run.expect("a run").message, @"The repository was transferred or deleted.");
    let explained: Vec<Explanation> = world.explain(&format!("#{issue}")).await;
    assert!(!explained.is_empty());
    world.end().await;
}
