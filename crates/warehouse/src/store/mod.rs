//! Place of the tables: a directory of this host or a bucket, and the files beside them.

pub mod commit;
pub mod durable;
pub mod files;
pub mod job_tables;
pub mod lock;
pub mod numbers;
pub mod parquet;
pub mod parts;
pub mod pieces;
pub mod secret;
pub mod tables;

pub use deltalake::DeltaTable;

pub use commit::{CommitError, Committed, commit};
pub use lock::LoaderLock;
pub use secret::Secret;
pub use tables::{StoreError, Tables};
