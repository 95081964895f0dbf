//! TLS 1.3: the authorities that a client trusts, and its own certificate.

mod stream;

use std::{fmt, fs, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject},
    },
    version::TLS13,
};

pub(crate) use stream::TlsStream;

use crate::tls_error::TlsConfigError;

/// TLS 1.3 of a client: [`Builder::tls`](crate::Builder::tls). Older versions are refused.
///
/// ```no_run
/// # fn tls() -> Result<(), tickstream_client::TlsConfigError> {
/// use tickstream_client::TlsConfig;
///
/// let tls = TlsConfig::with_ca_file("/etc/tickstream/ca.pem")?
///     .client_certificate_files("/etc/tickstream/alice.pem", "/etc/tickstream/alice.key")?;
/// # Ok(())
/// # }
/// ```
///
/// Clones share the session tickets that servers gave them, so that clients which were built from clones resume
/// each other's sessions: a shorter handshake, without certificates.
#[derive(Clone)]
pub struct TlsConfig {
    roots: Arc<RootCertStore>,
    client: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    has_client_certificate: bool,
}

impl TlsConfig {
    /// Trusts the authorities that this system trusts, or those of the files that the environment's `SSL_CERT_FILE`
    /// and `SSL_CERT_DIR` name. Reads files, which may block for some milliseconds.
    ///
    /// # Errors
    /// [`TlsConfigError::NoSystemRoots`].
    pub fn with_system_roots() -> Result<Self, TlsConfigError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // A store of hundreds often has some that webpki can't read; the others are as good without them.
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            return Err(TlsConfigError::NoSystemRoots { source: found.errors.into_iter().next() });
        }
        Ok(Self::trusting(roots))
    }

    /// Trusts the authorities whose certificates are in this PEM file, and no others.
    ///
    /// # Errors
    /// [`TlsConfigError`] names the file.
    pub fn with_ca_file(path: impl AsRef<Path>) -> Result<Self, TlsConfigError> {
        let path = path.as_ref();
        Self::with_ca(&read(path)?, &path.display().to_string())
    }

    /// Trusts the authorities whose certificates are in this PEM text, and no others.
    ///
    /// # Errors
    /// [`TlsConfigError`], if it has none, or one that can't be read.
    pub fn with_ca_pem(pem: &[u8]) -> Result<Self, TlsConfigError> {
        Self::with_ca(pem, "the CA's PEM text")
    }

    /// Shows servers that ask for it the certificate of the first of these PEM files, whose private key is in the
    /// second. The first may hold the chain up to the authority, the client's own certificate before the others.
    ///
    /// # Errors
    /// [`TlsConfigError`] names the file.
    pub fn client_certificate_files(
        self,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsConfigError> {
        let (certificate, key) = (certificate.as_ref(), key.as_ref());
        let origins = (&*certificate.display().to_string(), &*key.display().to_string());
        self.client_certificate((&read(certificate)?, &read(key)?), origins)
    }

    /// The same as [`client_certificate_files`](Self::client_certificate_files), from PEM texts.
    ///
    /// # Errors
    /// [`TlsConfigError`].
    pub fn client_certificate_pem(self, certificate: &[u8], key: &[u8]) -> Result<Self, TlsConfigError> {
        self.client_certificate(
            (certificate, key),
            ("the client certificate's PEM text", "the client key's PEM text"),
        )
    }

    /// Expects this name (or IP address) in the certificates of all servers, instead of the one that they are
    /// connected to by. It is also what the server is asked for (SNI).
    ///
    /// # Errors
    /// [`TlsConfigError::ServerName`], if it is no name that a certificate can have.
    pub fn server_name(mut self, name: &str) -> Result<Self, TlsConfigError> {
        self.server_name = Some(parse_server_name(name)?);
        Ok(self)
    }

    /// The name that the certificate of `server`, `host:port`, must have.
    pub(crate) fn name_of(&self, server: &str) -> Result<ServerName<'static>, TlsConfigError> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => {
                let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
                parse_server_name(host.trim_start_matches('[').trim_end_matches(']'))
            }
        }
    }

    fn with_ca(pem: &[u8], origin: &str) -> Result<Self, TlsConfigError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(pem, origin)? {
            roots
                .add(certificate)
                .map_err(|source| TlsConfigError::Certificate { origin: origin.to_owned(), source })?;
        }
        Ok(Self::trusting(roots))
    }

    fn trusting(roots: RootCertStore) -> Self {
        let roots = Arc::new(roots);
        let client = builder(&roots).with_no_client_auth();
        Self { roots, client: Arc::new(client), server_name: None, has_client_certificate: false }
    }

    fn client_certificate(
        self,
        (certificate, key): (&[u8], &[u8]),
        (certificate_origin, key_origin): (&str, &str),
    ) -> Result<Self, TlsConfigError> {
        let chain = certificates(certificate, certificate_origin)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsConfigError::NoKey { origin: key_origin.to_owned() },
            source => TlsConfigError::Pem { origin: key_origin.to_owned(), source },
        })?;
        let client = builder(&self.roots).with_client_auth_cert(chain, key).map_err(|source| {
            TlsConfigError::ClientCertificate {
                certificate: certificate_origin.to_owned(),
                key: key_origin.to_owned(),
                source,
            }
        })?;
        Ok(Self { client: Arc::new(client), has_client_certificate: true, ..self })
    }
}

/// Neither keys nor tickets: they are secrets.
impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("roots", &self.roots.len())
            .field("server_name", &self.server_name)
            .field("has_client_certificate", &self.has_client_certificate)
            .finish_non_exhaustive()
    }
}

fn builder(
    roots: &Arc<RootCertStore>,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("ring has cipher suites of TLS 1.3")
        .with_root_certificates(roots.clone())
}

fn parse_server_name(name: &str) -> Result<ServerName<'static>, TlsConfigError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsConfigError::ServerName { name: name.to_owned() })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsConfigError> {
    fs::read(path).map_err(|source| TlsConfigError::File { path: path.to_owned(), source })
}

/// At least one.
fn certificates(pem: &[u8], origin: &str) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsConfigError::Pem { origin: origin.to_owned(), source })?;
    if certificates.is_empty() {
        return Err(TlsConfigError::NoCertificate { origin: origin.to_owned() });
    }
    Ok(certificates)
}
