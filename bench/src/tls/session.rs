//! One TLS session without I/O: bytes from the wire to plaintext, and back.

use std::sync::Arc;

use rustls::{
    ClientConfig, Error, HandshakeKind,
    client::{ClientConnectionData, UnbufferedClientConnection},
    pki_types::ServerName,
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus,
        WriteTraffic,
    },
};

type Traffic<'c> = WriteTraffic<'c, ClientConnectionData>;

/// Buffers that the sessions of one worker share: they take turns.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Received bytes; rustls decrypts in place.
    input: Vec<u8>,
    /// Plaintext.
    pub plaintext: Vec<u8>,
    /// Bytes to be sent.
    pub output: Vec<u8>,
}

/// A session, and the beginning of a record whose rest is still to come.
pub struct Session {
    tls: UnbufferedClientConnection,
    partial: Vec<u8>,
    agreed: bool,
}

/// Progress by received bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// The handshake was completed by them.
    pub agreed: Option<HandshakeKind>,
    /// The server's close_notify was among them.
    pub closed: bool,
}

impl Session {
    /// A session whose ClientHello is in `scratch.output`.
    ///
    /// # Errors
    /// If rustls can't begin.
    pub fn start(
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
        scratch: &mut Scratch,
    ) -> Result<Self, Error> {
        let tls = UnbufferedClientConnection::new(config.clone(), name)?;
        let mut this = Self { tls, partial: Vec::new(), agreed: false };
        this.receive(&[], scratch)?;
        Ok(this)
    }

    /// Takes what came in. Plaintext and what is to be sent are appended to those of `scratch`.
    ///
    /// # Errors
    /// An error that ends the session; an alert may have to be sent.
    pub fn receive(&mut self, bytes: &[u8], scratch: &mut Scratch) -> Result<Progress, Error> {
        scratch.input.clear();
        scratch.input.append(&mut self.partial);
        scratch.input.extend_from_slice(bytes);
        let mut input = std::mem::take(&mut scratch.input);
        let mut taken = 0;
        let outcome = self.drive(&mut input, &mut taken, scratch);
        if outcome.is_err() {
            self.encode_alert(&mut input[taken..], scratch);
        }
        // As a rule nothing is left, and an empty one allocates nothing.
        self.partial = input[taken..].to_vec();
        scratch.input = input;
        outcome
    }

    /// Appends `plaintext`, sealed, to `scratch.output`.
    ///
    /// # Errors
    /// Before the handshake is over, and when the session is.
    pub fn seal(&mut self, plaintext: &[u8], scratch: &mut Scratch) -> Result<(), Error> {
        self.write(scratch, |traffic, room| traffic.encrypt(plaintext, room))
    }

    /// Appends a close_notify to `scratch.output`.
    ///
    /// # Errors
    /// Before the handshake is over, and when the session is.
    pub fn close_notify(&mut self, scratch: &mut Scratch) -> Result<(), Error> {
        self.write(scratch, |traffic, room| traffic.queue_close_notify(room))
    }

    fn write(
        &mut self,
        scratch: &mut Scratch,
        mut write: impl FnMut(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Error> {
        let status = self.tls.process_tls_records(&mut self.partial);
        debug_assert_eq!(status.discard, 0, "whole records were taken when they came");
        match status.state? {
            ConnectionState::WriteTraffic(mut traffic) => {
                grow(&mut scratch.output, |room| match write(&mut traffic, room) {
                    Ok(len) => Ok(Ok(len)),
                    Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                        Err(required_size)
                    }
                    Err(EncryptError::EncryptExhausted) => Ok(Err(Error::EncryptError)),
                })
            }
            _ => Err(Error::HandshakeNotComplete),
        }
    }

    /// Until rustls wants more bytes than there are; counts those that it has `taken`.
    fn drive(
        &mut self,
        input: &mut [u8],
        taken: &mut usize,
        scratch: &mut Scratch,
    ) -> Result<Progress, Error> {
        let mut progress = Progress::default();
        loop {
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(&mut input[*taken..]);
            let state = state.inspect_err(|_| *taken += discard)?;
            let done = match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        scratch.plaintext.extend_from_slice(record.payload);
                    }
                    false
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    encode(&mut data, &mut scratch.output)?;
                    false
                }
                // The caller sends it when this is over.
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                ConnectionState::PeerClosed => {
                    progress.closed = true;
                    false
                }
                _ => true,
            };
            *taken += discard;
            if done {
                break;
            }
        }
        if !self.agreed && !self.tls.is_handshaking() {
            self.agreed = true;
            progress.agreed = self.tls.handshake_kind();
        }
        Ok(progress)
    }

    /// The alert about an error, if rustls has one. Asked twice, it would handle the same bytes again; and it panics
    /// unless it is shown again what it hasn't taken.
    fn encode_alert(&mut self, rest: &mut [u8], scratch: &mut Scratch) {
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = self.tls.process_tls_records(rest).state {
            // An alert that can't be had is none.
            _ = encode(&mut data, &mut scratch.output);
        }
    }
}

/// Appends what rustls has to send.
fn encode(data: &mut EncodeTlsData<'_, ClientConnectionData>, output: &mut Vec<u8>) -> Result<(), Error> {
    grow(output, |room| match data.encode(room) {
        Ok(len) => Ok(Ok(len)),
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => Err(required_size),
        Err(EncodeError::AlreadyEncoded) => Ok(Ok(0)),
    })
}

/// As much as most flights need; a session with a longer one asks for it.
const ROOM: usize = 512;

/// Appends what `write` writes. It answers how many bytes that were, or how much room it needs.
fn grow(
    output: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<Result<usize, Error>, usize>,
) -> Result<(), Error> {
    let at = output.len();
    output.resize(at + ROOM, 0);
    let written = loop {
        match write(&mut output[at..]) {
            Ok(written) => break written,
            Err(needed) => output.resize(at + needed, 0),
        }
    };
    output.truncate(at + *written.as_ref().unwrap_or(&0));
    written.map(drop)
}
