//! Every secret of a platform is a canary: an agent, the code host, people and operators do what
//! they can to get one out, and afterwards none is anywhere it does not belong.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use webhook_simulator::{Content, Exchange, Fault, Simulator};

use crate::harness::{
    Database, Plan, REPOSITORY, SITE_SECRET, SOURCE, Site,
    contract::assert_described,
    folder,
    leaks::{self, Canaries, Place},
    program, sign,
    story::{http_get, run},
};

const PREVIOUS: &str = "a canary, the previous webhook secret";
const MODEL_KEY: &str = "a-canary/of+the-model's-key";
/// A repository that a command sets up.
const ADDED: &str = "octocat/added";
const DATABASE_PASSWORD: &str = "a-canary-as-the-password-of-Postgres";
/// What tokens that are signed begin with: the platform's own, runs' and Apps'.
const SIGNED: &str = "eyJ0eXAiOiJKV1Qi";
/// Where an agent waits until the story goes on.
const GO: &str = "/work/go";

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("written");
    path
}

/// The agent says its token in every way, once in what it would change and once beside it.
fn leak(path: &str) -> serde_json::Value {
    json!([
        { "print_variable": "OPENAI_API_KEY" },
        { "write": { "path": "docs/found.md", "content": "Nothing.\n" } },
        { "leak": { "variable": "OPENAI_API_KEY", "path": path } },
        { "wait_for_file": GO },
    ])
}

/// Waits until the agent of a run waits, takes what it leaked, and lets it go on.
async fn leaked(site: &Site, run: &str, path: &str) -> Vec<u8> {
    site.until_said(run, "waiting for").await;
    let attempt: String = sqlx::query_scalar("select attempt_id::text from attempts where run_id = $1::uuid")
        .bind(run)
        .fetch_one(&site.db)
        .await
        .expect("an attempt");
    let workspace = site.platform().folder.join("data/work").join(attempt).join("workspace");
    let token = fs::read(workspace.join(path)).expect("what it leaked");
    assert!(token.starts_with(SIGNED.as_bytes()), "the agent has its token");
    fs::write(workspace.join("go"), "").expect("written");
    token
}

/// What a command prints.
fn command(site: &Site, words: &[&str]) -> Place {
    let mut command = subprocess::command(program("callboard"), &site.platform().folder);
    let (_, out, err) = run(command.args(["--config", "callboard.yaml"]).args(words));
    Place::new("command", words.join(" "), out + &err)
}

/// Every command that shows something, for people and for programs.
fn commands(site: &Site, runs: &[String]) -> Vec<Place> {
    let mut all: Vec<Vec<&str>> = [
        "run list",
        "check",
        "explain #1",
        "explain #2",
        "explain #3",
        "worker list",
        "outbox list --all",
        "audit verify",
        "audit export",
        "repo sync-labels --dry-run",
        "prompts render --issue 3 --stage dev",
    ]
    .map(|words| words.split(' ').collect())
    .to_vec();
    for run in runs {
        all.extend([vec!["run", "get", run], vec!["run", "logs", "-f", run], vec!["run", "changeset", run]]);
    }
    let both = |words: Vec<&str>| {
        [command(site, &words), command(site, &[words.as_slice(), &["-o", "json"]].concat())]
    };
    all.into_iter().flat_map(both).collect()
}

/// What the configuration says when a secret is not what it should be.
fn errors_of_configuration(site: &Site, secrets: &Path) -> Vec<Place> {
    let own = site.platform().folder.join("callboard.yaml");
    let usual: serde_json::Value = serde_json::from_slice(&fs::read(own).expect("read")).expect("JSON");
    let token = fs::read_to_string(site.folder.path().join("token")).expect("read");
    let broken = written(secrets, "broken", &format!("{token} {MODEL_KEY}\nand a second line"));
    let data = secrets.join("data");
    let mistakes = [
        ("token", json!({ "github": { "token_file": broken } })),
        ("key", json!({ "key_file": broken })),
        ("database", json!({ "database_url": format!("postgres://x:{DATABASE_PASSWORD}@127.0.0.1:1/none") })),
        ("address", json!({ "database_url": format!("nonsense://x:{DATABASE_PASSWORD}@") })),
        ("unknown key", json!({ "github": { "tokn": token.as_str() } })),
        ("in the place of a file", json!({ "github": { "token_file": token.as_str() } })),
        (
            "model",
            json!({ "models": [{ "name": "m", "backend": "openai", "base_url": format!("https://x:{MODEL_KEY}@h/v1") }] }),
        ),
    ];
    let tried = mistakes.into_iter().flat_map(|(name, over)| {
        let mut config = usual.clone();
        config["data_dir"] = json!(data);
        crate::harness::merge(&mut config, &over);
        let path = written(secrets, "mistake.yaml", &config.to_string());
        let path = path.to_str().expect("a path").to_owned();
        ["up", "check"].map(|word| {
            let mut command = subprocess::command(program("callboard"), secrets);
            let (code, out, err) = run(command.args([word, "--config", path.as_str()]));
            assert_ne!(code, 0, "{name}: {out}");
            Place::new("error of the configuration", format!("{word}: {name}"), out + &err)
        })
    });
    tried.collect()
}

/// What the platform says to whoever knocks.
async fn doors(site: &Site) -> Vec<Place> {
    let mut places: Vec<Place> = ["/metrics", "/healthz", "/readyz"]
        .map(|path| Place::new("door", path, http_get(site.platform().admin, path).expect("an answer")))
        .into();
    let body = json!({ "hook": MODEL_KEY, "zen": PREVIOUS }).to_string();
    for (source, secret) in [(SOURCE, "not the secret"), ("nobody", SITE_SECRET), (SOURCE, PREVIOUS)] {
        let url = format!("http://{}/webhooks/github/{source}", site.platform().api);
        let answer = reqwest::Client::new()
            .post(url)
            .header("content-type", "application/json")
            .header("x-github-event", "ping")
            .header("x-github-delivery", format!("by hand {secret}"))
            .header("x-hub-signature-256", sign(secret, body.as_bytes()))
            .body(body.clone())
            .send()
            .await
            .expect("an answer");
        let said = format!("{:?} {}", answer.headers().clone(), answer.text().await.expect("text"));
        places.push(Place::new("door", format!("webhook {source}"), said));
    }
    places
}

/// What stands at the code host and was not put there by people.
fn at_github(github: &Simulator, folder: &Path, exchanges: &[Exchange]) -> Vec<Place> {
    let mut places = Vec::new();
    let pulls = github.pull_requests(REPOSITORY);
    let threads = (1..=3).chain(pulls.iter().map(|pull| pull.number));
    for thread in threads {
        let ours =
            github.comments(REPOSITORY, thread).into_iter().filter(|c| c.body.contains("<!-- callboard:"));
        places.extend(ours.map(|c| Place::new("comment", format!("#{thread}"), c.body)));
    }
    places
        .extend(pulls.iter().map(|p| Place::new("pull request", format!("#{}", p.number), format!("{p:?}"))));
    let mut git = subprocess::command("git", folder);
    git.arg("--git-dir").arg(folder.join("github").join(format!("{REPOSITORY}.git")));
    let (code, log, err) = run(git.args(["log", "--all", "-p", "--format=fuller"]));
    assert_eq!(code, 0, "{err}");
    places.push(Place::new("git", "every commit", log));
    for exchange in exchanges.iter().filter(|exchange| !makes_hook(exchange)) {
        let request = match &exchange.request {
            Content::Json(value) => value.to_string(),
            Content::Empty | Content::Other(_) | Content::TooLarge => String::new(),
        };
        let said = format!("{} {:?} {request}", exchange.path, exchange.query);
        places.push(Place::new("request", format!("{} {}", exchange.method, exchange.template), said));
    }
    places
}

/// A webhook's secret is told to the code host, which signs with it.
fn makes_hook(exchange: &Exchange) -> bool {
    exchange.method == "POST" && exchange.template.ends_with("/hooks")
}

/// The secrets of the webhooks that the platform made.
fn made(exchanges: &[Exchange]) -> Vec<String> {
    let secret = |e: &Exchange| match &e.request {
        Content::Json(value) => value["config"]["secret"].as_str().map(str::to_owned),
        Content::Empty | Content::Other(_) | Content::TooLarge => None,
    };
    exchanges.iter().filter(|exchange| makes_hook(exchange)).filter_map(secret).collect()
}

/// Every token the code host gave out.
fn minted(exchanges: &[Exchange]) -> Vec<String> {
    let answers = exchanges.iter().filter(|e| e.template.ends_with("/access_tokens"));
    let token = |e: &Exchange| match &e.answer {
        Content::Json(value) => value["token"].as_str().map(str::to_owned),
        Content::Empty | Content::Other(_) | Content::TooLarge => None,
    };
    answers.filter_map(token).collect()
}

/// In each kind of place something that does belong there is found: nothing was overlooked.
fn assert_searched(places: &[Place], run: &str) {
    let kinds = [
        ("database", run),
        ("file", run),
        ("log", run),
        ("command", run),
        ("comment", run),
        ("pull request", run),
        ("git", run),
        ("request", run),
        ("door", "callboard_runs"),
        ("error of the configuration", "mistake.yaml"),
    ];
    for (kind, control) in kinds {
        let is_there = |place: &&Place| place.content.windows(control.len()).any(|w| w == control.as_bytes());
        let found = places.iter().filter(|place| place.kind == kind).find(is_there);
        assert!(found.is_some(), "`{control}` is in no {kind}");
    }
    for unpacked in ["database", "file"] {
        let found = places.iter().any(|place| place.kind == unpacked && !place.content.is_empty());
        assert!(found, "no {unpacked} was read");
    }
}

/// The same is told while the code host cannot reach the platform, which fetches it.
async fn fetched_when_nobody_listened(site: &Site, pasted: &str) {
    site.github.unreachable(true);
    site.github.open_issue(REPOSITORY, "octocat", "Help again", pasted).expect("an issue");
    site.until("an end of all deliveries", async || {
        site.github.deliveries(site.hook).iter().all(|d| d.answer.is_some()).then_some(())
    })
    .await;
    // A process that starts looks at once.
    site.platform().kill();
    site.until("what nobody delivered", async || {
        let fetched = "select exists (select from deliveries where provenance = 'fetched')";
        sqlx::query_scalar::<_, bool>(fetched).fetch_one(&site.db).await.is_ok_and(|is| is).then_some(())
    })
    .await;
    site.github.unreachable(false);
    site.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_anywhere_it_does_not_belong_with_a_token() {
    no_secret_is_anywhere_it_does_not_belong(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_anywhere_it_does_not_belong_as_an_app() {
    no_secret_is_anywhere_it_does_not_belong(true).await;
}

async fn no_secret_is_anywhere_it_does_not_belong(app: bool) {
    let secrets = folder();
    let database = Database::migrated();
    let database_url = database.url.replacen('@', &format!(":{DATABASE_PASSWORD}@"), 1);
    assert!(database_url.contains(DATABASE_PASSWORD), "{database_url}");
    let model = json!({
        "name": "never-called", "backend": "openai", "base_url": "http://127.0.0.1:9/v1",
        "api_key_file": written(secrets.path(), "model", MODEL_KEY),
    });
    let previous = written(secrets.path(), "previous", PREVIOUS);
    let config = if app {
        json!({ "models": [model], "github": { "app": { "previous_webhook_secret_file": previous } } })
    } else {
        let repository = json!({
            "name": REPOSITORY, "source": SOURCE, "webhook_secret_file": "../secret",
            "previous_webhook_secret_file": previous,
        });
        json!({ "models": [model], "projects": [{ "name": "demo", "repositories": [repository] }] })
    };
    let plan = Plan { config, app, always: &[("CALLBOARD_LOG", "debug")], ..Plan::default() };
    let site = Site::start(&database_url, &plan).await;
    site.ready().await;
    let credential = fs::read_to_string(site.folder.path().join(if app { "key.pem" } else { "token" }));
    let credential = credential.expect("read").trim().to_owned();

    // Agents that tell what they know: in their changes, and beside them.
    let held = site.issue("Tell in a file", Some(&leak("leak.txt")));
    let told = site.issue("Tell beside it", Some(&leak("/work/leak")));
    site.label(held, "run:dev");
    site.label(told, "run:dev");
    let mut runs = vec![site.run_of(held).await, site.run_of(told).await];
    let in_file = leaked(&site, &runs[0], "repo/leak.txt").await;
    let beside = leaked(&site, &runs[1], "leak").await;
    site.settled().await;
    // Another repository, whose webhook's secret only the platform and the code host know.
    site.github.create_repository(ADDED, true, &[("README.md", "# Added\n")]).await.expect("a repository");
    let added = command(&site, &["repo", "add", ADDED]);
    let mut exchanges = site.github.take_exchanges();
    let made = made(&exchanges);
    assert_eq!(made.len(), usize::from(!app), "{}", String::from_utf8_lossy(&added.content));
    // A person who does not know what a secret is.
    let pasted =
        format!("It says `{credential}`, the hook {PREVIOUS} {made:?} and {MODEL_KEY}. Please help.");
    let careless = site.github.open_issue(REPOSITORY, "octocat", "Help", &pasted).expect("an issue");
    site.github.add_comment(REPOSITORY, careless, "mona", &pasted).expect("a comment");
    // The code host refuses, and repeats what it was sent.
    site.github.repeat_credentials();
    for request in
        ["POST /repos/{owner}/{repo}/issues/{number}/comments", "GET /repos/{owner}/{repo}/issues/{number}"]
    {
        site.github.fault(Fault::Refuse(500), request, 1);
    }
    site.github.fault(Fault::Refuse(403), "POST /repos/{owner}/{repo}/issues/{number}/reactions", 1);
    site.label(careless, "run:dev");
    runs.push(site.run_of(careless).await);
    site.settled().await;
    assert_eq!(site.github.pull_requests(REPOSITORY).len(), 2, "what was told beside it, and the last");
    fetched_when_nobody_listened(&site, &pasted).await;

    let mut canaries = Canaries::default();
    canaries.add("our credential at the code host", credential.as_bytes());
    canaries.add("the webhook's secret", SITE_SECRET.as_bytes());
    canaries.add("the previous webhook secret", PREVIOUS.as_bytes());
    canaries.add("the model's key", MODEL_KEY.as_bytes());
    canaries.add("the password of Postgres", DATABASE_PASSWORD.as_bytes());
    canaries.add("a token that is signed", SIGNED.as_bytes());
    canaries.add("a run token", &in_file);
    canaries.add("another run token", &beside);
    let key = fs::read_to_string(site.folder.path().join("key")).expect("read");
    canaries.add("the envelope key", key.as_bytes());
    canaries.add("the envelope key's bytes", b"a key of 32 bytes for the tests!");
    let identities = site.platform().folder.join("data/identities");
    for entry in fs::read_dir(&identities).expect("identities") {
        let path = entry.expect("one").path();
        let identity: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
        let longest = identity.as_object().expect("fields").values().filter_map(|v| v.as_str());
        let key = longest.max_by_key(|text| text.len()).expect("a key");
        canaries.add(&format!("the key in {}", path.display()), key.as_bytes());
    }

    for secret in &made {
        canaries.add("the secret of a webhook that was made", secret.as_bytes());
    }
    let mut places = commands(&site, &runs);
    places.push(added);
    places.extend(errors_of_configuration(&site, secrets.path()));
    places.extend(doors(&site).await);
    places.push(Place::new("log", "at debug level", site.logs()));
    places.extend(leaks::database(&site.db).await);
    // The files that hold secrets are what is being kept.
    let holds_secrets = |path: &Path| {
        path.starts_with(&identities)
            || path.file_name().is_some_and(|name| name == "callboard.yaml" || name == "log")
    };
    places.extend(leaks::files(&site.platform().folder, &holds_secrets));
    places.extend(leaks::files(&site.folder.path().join("objects"), &holds_secrets));
    exchanges.extend(site.github.take_exchanges());
    let minted = minted(&exchanges);
    assert_eq!(!minted.is_empty(), app);
    for token in &minted {
        canaries.add("an installation's token", token.as_bytes());
    }
    places.extend(at_github(&site.github, site.folder.path(), &exchanges));
    assert_searched(&places, &runs[1]);
    let found = canaries.found_in(&places);
    assert!(found.is_empty(), "{} leaks:\n{}", found.len(), found.join("\n"));
    assert_described(&exchanges);
}
