//! `callboard check`: this machine first, then the running platform.

use std::process::ExitCode;

use proto::admin::{CheckRequest, Finding, finding::Level};

use super::{
    Result,
    connection::Connection,
    output::{Format, plain, print},
    up,
};
use crate::{
    config::{Config, Executor},
    data_dir::DataDir,
    platform::{agents_address, local_executor},
};

pub(super) fn words(findings: &[Finding]) -> String {
    let one = |f: &Finding| {
        let sign = match f.level() {
            Level::Ok => "✓",
            Level::Note | Level::Unspecified => "·",
            Level::Warning => "!",
            Level::Failure => "✗",
        };
        let mut text = format!("{sign} {}: {}", plain(&f.probe), plain(&f.found));
        if f.level() != Level::Ok {
            text.push_str(&format!("\n    expected: {}", plain(&f.expected)));
            if !f.next_step.is_empty() {
                text.push_str(&format!("\n    next: {}", plain(&f.next_step)));
            }
        }
        text
    };
    findings.iter().map(one).collect::<Vec<_>>().join("\n")
}

pub(crate) async fn check(config: Option<&Config>, format: Format) -> Result<ExitCode> {
    let mut findings = Vec::new();
    if let Some(config) = config {
        findings.extend(machine(config).await);
    }
    let connection = Connection::open(config)?;
    match connection.client().check(CheckRequest {}).await {
        Ok(answer) => findings.extend(answer.into_inner().findings),
        Err(status) => findings.push(Finding {
            level: Level::Failure.into(),
            probe: "platform".to_owned(),
            expected: "answers on its admin socket".to_owned(),
            found: status.message().to_owned(),
            next_step: "start it with `callboard up`, or name its file with --config".to_owned(),
        }),
    }
    print(format, &findings, |f| words(f))?;
    let failed = findings.iter().any(|f| f.level() == Level::Failure);
    Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// What an attempt needs of this machine.
async fn machine(config: &Config) -> Vec<Finding> {
    let data = DataDir::at(&config.data_dir);
    let Executor::Local(local) = &config.executor else { return Vec::new() };
    let socket = match agents_address(config, &data) {
        Ok(telemetry::address::Address::Unix(path)) => path,
        Ok(_) | Err(_) => data.agents_socket(),
    };
    match local_executor(config, local, &data, socket, &up::options()) {
        Ok(local) => worker::probe(&local).await,
        Err(error) => vec![Finding {
            level: Level::Failure.into(),
            probe: "local executor".to_owned(),
            expected: "an agent and its runner".to_owned(),
            found: format!("{error:#}"),
            next_step: "correct agents: in the configuration".to_owned(),
        }],
    }
}
