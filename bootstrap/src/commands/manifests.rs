//! `callboard worker manifests`: what a cluster needs for the runs of some projects.

use clap::Args;
use proto::admin::ListProjectsRequest;
use worker::{Grantee, Most, RunsOf};

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
    /// The most a pod may have, in thousandths of a processor; absent: what its stages may ask for.
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
    let answer = connection.client().list_projects(ListProjectsRequest {}).await;
    let known = answer.map_err(|status| connection.explain(&status))?.into_inner().projects;
    let wanted = asked.projects.iter().map(|name| {
        let found = known.iter().find(|project| project.name == *name).ok_or_else(|| {
            anyhow::anyhow!("there is no project `{name}`; projects come from `projects:` in callboard.yaml")
        })?;
        let (project, namespace) = (name.clone(), found.namespace.clone());
        Ok(RunsOf { project, namespace, most: asked.most(config, name)? })
    });
    let projects = wanted.collect::<Result<Vec<_>>>()?;
    line(worker::manifests(&projects, &to)?.trim_end())
}

/// The most there may be of a project's pods, as the configuration says it.
pub(super) fn most(config: &Config, cluster: &KubernetesExecutor, project: &str) -> Most {
    let [cpu_millis, memory_mib, storage_mib] = config.largest_pod(project);
    Most {
        pods: u32::try_from(cluster.capacity).unwrap_or(u32::MAX),
        cpu_millis,
        memory_bytes: u64::from(memory_mib) << 20,
        storage_bytes: u64::from(storage_mib) << 20,
    }
}

impl Manifests {
    /// The most there may be: what was asked for, otherwise what the configuration says.
    fn most(&self, config: Option<&Config>, project: &str) -> Result<Most> {
        let known = config.and_then(|config| match &config.executor {
            Executor::Kubernetes(cluster) => Some(most(config, cluster, project)),
            Executor::Local(_) => None,
        });
        let missing = |option: &str| {
            CommandError::Usage(format!(
                "the configuration has no executor.kubernetes that says how much there may be; name its file with --config, or give {option}"
            ))
        };
        let mib = |n: u64| n.saturating_mul(1 << 20);
        Ok(Most {
            pods: self.pods.or(known.map(|most| most.pods)).ok_or_else(|| missing("--pods"))?,
            cpu_millis: self
                .cpu_millis
                .or(known.map(|most| most.cpu_millis))
                .ok_or_else(|| missing("--cpu-millis"))?,
            memory_bytes: self
                .memory_mib
                .map(mib)
                .or(known.map(|most| most.memory_bytes))
                .ok_or_else(|| missing("--memory-mib"))?,
            storage_bytes: self
                .storage_mib
                .map(mib)
                .or(known.map(|most| most.storage_bytes))
                .ok_or_else(|| missing("--storage-mib"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The API server refuses a pod that is larger than the LimitRange says: whatever the same file
    /// lets a project's stages ask for has to fit.
    #[test]
    fn what_the_file_lets_a_stage_ask_for_fits() {
        let text = "github: { token_file: token }
agents: { default: command, command: { argv: [./agent.sh] } }
executor: { kubernetes: { image: it, gateway_ip: 10.0.0.5, gateway_ca_file: ca.pem, capacity: 3, memory_mib: 1024 } }
projects:
  - { name: plain }
  - { name: large, pods: { cpu_millis: 4000 }, ceilings: { pods: { max_memory_mib: 16384, max_cpu_millis: 500 } } }
";
        let config: Config = serde_yaml::from_str(text).expect("a configuration");
        let Executor::Kubernetes(cluster) = &config.executor else { panic!("a cluster") };
        let of = |project: &str| {
            let most = most(&config, cluster, project);
            (most.pods, most.cpu_millis, most.memory_bytes >> 20, most.storage_bytes >> 20)
        };
        assert_eq!(of("plain"), (3, 1000, 1024, 8192));
        assert_eq!(of("large"), (3, 4000, 16384, 8192));
        assert_eq!(of("added by no file"), of("plain"));
    }
}
