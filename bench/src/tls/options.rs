//! Options of TLS, and the configuration that they are turned into, once.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, ValueEnum};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject},
    },
    version::TLS13,
};

use super::tickets::Tickets;

/// TLS, on the command line.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsOptions {
    /// Speak TLS 1.3, and trust the authorities of this PEM file
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Certificate to show, PEM
    #[arg(long, value_name = "FILE", requires = "tls_ca", requires = "tls_client_key")]
    pub tls_client_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_client_cert")]
    pub tls_client_key: Option<PathBuf>,
    /// Name that the server's certificate must have [default: the IP address of --addr]
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    pub tls_server_name: Option<String>,
    /// TLS sessions of connections that come back: resumed or new
    #[arg(long, value_name = "WHETHER", default_value = "on", requires = "tls_ca")]
    pub tls_resume: Switch,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Resumed
    On,
    /// New
    Off,
}

/// TLS as the workers need it.
#[derive(Clone, Debug)]
pub struct TlsPlan {
    config: ClientConfig,
    name: ServerName<'static>,
    resumes: bool,
}

/// TLS options that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{path}: {source}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file isn't what it should be.
    #[error("{path}: {source}; a PEM file is needed")]
    Pem {
        path: PathBuf,
        #[source]
        source: pem::Error,
    },
    /// rustls can't use what is in it.
    #[error("{path}: {source}")]
    Unusable {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    /// No certificate can have this name.
    #[error("--tls-server-name {0} is neither a DNS name nor an IP address")]
    ServerName(String),
}

impl TlsPlan {
    /// Reads the files that `options` name, if they ask for TLS at all; the server is at `address`.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn new(options: &TlsOptions, address: IpAddr) -> Result<Option<Self>, TlsError> {
        let Some(ca) = &options.tls_ca else {
            return Ok(None);
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|source| TlsError::Unusable { path: ca.clone(), source })?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .expect("ring has cipher suites of TLS 1.3")
            .with_root_certificates(roots);
        let mut config = match options.tls_client_cert.as_ref().zip(options.tls_client_key.as_ref()) {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let private = PrivateKeyDer::from_pem_slice(&read(key)?)
                    .map_err(|source| TlsError::Pem { path: key.clone(), source })?;
                builder
                    .with_client_auth_cert(certificates(certificate)?, private)
                    .map_err(|source| TlsError::Unusable { path: certificate.clone(), source })?
            }
        };
        config.resumption = Resumption::disabled();
        let name = match &options.tls_server_name {
            None => ServerName::from(address),
            Some(name) => {
                ServerName::try_from(name.clone()).map_err(|_| TlsError::ServerName(name.clone()))?
            }
        };
        Ok(Some(Self { config, name, resumes: options.tls_resume == Switch::On }))
    }

    /// The configuration of one worker, whose sessions are resumed through `tickets`.
    pub(super) fn config(&self, tickets: &Arc<Tickets>) -> Arc<ClientConfig> {
        let mut config = self.config.clone();
        if self.resumes {
            config.resumption = Resumption::store(tickets.clone());
        }
        Arc::new(config)
    }

    /// Name that the server's certificate must have.
    pub(super) fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fail = |source| TlsError::Pem { path: path.to_owned(), source };
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<_, _>>().map_err(fail)?;
    if certificates.is_empty() { Err(fail(pem::Error::NoItemsFound)) } else { Ok(certificates) }
}
