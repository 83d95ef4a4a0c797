//! Attempts on a real cluster. Pods that no node has room for do for all of this: what their
//! programs do is the platform's stories.

use std::{collections::BTreeMap, io::Write, path::Path, time::Duration};

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Namespace, Pod, Secret, ServiceAccount},
        networking::v1::NetworkPolicy,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, CustomResourceExt, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{conditions, wait::await_condition},
};
use proto::v1::{
    AdoptResponse, AdoptedAttempt, AttemptEnded, AttemptLease, ClusterObject, Limits, Placement,
    attempt_ended::{Cause, Outcome},
    judge_response::Verdict,
    report_request::What,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use worker::{
    AgentRun, ExecutorSettings, Gateway, Grantee, ImagePullPolicy, KubernetesSettings, Phase, Sandbox,
    Settings,
};

use crate::{
    PATIENCE,
    control_plane::ControlPlane,
    machine::{lease, settings},
    manifests::apply,
};

/// Whether there is a cluster; where not, it says so to whoever reads that everything passed: libtest
/// keeps what tests that pass print.
pub(crate) fn is_named(story: &str) -> bool {
    let is_named = std::env::var_os("KUBECONFIG").is_some_and(|path| !path.is_empty());
    if !is_named {
        let line = format!("cluster tests: {story} did not run, KUBECONFIG is not set\n");
        // There is nobody else to tell.
        drop(std::io::stderr().write_all(line.as_bytes()));
    }
    is_named
}

/// A namespace of the test's own and a worker that uses it.
struct Cluster {
    client: Client,
    namespace: String,
    folder: tempfile::TempDir,
    control_plane: ControlPlane,
    worker: Option<(JoinHandle<anyhow::Result<()>>, CancellationToken)>,
}

impl Cluster {
    /// `None`, and a word of it, where there is no cluster.
    async fn find(story: &str) -> Option<Self> {
        is_named(story).then_some(())?;
        let client = Client::try_default().await.expect("KUBECONFIG names a cluster");
        // Of no project: the kind alone.
        let kind = worker::manifests(&[], &Grantee::User("nobody".to_owned())).expect("YAML");
        apply(&client, &kind).await;
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        let established = await_condition(crds, AgentRun::crd_name(), conditions::is_crd_established());
        tokio::time::timeout(PATIENCE, established).await.expect("in time").expect("established");
        let namespace = format!("callboard-{story}-{}", std::process::id());
        let object = Namespace {
            metadata: ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        Api::all(client.clone()).create(&PostParams::default(), &object).await.expect("a namespace");
        let folder = tempfile::tempdir().expect("a folder");
        let control_plane = ControlPlane::serve(&folder.path().join("cp.sock"));
        Some(Self { client, namespace, folder, control_plane, worker: None })
    }

    fn start(&mut self) {
        let shutdown = CancellationToken::new();
        let worker = tokio::spawn(worker::run(in_a_cluster(self.folder.path()), shutdown.clone()));
        self.worker = Some((worker, shutdown));
    }

    /// Ends the worker; what it has in the cluster stays.
    async fn stop(&mut self) {
        let (worker, shutdown) = self.worker.take().expect("it runs");
        shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, worker).await.expect("it ends at once");
        ended.expect("no panic").expect("no error");
    }

    fn lease(&self, number: u32) -> AttemptLease {
        AttemptLease {
            namespace: self.namespace.clone(),
            limits: Some(Limits { memory_bytes: 64 << 20, processes: 64, output_bytes: 0, file_bytes: 0 }),
            placement: Some(Placement {
                node_selector: [("callboard.dev/no-such-node".to_owned(), "true".to_owned())].into(),
                ..Placement::default()
            }),
            ..lease(number)
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn uids<K>(&self) -> BTreeMap<String, String>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let of_attempts = ListParams::default().labels("callboard.dev/attempt");
        let found = self.api::<K>().list(&of_attempts).await.expect("listed");
        found.items.iter().map(|o| (o.name_any(), o.uid().expect("a uid"))).collect()
    }

    /// How many objects of attempts there are.
    async fn count(&self) -> [usize; 6] {
        [
            self.uids::<AgentRun>().await.len(),
            self.uids::<ServiceAccount>().await.len(),
            self.uids::<Secret>().await.len(),
            self.uids::<NetworkPolicy>().await.len(),
            self.uids::<Job>().await.len(),
            self.uids::<Pod>().await.len(),
        ]
    }

    /// Waits until it is so.
    async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut(&Self) -> Option<T>) -> T {
        let looking = async {
            let mut looks = tokio::time::interval(Duration::from_millis(100));
            loop {
                looks.tick().await;
                if let Some(found) = look(self).await {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("not in time: {what}"))
    }

    async fn planned(&mut self) -> ClusterObject {
        match self.control_plane.report().await.what {
            Some(What::Planned(object)) => object,
            other => panic!("expected a plan, got {other:?}"),
        }
    }

    async fn created(&mut self) -> ClusterObject {
        loop {
            match self.control_plane.report().await.what {
                Some(What::Created(object)) => return object,
                // Said again before something that is in its place is deleted.
                Some(What::Planned(_)) => {}
                other => panic!("expected an object, got {other:?}"),
            }
        }
    }

    async fn waits(&mut self) -> String {
        match self.control_plane.report().await.what {
            Some(What::Waits(waits)) => waits.message,
            other => panic!("expected a sentence, got {other:?}"),
        }
    }

    /// Offers a lease and waits until all of its objects are there.
    async fn begin(&mut self, number: u32) -> (AttemptLease, ClusterObject) {
        let lease = self.lease(number);
        self.control_plane.offer(lease.clone());
        let planned = self.planned().await;
        let created = self.created().await;
        assert_eq!(ClusterObject { uid: created.uid.clone(), ..planned }, created);
        let why = self.waits().await;
        assert!(why.starts_with("No node has room for it: "), "{why}");
        self.until("all of its objects", async |this| (this.count().await == [1; 6]).then_some(())).await;
        (lease, created)
    }

    /// The end, and that nothing is left.
    async fn ended(&mut self) -> AttemptEnded {
        let ended = loop {
            match self.control_plane.report().await.what {
                Some(What::Ended(ended)) => break ended,
                // The scheduler may word it anew.
                Some(What::Waits(_)) => {}
                other => panic!("expected an end, got {other:?}"),
            }
        };
        self.until("nothing left", async |this| (this.count().await == [0; 6]).then_some(())).await;
        ended
    }

    async fn tidy(self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::background()).await.expect("deleted");
    }
}

fn in_a_cluster(folder: &Path) -> Settings {
    Settings {
        executor: ExecutorSettings::Kubernetes(KubernetesSettings {
            kubeconfig: None,
            capacity: 2,
            image: "busybox:1.35".to_owned(),
            image_pull_policy: ImagePullPolicy::IfNotPresent,
            image_pull_secrets: Vec::new(),
            gateway: Gateway {
                url: "https://callboard-agents:8081".parse().expect("a url"),
                ip: "10.213.0.1".parse().expect("an address"),
                ca: "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".to_owned(),
                pods: None,
            },
            cpu_millis: 100,
            storage_bytes: 64 << 20,
            patience: Duration::from_secs(600),
            priority_classes: BTreeMap::new(),
        }),
        ..settings(folder, Sandbox::None)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_attempt_leaves_nothing() {
    let Some(mut cluster) = Cluster::find("cancelled").await else { return };
    cluster.start();
    let (lease, object) = cluster.begin(1).await;
    let run = cluster.api::<AgentRun>().get(&object.name).await.expect("there");
    assert_eq!((run.uid().unwrap(), run.spec.digest()), (object.uid.clone(), object.digest.clone()));
    assert_eq!(run.status.expect("shown").phase, Phase::Waiting);
    assert!(!serde_json::to_string(&run.spec).unwrap().contains(&lease.run_token));

    cluster.control_plane.stop(&lease.attempt_id, "cancelled");
    let ended = cluster.ended().await;
    assert_eq!((ended.outcome(), ended.message.as_str()), (Outcome::Stopped, "Stopped: cancelled."));
    cluster.stop().await;
    assert_eq!(cluster.control_plane.more_reports(), 0);
    cluster.tidy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_made_again_and_what_stood_for_it_ends_it() {
    let Some(mut cluster) = Cluster::find("missing").await else { return };
    cluster.start();
    let (_, object) = cluster.begin(1).await;
    let name = object.name.as_str();
    let before = cluster.uids::<Secret>().await;
    cluster.api::<Secret>().delete(name, &DeleteParams::default()).await.expect("deleted");
    cluster.api::<NetworkPolicy>().delete(name, &DeleteParams::default()).await.expect("deleted");
    let open = serde_json::json!({"automountServiceAccountToken": true});
    let account = cluster.api::<ServiceAccount>();
    let policies = cluster.api::<NetworkPolicy>();
    account.patch(name, &PatchParams::default(), &Patch::Merge(&open)).await.expect("changed");
    cluster
        .until("all of it again", async |this| {
            let account = account.get(name).await.expect("there");
            let is_whole =
                this.count().await == [1; 6] && account.automount_service_account_token == Some(false);
            (is_whole && this.uids::<Secret>().await != before).then_some(())
        })
        .await;

    let open = serde_json::json!({"spec": {"ingress": [{}], "egress": [{}]}});
    policies.patch(name, &PatchParams::default(), &Patch::Merge(&open)).await.expect("opened");
    cluster
        .until("the policy closed again", async |_| {
            let spec = policies.get(name).await.expect("there").spec.expect("a spec");
            let reached = spec.egress.iter().flatten().filter(|rule| rule.to.is_some()).count();
            (spec.ingress.iter().flatten().count() == 0 && reached == 1).then_some(())
        })
        .await;

    let pods = cluster.uids::<Pod>().await;
    let pod = pods.keys().next().expect("one");
    cluster.api::<Pod>().delete(pod, &DeleteParams::default()).await.expect("deleted");
    let ended = cluster.ended().await;
    assert_eq!(ended.cause(), Cause::Deleted, "{ended:?}");

    let (_, object) = cluster.begin(2).await;
    cluster.api::<AgentRun>().delete(&object.name, &DeleteParams::default()).await.expect("deleted");
    let ended = cluster.ended().await;
    assert_eq!((ended.outcome(), ended.cause()), (Outcome::Died, Cause::Deleted));
    assert!(ended.message.ends_with("was deleted, not by the platform."), "{}", ended.message);

    let (_, object) = cluster.begin(3).await;
    let changed = serde_json::json!({"spec": {"image": "another"}});
    let runs = cluster.api::<AgentRun>();
    runs.patch(&object.name, &PatchParams::default(), &Patch::Merge(&changed)).await.expect("changed");
    let ended = cluster.ended().await;
    assert!(ended.message.contains("was changed"), "{}", ended.message);
    cluster.stop().await;
    cluster.tidy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_process_goes_on() {
    let Some(mut cluster) = Cluster::find("restart").await else { return };
    cluster.start();
    let (lease, object) = cluster.begin(1).await;
    let pods = cluster.uids::<Pod>().await;
    cluster.stop().await;
    assert_eq!(cluster.control_plane.more_reports(), 0, "it is not given up");
    assert_eq!(cluster.uids::<Pod>().await, pods);

    let fenced = AttemptLease { fence: 8, ..lease.clone() };
    cluster.control_plane.leave(AdoptResponse {
        attempts: vec![AdoptedAttempt { lease: Some(fenced), object: Some(object.clone()) }],
        namespaces: vec![cluster.namespace.clone()],
    });
    cluster.start();
    let why = cluster.waits().await;
    assert!(why.starts_with("No node has room for it: "), "{why}");
    assert_eq!(cluster.uids::<Pod>().await, pods, "the same pod");
    cluster.stop().await;

    // Gone while nobody looked.
    cluster.api::<AgentRun>().delete(&object.name, &DeleteParams::default()).await.expect("deleted");
    cluster.start();
    let ended = cluster.ended().await;
    assert_eq!(ended.cause(), Cause::Deleted, "{ended:?}");
    cluster.stop().await;
    cluster.tidy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_after_which_another_was_started_deletes_nothing() {
    // It is told at a sign of life, or at a report: that its AgentRun is not as it was made.
    for (story, at_a_report) in [("superseded", false), ("superseded-late", true)] {
        let Some(mut cluster) = Cluster::find(story).await else { return };
        cluster.start();
        let (lease, object) = cluster.begin(1).await;
        let pods = cluster.uids::<Pod>().await;
        cluster.control_plane.supersede(true);
        if at_a_report {
            let changed = serde_json::json!({"spec": {"image": "another"}});
            let runs = cluster.api::<AgentRun>();
            runs.patch(&object.name, &PatchParams::default(), &Patch::Merge(&changed))
                .await
                .expect("changed");
        }
        let (worker, _shutdown) = cluster.worker.take().expect("it runs");
        let ended = tokio::time::timeout(PATIENCE, worker).await.expect("it ends by itself");
        let why = ended.expect("no panic").expect_err("it says why");
        assert!(why.to_string().contains("another process of this worker"), "{why}");
        assert_eq!(cluster.uids::<Pod>().await, pods, "the same pod");
        assert_eq!(cluster.count().await, [1; 6]);
        assert_eq!(cluster.control_plane.more_reports(), 0);

        // The other one goes on with it.
        cluster.control_plane.supersede(false);
        cluster.control_plane.leave(AdoptResponse {
            attempts: vec![AdoptedAttempt {
                lease: Some(AttemptLease { fence: 8, ..lease.clone() }),
                object: Some(object),
            }],
            namespaces: vec![cluster.namespace.clone()],
        });
        cluster.start();
        if !at_a_report {
            cluster.waits().await;
            assert_eq!(cluster.uids::<Pod>().await, pods, "the same pod");
            cluster.control_plane.stop(&lease.attempt_id, "cancelled");
        }
        cluster.ended().await;
        cluster.stop().await;
        cluster.tidy().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_was_reported_is_adopted() {
    let Some(mut cluster) = Cluster::find("forged").await else { return };
    let spec = serde_json::json!({
        "run": "r", "attempt": "a", "number": 1_u64 << 40, "project": "p", "stage": "s", "image": "i",
        "deadlineSeconds": 60, "cpuMillis": 500, "memoryBytes": 1, "storageBytes": 1
    });
    // Written by hand: an AgentRun of a type of ours cannot say what this one says.
    let forge = async |cluster: &Cluster, name: &str| {
        let object = serde_json::json!({
            "apiVersion": "callboard.dev/v1alpha1", "kind": "AgentRun", "metadata": {"name": name}, "spec": spec
        });
        let apply = PatchParams::apply("a-person");
        let kind = kube::api::ApiResource::erase::<AgentRun>(&());
        let api: Api<kube::api::DynamicObject> =
            Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &kind);
        api.patch(name, &apply, &Patch::Apply(&object)).await.expect("forged").uid().expect("a uid")
    };
    let forged = forge(&cluster, "attempt-forged").await;
    // One under an attempt's name, whose making was never reported.
    let lease = cluster.lease(1);
    let name = format!("attempt-{}", lease.attempt_id);
    let unreported = forge(&cluster, &name).await;
    let planned = ClusterObject {
        namespace: cluster.namespace.clone(),
        name: name.clone(),
        digest: "0".repeat(64),
        uid: String::new(),
    };
    cluster.control_plane.leave(AdoptResponse {
        attempts: vec![AdoptedAttempt { lease: Some(lease.clone()), object: Some(planned) }],
        namespaces: vec![cluster.namespace.clone()],
    });
    cluster.start();
    cluster.planned().await;
    let created = cluster.created().await;
    assert_ne!(created.uid, unreported, "it was deleted and made anew");
    let judged = cluster.control_plane.judged.recv().await.expect("asked about");
    assert_eq!((judged.uid, judged.digest.as_str()), (forged, ""));
    cluster
        .until("the forged one is refused, and nothing made for it", async |this| {
            let found = kube::api::ApiResource::erase::<AgentRun>(&());
            let api: Api<kube::api::DynamicObject> =
                Api::namespaced_with(this.client.clone(), &this.namespace, &found);
            let run = api.get("attempt-forged").await.expect("left for a person");
            let is_refused = run.data["status"]["phase"] == "Refused";
            (is_refused && this.uids::<Pod>().await.len() == 1).then_some(())
        })
        .await;
    assert!(cluster.uids::<Secret>().await.keys().all(|secret| *secret == name));

    // The platform says later that one is over: it goes.
    cluster.control_plane.say(Verdict::Over);
    let over = forge(&cluster, "attempt-over").await;
    cluster
        .until("what is over is gone", async |this| {
            let kind = kube::api::ApiResource::erase::<AgentRun>(&());
            let api: Api<kube::api::DynamicObject> =
                Api::namespaced_with(this.client.clone(), &this.namespace, &kind);
            api.get_opt("attempt-over")
                .await
                .expect("looked")
                .is_none_or(|o| o.uid() != Some(over.clone()))
                .then_some(())
        })
        .await;
    cluster.control_plane.stop(&lease.attempt_id, "cancelled");
    cluster.until("no pod", async |this| this.uids::<Pod>().await.is_empty().then_some(())).await;
    cluster.stop().await;
    cluster.tidy().await;
}
