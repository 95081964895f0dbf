//! Counters of a ring: plain integers, labelled only where they are shown.

/// Totals since the ring was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// Calls of `io_uring_enter`.
    pub enters: u64,
    /// Submissions handed to the kernel.
    pub submissions: u64,
    /// Completions taken.
    pub completions: u64,
    /// Times that a multishot ACCEPT was armed.
    pub accepts_armed: u64,
    /// Of these, those that weren't the first of their listener: it had ended.
    pub accepts_rearmed: u64,
    /// Times that a multishot RECV was armed: more than one a connection means that it had ended.
    pub receives_armed: u64,
    /// Multishot RECVs that ended because all provided buffers were out (ENOBUFS).
    pub buffers_exhausted: u64,
    /// Calls of `io_uring_enter` after which completions waited outside their full queue.
    pub overflows: u64,
    /// ACCEPTs that failed: connections that were gone, or no descriptors or memory.
    pub accept_errors: u64,
}
