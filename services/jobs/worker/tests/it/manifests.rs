//! What an administrator applies, on a real cluster: it is taken, twice is once, and the worker
//! may then do what it does and nothing else.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    core::v1::{Namespace, Secret, Service, ServiceAccount},
    rbac::v1::Role,
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::pinned_kind,
};
use proto::admin::{Finding, finding::Level};
use serde::Deserialize;
use worker::{Gateway, Grantee, ImagePullPolicy, KubernetesSettings, Most, RunsOf};

use crate::cluster::is_named;

const WORKER: &str = "worker";

/// Applies YAML as `kubectl apply` would; returns what version each object has then.
pub(crate) async fn apply(client: &Client, yaml: &str) -> Vec<(String, Option<String>)> {
    let mut versions = Vec::new();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let object = DynamicObject::deserialize(document).expect("an object");
        let types = object.types.clone().expect("its kind");
        let kind = GroupVersionKind::try_from(&types).expect("its kind");
        let (resource, _) = pinned_kind(client, &kind).await.expect("a kind of the cluster");
        let name = object.metadata.name.clone().expect("a name");
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let params = PatchParams::apply("an-administrator").force();
        let applied = api.patch(&name, &params, &Patch::Apply(&object)).await.expect("applied");
        versions.push((format!("{} {name}", types.kind), applied.metadata.resource_version));
    }
    versions
}

/// A kubeconfig for a ServiceAccount.
async fn kubeconfig(client: &Client, namespace: &str) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest::default();
    let answer =
        accounts.create_token_request(WORKER, &PostParams::default(), &request).await.expect("a token");
    let admin = Config::infer().await.expect("KUBECONFIG names a cluster");
    let authority = admin.root_cert.iter().flatten().next().map(|der| pem(der));
    serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": WORKER,
        "contexts": [{ "name": WORKER, "context": { "cluster": "it", "user": WORKER } }],
        "users": [{ "name": WORKER, "user": { "token": answer.status.expect("a token").token } }],
        "clusters": [{ "name": "it", "cluster": {
            "server": admin.cluster_url.to_string(),
            "certificate-authority-data": authority.map(|pem| serde_json::json!(k8s_openapi::ByteString(pem.into_bytes()))),
        } }],
    })
    .to_string()
}

fn pem(der: &[u8]) -> String {
    let base64 = serde_json::to_value(k8s_openapi::ByteString(der.to_vec())).expect("base64");
    let base64 = base64.as_str().expect("base64").to_owned();
    let lines: Vec<_> =
        base64.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn level(findings: &[Finding], probe: &str) -> (Level, String) {
    let found = findings.iter().find(|finding| finding.probe.starts_with(probe)).expect("probed");
    (found.level(), found.found.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_administrator_applies_lets_the_worker_do_what_it_does() {
    if !is_named("what an administrator applies") {
        return;
    }
    let client = Client::try_default().await.expect("KUBECONFIG names a cluster");
    let namespace = format!("callboard-manifests-{}", std::process::id());
    let most = Most { pods: 2, cpu_millis: 500, memory_bytes: 1 << 30, storage_bytes: 1 << 30 };
    let to = Grantee::ServiceAccount { namespace: namespace.clone(), name: WORKER.into() };
    let project = RunsOf { project: "manifests".to_owned(), namespace: namespace.clone(), most };
    let yaml = worker::manifests(std::slice::from_ref(&project), &to).expect("YAML");
    apply(&client, &yaml).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
    let account = ServiceAccount {
        metadata: ObjectMeta { name: Some(WORKER.into()), ..ObjectMeta::default() },
        ..ServiceAccount::default()
    };
    accounts.create(&PostParams::default(), &account).await.expect("an account");
    let specs = |versions: Vec<(String, Option<String>)>| {
        // The cluster itself writes how much of a quota is used, and that a kind is established.
        versions
            .into_iter()
            .filter(|(name, _)| !name.starts_with("ResourceQuota") && !name.starts_with("Custom"))
            .collect::<Vec<_>>()
    };
    let (first, second) = (apply(&client, &yaml).await, apply(&client, &yaml).await);
    assert_eq!(specs(first), specs(second), "twice is once");

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig(&client, &namespace).await).expect("written");
    let settings = KubernetesSettings {
        kubeconfig: Some(file.clone()),
        capacity: 2,
        image: "busybox:1.35".into(),
        image_pull_policy: ImagePullPolicy::IfNotPresent,
        image_pull_secrets: Vec::new(),
        gateway: Gateway {
            url: "https://callboard-agents:8081".parse().expect("a URL"),
            ip: "10.213.0.1".parse().expect("an address"),
            ca: String::new(),
            pods: None,
        },
        cpu_millis: 500,
        storage_bytes: 1 << 30,
        patience: Duration::from_secs(600),
        priority_classes: BTreeMap::new(),
    };
    let found = worker::probe_cluster(&settings, std::slice::from_ref(&project)).await;
    for probe in ["cluster", "AgentRun", "rights", "quota", "size of pods"] {
        assert_eq!(level(&found, probe).0, Level::Ok, "{found:#?}");
    }
    assert!(matches!(level(&found, "pod security").0, Level::Ok | Level::Warning), "{found:#?}");
    assert!(found.iter().all(|one| one.level() == Level::Ok || !one.next_step.is_empty()));

    let larger = RunsOf { most: Most { memory_bytes: 2 << 30, ..most }, ..project.clone() };
    let (failed, why) = level(&worker::probe_cluster(&settings, &[larger]).await, "size of pods");
    assert_eq!((failed, why.as_str()), (Level::Failure, "the most is 1Gi of memory: such pods are refused"));

    // No more than that.
    let own = kube::config::Kubeconfig::read_from(&file).expect("a kubeconfig");
    let options = kube::config::KubeConfigOptions::default();
    let own = Config::from_custom_kubeconfig(own, &options).await.expect("a config");
    let own = Client::try_from(own).expect("a client");
    let of_all = Api::<Secret>::all(own.clone()).list(&ListParams::default()).await;
    assert!(
        matches!(of_all, Err(kube::Error::Api(status)) if status.is_forbidden()),
        "secrets of all namespaces"
    );
    let service: Service = serde_json::from_value(serde_json::json!({
        "metadata": { "name": "it" }, "spec": { "ports": [{ "port": 80 }] }
    }))
    .expect("a service");
    let services = |client| Api::<Service>::namespaced(client, &namespace);
    let made = services(own).create(&PostParams::default(), &service).await;
    assert!(matches!(made, Err(kube::Error::Api(status)) if status.is_forbidden()), "a service");
    let made = services(client.clone()).create(&PostParams::default(), &service).await;
    assert!(
        matches!(&made, Err(kube::Error::Api(status)) if status.message.contains("exceeded quota")),
        "not even an administrator makes one there: {made:?}"
    );

    let roles: Api<Role> = Api::namespaced(client.clone(), &namespace);
    roles.delete("callboard-worker", &DeleteParams::default()).await.expect("deleted");
    let found = worker::probe_cluster(&settings, &[project]).await;
    let (failed, missing) = level(&found, "rights");
    assert_eq!(failed, Level::Failure);
    for right in worker::RIGHTS {
        for verb in right.verbs {
            assert!(missing.contains(&format!("{verb} {}", right.resource)), "{missing}");
        }
    }
    let all: Api<Namespace> = Api::all(client);
    all.delete(&namespace, &DeleteParams::background()).await.expect("deleted");
}
