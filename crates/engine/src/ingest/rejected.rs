//! The rejections of a batch.

use tickstream_schema::Rejection;

/// The rejection of one event of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RejectedEvent {
    pub index: u32,
    pub rejection: Rejection,
}
