use proto::v1::{Placement, Toleration as AskedToleration, TopologySpread as AskedSpread};
use serde::Serialize;

use super::*;
use crate::kubernetes::{GatewayPods, fixtures};

fn yaml(object: &impl Serialize) -> String {
    serde_yaml::to_string(object).expect("YAML")
}

/// An attempt that asks for everything that can be asked for.
fn demanding() -> Desired {
    let placement = Placement {
        cpu_millis: 2500,
        storage_bytes: 1 << 30,
        image: "registry.example/other@sha256:0123".into(),
        priority: 70,
        node_selector: [("pool".to_owned(), "agents".to_owned())].into(),
        tolerations: vec![
            AskedToleration { key: "agents".into(), value: "yes".into(), effect: "NoSchedule".into() },
            AskedToleration { key: "spot".into(), ..AskedToleration::default() },
        ],
        topology_spread: vec![AskedSpread {
            topology_key: "topology.kubernetes.io/zone".into(),
            max_skew: 2,
            schedule_anyway: true,
        }],
    };
    let lease = proto::v1::AttemptLease { placement: Some(placement), ..fixtures::lease() };
    Desired::of(lease, &thrifty()).expect("a lease that can be run")
}

/// Settings that differ from the usual ones in everything that ends up in a pod.
fn thrifty() -> KubernetesSettings {
    let labels = [("app".to_owned(), "agent-gateway".to_owned())].into();
    KubernetesSettings {
        image_pull_policy: ImagePullPolicy::Never,
        image_pull_secrets: vec!["registry".into()],
        priority_classes: [(0, "low".to_owned()), (50, "high".to_owned()), (90, "urgent".to_owned())].into(),
        gateway: Gateway {
            pods: Some(GatewayPods { namespace: "callboard".into(), labels, port: 9443 }),
            ..fixtures::gateway()
        },
        ..fixtures::settings()
    }
}

#[test]
fn what_is_made_for_an_attempt() {
    let desired = fixtures::desired();
    let children =
        Children::of(&desired, &fixtures::owner(&desired), &fixtures::settings()).expect("children");
    let all = [
        yaml(&desired.agent_run()),
        yaml(&children.service_account),
        yaml(&children.secret),
        yaml(&children.network_policy),
        yaml(&children.job),
    ];
    insta::assert_snapshot!(all.join("---\n"));
}

#[test]
fn what_is_made_for_an_attempt_that_asks_for_all_it_can() {
    let desired = demanding();
    let children = Children::of(&desired, &fixtures::owner(&desired), &thrifty()).expect("children");
    insta::assert_snapshot!([yaml(&children.network_policy), yaml(&children.job)].join("---\n"));
}

#[test]
fn pods_of_all_settings_are_restricted() {
    for desired in [fixtures::desired(), demanding()] {
        for settings in [fixtures::settings(), thrifty()] {
            for url in ["https://callboard-agents:8081", "https://gateway.example", "https://10.213.0.1:8081"]
            {
                let gateway = Gateway { url: url.parse().expect("a URL"), ..settings.gateway.clone() };
                let settings = KubernetesSettings { gateway, ..settings.clone() };
                let children = Children::of(&desired, &fixtures::owner(&desired), &settings);
                let job = children.expect("children").job.spec.expect("a spec");
                assert_eq!(restricted::violations(&job.template), Vec::<String>::new());
            }
        }
    }
}

#[test]
fn the_secret_alone_holds_the_run_token() {
    let desired = fixtures::desired();
    let children =
        Children::of(&desired, &fixtures::owner(&desired), &fixtures::settings()).expect("children");
    assert!(yaml(&children.secret).contains("dGhlLXJ1bi10b2tlbg=="));
    let others = yaml(&desired.agent_run()) + &yaml(&children.job) + &yaml(&children.network_policy);
    assert!(!others.contains("the-run-token") && !others.contains("dGhlLXJ1bi10b2tlbg"), "{others}");
}

#[test]
fn nothing_is_made_without_an_owner_or_for_a_gateway_that_cannot_be() {
    let desired = fixtures::desired();
    let refused = Children::of(&desired, &desired.agent_run(), &fixtures::settings()).expect_err("no uid");
    assert!(refused.contains("no uid"), "{refused}");
    let gateway = Gateway { ip: "169.254.169.254".parse().expect("an address"), ..fixtures::gateway() };
    let settings = KubernetesSettings { gateway, ..fixtures::settings() };
    let refused =
        Children::of(&desired, &fixtures::owner(&desired), &settings).expect_err("metadata address");
    assert!(refused.contains("gateway_ip is 169.254.169.254"), "{refused}");
}

#[test]
fn a_lease_that_says_too_little_is_refused_with_a_sentence() {
    let refused = |change: &dyn Fn(&mut proto::v1::AttemptLease)| {
        let mut lease = fixtures::lease();
        change(&mut lease);
        Desired::of(lease, &fixtures::settings()).expect_err("refused")
    };
    assert!(refused(&|lease| lease.attempt_id = "x".into()).contains("a valid id"));
    assert!(refused(&|lease| lease.namespace.clear()).contains("a namespace"));
    assert!(refused(&|lease| lease.limits = None).contains("a limit on memory"));
}
