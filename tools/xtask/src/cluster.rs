//! The cluster that `KUBECONFIG` names: how an image gets into it, and where pods find this
//! machine.

use std::{
    env, fs,
    net::{IpAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    environment::{inherited, output, run},
    images::{self, Image, Profile},
    steps::Steps,
};

/// The test cluster's command, seen from the checkout.
const AT_HAND: &str = "../shared/test-cluster/cluster";

/// A cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    root: PathBuf,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    way_in: WayIn,
}

/// How an image gets in.
#[derive(Clone, Debug, PartialEq, Eq)]
enum WayIn {
    /// It is there: `CALLBOARD_TEST_IMAGE` names it.
    There(String),
    /// By the test cluster's own command.
    AtHand(PathBuf),
    /// By kind, into the cluster of this name.
    Kind(String),
}

impl Cluster {
    /// The cluster, or nothing where `KUBECONFIG` is not set.
    ///
    /// # Errors
    /// When nothing is known of how an image gets in.
    pub(crate) fn named(root: &Path) -> Result<Option<Self>> {
        let Some(kubeconfig) = env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) else {
            return Ok(None);
        };
        // Programs that read it work in other folders.
        let kubeconfig = fs::canonicalize(&kubeconfig)
            .with_context(|| format!("KUBECONFIG is {}, and has to be one file", kubeconfig.display()))?;
        let at_hand = at_hand(root, &kubeconfig);
        let kubectl = env::var_os("CALLBOARD_TEST_KUBECTL").map(PathBuf::from);
        let kubectl = kubectl.or_else(|| at_hand.as_ref().map(|(_, kubectl)| kubectl.clone()));
        let kubectl = kubectl.unwrap_or_else(|| "kubectl".into());
        let way_in = match (env::var("CALLBOARD_TEST_IMAGE"), at_hand) {
            (Ok(image), _) => WayIn::There(image),
            (Err(_), Some((command, _))) => WayIn::AtHand(command),
            (Err(_), None) => match kind(&fs::read_to_string(&kubeconfig).unwrap_or_default()) {
                Some(name) if images::can_be_made_here() => WayIn::Kind(name),
                Some(name) => bail!(
                    "the scripted agent's image is made on Debian 12; elsewhere build deploy/images/agent/Dockerfile as callboard-agent and deploy/images/agent-scripted/Dockerfile as callboard-agent-scripted:dev with Docker, then `kind load docker-image callboard-agent-scripted:dev --name {name}`, and set CALLBOARD_TEST_IMAGE=callboard-agent-scripted:dev"
                ),
                None => bail!(
                    "{}: neither kind's nor the test cluster's; build the image with `cargo xtask images agent-scripted`, bring it in, and name it as CALLBOARD_TEST_IMAGE",
                    kubeconfig.display()
                ),
            },
        };
        Ok(Some(Self { root: root.to_path_buf(), kubeconfig, kubectl, way_in }))
    }

    /// Builds the scripted agent's image and brings it in, unless it is there; returns its name.
    ///
    /// # Errors
    /// What the programs said.
    pub(crate) fn image(&mut self, steps: &mut Steps) -> Result<String> {
        let way_in = match &self.way_in {
            WayIn::There(image) => return Ok(image.clone()),
            WayIn::AtHand(_) | WayIn::Kind(_) => &self.way_in,
        };
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let made = images::build(&self.root, Image::AgentScripted, Profile::Dev, folder.path(), steps)?;
        steps.run("image into the cluster", || {
            run(&mut match way_in {
                WayIn::AtHand(command) => {
                    let mut load = inherited(command, &self.root);
                    load.arg("load").arg(&made.file);
                    load
                }
                WayIn::Kind(name) => {
                    let mut load = inherited("kind", &self.root);
                    load.args(["load", "image-archive"]).arg(&made.file).args(["--name", name]);
                    load
                }
                WayIn::There(_) => return Ok(()),
            })
        })?;
        self.way_in = WayIn::There(made.name.clone());
        Ok(made.name)
    }

    /// A `kubectl` of its version.
    pub(crate) fn kubectl(&self) -> Command {
        let mut kubectl = inherited(&self.kubectl, &self.root);
        kubectl.env("KUBECONFIG", &self.kubeconfig);
        kubectl
    }

    /// The file that names it.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where that is.
    pub(crate) fn kubectl_program(&self) -> &Path {
        &self.kubectl
    }

    /// This machine as pods see it: its address on the way to a node.
    ///
    /// # Errors
    /// When no node tells its address.
    pub(crate) fn host(&self) -> Result<IpAddr> {
        let nodes: Value =
            serde_json::from_str(&output(self.kubectl().args(["get", "nodes", "-o", "json"]))?)?;
        let node = nodes["items"].as_array().into_iter().flatten().find_map(|node| {
            let addresses = node["status"]["addresses"].as_array()?;
            let internal = addresses.iter().find(|address| address["type"] == "InternalIP")?;
            internal["address"].as_str()?.parse::<IpAddr>().ok()
        });
        let way = UdpSocket::bind("0.0.0.0:0")?;
        way.connect((node.context("no node of the cluster tells its address")?, 9))?;
        Ok(way.local_addr()?.ip())
    }
}

/// The test cluster's command and its kubectl, where `KUBECONFIG` is its.
fn at_hand(root: &Path, kubeconfig: &Path) -> Option<(PathBuf, PathBuf)> {
    let command = root.join(AT_HAND).canonicalize().ok()?;
    let status = output(inherited(&command, root).arg("status")).ok()?;
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    (fs::canonicalize(value("KUBECONFIG")?).ok()? == kubeconfig).then_some(())?;
    Some((command, value("KUBECTL")?.into()))
}

/// kind calls the context of its cluster `dev` `kind-dev`.
fn kind(kubeconfig: &str) -> Option<String> {
    let context = kubeconfig.lines().find_map(|line| line.trim().strip_prefix("current-context:"))?;
    Some(context.trim().trim_matches('"').strip_prefix("kind-")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_is_known_by_its_context() {
        assert_eq!(kind("kind: Config\ncurrent-context: kind-dev\n").as_deref(), Some("dev"));
        assert_eq!(kind("current-context: \"production\"\n"), None);
        assert_eq!(kind(""), None);
    }
}
