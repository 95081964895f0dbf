//! TLS of the SQL wires, by certificate and key in files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{self, CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// Certificate or key that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file isn't what it should be.
    #[error("reading {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The problem with it.
        source: pki_types::pem::Error,
    },
    /// Certificate and key don't fit together, or are of a kind that isn't known.
    #[error("using the certificate in {}", .path.display())]
    Certificate {
        /// The file of the certificate.
        path: PathBuf,
        /// The problem with it.
        source: rustls::Error,
    },
}

/// Takes TLS 1.3 and 1.2 connections with this certificate: older drivers of PostgreSQL have no 1.3.
///
/// # Errors
/// [`TlsError`] names the file.
pub fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(file(certificate))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(file(key))?;
    let unusable = |source| TlsError::Certificate { path: certificate.to_owned(), source };
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(unusable)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
