//! The cluster's API: how it is reached, how long it may take, and what its refusals mean.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, ensure};
use http::{Method, Request};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
    config::{KubeConfigOptions, Kubeconfig},
};
use proto::v1::attempt_ended::Cause;
use tower::{timeout::TimeoutLayer, util::MapRequestLayer};

use super::{KubernetesSettings, observe::tidy};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the API server may take to answer, or to begin with what is watched.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the API server lets a watch go on: a dead connection is noticed that late.
pub(super) const WATCH_SECONDS: u32 = 60;
/// Nothing is silent for longer than a watch lasts.
const SILENCE: Duration = Duration::from_secs(75);

/// The client of the cluster that `settings` name.
///
/// # Errors
/// When there is no such file, or it cannot be used. A cluster that is away is no error.
pub(super) async fn connect(settings: &KubernetesSettings) -> anyhow::Result<Client> {
    let mut config = match &settings.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .with_context(|| format!("executor.kubernetes.kubeconfig: {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("executor.kubernetes.kubeconfig: {}", path.display()))?
        }
        None if std::env::var_os("KUBECONFIG").is_some_and(|path| !path.is_empty()) => {
            Config::from_kubeconfig(&KubeConfigOptions::default()).await.context("KUBECONFIG")?
        }
        // Never a person's ~/.kube/config: what it says changes under our attempts.
        None => Config::incluster().context(
            "no cluster: set executor.kubernetes.kubeconfig or KUBECONFIG, or run in a pod with a service account",
        )?,
    };
    is_trusted(&config)?;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    config.write_timeout = Some(ANSWER);
    // Whoever calls tries again, and knows how long.
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config).context("the cluster's client")?;
    Ok(builder.with_layer(&TimeoutLayer::new(ANSWER)).with_layer(&MapRequestLayer::new(counted)).build())
}

/// Run tokens are sent to it.
fn is_trusted(config: &Config) -> anyhow::Result<()> {
    let host = config.cluster_url.host().unwrap_or_default();
    let is_loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    ensure!(
        config.cluster_url.scheme_str() == Some("https") || is_loopback,
        "the API server is at {}: tokens would travel in the clear; use https",
        config.cluster_url
    );
    ensure!(
        !config.accept_invalid_certs,
        "the kubeconfig says insecure-skip-tls-verify: anybody could be the API server; name its authority instead"
    );
    Ok(())
}

fn counted(request: Request<Body>) -> Request<Body> {
    let call = Call::of(request.method(), request.uri().path(), request.uri().query().unwrap_or_default());
    metrics::counter!("callboard_cluster_calls_total", "verb" => call.verb, "group" => call.group, "resource" => call.resource)
        .increment(1);
    request
}

/// A call, as the cluster's rights name it.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    verb: &'static str,
    /// Empty: the core group.
    group: String,
    /// With its subresource: `agentruns/status`.
    resource: String,
}

impl Call {
    fn of(method: &Method, path: &str, query: &str) -> Self {
        let mut words = path.split('/').filter(|word| !word.is_empty());
        let group = match words.next() {
            Some("apis") => words.next().unwrap_or_default(),
            Some(_) | None => "",
        };
        let _version = words.next();
        let mut words = words.peekable();
        if words.peek() == Some(&"namespaces") {
            words.next();
            words.next();
        }
        let (resource, name, part) = (words.next().unwrap_or_default(), words.next(), words.next());
        let verb = match (method.as_str(), name) {
            ("GET", Some(_)) => "get",
            ("GET", None) if query.split('&').any(|pair| pair == "watch=true") => "watch",
            ("GET", None) => "list",
            ("POST", _) => "create",
            ("PATCH", _) => "patch",
            ("PUT", _) => "update",
            ("DELETE", Some(_)) => "delete",
            ("DELETE", None) => "deletecollection",
            (_, _) => "other",
        };
        let resource = part.map_or_else(|| resource.to_owned(), |part| format!("{resource}/{part}"));
        Self { verb, group: group.to_owned(), resource }
    }
}

/// Said of a quota that is newer than the last count of what it limits; it passes within seconds
/// (Kubernetes, `apiserver/pkg/admission/plugin/resourcequota/controller.go`).
pub(super) const UNCOUNTED: &str = "status unknown for quota";

/// The cluster does not take what is made for an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) cause: Cause,
    /// A sentence for people.
    pub(super) message: String,
    /// Asking again soon does not help.
    pub(super) at_once: bool,
}

impl Refusal {
    /// What `error` says about `what` ("its Job"); `None` when it says nothing about it: the API
    /// server is away, or too busy.
    pub(super) fn of(error: &kube::Error, what: &str, namespace: &str) -> Option<Self> {
        let kube::Error::Api(status) = error else { return None };
        let words = tidy(&status.message);
        let terminating = status
            .details
            .iter()
            .flat_map(|details| &details.causes)
            .any(|cause| cause.reason == "NamespaceTerminating");
        let (cause, at_once, message) = match status.code {
            // What an administrator gives to the worker, or takes for a moment.
            403 if is_lack_of_rights(&status.message) => {
                (Cause::Denied, false, format!("The worker may not make {what} in {namespace}: {words}"))
            }
            403 if terminating => {
                (Cause::Deleted, true, format!("The namespace {namespace} is being deleted."))
            }
            403 if status.message.contains("exceeded quota") => {
                (Cause::Quota, false, format!("The quota of {namespace} leaves no room for {what}: {words}"))
            }
            403 if status.message.contains(UNCOUNTED) => {
                (Cause::Quota, false, format!("The quota of {namespace} is not counted yet: {words}"))
            }
            404 => (
                Cause::Denied,
                true,
                format!(
                    "The cluster does not know the namespace {namespace} or the kind AgentRun. Apply what `callboard worker manifests` prints. It says: {words}"
                ),
            ),
            400 | 403 | 422 => (Cause::Denied, true, format!("The cluster does not take {what}: {words}")),
            _ => return None,
        };
        Some(Self { cause, message, at_once })
    }

    /// What `error` says when it goes on for too long: the API server is away, or does not do
    /// what it is asked.
    pub(super) fn unanswered(error: &kube::Error) -> Self {
        let message = if let kube::Error::Api(status) = error {
            let words = tidy(&status.message);
            format!("The cluster does not do what it is asked: {words} ({})", status.code)
        } else {
            "The cluster does not answer.".to_owned()
        };
        Self { cause: Cause::Unschedulable, message, at_once: false }
    }
}

/// Whether it is refused because of who asks: `… is forbidden: User "worker" cannot create …`.
fn is_lack_of_rights(said: &str) -> bool {
    said.split_once(" is forbidden: User ").is_some_and(|(_, why)| why.contains(" cannot "))
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn calls_are_named_as_rights_are() {
        let name = |method: Method, path: &str, query: &str| {
            let Call { verb, group, resource } = Call::of(&method, path, query);
            format!("{verb} {resource}.{group}")
        };
        assert_eq!(
            name(Method::GET, "/api/v1/namespaces/a/pods", "watch=true&allowWatchBookmarks=true"),
            "watch pods."
        );
        assert_eq!(name(Method::GET, "/api/v1/namespaces/a/pods", "limit=500"), "list pods.");
        assert_eq!(name(Method::GET, "/api/v1/namespaces/a/pods/b/log", ""), "get pods/log.");
        let runs = "/apis/callboard.dev/v1alpha1/namespaces/a/agentruns";
        assert_eq!(name(Method::POST, runs, ""), "create agentruns.callboard.dev");
        assert_eq!(
            name(Method::PATCH, &format!("{runs}/b/status"), "force=true"),
            "patch agentruns/status.callboard.dev"
        );
        assert_eq!(name(Method::DELETE, "/apis/batch/v1/namespaces/a/jobs/b", ""), "delete jobs.batch");
        let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        assert_eq!(name(Method::POST, review, ""), "create selfsubjectaccessreviews.authorization.k8s.io");
    }

    #[test]
    fn a_refusal_is_told_from_an_outage() {
        let error =
            |code: u16, message: &str| kube::Error::Api(Status::failure(message, "").with_code(code).boxed());
        let of = |error: &kube::Error| Refusal::of(error, "its Job", "runs");
        assert_eq!(of(&error(503, "etcd is away")), None);
        assert_eq!(of(&error(409, "the object has been modified")), None);
        assert_eq!(of(&kube::Error::TlsRequired), None);
        let quota = of(&error(403, "jobs is forbidden: exceeded quota: runs")).unwrap();
        assert_eq!((quota.cause, quota.at_once), (Cause::Quota, false));
        let uncounted = of(&error(403, "jobs is forbidden: status unknown for quota: runs")).unwrap();
        assert_eq!((uncounted.cause, uncounted.at_once), (Cause::Quota, false));
        let role =
            "jobs.batch is forbidden: User \"worker\" cannot create resource \"jobs\" in API group \"batch\"";
        let lacking = of(&error(403, role)).unwrap();
        assert_eq!((lacking.cause, lacking.at_once), (Cause::Denied, false), "it may be given back");
        let denied = of(&error(403, "violates PodSecurity \"restricted\"")).unwrap();
        assert_eq!((denied.cause, denied.at_once), (Cause::Denied, true));
        let gone: Status = serde_json::from_value(serde_json::json!({
            "code": 403, "reason": "Forbidden", "message": "forbidden",
            "details": {"causes": [{"reason": "NamespaceTerminating"}]},
        }))
        .unwrap();
        assert_eq!(of(&kube::Error::Api(gone.boxed())).unwrap().cause, Cause::Deleted);
    }

    #[test]
    fn tokens_are_sent_to_no_api_server_that_anybody_could_be() {
        let config = |url: &str| Config::new(url.parse().unwrap());
        for trusted in ["https://10.0.0.1:6443", "http://127.0.0.1:8001", "http://[::1]:8001"] {
            assert!(is_trusted(&config(trusted)).is_ok(), "{trusted}");
        }
        assert!(is_trusted(&config("http://10.0.0.1:8080")).is_err());
        let mut unverified = config("https://10.0.0.1:6443");
        unverified.accept_invalid_certs = true;
        assert!(is_trusted(&unverified).is_err());
    }
}
