//! TLS on the listener, for callers beyond this machine.

use std::{collections::VecDeque, io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use axum::serve::Listener;
use secrecy::{ExposeSecret, SecretBox};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
    server::TlsStream,
};

/// How long a handshake may take.
const SHAKEN_WITHIN: Duration = Duration::from_secs(10);
/// Handshakes under way at one time. The oldest makes room for the next one.
const MAX_HANDSHAKES: usize = 128;

type Shaken = Option<(TlsStream<TcpStream>, SocketAddr)>;

/// Accepts connections whose handshake is done. None waits for another's.
pub(crate) struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    handshakes: JoinSet<Shaken>,
    /// In the order they began.
    begun: VecDeque<AbortHandle>,
}

impl TlsListener {
    /// Serves with this certificate, its chain behind it, and its key, all PEM.
    pub(crate) fn new(
        listener: TcpListener,
        certificate: &[u8],
        key: &SecretBox<Vec<u8>>,
    ) -> anyhow::Result<Self> {
        let chain = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<Vec<_>, _>>()
            .context("the certificate is not PEM")?;
        ensure!(!chain.is_empty(), "the certificate's file holds none");
        // What is wrong with a key is not said in the parser's words: they might quote it.
        let key = PrivateKeyDer::from_pem_slice(key.expose_secret())
            .ok()
            .context("the key's file holds no private key in PEM")?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context("certificate and key cannot be used")?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = Arc::new(config).into();
        Ok(Self { listener, acceptor, handshakes: JoinSet::new(), begun: VecDeque::new() })
    }

    fn shake(&mut self, stream: TcpStream, peer: SocketAddr) {
        self.begun.retain(|handshake| !handshake.is_finished());
        if self.begun.len() >= MAX_HANDSHAKES
            && let Some(oldest) = self.begun.pop_front()
        {
            oldest.abort();
        }
        let shaking = self.acceptor.accept(stream);
        self.begun.push_back(self.handshakes.spawn(async move {
            let failed = match tokio::time::timeout(SHAKEN_WITHIN, shaking).await {
                Ok(Ok(stream)) => return Some((stream, peer)),
                Ok(Err(error)) => error,
                Err(late) => late.into(),
            };
            tracing::debug!(%peer, error = %failed, "a TLS handshake failed");
            None
        }));
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            tokio::select! {
                (stream, peer) = Listener::accept(&mut self.listener) => self.shake(stream, peer),
                Some(shaken) = self.handshakes.join_next() => {
                    // One that was aborted is none.
                    if let Ok(Some(shaken)) = shaken {
                        return shaken;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
