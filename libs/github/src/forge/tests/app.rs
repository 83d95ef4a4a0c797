//! Being an App: statements, installations, tokens, and what can happen to them.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use forge::{Capability, Identity};

use super::*;

/// Noon, and what a story adds to it.
#[derive(Debug, Default)]
struct Later(AtomicI64);

impl Later {
    fn advance(&self, by: TimeDelta) {
        self.0.fetch_add(by.num_seconds(), Ordering::SeqCst);
    }
}

impl Clock for Later {
    fn now(&self) -> DateTime<Utc> {
        Noon.now() + TimeDelta::seconds(self.0.load(Ordering::SeqCst))
    }
}

fn installation(permissions: &Value) -> Value {
    json!({
        "id": 7, "app_slug": "callboard-test", "html_url": "https://github.com/settings/installations/7",
        "permissions": permissions, "suspended_at": null, "repository_selection": "selected",
    })
}

fn everything() -> Value {
    json!({
        "metadata": "read", "contents": "write", "issues": "write", "pull_requests": "write", "checks": "write",
    })
}

/// The tokens of a world in which everything is granted.
#[derive(Default)]
struct Github {
    clock: Arc<Later>,
    minted: AtomicU64,
}

impl Github {
    /// Mints token after token, each good for an hour; anything else is for `rest`.
    fn answer(&self, seen: &Seen, rest: impl Fn(&Seen) -> Reply) -> Reply {
        if seen.target.ends_with("/installation") {
            return json_reply(200, &installation(&everything()));
        }
        if seen.target.ends_with("/app/installations/7/access_tokens") {
            let number = self.minted.fetch_add(1, Ordering::SeqCst) + 1;
            let expires_at = self.clock.now() + TimeDelta::hours(1);
            let body = json!({ "token": format!("ghs_minted{number}"), "expires_at": expires_at });
            return json_reply(201, &body);
        }
        rest(seen)
    }
}

fn app_settings(clock: Arc<dyn Clock>) -> GithubSettings {
    let credential = Credential::App { id: "4711".to_owned(), private_key: app_key().into() };
    GithubSettings { credential, clock, ..settings("http://host") }
}

async fn app(github: &Arc<Github>, rest: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
    let answering = Arc::clone(github);
    let clock: Arc<dyn Clock> = github.clock.clone();
    Server::start_for(app_settings(clock), move |seen| answering.answer(seen, &rest)).await
}

fn bearer(seen: &Seen) -> &str {
    seen.headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap()
}

/// Whether a token is one GitHub minted, a statement, or what was configured.
fn means(seen: &Seen) -> String {
    let token = bearer(seen);
    if token.split('.').count() == 3 { "JWT".to_owned() } else { token.to_owned() }
}

fn is_mint(call: &str) -> bool {
    call.ends_with("access_tokens")
}

#[tokio::test]
async fn a_token_for_each_purpose_is_minted_once() {
    let github = Arc::new(Github::default());
    let server = app(&github, |seen| match seen.method {
        Method::GET => json_reply(200, &repository_body()),
        _ => json_reply(201, &comment_body(5)),
    })
    .await;
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let telling = Arc::clone(&told);
    let forge = server.forge.telling(move |token| {
        telling.lock().unwrap().push(secrecy::ExposeSecret::expose_secret(token).to_owned());
    });
    let server = Server { forge, seen: server.seen };
    for _ in 0..2 {
        server.forge.repository(&repository()).await.unwrap();
        server.forge.create_comment(&repository(), 7, "hello").await.unwrap();
        server.forge.create_branch(&repository(), "x", &SHA.parse().unwrap()).await.unwrap();
        let cloning = server.forge.git_credential(&repository()).await.unwrap();
        assert_eq!(secrecy::ExposeSecret::expose_secret(&cloning), "ghs_minted4");
    }
    assert_eq!(server.forge.identity().await.unwrap(), "callboard-test[bot]");
    assert_eq!(
        server.calls(),
        [
            "GET /installation",
            "POST /app/installations/7/access_tokens",
            "GET ",
            "POST /app/installations/7/access_tokens",
            "POST /issues/7/comments",
            "POST /app/installations/7/access_tokens",
            "POST /git/refs",
            "POST /app/installations/7/access_tokens",
            "GET ",
            "POST /issues/7/comments",
            "POST /git/refs",
        ]
    );
    let seen = server.seen();
    let means: Vec<String> = seen.iter().map(means).collect();
    assert_eq!(
        means,
        [
            "JWT",
            "JWT",
            "ghs_minted1",
            "JWT",
            "ghs_minted2",
            "JWT",
            "ghs_minted3",
            "JWT",
            "ghs_minted1",
            "ghs_minted2",
            "ghs_minted3",
        ]
    );
    let asked: Vec<Value> = seen.into_iter().filter(|s| is_mint(&s.target)).map(|s| s.body).collect();
    let narrow = |permissions: Value| json!({ "permissions": permissions, "repositories": ["hello-world"] });
    assert_eq!(
        asked,
        [
            narrow(
                json!({ "metadata": "read", "contents": "read", "issues": "read", "pull_requests": "read" })
            ),
            narrow(json!({ "issues": "write", "pull_requests": "write" })),
            narrow(json!({ "contents": "write", "checks": "write" })),
            narrow(json!({ "contents": "read" })),
        ]
    );
    assert_eq!(told.lock().unwrap()[..], ["ghs_minted1", "ghs_minted2", "ghs_minted3", "ghs_minted4"]);
    let printed = format!("{:?}", server.forge);
    assert!(!printed.contains("ghs_") && !printed.contains("PRIVATE"), "{printed}");
}

/// The statement verifies, says when it was made and by whom, and an old key's form does too.
#[tokio::test]
async fn statements_are_signed() {
    let github = Arc::new(Github::default());
    let server = app(&github, |_| json_reply(200, &repository_body())).await;
    server.forge.repository(&repository()).await.unwrap();
    let statement = bearer(&server.seen()[0]).to_owned();
    let (message, signature) = statement.rsplit_once('.').unwrap();
    let decode =
        |text: &str| base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text).unwrap();
    let key = aws_lc_rs::signature::RsaKeyPair::from_pkcs8(pkcs8()).unwrap();
    let public = aws_lc_rs::signature::KeyPair::public_key(&key);
    aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256, public)
        .verify(message.as_bytes(), &decode(signature))
        .unwrap();
    let parts: Vec<Value> =
        message.split('.').map(|part| serde_json::from_slice(&decode(part)).unwrap()).collect();
    assert_eq!(parts[0]["alg"], "RS256");
    let now = Noon.now().timestamp();
    assert_eq!(parts[1], json!({ "iat": now - 60, "exp": now + 540, "iss": "4711" }));
    for key in [pem("PRIVATE KEY", pkcs8()), app_key()] {
        let credential = Credential::App { id: "4711".to_owned(), private_key: key.into() };
        GithubForge::new(GithubSettings { credential, ..settings("http://host") }).unwrap();
    }
}

#[tokio::test]
async fn a_clock_that_is_minutes_off_is_corrected_once() {
    let github = Arc::new(Github::default());
    let truth = Arc::clone(&github);
    let settings = app_settings(github.clock.clone());
    let server = Server::start_for(settings, move |seen| {
        // The server's clock is seven minutes ahead, and it says so.
        let there = Noon.now() + TimeDelta::minutes(7);
        if means(seen) == "JWT" {
            let claims = bearer(seen).split('.').nth(1).unwrap();
            let claims =
                base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims).unwrap();
            let claims: Value = serde_json::from_slice(&claims).unwrap();
            if claims["exp"].as_i64().unwrap() < there.timestamp() + 180 {
                let (status, mut headers, body) = refused(401, "'Expiration time' claim ('exp') is too old");
                headers.push(("date", there.format("%a, %d %b %Y %H:%M:%S GMT").to_string()));
                return (status, headers, body);
            }
        }
        truth.answer(seen, |_| json_reply(200, &repository_body()))
    })
    .await;
    server.forge.repository(&repository()).await.unwrap();
    let mint = "POST /app/installations/7/access_tokens";
    assert_eq!(server.calls(), ["GET /installation", "GET /installation", mint, "GET "]);
    // A key that is none of GitHub's stays refused, and is not tried for ever.
    let server =
        Server::start_for(app_settings(noon()), |_| refused(401, "A JSON web token could not be decoded"))
            .await;
    let error = server.forge.repository(&repository()).await.unwrap_err();
    assert!(error.to_string().contains("does not take the App's private key"), "{error}");
    assert!(server.calls().len() <= 2);
}

#[tokio::test]
async fn calls_at_the_same_time_wait_for_one_token() {
    let github = Arc::new(Github::default());
    let server = app(&github, |_| json_reply(200, &repository_body())).await;
    let name = repository();
    let all = tokio::join!(
        server.forge.repository(&name),
        server.forge.repository(&name),
        server.forge.repository(&name),
        server.forge.repository(&name),
    );
    assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok() && all.3.is_ok());
    let calls = server.calls();
    assert_eq!((calls.len(), calls.iter().filter(|call| is_mint(call)).count()), (6, 1), "{calls:?}");

    // Five minutes before its end a new one is minted, by one of them.
    github.clock.advance(TimeDelta::minutes(54));
    server.forge.repository(&name).await.unwrap();
    assert_eq!(server.calls().len(), 7);
    github.clock.advance(TimeDelta::minutes(1));
    let both = tokio::join!(server.forge.repository(&name), server.forge.repository(&name));
    assert!(both.0.is_ok() && both.1.is_ok());
    assert_eq!(server.calls().len(), 10);
    assert_eq!(means(&server.seen()[9]), "ghs_minted2");
}

#[tokio::test]
async fn a_token_that_dies_in_the_middle_is_replaced_and_the_write_repeated_once() {
    let github = Arc::new(Github::default());
    let server = app(&github, |seen| match means(seen).as_str() {
        "ghs_minted1" => refused(401, "Bad credentials"),
        _ => json_reply(201, &comment_body(5)),
    })
    .await;
    server.forge.create_comment(&repository(), 7, "hello").await.unwrap();
    assert_eq!(server.calls().iter().filter(|call| call.ends_with("comments")).count(), 2);

    let github = Arc::new(Github::default());
    let server = app(&github, |_| refused(401, "Bad credentials")).await;
    let error = server.forge.create_comment(&repository(), 7, "hello").await.unwrap_err();
    assert!(
        matches!(&error, ForgeError::BadCredential { message } if message == "Bad credentials"),
        "{error:?}"
    );
    assert_eq!(server.calls().iter().filter(|call| call.ends_with("comments")).count(), 2, "and no more");
}

#[tokio::test]
async fn suspended_gone_and_narrowed_installations_say_what_to_do() {
    let said = |installation: Reply, needs: &'static str| async move {
        let server = Server::start_for(app_settings(noon()), move |seen| {
            if seen.target.ends_with("/installation") {
                return installation.clone();
            }
            match is_mint(&seen.target) {
                true => json_reply(201, &json!({ "token": "ghs_x", "expires_at": "2100-01-01T00:00:00Z" })),
                false => refused(403, "Resource not accessible by integration"),
            }
        })
        .await;
        match needs {
            "comment" => server.forge.create_comment(&repository(), 7, "hello").await.map(drop),
            _ => server.forge.create_branch(&repository(), "x", &SHA.parse().unwrap()).await,
        }
        .unwrap_err()
        .to_string()
    };
    let mut suspended = installation(&everything());
    suspended["suspended_at"] = json!("2026-11-21T18:00:00Z");
    let narrowed = |permissions: Value| json_reply(200, &installation(&permissions));
    insta::assert_snapshot!(
        [
            said(json_reply(200, &suspended), "comment").await,
            said(refused(404, "Not Found"), "comment").await,
            said(narrowed(json!({ "metadata": "read" })), "comment").await,
            said(narrowed(json!({ "metadata": "read", "issues": "write" })), "comment").await,
            said(narrowed(json!({ "metadata": "read", "contents": "read", "checks": "write" })), "branch").await,
            said(narrowed(everything()), "branch").await,
        ]
        .join("\n"),
        @r"
    not allowed: the App's installation is suspended since 2026-11-21 18:00 UTC: unsuspend it at https://github.com/settings/installations/7
    not found: the App is not installed on octocat/hello-world, or the repository is gone: install it there, or add the repository to its installation
    not allowed: the App's installation lacks `issues: write` and `pull_requests: write`: give the App that permission, then accept it at https://github.com/settings/installations/7
    not allowed: the App's installation lacks `pull_requests: write`: give the App that permission, then accept it at https://github.com/settings/installations/7
    not allowed: the App's installation lacks `contents: write`: give the App that permission, then accept it at https://github.com/settings/installations/7
    not allowed: Resource not accessible by integration
    "
    );
}

#[tokio::test]
async fn what_is_lacking_is_said_without_a_call_and_a_refusal_costs_no_token() {
    let lacking = |permissions: Value| {
        Server::start_for(app_settings(noon()), move |seen| {
            if is_mint(&seen.target) {
                return json_reply(201, &json!({ "token": "ghs_x", "expires_at": "2100-01-01T00:00:00Z" }));
            }
            match seen.target.ends_with("/installation") {
                true => json_reply(200, &installation(&permissions)),
                false => refused(403, "Repository was archived so is read-only."),
            }
        })
    };
    for (permissions, calls) in [
        (json!({ "metadata": "read" }), &["GET /installation"][..]),
        (
            everything(),
            &[
                "GET /installation",
                "POST /app/installations/7/access_tokens",
                "POST /git/refs",
                "GET /installation",
                "POST /git/refs",
                "GET /installation",
            ],
        ),
    ] {
        let server = lacking(permissions).await;
        for _ in 0..2 {
            let refused = server.forge.create_branch(&repository(), "x", &SHA.parse().unwrap()).await;
            assert!(matches!(refused, Err(ForgeError::Denied { .. })), "{refused:?}");
        }
        assert_eq!(server.calls(), calls);
    }
}

/// A repository has another name in a token than the one it is still known by.
#[tokio::test]
async fn a_repository_that_was_renamed_is_found() {
    let github = Arc::new(Github::default());
    let truth = Arc::clone(&github);
    let server = Server::start_for(app_settings(github.clock.clone()), move |seen| {
        if is_mint(&seen.target) && seen.body["repositories"] == json!(["hello-world"]) {
            return refused(422, "There is at least one repository that does not exist");
        }
        truth.answer(seen, |_| {
            let mut body = repository_body();
            body["full_name"] = json!("octocat/goodbye-world");
            json_reply(200, &body)
        })
    })
    .await;
    assert_eq!(
        server.forge.repository(&repository()).await.unwrap().name.to_string(),
        "octocat/goodbye-world"
    );
    let asked: Vec<Value> =
        server.seen().into_iter().filter(|s| is_mint(&s.target)).map(|s| s.body).collect();
    assert_eq!(
        asked[1],
        json!({ "permissions": { "metadata": "read" } }),
        "what finds it reads nothing else"
    );
    assert_eq!(asked[2]["repositories"], json!(["goodbye-world"]));
}

/// It went to another account, whose installation is another: the one it came from may have a
/// repository of the new name.
#[tokio::test]
async fn no_token_is_minted_for_another_repository_of_the_same_name() {
    let looked_up = AtomicU64::new(0);
    let server = Server::start_for(app_settings(noon()), move |seen| {
        if seen.target.ends_with("/installation") {
            let mut body = installation(&everything());
            if looked_up.fetch_add(1, Ordering::SeqCst) == 0 {
                body["account"] = json!({ "login": "octocat" });
            } else {
                body["id"] = json!(8);
                body["account"] = json!({ "login": "Hubot" });
            }
            return json_reply(200, &body);
        }
        if is_mint(&seen.target) {
            if seen.body["repositories"] == json!(["hello-world"]) {
                return refused(422, "There is at least one repository that does not exist");
            }
            return json_reply(201, &json!({ "token": "ghs_x", "expires_at": "2100-01-01T00:00:00Z" }));
        }
        let mut body = repository_body();
        body["full_name"] = json!("hubot/goodbye-world");
        json_reply(200, &body)
    })
    .await;
    // It was looked up before it went there.
    server.forge.access(&repository()).await.unwrap();
    server.forge.repository(&repository()).await.unwrap();
    let narrowed: Vec<String> = server
        .seen()
        .into_iter()
        .filter(|seen| is_mint(&seen.target) && seen.body["repositories"] == json!(["goodbye-world"]))
        .map(|seen| seen.target)
        .collect();
    assert_eq!(narrowed, ["/api/v3/app/installations/8/access_tokens"]);
}

#[tokio::test]
async fn what_was_learnt_is_forgotten_when_github_says_that_it_changed() {
    let github = Arc::new(Github::default());
    let server = app(&github, |_| json_reply(200, &repository_body())).await;
    server.forge.repository(&repository()).await.unwrap();
    server.forge.forget_access(&"octocat/other".parse().unwrap());
    server.forge.repository(&repository()).await.unwrap();
    assert_eq!(server.calls().len(), 4, "of another repository");
    server.forge.forget_access(&repository());
    server.forge.repository(&repository()).await.unwrap();
    assert_eq!(server.calls().len(), 7);
    assert_eq!(means(&server.seen()[6]), "ghs_minted2");
}

#[tokio::test]
async fn what_an_app_may_do() {
    let permissions = json!({ "metadata": "read", "contents": "read", "issues": "write", "checks": "read" });
    let server =
        Server::start_for(app_settings(noon()), move |_| json_reply(200, &installation(&permissions))).await;
    let access = server.forge.access(&repository()).await.unwrap();
    assert_eq!((access.identity, access.installation, access.is_incomplete), (Identity::App, Some(7), false));
    assert_eq!(
        access.missing.into_iter().collect::<Vec<_>>(),
        [
            (Capability::WriteCode, "contents: write".to_owned()),
            (Capability::WritePullRequests, "pull_requests: write".to_owned()),
            (Capability::ShowProgress, "checks: write".to_owned()),
        ]
    );
    assert_eq!(server.calls(), ["GET /installation"]);
}

#[tokio::test]
async fn what_a_person_may_do() {
    let access = |scopes: Option<&'static str>, private: bool, role: &'static str| async move {
        let server = Server::start(move |_| {
            let mut body = repository_body();
            body["private"] = json!(private);
            body["permissions"] = json!({ "admin": role == "admin", "push": role != "read", "triage": role != "read", "pull": true });
            let (status, mut headers, body) = json_reply(200, &body);
            headers.extend(scopes.map(|scopes| ("x-oauth-scopes", scopes.to_owned())));
            (status, headers, body)
        })
        .await;
        let access = server.forge.access(&repository()).await.unwrap();
        let missing: Vec<String> =
            access.missing.into_iter().map(|(what, why)| format!("{what:?}: {why}")).collect();
        (missing, access.is_incomplete)
    };
    assert_eq!(access(Some("repo, workflow"), true, "admin").await, (vec![], false));
    assert_eq!(access(None, true, "admin").await, (vec![], true), "a fine-grained token");
    assert_eq!(
        access(Some("public_repo"), false, "write").await,
        (
            vec![
                "ManageHook: the role `admin`".to_owned(),
                "ManageHook: the scope `write:repo_hook`".to_owned()
            ],
            false
        )
    );
    let (missing, _) = access(Some("public_repo"), true, "read").await;
    assert!(missing.contains(&"ReadCode: the scope `repo`".to_owned()), "{missing:?}");
    assert!(missing.contains(&"WriteIssues: the role `triage`".to_owned()), "{missing:?}");
}

/// Everything that is logged, at every level.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A server that repeats what it was sent, in every way there is.
#[test]
fn no_secret_is_logged_or_in_an_error() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let said = tracing::subscriber::with_default(subscriber, || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let mut said = String::new();
            for statement_is_refused in [false, true] {
                // A test beside this one may have met an event first, which nobody listened to then.
                tracing::callsite::rebuild_interest_cache();
                let github = Arc::new(Github::default());
                let truth = Arc::clone(&github);
                let server = Server::start_for(app_settings(github.clock.clone()), move |seen| {
                    let echo = |status| refused(status, &format!("What is {}?", bearer(seen)));
                    if statement_is_refused { echo(401) } else { truth.answer(seen, |_| echo(422)) }
                })
                .await;
                let error = server.forge.create_comment(&repository(), 7, "hello").await.unwrap_err();
                said = format!("{said}\n{error} {error:?} {:?}", server.forge);
                let secrets: Vec<String> = server.seen().iter().map(|seen| bearer(seen).to_owned()).collect();
                assert!(!secrets.is_empty() && secrets.iter().all(|secret| !said.contains(secret)), "{said}");
            }
            said
        })
    });
    assert_eq!(said.matches("What is [token]?").count(), 4, "{said}");
    let logged = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("called GitHub"), "{logged}");
    for secret in ["ghs_minted", "eyJ", &app_key()[40..80]] {
        assert!(!logged.contains(secret) && !said.contains(secret), "{secret}");
    }
}
