//! Numbers that must not be mistaken for each other: slots of connections, groups of subscribers, sequences of ticks.

use std::ops::{Add, Sub};

/// Index into the connection table, below [`crate::Limits::connections`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

impl Slot {
    /// The slot as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One connection of a shard: a slot, and a number that differs for each connection of the slot. So an answer that comes
/// late, for a connection that is gone, never reaches the next one in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Place in the connection table.
    pub slot: Slot,
    /// Connections that the shard had, up to this one.
    pub generation: u32,
}

/// Index of a group of subscribers whose ticks are due at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupId(pub u32);

impl GroupId {
    /// Number that no group has.
    pub const NONE: Self = Self(u32::MAX);

    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Number of a tick in its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sequence(pub u64);

impl Sequence {
    pub const fn saturating_sub(self, ticks: u64) -> Self {
        Self(self.0.saturating_sub(ticks))
    }

    pub const fn saturating_add(self, ticks: u64) -> Self {
        Self(self.0.saturating_add(ticks))
    }

    /// Ticks from `earlier` on; 0 if that is later.
    pub const fn saturating_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The first tick of the batch of `ticks` that holds this one.
    pub const fn batch_start(self, ticks: u64) -> Self {
        Self(self.0 / ticks * ticks)
    }
}

impl Add<u64> for Sequence {
    type Output = Self;

    fn add(self, ticks: u64) -> Self {
        Self(self.0 + ticks)
    }
}

/// Ticks from one sequence to a later one.
impl Sub for Sequence {
    type Output = u64;

    fn sub(self, earlier: Self) -> u64 {
        self.0 - earlier.0
    }
}
