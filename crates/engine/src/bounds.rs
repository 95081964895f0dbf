//! The memory of a shard's engine at its limits, as a sum of which each term is a line here.

use tickstream_wire::frame::OVERHEAD;

use crate::auth_limiter::AuthLimiter;
use crate::batch::TICK_BYTES_MAX;
use crate::config::{Config, Limits};
use crate::identity::Identities;
use crate::ids::Slot;
use crate::ingest::Ingest;
use crate::memory::MemoryTerm;
use crate::outbox::Item;
use crate::proxy;
use crate::session::Session;
use crate::streams::{LOG_BYTES_MAX, REPLAY_FRAME_TICKS};
use crate::wheel::Wheel;

/// Bytes of the longest reply but PUBLISH_ACK, with its frame: an ERROR with its message.
const REPLY_BYTES: u64 = 256;
/// Groups of subscribers with aligned phases: one a stream.
const ALIGNED_GROUPS: u64 = 2;

impl Config {
    /// Terms of the memory that a shard's engine takes at most, with aligned phases, each at its own worst. Answers that
    /// wait for the journal aren't in it: their number is bounded by credits, and their bytes by what was published.
    pub fn memory_terms(&self) -> Vec<MemoryTerm> {
        let limits = &self.limits;
        let connections = u64::from(limits.connections);
        let term = |what, count, each| MemoryTerm { what, count, each };
        let tables = size_of::<Session>() as u64 + Wheel::LINK_BYTES + 2 * size_of::<Slot>() as u64;
        let mut terms = vec![
            // The connection table, the deadline wheel, the lists of ready connections and of a group's subscribers.
            term("connections", connections, tables),
            // From AUTH on.
            term("identities", connections, Identities::BYTES_MAX),
            // A frame is copied while it comes in pieces. PUBLISHes have a term of their own.
            term("frames that came in part", connections, u64::from(limits.payload_bytes) + OVERHEAD as u64),
            // Before AUTH alone.
            term("PROXY headers in pieces", limits.unauthenticated.into(), proxy::V2_BYTES_MAX as u64),
            // Beyond it a client is closed as SLOW_CONSUMER.
            term(
                "pending replies",
                connections * Limits::FRAMES_PENDING as u64,
                size_of::<Item>() as u64 + REPLY_BYTES,
            ),
            // A replay's frame is sealed for one subscriber, the next once that was sent.
            term("replays", connections, REPLAY_FRAME_TICKS * TICK_BYTES_MAX as u64),
            // The batches of the last write deadline, shared by all subscribers.
            term("logs of the streams", ALIGNED_GROUPS, LOG_BYTES_MAX),
            // From the first failure on.
            term("failed AUTHs", 1, AuthLimiter::TABLE_BYTES),
        ];
        terms.extend(self.ingest.iter().flat_map(Ingest::memory_terms));
        terms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::IngestConfig;
    use crate::shard::tests::config;

    const DOCS: &str = include_str!("../../../docs/limits.md");

    /// A number with commas between its thousands.
    fn grouped(number: u64) -> String {
        let digits = number.to_string();
        let groups: Vec<_> =
            digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap()).collect();
        groups.join(",")
    }

    #[test]
    fn the_docs_have_each_term_and_the_sum() {
        let mut config = config();
        config.limits.connections = 15_000;
        config.limits.unauthenticated = 1_000;
        config.ingest = Some(IngestConfig::new("server", 1));
        let terms = config.memory_terms();
        let mut rows: Vec<_> = terms
            .iter()
            .map(|term| {
                let MemoryTerm { what, count, each } = term;
                format!("| {what} | {} | {} | {} |", grouped(*count), grouped(*each), grouped(term.bytes()))
            })
            .collect();
        let sum = terms.iter().map(MemoryTerm::bytes).sum();
        rows.push(format!("| **sum** | | | **{}** |", grouped(sum)));
        let table = rows.join("\n");
        assert!(DOCS.contains(&table), "docs/limits.md must have these rows:\n{table}");
    }
}
