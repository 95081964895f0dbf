//! Events as rows: from the bytes of a stored batch to Arrow columns.

mod arrays;
mod channel;
pub mod columns;
pub mod descriptor;
pub mod enrichment;
mod envelope;
pub mod identifiers;
pub mod json;
mod place;
pub mod protobuf;
pub mod rows;
pub mod text;
mod typed;

pub use columns::{DEAD_LETTER, PARTITIONS, file_schema, row_schema, schema};
pub use identifiers::{Identifiers, Namespace};
pub use rows::{Origin, Rows, RowsError};
