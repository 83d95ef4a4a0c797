//! Apps: who they are, what their tokens are good for, and for how long.

use std::sync::Arc;

use domain::clock::Clock;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use octocrab::{Octocrab, models::InstallationId};
use serde_json::{Value, json};
use webhook_simulator::{App, Level, ROUTES, Route, USUAL_PERMISSIONS};

use crate::{Fixture, Hand, REPOSITORY, answer};

const SECRET: &str = "octocat/secret";

/// A stand-in with an App that is installed on octocat's `hello-world` and `secret`, which is
/// private.
pub(crate) struct Installed {
    pub(crate) f: Fixture,
    pub(crate) clock: Arc<Hand>,
    pub(crate) app: App,
    pub(crate) id: u64,
}

impl Installed {
    pub(crate) async fn new(permissions: &[(&str, &str)]) -> Self {
        let clock = Hand::at_noon();
        let f = Fixture::with(clock.clone()).await;
        f.github.create_repository(SECRET, true, &[("README.md", "# Secret\n")]).await.unwrap();
        f.github.create_repository("octocat/another", true, &[("a", "b")]).await.unwrap();
        let app = f.github.create_app("callboard", "", "").unwrap();
        let id = f.github.install_app(app.id, "octocat", &[REPOSITORY, SECRET], permissions).unwrap();
        Self { f, clock, app, id }
    }

    /// A token the App signed a moment ago.
    pub(crate) fn signed(&self) -> String {
        let now = self.clock.now().timestamp();
        sign(&self.app, &json!({ "iss": self.app.id, "iat": now - 60, "exp": now + 540 }))
    }

    pub(crate) async fn mint(&self, wish: Value) -> (u16, Value) {
        let path = format!("/app/installations/{}/access_tokens", self.id);
        answer(self.f.anonymous("POST", &path).bearer_auth(self.signed()).json(&wish)).await
    }

    pub(crate) async fn token(&self, wish: Value) -> String {
        let (status, body) = self.mint(wish).await;
        assert_eq!(status, 201, "{body}");
        body["token"].as_str().unwrap().to_owned()
    }
}

fn sign(app: &App, claims: &Value) -> String {
    let key = EncodingKey::from_rsa_pem(app.private_key.as_bytes()).unwrap();
    jsonwebtoken::encode(&Header::new(Algorithm::RS256), claims, &key).unwrap()
}

fn message(body: &Value) -> &str {
    body["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn an_app_is_who_signed_a_moment_ago() {
    let i = Installed::new(&USUAL_PERMISSIONS).await;
    let now = i.clock.now().timestamp();
    let other = i.f.github.create_app_with_fresh_key("other", "", "").unwrap();
    let claims = |iss: Value, iat: Value, exp: i64| json!({ "iss": iss, "iat": iat, "exp": exp });
    let id = json!(i.app.id);
    let undecodable = "A JSON web token could not be decoded";
    let late = "'Expiration time' claim ('exp') must be a numeric value representing the future time at which \
                the assertion expires";
    let ahead = "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was \
                 issued";
    let cases = [
        (sign(&i.app, &claims(id.clone(), json!(now - 60), now + 540)), 200, ""),
        (sign(&i.app, &claims(json!(i.app.id.to_string()), json!(now), now + 600)), 200, ""),
        (sign(&i.app, &claims(json!(i.app.client_id), json!(now), now + 600)), 200, ""),
        (
            sign(&i.app, &claims(id.clone(), json!(now), now + 601)),
            401,
            "'Expiration time' claim ('exp') is too far in the future",
        ),
        (sign(&i.app, &claims(id.clone(), json!(now - 600), now)), 401, late),
        (sign(&i.app, &claims(id.clone(), json!(now + 1), now + 300)), 401, ahead),
        (sign(&i.app, &claims(id.clone(), json!("now"), now + 300)), 401, ahead),
        (
            sign(&i.app, &json!({ "iat": now, "exp": now + 300 })),
            401,
            "Missing 'issuer' claim ('iss') in assertion",
        ),
        (sign(&i.app, &claims(json!(1), json!(now), now + 300)), 404, "Integration not found"),
        (sign(&other, &claims(id.clone(), json!(now), now + 300)), 401, undecodable),
        (i.f.token.clone(), 401, undecodable),
        (i.token(json!({})).await, 401, undecodable),
        ("eyJ.eyJ.x".to_owned(), 401, undecodable),
    ];
    for (token, status, words) in cases {
        let (found, body) = answer(i.f.anonymous("GET", "/app").bearer_auth(token)).await;
        assert_eq!((found, message(&body)), (status, words));
    }
    // It is nobody who could do anything, or read anything but about itself.
    let ask = |path: &str| answer(i.f.anonymous("GET", path).bearer_auth(i.signed()));
    assert_eq!(ask(&format!("/repos/{SECRET}")).await.0, 401);
    let (_, app) = ask("/app").await;
    assert_eq!((&app["slug"], &app["permissions"]["issues"]), (&json!("callboard"), &json!("write")));
    let found = ask(&format!("/repos/{SECRET}/installation")).await.1;
    assert_eq!((&found["id"], &found["app_slug"]), (&json!(i.id), &json!("callboard")));
    assert_eq!(ask("/repos/octocat/another/installation").await.0, 404);
    assert_eq!(ask("/app/installations").await.1[0]["repository_selection"], "selected");
}

#[tokio::test]
async fn a_token_is_for_its_repositories_and_permissions_and_an_hour() {
    let i = Installed::new(&USUAL_PERMISSIONS).await;
    i.f.github.open_issue(SECRET, "octocat", "x", "").unwrap();
    i.f.github.open_issue(REPOSITORY, "octocat", "x", "").unwrap();
    let narrow = json!({ "repositories": ["secret"], "permissions": { "issues": "write" } });
    let (status, minted) = i.mint(narrow.clone()).await;
    assert_eq!((status, &minted["expires_at"]), (201, &json!("2026-03-01T13:00:00Z")));
    assert_eq!(minted["permissions"], json!({ "issues": "write", "metadata": "read" }));
    assert_eq!(minted["repository_selection"], "selected");
    let token = minted["token"].as_str().unwrap().to_owned();
    let as_app = |method: &str, path: &str, body: Value| {
        answer(i.f.anonymous(method, path).bearer_auth(&token).json(&body))
    };
    let comments = format!("/repos/{SECRET}/issues/1/comments");
    let (status, comment) = as_app("POST", &comments, json!({ "body": "On it" })).await;
    assert_eq!((status, &comment["user"]["login"]), (201, &json!("callboard[bot]")));
    assert_eq!(comment["performed_via_github_app"]["id"], i.app.id);
    let (status, body) =
        as_app("POST", &format!("/repos/{SECRET}/git/blobs"), json!({ "content": "x" })).await;
    assert_eq!((status, message(&body)), (403, "Resource not accessible by integration"));
    assert_eq!(
        as_app("GET", "/repos/octocat/another", Value::Null).await.0,
        404,
        "it is not installed there"
    );
    assert_eq!(as_app("GET", &format!("/repos/{REPOSITORY}/issues/1"), Value::Null).await.0, 200, "public");
    let there = format!("/repos/{REPOSITORY}/issues/1/comments");
    assert_eq!(as_app("POST", &there, json!({ "body": "x" })).await.0, 403, "the token is not for it");
    assert_eq!(as_app("GET", "/user", Value::Null).await.0, 403);
    let of_token = as_app("GET", "/installation/repositories", Value::Null).await.1;
    assert_eq!(
        (&of_token["total_count"], &of_token["repositories"][0]["full_name"]),
        (&json!(1), &json!(SECRET))
    );

    let more = i.mint(json!({ "permissions": { "administration": "write" } })).await;
    assert_eq!(
        (more.0, message(&more.1)),
        (422, "The permissions requested are not granted to this installation.")
    );
    for wish in [json!({ "repositories": ["another"] }), json!({ "repository_ids": [1] })] {
        assert_eq!(i.mint(wish).await.0, 422);
    }
    assert_eq!(i.f.github.tokens_minted().len(), 1);
    assert_eq!(i.f.github.tokens_minted()[0].repositories, [SECRET]);

    // What is taken from the installation is taken from tokens that are out.
    i.f.github.remove_from_installation(i.id, SECRET).unwrap();
    assert_eq!(as_app("GET", &comments, Value::Null).await.0, 404);
    i.f.github.add_to_installation(i.id, SECRET).unwrap();
    i.f.github.set_installation_permissions(i.id, &[("issues", "read")]).unwrap();
    assert_eq!(as_app("POST", &comments, json!({ "body": "x" })).await.0, 403);
    i.f.github.set_installation_permissions(i.id, &USUAL_PERMISSIONS).unwrap();
    i.f.github.suspend(i.id).unwrap();
    for refused in [as_app("GET", &comments, Value::Null).await, i.mint(json!({})).await] {
        assert_eq!((refused.0, message(&refused.1)), (403, "This installation has been suspended"));
    }
    i.f.github.unsuspend(i.id).unwrap();
    i.clock.pass(3599);
    assert_eq!(as_app("GET", &comments, Value::Null).await.0, 200);
    i.clock.pass(1);
    let over = as_app("GET", &comments, Value::Null).await;
    assert_eq!((over.0, message(&over.1)), (401, "Bad credentials"));

    let next = i.token(narrow).await;
    let ask = |method: &str, path: &str| answer(i.f.anonymous(method, path).bearer_auth(&next));
    assert_eq!(ask("GET", &comments).await.0, 200);
    assert_eq!(ask("DELETE", "/installation/token").await.0, 204);
    assert_eq!(ask("GET", &comments).await.0, 401, "revoked");
    let all = i.token(json!({})).await;
    i.f.github.expire_tokens();
    assert_eq!(answer(i.f.anonymous("GET", &comments).bearer_auth(&all)).await.0, 401);
    i.f.github.uninstall(i.id).unwrap();
    assert_eq!(i.mint(json!({})).await.0, 404);
}

/// An address of the route about something that is there, on an issue or on a pull request.
fn address(route: &Route, number: u64, comment: u64, sha: &str) -> String {
    let name = if route.method == "GET" { "heads/main" } else { "heads/nope" };
    let path = route
        .path
        .replace("{number}", &number.to_string())
        .replace("{comment}", &comment.to_string())
        .replace("{username}", "octocat")
        .replace("{sha}", sha)
        .replace("{*tree}", sha)
        .replace("{*path}", "README.md")
        .replace("{*name}", name)
        .replace("{*range}", "main...main")
        .replace("{*branch}", "main")
        .replace("{name}", "bug");
    let rest = ["{review}", "{hook}", "{delivery}", "{check_run}"];
    let path = rest.iter().fold(path, |path, part| path.replace(part, "1"));
    assert!(!path.contains('{'), "{path}");
    format!("/repos/{SECRET}{path}")
}

#[tokio::test]
async fn each_request_takes_its_permission() {
    let all = [
        ("contents", "write"),
        ("issues", "write"),
        ("pull_requests", "write"),
        ("checks", "write"),
        ("statuses", "write"),
        ("repository_hooks", "write"),
    ];
    let i = Installed::new(&all).await;
    let token = i.token(json!({})).await;
    let issue = i.f.github.open_issue(SECRET, "octocat", "x", "").unwrap();
    let head = i.f.github.push_to_branch(SECRET, "x", "octocat", "x", &[("x", "x\n")]).await.unwrap();
    let pull = i.f.github.open_pull_request(SECRET, "octocat", "x", "x", "main").await.unwrap();
    let comment = |on: u64| i.f.github.add_comment(SECRET, on, "callboard[bot]", "x").unwrap();
    let refused = async |route: &Route, on: u64, granted: &[(&str, &str)]| {
        i.f.github.set_installation_permissions(i.id, granted).unwrap();
        let path = address(route, on, comment(on), &head);
        let response = i.f.anonymous(route.method, &path).bearer_auth(&token).send().await.unwrap();
        let accepted = response.headers()["x-accepted-github-permissions"].to_str().unwrap().to_owned();
        let status = response.status().as_u16();
        let body: Value = response.json().await.unwrap_or_default();
        (message(&body) == "Resource not accessible by integration", status, accepted)
    };
    for route in ROUTES {
        let row = format!("{} {}", route.method, route.path);
        for (name, level) in route.accepted {
            let written = match level {
                Level::Read => "read",
                Level::Write => "write",
                Level::Admin => "admin",
            };
            let on = if *name == "pull_requests" { pull } else { issue };
            let enough = refused(route, on, &[(name, written)]).await;
            assert!(!enough.0, "{row} with {name}={written}: {enough:?}");
            assert!(enough.2.contains(&format!("{name}={written}")), "{row}: {}", enough.2);
            if *name == "metadata" {
                continue;
            }
            let nothing = refused(route, on, &[]).await;
            assert!(nothing.0 && nothing.1 == 403, "{row} with nothing: {nothing:?}");
            if *level == Level::Write {
                let little = refused(route, on, &[(name, "read")]).await;
                assert!(little.0, "{row} with {name}=read: {little:?}");
            }
            if route.accepted.len() > 1 && *name == "pull_requests" && !route.path.starts_with("/labels") {
                let elsewhere = refused(route, issue, &[(name, written)]).await;
                assert!(elsewhere.0, "{row} on an issue with {name}={written}: {elsewhere:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_an_app_commits_is_signed() {
    let i = Installed::new(&USUAL_PERMISSIONS).await;
    let token = i.token(json!({})).await;
    let main = i.f.call("GET", "branches/main", Value::Null).await.1["commit"].clone();
    let new = json!({ "message": "x", "tree": main["commit"]["tree"]["sha"], "parents": [main["sha"]] });
    let commit = async |token: &str, new: &Value| {
        let request = i.f.anonymous("POST", "git/commits").bearer_auth(token).json(new);
        let sha = answer(request).await.1["sha"].as_str().unwrap().to_owned();
        let read = i.f.call("GET", &format!("git/commits/{sha}"), Value::Null).await.1;
        (read["author"]["name"].clone(), read["verification"]["verified"].clone())
    };
    assert_eq!(commit(&token, &new).await, (json!("callboard[bot]"), json!(true)));
    assert_eq!(commit(&i.f.token, &new).await, (json!("octocat"), json!(false)));
    let mut named = new;
    named["author"] = json!({ "name": "Mona", "email": "mona@example.com" });
    assert_eq!(commit(&token, &named).await, (json!("Mona"), json!(false)));
}

#[tokio::test]
async fn git_reads_with_an_installations_token() {
    let i = Installed::new(&USUAL_PERMISSIONS).await;
    let clone = async |token: &str, to: &str| {
        let origin = i.f.github.git_url().replacen("http://", "", 1);
        let remote = format!("http://x-access-token:{token}@{origin}/{SECRET}.git");
        crate::run_git(i.f.folder.path(), &["clone", "--quiet", &remote, to]).await.0
    };
    let wish = |permissions: Value| json!({ "repositories": ["secret"], "permissions": permissions });
    let reads = i.token(wish(json!({ "contents": "read" }))).await;
    assert!(clone(&reads, "one").await);
    assert!(!clone(&i.token(wish(json!({ "issues": "write" }))).await, "two").await);
    std::fs::write(i.f.folder.path().join("one/x"), "x").unwrap();
    let one = i.f.folder.path().join("one");
    crate::git(&one, &["add", "."]).await;
    crate::git(&one, &["commit", "--quiet", "-m", "x"]).await;
    assert!(!crate::run_git(&one, &["push", "--quiet"]).await.0, "it may only read");
    i.f.github.expire_tokens();
    assert!(!clone(&reads, "three").await);
}

#[tokio::test]
async fn octocrab_is_an_app() {
    // octocrab signs with the machine's clock.
    let f = Fixture::with(Arc::new(telemetry::clock::SystemClock)).await;
    let app = f.github.create_app("callboard", "", "").unwrap();
    let id = f.github.install_app(app.id, "octocat", &[], &USUAL_PERMISSIONS).unwrap();
    f.github.open_issue(REPOSITORY, "octocat", "x", "").unwrap();
    let key = EncodingKey::from_rsa_pem(app.private_key.as_bytes()).unwrap();
    let builder = Octocrab::builder().base_uri(f.github.api_url()).unwrap();
    let crab = builder.app(app.id.into(), key).build().unwrap();
    assert_eq!(crab.current().app().await.unwrap().slug.as_deref(), Some("callboard"));
    let found = crab.apps().get_repository_installation("octocat", "hello-world").await.unwrap();
    assert_eq!(
        (found.id, crab.apps().installations().send().await.unwrap().items.len()),
        (InstallationId(id), 1)
    );
    let (installed, _) = crab.installation_and_token(InstallationId(id)).await.unwrap();
    let comment = installed.issues("octocat", "hello-world").create_comment(1, "On it").await.unwrap();
    assert_eq!((comment.user.login.as_str(), comment.user.r#type.as_str()), ("callboard[bot]", "Bot"));
}

#[tokio::test]
async fn what_is_known_is_not_sent_again_and_too_much_is_refused() {
    let i = Installed::new(&USUAL_PERMISSIONS).await;
    let (one, other) = (i.token(json!({})).await, i.token(json!({})).await);
    i.f.github.open_issue(SECRET, "octocat", "x", "").unwrap();
    let issue = format!("/repos/{SECRET}/issues/1");
    let read = async |token: &str, tag: Option<&str>| {
        let request = i.f.anonymous("GET", &issue).bearer_auth(token);
        let request = tag.into_iter().fold(request, |request, tag| request.header("if-none-match", tag));
        let response = request.send().await.unwrap();
        let field = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(field("date"), "Sun, 01 Mar 2026 12:00:00 GMT");
        (response.status().as_u16(), field("etag"), field("x-ratelimit-remaining"))
    };
    let first = read(&one, None).await;
    assert_eq!(
        read(&one, Some(&first.1)).await,
        (304, first.1.clone(), first.2.clone()),
        "and costs nothing"
    );
    assert_eq!(read(&other, Some(&first.1)).await.0, 200, "another token, another tag");
    i.f.github.edit_issue_body(SECRET, 1, "octocat", "More").unwrap();
    assert_eq!(read(&one, Some(&first.1)).await.0, 200);

    i.f.github.enforce_content_limits(true);
    let write = || {
        let path = format!("{issue}/comments");
        i.f.anonymous("POST", &path).bearer_auth(&one).json(&json!({ "body": "x" })).send()
    };
    for _ in 0..80 {
        assert_eq!(write().await.unwrap().status(), 201);
    }
    let refused = write().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (403, "60"));
    assert!(refused.text().await.unwrap().contains("You have exceeded a secondary rate limit"));
    i.clock.pass(60);
    assert_eq!(write().await.unwrap().status(), 201);
}

#[tokio::test]
async fn a_token_does_what_its_scopes_say() {
    let f = Fixture::new().await;
    f.github.create_repository(SECRET, true, &[("a", "b")]).await.unwrap();
    f.github.open_issue(REPOSITORY, "octocat", "x", "").unwrap();
    let none = f.github.add_token_with("octocat", &[]).unwrap();
    let hooks = f.github.add_token_with("octocat", &["public_repo", "read:repo_hook"]).unwrap();
    let ask = |token: &str, method: &str, path: &str| {
        let request = f.anonymous(method, path).bearer_auth(token);
        answer(if method == "GET" { request } else { request.json(&json!({ "body": "x" })) })
    };
    assert_eq!(ask(&none, "GET", "issues/1").await.0, 200);
    for (method, path) in [("POST", "issues/1/comments"), ("GET", "/repos/octocat/secret"), ("GET", "hooks")]
    {
        assert_eq!(ask(&none, method, path).await.0, 404, "{method} {path}");
    }
    assert_eq!(ask(&hooks, "POST", "issues/1/comments").await.0, 201);
    assert_eq!((ask(&hooks, "GET", "hooks").await.0, ask(&hooks, "POST", "hooks").await.0), (200, 404));
    let told = f.anonymous("GET", "issues/1").bearer_auth(&hooks).send().await.unwrap();
    assert_eq!(told.headers()["x-oauth-scopes"], "public_repo, read:repo_hook");
}
