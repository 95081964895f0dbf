//! The limits that can fire, each counted under its own name.

/// A limit that refused, delayed or ended something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Limit {
    /// Connections of the shard.
    Connections,
    /// Connections of one IPv4 address or IPv6 /64.
    ConnectionsPerAddress,
    /// Connections of one user.
    ConnectionsPerUser,
    /// Connections of the shard that haven't authenticated.
    Unauthenticated,
    /// The same, of one IPv4 address or IPv6 /64.
    UnauthenticatedPerAddress,
    /// New connections a second.
    ConnectionRate,
    /// TLS handshakes underway; one more waits.
    Handshakes,
    /// Failed AUTHs of one IPv4 address or IPv6 /64.
    AuthFailures,
    /// Frames of one connection in a second.
    Frames,
    /// Bytes of one frame.
    FrameBytes,
    /// The process's memory.
    Memory,
    /// Ticks are late: the CPU has no room.
    Lag,
    /// PROXY headers are taken from trusted sources only.
    UntrustedProxy,
    /// PUBLISHes of one connection without a PUBLISH_ACK.
    PublishCredits,
    /// Events of one PUBLISH.
    PublishEvents,
    /// Bytes of one PUBLISH's events once they are unpacked.
    PublishUnpacked,
    /// Bytes of PUBLISHes of which only a part has come.
    PartialPublishes,
    /// Events of one connection in a second.
    EventRate,
    /// Records that the journal can take.
    Journal,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 19] = [
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::ConnectionsPerUser,
        Self::Unauthenticated,
        Self::UnauthenticatedPerAddress,
        Self::ConnectionRate,
        Self::Handshakes,
        Self::AuthFailures,
        Self::Frames,
        Self::FrameBytes,
        Self::Memory,
        Self::Lag,
        Self::UntrustedProxy,
        Self::PublishCredits,
        Self::PublishEvents,
        Self::PublishUnpacked,
        Self::PartialPublishes,
        Self::EventRate,
        Self::Journal,
    ];

    /// Message for a peer that it keeps out.
    pub(crate) const fn refusal(self) -> &'static str {
        match self {
            Self::Connections => "the limit on connections is reached",
            Self::ConnectionsPerAddress => "the limit on connections of your address is reached",
            Self::ConnectionsPerUser => "the limit on connections of your user is reached",
            Self::Unauthenticated => "too many connections haven't authenticated",
            Self::UnauthenticatedPerAddress => "too many connections of your address haven't authenticated",
            Self::ConnectionRate => "too many new connections",
            Self::Handshakes => "too many handshakes are underway",
            Self::AuthFailures => "too many failed AUTHs from your address",
            Self::Frames => "too many frames in a second",
            Self::FrameBytes => "the frame is too large",
            Self::Memory | Self::Lag => "the server is overloaded",
            Self::UntrustedProxy => "your address isn't a trusted proxy's",
            Self::PublishCredits => "too many PUBLISHes without a PUBLISH_ACK",
            Self::PublishEvents => "too many events in a PUBLISH",
            Self::PublishUnpacked => "the batch unpacks to too many bytes",
            Self::PartialPublishes => "the server waits for the rest of too many PUBLISHes",
            Self::EventRate => "too many events in a second",
            Self::Journal => "the server can't store events as fast as they come",
        }
    }

    /// Its name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::ConnectionsPerUser => "connections_per_user",
            Self::Unauthenticated => "unauthenticated",
            Self::UnauthenticatedPerAddress => "unauthenticated_per_address",
            Self::ConnectionRate => "connection_rate",
            Self::Handshakes => "handshakes",
            Self::AuthFailures => "auth_failures",
            Self::Frames => "frames",
            Self::FrameBytes => "frame_bytes",
            Self::Memory => "memory",
            Self::Lag => "lag",
            Self::UntrustedProxy => "untrusted_proxy",
            Self::PublishCredits => "publish_credits",
            Self::PublishEvents => "publish_events",
            Self::PublishUnpacked => "publish_unpacked",
            Self::PartialPublishes => "partial_publishes",
            Self::EventRate => "event_rate",
            Self::Journal => "journal",
        }
    }
}
