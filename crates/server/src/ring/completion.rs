//! What a completion is about, and how that fits into its 64 bits.

use std::io;
use std::os::fd::OwnedFd;

use tickstream_engine::{ConnId, Slot};
use tickstream_journal as journal;

use super::Received;
use super::files::Step;

/// Something that happened to a socket.
#[derive(Debug)]
pub enum Completion {
    /// A new connection.
    Accepted {
        /// Its socket.
        fd: OwnedFd,
        /// Which listener it came from, from 0.
        listener: usize,
    },
    /// Accepting failed: out of descriptors or memory, or the connection was gone. Accepting has ended.
    AcceptFailed {
        /// Why.
        error: io::Error,
    },
    /// Bytes came. They are ours until they are recycled; then see to it that receiving goes on.
    Received {
        /// From whom.
        conn: ConnId,
        /// Where they are.
        received: Received,
    },
    /// The peer sent FIN.
    PeerClosed {
        /// Which peer.
        conn: ConnId,
    },
    /// The connection broke.
    PeerReset {
        /// Which connection.
        conn: ConnId,
        /// How.
        error: io::Error,
    },
    /// A send was answered.
    Sent {
        /// To whom.
        conn: ConnId,
        /// Bytes, or the negative errno.
        result: i32,
    },
    /// A full socket takes bytes again, or broke.
    Writable {
        /// Which.
        conn: ConnId,
    },
    /// An operation of the journal is done.
    File(Box<journal::Completion>),
}

/// What was asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Operation {
    Ignored = 0,
    Accept = 1,
    Receive = 2,
    Send = 3,
    Poll = 4,
    Timer = 5,
    File = 6,
}

/// `operation (8 bits) | slot (24 bits) | generation (32 bits)`; of an ACCEPT, the listener instead of both, of a
/// file, what the journal calls the operation, and its step
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UserData(u64);

/// Slots, and so connections, of one ring.
pub const SLOTS: u32 = 1 << 24;

impl UserData {
    pub fn of(operation: Operation) -> Self {
        Self((operation as u64) << 56)
    }

    pub fn conn(operation: Operation, conn: ConnId) -> Self {
        debug_assert!(conn.slot.0 < SLOTS);
        Self((operation as u64) << 56 | u64::from(conn.slot.0 % SLOTS) << 32 | u64::from(conn.generation))
    }

    /// The ACCEPT of a listener.
    pub fn accept(listener: usize) -> Self {
        Self((Operation::Accept as u64) << 56 | listener as u64)
    }

    /// A step of an operation of the journal.
    pub fn file(id: journal::OperationId, step: Step) -> Self {
        Self((Operation::File as u64) << 56 | (id as u64) << 32 | step as u64)
    }

    /// Of which operation of the journal it is which step.
    pub fn file_step(self) -> Option<(journal::OperationId, Step)> {
        let step = if self.0 as u32 == Step::First as u32 { Step::First } else { Step::Sync };
        Some((journal::OperationId::from_byte((self.0 >> 32) as u8)?, step))
    }

    /// Whose ACCEPT it is.
    pub fn listener(self) -> usize {
        self.0 as u32 as usize
    }

    pub fn operation(self) -> Operation {
        match (self.0 >> 56) as u8 {
            1 => Operation::Accept,
            2 => Operation::Receive,
            3 => Operation::Send,
            4 => Operation::Poll,
            5 => Operation::Timer,
            6 => Operation::File,
            _ => Operation::Ignored,
        }
    }

    pub fn conn_id(self) -> ConnId {
        ConnId { slot: Slot((self.0 >> 32) as u32 % SLOTS), generation: self.0 as u32 }
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
    fn user_data_holds_operation_slot_and_generation() {
        for operation in [Operation::Receive, Operation::Send, Operation::Poll] {
            for slot in [0, 1, SLOTS - 1] {
                for generation in [0, u32::MAX] {
                    let conn = ConnId { slot: Slot(slot), generation };
                    let data = UserData::from(u64::from(UserData::conn(operation, conn)));
                    assert_eq!((data.operation(), data.conn_id()), (operation, conn));
                }
            }
        }
        assert_eq!(UserData::of(Operation::Timer).operation(), Operation::Timer);
        for id in journal::OperationId::ALL {
            for step in [Step::First, Step::Sync] {
                let data = UserData::from(u64::from(UserData::file(id, step)));
                assert_eq!((data.operation(), data.file_step()), (Operation::File, Some((id, step))));
            }
        }
    }
}
