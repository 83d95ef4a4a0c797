//! A platform, a stand-in for GitHub with one repository, and the words to tell a story.

use std::{convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use callboard::{Options, Platform, config};
use chrono::TimeDelta;
use domain::{clock::Clock, ids::Ids, rights::Permission};
use hmac::{Hmac, KeyInit, Mac};
use proto::admin::{
    ExplainRequest, Explanation, GetRunRequest, ListRunsRequest, LogsRequest, PauseRequest, Run,
    RunActionRequest, RunDetail, admin_service_client::AdminServiceClient,
};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use telemetry::address::Address;
use tonic::transport::Channel;
use webhook_simulator::Simulator;

use super::{
    Database, TestClock, clock, folder,
    log::{errors_logged, keep_log},
    program, refused,
};

pub(crate) const REPOSITORY: &str = "octocat/hello-world";
pub(crate) const SOURCE: &str = "hello-world";
/// The webhook's secret.
pub(crate) const SECRET: &str = "a webhook secret of the tests";
/// The file an agent waits for (`wait_for_file`) until [`World::let_go`].
pub(crate) const GO: &str = "/work/go";
/// Longest a story waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// How a story's world differs from the usual one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// On top of the usual configuration, key by key.
    pub(crate) config: Value,
    /// Files of the repository besides README.md.
    pub(crate) files: Vec<(&'static str, &'static str)>,
    /// The platform is an App that is installed on the repository, instead of having a token.
    pub(crate) app: bool,
    /// Whose token the platform has, instead of the owner's.
    pub(crate) token_of: Option<&'static str>,
    /// How far this machine's clock is ahead of the code host's.
    pub(crate) clock_off: TimeDelta,
}

/// The App's slug; it acts as `callboard[bot]`.
pub(crate) const APP: &str = "callboard";
/// What the App may do where it is installed.
pub(crate) const APP_PERMISSIONS: [(&str, &str); 5] = [
    ("metadata", "read"),
    ("contents", "write"),
    ("issues", "write"),
    ("pull_requests", "write"),
    ("checks", "write"),
];

/// The platform as an App.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Installed {
    /// The App's id.
    pub(crate) app: u64,
    /// Its hook.
    pub(crate) hook: u64,
    /// Its installation on `octocat/hello-world`.
    pub(crate) installation: u64,
}

/// Everything of one story.
pub(crate) struct World {
    pub(crate) github: Simulator,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) database: Database,
    pub(crate) hook: u64,
    pub(crate) token: String,
    installed: Option<Installed>,
    platform: Option<Platform>,
    config: PathBuf,
    folder: tempfile::TempDir,
    api: String,
}

/// Puts one configuration over another, key by key.
pub(crate) fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (base, over) => *base = over.clone(),
    }
}

/// The header GitHub puts on a delivery.
pub(crate) fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// Makes the platform an App: its key as a file of `folder`, where its hook's secret is as well, and
/// no webhook of the repository.
pub(super) fn install(
    github: &Simulator,
    folder: &std::path::Path,
    secret: &str,
    config: &mut Value,
) -> Installed {
    let app = github.create_app(APP, "", secret).expect("an App");
    let installation =
        github.install_app(app.id, "octocat", &[REPOSITORY], &APP_PERMISSIONS).expect("installed");
    let key = folder.join("key.pem");
    std::fs::write(&key, &app.private_key).expect("written");
    let github = config["github"].as_object_mut().expect("a mapping");
    github.remove("token_file");
    let keys = json!({ "id": app.id, "private_key_file": key, "webhook_secret_file": folder.join("secret") });
    github.insert("app".to_owned(), keys);
    config["projects"] = json!([{ "name": "demo", "repositories": [{ "name": REPOSITORY }] }]);
    Installed { app: app.id, hook: app.hook, installation }
}

/// The gateway had no time to take it.
fn is_put_off(status: u16) -> bool {
    status == 503
}

impl World {
    /// The usual world: `octocat` owns the repository, `mona` may write, `reader` may read,
    /// `triager` may label.
    pub(crate) async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        keep_log();
        let (folder, clock) = (folder(), clock());
        // Time passes for both, unless a clock is wrong.
        let theirs = if setup.clock_off.is_zero() { Arc::clone(&clock) } else { super::clock() };
        clock.advance(setup.clock_off);
        let github = Self::github(folder.path(), &theirs).await;
        let mut files = vec![("README.md", "# Hello, world\n")];
        files.extend(setup.files.iter().copied());
        github.create_repository(REPOSITORY, true, &files).await.expect("a repository");
        for (login, permission) in
            [("mona", Permission::Write), ("reader", Permission::Read), ("triager", Permission::Triage)]
        {
            github.add_user(login, false);
            github.set_permission(REPOSITORY, login, permission).expect("a permission");
        }
        github.add_user("helper[bot]", true);
        github.set_permission(REPOSITORY, "helper[bot]", Permission::Write).expect("a permission");
        let token = github.add_token(setup.token_of.unwrap_or("octocat")).expect("a token");
        let database = Database::migrated();
        std::fs::write(folder.path().join("token"), &token).expect("written");
        std::fs::write(folder.path().join("secret"), SECRET).expect("written");
        let mut config = json!({
            "database_url": database.url,
            "data_dir": folder.path().join("data"),
            "listen": { "api": "127.0.0.1:0", "admin": "127.0.0.1:0" },
            "github": { "api_url": github.api_url(), "web_url": github.web_url(), "git_url": github.git_url(), "token_file": "token", "list_lag_seconds": 0 },
            "projects": [{ "name": "demo", "repositories": [{ "name": REPOSITORY, "source": SOURCE, "webhook_secret_file": "secret" }] }],
            "agents": { "default": "command", "command": { "argv": [program("scripted-agent")] } },
        });
        let installed = setup.app.then(|| install(&github, folder.path(), SECRET, &mut config));
        merge(&mut config, &setup.config);
        let path = folder.path().join("callboard.yaml");
        std::fs::write(&path, config.to_string()).expect("written");
        let mut world = Self {
            github,
            clock,
            database,
            hook: 0,
            token,
            installed,
            platform: None,
            config: path,
            folder,
            api: String::new(),
        };
        world.up().await;
        match world.installed {
            Some(it) => {
                world.github.set_app_hook(it.app, &world.webhook(), SECRET).expect("the App's hook");
                world.hook = it.hook;
            }
            None => {
                world.hook = world.github.add_hook(REPOSITORY, &world.webhook(), SECRET).expect("a hook");
            }
        }
        world
    }

    /// The platform as an App, in a world that was set up so.
    pub(crate) fn installed(&self) -> Installed {
        self.installed.expect("a world with `app: true`")
    }

    async fn github(folder: &std::path::Path, clock: &Arc<TestClock>) -> Simulator {
        let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(clock);
        let ids = Ids::from_os(Arc::clone(&clock));
        let github = Simulator::start(webhook_simulator::Options::new(folder.join("github"), clock, ids))
            .await
            .expect("the stand-in starts");
        github.record();
        github.add_user("octocat", false);
        github
    }

    /// Starts the platform, on the same database and folder when it ran before.
    pub(crate) async fn up(&mut self) {
        let config = config::load(&self.config, &|_| None).expect("a valid configuration");
        let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(&self.clock);
        let ids = Ids::from_os(Arc::clone(&clock));
        let platform =
            Platform::start(&config, Options { clock, ids, runner: Some(program("agent-runner")) })
                .await
                .expect("the platform starts");
        self.api = format!("http://{}", platform.api());
        self.platform = Some(platform);
    }

    /// Ends the platform as SIGTERM does.
    pub(crate) async fn down(&mut self) {
        if let Some(platform) = self.platform.take() {
            assert!(platform.stop().await, "every part ends in time");
        }
    }

    pub(crate) fn platform(&self) -> &Platform {
        self.platform.as_ref().expect("the platform is up")
    }

    /// The folder the attempts under way work in, and whatever else the platform keeps.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The webhook's address.
    pub(crate) fn webhook(&self) -> String {
        match self.installed {
            Some(_) => format!("{}/webhooks/github", self.api),
            None => format!("{}/webhooks/github/{SOURCE}", self.api),
        }
    }

    /// Waits until every delivery has arrived or could not; tells how many there were.
    pub(crate) async fn delivered(&self) -> usize {
        let all = |g: &Simulator| {
            let deliveries = g.deliveries(self.hook);
            let are_answered = deliveries.iter().all(|delivery| delivery.answer.is_some());
            (are_answered && refused(&deliveries, is_put_off).is_empty()).then_some(deliveries.len())
        };
        self.until("an end of all deliveries", all).await
    }

    /// GitHub never delivers again by itself. A gateway without time to take a delivery says so; a
    /// person who sees that presses "Redeliver".
    async fn redeliver_what_was_put_off(&self) -> Infallible {
        loop {
            for id in refused(&self.github.deliveries(self.hook), is_put_off) {
                self.github.redeliver(id).expect("sent again");
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// How often recovery has looked for labels that nobody told of. It does so when nothing waits
    /// for its decision, and then not again for five minutes.
    pub(crate) fn looks(&self) -> usize {
        let counts = self.github.request_counts();
        counts.get("GET /repos/{owner}/{repo}/issues").copied().unwrap_or_default()
    }

    /// Waits until recovery has looked once more than so often.
    pub(crate) async fn until_looked(&self, before: usize) {
        self.until("the look for what was missed", |_| (self.looks() > before).then_some(())).await;
    }

    /// Waits until nothing is left to be done, also about what was caused by it.
    pub(crate) async fn settled(&self) {
        loop {
            let seen = self.delivered().await;
            let left = self.platform().control_plane().settled(PATIENCE).await.expect("Postgres answers");
            assert!(left.is_empty(), "work was left behind: {left:#?}");
            if self.github.deliveries(self.hook).len() == seen {
                return;
            }
        }
    }

    /// Ends the story: fails when work was left behind.
    pub(crate) async fn end(mut self) {
        self.settled().await;
        self.down().await;
        self.github.shutdown().await;
        super::contract::assert_described(&self.github.take_exchanges());
        assert_eq!(errors_logged(), 0, "somebody should act on a line at that level, and nobody has to");
    }

    /// Opens an issue as `octocat`.
    pub(crate) fn issue(&self, title: &str, body: &str) -> u64 {
        self.github.open_issue(REPOSITORY, "octocat", title, body).expect("an issue")
    }

    /// An issue whose agent plays these steps.
    pub(crate) fn scripted_issue(&self, title: &str, steps: &Value) -> u64 {
        self.issue(title, &format!("Please.\n\n```agent-script\n{steps}\n```\n"))
    }

    /// `mona` puts a label on.
    pub(crate) fn label(&self, issue: u64, label: &str) {
        self.label_by(issue, label, "mona");
    }

    pub(crate) fn label_by(&self, issue: u64, label: &str, actor: &str) {
        self.github.add_label(REPOSITORY, issue, label, actor).expect("a label");
    }

    /// The admin calls, as the CLI makes them.
    pub(crate) fn admin(&self) -> AdminServiceClient<Channel> {
        let address = Address::Unix(self.platform().admin_socket());
        AdminServiceClient::new(address.channel().expect("a socket"))
    }

    /// Waits until something is so; looks again whenever GitHub or a run changes.
    pub(crate) async fn until<T>(&self, what: &str, probe: impl FnMut(&Simulator) -> Option<T>) -> T {
        let found = tokio::select! {
            found = tokio::time::timeout(PATIENCE, self.github.wait_until(probe)) => found,
            never = self.redeliver_what_was_put_off() => match never {},
        };
        match found {
            Ok(found) => found,
            Err(_) => panic!(
                "waited in vain for {what}; left to do: {:#?}",
                self.platform().control_plane().work_left().await
            ),
        }
    }

    /// The newest run of an issue, once there is one.
    pub(crate) async fn run_of(&self, issue: u64) -> Run {
        // Its status comment tells that it was decided.
        self.until("a comment", |g| (!g.comments(REPOSITORY, issue).is_empty()).then_some(())).await;
        let runs = self.admin().list_runs(ListRunsRequest::default()).await.expect("runs").into_inner().runs;
        runs.into_iter().find(|r| r.issue == issue).expect("a run of the issue")
    }

    /// The run of an issue that is none of these, once there is one.
    pub(crate) async fn next_run(&self, issue: u64, known: &[&str]) -> Run {
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            let runs =
                self.admin().list_runs(ListRunsRequest::default()).await.expect("runs").into_inner().runs;
            if let Some(run) = runs.into_iter().find(|r| r.issue == issue && !known.contains(&r.id.as_str()))
            {
                return run;
            }
            assert!(
                tokio::time::Instant::now() < patience,
                "no further run; {:#?}",
                self.explain(&format!("#{issue}")).await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// `mona` says something, with what an agent that reads it is to play.
    pub(crate) fn scripted_comment(&self, number: u64, words: &str, steps: &Value) {
        let text = format!("{words}\n\n```agent-script\n{steps}\n```\n");
        self.github.add_comment(REPOSITORY, number, "mona", &text).expect("a comment");
    }

    /// A file at the head of a branch, as git has it.
    pub(crate) fn file(&self, branch: &str, path: &str) -> Option<String> {
        let repository = self.folder().join("github").join(format!("{REPOSITORY}.git"));
        let shown = subprocess::command("git", self.folder())
            .arg("--git-dir")
            .arg(repository)
            .args(["show", &format!("{branch}:{path}")])
            .output()
            .expect("git runs");
        shown.status.success().then(|| String::from_utf8(shown.stdout).expect("text"))
    }

    /// Waits until the run is over and everything about it is said.
    pub(crate) async fn finished(&self, id: &str) -> RunDetail {
        self.follow(id).await;
        let left = self.platform().control_plane().settled(PATIENCE).await.expect("Postgres answers");
        assert!(left.is_empty(), "work was left behind: {left:#?}");
        self.get(id).await
    }

    pub(crate) async fn get(&self, id: &str) -> RunDetail {
        self.admin().get_run(GetRunRequest { id: id.to_owned() }).await.expect("the run").into_inner()
    }

    /// Waits until a run is as the story wants it.
    pub(crate) async fn until_run(
        &self,
        id: &str,
        what: &str,
        probe: impl Fn(&RunDetail) -> bool,
    ) -> RunDetail {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let detail = self.get(id).await;
            if probe(&detail) {
                return detail;
            }
            assert!(tokio::time::Instant::now() < until, "waited in vain until {what}: {detail:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The whole log, which ends with the run.
    pub(crate) async fn follow(&self, id: &str) -> Vec<String> {
        let mut lines = self
            .admin()
            .logs(LogsRequest { run_id: id.to_owned(), follow: true })
            .await
            .expect("logs")
            .into_inner();
        let mut all = Vec::new();
        let read = async {
            while let Some(line) = lines.message().await.expect("a line") {
                all.push(line.text);
            }
        };
        assert!(
            tokio::time::timeout(PATIENCE, read).await.is_ok(),
            "the run did not end; its log: {all:#?}; {:#?}",
            self.get(id).await
        );
        all
    }

    /// Waits until the agent has printed something.
    pub(crate) async fn until_log(&self, id: &str, text: &str) {
        let mut lines = self
            .admin()
            .logs(LogsRequest { run_id: id.to_owned(), follow: true })
            .await
            .expect("logs")
            .into_inner();
        let read = async {
            while let Some(line) = lines.message().await.expect("a line") {
                if line.text.contains(text) {
                    return true;
                }
            }
            false
        };
        assert!(
            tokio::time::timeout(PATIENCE, read).await.is_ok_and(|found| found),
            "`{text}` never came; {:#?}",
            self.get(id).await
        );
    }

    pub(crate) async fn cancel(&self, id: &str) -> Result<String, String> {
        let request = RunActionRequest { id: id.to_owned(), reason: String::new() };
        self.admin()
            .cancel_run(request)
            .await
            .map(|r| r.into_inner().message)
            .map_err(|s| s.message().to_owned())
    }

    /// Returns the new run's id.
    pub(crate) async fn retry(&self, id: &str) -> Result<String, String> {
        let request = RunActionRequest { id: id.to_owned(), reason: String::new() };
        self.admin()
            .retry_run(request)
            .await
            .map(|r| r.into_inner().run_id)
            .map_err(|s| s.message().to_owned())
    }

    /// A command as a person types it: exit code, output, and words on standard error.
    pub(crate) async fn callboard(&self, words: &[&str]) -> (i32, String, String) {
        let mut command =
            tokio::process::Command::from(subprocess::command(program("callboard"), self.folder()));
        let done = command.arg("--config").arg(&self.config).args(words).output().await.expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (done.status.code().unwrap_or(-1), text(done.stdout), text(done.stderr))
    }

    pub(crate) async fn release(&self, id: &str, reason: &str) -> Result<String, String> {
        let request = RunActionRequest { id: id.to_owned(), reason: reason.to_owned() };
        let done = self.admin().release_run(request).await;
        done.map(|r| r.into_inner().message).map_err(|s| s.message().to_owned())
    }

    pub(crate) async fn pause(&self, subject: &str, reason: &str) -> Result<String, String> {
        let request = PauseRequest { subject: subject.to_owned(), reason: reason.to_owned() };
        let done = self.admin().pause(request).await;
        done.map(|r| r.into_inner().message).map_err(|s| s.message().to_owned())
    }

    pub(crate) async fn resume(&self, subject: &str) -> Result<String, String> {
        let request = PauseRequest { subject: subject.to_owned(), reason: String::new() };
        let done = self.admin().resume(request).await;
        done.map(|r| r.into_inner().message).map_err(|s| s.message().to_owned())
    }

    /// Waits until the agent of an attempt waits for [`GO`]: of this one, or of a later one where a
    /// busy machine cost it its start.
    pub(crate) async fn until_waiting(&self, id: &str, attempt: u32) {
        let request = LogsRequest { run_id: id.to_owned(), follow: true };
        let mut lines = self.admin().logs(request).await.expect("logs").into_inner();
        let read = async {
            while let Some(line) = lines.message().await.expect("a line") {
                if line.attempt >= attempt && line.text.contains("waiting for") {
                    return true;
                }
            }
            false
        };
        let waits = tokio::time::timeout(PATIENCE, read).await.is_ok_and(|waits| waits);
        assert!(waits, "attempt {attempt} never waited; {:#?}", self.get(id).await);
    }

    /// Lets the newest attempt, which waits for [`GO`], go on.
    pub(crate) async fn let_go(&self, id: &str) {
        let attempt = self.get(id).await.attempts.pop().expect("an attempt").id;
        let file = self.folder().join("data/work").join(attempt).join("workspace/go");
        std::fs::write(file, "").expect("written");
    }

    pub(crate) async fn explain(&self, subject: &str) -> Vec<Explanation> {
        let request = ExplainRequest { subject: subject.to_owned() };
        self.admin().explain(request).await.expect("an explanation").into_inner().explanations
    }

    /// A connection to the platform's database.
    pub(crate) async fn db(&self) -> PgConnection {
        PgConnection::connect(&self.database.url).await.expect("connected")
    }

    /// What GitHub's API answers the owner of the token about the repository.
    pub(crate) async fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let url = format!("{}/repos/{REPOSITORY}/{path}", self.github.api_url());
        let mut request =
            reqwest::Client::new().request(method.parse().expect("a method"), url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.expect("an answer");
        assert!(answer.status().is_success(), "{method} {path}: {}", answer.status());
        answer.json().await.expect("JSON")
    }

    /// Our comments on an issue.
    pub(crate) fn comments(&self, issue: u64) -> Vec<String> {
        self.github.comments(REPOSITORY, issue).into_iter().map(|c| c.body).collect()
    }

    /// Posts a delivery by hand.
    pub(crate) async fn post(
        &self,
        event: &str,
        guid: &str,
        body: &[u8],
        signature: Option<&str>,
    ) -> reqwest::Response {
        self.post_to(&self.webhook(), event, guid, body, signature).await
    }

    pub(crate) async fn post_to(
        &self,
        url: &str,
        event: &str,
        guid: &str,
        body: &[u8],
        signature: Option<&str>,
    ) -> reqwest::Response {
        let mut request = reqwest::Client::new()
            .post(url)
            .header("content-type", "application/json")
            .header("x-github-event", event)
            .header("x-github-delivery", guid);
        if let Some(signature) = signature {
            request = request.header("x-hub-signature-256", signature);
        }
        let request = request.body(body.to_vec());
        // As it asks for where it has no time.
        for _ in 0..60 {
            let again = request.try_clone().expect("a body that can be sent twice");
            let answer = again.send().await.expect("an answer");
            if !is_put_off(answer.status().as_u16()) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("{guid} is put off again and again");
    }
}
