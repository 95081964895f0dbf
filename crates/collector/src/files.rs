//! Files that grow, followed: `[[source.file]]`.
//!
//! A file is known by device, inode and its first bytes, so that one that was renamed goes on where it was, and one that
//! took its place begins anew. A line counts as taken when the servers have it: [`checkpoints`] keeps the place behind it.

pub mod checkpoints;
pub mod config;
pub mod follower;
pub mod identity;
pub mod records;
pub mod source;
