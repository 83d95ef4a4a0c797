//! The platform as an App at the stand-in: its tokens, and what becomes of its installation.

use std::{sync::Arc, time::Duration};

use forge::{Forge, ForgeError, Identity, Level, Limit};
use github::{Credential, GithubForge, GithubSettings};
use webhook_simulator::USUAL_PERMISSIONS;

use crate::{Hand, REPOSITORY, apps::Installed};

fn forge(i: &Installed, clock: Arc<Hand>) -> GithubForge {
    let credential =
        Credential::App { id: i.app.client_id.clone(), private_key: i.app.private_key.clone().into() };
    let api_url = i.f.github.api_url().parse().unwrap();
    GithubForge::new(GithubSettings { api_url, credential, clock, list_lag: Duration::ZERO }).unwrap()
}

async fn installed() -> (Installed, GithubForge) {
    let i = Installed::new(&USUAL_PERMISSIONS).await;
    i.f.github.open_issue(REPOSITORY, "octocat", "Say hello", "").unwrap();
    let forge = forge(&i, i.clock.clone());
    (i, forge)
}

impl Installed {
    fn asked(&self, request: &str) -> usize {
        self.f.github.request_counts().get(request).copied().unwrap_or_default()
    }

    fn lookups(&self) -> usize {
        self.asked("GET /repos/{owner}/{repo}/installation")
    }
}

#[tokio::test]
async fn four_tokens_do_all_of_a_run() {
    let (i, forge) = installed().await;
    let repository = REPOSITORY.parse().unwrap();
    for _ in 0..2 {
        forge.repository(&repository).await.unwrap();
        let head = forge.branch_head(&repository, "main").await.unwrap().unwrap();
        forge.create_comment(&repository, 1, "On it").await.unwrap();
        let _exists = forge.create_branch(&repository, "callboard/1-dev", &head).await;
        forge.git_credential(&repository).await.unwrap();
    }
    assert_eq!(forge.identity().await.unwrap(), "callboard[bot]");
    assert_eq!(i.f.github.comments(REPOSITORY, 1)[0].author, "callboard[bot]");
    let minted = i.f.github.tokens_minted();
    assert!(minted.iter().all(|token| token.repositories == [REPOSITORY]), "{minted:?}");
    let may: Vec<Vec<&str>> =
        minted.iter().map(|token| token.permissions.keys().map(String::as_str).collect()).collect();
    assert_eq!(
        may,
        [
            vec!["contents", "issues", "metadata", "pull_requests"],
            vec!["issues", "metadata", "pull_requests"],
            vec!["checks", "contents", "metadata"],
            vec!["contents", "metadata"],
        ]
    );
    assert_eq!((i.lookups(), i.asked("GET /app")), (1, 0));
}

#[tokio::test]
async fn tokens_that_die_are_replaced_under_way() {
    let (i, forge) = installed().await;
    let repository = REPOSITORY.parse().unwrap();
    forge.create_comment(&repository, 1, "one").await.unwrap();
    i.f.github.expire_tokens();
    forge.create_comment(&repository, 1, "two").await.unwrap();
    let bodies: Vec<String> =
        i.f.github.comments(REPOSITORY, 1).into_iter().map(|comment| comment.body).collect();
    assert_eq!(bodies, ["one", "two"]);
    assert_eq!((i.f.github.tokens_minted().len(), i.lookups()), (2, 1));
    // By the clock, before it ends: nothing is refused.
    let refused = |i: &Installed| i.f.github.request_log().iter().filter(|r| r.status == 401).count();
    assert_eq!(refused(&i), 1);
    for _ in 0..12 {
        i.clock.pass(10 * 60);
        forge.repository(&repository).await.unwrap();
    }
    assert_eq!((refused(&i), i.f.github.tokens_minted().len()), (1, 4));
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_put_right() {
    for seconds in [-11 * 60, 11 * 60] {
        let (i, _) = installed().await;
        let ours = Hand::at_noon();
        ours.pass(seconds);
        let forge = forge(&i, ours);
        forge.repository(&REPOSITORY.parse().unwrap()).await.unwrap();
        let statuses: Vec<u16> = i.f.github.request_log().iter().map(|r| r.status).collect();
        assert!(matches!(statuses[..], [401, 200, 201, 200]), "{seconds} {statuses:?}");
    }
}

/// Each time: what people read, and that it goes on when it is put right.
#[tokio::test]
async fn an_installation_is_suspended_narrowed_and_taken_away() {
    let (i, forge) = installed().await;
    let repository = REPOSITORY.parse().unwrap();
    let github = &i.f.github;
    forge.create_comment(&repository, 1, "hello").await.unwrap();
    let mut said = Vec::new();
    let comment = async || forge.create_comment(&repository, 1, "again").await;
    let refused = async || comment().await.unwrap_err().to_string();

    github.suspend(i.id).unwrap();
    said.push(refused().await);
    github.unsuspend(i.id).unwrap();
    comment().await.unwrap();

    github.set_installation_permissions(i.id, &[("contents", "write")]).unwrap();
    said.push(refused().await);
    let access = forge.access(&repository).await.unwrap();
    assert_eq!((access.identity, access.installation), (Identity::App, Some(i.id)));
    said.push(access.missing.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", "));
    github.set_installation_permissions(i.id, &USUAL_PERMISSIONS).unwrap();
    forge.forget_access(&repository);
    comment().await.unwrap();

    github.remove_from_installation(i.id, REPOSITORY).unwrap();
    said.push(refused().await);
    github.add_to_installation(i.id, REPOSITORY).unwrap();
    comment().await.unwrap();

    github.uninstall(i.id).unwrap();
    said.push(refused().await);
    assert_eq!(github.comments(REPOSITORY, 1).len(), 4);
    let parts = [
        "the App's installation is suspended since 2026-03-01 12:00 UTC: unsuspend it at http",
        "the App's installation lacks `issues: write` and `pull_requests: write`: give the App",
        "issues: write, pull_requests: write, checks: write",
        "the App is not installed on octocat/hello-world, or the repository is gone: install it",
        "the App is not installed on octocat/hello-world, or the repository is gone: install it",
    ];
    for (said, part) in said.iter().zip(parts) {
        assert!(said.contains(part), "{said}");
    }
    let credential = Credential::App { id: "815".to_owned(), private_key: i.app.private_key.clone().into() };
    let api_url = github.api_url().parse().unwrap();
    let settings = GithubSettings { api_url, credential, clock: i.clock.clone(), list_lag: Duration::ZERO };
    let error = GithubForge::new(settings).unwrap().repository(&repository).await.unwrap_err();
    assert!(error.to_string().contains("GitHub knows no App with this id"), "{error}");
}

#[tokio::test]
async fn a_renamed_repository_is_found_by_an_app_too() {
    let (i, old) = installed().await;
    i.f.github.rename_repository(REPOSITORY, "goodbye-world", "octocat").unwrap();
    for forge in [old, forge(&i, i.clock.clone())] {
        let found = forge.repository(&REPOSITORY.parse().unwrap()).await.unwrap();
        assert_eq!(found.name.to_string(), "octocat/goodbye-world");
    }
    assert!(i.f.github.tokens_minted().iter().any(|token| token.repositories == ["octocat/goodbye-world"]));
}

#[tokio::test]
async fn limits_are_kept_and_what_did_not_change_is_not_sent() {
    let (i, forge) = installed().await;
    let repository = REPOSITORY.parse().unwrap();
    i.f.github.enforce_content_limits(true);
    let (mut made, mut waited) = (0, Vec::new());
    while made < 160 {
        match forge.create_comment(&repository, 1, "hello").await {
            Ok(_) => made += 1,
            Err(ForgeError::Limited { retry_after, limit }) => {
                waited.push(limit);
                i.clock.pass(i64::try_from(retry_after.as_secs()).unwrap());
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(waited, [Limit::ContentPerMinute(80), Limit::ContentPerMinute(80)]);
    assert!(i.f.github.request_log().iter().all(|r| r.status < 400), "GitHub never had to say so");
    assert_eq!(forge.allowance(&repository).level, Level::Plenty);

    for _ in 0..2 {
        forge.repository(&repository).await.unwrap();
    }
    let last: Vec<u16> =
        i.f.github
            .request_log()
            .iter()
            .filter(|r| r.template == "/repos/{owner}/{repo}")
            .map(|r| r.status)
            .collect();
    assert_eq!(last, [200, 304]);
}
