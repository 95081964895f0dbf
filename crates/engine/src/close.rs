//! Reasons for which a connection ends, and what follows from each.

use std::borrow::Cow;

use tickstream_wire::{ErrorCode, FrameError};

use crate::limit::Limit;

/// Reason for which a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CloseReason {
    /// The peer closed its side.
    PeerClosed,
    /// The connection broke: reset, timed out by TCP, unreachable.
    PeerReset,
    /// The peer left before it sent a byte: a load balancer's probe.
    Probe,
    /// Bytes that are no frame: a port scanner, a TLS hello.
    NotAFrame,
    /// No valid PROXY header where one is needed.
    BadProxyHeader,
    /// The TLS handshake took too long.
    HandshakeTimeout,
    /// TLS failed; the peer was told by an alert.
    TlsFailed,
    /// The first frame was not AUTH.
    AuthRequired,
    /// No AUTH within the limit.
    AuthTimeout,
    /// Wrong credentials.
    AuthFailed,
    /// The user lacks the role for what it asked, or isn't a user any more.
    PermissionDenied,
    /// Too many frames a second.
    RateLimited,
    /// A payload doesn't match its CRC32C.
    BadCrc,
    /// A payload is no valid message of its type.
    BadFrame,
    /// Another protocol version.
    UnsupportedVersion,
    /// An unknown type that may not be skipped.
    UnsupportedType,
    /// Length above the limit.
    MessageTooLarge,
    /// A known frame at the wrong time or from the wrong side.
    ProtocolViolation,
    /// No HEARTBEAT within the limit.
    HeartbeatTimeout,
    /// The oldest unsent byte is older than the write deadline.
    SlowConsumer,
    /// A limit on connections was reached.
    ServerBusy,
    /// The server ends.
    ShuttingDown,
    /// An operator closed it.
    Kicked,
    /// A fault of ours.
    Internal,
}

/// Log level of a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Everyday.
    Debug,
    /// Worth a line.
    Info,
    /// Somebody should look at it if it goes on.
    Warn,
    /// A bug.
    Error,
}

impl CloseReason {
    /// Every reason.
    pub const ALL: [Self; 24] = [
        Self::PeerClosed,
        Self::PeerReset,
        Self::Probe,
        Self::NotAFrame,
        Self::BadProxyHeader,
        Self::HandshakeTimeout,
        Self::TlsFailed,
        Self::AuthRequired,
        Self::AuthTimeout,
        Self::AuthFailed,
        Self::PermissionDenied,
        Self::RateLimited,
        Self::BadCrc,
        Self::BadFrame,
        Self::UnsupportedVersion,
        Self::UnsupportedType,
        Self::MessageTooLarge,
        Self::ProtocolViolation,
        Self::HeartbeatTimeout,
        Self::SlowConsumer,
        Self::ServerBusy,
        Self::ShuttingDown,
        Self::Kicked,
        Self::Internal,
    ];

    /// All that follows from a reason: its name in logs and metrics, what the peer is told (`None`: nothing),
    /// and how loud the log is.
    const fn traits(self) -> (&'static str, Option<ErrorCode>, Severity) {
        use ErrorCode as Code;
        use Severity::{Debug, Error, Info, Warn};
        match self {
            Self::PeerClosed => ("peer_closed", None, Info),
            Self::PeerReset => ("peer_reset", None, Info),
            Self::Probe => ("probe", None, Debug),
            Self::NotAFrame => ("not_a_frame", None, Debug),
            Self::BadProxyHeader => ("bad_proxy_header", None, Warn),
            Self::HandshakeTimeout => ("handshake_timeout", None, Info),
            Self::TlsFailed => ("tls_failed", None, Info),
            Self::AuthRequired => ("auth_required", Some(Code::AuthRequired), Info),
            Self::AuthTimeout => ("auth_timeout", Some(Code::AuthRequired), Info),
            Self::AuthFailed => ("auth_failed", Some(Code::AuthFailed), Warn),
            Self::PermissionDenied => ("permission_denied", Some(Code::PermissionDenied), Warn),
            Self::RateLimited => ("rate_limited", Some(Code::RateLimited), Warn),
            Self::BadCrc => ("bad_crc", Some(Code::BadCrc), Warn),
            Self::BadFrame => ("bad_frame", Some(Code::BadFrame), Warn),
            Self::UnsupportedVersion => ("unsupported_version", Some(Code::UnsupportedVersion), Info),
            Self::UnsupportedType => ("unsupported_type", Some(Code::UnsupportedType), Info),
            Self::MessageTooLarge => ("message_too_large", Some(Code::MessageTooLarge), Warn),
            Self::ProtocolViolation => ("protocol_violation", Some(Code::ProtocolViolation), Warn),
            Self::HeartbeatTimeout => ("heartbeat_timeout", Some(Code::HeartbeatTimeout), Info),
            Self::SlowConsumer => ("slow_consumer", Some(Code::SlowConsumer), Warn),
            Self::ServerBusy => ("server_busy", Some(Code::ServerBusy), Warn),
            Self::ShuttingDown => ("shutting_down", Some(Code::ShuttingDown), Info),
            // What follows from that code is what is wanted: come back after a while, or elsewhere, and resume.
            Self::Kicked => ("kicked", Some(Code::ShuttingDown), Info),
            Self::Internal => ("internal", Some(Code::Internal), Error),
        }
    }

    /// Its name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        self.traits().0
    }

    /// The code of the ERROR frame that the peer gets; `None` where it gets none.
    pub const fn code(self) -> Option<ErrorCode> {
        self.traits().1
    }

    /// Log level.
    pub const fn severity(self) -> Severity {
        self.traits().2
    }
}

/// A reason to close, with what to tell people about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub reason: CloseReason,
    pub detail: Cow<'static, str>,
    /// The limit that fired.
    pub limit: Option<Limit>,
    /// Delay after which the peer may try again, milliseconds; 0: see [`CloseReason`].
    pub retry_after_ms: u32,
}

impl Fault {
    pub fn new(reason: CloseReason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, detail: detail.into(), limit: None, retry_after_ms: 0 }
    }

    /// The fault of having reached a limit.
    pub fn limit(limit: Limit, reason: CloseReason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { limit: Some(limit), ..Self::new(reason, detail) }
    }
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Self {
        let reason = match error {
            FrameError::Magic { .. } => CloseReason::NotAFrame,
            FrameError::Version { .. } => CloseReason::UnsupportedVersion,
            FrameError::TooLarge { .. } => CloseReason::MessageTooLarge,
            FrameError::Crc { .. } => CloseReason::BadCrc,
        };
        let limit = matches!(error, FrameError::TooLarge { .. }).then_some(Limit::FrameBytes);
        Self { limit, ..Self::new(reason, error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name_of_its_own_and_agrees_with_the_wire() {
        let mut names: Vec<_> = CloseReason::ALL.iter().map(|reason| reason.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CloseReason::ALL.len());
        for error in [
            FrameError::Magic { found: 0 },
            FrameError::Version { found: 9 },
            FrameError::TooLarge { length: 9, max: 1 },
            FrameError::Crc { kind: 1, computed: 0, found: 1 },
        ] {
            assert_eq!(Fault::from(error).reason.code(), error.code());
        }
    }
}
