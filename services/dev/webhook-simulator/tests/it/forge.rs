//! What the platform does at GitHub, done at the stand-in.

use std::{sync::Arc, time::Duration};

use domain::{clock::Clock, names::CommitSha};
use forge::{Forge, ForgeError, LabelDefinition, NewRemark, NewReview, Reaction, ReviewState};
use github::{Credential, GithubForge, GithubSettings};

use crate::{Fixture, REPOSITORY, Stopped};

fn forge(f: &Fixture) -> GithubForge {
    let clock: Arc<dyn Clock> = Arc::new(Stopped("2026-03-01T12:00:00Z".parse().unwrap()));
    let credential = Credential::PersonalAccessToken(f.token.clone().into());
    let api_url = f.github.api_url().parse().unwrap();
    GithubForge::new(GithubSettings { api_url, credential, clock, list_lag: Duration::ZERO }).unwrap()
}

#[tokio::test]
async fn files_and_labels() {
    let f = Fixture::new().await;
    let (forge, repository) = (forge(&f), REPOSITORY.parse().unwrap());
    let files = [(".callboard/stages.yaml", "stages: []\n"), (".callboard/prompts/en/dev.md", "{}\n")];
    let at: CommitSha = f.github.commit(REPOSITORY, "Configure", &files).await.unwrap().parse().unwrap();
    let read = forge.file(&repository, ".callboard/stages.yaml", &at).await.unwrap();
    assert_eq!(read.as_deref(), Some(&b"stages: []\n"[..]));
    for nothing in ["nope", ".callboard", "README.md/x"] {
        assert_eq!(forge.file(&repository, nothing, &at).await.unwrap(), None, "{nothing}");
    }
    let below = forge.files_below(&repository, ".callboard", &at).await.unwrap();
    assert_eq!(below, [".callboard/prompts/en/dev.md", ".callboard/stages.yaml"]);
    assert!(forge.files_below(&repository, "nope", &at).await.unwrap().is_empty());
    assert!(forge.files_below(&repository, "README.md", &at).await.unwrap().is_empty());
    let large = [("large.yaml", "x".repeat(1024 * 1024 + 1))];
    let large = large.each_ref().map(|(path, text)| (*path, text.as_str()));
    let at = f.github.commit(REPOSITORY, "Large", &large).await.unwrap().parse().unwrap();
    let refused = forge.file(&repository, "large.yaml", &at).await;
    assert!(matches!(refused, Err(ForgeError::Invalid { .. })), "{refused:?}");

    let label = |color: &str| LabelDefinition {
        name: "run:dev".into(),
        color: color.into(),
        description: "Write the code".into(),
    };
    forge.create_label(&repository, &label("0e8a16")).await.unwrap();
    let again = forge.create_label(&repository, &label("0e8a16")).await;
    assert!(matches!(again, Err(ForgeError::Conflict { .. })), "{again:?}");
    forge.update_label(&repository, &label("1d76db")).await.unwrap();
    assert_eq!(forge.labels(&repository).await.unwrap(), [label("1d76db")]);
}

#[tokio::test]
async fn a_pull_request_is_reviewed_and_goes_on() {
    let f = Fixture::new().await;
    let (forge, repository) = (forge(&f), REPOSITORY.parse().unwrap());
    let files = [("src/greeting.sh", "#!/bin/sh\necho HELLO\n")];
    let head = f.github.push_to_branch(REPOSITORY, "louder", "mona", "Louder", &files).await.unwrap();
    let number = f.github.open_pull_request(REPOSITORY, "mona", "Louder", "louder", "main").await.unwrap();
    f.github.add_label(REPOSITORY, number, "need:reviewer", "octocat").unwrap();
    let head: CommitSha = head.parse().unwrap();
    let pull = forge.pull_request(&repository, number).await.unwrap();
    assert_eq!((&pull.head_sha, pull.branch.as_str(), pull.base.as_str()), (&head, "louder", "main"));
    assert_eq!(
        (pull.open, pull.merged, pull.from_fork, &pull.labels[..]),
        (true, false, false, &["need:reviewer".to_owned()][..])
    );
    assert_eq!(forge.files_of_pull_request(&repository, number).await.unwrap(), ["src/greeting.sh"]);

    let remark =
        |line: Option<u64>| NewRemark { path: "src/greeting.sh".into(), line, body: "Quieter".into() };
    let review =
        |remarks: Vec<NewRemark>| NewReview { head: head.clone(), body: "One finding".into(), remarks };
    let refused =
        forge.create_review(&repository, number, &review(vec![remark(Some(2)), remark(Some(9))])).await;
    assert!(
        matches!(&refused, Err(ForgeError::Invalid { message }) if message.contains("must be part of the diff")),
        "{refused:?}"
    );
    assert!(forge.reviews(&repository, number).await.unwrap().is_empty());
    let written =
        forge.create_review(&repository, number, &review(vec![remark(Some(2)), remark(None)])).await.unwrap();
    f.github.add_user("lena", false);
    f.github
        .review(REPOSITORY, number, "lena", "request_changes", "No", &[("src/greeting.sh", 2, "Why?")])
        .await
        .unwrap();
    let reviews = forge.reviews(&repository, number).await.unwrap();
    assert_eq!((reviews[0].id, reviews[0].state), (written.id, ReviewState::Commented));
    assert_eq!((reviews[0].remarks.len(), reviews[0].remarks[0].line), (1, Some(2)));
    assert!(reviews[0].body.contains("**`src/greeting.sh`**\n\nQuieter"), "{}", reviews[0].body);
    assert_eq!((reviews[1].state, reviews[1].author.as_str()), (ReviewState::ChangesRequested, "lena"));
    assert_eq!((reviews[1].commit.as_ref(), reviews[1].remarks[0].body.as_str()), (Some(&head), "Why?"));

    // The branch moves on from its head, and only on.
    let main = forge.branch_head(&repository, "main").await.unwrap().unwrap();
    let back = forge.move_branch(&repository, "louder", &main).await;
    assert!(matches!(back, Err(ForgeError::Conflict { .. })), "{back:?}");
    let gone = forge.move_branch(&repository, "nope", &main).await;
    assert!(matches!(gone, Err(ForgeError::Missing { .. })), "{gone:?}");
    let on = f.github.push_to_branch(REPOSITORY, "next", "mona", "x", &[("x", "x\n")]).await.unwrap();
    let merged: CommitSha = on.parse().unwrap();
    let aside = forge.move_branch(&repository, "louder", &merged).await;
    assert!(matches!(aside, Err(ForgeError::Conflict { .. })), "{aside:?}");
    let commit = forge::NewCommit {
        parent: head.clone(),
        message: "Quieter".into(),
        changes: vec![forge::TreeChange {
            path: "src/greeting.sh".into(),
            content: Some((forge::FileMode::Executable, b"#!/bin/sh\necho hello you\n".to_vec())),
        }],
        date: "2026-03-01T12:00:00Z".parse().unwrap(),
    };
    let next = forge.create_commit(&repository, &commit).await.unwrap();
    for _ in 0..2 {
        forge.move_branch(&repository, "louder", &next).await.unwrap();
    }
    assert_eq!(forge.pull_request(&repository, number).await.unwrap().head_sha, next);
    assert_eq!(forge.reviews(&repository, number).await.unwrap()[1].remarks[0].line, None, "outdated");

    forge.update_pull_request(&repository, number, "Asked, done, checked").await.unwrap();
    assert_eq!(forge.pull_request(&repository, number).await.unwrap().body, "Asked, done, checked");
    let comment = f.github.add_comment(REPOSITORY, number, "lena", "/callboard run dev").unwrap();
    for _ in 0..2 {
        forge.react_to_comment(&repository, comment, Reaction::ThumbsUp).await.unwrap();
    }
    assert_eq!(f.github.comments(REPOSITORY, number)[0].reactions.len(), 1);
    let gone = forge.react_to_comment(&repository, 1, Reaction::ThumbsUp).await;
    assert!(matches!(gone, Err(ForgeError::Missing { .. })), "{gone:?}");
    f.github.merge(REPOSITORY, number, "octocat").await.unwrap();
    let pull = forge.pull_request(&repository, number).await.unwrap();
    assert_eq!((pull.open, pull.merged), (false, true));
}

#[tokio::test]
async fn a_fork_is_a_fork_and_what_is_told_reads() {
    let f = Fixture::new().await;
    let (forge, repository) = (forge(&f), REPOSITORY.parse().unwrap());
    let hook = f.github.add_hook(REPOSITORY, "http://127.0.0.1:1/", "s").unwrap();
    let number = f
        .github
        .open_pull_request_from_fork(REPOSITORY, "mallory", "Hello", "patch-1", &[("README.md", "# Hi\n")])
        .await
        .unwrap();
    f.github.add_label(REPOSITORY, number, "run:dev", "octocat").unwrap();
    f.github.review(REPOSITORY, number, "octocat", "approve", "", &[]).await.unwrap();
    f.github.add_comment(REPOSITORY, number, "mallory", "/callboard run dev").unwrap();
    assert!(forge.pull_request(&repository, number).await.unwrap().from_fork);
    let told: Vec<_> = f
        .github
        .deliveries(hook)
        .into_iter()
        .map(|d| github::payload::parse(&d.event, d.body.as_bytes()).unwrap())
        .filter_map(|event| event.happening.on().and_then(|on| on.pull.clone()))
        .collect();
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|pull| pull.from_fork), "{told:?}");
    assert_eq!(told[1].branch.as_deref(), Some("patch-1"));
    assert_eq!(told[2].head, None, "a comment does not tell the head");
}

#[tokio::test]
async fn a_renamed_repository_is_found() {
    let f = Fixture::new().await;
    let (forge, repository) = (forge(&f), REPOSITORY.parse().unwrap());
    f.github.open_issue(REPOSITORY, "octocat", "Say hello", "").unwrap();
    f.github.rename_repository(REPOSITORY, "goodbye-world", "octocat").unwrap();
    let found = forge.repository(&repository).await.unwrap();
    assert_eq!(found.name.to_string(), "octocat/goodbye-world");
    assert_eq!(forge.issue(&repository, 1).await.unwrap().title, "Say hello");
}
