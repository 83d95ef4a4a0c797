//! Bodies in the shapes GitHub sends, cut to what is read of them.

use domain::decision::{Comment, Pull, Review, ReviewVerdict, Thread};
use serde_json::{Value, json};

use super::*;

const SHA: &str = "ec26c3e57ca3a959ca5aad62de7213c562f8c821";

fn read(event: &str, body: &Value) -> Event {
    parse(event, body.to_string().as_bytes()).expect("readable")
}

fn issue() -> Value {
    json!({
        "number": 7, "state": "open", "title": "Add a greeting", "user": { "login": "mona" },
        "labels": [{ "id": 1, "name": "run:dev", "color": "ededed" }, { "id": 2, "name": "bug" }],
    })
}

fn pull_request() -> Value {
    json!({
        "number": 9, "state": "open", "title": "Add a greeting", "user": { "login": "mona" },
        "labels": [{ "name": "need:reviewer" }], "merged_at": null, "draft": false,
        "head": { "label": "Octocat:callboard/7-dev", "ref": "callboard/7-dev", "sha": SHA,
                  "repo": { "id": 1, "full_name": "Octocat/Hello-World" } },
        "base": { "ref": "main", "sha": SHA, "repo": { "id": 1, "full_name": "octocat/hello-world" } },
    })
}

fn with(action: &str, parts: Value) -> Value {
    let mut body = json!({
        "action": action,
        "repository": { "id": 186_853_002, "full_name": "Octocat/Hello-World", "default_branch": "trunk", "private": false },
        "installation": { "id": 42 },
        "sender": { "login": "mona", "type": "User" },
    });
    let Value::Object(parts) = parts else { panic!("an object") };
    body.as_object_mut().expect("an object").extend(parts);
    body
}

fn the_issue() -> Thread {
    let labels = ["run:dev", "bug"].map(str::to_owned).to_vec();
    Thread { number: 7, open: true, author: "mona".into(), labels, pull: None }
}

fn the_pull() -> Thread {
    let pull = Pull {
        head: SHA.parse().ok(),
        branch: Some("callboard/7-dev".into()),
        base: Some("main".into()),
        from_fork: false,
        merged: false,
    };
    let labels = vec!["need:reviewer".into()];
    Thread { number: 9, open: true, author: "mona".into(), labels, pull: Some(pull) }
}

#[test]
fn what_every_event_says() {
    let event = read("issues", &with("labeled", json!({ "issue": issue(), "label": { "name": "run:dev" } })));
    assert_eq!(
        (event.name.as_str(), event.action.as_deref(), event.installation),
        ("issues", Some("labeled"), Some(42))
    );
    assert_eq!(event.repository, "octocat/hello-world".parse().ok());
    assert_eq!((event.repository_id, event.default_branch.as_deref()), (Some(186_853_002), Some("trunk")));
    assert_eq!(event.actor, Some(Account { login: "mona".into(), is_bot: false }));
}

#[test]
fn issues() {
    let happening = |action: &str, issue: Value| {
        let label = json!({ "name": "run:dev", "color": "ededed" });
        read("issues", &with(action, json!({ "issue": issue, "label": label }))).happening
    };
    let (on, label) = (the_issue(), "run:dev".to_owned());
    assert_eq!(happening("labeled", issue()), Happening::Labeled { on: on.clone(), label: label.clone() });
    assert_eq!(happening("unlabeled", issue()), Happening::Unlabeled { on: on.clone(), label });
    assert_eq!(happening("deleted", issue()), Happening::Deleted { on: on.clone() });
    assert_eq!(happening("transferred", issue()), Happening::TransferredAway { on: on.clone() });
    let mut closed = issue();
    closed["state"] = json!("closed");
    assert_eq!(happening("closed", closed), Happening::Closed { on: Thread { open: false, ..on } });
    for other in ["opened", "edited", "reopened", "assigned", "pinned", "typed"] {
        assert_eq!(happening(other, issue()), Happening::Other, "{other}");
    }
}

#[test]
fn comments_when_they_are_written_and_never_when_they_are_edited() {
    let comment = json!({
        "id": 492_700_400_u64, "user": { "login": "mona" }, "body": "/callboard run dev", "created_at": "2026-05-15T15:20:21Z",
    });
    let happening = |action: &str, issue: Value| {
        read("issue_comment", &with(action, json!({ "issue": issue, "comment": comment }))).happening
    };
    let written = Comment {
        id: 492_700_400,
        author: "mona".into(),
        body: "/callboard run dev".into(),
        created_at: "2026-05-15T15:20:21Z".parse().expect("a time"),
    };
    assert_eq!(
        happening("created", issue()),
        Happening::Commented { on: the_issue(), comment: written.clone() }
    );
    assert_eq!(happening("edited", issue()), Happening::Other);
    assert_eq!(happening("deleted", issue()), Happening::Other);

    // On a pull request it is not told where the head lives: until somebody asked, it is a fork's.
    let mut on_pull = issue();
    on_pull["pull_request"] = json!({ "url": "https://api.github.com/repos/o/r/pulls/7", "merged_at": null });
    let pull = |happening: &Happening| happening.on().and_then(|on| on.pull.clone()).expect("a pull request");
    let untold = Pull { from_fork: true, ..Pull::default() };
    assert_eq!(pull(&happening("created", on_pull.clone())), untold);
    on_pull["pull_request"]["merged_at"] = json!("2026-05-15T15:20:21Z");
    assert_eq!(pull(&happening("created", on_pull)), Pull { merged: true, ..untold });
}

#[test]
fn pull_requests() {
    let happening = |action: &str, pull: Value| {
        let label = json!({ "name": "need:reviewer" });
        read("pull_request", &with(action, json!({ "number": 9, "pull_request": pull, "label": label })))
            .happening
    };
    let (on, label) = (the_pull(), "need:reviewer".to_owned());
    assert_eq!(
        happening("labeled", pull_request()),
        Happening::Labeled { on: on.clone(), label: label.clone() }
    );
    assert_eq!(happening("unlabeled", pull_request()), Happening::Unlabeled { on: on.clone(), label });
    assert_eq!(happening("synchronize", pull_request()), Happening::Synchronized { on: on.clone() });
    assert_eq!(happening("reopened", pull_request()), Happening::Reopened { on });
    for other in ["opened", "edited", "ready_for_review", "review_requested"] {
        assert_eq!(happening(other, pull_request()), Happening::Other, "{other}");
    }
    let mut closed = pull_request();
    closed["state"] = json!("closed");
    closed["merged"] = json!(false);
    let ended = |happening: Happening| {
        let Happening::Closed { on } = happening else { panic!("{happening:?}") };
        (on.open, on.pull.expect("a pull request").merged)
    };
    assert_eq!(ended(happening("closed", closed.clone())), (false, false));
    closed["merged"] = json!(true);
    assert_eq!(ended(happening("closed", closed)), (false, true));
}

#[test]
fn forks_are_told_apart() {
    let from_fork = |head: Value| {
        let mut pull = pull_request();
        pull["head"] = head;
        let body = with("labeled", json!({ "pull_request": pull, "label": { "name": "run:dev" } }));
        read("pull_request", &body)
            .happening
            .on()
            .and_then(|on| on.pull.clone())
            .expect("a pull request")
            .from_fork
    };
    assert!(!from_fork(json!({ "repo": { "full_name": "Octocat/hello-world" } })));
    assert!(from_fork(json!({ "repo": { "full_name": "mallory/hello-world" } })));
    assert!(from_fork(json!({ "repo": null })));
    assert!(from_fork(json!(null)));
}

#[test]
fn reviews_submitted_and_dismissed() {
    let happening = |action: &str, state: &str| {
        let review = json!({
            "id": 237_895_671, "user": { "login": "lena" }, "body": null, "commit_id": SHA, "state": state,
            "submitted_at": "2026-05-15T15:20:38Z", "html_url": "https://github.com/r", "author_association": "MEMBER",
        });
        let body = with(action, json!({ "pull_request": pull_request(), "review": review }));
        read("pull_request_review", &body).happening
    };
    let review =
        |verdict| Review { id: 237_895_671, author: "lena".into(), verdict, commit: SHA.parse().ok() };
    for (state, verdict) in [
        ("approved", ReviewVerdict::Approved),
        ("APPROVED", ReviewVerdict::Approved),
        ("changes_requested", ReviewVerdict::ChangesRequested),
        ("commented", ReviewVerdict::Commented),
    ] {
        assert_eq!(
            happening("submitted", state),
            Happening::Reviewed { on: the_pull(), review: review(verdict) }
        );
    }
    assert_eq!(
        happening("dismissed", "dismissed"),
        Happening::ReviewDismissed { on: the_pull(), review: review(ReviewVerdict::Commented) }
    );
    // Nothing is approved by a word nobody knows, nor by what was edited.
    assert_eq!(happening("submitted", "blessed"), Happening::Other);
    assert_eq!(happening("edited", "approved"), Happening::Other);
}

#[test]
fn pushes_to_branches_and_of_tags() {
    let happening = |name: &str, after: &str, deleted: bool| {
        read("push", &with("", json!({ "ref": name, "before": SHA, "after": after, "deleted": deleted })))
            .happening
    };
    let zero = "0".repeat(40);
    let branch = Some("callboard/7-dev".to_owned());
    assert_eq!(
        happening("refs/heads/callboard/7-dev", SHA, false),
        Happening::Pushed { branch: branch.clone(), head: SHA.parse().ok() }
    );
    for (after, deleted) in [(zero.as_str(), true), (SHA, true), (zero.as_str(), false)] {
        assert_eq!(
            happening("refs/heads/callboard/7-dev", after, deleted),
            Happening::Pushed { branch: branch.clone(), head: None }
        );
    }
    assert_eq!(happening("refs/tags/v1", SHA, false), Happening::Pushed { branch: None, head: None });
}

#[test]
fn repositories_and_installations() {
    let change = |action: &str, parts: Value| {
        let happening = read("repository", &with(action, parts)).happening;
        if let Happening::Repository { change } = happening { Some(change) } else { None }
    };
    assert_eq!(
        change("renamed", json!({ "changes": { "repository": { "name": { "from": "hello" } } } })),
        Some(RepositoryChange::Renamed { from: "hello".into() })
    );
    for kind in ["user", "organization"] {
        assert_eq!(
            change(
                "transferred",
                json!({ "changes": { "owner": { "from": { kind: { "login": "lena" } } } } })
            ),
            Some(RepositoryChange::Transferred { from: Some("lena".into()) })
        );
    }
    assert_eq!(change("archived", json!({})), Some(RepositoryChange::Archived));
    assert_eq!(change("unarchived", json!({})), Some(RepositoryChange::Unarchived));
    assert_eq!(change("deleted", json!({})), Some(RepositoryChange::Deleted));
    assert_eq!(change("privatized", json!({})), Some(RepositoryChange::MadePrivate));
    assert_eq!(change("edited", json!({})), None);
    assert!(
        parse("repository", br#"{"action":"renamed","changes":{}}"#).is_err(),
        "it does not say from what"
    );
}

#[test]
fn installations_tell_where_and_what_they_reach() {
    let about = |event: &str, action: &str| {
        let event = read(
            event,
            &json!({
                "action": action,
                "installation": { "id": 42, "account": { "login": "octocat" } },
                "repositories_removed": [{ "id": 7, "full_name": "octocat/hello-world", "private": true }],
            }),
        );
        assert_eq!((event.installation, &event.repository), (Some(42), &None));
        event.happening
    };
    let installation = |change| domain::decision::Installation {
        change,
        account: Some("octocat".into()),
        repositories: vec!["octocat/hello-world".parse().expect("a name")],
    };
    for (event, action, change) in [
        ("installation", "created", InstallationChange::Created),
        ("installation", "deleted", InstallationChange::Deleted),
        ("installation", "suspend", InstallationChange::Suspended),
        ("installation", "unsuspend", InstallationChange::Unsuspended),
        ("installation", "new_permissions_accepted", InstallationChange::PermissionsAccepted),
        ("installation_repositories", "added", InstallationChange::RepositoriesAdded),
        ("installation_repositories", "removed", InstallationChange::RepositoriesRemoved),
    ] {
        let found = about(event, action);
        assert_eq!(found, Happening::Installation { installation: installation(change) }, "{event} {action}");
    }
    assert_eq!(about("installation", "renamed"), Happening::Other);
}

#[test]
fn bots_are_told_by_type_or_name() {
    for (sender, is_bot) in [
        (json!({ "login": "mona", "type": "User" }), false),
        (json!({ "login": "mona" }), false),
        (json!({ "login": "dependabot[bot]", "type": "User" }), true),
        (json!({ "login": "renovate", "type": "Bot" }), true),
    ] {
        let actor = read("star", &json!({ "sender": sender })).actor;
        assert_eq!(actor.map(|a| a.is_bot), Some(is_bot), "{sender}");
    }
}

#[test]
fn what_we_do_not_know_is_other() {
    for (event, body) in [
        ("issues", json!({ "action": "opened", "issue": "anything" })),
        ("issues", json!({ "action": "labeled", "issue": { "number": 1 } })),
        ("issues", json!({})),
        ("brand_new_event", json!({ "action": "sparkled", "repository": null, "sender": null })),
        ("ping", json!({ "zen": "Keep it logically awesome.", "hook": {} })),
        ("pull_request_review_comment", json!({ "action": "created", "comment": {}, "pull_request": {} })),
    ] {
        assert_eq!(read(event, &body).happening, Happening::Other, "{event} {body}");
    }
}

#[test]
fn hostile_bodies_are_errors_and_nothing_worse() {
    let deep = format!(r#"{{"action":"labeled","issue":{}{}}}"#, "[".repeat(500_000), "]".repeat(500_000));
    for body in [
        "",
        "null",
        "[]",
        "{",
        r#"{"action":7}"#,
        r#"{"action":"labeled","action":"opened"}"#,
        r#"{"repository":{"full_name":"../../etc"}}"#,
        r#"{"installation":{"id":-1}}"#,
        r#"{"action":"labeled","label":{"name":"run:dev"}}"#,
        r#"{"action":"labeled","issue":{"number":"7"},"label":{"name":"run:dev"}}"#,
        deep.as_str(),
    ] {
        let error = parse("issues", body.as_bytes()).expect_err(&body.chars().take(80).collect::<String>());
        assert!(error.to_string().len() < 400, "{error}");
    }
    // Depth in a part we do not read is passed over.
    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(500_000), "]".repeat(500_000));
    assert!(parse("star", deep.as_bytes()).is_ok());
}

/// What an issue says decides nothing: only who did what to which label does.
#[test]
fn no_text_of_an_issue_changes_what_is_read() {
    let labeled = with("labeled", json!({ "issue": issue(), "label": { "name": "run:dev" } }));
    for hostile in domain::hostile::texts() {
        let mut body = labeled.clone();
        for field in ["title", "body"] {
            body["issue"][field] = json!(hostile.text);
        }
        body["label"]["description"] = json!(hostile.text);
        body["repository"]["description"] = json!(hostile.text);
        assert_eq!(read("issues", &body), read("issues", &labeled), "{}", hostile.name);
    }
}
