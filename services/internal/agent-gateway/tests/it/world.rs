//! One gateway, one control plane, one live attempt.

use std::{path::PathBuf, sync::Arc};

use agent_gateway::{Listen, ModelBackend, Settings};
use chrono::{DateTime, TimeDelta, Utc};
use domain::clock::Clock;
use proto::v1::runner_service_client::RunnerServiceClient;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use telemetry::{
    address::Address,
    identity::{Identity, Subject},
    signing::{Claims, SigningKey},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Status, service::interceptor::InterceptedService, transport::Channel};

use crate::control_plane::ControlPlane;

pub(crate) const ATTEMPT: &str = "0198a6a4-7c1e-7d5b-9a51-0a1b2c3d4e5f";
pub(crate) const RUN: &str = "0198a6a4-7c1e-7d5b-9a51-000000000001";
pub(crate) const MODEL_KEY: &str = "sk-the-model-key";

/// What the clock says, always.
pub(crate) fn noon() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
}

#[derive(Debug)]
struct StandingClock;

impl Clock for StandingClock {
    fn now(&self) -> DateTime<Utc> {
        noon()
    }
}

pub(crate) struct World {
    pub(crate) control_plane: ControlPlane,
    pub(crate) url: String,
    pub(crate) settings: Settings,
    pub(crate) folder: TempDir,
    pub(crate) key: SigningKey,
    pub(crate) gateway: JoinHandle<anyhow::Result<()>>,
    pub(crate) stop: DropGuard,
    /// Dropped: the control plane is away.
    pub(crate) control_plane_up: Option<oneshot::Sender<()>>,
}

pub(crate) type Runner = RunnerServiceClient<
    InterceptedService<Channel, Box<dyn FnMut(Request<()>) -> Result<Request<()>, Status> + Send>>,
>;

impl World {
    /// Without a model.
    pub(crate) async fn new() -> Self {
        Self::with_models(Vec::new()).await
    }

    pub(crate) async fn with_model(base_url: &str) -> Self {
        let api_key = Some(SecretString::from(MODEL_KEY));
        Self::with_models(vec![ModelBackend {
            name: "small".into(),
            base_url: base_url.parse().expect("a URL"),
            api_key,
        }])
        .await
    }

    async fn with_models(models: Vec<ModelBackend>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let identity = Identity::generate(Subject::AgentGateway);
        let key = SigningKey::generate();
        let control_plane = ControlPlane::new(key.public(), identity.public());
        let socket = folder.path().join("cp.sock");
        let control_plane_up = Some(control_plane.start(&socket));
        let settings = Settings {
            control_plane: Address::Unix(socket),
            identity: Arc::new(identity),
            clock: Arc::new(StandingClock),
            models,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let token = CancellationToken::new();
        let gateway =
            tokio::spawn(agent_gateway::run(settings.clone(), Listen::Tcp(listener), token.clone()));
        Self {
            control_plane,
            url,
            settings,
            folder,
            key,
            gateway,
            stop: token.drop_guard(),
            control_plane_up,
        }
    }

    /// A second listener of the same gateway, with TLS for `localhost`: its port, and the
    /// authority of its certificate.
    pub(crate) async fn over_tls(&self) -> (u16, String, DropGuard) {
        let (authority, certificate, key) = certificate();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let token = CancellationToken::new();
        let listen = Listen::Tls { listener, certificate: certificate.into(), key: secret(&key) };
        tokio::spawn(agent_gateway::run(self.settings.clone(), listen, token.clone()));
        (port, authority, token.drop_guard())
    }

    /// A second listener of the same gateway, on a Unix socket.
    pub(crate) async fn on_unix_socket(&self) -> (PathBuf, DropGuard, JoinHandle<anyhow::Result<()>>) {
        let path = self.folder.path().join("agents.sock");
        let token = CancellationToken::new();
        let listen = Listen::Unix { path: path.clone(), group: None };
        let gateway = tokio::spawn(agent_gateway::run(self.settings.clone(), listen, token.clone()));
        while tokio::net::UnixStream::connect(&path).await.is_err() {
            assert!(!gateway.is_finished(), "the gateway did not start");
            tokio::task::yield_now().await;
        }
        (path, token.drop_guard(), gateway)
    }

    pub(crate) fn claims(&self) -> Claims {
        let now = noon().timestamp();
        Claims {
            aud: "agent-gateway".into(),
            sub: ATTEMPT.into(),
            run: Some(RUN.into()),
            iat: now,
            exp: now + 600,
        }
    }

    pub(crate) fn token(&self) -> String {
        self.key.sign("k1", &self.claims()).expose_secret().to_owned()
    }

    /// A runner with this token.
    pub(crate) fn runner(&self, address: &str, token: &str) -> Runner {
        let channel = address.parse::<Address>().expect("an address").channel().expect("near");
        let value =
            format!("Bearer {token}").parse::<tonic::metadata::MetadataValue<_>>().expect("a header value");
        RunnerServiceClient::with_interceptor(
            channel,
            Box::new(move |mut request| {
                request.metadata_mut().insert("authorization", value.clone());
                Ok(request)
            }),
        )
    }
}

pub(crate) fn secret(text: &str) -> SecretBox<Vec<u8>> {
    SecretBox::new(Box::new(text.as_bytes().to_vec()))
}

/// An authority, a certificate of it for `localhost`, and that one's key, all PEM.
pub(crate) fn certificate() -> (String, String, String) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).expect("signed").pem();
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .and_then(|server| server.signed_by(&key, &Issuer::from_params(&authority, &authority_key)))
        .expect("signed");
    (authority_pem, certificate.pem(), key.serialize_pem())
}

/// A client that follows nothing and asks nobody on the way.
pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client")
}
