//! Listeners: internal calls, and the CLI's socket.

use std::{
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use anyhow::Context;
use proto::{
    MAX_MESSAGE_BYTES,
    admin::admin_service_server::AdminServiceServer,
    v1::{
        attempt_service_server::AttemptServiceServer, ingest_service_server::IngestServiceServer,
        worker_service_server::WorkerServiceServer,
    },
};
use secrecy::ExposeSecret;
use telemetry::{address::Address, shutdown::Shutdown};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::{
    Status,
    service::Routes,
    transport::{Identity as TlsIdentity, Server, ServerTlsConfig},
};

use crate::{
    App,
    access::{Access, check},
    admin, deliveries,
    envelope::EnvelopeError,
    runs::{self, RunError},
    settings::InternalListener,
};

/// Bytes a caller sends before it waits for us: a delivery of 25 MiB would otherwise take 400 turns.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// The same for all calls on a connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Our mistake: an opaque id for the caller, the whole chain in one log line. What may pass
/// is `unavailable`, so that callers try again; for the gateways it means 503.
pub(crate) fn internal(place: &'static str, error: &(dyn std::error::Error + 'static)) -> Status {
    let chain = telemetry::logging::chain(error);
    if may_pass(error) {
        tracing::warn!(place, error = %chain, "Postgres does not answer");
        return Status::unavailable("the database does not answer");
    }
    let incident = format!("{:08x}", fingerprint(&chain));
    tracing::error!(place, incident, error = %chain, "internal error");
    Status::internal(format!("internal error {incident}"))
}

/// Is it Postgres that is away, shutting down, or asking for another try?
fn may_pass(error: &(dyn std::error::Error + 'static)) -> bool {
    let database = error
        .downcast_ref::<sqlx::Error>()
        .or_else(|| match error.downcast_ref::<RunError>() {
            Some(RunError::Database(inner)) => Some(inner),
            Some(RunError::Illegal(_) | RunError::Damaged { .. }) | None => None,
        })
        .or_else(|| match error.downcast_ref::<EnvelopeError>() {
            Some(EnvelopeError::Database(inner)) => Some(inner),
            Some(EnvelopeError::OtherKey { .. } | EnvelopeError::Damaged) | None => None,
        });
    match database {
        Some(
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Protocol(_),
        ) => true,
        // Connection, resources, operator intervention, serialisation: Appendix A of the manual.
        Some(sqlx::Error::Database(inner)) => inner.code().is_some_and(|code| {
            ["08", "53", "57P"].iter().any(|class| code.starts_with(class))
                || code == "40001"
                || code == "40P01"
        }),
        Some(_) | None => false,
    }
}

/// The same failure gets the same id, which is what one greps for.
fn fingerprint(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Binds a Unix socket that only this process's user may open, in place of a stale one.
fn bind_private(path: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => {
            anyhow::ensure!(found.file_type().is_socket(), "{} is there and is not a socket", path.display());
            let answers = std::os::unix::net::UnixStream::connect(path).is_ok();
            anyhow::ensure!(!answers, "another process listens on {}; end it first", path.display());
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e).with_context(|| format!("cannot look at {}", path.display())),
    }
    // Made where nobody else can reach it, and moved to its place with its mode: there is no
    // moment at which it is open to others.
    let folder = path.parent().context("a socket needs a folder")?;
    let hidden = tempfile::Builder::new().prefix(".bind-").tempdir_in(folder)?;
    let made = hidden.path().join("s");
    let listener =
        UnixListener::bind(&made).with_context(|| format!("cannot listen in {}", folder.display()))?;
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&made, path).with_context(|| format!("cannot listen on {}", path.display()))?;
    Ok(listener)
}

/// Starts both listeners.
pub(crate) async fn spawn(
    app: &Arc<App>,
    access: Access,
    internal: InternalListener,
    admin_socket: &Path,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let routes = Routes::new(
        IngestServiceServer::new(deliveries::Ingest(Arc::clone(app)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES),
    )
    .add_service(WorkerServiceServer::new(runs::WorkerCalls::new(Arc::clone(app), shutdown.token())))
    .add_service(
        AttemptServiceServer::new(runs::AttemptCalls(Arc::clone(app)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES),
    );
    let routes = Routes::from(
        routes.prepare().into_axum_router().layer(axum::middleware::from_fn_with_state(access, check)),
    );
    let mut server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    if let Some(tls) = internal.tls {
        let identity = TlsIdentity::from_pem(tls.certificate, tls.key.expose_secret());
        server = server
            .tls_config(ServerTlsConfig::new().identity(identity))
            .context("the TLS certificate or key cannot be used")?;
    } else {
        internal.address.allow_plain_listener()?;
    }
    let ended = shutdown.token();
    match internal.address {
        Address::Unix(path) => {
            let incoming = UnixListenerStream::new(bind_private(&path)?);
            let served =
                server.add_routes(routes).serve_with_incoming_shutdown(incoming, ended.cancelled_owned());
            supervise(shutdown, "internal", served);
        }
        Address::Tcp(address) => {
            let incoming = TcpListenerStream::new(
                TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?,
            );
            let served =
                server.add_routes(routes).serve_with_incoming_shutdown(incoming, ended.cancelled_owned());
            supervise(shutdown, "internal", served);
        }
        Address::Tls(url) => anyhow::bail!(
            "`{url}` is an address to connect to, not one to listen on; write 0.0.0.0:8082 and a certificate"
        ),
    }

    let incoming = UnixListenerStream::new(bind_private(admin_socket)?);
    let ended = shutdown.token();
    let served = Server::builder()
        .add_service(AdminServiceServer::with_interceptor(
            admin::AdminCalls::new(Arc::clone(app), shutdown.token()),
            admin::prove_operator,
        ))
        .serve_with_incoming_shutdown(incoming, ended.cancelled_owned());
    supervise(shutdown, "admin", served);
    Ok(())
}

/// A listener that ends is a failure of the process.
fn supervise<F>(shutdown: &Shutdown, listener: &'static str, served: F)
where
    F: Future<Output = Result<(), tonic::transport::Error>> + Send + 'static,
{
    let group = shutdown.clone();
    shutdown.spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(listener, error = %telemetry::logging::chain(&error), "listener ended");
            group.fail();
        }
    });
}
