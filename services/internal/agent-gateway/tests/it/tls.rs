//! The gateway beyond its machine.

use std::sync::Arc;

use agent_gateway::Listen;
use proto::v1::{HelloRequest, runner_service_client::RunnerServiceClient};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::world::{World, certificate, secret};

/// Says hello over gRPC, as a runner does.
async fn hello(world: &World, port: u16, authority: &str) -> Result<String, tonic::Status> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
    let channel = Endpoint::try_from(format!("https://localhost:{port}"))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .expect("an address")
        .connect_lazy();
    let bearer: tonic::metadata::MetadataValue<_> =
        format!("Bearer {}", world.token()).parse().expect("a header");
    let mut runner = RunnerServiceClient::with_interceptor(channel, move |mut request: tonic::Request<()>| {
        request.metadata_mut().insert("authorization", bearer.clone());
        Ok(request)
    });
    runner.hello(HelloRequest::default()).await.map(|assignment| assignment.into_inner().prompt)
}

#[tokio::test]
async fn over_tls_it_takes_grpc_and_whatever_a_forwarder_passes_on() {
    let world = World::new().await;
    let (port, authority, _stop) = world.over_tls().await;
    assert_eq!(hello(&world, port, &authority).await.expect("an assignment"), "do it");

    // git, through a forwarder that does not know what it passes on.
    let mut authorities = RootCertStore::empty();
    authorities.add(CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM")).expect("usable");
    let config = ClientConfig::builder().with_root_certificates(authorities).with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS");
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");

    // In the clear there is nothing.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // An alert, or nothing at all.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn handshakes_that_are_not_done_keep_nobody_waiting() {
    let world = World::new().await;
    let (port, authority, _stop) = world.over_tls().await;
    let started = std::time::Instant::now();
    let mut silent = Vec::new();
    for _ in 0..130 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.expect("connected"));
    }
    hello(&world, port, &authority).await.expect("an assignment");
    // The oldest made room for those that came after it.
    assert_eq!(silent[0].read(&mut [0]).await.expect("an end"), 0);
    assert!(started.elapsed().as_secs() < 9, "and not because its time was over");
}

#[tokio::test]
async fn a_certificate_and_a_key_that_do_not_fit_are_named_and_not_shown() {
    let world = World::new().await;
    let (_, certificate, own) = certificate();
    let (_, _, anothers) = self::certificate();
    for (certificate, key, why) in [
        (certificate.as_str(), anothers.as_str(), "certificate and key cannot be used"),
        (&certificate, &certificate, "the key's file holds no private key in PEM"),
        (&own, &own, "the certificate's file holds none"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let listen = Listen::Tls { listener, certificate: certificate.into(), key: secret(key) };
        let error =
            agent_gateway::run(world.settings.clone(), listen, Default::default()).await.expect_err(why);
        let said = format!("{error:#}");
        assert!(said.starts_with("the agent gateway's TLS: ") && said.contains(why), "{said}");
        assert!(!said.contains(&key[40..60]), "{said}");
    }
}
