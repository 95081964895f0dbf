//! Everything that can go wrong, and whether trying again makes sense.

use std::{fmt, io, path::PathBuf, time::Duration};

use tickstream_wire::{
    ErrorCode, FrameError, FrameType,
    messages::{DecodeError, ErrorMsg},
};

use crate::tls_error::{TlsConfigError, TlsError};

/// Why there is no connection, or no longer one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The builder was given something that can't work.
    #[error("{setting}: {problem}")]
    Config {
        /// The builder's method.
        setting: &'static str,
        /// The problem with it.
        problem: &'static str,
    },
    /// TLS can't be had with what the builder was given.
    #[error("TLS can't be set up")]
    TlsConfig(#[from] TlsConfigError),
    /// The server's name could not be resolved, or none of its addresses takes connections.
    #[error("can't connect to {server}")]
    Connect {
        /// The server, as the builder was given it.
        server: String,
        /// The system's error.
        source: io::Error,
    },
    /// There is no TLS with a server.
    #[error("no TLS with {server}")]
    Tls {
        /// The server, as the builder was given it.
        server: String,
        /// Why not.
        #[source]
        problem: TlsError,
    },
    /// The other side didn't do something in time.
    #[error("{operation} took longer than {after:?}")]
    Timeout {
        /// The operation that was waited for.
        operation: Operation,
        /// Time after which it was given up.
        after: Duration,
    },
    /// The server closed the connection and said why.
    #[error("refused by the server: {code}: {message}")]
    Refused {
        /// The reason; one that this version doesn't know counts as [`ErrorCode::Internal`].
        code: ErrorCode,
        /// The server's words, for people.
        message: String,
        /// Time for which the server doesn't want to see this client, if it said so.
        retry_after: Option<Duration>,
    },
    /// The server asked to leave, the time that it gave is over.
    #[error("the server asked to reconnect: {reason}")]
    GoAway {
        /// The server's words, for people.
        reason: String,
    },
    /// The bytes are no frames of this protocol.
    #[error("the server sent an invalid frame")]
    Frame(#[from] FrameError),
    /// A frame is valid, what it says is not.
    #[error("the server sent an invalid message")]
    BadMessage(#[from] BadMessage),
    /// The connection broke.
    #[error("the connection broke")]
    Lost(#[source] io::Error),
    /// The server closed the connection without a reason.
    #[error("the server closed the connection without a word")]
    Ended,
    /// The server takes no events: it runs without a journal, or is of a version that has none.
    #[error("event collection is off at {server}: its operator has to start it with --journal")]
    CollectionOff {
        /// The server, as the builder was given it.
        server: String,
    },
    /// The disk queue can't be had.
    #[error("can't open the disk queue in {}", dir.display())]
    DiskQueue {
        /// Its directory.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The subscription was over already, or its runtime is.
    #[error("the subscription is over")]
    Closed,
}

/// A message that the server must not send.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadMessage {
    /// The payload is no protobuf message of the frame's type.
    #[error("the payload of a {kind:?} frame can't be decoded")]
    Payload {
        /// The frame's type.
        kind: FrameType,
        /// The decoder's error.
        source: DecodeError,
    },
    /// A HEARTBEAT has no payload.
    #[error("a HEARTBEAT with a payload of {length} bytes")]
    HeartbeatPayload {
        /// Length of the payload, bytes.
        length: usize,
    },
    /// A known frame at the wrong time, or one that only clients send.
    #[error("a {kind:?} frame at the wrong time")]
    Unexpected {
        /// The frame's type.
        kind: FrameType,
    },
    /// A frame type below 0x80 that this version doesn't know.
    #[error("frame type 0x{kind:02x} is unknown")]
    UnknownType {
        /// The header's Type.
        kind: u8,
    },
    /// A batch in a schema that this version doesn't know.
    #[error("schema version {found} is unknown")]
    SchemaVersion {
        /// The batch's version.
        found: u32,
    },
    /// A batch without ticks.
    #[error("a batch without ticks")]
    EmptyBatch,
    /// A tick of another mode than the one that was subscribed to.
    #[error("a tick of mode number {found} in another mode's subscription")]
    WrongMode {
        /// The tick's mode, by its number in the schema.
        found: i32,
    },
    /// An answer to a batch of events that wasn't sent.
    #[error("an answer to batch {sequence} of events, which isn't on its way")]
    UnknownBatch {
        /// The answer's sequence.
        sequence: u64,
    },
    /// An answer that doesn't say of each event of a batch what became of it.
    #[error("the answer to batch {sequence} of events doesn't fit it")]
    Rejections {
        /// The batch's sequence.
        sequence: u64,
    },
    /// The sequences of a batch run past 2^64.
    #[error("the sequences of a batch overflow")]
    SequenceOverflow,
}

/// Operation that a [`Error::Timeout`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Resolving the name and connecting.
    Connect,
    /// Agreeing on TLS.
    Handshake,
    /// The server's answer to the credentials.
    Authenticate,
    /// The server's answer to a subscription.
    Subscribe,
    /// Any frame, at least the echo of a heartbeat.
    Heartbeat,
}

impl Error {
    /// True if the same attempt may succeed later. A subscription that was accepted makes it by itself, and so does a
    /// publisher.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::GoAway { .. }
            | Self::Lost(_)
            | Self::Ended => true,
            Self::Refused { code, .. } => code_is_retryable(*code),
            Self::Tls { problem, .. } => problem.is_retryable(),
            Self::Frame(error) => match error {
                // No frames at all: often a proxy that has no server behind it at the moment.
                FrameError::Magic { .. } | FrameError::Crc { .. } => true,
                FrameError::Version { .. } | FrameError::TooLarge { .. } => false,
            },
            Self::Config { .. }
            | Self::TlsConfig(_)
            | Self::BadMessage(_)
            | Self::CollectionOff { .. }
            | Self::DiskQueue { .. }
            | Self::Closed => false,
        }
    }

    /// Time for which the server doesn't want to see this client, if it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// An error and what caused it, in one line for people.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The column "reconnect?" of the protocol's table of codes.
fn code_is_retryable(code: ErrorCode) -> bool {
    match code {
        ErrorCode::AuthRequired
        | ErrorCode::RateLimited
        | ErrorCode::BadCrc
        | ErrorCode::HeartbeatTimeout
        | ErrorCode::SlowConsumer
        | ErrorCode::ServerBusy
        | ErrorCode::ShuttingDown
        | ErrorCode::Internal => true,
        ErrorCode::AuthFailed
        | ErrorCode::PermissionDenied
        | ErrorCode::BadFrame
        | ErrorCode::UnsupportedVersion
        | ErrorCode::UnsupportedType
        | ErrorCode::MessageTooLarge
        | ErrorCode::ProtocolViolation => false,
    }
}

impl From<ErrorMsg> for Error {
    fn from(error: ErrorMsg) -> Self {
        let retry_after = retry_after(error.retry_after_ms);
        match ErrorCode::parse(&error.code) {
            Some(code) => Self::Refused { code, message: error.message, retry_after },
            // The protocol: an unknown code is treated like INTERNAL. Its name is kept for people.
            None => Self::Refused {
                code: ErrorCode::Internal,
                message: format!("{}: {}", error.code, error.message),
                retry_after,
            },
        }
    }
}

/// A server's mistake must not lock a client out for the 49 days that the field can say.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// A `retry_after_ms` of the protocol, where 0 is no advice.
pub(crate) fn retry_after(ms: u32) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms.into()).min(RETRY_AFTER_MAX))
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Handshake => "connecting and agreeing on TLS",
            Self::Authenticate => "the answer to the credentials",
            Self::Subscribe => "the answer to the subscription",
            Self::Heartbeat => "a sign of life from the server",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str, retry_after_ms: u32) -> Error {
        ErrorMsg { code: code.into(), message: "words".into(), retry_after_ms }.into()
    }

    #[test]
    fn codes_say_whether_to_come_back() {
        let retryable: Vec<_> =
            ErrorCode::ALL.into_iter().filter(|code| refused(code.as_str(), 0).is_retryable()).collect();
        use ErrorCode::{
            AuthRequired, BadCrc, HeartbeatTimeout, Internal, RateLimited, ServerBusy, ShuttingDown,
            SlowConsumer,
        };
        assert_eq!(
            retryable,
            [
                AuthRequired,
                RateLimited,
                BadCrc,
                HeartbeatTimeout,
                SlowConsumer,
                ServerBusy,
                ShuttingDown,
                Internal
            ]
        );
    }

    #[test]
    fn an_unknown_code_is_internal_and_keeps_its_name() {
        let error = refused("NEW_IN_2030", 0);
        assert_eq!(error.to_string(), "refused by the server: INTERNAL: NEW_IN_2030: words");
        assert!(error.is_retryable());
    }

    #[test]
    fn retry_after_is_kept_within_reason() {
        let check = |ms, expected| assert_eq!(refused("SERVER_BUSY", ms).retry_after(), expected);
        check(0, None);
        check(1500, Some(Duration::from_millis(1500)));
        check(u32::MAX, Some(RETRY_AFTER_MAX));
    }
}
