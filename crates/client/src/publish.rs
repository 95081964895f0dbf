//! Publishing: from an application's events to the server's answers.
//!
//! [`pipeline`] decides, without I/O or a clock; [`driver`] is the task around it, which sees it as a [`queue`];
//! [`publisher`] is the application's handle, [`shared`] what both hold.

mod batches;
mod disk;
mod driver;
mod event;
mod make;
mod options;
mod packing;
mod pipeline;
mod publisher;
mod queue;
mod shared;

pub use batches::{
    BatchAnswer, BatchPublisher, BatchPublishing, BatchRejection, EncodedBatch, PublisherStatus, SubmitError,
};
pub use event::{Progress, PublishError, PublishEvent, Rejection, Unanswered};
pub use make::{fill_event, new_event, new_event_id};
pub use options::{Compression, Publishing};
pub use publisher::Publisher;
