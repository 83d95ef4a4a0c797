//! A cluster's API server: whether a pod can use it.

use std::{fs, io, net::SocketAddr, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{
    Finding, Outcome,
    network::{Answer, Asked, ask, connect},
};

/// Where pods find the token of their service account, when they have one.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// What only those may read who were given the right.
const PATHS: [&str; 5] = [
    "/api/v1/secrets",
    "/api/v1/namespaces",
    "/api/v1/namespaces/default/secrets",
    "/api/v1/pods",
    "/apis/callboard.dev/v1alpha1/agentruns",
];

/// Asks each server as nobody, with the run token, and with whatever token a pod was given.
pub(super) fn servers(servers: &[SocketAddr]) -> Vec<Finding> {
    let mut tokens = vec![("without a token", None)];
    tokens.extend(std::env::var("OPENAI_API_KEY").ok().map(|token| ("with the run token", Some(token))));
    let mounted = fs::read_to_string(SERVICE_ACCOUNT_TOKEN).ok();
    tokens.extend(mounted.map(|token| ("with the service account's token", Some(token))));
    let mut findings = Vec::new();
    for server in servers {
        for path in PATHS {
            for (whose, token) in &tokens {
                let attempt = format!("https://{server}{path} {whose}");
                findings.push(match get(*server, path, token.as_deref()) {
                    Ok(Answer { status, .. }) if (200..300).contains(&status) => {
                        Finding::new(attempt, Outcome::Reached, format!("status {status}"))
                    }
                    Ok(Answer { status, .. }) => {
                        Finding::new(attempt, Outcome::Refused, format!("status {status}"))
                    }
                    Err(error) => Finding::new(attempt, Outcome::Refused, error.to_string()),
                });
            }
        }
    }
    findings
}

fn get(server: SocketAddr, path: &str, token: Option<&str>) -> io::Result<Answer> {
    let config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    let name = ServerName::IpAddress(server.ip().into());
    let mut tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut tcp = connect(server)?;
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    ask(&mut stream, &Asked { host: &server.to_string(), method: "GET", path, token })
}

/// A thief does not care whose certificate it is.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
