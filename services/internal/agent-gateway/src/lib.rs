//! The agent gateway: the only address a pod can reach.
//!
//! Every request carries the run token of one attempt. The gateway proves that the attempt is
//! live, and passes on what an attempt may do: talk to the control plane as itself, read its
//! one repository, ask the configured model. It has no rules of its own and no SQL, and it
//! holds no signing key.

mod attempts;
mod git;
mod limits;
mod listen;
mod model;
mod problem;
mod relay;
mod router;
mod runner;
mod tls;
mod upload;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use axum::Router;
use domain::clock::Clock;
use proto::v1::{KeysRequest, attempt_service_client::AttemptServiceClient};
use secrecy::{SecretBox, SecretString};
use telemetry::{
    address::{Address, AddressError},
    admin::Readiness,
    identity::{AuthenticatedChannel, Identity, connect},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use tls::TlsListener;

/// How long streams may go on after the gateway was told to end.
const GRACE: Duration = Duration::from_secs(10);
/// Connections open at one time.
const MAX_CONNECTIONS: usize = 512;
/// How long the readiness check waits for the control plane.
const READINESS_PATIENCE: Duration = Duration::from_secs(2);

/// What the gateway needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the control plane is.
    pub control_plane: Address,
    /// Who the gateway is, for the control plane.
    pub identity: Arc<Identity>,
    /// Decides when a run token has expired.
    pub clock: Arc<dyn Clock>,
    /// Model backends; the first one is used.
    pub models: Vec<ModelBackend>,
}

/// An OpenAI-compatible model backend.
#[derive(Clone, Debug)]
pub struct ModelBackend {
    /// Its name in the configuration.
    pub name: String,
    /// As OpenAI clients take it, with its version: `https://api.openai.com/v1`.
    pub base_url: Url,
    /// Added to every request as bearer; never seen by a pod.
    pub api_key: Option<SecretString>,
}

/// Where the gateway listens.
#[derive(Debug)]
pub enum Listen {
    /// A Unix socket. A stale one at this path is replaced.
    Unix {
        /// At most 107 bytes.
        path: PathBuf,
        /// The group that may open it (mode 0660); without one only its owner may (0600).
        group: Option<u32>,
    },
    /// TCP, on loopback only: tokens do not travel in the clear.
    Tcp(TcpListener),
    /// TLS over TCP, on any address.
    Tls {
        /// Where.
        listener: TcpListener,
        /// The certificate for the name agents know, and its chain, PEM. Read once, at the start.
        certificate: Vec<u8>,
        /// Its key, PEM.
        key: SecretBox<Vec<u8>>,
    },
}

/// Serves attempts until `shutdown`; what is in flight then gets ten seconds to end.
///
/// # Errors
/// When it cannot listen there or certificate and key cannot be used, or a model backend is configured that cannot be used.
pub async fn run(settings: Settings, listen: Listen, shutdown: CancellationToken) -> anyhow::Result<()> {
    let closing = CancellationToken::new();
    let router = router::build(&settings, closing.clone())?;
    match listen {
        Listen::Unix { path, group } => {
            let listener = listen::bind_unix(&path, group)
                .with_context(|| format!("the agent gateway cannot listen on {}", path.display()))?;
            tracing::info!(address = %path.display(), "agent gateway listens");
            serve(listener, router, shutdown, closing).await;
            // Gone already when somebody removed the folder, which is as good.
            drop(std::fs::remove_file(&path));
        }
        Listen::Tcp(listener) => {
            let address = listener.local_addr().context("the agent gateway's listener has no address")?;
            Address::Tcp(address).allow_plain_listener()?;
            tracing::info!(%address, "agent gateway listens");
            serve(listener, router, shutdown, closing).await;
        }
        Listen::Tls { listener, certificate, key } => {
            let address = listener.local_addr().context("the agent gateway's listener has no address")?;
            let listener =
                TlsListener::new(listener, &certificate, &key).context("the agent gateway's TLS")?;
            tracing::info!(%address, "agent gateway listens, with TLS");
            serve(listener, router, shutdown, closing).await;
        }
    }
    Ok(())
}

async fn serve<L>(listener: L, router: Router, shutdown: CancellationToken, closing: CancellationToken)
where
    L: axum::serve::Listener,
{
    // Streams that are still open when this returns, for whatever reason, are cut.
    let _cut = closing.drop_guard();
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        () = telemetry::listener::serve(listener, router, MAX_CONNECTIONS, shutdown.clone()) => {}
        () = overdue => {}
    }
}

/// The readiness check: a line for each thing that keeps the gateway from its work.
///
/// # Errors
/// [`AddressError`] when the control plane's address must not be used.
pub fn readiness(settings: &Settings) -> Result<Readiness, AddressError> {
    let address = settings.control_plane.clone();
    let client = control_plane(channel(settings)?);
    Ok(Arc::new(move || {
        let (mut client, address) = (client.clone(), address.clone());
        Box::pin(async move {
            let mut request = tonic::Request::new(KeysRequest {});
            request.set_timeout(READINESS_PATIENCE);
            match client.keys(request).await {
                Ok(answer) if answer.get_ref().ed25519.is_empty() => {
                    vec!["control plane: it has no key for run tokens yet".to_owned()]
                }
                Ok(_) => Vec::new(),
                Err(status) => vec![format!("control plane: no answer at {address} ({:?})", status.code())],
            }
        })
    }))
}

fn channel(settings: &Settings) -> Result<AuthenticatedChannel, AddressError> {
    connect(&settings.control_plane, Arc::clone(&settings.identity), Arc::clone(&settings.clock))
}

fn control_plane(channel: AuthenticatedChannel) -> AttemptServiceClient<AuthenticatedChannel> {
    AttemptServiceClient::new(channel).max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
}
