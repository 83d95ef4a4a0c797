//! Progress on a commit.

use forge::{ProgressState, Reported};

use super::{super::progress as calls, *};

fn progress(state: ProgressState, earlier: Reported) -> Progress {
    Progress {
        head: SHA.parse().unwrap(),
        name: "callboard/dev".to_owned(),
        run: "run-7".to_owned(),
        state,
        title: "dev for #7: ".to_owned() + &"x".repeat(200),
        summary: "Pull request: #8".to_owned(),
        url: Some("https://github.com/octocat/hello-world/issues/7#issuecomment-1".to_owned()),
        earlier,
    }
}

/// A person's token has statuses: one line, and no word for everything.
#[tokio::test]
async fn statuses_of_a_persons_token() {
    let server = Server::start(|_| json_reply(201, &json!({ "id": 1 }))).await;
    for (state, shown) in [
        (ProgressState::InProgress, "pending"),
        (ProgressState::ActionRequired, "pending"),
        (ProgressState::Succeeded, "success"),
        (ProgressState::Failed, "failure"),
        (ProgressState::Cancelled, "error"),
    ] {
        let progress = progress(state, Reported::Perhaps);
        assert_eq!(server.forge.report_progress(&repository(), &progress).await.unwrap(), None);
        let seen = server.seen().pop().unwrap();
        assert_eq!(seen.body["state"], shown);
        assert_eq!(seen.body["context"], "callboard/dev");
        assert_eq!(seen.body["description"].as_str().unwrap().chars().count(), 140);
        assert!(seen.body["target_url"].as_str().unwrap().ends_with("#issuecomment-1"));
    }
    assert!(server.calls().iter().all(|call| *call == format!("POST /statuses/{SHA}")));
}

/// A 404 is no word about statuses where the repository is out of reach.
#[tokio::test]
async fn no_place_for_statuses_and_no_repository_are_told_apart() {
    for there in [true, false] {
        let server = Server::start(move |seen| match seen.method {
            Method::GET if there => json_reply(200, &repository_body()),
            _ => refused(404, "Not Found"),
        })
        .await;
        let progress = progress(ProgressState::InProgress, Reported::Never);
        let error = server.forge.report_progress(&repository(), &progress).await.unwrap_err();
        assert_eq!(matches!(error, ForgeError::Unsupported { .. }), there, "{error:?}");
        assert_eq!(matches!(error, ForgeError::Missing { .. }), !there, "{error:?}");
    }
}

/// A check run is made once, changed by its id, and looked for after a call of unknown outcome.
#[tokio::test]
async fn check_runs_of_an_app() {
    let server = Server::start(|seen| {
        let other = json!({ "id": 4, "external_id": "run-6" });
        let ours = json!({ "id": 5, "external_id": "run-7" });
        match seen.method {
            Method::GET => json_reply(200, &json!({ "total_count": 2, "check_runs": [other, ours] })),
            Method::POST => json_reply(201, &ours),
            _ => json_reply(200, &ours),
        }
    });
    let server = server.await;
    for (state, earlier) in [
        (ProgressState::InProgress, Reported::Never),
        (ProgressState::Succeeded, Reported::As(5)),
        (ProgressState::ActionRequired, Reported::Perhaps),
    ] {
        let name = repository();
        let scope = server.forge.at(&name, Purpose::Progress);
        assert_eq!(calls::check_run(scope, &progress(state, earlier)).await.unwrap(), Some(5));
    }
    let list = format!("GET /commits/{SHA}/check-runs?check_name=callboard%2Fdev&per_page=100&page=1");
    let (made, changed) = ("POST /check-runs", "PATCH /check-runs/5");
    assert_eq!(server.calls(), [made, changed, &list, changed]);
    let bodies: Vec<Value> = server.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies[0]["head_sha"], SHA);
    assert_eq!((&bodies[0]["status"], &bodies[0]["conclusion"]), (&json!("in_progress"), &Value::Null));
    assert_eq!((&bodies[1]["status"], &bodies[1]["conclusion"]), (&json!("completed"), &json!("success")));
    assert_eq!(bodies[3]["conclusion"], "action_required");
    assert_eq!(bodies[1]["output"]["summary"], "Pull request: #8");
}
