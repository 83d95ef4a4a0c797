//! octocrab reads every answer into its own models.

use octocrab::{Octocrab, models::reactions::ReactionContent, params};
use serde_json::json;

use crate::{Fixture, REPOSITORY};

fn client(f: &Fixture, token: &str) -> Octocrab {
    let builder = Octocrab::builder().base_uri(f.github.api_url()).unwrap();
    builder.user_access_token(token.to_owned()).build().unwrap()
}

#[tokio::test]
async fn octocrab_sees_github() {
    let f = Fixture::new().await;
    let crab = client(&f, &f.token);
    assert_eq!(crab.current().user().await.unwrap().login, "octocat");
    let repository = crab.repos("octocat", "hello-world").get().await.unwrap();
    assert_eq!(repository.full_name.as_deref(), Some(REPOSITORY));
    assert!(repository.permissions.unwrap().admin);
    crab.ratelimit().get().await.unwrap();

    let issues = crab.issues("octocat", "hello-world");
    let issue = issues.create("Say hello").body("Please").send().await.unwrap();
    assert_eq!((issue.number, issue.user.login.as_str()), (1, "octocat"));
    let labels = issues.add_labels(1, &["run:dev".to_owned()]).await.unwrap();
    assert_eq!(labels[0].name, "run:dev");
    let comment = issues.create_comment(1, "On it").await.unwrap();
    issues.update_comment(comment.id, "Done").await.unwrap();
    let listed = issues.list_comments(1).send().await.unwrap();
    assert_eq!(listed.items[0].body.as_deref(), Some("Done"));
    issues.create_reaction(1, ReactionContent::Eyes).await.unwrap();
    assert!(issues.remove_label(1, "run:dev").await.unwrap().is_empty());
    assert_eq!(issues.get(1).await.unwrap().comments, 1);

    let main = params::repos::Reference::Branch("main".to_owned());
    let reference = crab.repos("octocat", "hello-world").get_ref(&main).await.unwrap();
    let octocrab::models::repos::Object::Commit { sha, .. } = reference.object else {
        panic!("not a commit")
    };
    let tree: serde_json::Value = crab
        .post(
            format!("/repos/{REPOSITORY}/git/trees"),
            Some(&json!({ "base_tree": sha, "tree": [
                { "path": "a.txt", "mode": "100644", "type": "blob", "content": "a\n" },
            ] })),
        )
        .await
        .unwrap();
    let commit: serde_json::Value = crab
        .post(
            format!("/repos/{REPOSITORY}/git/commits"),
            Some(&json!({ "message": "a", "tree": tree["sha"], "parents": [sha] })),
        )
        .await
        .unwrap();
    let branch = params::repos::Reference::Branch("callboard/1-dev".to_owned());
    let head = commit["sha"].as_str().unwrap();
    crab.repos("octocat", "hello-world").create_ref(&branch, head).await.unwrap();
    let pulls = crab.pulls("octocat", "hello-world");
    let pull = pulls.create("Add a", "callboard/1-dev", "main").body("Done").send().await.unwrap();
    assert_eq!((pull.number, pull.head.sha.as_str(), pull.changed_files), (2, head, Some(1)));
    let found = pulls.list().head("octocat:callboard/1-dev").send().await.unwrap();
    assert_eq!(found.items.len(), 1);
    assert!(pulls.get_diff(2).await.unwrap().contains("+a"));
    assert_eq!(pulls.list_files(2).await.unwrap().items[0].filename, "a.txt");

    let octocrab::Error::GitHub { source, .. } =
        pulls.create("Again", "callboard/1-dev", "main").send().await.unwrap_err()
    else {
        panic!("not GitHub's own error")
    };
    assert_eq!((source.status_code.as_u16(), source.message.as_str()), (422, "Validation Failed"));
    let octocrab::Error::GitHub { source, .. } =
        client(&f, "ghp_wrong").issues("octocat", "hello-world").get(1).await.unwrap_err()
    else {
        panic!("not GitHub's own error")
    };
    assert_eq!(source.message, "Bad credentials");
}
