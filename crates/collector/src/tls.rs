//! TLS of listeners: 1.3 alone, as everywhere in this project (docs/decisions/0010-client-tls.md).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier},
    version::TLS13,
};

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
        builder.with_single_cert(certificates(&self.certificate)?, key).map_err(TlsError::Certificate)
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
