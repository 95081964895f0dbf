use std::fmt;

/// Why the server closes a connection, as the `code` of an ERROR frame says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The first frame was not AUTH.
    AuthRequired,
    /// User name or password is wrong; the code doesn't say which.
    AuthFailed,
    /// The user may not do this: it lacks the role.
    PermissionDenied,
    /// Too many attempts or messages.
    RateLimited,
    /// A payload doesn't match its CRC32C.
    BadCrc,
    /// A payload is no valid message of its type.
    BadFrame,
    /// The header names another protocol version.
    UnsupportedVersion,
    /// The header names a type below 0x80 that isn't known.
    UnsupportedType,
    /// Length is above the limit.
    MessageTooLarge,
    /// A valid frame at the wrong time or from the wrong side.
    ProtocolViolation,
    /// No HEARTBEAT for the heartbeat timeout.
    HeartbeatTimeout,
    /// The client reads too slowly.
    SlowConsumer,
    /// The server takes no more connections at the moment.
    ServerBusy,
    /// The server ends.
    ShuttingDown,
    /// A fault of the server's own.
    Internal,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 15] = [
        Self::AuthRequired,
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
        Self::Internal,
    ];

    /// The code as it stands in an ERROR frame.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthRequired => "AUTH_REQUIRED",
            Self::AuthFailed => "AUTH_FAILED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::RateLimited => "RATE_LIMITED",
            Self::BadCrc => "BAD_CRC",
            Self::BadFrame => "BAD_FRAME",
            Self::UnsupportedVersion => "UNSUPPORTED_VERSION",
            Self::UnsupportedType => "UNSUPPORTED_TYPE",
            Self::MessageTooLarge => "MESSAGE_TOO_LARGE",
            Self::ProtocolViolation => "PROTOCOL_VIOLATION",
            Self::HeartbeatTimeout => "HEARTBEAT_TIMEOUT",
            Self::SlowConsumer => "SLOW_CONSUMER",
            Self::ServerBusy => "SERVER_BUSY",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::Internal => "INTERNAL",
        }
    }

    /// The code with this name; `None` for one that a later server may have added.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == code)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
