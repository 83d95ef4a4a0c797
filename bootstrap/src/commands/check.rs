//! `callboard check`: this machine first, then the running platform.

use std::process::ExitCode;

use proto::admin::{CheckRequest, Finding, ListProjectsRequest, finding::Level};
use worker::RunsOf;

use super::{
    Result,
    connection::Connection,
    manifests::most,
    output::{Format, plain, print},
    up,
};
use crate::{
    config::{Config, Executor, KubernetesExecutor, LocalExecutor},
    data_dir::DataDir,
    platform::{agents_address, kubernetes_executor, local_executor},
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
    let connection = Connection::open(config)?;
    if let Some(config) = config {
        findings.extend(executor(config, &connection).await);
    }
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

/// What an attempt needs where it runs.
async fn executor(config: &Config, connection: &Connection) -> Vec<Finding> {
    match &config.executor {
        Executor::Local(local) => machine(config, local).await,
        Executor::Kubernetes(cluster) => match kubernetes_executor(config, cluster) {
            Ok(settings) => worker::probe_cluster(&settings, &runs(config, cluster, connection).await).await,
            Err(error) => {
                vec![unusable("cluster", &error, "correct executor.kubernetes in the configuration")]
            }
        },
    }
}

/// Where the projects' runs are, and how large; a platform that does not answer is found by another
/// probe.
async fn runs(config: &Config, cluster: &KubernetesExecutor, connection: &Connection) -> Vec<RunsOf> {
    let answer = connection.client().list_projects(ListProjectsRequest {}).await;
    let projects = answer.map(|answer| answer.into_inner().projects).unwrap_or_default();
    let each = projects.into_iter().map(|project| RunsOf {
        most: most(config, cluster, &project.name),
        project: project.name,
        namespace: project.namespace,
    });
    each.collect()
}

fn unusable(probe: &str, error: &anyhow::Error, next_step: &str) -> Finding {
    Finding {
        level: Level::Failure.into(),
        probe: probe.to_owned(),
        expected: "settings that can be used".to_owned(),
        found: format!("{error:#}"),
        next_step: next_step.to_owned(),
    }
}

/// What an attempt needs of this machine.
async fn machine(config: &Config, local: &LocalExecutor) -> Vec<Finding> {
    let data = DataDir::at(&config.data_dir);
    let socket = match agents_address(config, &data) {
        Ok(telemetry::address::Address::Unix(path)) => path,
        Ok(_) | Err(_) => data.agents_socket(),
    };
    match local_executor(config, local, &data, socket, &up::options()) {
        Ok(local) => worker::probe(&local).await,
        Err(error) => vec![unusable("local executor", &error, "correct agents: in the configuration")],
    }
}
