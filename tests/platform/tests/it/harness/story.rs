//! A platform in real processes, for stories about commands and crashes.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Database, folder, program};

/// A child that does not outlive its story.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// An address nobody else takes meanwhile: other stories listen on 127.0.0.1.
pub(crate) fn free_address() -> SocketAddr {
    static HOSTS: AtomicU8 = AtomicU8::new(2);
    let host = [127, 0, 7, HOSTS.fetch_add(1, Ordering::SeqCst)];
    TcpListener::bind((IpAddr::from(host), 0)).and_then(|l: TcpListener| l.local_addr()).expect("an address")
}

pub(crate) fn run(command: &mut Command) -> (i32, String, String) {
    let done = command.output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (done.status.code().unwrap_or(-1), text(done.stdout), text(done.stderr))
}

/// The whole answer, or nothing when nobody listens.
pub(crate) fn http_get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A platform in processes of its own, a stand-in beside it, and the commands people use.
pub(crate) struct Story {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) github: Value,
    pub(crate) api: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) platform: Option<Process>,
    pub(crate) services: Vec<(String, Process)>,
    _stand_in: Process,
    _database: Database,
}

impl Story {
    /// A platform that is up, and a repository whose webhook points at it.
    pub(crate) fn start() -> Self {
        let mut story = Self::prepare();
        story.up();
        story.seed();
        story
    }

    /// The stand-in runs, and a configuration that knows it by address.
    pub(crate) fn prepare() -> Self {
        let (folder, database) = (folder(), Database::migrated());
        std::fs::write(folder.path().join("secret"), "the secret of the processes' story").expect("written");
        let mut stand_in = subprocess::command(program("webhook-simulator"), folder.path());
        stand_in
            .args(["serve", "--listen", "127.0.0.1:0", "--data", "github", "--token-file", "token"])
            .stdout(Stdio::piped());
        let mut stand_in = stand_in.spawn().expect("the stand-in starts");
        let mut line = String::new();
        BufReader::new(stand_in.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let github: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let (api, admin) = (free_address(), free_address());
        let config = json!({
            "database_url": database.url,
            "data_dir": "data",
            "listen": { "api": api, "admin": admin },
            "github": { "api_url": github["api_url"], "web_url": github["web_url"], "git_url": github["git_url"], "token_file": "token", "list_lag_seconds": 0 },
            "projects": [{ "name": "demo", "repositories": [{ "name": "octocat/hello-world", "webhook_secret_file": "secret" }] }],
            "agents": { "default": "command", "command": { "argv": [program("scripted-agent")] } },
        });
        std::fs::write(folder.path().join("callboard.yaml"), config.to_string()).expect("written");
        Self {
            folder,
            github,
            api,
            admin,
            platform: None,
            services: Vec::new(),
            _stand_in: Process(stand_in),
            _database: database,
        }
    }

    pub(crate) fn seed(&self) {
        let hook = format!("http://{}/webhooks/github/hello-world", self.api);
        self.stand_in(&["seed", "--hook-url", &hook, "--hook-secret-file", "secret"]);
    }

    /// One service in a process of its own, once it is ready.
    pub(crate) fn serve(&mut self, service: &str) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path().join("log"))
            .expect("a log");
        let admin = free_address();
        let mut command = subprocess::command(program("callboard"), self.path());
        command.args(["serve", service, "--config", "callboard.yaml"]).stderr(log);
        command.env("CALLBOARD_LISTEN_ADMIN", admin.to_string());
        let authority = self.path().join("ca.pem");
        if authority.exists() {
            // Where native TLS clients look for roots.
            command.env("SSL_CERT_FILE", authority);
        }
        self.services.push((service.to_owned(), Process(command.spawn().expect("the service starts"))));
        self.until_ready(admin);
    }

    /// `kill -9` of one service, and a new process of it.
    pub(crate) fn replace(&mut self, service: &str) {
        let at = self.services.iter().position(|(name, _)| name == service).expect("it runs");
        drop(self.services.remove(at));
        self.serve(service);
    }

    pub(crate) fn until_ready(&self, admin: SocketAddr) {
        let patience = Instant::now() + Duration::from_secs(60);
        while !http_get(admin, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            assert!(Instant::now() < patience, "not ready: {}", self.log());
            std::thread::yield_now();
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn up(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path().join("log"))
            .expect("a log");
        let mut platform = subprocess::command(program("callboard"), self.path());
        platform.args(["up", "--config", "callboard.yaml"]).stderr(log);
        self.platform = Some(Process(platform.spawn().expect("the platform starts")));
        self.until_ready(self.admin);
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn stand_in(&self, words: &[&str]) -> String {
        let server = self.github["web_url"].as_str().expect("an address");
        let mut command = subprocess::command(program("webhook-simulator"), self.path());
        let (code, out, err) = run(command.args(words).env("WEBHOOK_SIMULATOR_URL", server));
        assert_eq!(code, 0, "{words:?}: {err}");
        out
    }

    pub(crate) fn callboard(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = subprocess::command(program("callboard"), self.path());
        run(command.args(words).env("CALLBOARD_CONFIG", "callboard.yaml"))
    }

    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let (code, out, err) = self.callboard(&[words, &["-o", "json"]].concat());
        assert_eq!(code, 0, "{words:?}: {err}");
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }

    /// Waits until something is so.
    pub(crate) fn until<T>(&self, what: &str, probe: impl Fn(&Self) -> Option<T>) -> T {
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(found) = probe(self) {
                return found;
            }
            assert!(Instant::now() < patience, "waited in vain for {what}; {}", self.log());
        }
    }

    /// The id of the newest run, once there is one.
    pub(crate) fn newest_run(&self) -> String {
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(id) = self.json(&["run", "list"])[0]["id"].as_str() {
                return id.to_owned();
            }
            assert!(Instant::now() < patience, "no run; {}", self.log());
        }
    }

    /// The run of an issue, once there is one.
    pub(crate) fn run_of(&self, issue: &str) -> String {
        let issue: u64 = issue.parse().expect("a number");
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            let runs = self.json(&["run", "list"]);
            let of_issue = runs.as_array().expect("runs").iter().find(|r| r["issue"] == issue);
            if let Some(id) = of_issue.and_then(|r| r["id"].as_str()) {
                return id.to_owned();
            }
            assert!(Instant::now() < patience, "no run; {}", self.log());
        }
    }

    /// Waits until a run is in a state and everything about it is said.
    pub(crate) fn until_state(&self, id: &str, wanted: &str) -> Value {
        let patience = Instant::now() + Duration::from_secs(90);
        loop {
            let run = self.json(&["run", "get", id]);
            let effects = run["effects"].as_array().expect("effects");
            if run["run"]["state"] == wanted && effects.iter().all(|e| e["state"] != "pending") {
                return run;
            }
            assert!(Instant::now() < patience, "{run:#}\n{}", self.log());
        }
    }

    pub(crate) fn until_final(&self, id: &str) -> Value {
        let patience = Instant::now() + Duration::from_secs(90);
        loop {
            let run = self.json(&["run", "get", id]);
            let effects = run["effects"].as_array().expect("effects");
            let state = run["run"]["state"].as_str().expect("a state");
            if ["succeeded", "failed", "cancelled"].contains(&state)
                && effects.iter().all(|e| e["state"] != "pending")
            {
                return run;
            }
            assert!(Instant::now() < patience, "{run:#}\n{}", self.log());
        }
    }
}
