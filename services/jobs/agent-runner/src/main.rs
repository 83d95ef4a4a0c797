//! `agent-runner`: the program in the sandbox.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use agent_runner::{GatewayAddress, Options, Relocation};
use chrono::{DateTime, Utc};
use clap::{CommandFactory, Parser, error::ErrorKind};
use domain::clock::Clock;

/// Clones the repository, runs the coding agent, and returns what it changed.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The agent gateway: unix:/path/to.sock or https://host:port
    #[arg(long)]
    gateway: String,
    /// The file with the authority of its certificate, PEM; no other is trusted.
    #[arg(long)]
    gateway_ca: Option<PathBuf>,
    /// The file with the run token.
    #[arg(long)]
    token_file: PathBuf,
    /// A folder that is ours alone.
    #[arg(long)]
    workspace: PathBuf,
    /// INSIDE=HOST: where a file of the agent is when nothing is mounted.
    #[arg(long, value_parser = relocation)]
    relocate: Vec<Relocation>,
    /// Do not limit the number of processes: the user has others, which would count.
    #[arg(long)]
    no_process_limit: bool,
}

fn relocation(text: &str) -> Result<Relocation, String> {
    let (inside, host) = text.split_once('=').ok_or("expected INSIDE=HOST")?;
    Ok(Relocation { inside: inside.into(), host: host.into() })
}

/// The machine's clock.
#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system clock")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let gateway = GatewayAddress::parse(&arguments.gateway, arguments.gateway_ca)
        .unwrap_or_else(|problem| Arguments::command().error(ErrorKind::ValueValidation, problem).exit());
    let options = Options {
        gateway,
        token_file: arguments.token_file,
        workspace: arguments.workspace,
        relocations: arguments.relocate,
        limit_processes: !arguments.no_process_limit,
    };
    match agent_runner::run(&options, Arc::new(SystemClock)).await {
        Ok(answer) => {
            eprintln!("agent-runner: returned: {answer}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let line: Vec<_> = error.chain().map(|cause| cause.to_string().replace('\n', " ")).collect();
            eprintln!("agent-runner: {}", line.join(": "));
            ExitCode::FAILURE
        }
    }
}
