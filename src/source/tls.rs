//! Whom to trust beside the system's certificate authorities.
//!
//! What people call "the CA" of a registry in a hall is often the server's own, self-signed certificate, made with one
//! `openssl req -x509`. OpenSSL and Go take it; WebPKI does not (it is marked as an authority, and authorities are no
//! servers). So a server that shows the very certificate a person gave us, for a name in it, is trusted too.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// A TLS configuration that trusts the system's authorities and those in the PEM files.
///
/// # Errors
/// A file that can not be read or holds no certificate.
pub fn trusting(files: &[PathBuf]) -> Result<ClientConfig, String> {
    let mut given = Vec::new();
    for path in files {
        let pem = fs_err::read(path).map_err(|e| format!("CA file: {e}"))?;
        let before = given.len();
        for cert in CertificateDer::pem_slice_iter(&pem) {
            given.push(cert.map_err(|_| format!("CA file `{}` is not PEM", path.display()))?);
        }
        if given.len() == before {
            return Err(format!("CA file `{}` holds no certificate", path.display()));
        }
    }
    let provider = Arc::new(default_provider());
    let rules = Verifier::new_with_extra_roots(given.clone(), provider.clone()).map_err(|e| e.to_string())?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(OrGiven { rules, given }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The usual rules, or one of the certificates a person gave.
#[derive(Debug)]
struct OrGiven {
    rules: Verifier,
    given: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for OrGiven {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ruled = self.rules.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if ruled.is_err() && self.given.iter().any(|cert| cert == end_entity) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        ruled
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rules.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rules.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.rules.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert!(trusting(std::slice::from_ref(&path)).unwrap_err().contains("ca.pem"));
        fs_err::write(&path, "no PEM").unwrap();
        assert!(trusting(&[path]).unwrap_err().contains("holds no certificate"));
    }
}
