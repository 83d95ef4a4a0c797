//! `callboard worker manifests`: what a cluster needs for the runs of some projects.

use clap::Args;
use proto::admin::ListProjectsRequest;
use worker::{Grantee, Most};

use super::{CommandError, Result, connection::Connection, output::line};
use crate::config::{Config, Executor, KubernetesExecutor};

#[derive(Debug, Args)]
pub(crate) struct Manifests {
    /// A project whose runs go to the cluster; may be repeated.
    #[arg(long = "project", required = true)]
    projects: Vec<String>,
    /// Who the worker is in the cluster, as NAMESPACE:NAME; this ServiceAccount gets its rights.
    #[arg(long, value_parser = service_account, required_unless_present = "user", conflicts_with = "user")]
    service_account: Option<Grantee>,
    /// The same for a worker outside of the cluster: the user its kubeconfig makes it.
    #[arg(long)]
    user: Option<String>,
    /// The most pods of a project; absent: executor.kubernetes.capacity.
    #[arg(long)]
    pods: Option<u32>,
    /// The most a pod may have, in thousandths of a processor; absent: executor.kubernetes.cpu_millis.
    #[arg(long)]
    cpu_millis: Option<u32>,
    /// The same in mebibytes of memory; absent: executor.kubernetes.memory_mib.
    #[arg(long)]
    memory_mib: Option<u64>,
    /// The same in mebibytes of files; absent: executor.kubernetes.storage_mib.
    #[arg(long)]
    storage_mib: Option<u64>,
}

fn service_account(text: &str) -> std::result::Result<Grantee, String> {
    match text.split_once(':') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok(Grantee::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        Some(_) | None => Err("expected NAMESPACE:NAME".to_owned()),
    }
}

/// Prints YAML for `kubectl apply`.
pub(crate) async fn manifests(
    config: Option<&Config>,
    connection: &Connection,
    asked: Manifests,
) -> Result<()> {
    let to = asked.service_account.clone().or_else(|| asked.user.clone().map(Grantee::User));
    let to = to.ok_or_else(|| CommandError::Usage("name --service-account or --user".to_owned()))?;
    let most = asked.most(config)?;
    let answer = connection.client().list_projects(ListProjectsRequest {}).await;
    let known = answer.map_err(|status| connection.explain(&status))?.into_inner().projects;
    let wanted = asked.projects.into_iter().map(|name| {
        let found = known.iter().find(|project| project.name == name);
        found.map(|project| (name.clone(), project.namespace.clone())).ok_or_else(|| {
            anyhow::anyhow!("there is no project `{name}`; projects come from `projects:` in callboard.yaml")
        })
    });
    let projects = wanted.collect::<anyhow::Result<Vec<_>>>()?;
    line(worker::manifests(&projects, &to, &most)?.trim_end())
}

impl Manifests {
    /// The most there may be: what was asked for, otherwise what the configuration says.
    fn most(&self, config: Option<&Config>) -> Result<Most> {
        let cluster: Option<&KubernetesExecutor> = match config.map(|config| &config.executor) {
            Some(Executor::Kubernetes(cluster)) => Some(cluster),
            Some(Executor::Local(_)) | None => None,
        };
        let missing = |option: &str| {
            CommandError::Usage(format!(
                "the configuration has no executor.kubernetes that says how much there may be; name its file with --config, or give {option}"
            ))
        };
        let mib = |n: u64| n.saturating_mul(1 << 20);
        let pods = cluster.map(|cluster| u32::try_from(cluster.capacity).unwrap_or(u32::MAX));
        Ok(Most {
            pods: self.pods.or(pods).ok_or_else(|| missing("--pods"))?,
            cpu_millis: self
                .cpu_millis
                .or(cluster.map(|cluster| cluster.cpu_millis))
                .ok_or_else(|| missing("--cpu-millis"))?,
            memory_bytes: self
                .memory_mib
                .or(cluster.map(|cluster| cluster.memory_mib))
                .map(mib)
                .ok_or_else(|| missing("--memory-mib"))?,
            storage_bytes: self
                .storage_mib
                .or(cluster.map(|cluster| cluster.storage_mib))
                .map(mib)
                .ok_or_else(|| missing("--storage-mib"))?,
        })
    }
}
