//! Publishing whole batches for others: each is one PUBLISH, and its submitter gets the server's answer.
//!
//! For a program that forwards what others send and owes each of them an answer, where
//! [`Publisher`](super::Publisher) serves an application that makes events of its own. [`queue`] decides, without I/O or
//! a clock; the task around it is the [publisher's](super::driver).

mod answer;
mod encoded;
mod publisher;
mod queue;

pub use answer::{BatchAnswer, BatchRejection, SubmitError};
pub use encoded::EncodedBatch;
pub use publisher::{BatchPublisher, BatchPublishing, PublisherStatus};
