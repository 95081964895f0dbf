//! Counters of a shard: plain integers, labelled only where they are shown.

use tickstream_wire::messages::Mode;

use crate::clock::ClockStep;
use crate::close::CloseReason;
use crate::ingest::IngestCounters;
use crate::limit::Limit;

/// Totals since the shard began, and some gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections taken.
    pub accepted: u64,
    /// Connections refused at a limit.
    pub refused: u64,
    /// TLS handshakes that were completed in full.
    pub handshakes_full: u64,
    /// TLS handshakes that resumed a session.
    pub handshakes_resumed: u64,
    /// AUTHs with wrong credentials.
    pub auth_failures: u64,
    /// AUTHs accepted.
    pub authenticated: u64,
    /// SUBSCRIBEs accepted.
    pub subscribed: u64,
    /// Connections ended, by reason, in the order of [`CloseReason::ALL`].
    pub closed: [u64; CloseReason::ALL.len()],
    /// Times that each limit fired, in the order of [`Limit::ALL`].
    pub fired: [u64; Limit::ALL.len()],
    /// Frames received.
    pub frames_received: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// HEARTBEATs received.
    pub heartbeats: u64,
    /// Counters of each stream, in the order of [`Mode`]'s numbers.
    pub streams: [StreamCounters; 2],
    /// Counters of event collection.
    pub ingest: IngestCounters,
    /// Times that Unix time was set forward by more than half a second.
    pub clock_forward: ClockSteps,
    /// Times that it was set back by more than that.
    pub clock_back: ClockSteps,
    /// Sends handed to the driver.
    pub sends: u64,
    /// Sends that the socket didn't take whole.
    pub sends_short: u64,
    /// Frames sent whole.
    pub frames_sent: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Gauge: connections, those that are being closed included.
    pub connections: u32,
    /// Gauge: connections that haven't authenticated.
    pub unauthenticated: u32,
    /// Gauge: connections that wait for their socket to take more.
    pub lagging: u32,
}

/// Steps of a clock in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockSteps {
    /// Steps.
    pub steps: u64,
    /// Their sum, nanoseconds.
    pub ns: u64,
}

impl ClockSteps {
    fn count(&mut self, by_ns: u64) {
        self.steps += 1;
        self.ns = self.ns.saturating_add(by_ns);
    }
}

/// Counters of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounters {
    /// Batches sealed and handed to the stream's subscribers.
    pub batches: u64,
    /// Ticks in them.
    pub ticks: u64,
    /// The same batches by size: [`StreamCounters::batch_size`] says which is where.
    pub batch_sizes: [u64; StreamCounters::BATCH_SIZES],
    /// Ticks in batches that were sealed more than [`StreamCounters::LATE_MS`] after they were due.
    pub ticks_late: u64,
    /// Ticks that were left out because the clock was set or the shard was stopped for too long.
    pub ticks_skipped: u64,
    /// Frames sealed for one connection that was behind.
    pub replays: u64,
    /// DATA_BATCH frames sent whole, to whomever: live ones, caught up ones and replays.
    pub frames_sent: u64,
    /// Ticks in them.
    pub ticks_sent: u64,
    /// Gauge: subscribers.
    pub subscribers: u32,
}

impl StreamCounters {
    /// Sizes of batches that are told apart: 1, up to 2, 4, 8 and so on, and whatever is more.
    pub const BATCH_SIZES: usize = 15;

    /// A batch that is sealed later than this after it was due is late, milliseconds. A shard that has the CPU wakes
    /// within a fraction of one. It is below the longest sleep of a driver, so that a wake-up that was missed counts,
    /// and above what other fan-outs of the same moment take.
    pub const LATE_MS: u32 = 50;

    /// Index into [`StreamCounters::batch_sizes`] of a batch of `ticks`.
    pub fn batch_size(ticks: u64) -> usize {
        let exponent = ticks.max(1).next_power_of_two().ilog2() as usize;
        exponent.min(Self::BATCH_SIZES - 1)
    }
}

impl Counters {
    /// Connections that ended for `reason`.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize]
    }

    /// Counters of the stream of `mode`.
    pub fn stream(&self, mode: Mode) -> &StreamCounters {
        &self.streams[mode as usize]
    }

    /// Times that `limit` fired.
    pub fn fired(&self, limit: Limit) -> u64 {
        self.fired[limit as usize]
    }

    pub(crate) fn count_step(&mut self, step: ClockStep) {
        match step {
            ClockStep::Forward(by_ns) => self.clock_forward.count(by_ns),
            ClockStep::Back(by_ns) => self.clock_back.count(by_ns),
        }
    }

    pub(crate) fn count_fired(&mut self, limit: Limit) {
        self.fired[limit as usize] += 1;
    }

    pub(crate) fn count_close(&mut self, reason: CloseReason) {
        self.closed[reason as usize] += 1;
    }
}

// `closed` and `fired` are indexed by the enums' discriminants.
const _: () = {
    let mut index = 0;
    while index < CloseReason::ALL.len() {
        assert!(CloseReason::ALL[index] as usize == index);
        index += 1;
    }
    let mut index = 0;
    while index < Limit::ALL.len() {
        assert!(Limit::ALL[index] as usize == index);
        index += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_told_apart_by_powers_of_two() {
        for (ticks, index) in
            [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (4_096, 12), (4_097, 13), (1 << 20, 14)]
        {
            assert_eq!(StreamCounters::batch_size(ticks), index, "{ticks}");
        }
    }
}
