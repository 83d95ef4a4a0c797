//! Attempts as pods: what the platform needs of the cluster, and when a pod appeared in it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use super::{children::Children, platform::Platform};
use crate::cluster::Cluster;

/// The name pods know the agent gateway by.
const GATEWAY: &str = "callboard-agents";
/// How long the cluster may take to know a kind it was told of.
const KNOWN_WITHIN: Duration = Duration::from_secs(60);
/// From the label to the pod, at most.
const POD_APPEARS: Duration = Duration::from_secs(60);

/// A cluster for one demo.
#[derive(Debug)]
pub(super) struct Pods {
    cluster: Cluster,
    image: String,
    folder: PathBuf,
    host: IpAddr,
    port: u16,
    namespace: Option<String>,
    watch: Option<Child>,
}

impl Pods {
    /// Chooses an address and makes its certificate; nothing is made in the cluster yet.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(super) fn new(cluster: Cluster, image: String, folder: &Path) -> Result<Self> {
        let host = cluster.host()?;
        let port = TcpListener::bind((host, 0))?.local_addr()?.port();
        certificates(folder)?;
        Ok(Self { cluster, image, folder: folder.to_path_buf(), host, port, namespace: None, watch: None })
    }

    /// What the platform's configuration says of it.
    pub(super) fn put_into(&self, configuration: &mut Value) {
        let file = |name: &str| self.folder.join(name);
        configuration["listen"]["agents"] = json!(format!("{}:{}", self.host, self.port));
        configuration["listen"]["tls_certificate_file"] = json!(file("cert.pem"));
        configuration["listen"]["tls_key_file"] = json!(file("key.pem"));
        configuration["agents_url"] = json!(format!("https://{GATEWAY}:{}", self.port));
        configuration["executor"] = json!({"kubernetes": {
            "kubeconfig": self.cluster.kubeconfig(),
            "capacity": 2,
            "image": self.image,
            "gateway_ip": self.host,
            "gateway_ca_file": file("ca.pem"),
            "cpu_millis": 500,
            "memory_mib": 256,
            "storage_mib": 256,
        }});
    }

    /// Makes the project's namespace, which goes when everything ends.
    ///
    /// # Errors
    /// What `callboard` or `kubectl` said.
    pub(super) fn prepare(&mut self, platform: &Platform, children: &Children) -> Result<()> {
        let manifests = platform
            .command(&["worker", "manifests", "--project", "demo", "--user", "callboard-demo"])
            .output()?;
        if !manifests.status.success() {
            bail!("`callboard worker manifests`: {}", String::from_utf8_lossy(&manifests.stderr).trim());
        }
        let text = String::from_utf8(manifests.stdout)?;
        let namespace = text.lines().find_map(|line| line.trim().strip_prefix("namespace: "));
        let namespace = namespace.context("the manifests name no namespace")?.to_owned();
        let mut delete = self.cluster.kubectl();
        delete
            .args(["delete", "namespace", &namespace, "--wait=false", "--ignore-not-found"])
            .stdout(Stdio::null());
        children.lastly(delete);
        let mut apply = self.cluster.kubectl();
        apply.args(["apply", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut apply = apply.spawn().context("kubectl cannot start")?;
        apply.stdin.take().context("its input is a pipe")?.write_all(text.as_bytes())?;
        if !apply.wait()?.success() {
            bail!("`kubectl apply` failed; what it said is above");
        }
        // The API server takes a moment to know a new kind.
        let patience = Instant::now() + KNOWN_WITHIN;
        while !self.cluster.kubectl().args(["get", "arun"]).output()?.status.success() {
            if Instant::now() > patience {
                bail!("the cluster does not know what an AgentRun is, though it was told");
            }
            thread::sleep(Duration::from_millis(200));
        }
        self.namespace = Some(namespace);
        Ok(())
    }

    /// Tells when the first pod appears.
    ///
    /// # Errors
    /// When kubectl cannot start.
    pub(super) fn watch(&mut self) -> Result<Receiver<Instant>> {
        let namespace = self.namespace.as_deref().context("the namespace is made first")?;
        let mut watch = self.cluster.kubectl();
        watch.args(["--namespace", namespace, "get", "pods", "--watch", "--output", "name"]);
        let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let lines = BufReader::new(watch.stdout.take().context("its output is a pipe")?).lines();
        self.watch = Some(watch);
        let (tell, told) = channel();
        thread::spawn(move || {
            for _line in lines.map_while(std::io::Result::ok) {
                // Nobody may be listening any more.
                let _ = tell.send(Instant::now());
            }
        });
        Ok(told)
    }

    /// What there is in the namespace, as people see it.
    ///
    /// # Errors
    /// What kubectl said.
    pub(super) fn shown(&self) -> Result<String> {
        let namespace = self.namespace.as_deref().context("the namespace is made first")?;
        crate::environment::output(self.cluster.kubectl().args([
            "--namespace",
            namespace,
            "get",
            "arun,job,pod",
        ]))
    }
}

/// Milliseconds from the label to the first pod.
///
/// # Errors
/// When none came.
pub(super) fn label_to_pod(labelled: Instant, appeared: &Receiver<Instant>) -> Result<f64> {
    let first = appeared.recv_timeout(POD_APPEARS).context("no pod appeared in the cluster")?;
    Ok(first.duration_since(labelled).as_secs_f64() * 1000.0)
}

impl Drop for Pods {
    fn drop(&mut self) {
        if let Some(watch) = &mut self.watch {
            drop(watch.kill());
            drop(watch.wait());
        }
    }
}

/// A certificate for the agent gateway and the authority that signed it, as files.
fn certificates(folder: &Path) -> Result<()> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key)?;
    let key = KeyPair::generate()?;
    let server = CertificateParams::new(vec![GATEWAY.to_owned()])?;
    let certificate = server.signed_by(&key, &Issuer::from_params(&authority, &authority_key))?;
    for (name, text) in [
        ("ca.pem", authority_certificate.pem()),
        ("cert.pem", certificate.pem()),
        ("key.pem", key.serialize_pem()),
    ] {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}
