//! What the worker may do in the cluster: what it does, in the namespaces of runs, and nothing
//! anywhere else.

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    rbac::v1::{PolicyRule, Role},
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

/// What may be done to one kind of object in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// The group of its API; empty: the core group.
    pub group: &'static str,
    /// Its name, with the part of it: `agentruns/status`.
    pub resource: &'static str,
    /// What may be done.
    pub verbs: &'static [&'static str],
}

const fn right(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Right {
    Right { group, resource, verbs }
}

/// An object that is applied may have to be made.
const APPLIED: &[&str] = &["create", "delete", "list", "patch", "watch"];

/// Exactly what the worker does.
pub const RIGHTS: &[Right] = &[
    right("callboard.dev", "agentruns", &["create", "delete", "get", "list", "watch"]),
    right("callboard.dev", "agentruns/status", &["patch"]),
    right("batch", "jobs", APPLIED),
    right("networking.k8s.io", "networkpolicies", APPLIED),
    right("", "secrets", APPLIED),
    right("", "serviceaccounts", APPLIED),
    right("", "pods", &["delete", "list", "watch"]),
    right("", "pods/log", &["get"]),
    right("", "events", &["list"]),
];

/// What `callboard check` looks at beside that.
pub(crate) const LOOKED_AT: &[Right] = &[
    right("", "namespaces", &["get"]),
    right("", "resourcequotas", &["list"]),
    right("", "limitranges", &["list"]),
];

/// The name of the worker's Role in a namespace.
pub(crate) const ROLE: &str = "callboard-worker";

/// The worker's Role in a namespace.
pub(crate) fn role(namespace: &str) -> Role {
    let rule = |right: &Right| {
        let texts = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        PolicyRule {
            api_groups: Some(texts(&[right.group])),
            resources: Some(texts(&[right.resource])),
            verbs: texts(right.verbs),
            ..PolicyRule::default()
        }
    };
    Role {
        metadata: ObjectMeta {
            name: Some(ROLE.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        rules: Some(RIGHTS.iter().chain(LOOKED_AT).map(rule).collect()),
    }
}

/// Reviews asked for at the same time.
const AT_ONCE: usize = 8;

/// What the worker may not do in a namespace although it does it: `delete secrets`.
///
/// # Errors
/// When the API server does not answer.
pub(crate) async fn missing(client: &Client, namespace: &str) -> kube::Result<Vec<String>> {
    let all = RIGHTS.iter().flat_map(|right| right.verbs.iter().map(move |verb| (*right, *verb)));
    let reviews: Vec<_> = all.map(|(right, verb)| review(client, namespace, right, verb)).collect();
    let answers: Vec<_> = stream::iter(reviews).buffered(AT_ONCE).try_collect().await?;
    Ok(answers.into_iter().flatten().collect())
}

/// What is missing when one thing may not be done.
async fn review(
    client: &Client,
    namespace: &str,
    right: Right,
    verb: &'static str,
) -> kube::Result<Option<String>> {
    let (resource, part) = match right.resource.split_once('/') {
        Some((resource, part)) => (resource, Some(part.to_owned())),
        None => (right.resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(right.group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource: part,
                verb: Some(verb.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    let is_allowed = answer.status.is_some_and(|status| status.allowed);
    Ok((!is_allowed).then(|| format!("{verb} {}", right.resource)))
}
