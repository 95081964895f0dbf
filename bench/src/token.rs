//! The meaning of a completion, in the 56 bits that the ring carries along.

/// Kind of an operation, its connection, and a number for the connection's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub generation: u16,
    pub slot: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Connect,
    Greeting,
    Heartbeat,
    Receive,
    Hangup,
    Publish,
}

impl Token {
    /// As the ring carries it.
    pub fn pack(self) -> u64 {
        u64::from(self.slot) | u64::from(self.generation) << 32 | (self.kind as u64) << 48
    }

    /// Back from the ring.
    pub fn unpack(token: u64) -> Self {
        let kind = match token >> 48 {
            0 => Kind::Connect,
            1 => Kind::Greeting,
            2 => Kind::Heartbeat,
            3 => Kind::Receive,
            4 => Kind::Hangup,
            _ => Kind::Publish,
        };
        Self { kind, generation: (token >> 32) as u16, slot: token as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_ring() {
        use Kind::{Connect, Greeting, Hangup, Heartbeat, Publish, Receive};
        for kind in [Connect, Greeting, Heartbeat, Receive, Hangup, Publish] {
            let token = Token { kind, generation: 0xFEDC, slot: u32::MAX - 1 };
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
