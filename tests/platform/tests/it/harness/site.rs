//! Real platforms that are killed, with a stand-in for GitHub and a Postgres that outlive them.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{clock::Clock, ids::Ids, rights::Permission};
use proto::{
    admin::{
        EnrollWorkerRequest, PauseRequest, RunActionRequest, SetupStep,
        admin_service_client::AdminServiceClient, setup_step::Outcome,
    },
    v1::worker_service_client::WorkerServiceClient,
};
use serde_json::{Value, json};
use sqlx::{PgPool, postgres::PgPoolOptions};
use telemetry::{
    address::Address,
    identity::{AuthenticatedChannel, Identity, connect},
};
use tonic::transport::Channel;
use webhook_simulator::Simulator;

use super::{
    REPOSITORY, SOURCE, TestClock, clock,
    exactly_once::{Seen, violations},
    folder, merge, newest, program, refused,
    story::free_address,
    supervised::{Start, Supervised},
    world::install,
};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often something is looked at that cannot tell when it changes.
const LOOK: Duration = Duration::from_millis(20);
pub(crate) const SITE_SECRET: &str = "the secret of a site";
/// 32 bytes for the envelope, the same for all platforms of a site.
const KEY: &str = "YSBrZXkgb2YgMzIgYnl0ZXMgZm9yIHRoZSB0ZXN0cyE=\n";

/// One repository, one database, and the platforms that work for it.
pub(crate) struct Site {
    pub(crate) github: Simulator,
    /// GitHub's.
    clock: Arc<TestClock>,
    pub(crate) hook: u64,
    pub(crate) db: PgPool,
    pub(crate) platforms: Vec<Supervised>,
    /// Services beside the first platform, where that is a control plane by itself.
    services: Vec<Supervised>,
    pub(crate) folder: tempfile::TempDir,
}

/// How a site differs from the usual one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Platforms on the one database; 0 counts as 1.
    pub(crate) platforms: usize,
    /// On top of the usual configuration.
    pub(crate) config: Value,
    /// Environment of the first process of the first platform.
    pub(crate) first: Vec<(&'static str, String)>,
    /// Environment of every process.
    pub(crate) always: &'static [(&'static str, &'static str)],
    /// The platform is an App; there is one of it then.
    pub(crate) app: bool,
    /// It is a control plane by itself; [`Site::serve`] starts the other services.
    pub(crate) apart: bool,
}

impl Site {
    pub(crate) async fn start(database_url: &str, plan: &Plan) -> Self {
        let folder = folder();
        let site_clock = clock();
        let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(&site_clock);
        let ids = Ids::from_os(Arc::clone(&clock));
        let options = webhook_simulator::Options::new(folder.path().join("github"), clock, ids);
        let github = Simulator::start(options).await.expect("the stand-in starts");
        github.record();
        github.add_user("octocat", false);
        github
            .create_repository(REPOSITORY, true, &[("README.md", "# Hello\n")])
            .await
            .expect("a repository");
        for login in ["mona", "hubot"] {
            github.add_user(login, false);
            github.set_permission(REPOSITORY, login, Permission::Write).expect("a permission");
        }
        let token = github.add_token("octocat").expect("a token");
        std::fs::write(folder.path().join("token"), token).expect("written");
        std::fs::write(folder.path().join("secret"), SITE_SECRET).expect("written");
        std::fs::create_dir(folder.path().join("objects")).expect("made");
        let key = folder.path().join("key");
        let (mut platforms, mut installed) = (Vec::new(), None);
        for number in 0..plan.platforms.max(1) {
            let (api, admin) = (free_address(), free_address());
            let place = folder.path().join(format!("platform-{number}"));
            std::fs::create_dir(&place).expect("made");
            open_to_sandboxes(&place);
            let mut config = json!({
                "database_url": database_url,
                "data_dir": "data",
                "key_file": key,
                "objects": { "directory": folder.path().join("objects") },
                "listen": { "api": api, "admin": admin },
                "github": { "api_url": github.api_url(), "web_url": github.web_url(), "git_url": github.git_url(), "token_file": "../token", "list_lag_seconds": 0 },
                "projects": [{ "name": "demo", "repositories": [{ "name": REPOSITORY, "source": SOURCE, "webhook_secret_file": "../secret" }] }],
                "agents": { "default": "command", "command": { "argv": [program("scripted-agent")] } },
            });
            if plan.app {
                installed = Some(install(&github, folder.path(), SITE_SECRET, &mut config));
            }
            merge(&mut config, &plan.config);
            std::fs::write(place.join("callboard.yaml"), config.to_string()).expect("written");
            let first = if number == 0 { plan.first.as_slice() } else { &[] };
            if number == 0 {
                std::fs::write(&key, KEY).expect("written");
                std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))
                    .expect("its mode");
            }
            let words: &[&str] = if plan.apart { &["serve", "control-plane"] } else { &["up"] };
            let always = plan.always.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
            let start = Start {
                folder: place,
                program: program("callboard"),
                words,
                api,
                admin,
                first: first.to_vec(),
                always,
            };
            platforms.push(Supervised::start(start));
        }
        let webhook = format!("http://{}/webhooks/github", platforms[0].api);
        let hook = match installed {
            Some(it) => {
                github.set_app_hook(it.app, &webhook, SITE_SECRET).expect("the App's hook");
                it.hook
            }
            None => github.add_hook(REPOSITORY, &format!("{webhook}/{SOURCE}"), SITE_SECRET).expect("a hook"),
        };
        let db = PgPoolOptions::new().max_connections(2).connect_lazy(database_url).expect("an address");
        Self { github, clock: site_clock, hook, db, platforms, services: Vec::new(), folder }
    }

    /// Starts one service of the first platform in a process of its own.
    pub(super) fn serve(&mut self, words: &'static [&'static str]) {
        let service = Supervised::start(self.service(words));
        self.services.push(service);
    }

    /// How such a process starts.
    pub(super) fn service(&self, words: &'static [&'static str]) -> Start {
        let admin = free_address();
        Start {
            folder: self.platform().folder.clone(),
            program: program("callboard"),
            words,
            api: self.platform().api,
            admin,
            first: Vec::new(),
            always: vec![("CALLBOARD_LISTEN_ADMIN", admin.to_string())],
        }
    }

    pub(crate) fn platform(&self) -> &Supervised {
        &self.platforms[0]
    }

    pub(crate) fn issue(&self, title: &str, steps: Option<&Value>) -> u64 {
        let body = steps.map_or_else(
            || "Please.".to_owned(),
            |steps| format!("Please.\n\n```agent-script\n{steps}\n```\n"),
        );
        self.github.open_issue(REPOSITORY, "octocat", title, &body).expect("an issue")
    }

    pub(crate) fn label(&self, issue: u64, label: &str) {
        self.github.add_label(REPOSITORY, issue, label, "mona").expect("a label");
    }

    /// Waits until something is so, and says what was waited for when it never is.
    pub(crate) async fn until<T>(&self, what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
        self.until_within(PATIENCE, what, probe).await
    }

    /// The same, where it takes longer.
    pub(crate) async fn until_within<T>(
        &self,
        patience: Duration,
        what: &str,
        mut probe: impl AsyncFnMut() -> Option<T>,
    ) -> T {
        let until = Instant::now() + patience;
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            assert!(
                Instant::now() < until,
                "waited in vain for {what}; left: {:#?}\n{}",
                self.left().await,
                self.logs()
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(crate) fn logs(&self) -> String {
        self.platforms.iter().map(Supervised::log).collect::<Vec<_>>().join("\n-- next platform --\n")
    }

    /// Ready, as readiness says.
    pub(crate) async fn ready(&self) {
        self.until("readiness", async || {
            let mut all = true;
            for platform in &self.platforms {
                all &= reqwest::get(format!("http://{}/readyz", platform.admin))
                    .await
                    .is_ok_and(|answer| answer.status().is_success());
            }
            all.then_some(())
        })
        .await;
    }

    /// The webhook's address.
    pub(crate) fn webhook(&self) -> String {
        format!("http://{}/webhooks/github/{SOURCE}", self.platforms[0].api)
    }

    /// Changes the webhook at GitHub, as its owner does on the settings page: whether it is active,
    /// and where it sends to.
    pub(crate) async fn change_hook(&self, active: bool, send_to: &str) {
        // GitHub replaces the configuration: a secret that is left out is gone.
        let config = json!({ "url": send_to, "content_type": "json", "secret": SITE_SECRET });
        let changes = json!({ "active": active, "config": config });
        let token = self.github.add_token("octocat").expect("a token");
        let url = format!("{}/repos/{REPOSITORY}/hooks/{}", self.github.api_url(), self.hook);
        let changed = reqwest::Client::new().patch(url).bearer_auth(token).json(&changes).send().await;
        assert!(changed.expect("an answer").status().is_success());
    }

    /// An address at which nobody listens.
    pub(crate) const NOWHERE: &str = "http://127.0.0.1:9/webhooks/github/hello-world";

    /// Waits until GitHub could not hand over a delivery.
    pub(crate) async fn until_a_delivery_failed(&self) {
        let failed =
            |d: &webhook_simulator::Delivery| d.answer.as_ref().is_some_and(|a| a.status_code >= 500);
        self.until("a delivery that failed", async || {
            self.github.deliveries(self.hook).iter().any(|d| d.event == "issues" && failed(d)).then_some(())
        })
        .await;
    }

    /// `mona` put a label on two minutes ago, of a repository that was here for an hour.
    pub(crate) async fn set_a_while_ago(&self, issue: u64, label: &str) {
        sqlx::query("update repositories set created_at = created_at - interval '1 hour'")
            .execute(&self.db)
            .await
            .expect("changed");
        self.clock.advance(chrono::TimeDelta::minutes(-2));
        self.label(issue, label);
        self.clock.advance(chrono::TimeDelta::minutes(2));
    }

    /// GitHub never delivers again by itself; a person presses "Redeliver" on what failed.
    pub(crate) fn redeliver_what_failed(&self) {
        for id in refused(&self.github.deliveries(self.hook), |status| !(200..300).contains(&status)) {
            self.github.redeliver(id).expect("sent again");
        }
    }

    /// Deliveries that GitHub could not hand over, or waits for.
    fn undelivered(&self) -> Vec<String> {
        let deliveries = self.github.deliveries(self.hook);
        newest(&deliveries)
            .filter(|d| d.answer.as_ref().is_none_or(|a| !(200..300).contains(&a.status_code)))
            .map(|d| format!("{} {:?}", d.event, d.action))
            .collect()
    }

    /// What is still to be done.
    pub(crate) async fn left(&self) -> Vec<String> {
        let deliveries = self.github.deliveries(self.hook).len();
        let mut left = self.undelivered();
        let stored: Result<Vec<String>, _> = sqlx::query_scalar(
            "select 'delivery ' || guid from deliveries where decided_at is null
             union all select 'run ' || run_id || ' ' || state from runs where state in ('queued', 'active')
             union all select 'effect ' || kind || ' ' || coalesce(last_error, '') from effects where state = 'pending'
             union all select 'event without a number' where exists (select from events where sequence is null)
             union all select 'attempt ' || attempt_id from attempts where state in ('leased', 'preparing', 'running')",
        )
        .fetch_all(&self.db)
        .await;
        match stored {
            Ok(stored) => left.extend(stored),
            Err(error) => left.push(format!("Postgres: {error}")),
        }
        if self.github.deliveries(self.hook).len() != deliveries {
            left.push("a delivery that came meanwhile".to_owned());
        }
        left
    }

    /// Returns once nothing is left to be done.
    pub(crate) async fn settled(&self) {
        self.settled_within(PATIENCE).await;
    }

    /// The same, where there is much to be done.
    pub(crate) async fn settled_within(&self, patience: Duration) {
        self.until_within(patience, "everything to be done", async || {
            self.redeliver_what_failed();
            self.left().await.is_empty().then_some(())
        })
        .await;
    }

    /// The newest run of an issue.
    pub(crate) async fn run_of(&self, issue: u64) -> String {
        self.until("a run", async || {
            self.redeliver_what_failed();
            sqlx::query_scalar(
                "select run_id::text from runs where issue_number = $1 order by created_at desc limit 1",
            )
            .bind(i64::try_from(issue).expect("a number"))
            .fetch_optional(&self.db)
            .await
            .ok()
            .flatten()
        })
        .await
    }

    /// Does what a person at a terminal does: tries again while nobody answers.
    pub(crate) async fn command<T>(
        &self,
        what: &str,
        mut call: impl AsyncFnMut(AdminServiceClient<Channel>) -> Result<T, tonic::Status>,
    ) -> Result<T, String> {
        self.until(what, async || match call(self.platform().commands()).await {
            Ok(answer) => Some(Ok(answer)),
            Err(status)
                if matches!(
                    status.code(),
                    tonic::Code::FailedPrecondition | tonic::Code::NotFound | tonic::Code::InvalidArgument
                ) =>
            {
                Some(Err(status.message().to_owned()))
            }
            Err(_) => None,
        })
        .await
    }

    /// A command that tells its steps, given again until it comes to its end and none failed.
    pub(crate) async fn steps(
        &self,
        what: &str,
        mut call: impl AsyncFnMut(
            AdminServiceClient<Channel>,
        ) -> Result<tonic::Response<tonic::Streaming<SetupStep>>, tonic::Status>,
    ) {
        self.until(what, async || {
            let mut steps = call(self.platform().commands()).await.ok()?.into_inner();
            let mut failed = false;
            while let Some(step) = steps.message().await.ok()? {
                failed |= step.outcome() == Outcome::Failed;
            }
            (!failed).then_some(())
        })
        .await;
    }

    /// A worker that the test plays, of the first platform.
    pub(crate) async fn enroll(
        &self,
        name: &str,
    ) -> Result<WorkerServiceClient<AuthenticatedChannel>, String> {
        let request = EnrollWorkerRequest {
            name: name.to_owned(),
            projects: vec!["demo".to_owned()],
            ..EnrollWorkerRequest::default()
        };
        let enroll = async |mut c: AdminServiceClient<Channel>| c.enroll_worker(request.clone()).await;
        let enrolled = self.command("worker enroll", enroll).await?.into_inner();
        let identity = Identity::from_json(&enrolled.identity).expect("an identity");
        let address = Address::Unix(self.platform().folder.join("data/internal/control-plane.sock"));
        let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(&self.clock);
        Ok(WorkerServiceClient::new(connect(&address, Arc::new(identity), clock).expect("a socket")))
    }

    pub(crate) async fn cancel(&self, run: &str) -> Result<String, String> {
        let request = RunActionRequest { id: run.to_owned(), reason: String::new() };
        self.command("cancel", async |mut c| {
            c.cancel_run(request.clone()).await.map(|r| r.into_inner().message)
        })
        .await
    }

    pub(crate) async fn retry(&self, run: &str) -> Result<String, String> {
        let request = RunActionRequest { id: run.to_owned(), reason: String::new() };
        self.command("retry", async |mut c| c.retry_run(request.clone()).await.map(|r| r.into_inner().run_id))
            .await
    }

    pub(crate) async fn release(&self, run: &str) -> Result<String, String> {
        let request = RunActionRequest { id: run.to_owned(), reason: String::new() };
        self.command("release", async |mut c| {
            c.release_run(request.clone()).await.map(|r| r.into_inner().message)
        })
        .await
    }

    /// The effect that was given up, once there is one.
    pub(crate) async fn given_up(&self) -> String {
        self.until("an effect that is given up", async || {
            sqlx::query_scalar("select effect_id::text from effects where state = 'dead'")
                .fetch_optional(&self.db)
                .await
                .ok()
                .flatten()
        })
        .await
    }

    /// Pauses everything; twice is once.
    pub(crate) async fn pause(&self) {
        let pause = async |mut c: AdminServiceClient<Channel>| c.pause(PauseRequest::default()).await;
        self.command("pause", pause).await.expect("paused");
    }

    /// Resumes everything; twice is once.
    pub(crate) async fn resume(&self) {
        let resume = async |mut c: AdminServiceClient<Channel>| c.resume(PauseRequest::default()).await;
        self.command("resume", resume).await.expect("resumed");
    }

    /// Waits until the transcript of a run has this text in it.
    pub(crate) async fn until_said(&self, run: &str, text: &str) {
        self.until(&format!("`{text}` in the transcript"), async || {
            sqlx::query_scalar::<_, bool>(
                "select exists (select from transcript_chunks join attempts using (attempt_id)
                 where run_id = $1::uuid and lines::text like '%' || $2 || '%')",
            )
            .bind(run)
            .bind(text)
            .fetch_one(&self.db)
            .await
            .is_ok_and(|said| said)
            .then_some(())
        })
        .await;
    }

    /// How many runs there are.
    pub(crate) async fn runs(&self) -> i64 {
        sqlx::query_scalar("select count(*) from runs").fetch_one(&self.db).await.expect("a count")
    }

    /// How many attempts a run has had.
    pub(crate) async fn attempts(&self, run: &str) -> i64 {
        let count = sqlx::query_scalar("select count(*) from attempts where run_id = $1::uuid").bind(run);
        count.fetch_one(&self.db).await.unwrap_or_default()
    }

    /// Which platform's worker has the newest attempt of a run.
    pub(crate) async fn holder_of(&self, run: &str) -> usize {
        let worker: String = sqlx::query_scalar(
            "select worker_id::text from attempts where run_id = $1::uuid order by number desc limit 1",
        )
        .bind(run)
        .fetch_one(&self.db)
        .await
        .expect("an attempt");
        let has = |platform: &Supervised| {
            let identity = platform.folder.join("data/identities/worker-local.json");
            std::fs::read_to_string(identity).is_ok_and(|text| text.contains(&worker))
        };
        self.platforms.iter().position(has).expect("one of ours")
    }

    /// Did this happen to a run?
    pub(crate) async fn has_event(&self, run: &str, kind: &str) -> bool {
        let found = sqlx::query_scalar(
            "select exists (select from events where run_id = $1::uuid and action = 'run.' || $2)",
        );
        found.bind(run).bind(kind).fetch_one(&self.db).await.unwrap_or_default()
    }

    /// Time passes on the database's clock for every first attempt's lease, as when its worker is
    /// silent. One that is not may take it back in time.
    pub(crate) async fn expire_leases(&self) {
        sqlx::query("update attempts set lease_expires_at = now() - interval '1 second' where number = 1")
            .execute(&self.db)
            .await
            .expect("Postgres answers");
    }

    /// Waits until the status comment of a run was refreshed, as if it had worked for minutes.
    pub(crate) async fn until_refreshed(&self, run: &str) {
        let said = "select count(*) from effects where run_id = $1::uuid and kind = 'status_comment'";
        let said = async || sqlx::query_scalar::<_, i64>(said).bind(run).fetch_one(&self.db).await.ok();
        self.until("it to be said that the agent works", async || {
            let worked = "update effects set created_at = created_at - interval '3 minutes'
                          where run_id = $1::uuid and kind = 'status_comment' and state = 'done'";
            drop(sqlx::query(worked).bind(run).execute(&self.db).await);
            said().await.filter(|n| *n > 2)
        })
        .await;
    }

    /// Waits until the first platform was killed so often.
    pub(crate) async fn until_killed(&self, times: u32) {
        self.until("a kill at the point", async || (self.platform().killed() >= times).then_some(())).await;
    }

    /// Waits until an attempt of a run has left a checkpoint.
    pub(crate) async fn until_checkpoint(&self, run: &str) {
        self.until("a checkpoint", async || {
            sqlx::query_scalar::<_, bool>("select exists (select from checkpoints where run_id = $1::uuid)")
                .bind(run)
                .fetch_one(&self.db)
                .await
                .is_ok_and(|there| there)
                .then_some(())
        })
        .await;
    }

    /// The stored changesets are not what they were.
    pub(crate) fn damage_checkpoints(&self) {
        for project in std::fs::read_dir(self.folder.path().join("objects")).expect("projects") {
            let changesets = project.expect("one").path().join("changesets");
            for object in std::fs::read_dir(changesets).expect("objects") {
                std::fs::write(object.expect("one").path(), "not a changeset").expect("written");
            }
        }
    }

    /// Everything that is over is over for two years, and the next round of retention is due.
    pub(crate) async fn grow_old(&self) {
        for statement in [
            "update runs set finished_at = finished_at - interval '2 years'",
            "update deliveries set decided_at = decided_at - interval '2 years'",
            "update effects set finished_at = finished_at - interval '2 years'",
            "update unneeded_objects set since = since - interval '2 years'",
            "update attempts set changeset_key = null",
            "select events_add(gen_random_uuid(), now() - interval '2 years', null, null, 'platform', 'test.old', 'test', '', '{}', null)",
        ] {
            sqlx::query(statement).execute(&self.db).await.expect(statement);
        }
        self.settled().await;
        sqlx::query("delete from retention").execute(&self.db).await.expect("deleted");
    }

    /// `kill -9` of every runner and agent of this site.
    pub(crate) fn kill_runners(&self) {
        let place = self.folder.path().display().to_string();
        for entry in std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok) {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            if line.contains("bwrap") && line.contains(&place) {
                let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
                // It may be gone already.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// What must be so once everything is settled, whatever happened on the way. Returns what
    /// is not.
    pub(crate) async fn violations(&self) -> Vec<String> {
        let seen = Seen { github: &self.github, hook: self.hook, db: &self.db };
        let mut wrong = violations(&seen).await;
        let verified = self
            .command("audit verify", async |mut c| {
                c.verify_audit(proto::admin::VerifyAuditRequest::default()).await
            })
            .await;
        match verified {
            Ok(log) => wrong.extend(log.into_inner().problems),
            Err(refused) => wrong.push(refused),
        }
        wrong
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            super::contract::assert_described(&self.github.take_exchanges());
        }
    }
}

/// Sandboxed agents are another user, who passes through.
fn open_to_sandboxes(folder: &Path) {
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o711)).expect("its mode");
}
