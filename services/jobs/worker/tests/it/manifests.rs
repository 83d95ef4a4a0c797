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

use crate::{PATIENCE, cluster::is_named};

const WORKER: &str = "worker";

/// Looks until it is so: what an API server has stored it does not judge by at once, it reads rights
/// and quotas from caches that run behind.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(tokio::time::Instant::now() < deadline, "not in time: {what}: {seen}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Applies YAML as `kubectl apply` would; returns the objects as they are then.
pub(crate) async fn apply(client: &Client, yaml: &str) -> Vec<DynamicObject> {
    let mut all = Vec::new();
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
        let what = format!("{} {name}", types.kind);
        let applied = until(&what, async || {
            match api.patch(&name, &params, &Patch::Apply(&object)).await {
                Ok(applied) => Ok(applied),
                // The kind is everybody's: somebody else writes it at this moment.
                Err(kube::Error::Api(status)) if status.is_conflict() => Err(status.message),
                Err(error) => panic!("{what}: {error:?}"),
            }
        })
        .await;
        all.push(applied);
    }
    all
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
    let plain = |objects: Vec<DynamicObject>| {
        objects
            .into_iter()
            .map(|mut object| {
                // When it was applied last, and what the cluster itself writes: how much of a quota is
                // used, that a kind is established.
                object.metadata.managed_fields = None;
                object.metadata.resource_version = None;
                object.data.as_object_mut().map(|data| data.remove("status"));
                serde_json::to_value(object).expect("JSON")
            })
            .collect::<Vec<_>>()
    };
    let (first, second) = (apply(&client, &yaml).await, apply(&client, &yaml).await);
    assert_eq!(plain(first), plain(second), "twice is once");

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
    let found = until("all is well", async || {
        let found = worker::probe_cluster(&settings, std::slice::from_ref(&project)).await;
        let probes = ["cluster", "AgentRun", "rights", "quota", "size of pods"];
        let is_well = found.len() > 1 && probes.iter().all(|probe| level(&found, probe).0 == Level::Ok);
        if is_well { Ok(found) } else { Err(format!("{found:#?}")) }
    })
    .await;
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
    until("not even an administrator makes one there", async || {
        match services(client.clone()).create(&PostParams::default(), &service).await {
            Err(kube::Error::Api(status)) if status.message.contains("exceeded quota") => Ok(()),
            // Not counted yet.
            Err(kube::Error::Api(status)) if status.message.contains("status unknown for quota") => {
                Err(status.message)
            }
            // Not known yet.
            Ok(made) => {
                let deleted = services(client.clone()).delete("it", &DeleteParams::default()).await;
                deleted.expect("deleted");
                Err(format!("{made:?}"))
            }
            Err(error) => panic!("{error:?}"),
        }
    })
    .await;

    let roles: Api<Role> = Api::namespaced(client.clone(), &namespace);
    roles.delete("callboard-worker", &DeleteParams::default()).await.expect("deleted");
    until("all its rights are missing", async || {
        let found = worker::probe_cluster(&settings, std::slice::from_ref(&project)).await;
        let (level, missing) = level(&found, "rights");
        let rights =
            worker::RIGHTS.iter().flat_map(|right| right.verbs.iter().map(move |verb| (verb, right)));
        let all = { rights }.all(|(verb, right)| missing.contains(&format!("{verb} {}", right.resource)));
        if level == Level::Failure && all { Ok(()) } else { Err(missing) }
    })
    .await;
    let all: Api<Namespace> = Api::all(client);
    all.delete(&namespace, &DeleteParams::background()).await.expect("deleted");
}
