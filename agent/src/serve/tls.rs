//! PEM files in, what a TLS handshake needs out. TLS 1.2 and 1.3, by rustls with ring.

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS12;
use rustls::version::TLS13;
use std::sync::Arc;

/// From the listener's certificate with its chain, its key, and the authorities of clients' certificates, if those
/// are asked for.
///
/// A client without a certificate gets through the handshake, so that probes of health do; one with a certificate of
/// somebody else does not.
pub(super) fn server(files: &[Vec<u8>]) -> Result<ServerConfig, String> {
    let [chain, key, authorities @ ..] = files else { return Err("no certificate and key".to_owned()) };
    let chain = certificates(chain).map_err(|error| format!("the certificate: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the key: {error}"))?;
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&[&TLS13, &TLS12]).map_err(|error| error.to_string())?;
    let builder = if let [authorities, ..] = authorities {
        let mut roots = RootCertStore::empty();
        for authority in certificates(authorities).map_err(|error| format!("the client CA: {error}"))? {
            roots.add(authority).map_err(|error| format!("the client CA: {error}"))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = verifier.allow_unauthenticated().build().map_err(|error| format!("the client CA: {error}"))?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err("no certificate in PEM form".to_owned()),
        all => all.map_err(|error| error.to_string()),
    }
}
