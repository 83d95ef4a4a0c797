//! What an administrator of a cluster applies once for each project: the kind `AgentRun`, and a
//! namespace in which nothing is possible but attempts.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{LimitRange, LimitRangeItem, LimitRangeSpec, Namespace, ResourceQuota, ResourceQuotaSpec},
        rbac::v1::{RoleBinding, RoleRef, Subject},
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{CustomResourceExt, api::ObjectMeta};
use serde::Serialize;
use serde_json::Value;

use super::{AgentRun, objects::PROJECT, policy, rights};

/// What Pod Security admission does in a namespace; from Kubernetes 1.23 on.
const POD_SECURITY: &str = "pod-security.kubernetes.io";
const RBAC: &str = "rbac.authorization.k8s.io";
/// What all objects of a namespace are called that are there once.
const NAME: &str = "callboard";

/// Whom the worker's rights are given to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grantee {
    /// A ServiceAccount: the worker runs in a cluster.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A user, as the cluster's certificates or tokens name it.
    User(String),
}

/// A project whose runs go to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunsOf {
    /// Its name.
    pub project: String,
    /// The namespace of its runs.
    pub namespace: String,
    /// The most there may be in it.
    pub most: Most,
}

/// The most there may be in a project's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// Pods at the same time.
    pub pods: u32,
    /// Thousandths of a processor for each.
    pub cpu_millis: u32,
    /// Bytes of memory for each.
    pub memory_bytes: u64,
    /// Bytes of files for each.
    pub storage_bytes: u64,
}

/// What a cluster needs for the runs of some projects, as YAML for `kubectl apply`.
///
/// # Errors
/// When an object cannot be written as YAML.
pub fn manifests(projects: &[RunsOf], to: &Grantee) -> anyhow::Result<String> {
    let mut documents = vec![yaml(&kind()?)?];
    for RunsOf { project, namespace, most } in projects {
        let metadata = |name: &str| ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        };
        documents.extend([
            yaml(&self::namespace(project, namespace))?,
            yaml(&quota(metadata(NAME), most))?,
            yaml(&limits(metadata(NAME), most))?,
            yaml(&policy::deny_all(metadata(NAME)))?,
            yaml(&rights::role(namespace))?,
            yaml(&binding(metadata(&binding_name(to)), to))?,
        ]);
    }
    Ok(documents.join("---\n"))
}

fn yaml(object: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_yaml::to_string(object)?)
}

/// The kind `AgentRun`, with formats that Kubernetes knows: it has no unsigned numbers, and warns.
fn kind() -> anyhow::Result<Value> {
    fn signed(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                if let Some(format) = fields.get_mut("format").filter(|f| *f == "uint32" || *f == "uint64") {
                    *format = "int64".into();
                }
                fields.values_mut().for_each(signed);
            }
            Value::Array(items) => items.iter_mut().for_each(signed),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut kind = serde_json::to_value(AgentRun::crd())?;
    signed(&mut kind);
    Ok(kind)
}

fn namespace(project: &str, namespace: &str) -> Namespace {
    let modes = ["enforce", "audit", "warn"].into_iter().flat_map(|mode| {
        [
            (format!("{POD_SECURITY}/{mode}"), "restricted".to_owned()),
            (format!("{POD_SECURITY}/{mode}-version"), "latest".to_owned()),
        ]
    });
    let labels = std::iter::once((PROJECT.to_owned(), project.to_owned())).chain(modes).collect();
    let metadata =
        ObjectMeta { name: Some(namespace.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
    Namespace { metadata, ..Namespace::default() }
}

type Quantities = BTreeMap<String, Quantity>;

fn quantities<const N: usize>(of: [(&str, String); N]) -> Quantities {
    of.map(|(name, quantity)| (name.to_owned(), Quantity(quantity))).into()
}

fn quota(metadata: ObjectMeta, most: &Most) -> ResourceQuota {
    let pods = u64::from(most.pods);
    let none = || "0".to_owned();
    let hard = quantities([
        ("pods", pods.to_string()),
        ("limits.cpu", millis(pods * u64::from(most.cpu_millis))),
        ("limits.memory", bytes(pods.saturating_mul(most.memory_bytes))),
        ("limits.ephemeral-storage", bytes(pods.saturating_mul(most.storage_bytes))),
        ("persistentvolumeclaims", none()),
        ("replicationcontrollers", none()),
        ("services", none()),
        ("count/cronjobs.batch", none()),
        ("count/daemonsets.apps", none()),
        ("count/deployments.apps", none()),
        ("count/replicasets.apps", none()),
        ("count/statefulsets.apps", none()),
    ]);
    let spec = ResourceQuotaSpec { hard: Some(hard), ..ResourceQuotaSpec::default() };
    ResourceQuota { metadata, spec: Some(spec), status: None }
}

fn limits(metadata: ObjectMeta, most: &Most) -> LimitRange {
    let each = quantities([
        ("cpu", millis(u64::from(most.cpu_millis))),
        ("memory", bytes(most.memory_bytes)),
        ("ephemeral-storage", bytes(most.storage_bytes)),
    ]);
    let of = |type_: &str| LimitRangeItem {
        type_: type_.to_owned(),
        max: Some(each.clone()),
        ..LimitRangeItem::default()
    };
    let spec = LimitRangeSpec { limits: vec![of("Container"), of("Pod")] };
    LimitRange { metadata, spec: Some(spec) }
}

/// Thousandths, as Kubernetes writes them.
fn millis(millis: u64) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

/// Bytes, as Kubernetes writes them.
fn bytes(bytes: u64) -> String {
    let unit = [(30, "Gi"), (20, "Mi")].into_iter().find(|(bits, _)| bytes.is_multiple_of(1 << bits));
    unit.map_or_else(|| bytes.to_string(), |(bits, name)| format!("{}{name}", bytes >> bits))
}

/// One for each that has the rights: a second worker's takes nothing from the first.
fn binding_name(to: &Grantee) -> String {
    let whom = match to {
        Grantee::ServiceAccount { namespace, name } => format!("serviceaccount:{namespace}:{name}"),
        Grantee::User(name) => format!("user:{name}"),
    };
    // A name may hold most of what users are called, and differs where they do.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '@' | '_' | '-');
    whom.chars().fold(format!("{}:", rights::ROLE), |mut name, c| {
        match plain(c) {
            true => name.push(c),
            false => name.extend(c.escape_unicode().filter(|c| *c != '\\')),
        }
        name
    })
}

fn binding(metadata: ObjectMeta, to: &Grantee) -> RoleBinding {
    let subject = match to {
        Grantee::ServiceAccount { namespace, name } => Subject {
            kind: "ServiceAccount".to_owned(),
            name: name.clone(),
            namespace: Some(namespace.clone()),
            api_group: None,
        },
        Grantee::User(name) => Subject {
            kind: "User".to_owned(),
            name: name.clone(),
            namespace: None,
            api_group: Some(RBAC.to_owned()),
        },
    };
    let role_ref =
        RoleRef { api_group: Some(RBAC.to_owned()), kind: "Role".to_owned(), name: rights::ROLE.to_owned() };
    RoleBinding { metadata, role_ref, subjects: Some(vec![subject]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_administrator_applies() {
        let most = Most { pods: 4, cpu_millis: 1500, memory_bytes: 4 << 30, storage_bytes: 8 << 30 };
        let runs = |project: &str, namespace: &str| RunsOf {
            project: project.to_owned(),
            namespace: namespace.to_owned(),
            most,
        };
        let demo = runs("demo", "callboard-demo-374708ff");
        let to = Grantee::ServiceAccount { namespace: "callboard".into(), name: "callboard-worker".into() };
        insta::assert_snapshot!(manifests(&[demo], &to).expect("YAML"));

        let two = [runs("a", "callboard-a-1"), runs("b", "callboard-b-2")];
        let yaml = manifests(&two, &Grantee::User("callboard".into())).expect("YAML");
        let count = |text: &str| yaml.matches(text).count();
        assert_eq!((count("kind: CustomResourceDefinition"), count("kind: Namespace")), (1, 2));
        assert_eq!(count("- apiGroup: rbac.authorization.k8s.io\n  kind: User\n  name: callboard\n"), 2);
        let other = Grantee::User("another/one".into());
        assert_ne!(binding_name(&to), binding_name(&other), "one takes nothing from the other");
        assert_eq!(binding_name(&other), "callboard-worker:user:anotheru{2f}one");
        assert!(!yaml.contains("ClusterRole"), "the worker has rights in these namespaces only");
    }
}
