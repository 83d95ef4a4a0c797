//! Whom an attempt's pod may reach: the agent gateway, and nobody else. And a model of how
//! Kubernetes evaluates network policies, which says whether that is so.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort,
        NetworkPolicySpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
        util::intstr::IntOrString,
    },
};
use kube::api::ObjectMeta;

use super::{Gateway, objects::ATTEMPT};

/// The label of a namespace that is its name; Kubernetes sets it since 1.21.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// Where clouds give machines their credentials.
const METADATA_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 169, 254));
/// Somebody's server in the internet.
const INTERNET: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(1, 1, 1, 1));
/// As above, for clusters that speak IPv6.
const INTERNET_V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111));
/// Of any pod: from the range for documentation, so that nobody has it.
const SOME_POD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const DNS: u16 = 53;
const HTTPS: u16 = 443;

/// The policy of an attempt's pod.
pub(crate) fn of_attempt(metadata: ObjectMeta, attempt: &str, gateway: &Gateway) -> NetworkPolicy {
    let rule = |peer, port: u16| NetworkPolicyEgressRule {
        to: Some(vec![peer]),
        ports: Some(vec![NetworkPolicyPort {
            protocol: Some("TCP".to_owned()),
            port: Some(IntOrString::Int(i32::from(port))),
            end_port: None,
        }]),
    };
    let bits = if gateway.ip.is_ipv4() { 32 } else { 128 };
    let address = NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: format!("{}/{bits}", gateway.ip), except: None }),
        ..NetworkPolicyPeer::default()
    };
    let pods = gateway.pods.as_ref().map(|pods| {
        let namespace = [(NAMESPACE_NAME.to_owned(), pods.namespace.clone())].into();
        let peer = NetworkPolicyPeer {
            namespace_selector: Some(labelled(namespace)),
            pod_selector: Some(labelled(pods.labels.clone())),
            ip_block: None,
        };
        rule(peer, pods.port)
    });
    let egress = std::iter::once(rule(address, port(gateway))).chain(pods).collect();
    NetworkPolicy {
        metadata,
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labelled([(ATTEMPT.to_owned(), attempt.to_owned())].into())),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            // Said, so that what somebody else adds is taken away again.
            ingress: Some(Vec::new()),
            egress: Some(egress),
        }),
    }
}

/// The policy of a namespace for every pod that has no other: it reaches nobody, and nobody
/// reaches it.
pub(crate) fn deny_all(metadata: ObjectMeta) -> NetworkPolicy {
    NetworkPolicy {
        metadata,
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector::default()),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ..NetworkPolicySpec::default()
        }),
    }
}

fn labelled(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

/// The port of the agent gateway as its address says it.
fn port(gateway: &Gateway) -> u16 {
    gateway.url.port_or_known_default().unwrap_or(HTTPS)
}

/// What `policy` would let the pod with `labels` in `namespace` do beyond reaching the gateway,
/// a sentence each; also when the gateway is at an address that may not be reached.
pub(crate) fn excesses(
    policy: &NetworkPolicy,
    namespace: &str,
    labels: &BTreeMap<String, String>,
    gateway: &Gateway,
) -> Vec<String> {
    if !is_possible(gateway.ip) {
        return vec![format!(
            "executor.kubernetes.gateway_ip is {}, which is no address the agent gateway can have; correct it.",
            gateway.ip
        )];
    }
    if gateway.pods.as_ref().is_some_and(|pods| pods.labels.is_empty()) {
        return vec![
            "executor.kubernetes.gateway_pods has no labels, which are those of every pod there; name the agent gateway's.".to_owned(),
        ];
    }
    let none = BTreeMap::new();
    let named = |namespace: &str| BTreeMap::from([(NAMESPACE_NAME.to_owned(), namespace.to_owned())]);
    let gateways_namespace = gateway.pods.as_ref().map_or("other", |pods| pods.namespace.as_str());
    let (own_labels, gateways_labels) = (named(namespace), named(gateways_namespace));
    let pod = Pod { namespace, namespace_labels: &own_labels, labels };
    let own = Endpoint { ip: SOME_POD, pod: Some(pod) };
    let policies = std::slice::from_ref(policy);
    let gateway_port = port(gateway);
    let pods_port = gateway.pods.as_ref().map_or(gateway_port, |pods| pods.port);
    let others: [(&str, Endpoint<'_>, Protocol, u16); 12] = [
        ("the metadata address", Endpoint::address(METADATA_ADDRESS), Protocol::Tcp, 80),
        ("the metadata address", Endpoint::address(METADATA_ADDRESS), Protocol::Tcp, gateway_port),
        (
            "the address beside the gateway's",
            Endpoint::address(neighbour(gateway.ip)),
            Protocol::Tcp,
            gateway_port,
        ),
        ("the internet", Endpoint::address(INTERNET), Protocol::Tcp, gateway_port),
        ("the internet", Endpoint::address(INTERNET_V6), Protocol::Tcp, gateway_port),
        ("a name server", Endpoint::address(INTERNET), Protocol::Udp, DNS),
        ("a name server at the gateway's address", Endpoint::address(gateway.ip), Protocol::Udp, DNS),
        (
            "another port of the gateway's address",
            Endpoint::address(gateway.ip),
            Protocol::Tcp,
            gateway_port ^ 1,
        ),
        ("the gateway's port over UDP", Endpoint::address(gateway.ip), Protocol::Udp, gateway_port),
        (
            "another pod of its namespace",
            Endpoint { pod: Some(Pod { labels: &none, ..pod }), ..own },
            Protocol::Tcp,
            gateway_port,
        ),
        (
            "a pod of another namespace",
            Endpoint { pod: Some(Pod { namespace: "other", namespace_labels: &none, labels: &none }), ..own },
            Protocol::Tcp,
            pods_port,
        ),
        (
            "another pod of the agent gateway's namespace",
            Endpoint {
                pod: Some(Pod {
                    namespace: gateways_namespace,
                    namespace_labels: &gateways_labels,
                    labels: &none,
                }),
                ..own
            },
            Protocol::Tcp,
            pods_port,
        ),
    ];
    let mut found: Vec<String> = others
        .into_iter()
        .filter(|(_, other, protocol, port)| is_allowed(policies, own, *other, *protocol, *port))
        .map(|(whom, ..)| format!("It could reach {whom}."))
        .collect();
    let stranger = Endpoint { pod: Some(Pod { labels: &none, ..pod }), ..own };
    if is_allowed(policies, stranger, own, Protocol::Tcp, gateway_port) {
        found.push("Others could reach it.".to_owned());
    }
    if !is_allowed(policies, own, Endpoint::address(gateway.ip), Protocol::Tcp, gateway_port) {
        found.push("It could not reach the agent gateway.".to_owned());
    }
    found
}

/// Whether a server that pods are to reach can be at an address.
fn is_possible(gateway: IpAddr) -> bool {
    let is_local = match gateway {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(is_local || gateway.is_loopback() || gateway.is_unspecified() || gateway.is_multicast())
}

/// The address next to one: in every block with more than one address.
fn neighbour(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) ^ 1).into()),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) ^ 1).into()),
    }
}

/// A pod, as far as policies care.
#[derive(Clone, Copy, Debug)]
struct Pod<'a> {
    namespace: &'a str,
    namespace_labels: &'a BTreeMap<String, String>,
    labels: &'a BTreeMap<String, String>,
}

/// One end of a connection: an address, and the pod that has it, if one has.
#[derive(Clone, Copy, Debug)]
struct Endpoint<'a> {
    ip: IpAddr,
    pod: Option<Pod<'a>>,
}

impl Endpoint<'_> {
    fn address(ip: IpAddr) -> Self {
        Self { ip, pod: None }
    }
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// Whether `from` may connect to `to`, with `policies` and no others in all namespaces: the pods
/// at both ends must let it pass, and a pod that no policy selects lets everything pass.
///
/// An address block counts for pods, too: whether it does is left to the network plugin. A port
/// that is named, and not numbered, counts for every port.
fn is_allowed(
    policies: &[NetworkPolicy],
    from: Endpoint<'_>,
    to: Endpoint<'_>,
    protocol: Protocol,
    port: u16,
) -> bool {
    let passes = |end: Endpoint<'_>, other: Endpoint<'_>, direction: Direction| {
        let Some(pod) = end.pod else { return true };
        let mut selecting = policies.iter().filter(|policy| selects(policy, pod, direction)).peekable();
        selecting.peek().is_none()
            || selecting.any(|policy| {
                rules(policy, direction).iter().any(|rule| rule.admits(policy, other, protocol, port))
            })
    };
    passes(from, to, Direction::Egress) && passes(to, from, Direction::Ingress)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

/// A rule of either direction.
struct Rule<'a> {
    peers: &'a [NetworkPolicyPeer],
    ports: &'a [NetworkPolicyPort],
}

fn rules(policy: &NetworkPolicy, direction: Direction) -> Vec<Rule<'_>> {
    fn all<T>(list: Option<&Vec<T>>) -> &[T] {
        list.map_or(&[], Vec::as_slice)
    }
    let Some(spec) = &policy.spec else { return Vec::new() };
    match direction {
        Direction::Ingress => all(spec.ingress.as_ref())
            .iter()
            .map(|rule| Rule { peers: all(rule.from.as_ref()), ports: all(rule.ports.as_ref()) })
            .collect(),
        Direction::Egress => all(spec.egress.as_ref())
            .iter()
            .map(|rule| Rule { peers: all(rule.to.as_ref()), ports: all(rule.ports.as_ref()) })
            .collect(),
    }
}

/// Whether `policy` says something about `pod` in that direction.
fn selects(policy: &NetworkPolicy, pod: Pod<'_>, direction: Direction) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let says = match (direction, &spec.policy_types) {
        (Direction::Ingress, Some(types)) => types.iter().any(|name| name == "Ingress"),
        (Direction::Egress, Some(types)) => types.iter().any(|name| name == "Egress"),
        // As Kubernetes fills it in.
        (Direction::Ingress, None) => true,
        (Direction::Egress, None) => spec.egress.is_some(),
    };
    says && policy.metadata.namespace.as_deref() == Some(pod.namespace)
        && matches(spec.pod_selector.as_ref(), pod.labels)
}

impl Rule<'_> {
    fn admits(&self, policy: &NetworkPolicy, other: Endpoint<'_>, protocol: Protocol, port: u16) -> bool {
        let peer = self.peers.is_empty() || self.peers.iter().any(|peer| is_peer(policy, peer, other));
        peer && (self.ports.is_empty() || self.ports.iter().any(|open| is_port(open, protocol, port)))
    }
}

fn is_peer(policy: &NetworkPolicy, peer: &NetworkPolicyPeer, other: Endpoint<'_>) -> bool {
    if let Some(block) = &peer.ip_block {
        let excepted = block.except.iter().flatten().any(|cidr| is_within(other.ip, cidr));
        return is_within(other.ip, &block.cidr) && !excepted;
    }
    let Some(pod) = other.pod else { return false };
    let in_namespace = match &peer.namespace_selector {
        Some(selector) => matches(Some(selector), pod.namespace_labels),
        None => policy.metadata.namespace.as_deref() == Some(pod.namespace),
    };
    in_namespace && matches(peer.pod_selector.as_ref(), pod.labels)
}

fn is_port(open: &NetworkPolicyPort, protocol: Protocol, port: u16) -> bool {
    let port = i32::from(port);
    open.protocol.as_deref().unwrap_or("TCP") == protocol.as_str()
        && match (&open.port, open.end_port) {
            (None | Some(IntOrString::String(_)), _) => true,
            (Some(IntOrString::Int(first)), Some(last)) => (*first..=last).contains(&port),
            (Some(IntOrString::Int(only)), None) => *only == port,
        }
}

/// Whether an address is within a block such as `10.0.0.0/8`; in one that cannot be read,
/// everything is.
fn is_within(ip: IpAddr, cidr: &str) -> bool {
    let parsed = cidr.split_once('/').and_then(|(base, bits)| Some((base.parse().ok()?, bits.parse().ok()?)));
    let number = |ip: IpAddr| match ip {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    };
    match parsed {
        Some((base, bits)) => {
            let _: (IpAddr, u32) = (base, bits);
            let differing = (number(ip) ^ number(base)).checked_shr(128 - bits.min(128)).unwrap_or(0);
            ip.is_ipv4() == base.is_ipv4() && differing == 0
        }
        None => true,
    }
}

/// Whether `selector` selects what has `labels`; an empty one selects everything.
fn matches(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else { return true };
    let holds = |wanted: &LabelSelectorRequirement| {
        let value = labels.get(&wanted.key);
        let is_listed = value.is_some_and(|value| wanted.values.iter().flatten().any(|one| one == value));
        match wanted.operator.as_str() {
            "In" => is_listed,
            "NotIn" => !is_listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            // Unknown: it may select.
            _ => true,
        }
    };
    selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().flatten().all(holds)
}

#[cfg(test)]
mod tests;
