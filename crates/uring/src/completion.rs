//! The 64 bits that a submission carries to its completion: the kind of operation, and the caller's number for it.

/// Kinds of operations, which tell what a completion's result means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Operation {
    Ignored = 0,
    Accept = 1,
    Receive = 2,
    Send = 3,
    Poll = 4,
    Timer = 5,
    File = 6,
    Connect = 7,
    SendAll = 8,
}

/// `operation (8 bits) | token (56 bits)`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UserData(u64);

/// Bits of a caller's number for an operation.
const TOKEN_BITS: u32 = 56;

impl UserData {
    pub fn new(operation: Operation, token: u64) -> Self {
        debug_assert!(token >> TOKEN_BITS == 0, "{token:#x} has more than {TOKEN_BITS} bits");
        Self((operation as u64) << TOKEN_BITS | token & ((1 << TOKEN_BITS) - 1))
    }

    pub fn operation(self) -> Operation {
        match (self.0 >> TOKEN_BITS) as u8 {
            1 => Operation::Accept,
            2 => Operation::Receive,
            3 => Operation::Send,
            4 => Operation::Poll,
            5 => Operation::Timer,
            6 => Operation::File,
            7 => Operation::Connect,
            8 => Operation::SendAll,
            _ => Operation::Ignored,
        }
    }

    pub fn token(self) -> u64 {
        self.0 & ((1 << TOKEN_BITS) - 1)
    }
}

impl From<u64> for UserData {
    fn from(bits: u64) -> Self {
        Self(bits)
    }
}

impl From<UserData> for u64 {
    fn from(data: UserData) -> Self {
        data.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_holds_operation_and_token() {
        use Operation::{Accept, Connect, File, Ignored, Poll, Receive, Send, SendAll, Timer};
        for operation in [Ignored, Accept, Receive, Send, Poll, Timer, File, Connect, SendAll] {
            for token in [0, 1, (1 << TOKEN_BITS) - 1] {
                let data = UserData::from(u64::from(UserData::new(operation, token)));
                assert_eq!((data.operation(), data.token()), (operation, token));
            }
        }
    }
}
