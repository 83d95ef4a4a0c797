//! What an App is told, and how it asks for it again.

use serde_json::{Value, json};
use webhook_simulator::USUAL_PERMISSIONS;

use crate::{
    REPOSITORY, answer,
    apps::Installed,
    hooks::{Received, event, receiver, verifies},
};

fn body(of: &Received) -> Value {
    serde_json::from_slice(&of.1).unwrap()
}

fn name(of: &Received) -> String {
    let action = body(of)["action"].as_str().unwrap_or_default().to_owned();
    format!("{} {action}", of.0["x-github-event"].to_str().unwrap())
}

#[tokio::test]
async fn an_app_hears_of_its_repositories_and_its_installations() {
    let i = Installed::new(&USUAL_PERMISSIONS).await;
    let (url, mut received) = receiver().await;
    i.f.github.set_app_hook(i.app.id, &url, "hush").unwrap();
    let mut next = async || received.recv().await.unwrap();

    i.f.github.open_issue(REPOSITORY, "octocat", "x", "").unwrap();
    let opened = next().await;
    assert_eq!(body(&opened)["installation"]["id"], i.id);
    assert_eq!(opened.0["x-github-hook-installation-target-type"], "integration");
    assert_eq!(opened.0["x-github-hook-installation-target-id"], i.app.id.to_string().as_str());
    assert!(verifies("hush", &opened));
    event(&opened);

    let id = i.id;
    i.f.github.open_issue("octocat/another", "octocat", "x", "").unwrap();
    i.f.github.remove_from_installation(id, "octocat/secret").unwrap();
    let removed = next().await;
    assert_eq!(name(&removed), "installation_repositories removed", "and nothing of `another`");
    assert_eq!(body(&removed)["repositories_removed"][0]["full_name"], "octocat/secret");
    i.f.github.add_to_installation(id, "octocat/secret").unwrap();
    assert_eq!(name(&next().await), "installation_repositories added");

    i.f.github.suspend(id).unwrap();
    let suspended = next().await;
    assert_eq!(name(&suspended), "installation suspend");
    assert_eq!(body(&suspended)["installation"]["suspended_by"]["login"], "octocat");
    i.f.github.open_issue(REPOSITORY, "octocat", "unheard", "").unwrap();
    i.f.github.unsuspend(id).unwrap();
    assert_eq!(name(&next().await), "installation unsuspend");
    i.f.github.set_installation_permissions(id, &[("contents", "read")]).unwrap();
    assert_eq!(name(&next().await), "installation new_permissions_accepted");
    i.f.github.open_issue(REPOSITORY, "octocat", "not for it to read", "").unwrap();

    i.f.github.set_private(REPOSITORY, true).unwrap();
    assert_eq!(name(&next().await), "repository privatized");
    i.f.github.transfer_repository(REPOSITORY, "mona").unwrap();
    let gone = next().await;
    assert_eq!(name(&gone), "installation_repositories removed");
    assert_eq!(body(&gone)["repositories_removed"][0]["full_name"], "mona/hello-world");
    i.f.github.delete_repository("octocat/secret").unwrap();
    assert_eq!(name(&next().await), "repository deleted");
    i.f.github.uninstall(id).unwrap();
    let deleted = next().await;
    assert_eq!(name(&deleted), "installation deleted");
    for told in [removed, suspended, gone, deleted] {
        event(&told);
    }
}

#[tokio::test]
async fn what_did_not_arrive_is_asked_for_again() {
    let i = Installed::new(&USUAL_PERMISSIONS).await;
    let (url, mut received) = receiver().await;
    i.f.github.set_app_hook(i.app.id, &url, "hush").unwrap();
    i.f.github.add_hook(REPOSITORY, &url, "other").unwrap();
    assert_eq!(name(&received.recv().await.unwrap()), "ping ");

    i.f.github.unreachable(true);
    i.f.github.open_issue(REPOSITORY, "octocat", "x", "").unwrap();
    let ended = |wanted: usize| {
        let hook = i.app.hook;
        i.f.github.wait_until(move |g| {
            let all = g.deliveries(hook);
            let ended = all.iter().filter(|d| d.answer.is_some()).count();
            (ended == wanted).then_some(all)
        })
    };
    let missed = ended(1).await.remove(0);
    let ask = |method: &str, path: &str| answer(i.f.anonymous(method, path).bearer_auth(i.signed()));
    let (status, failed) = ask("GET", "/app/hook/deliveries?status=failure").await;
    assert_eq!(
        (status, &failed[0]["guid"], &failed[0]["status_code"]),
        (200, &json!(missed.guid), &json!(502))
    );
    assert_eq!(failed[0]["installation_id"], i.id);
    assert!(failed[0]["repository_id"].is_number());
    i.f.github.unreachable(false);
    let path = format!("/app/hook/deliveries/{}", missed.id);
    assert_eq!(ask("POST", &format!("{path}/attempts")).await.0, 202);
    let again = received.recv().await.unwrap();
    assert_eq!(again.0["x-github-delivery"].to_str().unwrap(), missed.guid);
    assert!(verifies("hush", &again));
    assert!(ended(2).await[1].redelivery);
    let whole = ask("GET", &path).await.1;
    assert_eq!(whole["request"]["payload"]["issue"]["number"], 1);
    assert_eq!(ask("GET", "/app/hook/deliveries?per_page=1").await.1[0]["redelivery"], true);
    let config = ask("GET", "/app/hook/config").await.1;
    assert_eq!((&config["url"], &config["secret"]), (&json!(url), &json!("********")));
    assert_eq!(answer(i.f.anonymous("GET", "/app/hook/deliveries").bearer_auth(&i.f.token)).await.0, 401);
}
