//! Turns of TLS handshakes: behind ticks, but not for ever.
//!
//! A step of a handshake takes some 100 µs of the shard's CPU. A fan-out to 1,000 clients takes 300 µs, in several passes;
//! with a step in each of them, a storm of handshakes would double that.

/// Longest wait of handshakes for ticks, nanoseconds. A shard that always has ticks to send goes on with handshakes that often.
const WAIT_NS_MAX: u64 = 2_000_000;
/// Time that a step may take, nanoseconds: none is begun so shortly before a tick is due.
pub(super) const STEP_NS: u64 = 150_000;

/// The wait of handshakes for ticks.
#[derive(Debug, Default)]
pub(super) struct HandshakeTurns {
    waiting_since_ns: Option<u64>,
}

impl HandshakeTurns {
    /// Tells whether handshakes have their turn at `now_ns`, CLOCK_MONOTONIC: there are no ticks to send, or not for the first
    /// time in a while.
    pub fn is_due(&mut self, now_ns: u64, has_ticks: bool) -> bool {
        let since_ns = *self.waiting_since_ns.get_or_insert(now_ns);
        let is_due = !has_ticks || now_ns.saturating_sub(since_ns) >= WAIT_NS_MAX;
        if is_due {
            self.waiting_since_ns = None;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_wait_for_ticks_but_not_for_ever() {
        let mut turns = HandshakeTurns::default();
        assert!(turns.is_due(0, false));
        assert!(!turns.is_due(100, true));
        assert!(!turns.is_due(WAIT_NS_MAX, true));
        assert!(turns.is_due(WAIT_NS_MAX + 100, true));
        assert!(!turns.is_due(WAIT_NS_MAX + 200, true), "one turn, then ticks again");
        assert!(turns.is_due(WAIT_NS_MAX + 300, false));
        assert!(!turns.is_due(3 * WAIT_NS_MAX, true), "the wait begins anew");
    }
}
