//! Certificates and keys: out of PEM files, checked, into what a handshake needs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, version};
use tickstream_service::certificate::{Certificate, now_s};
use tickstream_service::settings::kept;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::aead::CIPHER_SUITES;
use super::{TlsError, TlsSession};
use crate::config::Tls;

/// Largest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Bytes that a handshake may keep of a message that came in part: a ClientHello of one record.
const HELLO_BYTES_MAX: usize = 18 * 1_024;
/// The same where the client sends certificates: rustls's own bound on a message, and its records' headers.
const CERTIFICATES_BYTES_MAX: usize = 72 * 1_024;

/// Marks of an encrypted key: PKCS #8, and the older form.
const ENCRYPTED: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];

/// Certificates that new handshakes use.
#[derive(Debug)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    handshake_bytes_max: usize,
    names_user: bool,
    /// When the certificate ends, Unix seconds.
    expires: i64,
    /// The certificates that the server sends behind its own.
    issuers: Vec<Certificate>,
}

/// Why certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// A file that can't be read.
    #[error("can't read {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// A file without what it should hold.
    #[error("{} has no {what} in PEM form ({reason})", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// "certificate" or "private key".
        what: &'static str,
        /// The parser's error.
        reason: pem::Error,
    },
    /// A key behind a passphrase.
    #[error(
        "the private key in {} is encrypted; decrypt it (openssl pkey -in KEY -out PLAIN) and protect the file",
        .path.display()
    )]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// A certificate that can't be used.
    #[error("{}: {reason}", .path.display())]
    Certificate {
        /// Its file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Certificate and key don't go together, or rustls can't use one of them.
    #[error("{} and {} can't be used together: {source}", .cert.display(), .key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// rustls's error.
        source: rustls::Error,
    },
}

impl Acceptor {
    /// Reads the files that `tls` names. `ticketer` seals session tickets; keep it, and tickets outlive a reload.
    ///
    /// # Errors
    /// See [`MaterialError`]. A certificate that isn't valid now is an error: no client would take it.
    pub fn load(tls: &Tls, ticketer: Arc<dyn ProducesTickets>) -> Result<Self, MaterialError> {
        let chain = certificates(&tls.cert)?;
        let expires = check_validity(&tls.cert, &chain[0])?;
        let issuers = chain[1..].iter().filter_map(|der| Certificate::parse(der)).collect();
        let pem = read(&tls.key)?;
        if ENCRYPTED.iter().any(|mark| pem.windows(mark.len()).any(|window| window == *mark)) {
            return Err(MaterialError::Encrypted { path: tls.key.clone() });
        }
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|reason| MaterialError::Pem {
            path: tls.key.clone(),
            what: "private key",
            reason,
        })?;
        let provider = Arc::new(provider());
        let pair = |source| MaterialError::Pair { cert: tls.cert.clone(), key: tls.key.clone(), source };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(pair)?;
        let mut config = match &tls.clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let unusable =
                    |reason: String| MaterialError::Certificate { path: clients.ca.clone(), reason };
                let mut roots = RootCertStore::empty();
                for certificate in certificates(&clients.ca)? {
                    roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier = if clients.optional { verifier.allow_unauthenticated() } else { verifier };
                builder
                    .with_client_cert_verifier(verifier.build().map_err(|error| unusable(error.to_string()))?)
            }
        }
        .with_single_cert(chain, key)
        .map_err(pair)?;
        config.ignore_client_order = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if tls.clients.is_none() {
            config.ticketer = ticketer;
            config.send_tls13_tickets = 1;
        } else {
            // A resumed session wouldn't check whether the client's certificate is still good.
            config.send_tls13_tickets = 0;
        }
        Ok(Self {
            config: Arc::new(config),
            handshake_bytes_max: if tls.clients.is_some() { CERTIFICATES_BYTES_MAX } else { HELLO_BYTES_MAX },
            names_user: tls.clients.as_ref().is_some_and(|clients| clients.names_user),
            expires,
            issuers,
        })
    }

    /// A connection's TLS, awaiting its ClientHello.
    ///
    /// # Errors
    /// None that is known: rustls took the configuration.
    pub fn accept(&self) -> Result<TlsSession, TlsError> {
        TlsSession::new(Arc::clone(&self.config))
    }

    /// Bytes that a handshake may keep of a message that came in part.
    pub fn handshake_bytes_max(&self) -> usize {
        self.handshake_bytes_max
    }

    /// The name that a client's certificate puts in the place of AUTH's, if certificates do that.
    ///
    /// # Errors
    /// [`TlsError::Nameless`] if they do, and this one has none.
    pub fn user(&self, certificate: &[u8]) -> Result<Option<Box<str>>, TlsError> {
        let name = self.names_user.then(|| common_name(certificate).ok_or(TlsError::Nameless));
        name.transpose()
    }

    /// The certificates that the server sends behind its own.
    pub fn issuers(&self) -> &[Certificate] {
        &self.issuers
    }

    /// When the certificate ends, Unix seconds.
    pub fn expires(&self) -> i64 {
        self.expires
    }
}

/// A new sealer of session tickets, for [`Acceptor::load`].
///
/// # Errors
/// If there is no randomness to be had.
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    ring::Ticketer::new()
}

/// The subject of a certificate, for people: "CN=probe-7, O=Example".
pub fn subject(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.subject().to_string())
}

/// The subject's common name.
fn common_name(certificate: &[u8]) -> Option<Box<str>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    (!name.is_empty()).then(|| name.into())
}

/// rustls's provider on ring, with records that spend little memory.
fn provider() -> CryptoProvider {
    CryptoProvider { cipher_suites: CIPHER_SUITES.to_vec(), ..ring::default_provider() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let pem = |reason| MaterialError::Pem { path: path.to_owned(), what: "certificate", reason };
    let bytes = read(path)?;
    let chain = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>().map_err(pem)?;
    if chain.is_empty() { Err(pem(pem::Error::NoItemsFound)) } else { Ok(chain) }
}

/// When the certificate ends, Unix seconds, unless it isn't valid now.
fn check_validity(path: &Path, certificate: &[u8]) -> Result<i64, MaterialError> {
    let unusable = |reason: String| MaterialError::Certificate { path: path.to_owned(), reason };
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|error| unusable(format!("its first certificate can't be parsed: {error}")))?;
    let validity = certificate.validity();
    let now = now_s();
    let (begins, ends) = (validity.not_before, validity.not_after);
    if now > ends.timestamp() {
        return Err(unusable(format!("the certificate has expired: it was valid until {ends}")));
    }
    if now < begins.timestamp() {
        return Err(unusable(format!("the certificate isn't valid before {begins}")));
    }
    Ok(ends.timestamp())
}

fn read(path: &Path) -> Result<Vec<u8>, MaterialError> {
    kept::read_bytes(path, FILE_BYTES_MAX)
        .map_err(|source| MaterialError::File { path: path.to_owned(), source })
}
