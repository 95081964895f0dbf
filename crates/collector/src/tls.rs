//! TLS of listeners: 1.3 alone, as everywhere in this project (docs/decisions/0010-client-tls.md).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tickstream_service::certificate::{Certificate, now_s};
use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier},
    version::TLS13,
};

/// Time before its end from which a certificate is warned of, seconds.
const ENDS_SOON_S: i64 = 14 * 86_400;

/// Files of a listener's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM file with the certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// PEM file with the private key, unencrypted.
    pub key: PathBuf,
    /// PEM file with the authorities whose clients may connect; `None`: no certificate is asked for.
    pub client_ca: Option<PathBuf>,
}

/// Why there is no TLS with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or isn't PEM.
    #[error("can't read {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The problem with it.
        source: pem::Error,
    },
    /// Certificate and key don't fit, or one of them can't be used.
    #[error("the certificate and its key can't be used")]
    Certificate(#[source] rustls::Error),
    /// The certificate isn't valid now: no sender would take it.
    #[error("{}: the certificate {what}", .path.display())]
    Invalid {
        /// Its file.
        path: PathBuf,
        /// The reason.
        what: &'static str,
    },
    /// The authorities can't be used.
    #[error("the authorities of clients can't be used")]
    Authorities(#[source] VerifierBuilderError),
}

/// TLS of listeners.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// With HTTP's protocols.
    pub http: Arc<ServerConfig>,
    /// Without any.
    pub stream: Arc<ServerConfig>,
}

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn read(&self) -> Result<ListenerTls, TlsError> {
        let stream = self.config()?;
        let mut http = stream.clone();
        http.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(ListenerTls { http: Arc::new(http), stream: Arc::new(stream) })
    }

    fn config(&self) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Certificate)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().map_err(TlsError::Authorities)?)
            }
        };
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|source| TlsError::File { path: self.key.clone(), source })?;
        let chain = certificates(&self.certificate)?;
        self.check_validity(&chain)?;
        builder.with_single_cert(chain, key).map_err(TlsError::Certificate)
    }

    /// Refuses a certificate that isn't valid now, and warns of one that ends soon, and of those behind it.
    fn check_validity(&self, chain: &[CertificateDer<'_>]) -> Result<(), TlsError> {
        let now_s = now_s();
        for (at, certificate) in chain.iter().enumerate() {
            let Some(certificate) = Certificate::parse(certificate) else { continue };
            let Some(what) = certificate.concern(now_s, ENDS_SOON_S) else { continue };
            if at == 0 && !certificate.is_valid(now_s) {
                return Err(TlsError::Invalid { path: self.certificate.clone(), what });
            }
            let (cert, days) = (self.certificate.display(), (certificate.ends - now_s) / 86_400);
            tracing::warn!(%cert, subject = certificate.subject, days, "a certificate that senders are shown {what}: renew it");
        }
        Ok(())
    }
}

/// TLS towards targets that are scraped: their certificates are those of the authorities in the file, or of the system's.
///
/// # Errors
/// [`TlsError`].
pub fn client(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => roots.add_parsable_certificates(certificates(path)?),
        None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Certificate)?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    certificates.map_err(|source| TlsError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn a_certificate_that_has_expired_is_refused() {
        let check = |to_year, expected: Option<&str>| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(to_year, 1, 1);
            let folder = tempfile::tempdir().unwrap();
            let files = TlsFiles {
                certificate: folder.path().join("cert.pem"),
                key: folder.path().join("key.pem"),
                client_ca: None,
            };
            std::fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
            std::fs::write(&files.key, key.serialize_pem()).unwrap();
            let refused = files.read().err().map(|error| error.to_string());
            assert_eq!(refused.is_some(), expected.is_some(), "{refused:?}");
            assert!(refused.is_none_or(|refused| refused.ends_with(expected.unwrap_or_default())));
        };
        check(4096, None);
        check(2021, Some("cert.pem: the certificate has expired"));
    }
}
