//! A platform whose attempts are pods: each service in a process of its own, and a worker that
//! may do in the cluster what `callboard worker manifests` gives it and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use proto::admin::{
    EnrollWorkerRequest, GetRunRequest, ListWorkersRequest, OrderWorkerRequest, RunDetail,
    admin_service_client::AdminServiceClient, order_worker_request::Order,
};
use serde_json::{Value, json};
use tonic::transport::Channel;
use worker::{AgentRun, Phase};

use super::{
    Database, Plan, Site,
    certificates::certificates,
    cluster::Cluster,
    folder, merge, program,
    story::{http_get, run},
    supervised::Supervised,
    wire::Wire,
};

/// The name pods know the agent gateway by.
const GATEWAY: &str = "callboard-agents";
/// The file an agent waits for until [`Pods::let_go`].
pub(crate) const POD_GO: &str = "/work/go";

/// Whose turn it is to apply what an administrator would.
static APPLIES: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How a platform with pods differs from the usual one.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodPlan {
    /// On top of the usual configuration.
    pub(crate) config: Value,
    /// Projects beside `demo`, which the configuration names.
    pub(crate) more_projects: Vec<&'static str>,
    /// The worker's program, where it is another build.
    pub(crate) program: Option<PathBuf>,
}

/// Everything of one story about pods.
pub(crate) struct Pods {
    pub(crate) site: Site,
    pub(crate) cluster: Cluster,
    pub(crate) worker: Supervised,
    /// Beside it, for the same projects.
    more_workers: Vec<Supervised>,
    /// Between the worker and the API server.
    pub(crate) wire: Wire,
    /// Namespaces by project.
    pub(crate) namespaces: BTreeMap<String, String>,
    _database: Database,
    _folder: tempfile::TempDir,
}

impl Pods {
    /// The platform, its namespaces, and its worker.
    pub(crate) async fn start(cluster: Cluster, plan: PodPlan) -> Self {
        let (database, folder, wire) = (Database::migrated(), folder(), Wire::to(cluster.api).await);
        let file = |name: &str| folder.path().join(name);
        certificates(folder.path(), GATEWAY);
        std::fs::write(file("kubeconfig"), cluster.worker_kubeconfig(wire.address).await).expect("written");
        let port = cluster.free_port();
        let mut config = json!({
            "listen": {
                "agents": format!("{}:{port}", cluster.host),
                "tls_certificate_file": file("cert.pem"),
                "tls_key_file": file("key.pem"),
            },
            "agents_url": format!("https://{GATEWAY}:{port}"),
            "executor": { "kubernetes": {
                "kubeconfig": file("kubeconfig"),
                "capacity": 4,
                "image": cluster.image,
                "gateway_ip": cluster.host,
                "gateway_ca_file": file("ca.pem"),
                // Eight of them fit on a machine with two processors.
                "cpu_millis": 240,
                "memory_mib": 192,
                "storage_mib": 128,
                "processes": 64,
            } },
        });
        merge(&mut config, &plan.config);
        let mut site = Site::start(&database.url, &Plan { config, apart: true, ..Plan::default() }).await;
        site.ready().await;
        let place = site.platform().folder.clone();
        let projects: Vec<String> =
            ["demo"].iter().chain(&plan.more_projects).map(|name| (*name).to_owned()).collect();
        enroll(&site, "far", &projects, "worker.json").await;
        site.serve(&["serve", "agent-gateway"]);
        site.serve(&["serve", "api-gateway"]);
        let namespaces = namespaces(&site, &projects).await;
        let mut words = vec!["worker", "manifests", "--config", "callboard.yaml"];
        words.extend(projects.iter().flat_map(|project| ["--project", project]));
        let account = Cluster::service_account();
        words.extend(["--service-account", &account]);
        let (code, manifests, err) = run(subprocess::command(program("callboard"), &place).args(&words));
        assert_eq!(code, 0, "{err}");
        {
            // The first time only one of several may make the kind `AgentRun`.
            let _turn = APPLIES.lock().await;
            cluster.kubectl(&["apply", "-f", "-"], &manifests);
            // The API server takes a moment to know a new kind.
            let known =
                async || cluster.command(&["get", "arun"]).output().ok()?.status.success().then_some(());
            site.until("the cluster to know what an AgentRun is", known).await;
        }
        let mut start = site.service(&["serve", "worker"]);
        start.program = plan.program.unwrap_or(start.program);
        let worker = Supervised::start(start);
        let more_workers = Vec::new();
        Self { site, cluster, worker, more_workers, wire, namespaces, _database: database, _folder: folder }
    }

    /// One more worker for the same projects.
    pub(crate) async fn another_worker(&mut self, name: &str) {
        let projects: Vec<String> = self.namespaces.keys().cloned().collect();
        let identity = enroll(&self.site, name, &projects, &format!("{name}.json")).await;
        let mut start = self.site.service(&["serve", "worker"]);
        start.always.push(("CALLBOARD_IDENTITY_FILE", identity.display().to_string()));
        self.more_workers.push(Supervised::start(start));
    }

    /// The worker's next process, beside the one there is.
    pub(crate) fn next_process(&mut self) {
        self.more_workers.push(Supervised::start(self.site.service(&["serve", "worker"])));
    }

    /// Gives a worker an order; what was answered.
    pub(crate) async fn order(&self, worker: &str, order: Order) -> String {
        let request = OrderWorkerRequest { name: worker.to_owned(), order: order.into() };
        let order = async |mut c: AdminServiceClient<Channel>| c.order_worker(request.clone()).await;
        self.site.command("an order", order).await.expect("ordered").into_inner().message
    }

    /// Waits until a worker is in a state, as `worker list` has it.
    pub(crate) async fn until_worker(&self, name: &str, state: &str) {
        self.site
            .until(&format!("worker `{name}` to be {state}"), async || {
                let answer = self.site.platform().commands().list_workers(ListWorkersRequest {}).await;
                let workers = answer.ok()?.into_inner().workers;
                workers.iter().any(|worker| worker.name == name && worker.state == state).then_some(())
            })
            .await;
    }

    /// The namespace of `demo`.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespaces["demo"]
    }

    /// An issue whose agent plays these steps, labelled; its run.
    pub(crate) async fn labelled(&self, title: &str, steps: &Value) -> (u64, String) {
        let issue = self.site.issue(title, Some(steps));
        self.site.label(issue, "run:dev");
        (issue, self.site.run_of(issue).await)
    }

    pub(crate) async fn get(&self, run: &str) -> RunDetail {
        let request = GetRunRequest { id: run.to_owned() };
        self.site.platform().commands().get_run(request).await.expect("the run").into_inner()
    }

    /// The pods of a run.
    pub(crate) async fn pods(&self, run: &str) -> Vec<Pod> {
        let mut found = Vec::new();
        for namespace in self.namespaces.values() {
            let params = ListParams::default().labels(&format!("callboard.dev/run={run}"));
            found.extend(self.cluster.all::<Pod>(namespace).list(&params).await.expect("pods").items);
        }
        found
    }

    /// The name of a run's attempt that is under way, and of all its objects, once its agent said
    /// `text`.
    pub(crate) async fn at_work(&self, run: &str, number: u32, text: &str) -> String {
        let attempt = self
            .site
            .until(&format!("attempt {number} to say `{text}`"), async || {
                sqlx::query_scalar::<_, String>(
                    "select attempt_id::text from attempts join transcript_chunks using (attempt_id)
                     where run_id = $1::uuid and number >= $2 and state = 'running' and lines::text like '%' || $3 || '%'",
                )
                .bind(run)
                .bind(i32::try_from(number).expect("small"))
                .bind(text)
                .fetch_optional(&self.site.db)
                .await
                .ok()
                .flatten()
            })
            .await;
        format!("attempt-{attempt}")
    }

    /// Waits until an `AgentRun` says that it runs, the last that follows from its agent's start.
    pub(crate) async fn shown_running(&self, name: &str) {
        let runs = self.cluster.all::<AgentRun>(self.namespace());
        let running = async || {
            let status = runs.get(name).await.ok()?.status?;
            (status.phase == Phase::Running).then_some(())
        };
        self.site.until("its AgentRun to say that it runs", running).await;
    }

    /// Lets the agent of a run, which waits for [`POD_GO`], go on.
    pub(crate) async fn let_go(&self, run: &str) {
        let pod = self.pods(run).await.pop().expect("a pod");
        let (name, namespace) = (pod.metadata.name.expect("a name"), pod.metadata.namespace.expect("one"));
        self.cluster.kubectl(&["--namespace", &namespace, "exec", &name, "--", "touch", POD_GO], "");
    }

    /// What is said on an issue.
    pub(crate) fn comment(&self, issue: u64) -> String {
        let comments = self.site.github.comments(super::REPOSITORY, issue);
        assert_eq!(comments.len(), 1, "one comment tells the whole story: {comments:#?}");
        comments[0].body.clone()
    }

    /// Waits until the comment on an issue has this in it.
    pub(crate) async fn until_comment(&self, issue: u64, text: &str) -> String {
        self.site
            .until(&format!("`{text}` on the issue"), async || {
                let comments = self.site.github.comments(super::REPOSITORY, issue);
                comments.into_iter().map(|c| c.body).find(|body| body.contains(text))
            })
            .await
    }

    /// What this process of the worker has asked of the cluster: `watch pods`, `patch jobs.batch`.
    /// Whether it may is asked before anything is, and needs no right.
    pub(crate) fn asked(&self) -> BTreeSet<String> {
        let calls = self.counters("callboard_cluster_calls_total");
        let named = calls.keys().map(|labels| {
            let value = |name: &str| {
                let after = labels.split(&format!("{name}=\"")).nth(1).expect("a label of a call");
                after.split('"').next().unwrap_or_default()
            };
            call(value("verb"), value("resource"), value("group"))
        });
        named.filter(|call| !call.contains("selfsubjectaccessreviews")).collect()
    }

    /// A counter of the worker, by its labels as they are printed.
    pub(crate) fn counters(&self, name: &str) -> BTreeMap<String, u64> {
        let text = http_get(self.worker.admin, "/metrics").expect("its metrics");
        let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
        lines.filter_map(|(labels, count)| Some((labels.to_owned(), count.parse().ok()?))).collect()
    }

    /// Waits until the cluster has nothing of any attempt.
    pub(crate) async fn nothing_left(&self) {
        self.site
            .until("nothing to be left in the cluster", async || {
                let mut left = Vec::new();
                for namespace in self.namespaces.values() {
                    left.extend(self.cluster.leftovers(namespace).await);
                }
                left.is_empty().then_some(())
            })
            .await;
    }

    /// Ends the story: everything is settled, nothing is left, nothing happened twice.
    pub(crate) async fn end(self) {
        self.site.settled().await;
        let beyond: Vec<String> = self.asked().difference(&rights()).cloned().collect();
        assert!(beyond.is_empty(), "the worker asks for what its Role does not give: {beyond:?}");
        self.nothing_left().await;
        assert_eq!(self.site.violations().await, Vec::<String>::new(), "{}", self.site.logs());
        self.site.github.shutdown().await;
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        // First those who would go on making things in them.
        self.worker.end();
        self.more_workers.iter_mut().for_each(Supervised::end);
        let names: Vec<&str> = self.namespaces.values().map(String::as_str).collect();
        let words =
            [&["delete", "namespace", "--ignore-not-found", "--wait=false"], names.as_slice()].concat();
        // A story that failed says why; this must not be the reason.
        drop(self.cluster.command(&words).output());
    }
}

fn call(verb: &str, resource: &str, group: &str) -> String {
    if group.is_empty() { format!("{verb} {resource}") } else { format!("{verb} {resource}.{group}") }
}

/// What the Role of `callboard worker manifests` gives the worker for its runs, each as
/// [`Pods::asked`] has it.
pub(crate) fn rights() -> BTreeSet<String> {
    let each = worker::RIGHTS
        .iter()
        .flat_map(|right| right.verbs.iter().map(|verb| call(verb, right.resource, right.group)));
    each.collect()
}

/// Enrols a worker; the file of its identity.
async fn enroll(site: &Site, name: &str, projects: &[String], file: &str) -> PathBuf {
    let request = EnrollWorkerRequest {
        name: name.to_owned(),
        projects: projects.to_vec(),
        ..EnrollWorkerRequest::default()
    };
    let enrolled = site.platform().commands().enroll_worker(request).await.expect("enrolled").into_inner();
    let identity = site.platform().folder.join("data/identities").join(file);
    std::fs::write(&identity, enrolled.identity).expect("written");
    std::fs::set_permissions(&identity, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    identity
}

/// Namespaces by project, as the platform calls them.
async fn namespaces(site: &Site, projects: &[String]) -> BTreeMap<String, String> {
    let rows: Vec<(String, sqlx::types::Uuid)> = sqlx::query_as("select name, project_id from projects")
        .fetch_all(&site.db)
        .await
        .expect("the projects");
    let named = rows.into_iter().filter(|(name, _)| projects.contains(name));
    named
        .map(|(name, id)| {
            let namespace = domain::cluster::namespace(&name, domain::ids::Id::from_uuid(id));
            (name, namespace)
        })
        .collect()
}
