//! What is made for an attempt in the cluster. Nothing is given out that breaks the restricted
//! profile or lets the pod reach anything but the agent gateway.
//!
//! All fields exist since Kubernetes 1.20 and are stable in every later release.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{
            Capabilities, Container, EmptyDirVolumeSource, EnvVar, HostAlias, KeyToPath,
            LocalObjectReference, PodDNSConfig, PodSecurityContext, PodSpec, PodTemplateSpec,
            ResourceRequirements, SeccompProfile, Secret, SecretVolumeSource, SecurityContext,
            ServiceAccount, Toleration, TopologySpreadConstraint, Volume, VolumeMount,
        },
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, OwnerReference},
    },
};
use kube::{Resource, api::ObjectMeta};
use secrecy::ExposeSecret;

use super::{AgentRun, Gateway, ImagePullPolicy, KubernetesSettings, desired::Desired, policy, restricted};

/// The program in the image.
const RUNNER: &str = "agent-runner";
/// The container that runs it.
pub(crate) const CONTAINER: &str = "agent";
/// Where the run token and the gateway's authority are in the pod.
const SECRETS: &str = "/run/callboard";
const TOKEN: &str = "token";
const GATEWAY_CA: &str = "gateway-ca.pem";
const WORK: &str = "/work";
const TMP: &str = "/tmp";

/// How long a runner that is told to end gets for a last checkpoint.
const GRACE_SECONDS: i64 = 15;
/// The platform ends an attempt at its deadline; the cluster does when the platform cannot.
const DEADLINE_SLACK_SECONDS: i64 = 60;
/// How long a pod is waited for when its node is silent; Kubernetes would wait five minutes.
const SILENT_NODE_SECONDS: i64 = 60;
/// Taints of a node that does not answer.
const SILENT_NODE: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Label of everything of a run.
pub(crate) const RUN: &str = "callboard.dev/run";
/// Label of everything of an attempt.
pub(crate) const ATTEMPT: &str = "callboard.dev/attempt";
/// Label of everything of a project.
pub(crate) const PROJECT: &str = "callboard.dev/project";
/// Label of everything of a stage.
pub(crate) const STAGE: &str = "callboard.dev/stage";

/// The labels of everything of an attempt.
pub(crate) fn labels(desired: &Desired) -> BTreeMap<String, String> {
    let spec = &desired.spec;
    [(RUN, &spec.run), (ATTEMPT, &spec.attempt), (PROJECT, &spec.project), (STAGE, &spec.stage)]
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .into()
}

/// What an `AgentRun` owns.
#[derive(Clone, Debug)]
pub(crate) struct Children {
    pub(crate) service_account: ServiceAccount,
    pub(crate) secret: Secret,
    pub(crate) network_policy: NetworkPolicy,
    pub(crate) job: Job,
}

impl Children {
    /// What is made for `desired`, owned by `owner`: its `AgentRun`, as the cluster has it.
    ///
    /// # Errors
    /// A sentence when `owner` has no uid, or when what would be made lets the pod do more than
    /// it may: the settings are wrong then, and nothing is made.
    pub(crate) fn of(
        desired: &Desired,
        owner: &AgentRun,
        settings: &KubernetesSettings,
    ) -> Result<Self, String> {
        let owner = owner.controller_owner_ref(&()).filter(|owner| !owner.uid.is_empty());
        let owner = owner.ok_or("The AgentRun has no uid yet; nothing can be made for it.")?;
        let metadata = || metadata(desired, &owner);
        let gateway = &settings.gateway;
        let children = Self {
            service_account: ServiceAccount {
                metadata: metadata(),
                automount_service_account_token: Some(false),
                ..ServiceAccount::default()
            },
            secret: Secret {
                metadata: metadata(),
                type_: Some("Opaque".to_owned()),
                data: Some(
                    [
                        (TOKEN.to_owned(), ByteString(desired.token.expose_secret().as_bytes().to_vec())),
                        (GATEWAY_CA.to_owned(), ByteString(gateway.ca.as_bytes().to_vec())),
                    ]
                    .into(),
                ),
                ..Secret::default()
            },
            network_policy: policy::of_attempt(metadata(), &desired.spec.attempt, gateway),
            job: job(desired, metadata(), settings),
        };
        children.check(desired, gateway)?;
        Ok(children)
    }

    fn check(&self, desired: &Desired, gateway: &Gateway) -> Result<(), String> {
        let template = self.job.spec.as_ref().map(|job| &job.template);
        let mut wrong = template.map(restricted::violations).unwrap_or_default();
        wrong.extend(policy::excesses(&self.network_policy, &desired.namespace, &labels(desired), gateway));
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!("Its pod would be allowed more than it may, so nothing was made: {}", wrong.join(" ")))
    }
}

fn metadata(desired: &Desired, owner: &OwnerReference) -> ObjectMeta {
    ObjectMeta {
        name: Some(desired.name.clone()),
        namespace: Some(desired.namespace.clone()),
        labels: Some(labels(desired)),
        owner_references: Some(vec![owner.clone()]),
        ..ObjectMeta::default()
    }
}

fn job(desired: &Desired, metadata: ObjectMeta, settings: &KubernetesSettings) -> Job {
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: metadata.labels.clone(), ..ObjectMeta::default() }),
        spec: Some(pod(desired, settings)),
    };
    let spec = JobSpec {
        // Only the control plane tries again.
        backoff_limit: Some(0),
        completions: Some(1),
        parallelism: Some(1),
        active_deadline_seconds: Some(i64::from(desired.spec.deadline_seconds) + DEADLINE_SLACK_SECONDS),
        template,
        ..JobSpec::default()
    };
    Job { metadata, spec: Some(spec), status: None }
}

fn pod(desired: &Desired, settings: &KubernetesSettings) -> PodSpec {
    let spec = &desired.spec;
    let user = i64::from(domain::cluster::user(desired.attempt));
    let host = settings.gateway.url.domain().map(|name| HostAlias {
        ip: settings.gateway.ip.to_string(),
        hostnames: Some(vec![name.to_owned()]),
    });
    PodSpec {
        containers: vec![container(desired, settings)],
        restart_policy: Some("Never".to_owned()),
        service_account_name: Some(desired.name.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(user),
            run_as_group: Some(user),
            fs_group: Some(user),
            seccomp_profile: Some(runtime_default()),
            ..PodSecurityContext::default()
        }),
        host_aliases: host.map(|alias| vec![alias]),
        // Nothing listens there. Kubernetes demands one, and no real one may be reached.
        dns_policy: Some("None".to_owned()),
        dns_config: Some(PodDNSConfig {
            nameservers: Some(vec!["127.0.0.1".to_owned()]),
            ..PodDNSConfig::default()
        }),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        image_pull_secrets: some(
            settings
                .image_pull_secrets
                .iter()
                .map(|name| LocalObjectReference { name: name.clone() })
                .collect(),
        ),
        priority_class_name: spec.priority_class.clone(),
        node_selector: Some(spec.node_selector.clone()).filter(|labels| !labels.is_empty()),
        tolerations: Some(tolerations(desired)),
        topology_spread_constraints: some(topology_spread(desired)),
        volumes: Some(volumes(desired)),
        ..PodSpec::default()
    }
}

/// An empty list is left out: Kubernetes would leave it out, too.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}

fn runtime_default() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }
}

fn container(desired: &Desired, settings: &KubernetesSettings) -> Container {
    let spec = &desired.spec;
    // What is asked for is what may be used: agents do not slow each other down, and are the
    // last to be evicted.
    let resources: BTreeMap<String, Quantity> = [
        ("cpu".to_owned(), Quantity(format!("{}m", spec.cpu_millis))),
        ("memory".to_owned(), Quantity(spec.memory_bytes.to_string())),
        ("ephemeral-storage".to_owned(), Quantity(spec.storage_bytes.to_string())),
    ]
    .into();
    let mount = |name: &str, path: &str, read_only| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only,
        ..VolumeMount::default()
    };
    let env = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    };
    let pull_policy = settings.image_pull_policy;
    Container {
        name: CONTAINER.to_owned(),
        image: Some(spec.image.clone()),
        image_pull_policy: Some(ImagePullPolicy::as_str(pull_policy).to_owned()),
        command: Some(vec![RUNNER.to_owned()]),
        args: Some(vec![
            "--gateway".to_owned(),
            settings.gateway.url.as_str().trim_end_matches('/').to_owned(),
            "--gateway-ca".to_owned(),
            format!("{SECRETS}/{GATEWAY_CA}"),
            "--token-file".to_owned(),
            format!("{SECRETS}/{TOKEN}"),
            "--workspace".to_owned(),
            WORK.to_owned(),
        ]),
        working_dir: Some(WORK.to_owned()),
        env: Some(vec![env("HOME", WORK), env("TMPDIR", TMP)]),
        resources: Some(ResourceRequirements {
            requests: Some(resources.clone()),
            limits: Some(resources),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            privileged: Some(false),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
            seccomp_profile: Some(runtime_default()),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![
            mount("work", WORK, None),
            mount("tmp", TMP, None),
            mount("secrets", SECRETS, Some(true)),
        ]),
        ..Container::default()
    }
}

fn volumes(desired: &Desired) -> Vec<Volume> {
    // Together they may take as much as each: the pod's own limit counts both.
    let empty = |name: &str| Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(desired.spec.storage_bytes.to_string())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    };
    let item = |key: &str| KeyToPath { key: key.to_owned(), path: key.to_owned(), ..KeyToPath::default() };
    let secrets = Volume {
        name: "secrets".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(desired.name.clone()),
            items: Some(vec![item(TOKEN), item(GATEWAY_CA)]),
            // Root's, and readable for the pod's group: fsGroup.
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    vec![empty("work"), empty("tmp"), secrets]
}

fn tolerations(desired: &Desired) -> Vec<Toleration> {
    let asked = desired.spec.tolerations.iter().map(|asked| Toleration {
        key: Some(asked.key.clone()),
        operator: Some(if asked.value.is_some() { "Equal" } else { "Exists" }.to_owned()),
        value: asked.value.clone(),
        effect: asked.effect.clone(),
        toleration_seconds: None,
    });
    let silent = SILENT_NODE.into_iter().map(|key| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(SILENT_NODE_SECONDS),
        value: None,
    });
    asked.chain(silent).collect()
}

fn topology_spread(desired: &Desired) -> Vec<TopologySpreadConstraint> {
    let project: BTreeMap<_, _> = [(PROJECT.to_owned(), desired.spec.project.clone())].into();
    let constraint = |asked: &super::TopologySpread| TopologySpreadConstraint {
        topology_key: asked.topology_key.clone(),
        max_skew: i32::try_from(asked.max_skew).unwrap_or(i32::MAX),
        when_unsatisfiable: if asked.schedule_anyway { "ScheduleAnyway" } else { "DoNotSchedule" }.to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(project.clone()),
            ..LabelSelector::default()
        }),
        ..TopologySpreadConstraint::default()
    };
    desired.spec.topology_spread.iter().map(constraint).collect()
}

#[cfg(test)]
mod tests;
