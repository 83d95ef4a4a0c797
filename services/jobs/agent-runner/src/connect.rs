//! The way to the agent gateway: a Unix socket, or TLS with the one authority we were given.

use std::{fmt, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use tokio::{
    net::{TcpStream, UnixStream, lookup_host},
    sync::OnceCell,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use tokio_util::either::Either;
use tonic::transport::Uri;

/// How long connecting may take, handshake and all.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
const HTTPS_PORT: u16 = 443;

/// Where the agent gateway is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayAddress {
    /// A Unix socket of this machine.
    Unix(PathBuf),
    /// TLS over TCP.
    Tls {
        /// `https://host:port`
        url: Uri,
        /// The file with the only authority that may have signed its certificate, PEM.
        authority: PathBuf,
    },
}

impl fmt::Display for GatewayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tls { url, .. } => write!(f, "{url}"),
        }
    }
}

impl GatewayAddress {
    /// `unix:/path`, or `https://host:port` with the authority's file.
    ///
    /// # Errors
    /// A sentence that says what to write.
    pub fn parse(text: &str, authority: Option<PathBuf>) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match authority {
                None => Ok(Self::Unix(path.into())),
                Some(_) => Err("--gateway-ca is for https:// only".to_owned()),
            };
        }
        let url = text.parse::<Uri>().ok().filter(|url| {
            url.scheme_str() == Some("https") && url.host().is_some() && matches!(url.path(), "" | "/")
        });
        match (url, authority) {
            (Some(url), Some(authority)) => Ok(Self::Tls { url, authority }),
            (Some(_), None) => Err(format!("{text} needs --gateway-ca: the authority of its certificate")),
            (None, _) => Err(format!("{text}: expected unix:/path/to.sock or https://host:port")),
        }
    }
}

/// A connection to the gateway.
pub(crate) type Connection = Either<UnixStream, TlsStream<TcpStream>>;

/// Connects to the gateway.
#[derive(Clone)]
pub(crate) enum Connector {
    Unix(PathBuf),
    Tls {
        url: Uri,
        host: String,
        port: u16,
        name: ServerName<'static>,
        tls: TlsConnector,
        /// Where that is, once it was found out: a pod's hosts do not change. Looking needs a
        /// thread, and there may be none left when the agent has started all it may.
        addresses: Arc<OnceCell<Vec<SocketAddr>>>,
    },
}

impl Connector {
    /// Reads the authority; connects to nothing yet.
    pub(crate) fn new(address: &GatewayAddress) -> anyhow::Result<Self> {
        let (url, authority) = match address {
            GatewayAddress::Unix(path) => return Ok(Self::Unix(path.clone())),
            GatewayAddress::Tls { url, authority } => (url, authority),
        };
        let mut authorities = RootCertStore::empty();
        let found = CertificateDer::pem_file_iter(authority).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        for certificate in found
            .with_context(|| format!("the gateway's authority in {} cannot be read", authority.display()))?
        {
            authorities.add(certificate)?;
        }
        ensure!(!authorities.is_empty(), "{} holds no certificate", authority.display());
        // The brackets of an IPv6 address belong to the URL.
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host.clone()).with_context(|| format!("{url} names no host"))?;
        let port = url.port_u16().unwrap_or(HTTPS_PORT);
        let config = ClientConfig::builder().with_root_certificates(authorities).with_no_client_auth();
        Ok(Self::Tls {
            url: url.clone(),
            host,
            port,
            name,
            tls: Arc::new(config).into(),
            addresses: Arc::default(),
        })
    }

    /// How the gateway is called in requests.
    pub(crate) fn origin(&self) -> Uri {
        match self {
            Self::Unix(_) => Uri::from_static("http://agent-gateway"),
            Self::Tls { url, .. } => url.clone(),
        }
    }

    /// A connection for HTTP/2.
    pub(crate) async fn http2(&self) -> io::Result<Connection> {
        self.connect(vec![b"h2".to_vec()]).await
    }

    /// A connection for whatever the near side speaks: the gateway looks what it is.
    pub(crate) async fn any(&self) -> io::Result<Connection> {
        self.connect(Vec::new()).await
    }

    async fn connect(&self, protocols: Vec<Vec<u8>>) -> io::Result<Connection> {
        let connecting = async {
            match self {
                Self::Unix(path) => UnixStream::connect(path).await.map(Either::Left),
                Self::Tls { host, port, name, tls, addresses, .. } => {
                    let look = async { Ok(lookup_host((host.as_str(), *port)).await?.collect()) };
                    let found: io::Result<&Vec<SocketAddr>> = addresses.get_or_try_init(|| look).await;
                    let stream = TcpStream::connect(found?.as_slice()).await?;
                    stream.set_nodelay(true)?;
                    tls.with_alpn(protocols).connect(name.clone(), stream).await.map(Either::Right)
                }
            }
        };
        tokio::time::timeout(CONNECTED_WITHIN, connecting).await?
    }

    /// Refuses a gateway that is not the one that was meant, before anything is said to it. One
    /// that is not there may come yet.
    pub(crate) async fn prove(&self) -> anyhow::Result<()> {
        let Err(error) = self.any().await else { return Ok(()) };
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        if cause.is_some() {
            bail!("{} is not the agent gateway that was meant: {error}", self.origin());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use tokio::net::TcpListener;
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{ServerConfig, pki_types::PrivateKeyDer},
    };

    use super::*;

    #[test]
    fn an_address_is_a_socket_or_tls_with_an_authority() {
        let ca = || Some(PathBuf::from("ca.pem"));
        assert_eq!(GatewayAddress::parse("unix:/a.sock", None), Ok(GatewayAddress::Unix("/a.sock".into())));
        let far = GatewayAddress::parse("https://callboard-agents:8081", ca()).expect("an address");
        assert_eq!(far.to_string(), "https://callboard-agents:8081/");
        for (text, authority) in [
            ("unix:/a.sock", ca()),
            ("https://callboard-agents:8081", None),
            ("http://127.0.0.1:8081", ca()),
            ("https://callboard-agents/path", ca()),
            ("callboard-agents:8081", ca()),
        ] {
            assert!(GatewayAddress::parse(text, authority).is_err(), "{text}");
        }
    }

    /// A certificate that is its own authority is one only where it does not say that it is.
    #[tokio::test]
    async fn the_certificate_that_the_documentation_makes_is_taken() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/ops/kubernetes.md");
        let page = fs::read_to_string(page).expect("the page");
        let (_, command) = page.split_once("$ openssl req").expect("a command");
        let (command, _) = command.split_once("```").expect("its end");
        let folder = tempfile::tempdir().expect("a folder");
        let made = subprocess::command("/bin/sh", folder.path())
            .args(["-c", &format!("openssl req {command}")])
            .output()
            .expect("started");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let authority = folder.path().join("agents.pem");
        let chain = CertificateDer::pem_file_iter(&authority).expect("PEM").collect::<Result<Vec<_>, _>>();
        let key = PrivateKeyDer::from_pem_file(folder.path().join("agents.key")).expect("a key");
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(chain.expect("PEM"), key).expect("usable");
        let url = "https://callboard-agents:8081".parse().expect("a URL");
        let connector = Connector::new(&GatewayAddress::Tls { url, authority }).expect("an authority");
        let Connector::Tls { addresses, .. } = &connector else { panic!("TLS") };
        addresses.set(vec![listener.local_addr().expect("bound")]).expect("not looked for yet");
        let gateway = async {
            let (stream, _) = listener.accept().await.expect("a connection");
            TlsAcceptor::from(Arc::new(config)).accept(stream).await
        };
        let (connected, _) = tokio::join!(connector.any(), gateway);
        connected.expect("it is the gateway that was meant");
    }
}
