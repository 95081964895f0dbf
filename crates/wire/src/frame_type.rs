//! The types of frames.

/// The frame types of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameType {
    /// Client: credentials; the first frame of a connection.
    Auth = 0x01,
    /// Client: which stream, and from where.
    Subscribe = 0x02,
    /// Both: no payload; the server echoes it.
    Heartbeat = 0x03,
    /// Server: ticks.
    DataBatch = 0x04,
    /// Server: why it closes.
    Error = 0x05,
    /// Server: AUTH or SUBSCRIBE was accepted.
    Ack = 0x06,
    /// Server: finish up and reconnect later.
    GoAway = 0x07,
    /// Client: a batch of events.
    Publish = 0x10,
    /// Server: what became of a batch of events; what it accepted is on stable storage.
    PublishAck = 0x11,
}

impl FrameType {
    /// Every type, in the order of its number.
    pub const ALL: [Self; 9] = [
        Self::Auth,
        Self::Subscribe,
        Self::Heartbeat,
        Self::DataBatch,
        Self::Error,
        Self::Ack,
        Self::GoAway,
        Self::Publish,
        Self::PublishAck,
    ];

    /// The type with this number in the header, if version 1 has one.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u8 == byte)
    }
}
