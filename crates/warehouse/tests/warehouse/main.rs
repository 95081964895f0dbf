//! The warehouse over journals and tables on disk. One program: DataFusion is linked once.

mod common;
mod crash;
mod enrichment;
mod faults;
mod http;
mod json;
mod load;
mod maintenance;
mod postgres;
mod power;
mod scans;
mod sql;
