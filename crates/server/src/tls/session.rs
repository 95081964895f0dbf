//! One TLS connection, without its socket: bytes in, bytes out, by rustls's unbuffered interface.
//!
//! An idle connection holds rustls's state and nothing else. Received records are opened where they lie; only one
//! that came in part is kept, until its rest is there.

use rustls::server::ServerConnectionData;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{HandshakeKind, ServerConfig};
use std::sync::Arc;

/// Most that one record protects, bytes (RFC 8446, section 5.1).
pub const RECORD_BYTES_MAX: usize = 16_384;
/// Bytes of a record beside what it protects: header, content type, tag.
const RECORD_OVERHEAD: usize = 5 + 1 + 16;
/// Room for what rustls sends of its own before a record: an alert or a KeyUpdate.
const OWN_BYTES_MAX: usize = 128;

/// A fatal alert, decode_error (RFC 8446, section 6), in plain.
const DECODE_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];

/// The server's side of a TLS connection.
pub struct TlsSession {
    connection: UnbufferedServerConnection,
    /// Parts that came so far.
    incoming: Vec<u8>,
    /// True if it can't go on: rustls is shown no more bytes, since it would handle them again.
    has_failed: bool,
}

/// Result of received bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The handshake was completed by them.
    pub established: bool,
    /// The peer sent close_notify: nothing more comes from it.
    pub peer_closed: bool,
}

/// Why a connection can't go on. Its alert is among the bytes to send.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// rustls's error.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    /// A message in more pieces than are kept.
    #[error("a handshake message or record of more than {0} bytes")]
    TooLarge(usize),
    /// A certificate that doesn't say whose it is.
    #[error("the client's certificate has no common name, which tls_user = certificate needs")]
    Nameless,
    /// The session may not send any more: its keys are used up, or it has closed.
    #[error("TLS can't send: {0}")]
    Sealing(&'static str),
}

impl TlsSession {
    /// A connection that awaits a ClientHello.
    ///
    /// # Errors
    /// If rustls can't use the configuration.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self { connection, incoming: Vec::new(), has_failed: false })
    }

    /// Takes received bytes. What is to be sent is appended to `outgoing`, what they protect to `plain`. At most
    /// `kept_max` bytes are kept of what came in part.
    ///
    /// # Errors
    /// If the connection can't go on; `outgoing` then ends with the alert that says so, if there is one. What comes after that
    /// is thrown away.
    pub fn receive(
        &mut self,
        bytes: &mut [u8],
        kept_max: usize,
        outgoing: &mut Vec<u8>,
        plain: &mut Vec<u8>,
    ) -> Result<Progress, TlsError> {
        if self.has_failed {
            return Ok(Progress::default());
        }
        let progress = if self.incoming.is_empty() {
            let (used, result) = self.process(bytes, outgoing, plain);
            self.incoming.extend_from_slice(&bytes[used..]);
            result?
        } else {
            let mut incoming = std::mem::take(&mut self.incoming);
            incoming.extend_from_slice(bytes);
            let (used, result) = self.process(&mut incoming, outgoing, plain);
            if used < incoming.len() {
                incoming.drain(..used);
                self.incoming = incoming;
            }
            result?
        };
        if self.incoming.len() > kept_max {
            alert_too_large(Some(self), outgoing);
            return Err(TlsError::TooLarge(kept_max));
        }
        Ok(progress)
    }

    /// Seals `plain` into one record, or several if it is longer than one takes, appended to `outgoing`.
    ///
    /// # Errors
    /// If no more may be sent.
    pub fn seal(&mut self, plain: &[u8], outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        self.write(plain.len() + records(plain.len()) * RECORD_OVERHEAD, outgoing, |traffic, room| {
            traffic.encrypt(plain, room)
        })
    }

    /// Appends close_notify to `outgoing`; nothing may be sealed after it.
    ///
    /// # Errors
    /// If there is no one to send it to: the handshake isn't complete.
    pub fn close_notify(&mut self, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        self.write(0, outgoing, |traffic, room| traffic.queue_close_notify(room))
    }

    /// True if the session was resumed; `None` before the handshake is complete.
    pub fn is_resumed(&self) -> Option<bool> {
        let kind = self.connection.handshake_kind().filter(|_| !self.connection.is_handshaking());
        kind.map(|kind| kind == HandshakeKind::Resumed)
    }

    /// The peer's own certificate, DER.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        self.connection.peer_certificates()?.first().map(AsRef::as_ref)
    }

    /// Drives rustls until it wants more bytes. Answers how many it has used.
    fn process(
        &mut self,
        bytes: &mut [u8],
        outgoing: &mut Vec<u8>,
        plain: &mut Vec<u8>,
    ) -> (usize, Result<Progress, TlsError>) {
        let was_handshaking = self.connection.is_handshaking();
        let (mut used, mut peer_closed) = (0, false);
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut bytes[used..]);
            let (mut more, mut failure) = (true, None);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                discard += record.discard;
                                plain.extend_from_slice(record.payload);
                            }
                            Err(error) => failure = Some(error),
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, outgoing),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => peer_closed = true,
                Ok(_) => more = false,
                Err(error) => failure = Some(error),
            }
            used += discard;
            if let Some(error) = failure {
                self.fail(outgoing);
                return (used, Err(error.into()));
            }
            if !more {
                break;
            }
        }
        let established = was_handshaking && !self.connection.is_handshaking();
        (used, Ok(Progress { established, peer_closed }))
    }

    /// Appends what rustls has queued when it fails: its alert, and a ServerHello before it, if it was to answer with one.
    ///
    /// rustls gives what is queued before it looks at bytes. Without a queue it would go on with its bookkeeping of bytes that
    /// it isn't shown any more, and panic.
    fn fail(&mut self, outgoing: &mut Vec<u8>) {
        self.has_failed = true;
        while self.connection.wants_write() {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, outgoing),
                _ => break,
            }
        }
    }

    /// Writes into room for `needed` bytes at the end of `outgoing`.
    fn write(
        &mut self,
        needed: usize,
        outgoing: &mut Vec<u8>,
        write: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), TlsError> {
        while !self.has_failed {
            // What came in part has to be shown again, or rustls would lose its place in it.
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut self.incoming);
            debug_assert_eq!(discard, 0, "what is kept can't be used yet");
            match state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, outgoing),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let start = outgoing.len();
                    outgoing.resize(start + needed + OWN_BYTES_MAX, 0);
                    let written = write(&mut traffic, &mut outgoing[start..]);
                    outgoing.truncate(start + written.as_ref().map_or(0, |&written| written));
                    return written.map(drop).map_err(|_| TlsError::Sealing("its keys are used up"));
                }
                Ok(_) => break,
                Err(error) => {
                    self.fail(outgoing);
                    return Err(error.into());
                }
            }
        }
        Err(TlsError::Sealing("the handshake isn't complete, or the connection is closed"))
    }
}

/// Appends the alert for a message that is too large, where the client can read it: before ServerHello there are no keys.
pub fn alert_too_large(session: Option<&TlsSession>, outgoing: &mut Vec<u8>) {
    if session.is_none_or(|session| session.connection.protocol_version().is_none()) {
        outgoing.extend_from_slice(&DECODE_ERROR);
    }
}

/// Appends what rustls wants to send.
fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, outgoing: &mut Vec<u8>) {
    let start = outgoing.len();
    // Without room, it tells how much it needs.
    let needed = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(more)) => more.required_size,
        Ok(_) | Err(EncodeError::AlreadyEncoded) => 0,
    };
    outgoing.resize(start + needed, 0);
    let written = data.encode(&mut outgoing[start..]).unwrap_or(0);
    outgoing.truncate(start + written);
}

/// Records that so many bytes take.
fn records(bytes: usize) -> usize {
    bytes.div_ceil(RECORD_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
    use rustls::{
        AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme,
    };

    /// A client that offers these signature schemes, and believes everything.
    #[derive(Debug)]
    struct Offers(Vec<SignatureScheme>);

    impl ServerCertVerifier for Offers {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.clone()
        }
    }

    /// The ClientHello of a client that offers these signature schemes, and the client.
    fn hello(schemes: Vec<SignatureScheme>) -> (ClientConnection, Vec<u8>) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Offers(schemes)))
            .with_no_client_auth();
        let mut client = ClientConnection::new(config.into(), "localhost".try_into().unwrap()).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        (client, hello)
    }

    /// As `openssl s_client -sigalgs ecdsa_secp384r1_sha384`: rustls has queued its ServerHello by then.
    #[test]
    fn an_alert_behind_a_server_hello_reaches_the_client() {
        let (mut client, mut hello) = hello(vec![SignatureScheme::ECDSA_NISTP384_SHA384]);
        let (mut outgoing, mut plain) = (Vec::new(), Vec::new());
        let received = session().receive(&mut hello, 4096, &mut outgoing, &mut plain);
        assert!(matches!(received, Err(TlsError::Tls(_))), "{received:?}");
        let mut bytes = &outgoing[..];
        let failed = loop {
            assert!(!bytes.is_empty(), "no alert in {outgoing:02x?}");
            client.read_tls(&mut bytes).unwrap();
            if let Err(error) = client.process_new_packets() {
                break error;
            }
        };
        assert_eq!(failed, Error::AlertReceived(AlertDescription::HandshakeFailure));
    }

    /// Whole, in two pieces, and with more bytes behind; where the session failed, it may be asked for anything.
    #[test]
    fn every_bit_of_a_client_hello_may_be_flipped() {
        let (_, good) = hello(vec![SignatureScheme::ECDSA_NISTP256_SHA256]);
        let config = config();
        let (mut failed, mut alerts) = (0, 0);
        for bit in 0..good.len() * 8 {
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            for cut in [flipped.len(), flipped.len() / 2] {
                let mut session = TlsSession::new(Arc::clone(&config)).unwrap();
                let (mut outgoing, mut plain) = (Vec::new(), Vec::new());
                let mut is_failed = false;
                for piece in [&flipped[..cut], &flipped[cut..], &good, b"\x15\x03\x03\x00\x02\x02\x28"] {
                    let received = session.receive(&mut piece.to_vec(), 4_096, &mut outgoing, &mut plain);
                    is_failed |= received.is_err();
                }
                let _ = session.close_notify(&mut outgoing);
                let _ = session.seal(b"tick", &mut outgoing);
                assert!(plain.is_empty());
                failed += u32::from(is_failed);
                alerts += u32::from(outgoing.len() >= 7);
            }
        }
        assert!(failed > 1_000 && alerts > 1_000, "{failed} failed, {alerts} were answered");
    }

    fn session() -> TlsSession {
        TlsSession::new(config()).unwrap()
    }

    fn config() -> Arc<ServerConfig> {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }

    /// Among them a client that doesn't know that this port speaks TLS.
    #[test]
    fn bytes_that_are_no_tls_are_answered_with_one_alert() {
        for garbage in
            [&b"TS\x01\x01\0\0\0\x08hunter2!"[..], b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 0xff, 0xff]]
        {
            let (mut outgoing, mut plain) = (Vec::new(), Vec::new());
            let received = session().receive(&mut garbage.to_vec(), 4096, &mut outgoing, &mut plain);
            assert!(matches!(received, Err(TlsError::Tls(_))), "{received:?}");
            assert_eq!(outgoing.len(), 7, "a record of type alert with two bytes: {outgoing:02x?}");
            assert_eq!((outgoing[0], plain.len()), (0x15, 0));
        }
    }
}
