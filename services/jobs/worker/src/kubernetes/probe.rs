//! What `callboard check` says about running attempts in a cluster.

use k8s_openapi::{
    api::core::v1::{LimitRange, Namespace, ResourceQuota},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{Api, Client, api::ListParams};
use proto::admin::{Finding, finding::Level};

use super::{AgentRun, KubernetesSettings, Most, RunsOf, client, rights};

/// Pod Security labels are obeyed from here on.
const POD_SECURITY_MINOR: u32 = 23;
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const APPLY: &str =
    "Have an administrator of the cluster apply what `callboard worker manifests` prints for the project.";

/// Looks whether attempts of these projects can run in the cluster. Makes and changes nothing.
pub async fn probe(settings: &KubernetesSettings, projects: &[RunsOf]) -> Vec<Finding> {
    let next_step = "Correct executor.kubernetes.kubeconfig or KUBECONFIG, and see that the API server can be reached from this machine.";
    let expected = "its API server answers";
    let client = match client::connect(settings).await {
        Ok(client) => client,
        Err(error) => return vec![failure("cluster", expected, format!("{error:#}"), next_step)],
    };
    let version = match client.apiserver_version().await {
        Ok(version) => version,
        Err(error) => {
            return vec![failure("cluster", expected, telemetry::logging::chain(&error), next_step)];
        }
    };
    let minor = version.minor.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0);
    let mut findings = vec![ok("cluster", expected, format!("Kubernetes {}", version.git_version))];
    findings.push(kind(&client).await);
    for runs in projects {
        findings.extend(namespace(&client, runs, settings, minor).await);
    }
    findings.extend(unseen());
    findings
}

/// The kind `AgentRun`.
async fn kind(client: &Client) -> Finding {
    use kube::Resource;
    let (probe, version) = ("AgentRun", AgentRun::api_version(&()));
    let expected = format!("the cluster knows {version}");
    match client.list_api_group_resources(&version).await {
        Ok(kinds) if kinds.resources.iter().any(|kind| kind.name == AgentRun::plural(&())) => {
            ok(probe, &expected, "it does")
        }
        Ok(_) => failure(probe, &expected, "it does not", APPLY),
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            failure(probe, &expected, "it does not", APPLY)
        }
        Err(error) => failure(probe, &expected, telemetry::logging::chain(&error), APPLY),
    }
}

/// One project's namespace: the worker's rights, and what keeps pods in check.
async fn namespace(
    client: &Client,
    runs: &RunsOf,
    settings: &KubernetesSettings,
    minor: u32,
) -> [Finding; 4] {
    let name = runs.namespace.as_str();
    let probe = format!("rights in {name}");
    let expected = "the worker may do what it does";
    let rights = match rights::missing(client, name).await {
        Ok(missing) if missing.is_empty() => ok(&probe, expected, "it may"),
        Ok(missing) => failure(&probe, expected, format!("it may not {}", missing.join(", ")), APPLY),
        Err(error) => failure(&probe, expected, telemetry::logging::chain(&error), APPLY),
    };
    [
        rights,
        pod_security(client, name, minor).await,
        quota(client, name, settings).await,
        largest(client, name, &runs.most).await,
    ]
}

async fn pod_security(client: &Client, name: &str, minor: u32) -> Finding {
    let probe = format!("pod security in {name}");
    let expected = "the namespace takes restricted pods only";
    let found = match Api::<Namespace>::all(client.clone()).get(name).await {
        Ok(found) => found,
        Err(error) => return unreadable(&probe, expected, "the namespace", &error),
    };
    let enforced = found.metadata.labels.iter().flatten().find(|(label, _)| *label == ENFORCE);
    match enforced {
        Some((_, profile)) if profile == "restricted" && minor >= POD_SECURITY_MINOR => {
            ok(&probe, expected, "it does")
        }
        Some((_, profile)) if profile == "restricted" => finding(
            Level::Warning,
            &probe,
            expected,
            format!(
                "it says so, and Kubernetes before 1.{POD_SECURITY_MINOR} does not look: the worker alone does"
            ),
            "Use a newer Kubernetes.",
        ),
        Some((_, profile)) => {
            finding(Level::Warning, &probe, expected, format!("`{ENFORCE}` is `{profile}`"), APPLY)
        }
        None => finding(Level::Warning, &probe, expected, format!("`{ENFORCE}` is not set"), APPLY),
    }
}

async fn quota(client: &Client, name: &str, settings: &KubernetesSettings) -> Finding {
    let probe = format!("quota of {name}");
    let expected = format!("a quota with room for {} pods", settings.capacity);
    let quotas = Api::<ResourceQuota>::namespaced(client.clone(), name);
    let quotas = match quotas.list(&ListParams::default()).await {
        Ok(quotas) => quotas.items,
        Err(error) => return unreadable(&probe, &expected, "its quota", &error),
    };
    let pods = quotas
        .iter()
        .filter_map(|quota| quota.spec.as_ref()?.hard.as_ref()?.get("pods")?.0.parse::<usize>().ok())
        .min();
    match pods {
        Some(pods) if pods >= settings.capacity => ok(&probe, &expected, format!("{pods} pods")),
        Some(pods) => finding(
            Level::Warning,
            &probe,
            &expected,
            format!("{pods} pods: further attempts wait"),
            "Lower executor.kubernetes.capacity, or apply manifests with a greater --pods.",
        ),
        None => finding(Level::Warning, &probe, &expected, "no limit on pods", APPLY),
    }
}

/// Whether the namespace takes the largest pods that are asked for.
async fn largest(client: &Client, name: &str, most: &Most) -> Finding {
    const MIB: u64 = 1 << 20;
    let probe = format!("size of pods in {name}");
    let expected = format!(
        "it takes pods of {} thousandths of a processor, {} MiB of memory and {} MiB of files",
        most.cpu_millis,
        most.memory_bytes / MIB,
        most.storage_bytes / MIB
    );
    let ranges = match Api::<LimitRange>::namespaced(client.clone(), name).list(&ListParams::default()).await
    {
        Ok(ranges) => ranges.items,
        Err(error) => return unreadable(&probe, &expected, "its LimitRange", &error),
    };
    let asked = [
        ("cpu", u128::from(most.cpu_millis)),
        ("memory", u128::from(most.memory_bytes) * 1000),
        ("ephemeral-storage", u128::from(most.storage_bytes) * 1000),
    ];
    let limits = ranges.iter().filter_map(|range| range.spec.as_ref()).flat_map(|spec| &spec.limits);
    let too_small = limits.filter_map(|limit| limit.max.as_ref()).find_map(|max| {
        asked.iter().find_map(|(resource, asked)| {
            let Quantity(most) = max.get(*resource)?;
            (thousandths(most)? < *asked).then(|| format!("the most is {most} of {resource}"))
        })
    });
    match too_small {
        None => ok(&probe, &expected, "it does"),
        Some(found) => failure(&probe, &expected, format!("{found}: such pods are refused"), APPLY),
    }
}

/// A quantity as Kubernetes writes it (`1500m`, `4Gi`, `0.5`) in thousandths; `None` for one that
/// is written otherwise.
fn thousandths(quantity: &str) -> Option<u128> {
    let digits = quantity.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(quantity.len());
    let (number, unit) = quantity.split_at(digits);
    let factor: u128 = match unit {
        "m" => 1,
        "" => 1000,
        "k" => 1000 * 1000,
        "M" => 1000 * 1000_u128.pow(2),
        "G" => 1000 * 1000_u128.pow(3),
        "T" => 1000 * 1000_u128.pow(4),
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let parts = match part {
        "" => 0,
        part => {
            part.parse::<u128>().ok()?.checked_mul(factor)?
                / 10_u128.checked_pow(part.len().try_into().ok()?)?
        }
    };
    whole.parse::<u128>().ok()?.checked_mul(factor)?.checked_add(parts)
}

/// What no call to the API server tells.
fn unseen() -> [Finding; 2] {
    [
        finding(
            Level::Note,
            "network policies",
            "the cluster's network plugin enforces them",
            "this cannot be seen from here",
            "See the plugin's documentation; without enforcement pods reach what their node reaches.",
        ),
        finding(
            Level::Note,
            "process limit",
            "nodes limit the processes of a pod (podPidsLimit)",
            "this cannot be seen from here; the runner limits its own (executor.kubernetes.processes)",
            "Set podPidsLimit in the configuration of the kubelets.",
        ),
    ]
}

/// An object that could not be read: that it is not there, or that we may not, or neither.
fn unreadable(probe: &str, expected: &str, what: &str, error: &kube::Error) -> Finding {
    if let kube::Error::Api(status) = error {
        if status.is_not_found() {
            return failure(probe, expected, format!("{what} is not there"), APPLY);
        }
        if status.is_forbidden() {
            return finding(
                Level::Note,
                probe,
                expected,
                format!("{what} may not be read by this user"),
                APPLY,
            );
        }
    }
    failure(probe, expected, telemetry::logging::chain(error), APPLY)
}

fn ok(probe: &str, expected: &str, found: impl Into<String>) -> Finding {
    finding(Level::Ok, probe, expected, found, "")
}

fn failure(probe: &str, expected: &str, found: impl Into<String>, next_step: &str) -> Finding {
    finding(Level::Failure, probe, expected, found, next_step)
}

fn finding(level: Level, probe: &str, expected: &str, found: impl Into<String>, next_step: &str) -> Finding {
    Finding {
        level: level.into(),
        probe: probe.to_owned(),
        expected: expected.to_owned(),
        found: found.into(),
        next_step: next_step.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_compared_however_they_are_written() {
        let same = [("1500m", "1.5"), ("4Gi", "4096Mi"), ("2k", "2000"), ("0.5Gi", "512Mi")];
        for (one, other) in same {
            assert_eq!(thousandths(one).expect(one), thousandths(other).expect(other));
        }
        assert_eq!(thousandths("1500m"), Some(1500));
        assert_eq!((thousandths("1e3"), thousandths("much"), thousandths("")), (None, None, None));
    }
}
