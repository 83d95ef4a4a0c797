//! The stand-in for GitHub as a program: a server, and commands that talk to it.

mod app_command;

use std::{
    io::Write,
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use domain::ids::Ids;
use serde_json::{Value, json};
use telemetry::clock::SystemClock;
use webhook_simulator::{DeliveryFault, Fault, Options, Script, Seed, Simulator};

/// A stand-in for GitHub: REST API, git over HTTP, signed webhooks.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Server the other commands talk to
    #[arg(long, global = true, env = "WEBHOOK_SIMULATOR_URL", default_value = "http://127.0.0.1:9000")]
    server: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server; prints its addresses as one JSON line
    Serve {
        /// Address to listen on; port 0 takes a free one
        #[arg(long, default_value = "127.0.0.1:9000")]
        listen: SocketAddr,
        /// Empty folder for the repositories
        #[arg(long)]
        data: PathBuf,
        /// Accounts and repositories to begin with, YAML or JSON [default: octocat/hello-world]
        #[arg(long)]
        seed: Option<PathBuf>,
        /// Write a personal access token of the first account to this file (mode 0600)
        #[arg(long)]
        token_file: Option<PathBuf>,
        /// Install an App on all repositories of the first account, and write its ids to this
        /// file as JSON and its private key to FILE.pem (mode 0600)
        #[arg(long, value_name = "FILE")]
        app_file: Option<PathBuf>,
    },
    /// Make octocat/hello-world where it is missing, and a hook; prints JSON
    Seed {
        /// Where the hook's deliveries go
        #[arg(long, requires = "hook_secret_file")]
        hook_url: Option<String>,
        /// File that holds the secret deliveries are signed with
        #[arg(long, requires = "hook_url")]
        hook_secret_file: Option<PathBuf>,
    },
    /// Open an issue; prints its number
    Issue {
        /// Title
        #[arg(long)]
        title: String,
        /// Text
        #[arg(long, default_value = "")]
        body: String,
        /// Repository, as OWNER/NAME
        #[arg(long, default_value = "octocat/hello-world")]
        repository: String,
        /// Who opens it
        #[arg(long = "as", default_value = "octocat", value_name = "LOGIN")]
        author: String,
    },
    /// Put a label on an issue
    Label {
        /// Repository, as OWNER/NAME
        repository: String,
        /// Number of the issue
        number: u64,
        /// Label, such as run:dev
        label: String,
        /// Who puts it on
        #[arg(long = "as", default_value = "octocat", value_name = "LOGIN")]
        actor: String,
    },
    /// Write a comment on an issue; prints its id
    Comment {
        /// Repository, as OWNER/NAME
        repository: String,
        /// Number of the issue
        number: u64,
        /// Text
        #[arg(long)]
        body: String,
        /// Who writes it
        #[arg(long = "as", default_value = "octocat", value_name = "LOGIN")]
        author: String,
    },
    /// Submit a review of a pull request; prints its id
    Review {
        /// Repository, as OWNER/NAME
        repository: String,
        /// Number of the pull request
        number: u64,
        /// approve, request_changes or comment
        verdict: String,
        /// Text
        #[arg(long, default_value = "")]
        body: String,
        /// Remark on a line of the new version, as PATH:LINE:TEXT; may be given more than once
        #[arg(long = "remark", value_name = "PATH:LINE:TEXT", value_parser = remark)]
        remarks: Vec<(String, u64, String)>,
        /// Who reviews; not who opened the pull request
        #[arg(long = "as", default_value = "octocat", value_name = "LOGIN")]
        author: String,
    },
    /// Merge a pull request; prints the commit
    Merge {
        /// Repository, as OWNER/NAME
        repository: String,
        /// Number of the pull request
        number: u64,
        /// Who merges
        #[arg(long = "as", default_value = "octocat", value_name = "LOGIN")]
        actor: String,
    },
    /// Make requests and deliveries go wrong
    #[command(subcommand)]
    Fault(FaultCommand),
    /// Print what is there, as JSON
    #[command(subcommand)]
    Show(Show),
    /// Register Apps, install and suspend them
    #[command(subcommand)]
    App(app_command::AppCommand),
    /// Let deliveries fail as when nothing listens, or arrive again
    Reachable {
        /// true or false
        #[arg(action = clap::ArgAction::Set)]
        reachable: bool,
    },
    /// Send a delivery again, with the same GUID; prints the new delivery's id
    Redeliver {
        /// Id of the delivery, from `show deliveries`
        delivery: u64,
    },
}

#[derive(Debug, Subcommand)]
enum FaultCommand {
    /// The next requests of a kind go wrong
    Request {
        /// How, such as refuse=502, lose-answer, secondary-limit=60 or list-lag=500
        fault: Fault,
        /// Which, as `POST /repos/{owner}/{repo}/pulls`, `POST *` or `*`
        #[arg(long, default_value = "*")]
        at: String,
        /// Only those with this text in their path or body
        #[arg(long)]
        holding: Option<String>,
        /// Only from the so-manieth on
        #[arg(long, default_value_t = 1)]
        from: u32,
        /// How many
        #[arg(long, default_value_t = 1)]
        times: u32,
    },
    /// The next deliveries go wrong
    Delivery {
        /// How: drop, duplicate, hold-back or delay=MILLISECONDS
        fault: DeliveryFault,
        /// Event, such as issues; `*` is every one but pings
        #[arg(long, default_value = "*")]
        event: String,
        /// How many
        #[arg(long, default_value_t = 1)]
        times: u32,
    },
    /// Print what was scripted and how often it struck, as JSON
    List,
    /// Let nothing go wrong any more
    Clear,
}

#[derive(Debug, Subcommand)]
enum Show {
    /// An issue
    Issue {
        /// Repository, as OWNER/NAME
        repository: String,
        /// Number
        number: u64,
    },
    /// Comments of an issue or pull request
    Comments {
        /// Repository, as OWNER/NAME
        repository: String,
        /// Number
        number: u64,
    },
    /// Reviews of a pull request, with their remarks
    Reviews {
        /// Repository, as OWNER/NAME
        repository: String,
        /// Number
        number: u64,
    },
    /// Pull requests, or one of them
    Pull {
        /// Repository, as OWNER/NAME
        repository: String,
        /// Number; all without it
        number: Option<u64>,
        /// Print the change instead
        #[arg(long, requires = "number")]
        diff: bool,
    },
    /// Deliveries to the repository's hooks
    Deliveries {
        /// Repository, as OWNER/NAME
        repository: String,
    },
    /// Requests the server answered, and how many of each
    Log,
}

/// `src/main.rs:7:Say why`
fn remark(text: &str) -> Result<(String, u64, String), String> {
    let mut parts = text.splitn(3, ':');
    let found = (parts.next(), parts.next().and_then(|line| line.parse().ok()), parts.next());
    let (Some(path), Some(line), Some(text)) = found else {
        return Err("write it as PATH:LINE:TEXT, such as src/main.rs:7:Say why".to_owned());
    };
    Ok((path.to_owned(), line, text.to_owned()))
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { server, command } = Arguments::parse();
    telemetry::logging::start();
    match run(&server, command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("webhook-simulator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(server: &str, command: Command) -> anyhow::Result<()> {
    let control = Control::new(server)?;
    match command {
        Command::Serve { listen, data, seed, token_file, app_file } => {
            serve(listen, data, seed.as_deref(), token_file.as_deref(), app_file.as_deref()).await
        }
        Command::Seed { hook_url, hook_secret_file } => {
            seed(&control, hook_url.as_deref(), hook_secret_file.as_deref()).await
        }
        Command::Issue { title, body, repository, author } => {
            let new = json!({ "repository": repository, "author": author, "title": title, "body": body });
            print(&control.post("issues", &new).await?["number"])
        }
        Command::Label { repository, number, label, actor } => {
            let new = json!({ "repository": repository, "number": number, "label": label, "actor": actor });
            control.post("labels", &new).await.map(drop)
        }
        Command::Comment { repository, number, body, author } => {
            let new = json!({ "repository": repository, "number": number, "author": author, "body": body });
            print(&control.post("comments", &new).await?["id"])
        }
        Command::Review { repository, number, verdict, body, remarks, author } => {
            let new = json!({
                "repository": repository, "number": number, "author": author, "verdict": verdict, "body": body,
                "remarks": remarks,
            });
            print(&control.post("reviews", &new).await?["id"])
        }
        Command::Merge { repository, number, actor } => {
            let new = json!({ "repository": repository, "number": number, "actor": actor });
            print(&control.post("merges", &new).await?["sha"])
        }
        Command::Fault(what) => fault(&control, what).await,
        Command::Show(what) => show(&control, what).await,
        Command::App(command) => app_command::run(&control, command).await,
        Command::Reachable { reachable } => {
            control.post("reachable", &json!({ "reachable": reachable })).await.map(drop)
        }
        Command::Redeliver { delivery } => {
            let path = format!("deliveries/{delivery}/attempts");
            print(&control.post(&path, &json!({})).await?["id"])
        }
    }
}

async fn serve(
    listen: SocketAddr,
    data: PathBuf,
    seed: Option<&Path>,
    token_file: Option<&Path>,
    app_file: Option<&Path>,
) -> anyhow::Result<()> {
    let seed = match seed {
        Some(file) => {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            serde_yaml::from_str(&text).with_context(|| format!("{} is not a seed", file.display()))?
        }
        None => Seed::default(),
    };
    let clock = Arc::new(SystemClock);
    let ids = Ids::from_os(clock.clone());
    let simulator = Simulator::start(Options { listen, data, clock, ids }).await?;
    simulator.seed(&seed).await?;
    if let Some(file) = token_file {
        let first = seed.users.first().context("--token-file needs a seed with a user")?;
        write_secret(file, &simulator.add_token(&first.login)?)?;
    }
    if let Some(file) = app_file {
        let first = seed.users.first().context("--app-file needs a seed with a user")?;
        app_command::install_one(&simulator, &first.login, file)?;
    }
    print(&json!({
        "api_url": simulator.api_url(),
        "git_url": simulator.git_url(),
        "web_url": simulator.web_url(),
        "token_file": token_file,
        "app_file": app_file,
    }))?;
    telemetry::shutdown::signalled().await?;
    simulator.shutdown().await;
    Ok(())
}

/// Writes a file only its owner can read, also when it was there with other rights.
fn write_secret(file: &Path, secret: &str) -> anyhow::Result<()> {
    let write = || {
        let mut open = std::fs::OpenOptions::new();
        let mut target = open.write(true).create(true).truncate(true).mode(0o600).open(file)?;
        target.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        target.write_all(secret.as_bytes())
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}

/// A secret from a file, without the line break at its end.
fn secret_of(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text.trim_end().to_owned())
}

async fn seed(control: &Control, hook_url: Option<&str>, secret_file: Option<&Path>) -> anyhow::Result<()> {
    let seed = Seed::default();
    let mut made = control.post("seed", &serde_json::to_value(&seed)?).await?;
    if let (Some(url), Some(file)) = (hook_url, secret_file) {
        let repository = seed.repositories.first().map(|r| r.name.as_str());
        let new = json!({ "repository": repository, "url": url, "secret": secret_of(file)? });
        made["hook_id"] = control.post("hooks", &new).await?["id"].clone();
    }
    print(&made)
}

async fn fault(control: &Control, what: FaultCommand) -> anyhow::Result<()> {
    match what {
        FaultCommand::Request { fault, at, holding, from, times } => {
            let mut script = Script::new(fault, &at).from(from).times(times);
            if let Some(text) = holding {
                script = script.holding(&text);
            }
            control.post("faults", &serde_json::to_value(script)?).await.map(drop)
        }
        FaultCommand::Delivery { fault, event, times } => {
            let new = json!({ "fault": fault, "event": event, "times": times });
            control.post("faults/deliveries", &new).await.map(drop)
        }
        FaultCommand::List => print(&control.get("faults", &[]).await?),
        FaultCommand::Clear => control.delete("faults").await,
    }
}

async fn show(control: &Control, what: Show) -> anyhow::Result<()> {
    let numbered =
        |repository: String, number: u64| vec![("repository", repository), ("number", number.to_string())];
    match what {
        Show::Issue { repository, number } => {
            print(&control.get("issues", &numbered(repository, number)).await?)
        }
        Show::Comments { repository, number } => {
            print(&control.get("comments", &numbered(repository, number)).await?)
        }
        Show::Reviews { repository, number } => {
            print(&control.get("reviews", &numbered(repository, number)).await?)
        }
        Show::Pull { repository, number: Some(number), diff: true } => {
            let text = control.text("diff", &numbered(repository, number)).await?;
            Ok(std::io::stdout().write_all(text.as_bytes())?)
        }
        Show::Pull { repository, number, diff: _ } => {
            let pulls = control.get("pulls", &[("repository", repository)]).await?;
            let Some(number) = number else { return print(&pulls) };
            let mut all = pulls.as_array().into_iter().flatten();
            print(
                all.find(|p| p["number"] == number)
                    .with_context(|| format!("there is no pull request {number}"))?,
            )
        }
        Show::Deliveries { repository } => {
            print(&control.get("deliveries", &[("repository", repository)]).await?)
        }
        Show::Log => print(&control.get("log", &[]).await?),
    }
}

fn print(value: &Value) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{value}")?)
}

/// The server's `/_stand-in/`.
struct Control {
    client: reqwest::Client,
    base: String,
}

impl Control {
    fn new(server: &str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { client, base: format!("{}/_stand-in", server.trim_end_matches('/')) })
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let text = self.send(self.client.post(format!("{}/{path}", self.base)).json(body)).await?;
        Ok(serde_json::from_str(&text)?)
    }

    async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.send(self.client.delete(format!("{}/{path}", self.base))).await.map(drop)
    }

    async fn get(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.text(path, query).await?)?)
    }

    async fn text(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<String> {
        self.send(self.client.get(format!("{}/{path}", self.base)).query(query)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<String> {
        let response = request.send().await.with_context(|| {
            format!("no stand-in at {}; start it with `webhook-simulator serve`", self.base)
        })?;
        let (status, text) = (response.status(), response.text().await?);
        if status.is_success() {
            return Ok(text);
        }
        let words: Option<Value> = serde_json::from_str(&text).ok();
        match words.as_ref().and_then(|w| w["message"].as_str()) {
            Some(message) => bail!("{message}"),
            None => bail!("the stand-in answered {status}: {text}"),
        }
    }
}
