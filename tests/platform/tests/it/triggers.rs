//! Labels, commands and events of every kind, decided and applied on the running platform.

use proto::admin::{Explanation, ListRunsRequest, Run};
use serde_json::{Value, json};

use crate::harness::{REPOSITORY, Setup, World, sign};

const SECRET: &str = "a webhook secret of the tests";

/// Everything that was delivered is decided and said; runs may be under way.
async fn decided(world: &World) {
    let mut db = world.db().await;
    loop {
        let seen = world.delivered().await;
        let left: i64 = sqlx::query_scalar(
            "select (select count(*) from deliveries where decided_at is null) + (select count(*) from effects where state = 'pending')",
        )
        .fetch_one(&mut db)
        .await
        .expect("a count");
        if left == 0 && world.github.deliveries(world.hook).len() == seen {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn runs(world: &World) -> Vec<Run> {
    world.admin().list_runs(ListRunsRequest::default()).await.expect("runs").into_inner().runs
}

fn is_over(run: &Run) -> bool {
    ["succeeded", "failed", "cancelled"].contains(&run.state.as_str())
}

async fn reasons(world: &World, issue: u64) -> Vec<String> {
    world.explain(&format!("#{issue}")).await.into_iter().map(|e| e.reason).collect()
}

async fn newest(world: &World, issue: u64, reason: &str) -> Explanation {
    let explained = world.explain(&format!("#{issue}")).await;
    let found = explained.iter().find(|e| e.reason == reason).cloned();
    found.unwrap_or_else(|| panic!("no decision with reason {reason}: {explained:#?}"))
}

/// A delivery as GitHub would post it, by hand.
async fn deliver(world: &World, event: &str, guid: &str, body: &Value) {
    let body = body.to_string().into_bytes();
    let answer = world.post(event, guid, &body, Some(&sign(SECRET, &body))).await;
    assert_eq!(answer.status().as_u16(), 202, "{event}");
}

/// The token's owner is a person too: what the platform did by that token is known by its rows,
/// and what the person does starts runs.
#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_the_token_labels_like_anybody() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    world.label_by(issue, "run:dev", "octocat");
    let run = world.run_of(issue).await;
    let run = world.finished(&run.id).await.run.expect("a run");
    assert_eq!((run.state.as_str(), run.actor.as_str()), ("succeeded", "octocat"));
    world.settled().await;
    // The platform's own `state:in-review` came back once, and is known.
    let echoes = reasons(&world, issue).await.into_iter().filter(|r| r == "own_effect").count();
    assert_eq!(echoes, 1, "{:#?}", world.explain(&format!("#{issue}")).await);
    // The same person takes it off by hand: that is no echo, and it is put back.
    world.github.remove_label(REPOSITORY, issue, "state:in-review", "octocat").expect("taken off");
    world
        .until("the label to come back", |g| {
            g.labels(REPOSITORY, issue).contains(&"state:in-review".to_owned()).then_some(())
        })
        .await;
    world.settled().await;
    let put_back = newest(&world, issue, "label_put_back").await;
    assert!(put_back.trace.iter().any(|l| !l.rule.is_empty()), "{put_back:#?}");
    assert!(world.comments(issue).iter().any(|c| c.contains("is put back")), "{:#?}", world.comments(issue));
    assert_eq!(runs(&world).await.len(), 1);
    world.end().await;
}

/// Two programs that disagree do not go on for ever.
#[tokio::test(flavor = "multi_thread")]
async fn labels_are_put_back_a_few_times_an_hour() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    for round in 0..5 {
        world.label_by(issue, "state:approved", "triager");
        world.settled().await;
        let off = !world.github.labels(REPOSITORY, issue).contains(&"state:approved".to_owned());
        assert_eq!(off, round < 3, "round {round}");
        if !off {
            world.github.remove_label(REPOSITORY, issue, "state:approved", "triager").expect("taken off");
        }
    }
    assert_eq!(world.comments(issue).len(), 3);
    world.end().await;
}

/// Triage can write labels, and gets nothing by it: no approval, no model of its choice.
#[tokio::test(flavor = "multi_thread")]
async fn triage_neither_approves_nor_chooses_a_model() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    world.label_by(issue, "state:approved", "triager");
    world.label_by(issue, "ai-model:huge", "triager");
    world
        .until("both labels to go", |g| {
            let labels = g.labels(REPOSITORY, issue);
            (!labels.contains(&"state:approved".to_owned()) && !labels.contains(&"ai-model:huge".to_owned()))
                .then_some(())
        })
        .await;
    world.settled().await;
    let refused = newest(&world, issue, "parameter_not_allowed").await;
    assert!(refused.rule.contains("`triager` has triage"), "{}", refused.rule);
    let mut db = world.db().await;
    let approvals: i64 =
        sqlx::query_scalar("select count(*) from approvals").fetch_one(&mut db).await.expect("a count");
    assert_eq!(approvals, 0);
    assert!(runs(&world).await.is_empty());
    world.end().await;
}

/// Labels that are set together come as deliveries at the same time; who set the model's is
/// waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_label_for_the_model_counts_with_the_trigger_beside_it() {
    let world = World::start().await;
    let issue = world.scripted_issue("Take your time", &json!([{ "print": "working" }, { "hang": true }]));
    world.label(issue, "ai-reasoning:high");
    world.label(issue, "run:dev");
    decided(&world).await;
    assert_eq!(runs(&world).await.len(), 1, "{:#?}", world.explain(&format!("#{issue}")).await);
    let run = world.run_of(issue).await;
    let mut db = world.db().await;
    let reasoning: Option<String> =
        sqlx::query_scalar("select reasoning from runs").fetch_one(&mut db).await.expect("a run");
    assert_eq!(reasoning.as_deref(), Some("high"));
    world.cancel(&run.id).await.expect("cancelled");
    world.finished(&run.id).await;
    world.end().await;
}

/// Two trigger labels at once: none starts, both are named, both come off.
#[tokio::test(flavor = "multi_thread")]
async fn two_trigger_labels_at_once_start_nothing() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    for (guid, label) in [("one", "run:dev"), ("two", "run:plan")] {
        let url = format!("{}/{REPOSITORY}/issues/{issue}", world.github.web_url());
        let body = json!({
            "action": "labeled",
            "label": { "name": label },
            "issue": {
                "number": issue, "title": "Say hello", "body": "Please.", "state": "open", "html_url": url,
                "user": { "login": "octocat" }, "labels": [{ "name": "run:dev" }, { "name": "run:plan" }],
            },
            "repository": { "full_name": REPOSITORY },
            "sender": { "login": "mona", "type": "User" },
        });
        deliver(&world, "issues", guid, &body).await;
    }
    world.settled().await;
    assert_eq!(reasons(&world, issue).await.iter().filter(|r| *r == "trigger_conflict").count(), 2);
    assert!(runs(&world).await.is_empty());
    for comment in world.comments(issue) {
        assert!(comment.contains("run:dev") && comment.contains("run:plan"), "{comment}");
    }
    world.end().await;
}

/// A command starts what its label starts; the label it leaves behind is only an effect.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_starts_a_run_and_its_label_starts_nothing_more() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    let quoted = "> /callboard run dev\n\n    /callboard run dev\n";
    world.github.add_comment(REPOSITORY, issue, "mona", quoted).expect("a comment");
    world.github.add_comment(REPOSITORY, issue, "mona", "/callboard run dev").expect("a comment");
    world.until("a pull request", |g| (!g.pull_requests(REPOSITORY).is_empty()).then_some(())).await;
    world.settled().await;
    let all = runs(&world).await;
    assert_eq!(all.len(), 1, "{all:#?}");
    let reasons = reasons(&world, issue).await;
    assert_eq!(reasons.iter().filter(|r| *r == "comment_command").count(), 1, "{reasons:?}");
    assert!(reasons.iter().any(|r| r == "no_command"), "quoted and indented words are no commands");
    assert!(reasons.iter().filter(|r| *r == "own_effect").count() >= 2, "{reasons:?}");
    assert!(!world.github.labels(REPOSITORY, issue).contains(&"run:dev".to_owned()));
    world.end().await;
}

/// A command that is none gets a hint, questions get answers, and a run is ended by a word.
#[tokio::test(flavor = "multi_thread")]
async fn commands_are_answered() {
    let world = World::start().await;
    let issue = world.scripted_issue("Take your time", &json!([{ "print": "working" }, { "hang": true }]));
    world.github.add_comment(REPOSITORY, issue, "mona", "/callboard rum dev").expect("a comment");
    world
        .until("a hint", |g| {
            g.comments(REPOSITORY, issue).iter().any(|c| c.body.contains("Did you mean")).then_some(())
        })
        .await;
    world.label(issue, "run:dev");
    world
        .until("the run", |g| {
            g.comments(REPOSITORY, issue).iter().any(|c| c.body.contains("callboard:run=")).then_some(())
        })
        .await;
    let run = runs(&world).await.pop().expect("a run");
    world.until_log(&run.id, "working").await;
    for (command, answer) in [("status", "· status"), ("explain", "· why: ")] {
        let said = format!("/callboard {command}");
        world.github.add_comment(REPOSITORY, issue, "mona", &said).expect("a comment");
        world
            .until("an answer", |g| {
                g.comments(REPOSITORY, issue).iter().any(|c| c.body.contains(answer)).then_some(())
            })
            .await;
    }
    let explained =
        world.comments(issue).into_iter().find(|c| c.contains("· why: ")).expect("an explanation");
    assert!(explained.contains("| ✓ |") && explained.contains("trigger_label"), "{explained}");
    // Who may only read ends nothing.
    world.github.add_comment(REPOSITORY, issue, "reader", "/callboard cancel").expect("a comment");
    decided(&world).await;
    assert_eq!(world.get(&run.id).await.run.expect("a run").state, "active");
    world.github.add_comment(REPOSITORY, issue, "triager", "/callboard cancel").expect("a comment");
    let run = world.finished(&run.id).await.run.expect("a run");
    assert_eq!(run.state, "cancelled", "{}", run.message);
    world.end().await;
}

/// Bots start nothing, unless the configuration lists them.
#[tokio::test(flavor = "multi_thread")]
async fn a_bot_starts_runs_where_the_configuration_lists_it() {
    let config = json!({ "projects": [{
        "name": "demo", "bots": ["Helper[bot]"],
        "repositories": [{ "name": REPOSITORY, "source": crate::harness::SOURCE, "webhook_secret_file": "secret" }],
    }] });
    let world = World::with(Setup { config, ..Setup::default() }).await;
    world.github.add_user("other[bot]", true);
    let refused = world.issue("Say hello", "Please.");
    world.label_by(refused, "run:dev", "other[bot]");
    let issue = world.issue("Say hello", "Please.");
    world.label_by(issue, "run:dev", "helper[bot]");
    let run = world.run_of(issue).await;
    assert_eq!(world.finished(&run.id).await.run.expect("a run").state, "succeeded");
    world.settled().await;
    assert!(reasons(&world, refused).await.iter().any(|r| r == "bot_actor"));
    assert!(world.comments(refused).is_empty());
    assert_eq!(runs(&world).await.len(), 1);
    world.end().await;
}

/// A discussion is opened by its label, is one record, and ends with the label or with work.
#[tokio::test(flavor = "multi_thread")]
async fn a_discussion_ends_with_its_label_and_with_work() {
    let world = World::start().await;
    let steps = json!([{ "print": "working" }, { "hang": true }]);
    let open = async |world: &World| -> i64 {
        let mut db = world.db().await;
        sqlx::query_scalar("select count(*) from discussions where closed_at is null")
            .fetch_one(&mut db)
            .await
            .expect("a count")
    };
    let by_label = world.scripted_issue("What should it say?", &steps);
    world.label(by_label, "mode:discussion");
    decided(&world).await;
    assert_eq!(open(&world).await, 1);
    world.github.remove_label(REPOSITORY, by_label, "mode:discussion", "mona").expect("taken off");
    world.settled().await;
    assert_eq!(open(&world).await, 0);
    assert!(is_over(&runs(&world).await[0]));

    let by_work = world.scripted_issue("What else?", &steps);
    world.label(by_work, "mode:discussion");
    decided(&world).await;
    assert_eq!(open(&world).await, 1);
    world.label(by_work, "run:dev");
    decided(&world).await;
    assert_eq!(open(&world).await, 0);
    let of_issue: Vec<Run> = runs(&world).await.into_iter().filter(|r| r.issue == by_work).collect();
    let states: Vec<(&str, bool)> = of_issue.iter().map(|r| (r.stage.as_str(), is_over(r))).collect();
    assert_eq!(states, [("dev", false), ("discussion", true)]);
    assert!(!world.github.labels(REPOSITORY, by_work).contains(&"mode:discussion".to_owned()));
    // The issue is closed: its work ends with it.
    world.github.close_issue(REPOSITORY, by_work, "mona").expect("closed");
    world.settled().await;
    let all = runs(&world).await;
    assert!(all.iter().all(is_over), "{all:#?}");
    assert_eq!(all[0].state, "cancelled");
    world.end().await;
}

/// A repository is known by its number when it gets another name; archived, it takes no runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_renamed_and_archived() {
    let mut world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    let number = async |world: &World| -> Option<i64> {
        let mut db = world.db().await;
        sqlx::query_scalar("select forge_id from repositories")
            .fetch_one(&mut db)
            .await
            .expect("a repository")
    };
    world.github.archive(REPOSITORY).expect("archived");
    world.settled().await;
    let id = number(&world).await.expect("its number is known");
    let late = |action: &str, name: &str| {
        json!({
            "action": action,
            "changes": { "repository": { "name": { "from": "hello-world" } } },
            "repository": { "id": id, "full_name": name, "default_branch": "main" },
            "sender": { "login": "octocat", "type": "User" },
        })
    };
    world.label(issue, "run:dev");
    world.settled().await;
    assert!(reasons(&world, issue).await.iter().any(|r| r == "repository_archived"));
    world.github.unarchive(REPOSITORY).expect("taken out");
    world.settled().await;
    world.github.rename_repository(REPOSITORY, "hello-moon", "octocat").expect("renamed");
    world.settled().await;
    // Sent again after what undid them, they tell when to look, and nothing else.
    deliver(&world, "repository", "archived", &late("archived", REPOSITORY)).await;
    deliver(&world, "repository", "renamed", &late("renamed", "octocat/hello-earth")).await;
    world.settled().await;
    let archived: bool = sqlx::query_scalar("select archived_at is not null from repositories")
        .fetch_one(&mut world.db().await)
        .await
        .expect("a repository");
    assert!(!archived);
    let name = async |world: &World| -> Vec<(String, bool)> {
        let mut db = world.db().await;
        sqlx::query_as("select full_name, enabled from repositories order by created_at")
            .fetch_all(&mut db)
            .await
            .expect("the repositories")
    };
    assert_eq!(name(&world).await, [("octocat/hello-moon".to_owned(), true)]);
    // Deliveries by the new name, and late ones by the old one, are of the same repository.
    for (guid, full_name) in [("new", "octocat/hello-moon"), ("old", REPOSITORY)] {
        let repository = json!({ "id": id, "full_name": full_name });
        let body = json!({ "action": "started", "repository": repository, "sender": { "login": "mona" } });
        deliver(&world, "watch", guid, &body).await;
    }
    world.settled().await;
    for guid in ["new", "old"] {
        let reason = world.explain(guid).await.pop().expect("explained").reason;
        assert_eq!(reason, "event_not_used", "{guid}");
    }
    // The configuration still has the old name, and means the same repository.
    world.down().await;
    world.up().await;
    assert_eq!(name(&world).await, [("octocat/hello-moon".to_owned(), true)]);
    world.end().await;
}

/// The label `:preview` shows what would happen, and starts nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_preview_shows_and_starts_nothing() {
    let world = World::start().await;
    let issue = world.issue("Say hello to the moon", "The README only greets the world.");
    world.label(issue, "run:dev:preview");
    world.until("the preview", |g| (!g.comments(REPOSITORY, issue).is_empty()).then_some(())).await;
    world.settled().await;
    let comment = world.comments(issue).remove(0);
    assert!(comment.contains("preview of `dev` · nothing was started"), "{comment}");
    assert!(comment.contains("Say hello to the moon") && comment.contains("| ✓ |"), "{comment}");
    assert!(runs(&world).await.is_empty());
    assert!(world.github.labels(REPOSITORY, issue).is_empty());
    // By command line, the same prompt.
    let number = issue.to_string();
    let (code, out, err) =
        world.callboard(&["prompts", "render", "--issue", &number, "--stage", "dev"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("Say hello to the moon"), "{out}");
    let (code, _, err) =
        world.callboard(&["prompts", "render", "--issue", &number, "--stage", "deploy"]).await;
    assert!(code == 1 && err.contains("there is no stage `deploy`"), "{err}");
    world.end().await;
}

/// A simulation says what would happen, rule by rule, and leaves no trace.
#[tokio::test(flavor = "multi_thread")]
async fn a_simulation_changes_nothing() {
    let world = World::start().await;
    let issue = world.issue("Say hello", "Please.");
    let payload = json!({
        "action": "labeled",
        "label": { "name": "run:dev" },
        "issue": { "number": issue, "title": "Say hello", "body": "", "state": "open", "html_url": "x", "user": { "login": "octocat" }, "labels": [{ "name": "run:dev" }] },
        "repository": { "full_name": REPOSITORY },
        "sender": { "login": "mona", "type": "User" },
    });
    let file = world.folder().join("event.json");
    std::fs::write(&file, payload.to_string()).expect("written");
    world.settled().await;
    let decisions = async |world: &World| -> i64 {
        let mut db = world.db().await;
        sqlx::query_scalar("select (select count(*) from decisions) + (select count(*) from runs) + (select count(*) from effects)")
            .fetch_one(&mut db)
            .await
            .expect("a count")
    };
    let before = decisions(&world).await;
    let words = ["policy", "simulate", "--event", file.to_str().expect("a path"), "-o", "json"];
    let (code, out, err) = world.callboard(&words).await;
    assert_eq!(code, 0, "{err}");
    let simulated: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&simulated["outcome"], &simulated["reason"]), (&json!("start"), &json!("trigger_label")));
    assert!(simulated["trace"].as_array().expect("a trace").len() > 5, "{simulated:#}");
    let (_, out, _) = world.callboard(&words[..4]).await;
    assert!(out.contains("✓ ") && out.contains("start (trigger_label)"), "{out}");
    assert_eq!(decisions(&world).await, before);
    world.end().await;
}
