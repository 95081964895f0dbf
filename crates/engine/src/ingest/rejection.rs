//! The rejections of a batch.

pub(crate) use tickstream_schema::Rejection;
pub use tickstream_schema::RejectionCode;

/// The rejection on one event of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexedRejection {
    pub index: u32,
    pub rejection: Rejection,
}
