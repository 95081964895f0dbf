//! A term of a sum of memory.

/// A term: `count` things of `each` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryTerm {
    /// Name, as in the table of docs/limits.md.
    pub what: &'static str,
    /// Number of things.
    pub count: u64,
    /// Bytes of one.
    pub each: u64,
}

impl MemoryTerm {
    /// Bytes of the term.
    pub const fn bytes(&self) -> u64 {
        self.count * self.each
    }
}
