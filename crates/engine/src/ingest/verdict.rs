//! The rejections of a batch.

pub(crate) use tickstream_schema::Rejection as Finding;
pub use tickstream_schema::RejectionCode as VerdictCode;

/// The verdict on one event of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub index: u32,
    pub finding: Finding,
}
