//! The cluster that `KUBECONFIG` names, as its administrator sees it.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Namespace, Node, ServiceAccount},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Where the worker's ServiceAccount is.
const PLATFORM: &str = "callboard";
/// Its name.
const WORKER: &str = "callboard-worker";
/// What pods run, where nobody says otherwise; `cargo xtask test` builds and loads it.
const IMAGE: &str = "callboard-agent-scripted:dev";

/// Who has the nodes: many stories, or one that fills them.
static NODES: RwLock<()> = RwLock::const_new(());

/// Held as long as the story's pods are there.
enum Nodes {
    Shared { _held: RwLockReadGuard<'static, ()> },
    Alone { _held: RwLockWriteGuard<'static, ()> },
}

/// Tells what was not shown. libtest keeps what tests that pass print, and this is for whoever
/// reads that everything passed.
pub(crate) fn not_shown(line: &str) {
    // There is nobody else to tell.
    drop(std::io::stderr().write_all(format!("cluster tests: {line}\n").as_bytes()));
}

/// A cluster, and our way to it.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    /// Its API server.
    pub(crate) api: SocketAddr,
    /// This machine as pods see it.
    pub(crate) host: IpAddr,
    /// The image whose agent plays scripts.
    pub(crate) image: String,
    /// Its name, where its certificate is not for an address of this machine.
    name: Option<String>,
    authority: Option<String>,
    kubectl: PathBuf,
    _nodes: Nodes,
}

impl Cluster {
    /// The cluster; nothing, and a line that says so, where `KUBECONFIG` is not set.
    pub(crate) async fn at_hand(story: &str) -> Option<Self> {
        Self::is_named(story).then_some(())?;
        Some(Self::with(Nodes::Shared { _held: NODES.read().await }).await)
    }

    /// The same, with no other story's pods on the nodes.
    pub(crate) async fn alone(story: &str) -> Option<Self> {
        Self::is_named(story).then_some(())?;
        Some(Self::with(Nodes::Alone { _held: NODES.write().await }).await)
    }

    fn is_named(story: &str) -> bool {
        let is_named = std::env::var_os("KUBECONFIG").is_some_and(|path| !path.is_empty());
        if !is_named {
            not_shown(&format!("{story} did not run, KUBECONFIG is not set"));
        }
        is_named
    }

    async fn with(nodes: Nodes) -> Self {
        let config = kube::Config::infer().await.expect("KUBECONFIG names a cluster");
        let url = &config.cluster_url;
        let (host, port) = (url.host().expect("a host"), url.port_u16().unwrap_or(443));
        let api = tokio::net::lookup_host((host.trim_matches(['[', ']']), port))
            .await
            .ok()
            .and_then(|mut found| found.next())
            .expect("the API server's address");
        let name = Some(host.to_owned()).filter(|host| host != "127.0.0.1");
        let authority = config.root_cert.as_ref().map(|chain| chain.iter().map(|der| pem(der)).collect());
        let client = Client::try_from(config).expect("a client");
        let host = match std::env::var("CALLBOARD_TEST_HOST_ADDRESS") {
            Ok(address) => address.parse().expect("CALLBOARD_TEST_HOST_ADDRESS is an address"),
            Err(_) => towards_a_node(&client).await,
        };
        let image = std::env::var("CALLBOARD_TEST_IMAGE").unwrap_or_else(|_| IMAGE.to_owned());
        let kubectl =
            std::env::var_os("CALLBOARD_TEST_KUBECTL").map_or_else(|| "kubectl".into(), PathBuf::from);
        Self { client, api, host, image, name, authority, kubectl, _nodes: nodes }
    }

    /// A port of this machine that pods can reach.
    pub(crate) fn free_port(&self) -> u16 {
        TcpListener::bind((self.host, 0)).and_then(|l| l.local_addr()).expect("a port").port()
    }

    /// `kubectl`, as its administrator types it.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = subprocess::command(&self.kubectl, Path::new("/tmp"));
        command.env("KUBECONFIG", std::env::var_os("KUBECONFIG").unwrap_or_default()).args(words);
        command
    }

    /// What it prints.
    pub(crate) fn kubectl(&self, words: &[&str], input: &str) -> String {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| {
            panic!("{}: {e}; name one as CALLBOARD_TEST_KUBECTL", self.kubectl.display())
        });
        child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("written");
        let done = child.wait_with_output().expect("it ends");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let (out, err) = (text(done.stdout), text(done.stderr));
        assert!(done.status.success(), "kubectl {words:?}: {out}{err}");
        if out.is_empty() { err } else { out }
    }

    /// Objects of one kind in a namespace.
    pub(crate) fn all<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// A kubeconfig of the worker's ServiceAccount, for the API server at `address`.
    pub(crate) async fn worker_kubeconfig(&self, address: SocketAddr) -> String {
        let apply = PatchParams::apply("platform-tests").force();
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(PLATFORM.into()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.patch(PLATFORM, &apply, &Patch::Apply(&namespace)).await.expect("a namespace");
        let account = ServiceAccount {
            metadata: ObjectMeta { name: Some(WORKER.into()), ..ObjectMeta::default() },
            ..ServiceAccount::default()
        };
        let accounts: Api<ServiceAccount> = self.all(PLATFORM);
        accounts.patch(WORKER, &apply, &Patch::Apply(&account)).await.expect("a service account");
        let request = TokenRequest {
            spec: Some(TokenRequestSpec { expiration_seconds: Some(7200), ..TokenRequestSpec::default() }),
            ..TokenRequest::default()
        };
        let granted = accounts
            .create_token_request(WORKER, &PostParams::default(), &request)
            .await
            .expect("a token of the worker's");
        let token = granted.status.and_then(|status| status.token).expect("granted");
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "worker",
            "contexts": [{ "name": "worker", "context": { "cluster": "it", "user": "worker" } }],
            "users": [{ "name": "worker", "user": { "token": token } }],
            "clusters": [{ "name": "it", "cluster": {
                "server": format!("https://{address}"),
                "tls-server-name": self.name,
                "certificate-authority-data": self.authority.as_ref().map(|pem| STANDARD.encode(pem)),
            } }],
        })
        .to_string()
    }

    /// Who `callboard worker manifests` gives the worker's rights to.
    pub(crate) fn service_account() -> String {
        format!("{PLATFORM}:{WORKER}")
    }

    /// Deletes a namespace and everything in it, without waiting until it is gone.
    pub(crate) async fn delete_namespace(&self, name: &str) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        // Gone already is as good.
        drop(namespaces.delete(name, &DeleteParams::background()).await);
    }

    /// What an attempt has left in a namespace.
    pub(crate) async fn leftovers(&self, namespace: &str) -> Vec<String> {
        use k8s_openapi::api::{
            batch::v1::Job,
            core::v1::{Pod, Secret},
            networking::v1::NetworkPolicy,
        };
        let mut left = Vec::new();
        let params = ListParams::default().labels("callboard.dev/attempt");
        macro_rules! look {
            ($($kind:ty),*) => {$(
                let found = self.all::<$kind>(namespace).list(&params).await.expect("a list");
                let kind = <$kind as kube::Resource>::kind(&());
                left.extend(found.items.iter().filter_map(|it| Some(format!("{kind} {}", it.metadata.name.as_ref()?))));
            )*};
        }
        look!(worker::AgentRun, Job, Pod, Secret, NetworkPolicy, ServiceAccount);
        left
    }
}

/// The address of this machine on its way to a node: where pods of that node find it.
async fn towards_a_node(client: &Client) -> IpAddr {
    let nodes: Api<Node> = Api::all(client.clone());
    let nodes = nodes.list(&ListParams::default()).await.expect("the nodes").items;
    let mut addresses = nodes.iter().flat_map(|node| {
        let status = node.status.as_ref();
        status.and_then(|s| s.addresses.as_deref()).unwrap_or_default()
    });
    let node = addresses.find(|address| address.type_ == "InternalIP").expect("a node with an address");
    let node: IpAddr = node.address.parse().expect("an address");
    let way = UdpSocket::bind("0.0.0.0:0").and_then(|s| s.connect((node, 9)).map(|()| s));
    way.and_then(|s| s.local_addr()).expect("a way to the node").ip()
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
