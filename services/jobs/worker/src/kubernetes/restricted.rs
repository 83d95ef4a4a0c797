//! The restricted profile of the Pod Security Standards, over a pod that is about to be made:
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.
//!
//! Each check is named as in `k8s.io/pod-security-admission/policy/check_*.go`, and looks at the
//! pod as the API server would get it. Where the profile makes exceptions for Windows or for
//! pods in user namespaces, we make none.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

/// Returns a sentence for whatever the profile does not allow; empty when it allows the pod.
pub(crate) fn violations(template: &PodTemplateSpec) -> Vec<String> {
    let Ok(pod) = serde_json::to_value(template) else {
        return vec!["The pod cannot be written as JSON.".to_owned()];
    };
    let pod = Pod(&pod);
    let all = CHECKS
        .iter()
        .flat_map(|(name, check)| check(&pod).into_iter().map(move |found| format!("{name}: {found}.")));
    all.collect()
}

/// What a check finds, each without the full stop.
type Check = fn(&Pod<'_>) -> Vec<String>;

/// Those of the baseline that the restricted ones do not include, then the restricted ones.
const CHECKS: [(&str, Check); 15] = [
    ("appArmorProfile", app_armor),
    ("hostNamespaces", host_namespaces),
    ("hostPorts", host_ports),
    ("hostProbesAndHostLifecycle", host_probes),
    ("privileged", privileged),
    ("procMount", proc_mount),
    ("seLinuxOptions", se_linux),
    ("sysctls", sysctls),
    ("windowsHostProcess", windows_host_process),
    ("allowPrivilegeEscalation", privilege_escalation),
    ("capabilities_restricted", capabilities),
    ("restrictedVolumes", volumes),
    ("runAsNonRoot", run_as_non_root),
    ("runAsUser", run_as_user),
    ("seccompProfile_restricted", seccomp),
];

/// A pod template.
struct Pod<'a>(&'a Value);

/// What is in `object` under a path of keys; `Null` when it is not there.
fn at<'a>(object: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(object, |object, key| object.get(key).unwrap_or(&Value::Null))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

impl<'a> Pod<'a> {
    fn spec(&self) -> &'a Value {
        at(self.0, &["spec"])
    }

    /// Of whatever kind: they are all held to the same.
    fn containers(&self) -> impl Iterator<Item = &'a Value> {
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(|kind| list(at(self.spec(), &[kind])))
    }

    /// The security contexts: the pod's, then the containers', each with whose it is.
    fn contexts(&self) -> impl Iterator<Item = (String, &'a Value)> {
        let own = ("the pod".to_owned(), at(self.spec(), &["securityContext"]));
        std::iter::once(own).chain(self.container_contexts())
    }

    fn container_contexts(&self) -> impl Iterator<Item = (String, &'a Value)> {
        self.containers().map(|container| (called(container), at(container, &["securityContext"])))
    }
}

fn called(container: &Value) -> String {
    format!("container `{}`", text(at(container, &["name"])))
}

fn app_armor(pod: &Pod<'_>) -> Vec<String> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let annotations = at(pod.0, &["metadata", "annotations"]).as_object().into_iter().flatten();
    let annotated = annotations
        .filter(|(name, value)| {
            let profile = text(value);
            name.starts_with(ANNOTATION)
                && !(profile.is_empty() || profile == "runtime/default" || profile.starts_with("localhost/"))
        })
        .map(|(name, value)| format!("annotation `{name}` asks for the profile {value}"));
    let fields = pod.contexts().filter_map(|(whose, context)| {
        let kind = at(context, &["appArmorProfile", "type"]);
        (!matches!(kind.as_str(), None | Some("RuntimeDefault" | "Localhost")))
            .then(|| format!("{whose} asks for the profile {kind}"))
    });
    annotated.chain(fields).collect()
}

fn host_namespaces(pod: &Pod<'_>) -> Vec<String> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"];
    let shared = shared.into_iter().filter(|key| at(pod.spec(), &[key]) == &Value::Bool(true));
    shared.map(|key| format!("the pod has `{key}`")).collect()
}

fn host_ports(pod: &Pod<'_>) -> Vec<String> {
    let of = |container| {
        let ports = list(at(container, &["ports"])).iter().map(|port| at(port, &["hostPort"]));
        ports
            .filter(|port| port.as_i64().is_some_and(|port| port != 0))
            .map(move |port| format!("{} takes port {port} of the node", called(container)))
    };
    pod.containers().flat_map(of).collect()
}

fn host_probes(pod: &Pod<'_>) -> Vec<String> {
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let of = |container| {
        HANDLERS.into_iter().filter_map(move |path| {
            let handler = at(container, path);
            ["httpGet", "tcpSocket"]
                .iter()
                .any(|kind| !text(at(handler, &[kind, "host"])).is_empty())
                .then(|| format!("{} names a host in `{}`", called(container), path.join(".")))
        })
    };
    pod.containers().flat_map(of).collect()
}

fn privileged(pod: &Pod<'_>) -> Vec<String> {
    let privileged = pod.container_contexts().filter(|(_, c)| at(c, &["privileged"]) == &Value::Bool(true));
    privileged.map(|(whose, _)| format!("{whose} is privileged")).collect()
}

fn proc_mount(pod: &Pod<'_>) -> Vec<String> {
    let unmasked = pod.container_contexts().filter_map(|(whose, context)| {
        let mount = at(context, &["procMount"]);
        (!matches!(mount.as_str(), None | Some("Default")))
            .then(|| format!("{whose} has `procMount` {mount}"))
    });
    unmasked.collect()
}

fn se_linux(pod: &Pod<'_>) -> Vec<String> {
    const TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
    let of = |(whose, context): (String, &Value)| {
        let options = at(context, &["seLinuxOptions"]);
        let kind = text(at(options, &["type"])).to_owned();
        let kind =
            (!TYPES.contains(&kind.as_str())).then(|| format!("{whose} has the SELinux type `{kind}`"));
        let named = ["user", "role"].into_iter().filter(|key| !text(at(options, &[key])).is_empty());
        let named: Vec<_> = named.map(|key| format!("{whose} names a SELinux {key}")).collect();
        kind.into_iter().chain(named).collect::<Vec<_>>()
    };
    pod.contexts().flat_map(of).collect()
}

fn sysctls(pod: &Pod<'_>) -> Vec<String> {
    const SAFE: [&str; 12] = [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    ];
    let names = list(at(pod.spec(), &["securityContext", "sysctls"])).iter().map(|s| text(at(s, &["name"])));
    names.filter(|name| !SAFE.contains(name)).map(|name| format!("the pod sets `{name}`")).collect()
}

fn windows_host_process(pod: &Pod<'_>) -> Vec<String> {
    let host =
        pod.contexts().filter(|(_, c)| at(c, &["windowsOptions", "hostProcess"]) == &Value::Bool(true));
    host.map(|(whose, _)| format!("{whose} is a process of a Windows host")).collect()
}

fn privilege_escalation(pod: &Pod<'_>) -> Vec<String> {
    let free =
        pod.container_contexts().filter(|(_, c)| at(c, &["allowPrivilegeEscalation"]) != &Value::Bool(false));
    free.map(|(whose, _)| format!("{whose} does not have `allowPrivilegeEscalation: false`")).collect()
}

fn capabilities(pod: &Pod<'_>) -> Vec<String> {
    let of = |(whose, context): (String, &Value)| {
        let dropped = list(at(context, &["capabilities", "drop"]));
        let kept = (!dropped.iter().any(|name| name == "ALL")).then(|| format!("{whose} does not drop ALL"));
        let added = list(at(context, &["capabilities", "add"])).iter();
        let added: Vec<_> = added
            .filter(|name| *name != "NET_BIND_SERVICE")
            .map(|name| format!("{whose} adds {name}"))
            .collect();
        kept.into_iter().chain(added).collect::<Vec<_>>()
    };
    pod.container_contexts().flat_map(of).collect()
}

fn volumes(pod: &Pod<'_>) -> Vec<String> {
    const KINDS: [&str; 8] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let is_safe = |volume: &Value| KINDS.iter().any(|kind| !at(volume, &[kind]).is_null());
    let others = list(at(pod.spec(), &["volumes"])).iter().filter(|volume| !is_safe(volume));
    others.map(|volume| format!("volume {} is of another kind", at(volume, &["name"]))).collect()
}

fn run_as_non_root(pod: &Pod<'_>) -> Vec<String> {
    let by_the_pod = at(pod.spec(), &["securityContext", "runAsNonRoot"]);
    let free = pod.container_contexts().filter(|(_, context)| {
        let own = at(context, &["runAsNonRoot"]);
        (if own.is_null() { by_the_pod } else { own }) != &Value::Bool(true)
    });
    free.map(|(whose, _)| format!("{whose} does not have `runAsNonRoot`")).collect()
}

fn run_as_user(pod: &Pod<'_>) -> Vec<String> {
    let root = pod.contexts().filter(|(_, context)| at(context, &["runAsUser"]).as_i64() == Some(0));
    root.map(|(whose, _)| format!("{whose} runs as root")).collect()
}

fn seccomp(pod: &Pod<'_>) -> Vec<String> {
    let by_the_pod = at(pod.spec(), &["securityContext", "seccompProfile", "type"]);
    let free = pod.container_contexts().filter(|(_, context)| {
        let own = at(context, &["seccompProfile", "type"]);
        let profile = if own.is_null() { by_the_pod } else { own };
        !matches!(profile.as_str(), Some("RuntimeDefault" | "Localhost"))
    });
    free.map(|(whose, _)| format!("{whose} has no seccomp profile")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::kubernetes::fixtures;

    /// The checks that a pod of ours breaks once `change` is made to its JSON.
    fn broken(change: impl Fn(&mut Value)) -> BTreeSet<String> {
        let mut pod = serde_json::to_value(fixtures::pod_template()).expect("JSON");
        change(&mut pod);
        let found = violations(&serde_json::from_value(pod).expect("a pod template"));
        found.iter().map(|found| found.split(':').next().expect("named").to_owned()).collect()
    }

    /// What a pod is given that it must not have: a place in it, and what is put there.
    fn forbidden() -> Vec<(&'static str, &'static str, Value)> {
        let container = "/spec/containers/0";
        let context = "/spec/containers/0/securityContext";
        let pod = "/spec/securityContext";
        let aa = json!({ "container.apparmor.security.beta.kubernetes.io/agent": "unconfined" });
        vec![
            ("appArmorProfile", "/metadata", json!({ "annotations": aa })),
            ("appArmorProfile", pod, json!({ "appArmorProfile": { "type": "Unconfined" } })),
            ("appArmorProfile", context, json!({ "appArmorProfile": { "type": "Unconfined" } })),
            ("hostNamespaces", "/spec", json!({ "hostNetwork": true })),
            ("hostNamespaces", "/spec", json!({ "hostPID": true })),
            ("hostNamespaces", "/spec", json!({ "hostIPC": true })),
            ("hostPorts", container, json!({ "ports": [{ "containerPort": 80, "hostPort": 80 }] })),
            (
                "hostProbesAndHostLifecycle",
                container,
                json!({ "livenessProbe": { "httpGet": { "host": "169.254.169.254", "port": 80 } } }),
            ),
            (
                "hostProbesAndHostLifecycle",
                container,
                json!({ "lifecycle": { "preStop": { "tcpSocket": { "host": "10.0.0.1", "port": 80 } } } }),
            ),
            ("privileged", context, json!({ "privileged": true })),
            ("procMount", context, json!({ "procMount": "Unmasked" })),
            ("seLinuxOptions", context, json!({ "seLinuxOptions": { "type": "spc_t" } })),
            ("seLinuxOptions", pod, json!({ "seLinuxOptions": { "role": "sysadm_r" } })),
            ("sysctls", pod, json!({ "sysctls": [{ "name": "kernel.core_pattern", "value": "|/x" }] })),
            ("windowsHostProcess", pod, json!({ "windowsOptions": { "hostProcess": true } })),
            ("allowPrivilegeEscalation", context, json!({ "allowPrivilegeEscalation": true })),
            ("allowPrivilegeEscalation", context, json!({ "allowPrivilegeEscalation": null })),
            ("capabilities_restricted", context, json!({ "capabilities": null })),
            (
                "capabilities_restricted",
                context,
                json!({ "capabilities": { "drop": ["ALL"], "add": ["SYS_ADMIN"] } }),
            ),
            (
                "restrictedVolumes",
                "/spec",
                json!({ "volumes": [{ "name": "host", "hostPath": { "path": "/" } }] }),
            ),
            (
                "restrictedVolumes",
                "/spec",
                json!({ "volumes": [{ "name": "nfs", "nfs": { "server": "x", "path": "/" } }] }),
            ),
            ("runAsNonRoot", context, json!({ "runAsNonRoot": false })),
            ("runAsUser", context, json!({ "runAsUser": 0 })),
            ("runAsUser", pod, json!({ "runAsUser": 0 })),
            ("seccompProfile_restricted", context, json!({ "seccompProfile": { "type": "Unconfined" } })),
        ]
    }

    fn put(pod: &mut Value, place: &str, what: &Value) {
        let place = pod.pointer_mut(place).expect(place).as_object_mut().expect("an object");
        place.extend(what.as_object().expect("an object").clone());
    }

    #[test]
    fn every_check_finds_what_it_is_for() {
        assert_eq!(broken(|_| ()), BTreeSet::new(), "our own pod is allowed");
        let mut seen = BTreeSet::new();
        for (check, place, what) in forbidden() {
            let found = broken(|pod| put(pod, place, &what));
            assert_eq!(found, [check.to_owned()].into(), "{place} {what}");
            seen.insert(check);
        }
        assert_eq!(seen, CHECKS.iter().map(|(name, _)| *name).collect(), "a check was never seen to fail");
    }

    #[test]
    fn what_the_pod_says_holds_for_containers_that_say_nothing() {
        let silent = json!({ "runAsNonRoot": null, "seccompProfile": null });
        assert_eq!(broken(|pod| put(pod, "/spec/containers/0/securityContext", &silent)), BTreeSet::new());
        let neither = broken(|pod| {
            put(pod, "/spec/containers/0/securityContext", &silent);
            put(pod, "/spec/securityContext", &silent);
        });
        assert_eq!(neither, ["runAsNonRoot", "seccompProfile_restricted"].map(str::to_owned).into());
    }

    #[test]
    fn containers_of_all_kinds_are_looked_at() {
        for kind in ["initContainers", "ephemeralContainers"] {
            let found =
                broken(|pod| put(pod, "/spec", &json!({ kind: [{ "name": "other", "image": "x" }] })));
            assert_eq!(
                found,
                ["allowPrivilegeEscalation", "capabilities_restricted"].map(str::to_owned).into()
            );
        }
    }
}
