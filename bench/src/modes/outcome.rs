//! The outcome of a run of another kind.

use std::fmt;

use serde::Serialize;

/// The outcome of a run: figures for machines and for people.
pub trait Outcome: Serialize + fmt::Display {
    /// The run passed.
    fn passed(&self) -> bool;
}
