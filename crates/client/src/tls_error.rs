//! Errors of TLS: in its settings, and with a server.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustls::{AlertDescription, CertificateError, pki_types::pem};

/// Why a [`TlsConfig`](crate::TlsConfig) can't be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsConfigError {
    /// A file can't be read.
    #[error("can't read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The text looks like PEM, and isn't.
    #[error("{origin} is not valid PEM")]
    Pem {
        /// The file, or which text.
        origin: String,
        /// The problem.
        source: pem::Error,
    },
    /// There is no certificate in it.
    #[error("{origin} holds no certificate; it needs one in PEM (-----BEGIN CERTIFICATE-----)")]
    NoCertificate {
        /// The file, or which text.
        origin: String,
    },
    /// There is no private key in it, or one that is encrypted.
    #[error("{origin} holds no private key; it needs one in PEM, unencrypted (-----BEGIN PRIVATE KEY-----)")]
    NoKey {
        /// The file, or which text.
        origin: String,
    },
    /// One of an authority's certificates can't be used.
    #[error("a certificate of {origin} can't be used")]
    Certificate {
        /// The file, or which text.
        origin: String,
        /// The problem.
        source: rustls::Error,
    },
    /// The client's certificate and key can't be used, or don't belong together.
    #[error("{certificate} with the key of {key} is no usable client certificate")]
    ClientCertificate {
        /// The certificate's file, or which text.
        certificate: String,
        /// The key's file, or which text.
        key: String,
        /// The problem.
        source: rustls::Error,
    },
    /// This system has no store of authorities, or an unusable one.
    #[error("this system has no certificates of authorities that can be used; name a CA file")]
    NoSystemRoots {
        /// The system's error, if there was one.
        source: Option<rustls_native_certs::Error>,
    },
    /// Not a name that a certificate can have.
    #[error("{name:?} is neither a DNS name nor an IP address, so no certificate can be issued to it")]
    ServerName {
        /// The name.
        name: String,
    },
}

impl TlsConfigError {
    /// The file that it is about, if it is about one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. } => Some(path),
            Self::Pem { origin, .. }
            | Self::NoCertificate { origin }
            | Self::NoKey { origin }
            | Self::Certificate { origin, .. } => Some(Path::new(origin)),
            Self::ClientCertificate { certificate, .. } => Some(Path::new(certificate)),
            Self::NoSystemRoots { .. } | Self::ServerName { .. } => None,
        }
    }
}

/// Why there is no TLS connection to a server, or no longer one.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No authority that the client trusts has signed the server's certificate.
    #[error("its certificate is signed by no CA that this client trusts; check which CA it trusts")]
    Untrusted,
    /// The server's certificate was issued to somebody else.
    #[error(
        "its certificate is for {presented}, not for {expected}; check the address, or set the server's name"
    )]
    WrongName {
        /// The name that the client looked for.
        expected: String,
        /// The certificate's names.
        presented: String,
    },
    /// The server's certificate is out of date, or this machine's clock is wrong.
    #[error("its certificate has expired, or the clock of this machine is wrong")]
    Expired,
    /// The server's certificate isn't valid yet, or this machine's clock is wrong.
    #[error("its certificate is not valid yet, or the clock of this machine is wrong")]
    NotValidYet,
    /// The server shows the certificate of an authority, as `openssl req -x509` makes it, instead of one of its own.
    #[error(
        "its certificate is that of a CA, which proves no server; have the CA issue one (CA:FALSE) for it"
    )]
    AuthorityItself,
    /// The server's certificate is refused for another reason.
    #[error("its certificate is refused: {0}")]
    Certificate(CertificateError),
    /// The server knows no TLS 1.3.
    #[error("it does not speak TLS 1.3, and older versions are refused")]
    Version,
    /// The server wants a client's certificate, and the client has none that fits.
    #[error("it requires a client certificate; set one and its key")]
    CertificateRequired,
    /// The server doesn't accept the client's certificate.
    #[error("it refuses this client's certificate ({alert:?}); have one issued by a CA that it trusts")]
    ClientCertificate {
        /// The server's reason.
        alert: AlertDescription,
    },
    /// The server ended the connection with an alert.
    #[error("it ended the connection with the alert {alert:?}")]
    Alert {
        /// The server's reason.
        alert: AlertDescription,
    },
    /// The answer isn't TLS.
    #[error("what answers there is not TLS; check the port")]
    NotTls,
    /// The server closed the connection before TLS was agreed on, as one without TLS may.
    #[error("it closed the connection during the handshake; check that this port speaks TLS")]
    Ended,
    /// A client without TLS was answered in TLS.
    #[error("it speaks TLS on this port, and the client was built without TLS")]
    Expected,
    /// Anything else, such as damaged records.
    #[error("the protocol failed")]
    Protocol(#[source] rustls::Error),
}

impl TlsError {
    /// True if the same attempt may succeed later, without another setting of this client.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            // A certificate that is renewed, a clock that is set, a server that starts, damage on the way.
            Self::Expired | Self::NotValidYet | Self::Ended | Self::Protocol(_) => true,
            Self::Alert { alert } => !is_verdict(*alert),
            Self::Untrusted
            | Self::WrongName { .. }
            | Self::AuthorityItself
            | Self::Certificate(_)
            | Self::Version
            | Self::CertificateRequired
            | Self::ClientCertificate { .. }
            | Self::NotTls
            | Self::Expected => false,
        }
    }

    /// True if it is the server that refuses this client.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::CertificateRequired | Self::ClientCertificate { .. })
    }
}

/// Alerts about what both sides can do, which doesn't change from one attempt to the next.
fn is_verdict(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::HandshakeFailure
            | AlertDescription::IllegalParameter
            | AlertDescription::InsufficientSecurity
            | AlertDescription::MissingExtension
            | AlertDescription::UnsupportedExtension
            | AlertDescription::UnrecognisedName
            | AlertDescription::NoApplicationProtocol
    )
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => certificate(error),
            rustls::Error::AlertReceived(alert) => received(alert),
            rustls::Error::PeerIncompatible(
                rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13
                | rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Self::Version,
            // The first bytes are no record.
            rustls::Error::InvalidMessage(
                rustls::InvalidMessage::InvalidContentType
                | rustls::InvalidMessage::UnknownProtocolVersion
                | rustls::InvalidMessage::MessageTooLarge,
            ) => Self::NotTls,
            error => Self::Protocol(error),
        }
    }
}

fn certificate(error: CertificateError) -> TlsError {
    match error {
        // The latter: by an authority of the same name, but with another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsError::Untrusted,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsError::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsError::NotValidYet,
        CertificateError::NotValidForNameContext { expected, presented } => TlsError::WrongName {
            expected: expected.to_str().into_owned(),
            presented: match &presented[..] {
                [] => "nobody".to_owned(),
                names => names.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", "),
            },
        },
        // webpki's own error, which rustls passes on by its text alone.
        CertificateError::Other(error) if error.0.to_string() == "CaUsedAsEndEntity" => {
            TlsError::AuthorityItself
        }
        error => TlsError::Certificate(error),
    }
}

/// webpki writes a name as `DnsName("ticks.example")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.map_or(name, |inner| inner.trim_matches('"'))
}

fn received(alert: AlertDescription) -> TlsError {
    match alert {
        AlertDescription::CertificateRequired => TlsError::CertificateRequired,
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        // What rustls answers to a certificate of an authority of the same name, but with another key.
        | AlertDescription::DecryptError
        | AlertDescription::AccessDenied => TlsError::ClientCertificate { alert },
        AlertDescription::ProtocolVersion => TlsError::Version,
        alert => TlsError::Alert { alert },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_tell_whether_to_come_back() {
        let check = |alert, expected: &str, retryable| {
            let error = TlsError::from(rustls::Error::AlertReceived(alert));
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.is_retryable(), retryable, "{error}");
        };
        check(AlertDescription::CertificateRequired, "requires a client certificate", false);
        check(AlertDescription::UnknownCA, "refuses this client's certificate (UnknownCA)", false);
        check(AlertDescription::CertificateExpired, "CertificateExpired", false);
        check(AlertDescription::ProtocolVersion, "does not speak TLS 1.3", false);
        check(AlertDescription::HandshakeFailure, "the alert HandshakeFailure", false);
        check(AlertDescription::InternalError, "the alert InternalError", true);
        check(AlertDescription::BadRecordMac, "the alert BadRecordMac", true);
    }
}
