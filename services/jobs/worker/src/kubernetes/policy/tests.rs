//! Who reaches whom, in a namespace as `callboard worker manifests` makes it.

use super::*;
use crate::kubernetes::{GatewayPods, fixtures, objects};

const NAMESPACE: &str = "callboard-demo-374708ff";

/// A cluster with an attempt's pod in it.
struct Cluster {
    policies: Vec<NetworkPolicy>,
    attempt: BTreeMap<String, String>,
    gateway: Gateway,
}

impl Cluster {
    fn new(gateway: Gateway) -> Self {
        let desired = fixtures::desired();
        let metadata = |name: &str| ObjectMeta {
            name: Some(name.into()),
            namespace: Some(NAMESPACE.into()),
            ..ObjectMeta::default()
        };
        let own = of_attempt(metadata("attempt"), &desired.spec.attempt, &gateway);
        Self {
            policies: vec![deny_all(metadata("nothing-by-default")), own],
            attempt: objects::labels(&desired),
            gateway,
        }
    }

    fn attempt(&self) -> Endpoint<'_> {
        pod("10.213.1.5", NAMESPACE, &self.attempt)
    }

    fn reaches(&self, to: Endpoint<'_>, protocol: Protocol, port: u16) -> bool {
        is_allowed(&self.policies, self.attempt(), to, protocol, port)
    }
}

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

fn pod<'a>(ip: &str, namespace: &'a str, labels: &'a BTreeMap<String, String>) -> Endpoint<'a> {
    let ip = ip.parse().expect("an address");
    Endpoint { ip, pod: Some(Pod { namespace, namespace_labels: &NO_LABELS, labels }) }
}

fn address(ip: &str) -> Endpoint<'_> {
    Endpoint::address(ip.parse().expect("an address"))
}

#[test]
fn an_attempt_reaches_the_agent_gateway_and_nothing_else() {
    let cluster = Cluster::new(fixtures::gateway());
    let sibling: BTreeMap<_, _> = [("callboard.dev/attempt".to_owned(), "another".to_owned())].into();
    for (what, to, protocol, port, expected) in [
        ("agent gateway", address("10.213.0.1"), Protocol::Tcp, 8081, true),
        ("agent gateway, another port", address("10.213.0.1"), Protocol::Tcp, 8080, false),
        ("agent gateway, UDP", address("10.213.0.1"), Protocol::Udp, 8081, false),
        ("API server, as a service", address("10.96.0.1"), Protocol::Tcp, 443, false),
        ("API server", address("10.213.0.2"), Protocol::Tcp, 6443, false),
        ("API server at the gateway's address", address("10.213.0.1"), Protocol::Tcp, 6443, false),
        ("metadata address", address("169.254.169.254"), Protocol::Tcp, 80, false),
        ("DNS, UDP", address("10.96.0.10"), Protocol::Udp, 53, false),
        ("DNS, TCP", address("10.96.0.10"), Protocol::Tcp, 53, false),
        ("the internet", address("140.82.121.4"), Protocol::Tcp, 443, false),
        ("the internet, the gateway's port", address("140.82.121.4"), Protocol::Tcp, 8081, false),
        ("the internet, IPv6", address("2606:50c0:8000::153"), Protocol::Tcp, 8081, false),
        ("its own node's kubelet", address("10.213.0.2"), Protocol::Tcp, 10250, false),
        ("another attempt", pod("10.213.1.6", NAMESPACE, &sibling), Protocol::Tcp, 8081, false),
        ("a pod of another namespace", pod("10.213.1.7", "other", &NO_LABELS), Protocol::Tcp, 8081, false),
    ] {
        assert_eq!(cluster.reaches(to, protocol, port), expected, "{what}");
    }
}

#[test]
fn nobody_reaches_an_attempt_and_other_pods_of_its_namespace_reach_nobody() {
    let cluster = Cluster::new(fixtures::gateway());
    let other = pod("10.213.1.6", NAMESPACE, &NO_LABELS);
    let away = pod("10.213.1.7", "other", &NO_LABELS);
    let to = |from, to, port| is_allowed(&cluster.policies, from, to, Protocol::Tcp, port);
    for from in [other, away, address("10.213.0.2")] {
        assert!(!to(from, cluster.attempt(), 8081), "{from:?}");
    }
    // A pod that is no attempt, whatever it is called.
    assert!(!to(other, address("10.213.0.1"), 8081));
    assert!(!to(other, away, 80));
    // Elsewhere our policies say nothing.
    assert!(to(away, address("10.213.0.1"), 8081));
}

#[test]
fn a_gateway_in_the_cluster_is_reached_at_its_pods_and_those_only() {
    let labels: BTreeMap<_, _> = [("app".to_owned(), "agent-gateway".to_owned())].into();
    let pods = GatewayPods { namespace: "callboard".into(), labels: labels.clone(), port: 9443 };
    let cluster = Cluster::new(Gateway { pods: Some(pods), ..fixtures::gateway() });
    let namespace: BTreeMap<_, _> = [(NAMESPACE_NAME.to_owned(), "callboard".to_owned())].into();
    let at = |namespace, namespace_labels, labels| Endpoint {
        ip: "10.213.1.9".parse().expect("an address"),
        pod: Some(Pod { namespace, namespace_labels, labels }),
    };
    let gateway = at("callboard", &namespace, &labels);
    assert!(cluster.reaches(gateway, Protocol::Tcp, 9443));
    assert!(!cluster.reaches(gateway, Protocol::Tcp, 8081), "that port is the service's");
    assert!(!cluster.reaches(gateway, Protocol::Udp, 9443));
    assert!(
        !cluster.reaches(at("callboard", &namespace, &NO_LABELS), Protocol::Tcp, 9443),
        "another pod there"
    );
    assert!(
        !cluster.reaches(at("other", &NO_LABELS, &labels), Protocol::Tcp, 9443),
        "the same label elsewhere"
    );
    assert!(
        cluster.reaches(address("10.213.0.1"), Protocol::Tcp, 8081),
        "its service, where plugins see that"
    );
    let excesses = |gateway: &Gateway| {
        let cluster = Cluster::new(gateway.clone());
        excesses(&cluster.policies[1], NAMESPACE, &cluster.attempt, gateway).join(" ")
    };
    assert_eq!(excesses(&cluster.gateway), "");
    let everybody = GatewayPods { namespace: "callboard".into(), labels: BTreeMap::new(), port: 9443 };
    let open = Gateway { pods: Some(everybody), ..fixtures::gateway() };
    assert!(excesses(&open).contains("gateway_pods has no labels"));

    // The model would have noticed.
    let mut policy = cluster.policies[1].clone();
    let egress = policy.spec.as_mut().and_then(|spec| spec.egress.as_mut()).expect("egress");
    egress[1].to.as_mut().expect("peers")[0].pod_selector = Some(LabelSelector::default());
    let found = super::excesses(&policy, NAMESPACE, &cluster.attempt, &cluster.gateway).join(" ");
    assert!(found.contains("another pod of the agent gateway's namespace"), "{found}");
}

#[test]
fn a_policy_that_allows_more_is_found() {
    let Cluster { policies, attempt, gateway } = Cluster::new(fixtures::gateway());
    let with = |change: &dyn Fn(&mut NetworkPolicySpec)| {
        let mut policy = policies[1].clone();
        change(policy.spec.as_mut().expect("a spec"));
        excesses(&policy, NAMESPACE, &attempt, &gateway).join(" ")
    };
    let peers = |spec: &mut NetworkPolicySpec, peers: Option<Vec<NetworkPolicyPeer>>| {
        spec.egress.as_mut().expect("egress")[0].to = peers;
    };
    let block = |cidr: &str| NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: cidr.into(), except: None }),
        ..NetworkPolicyPeer::default()
    };
    assert_eq!(with(&|_| ()), "");
    assert!(with(&|s| peers(s, Some(vec![block("0.0.0.0/0")]))).contains("the internet"));
    assert!(with(&|s| peers(s, Some(vec![block("::/0")]))).contains("the internet"));
    assert!(
        with(&|s| peers(s, Some(vec![block("169.254.0.0/16"), block("10.213.0.1/32")]))).contains("metadata")
    );
    assert!(with(&|s| peers(s, Some(vec![block("10.213.0.0/31")]))).contains("beside the gateway's"));
    assert!(with(&|s| peers(s, None)).contains("another pod of its namespace"));
    let everybody =
        NetworkPolicyPeer { pod_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() };
    assert!(
        with(&|s| peers(s, Some(vec![everybody.clone(), block("10.213.0.1/32")]))).contains("another pod")
    );
    assert!(
        with(&|s| s.egress.as_mut().expect("egress")[0].ports = None)
            .contains("a name server at the gateway's")
    );
    assert!(
        with(&|s| s.egress.as_mut().expect("egress").push(NetworkPolicyEgressRule::default()))
            .contains("metadata")
    );
    assert!(with(&|s| s.policy_types = Some(vec!["Ingress".into()])).contains("metadata"));
    assert!(with(&|s| s.policy_types = Some(vec!["Egress".into()])).contains("Others could reach it"));
    assert!(with(&|s| s.egress = None).contains("could not reach the agent gateway"));
    assert!(
        with(&|s| s.pod_selector = Some(labelled([("x".into(), "y".into())].into())))
            .contains("the internet")
    );
    for ip in ["169.254.169.254", "127.0.0.1", "0.0.0.0", "fe80::1"] {
        let gateway = Gateway { ip: ip.parse().expect("an address"), ..fixtures::gateway() };
        let cluster = Cluster::new(gateway);
        let found = excesses(&cluster.policies[1], NAMESPACE, &cluster.attempt, &cluster.gateway);
        assert!(found.join(" ").contains("gateway_ip"), "{ip}: {found:?}");
    }
}

#[test]
fn blocks_and_selectors_are_read_as_kubernetes_does() {
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    for (address, block, expected) in [
        ("10.1.2.3", "10.0.0.0/8", true),
        ("11.1.2.3", "10.0.0.0/8", false),
        ("10.1.2.3", "10.1.2.3/32", true),
        ("10.1.2.2", "10.1.2.3/32", false),
        ("8.8.8.8", "0.0.0.0/0", true),
        ("::1", "0.0.0.0/0", false),
        ("2001:db8::1", "2001:db8::/32", true),
        ("2001:db9::1", "2001:db8::/32", false),
        ("10.1.2.3", "::/0", false),
    ] {
        assert_eq!(is_within(ip(address), block), expected, "{address} {block}");
    }
    let labels: BTreeMap<_, _> = [("a".to_owned(), "1".to_owned())].into();
    let expression = |key: &str, operator: &str, values: &[&str]| LabelSelector {
        match_labels: None,
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: key.into(),
            operator: operator.into(),
            values: Some(values.iter().map(|v| (*v).into()).collect()),
        }]),
    };
    for (selector, expected) in [
        (LabelSelector::default(), true),
        (expression("a", "In", &["1", "2"]), true),
        (expression("a", "NotIn", &["1"]), false),
        (expression("b", "NotIn", &["1"]), true),
        (expression("a", "Exists", &[]), true),
        (expression("a", "DoesNotExist", &[]), false),
        (expression("b", "In", &["1"]), false),
    ] {
        assert_eq!(matches(Some(&selector), &labels), expected, "{selector:?}");
    }
}
