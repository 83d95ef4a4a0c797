//! The command line.

mod audit;
mod check;
mod connection;
mod explain;
mod github;
mod manifests;
mod outbox;
mod output;
mod pause;
mod policy;
mod prompts;
mod repo;
mod run;
mod up;
mod worker;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use self::{connection::Connection, output::Format};
use crate::{
    config::{Config, load},
    serve::{Service, serve},
};

/// A label on a GitHub issue becomes a sandboxed agent run, a pull request and one comment.
#[derive(Debug, Parser)]
#[command(name = "callboard", version, propagate_version = true)]
pub struct Cli {
    /// The configuration file.
    #[arg(long, short, global = true, env = "CALLBOARD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How results are printed.
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole platform in one process; without a file with its own Postgres and a stand-in for GitHub.
    Up,
    /// One service.
    Serve {
        /// Which.
        #[arg(value_enum)]
        service: Service,
    },
    /// Runs: what is going on, logs, cancel, retry, release.
    #[command(subcommand)]
    Run(run::RunCommand),
    /// Lets nothing start; attempts under way go on.
    Pause(pause::Subject),
    /// Lets it start again.
    Resume(pause::Subject),
    /// Why something happened, or did not.
    Explain {
        /// A delivery's id or GUID, owner/name#7, #7, or a run's id.
        subject: String,
    },
    /// The log of events: verify it, export it.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// The doctor: what was probed, expected, found, and the next step.
    Check,
    /// Workers: enrol and list.
    #[command(subcommand)]
    Worker(worker::WorkerCommand),
    /// Changes on the code host that were given up: list, retry, drop.
    #[command(subcommand)]
    Outbox(outbox::OutboxCommand),
    /// Repositories: set up, check, rotate secrets, bring labels up to date.
    #[command(subcommand)]
    Repo(repo::RepoCommand),
    /// GitHub: make the App that the platform acts as.
    #[command(subcommand)]
    Github(github::GithubCommand),
    /// A project's rules: check its files, simulate an event.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// What agents are asked: check a project's prompts, see what a run would get.
    #[command(subcommand)]
    Prompts(prompts::PromptsCommand),
}

/// What went wrong, for people, and the exit code.
#[derive(Debug)]
pub(crate) enum CommandError {
    /// Exit code 1.
    Failed(anyhow::Error),
    /// Exit code 2.
    Usage(String),
}

impl<E: Into<anyhow::Error>> From<E> for CommandError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

type Result<T> = std::result::Result<T, CommandError>;

impl Cli {
    /// Runs the command. 0 done, 1 failed, 2 wrong usage.
    pub async fn run(self) -> ExitCode {
        match self.dispatch().await {
            Ok(code) => code,
            Err(CommandError::Failed(error)) => {
                output::complain(&format!("error: {error:#}"));
                ExitCode::from(1)
            }
            Err(CommandError::Usage(problem)) => {
                output::complain(&format!("error: {problem}"));
                ExitCode::from(2)
            }
        }
    }

    /// The file, which the command needs.
    fn config(&self) -> Result<Option<Config>> {
        let environment = |name: &str| std::env::var(name).ok();
        match &self.config {
            Some(path) => load(path, &environment).map(Some).map_err(|e| CommandError::Usage(e.to_string())),
            None => Ok(None),
        }
    }

    async fn dispatch(self) -> Result<ExitCode> {
        let config = self.config()?;
        let done = Ok(ExitCode::SUCCESS);
        match self.command {
            Command::Up => up::up(config).await.and(done),
            Command::Serve { service } => {
                let config =
                    config.ok_or_else(|| CommandError::Usage("`serve` needs --config FILE".to_owned()))?;
                telemetry::logging::start();
                serve(service, &config, up::options()).await?;
                done
            }
            Command::Run(command) => {
                command.run(&Connection::open(config.as_ref())?, self.output).await.and(done)
            }
            Command::Pause(asked) => {
                pause::pause(&Connection::open(config.as_ref())?, asked, self.output).await.and(done)
            }
            Command::Resume(asked) => {
                pause::resume(&Connection::open(config.as_ref())?, asked, self.output).await.and(done)
            }
            Command::Explain { subject } => {
                explain::explain(&Connection::open(config.as_ref())?, &subject, self.output).await.and(done)
            }
            Command::Audit(command) => command.run(&Connection::open(config.as_ref())?, self.output).await,
            Command::Check => check::check(config.as_ref(), self.output).await,
            Command::Worker(command) => {
                let connection = Connection::open(config.as_ref())?;
                command.run(config.as_ref(), &connection, self.output).await.and(done)
            }
            Command::Outbox(command) => {
                command.run(&Connection::open(config.as_ref())?, self.output).await.and(done)
            }
            Command::Repo(command) => command.run(&Connection::open(config.as_ref())?, self.output).await,
            Command::Github(command) => command.run(config.as_ref(), self.output).await.and(done),
            Command::Policy(command) => command.run(config.as_ref(), self.output).await,
            Command::Prompts(command) => command.run(config.as_ref(), self.output).await,
        }
    }
}
