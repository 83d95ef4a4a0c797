//! What the worker may do in a namespace.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};

/// What of it is missing.
pub(crate) async fn missing(client: &Client, namespace: &str) -> kube::Result<Vec<String>> {
    let asked = ResourceAttributes {
        group: Some("callboard.dev".to_owned()),
        namespace: Some(namespace.to_owned()),
        resource: Some("agentruns".to_owned()),
        verb: Some("watch".to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(asked),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    let is_allowed = answer.status.is_some_and(|status| status.allowed);
    Ok(if is_allowed { Vec::new() } else { vec!["watch agentruns".to_owned()] })
}
