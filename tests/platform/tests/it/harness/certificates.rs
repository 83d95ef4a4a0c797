//! Certificates for the stories that go over TLS.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// A certificate for `name` and the authority that signed it, as files: `ca.pem`, `cert.pem`,
/// `key.pem`.
pub(crate) fn certificates(folder: &Path, name: &str) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).expect("signed");
    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let certificate =
        server.signed_by(&key, &Issuer::from_params(&authority, &authority_key)).expect("signed");
    for (name, text) in [
        ("ca.pem", authority_certificate.pem()),
        ("cert.pem", certificate.pem()),
        ("key.pem", key.serialize_pem()),
    ] {
        std::fs::write(folder.join(name), text).expect("written");
    }
}
