//! What a shard counts: plain integers, labelled only where they are shown.

use crate::close::CloseReason;
use crate::limit::Limit;

/// Totals since the shard began, and two gauges.
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
    /// How often each limit fired, in the order of [`Limit::ALL`].
    pub fired: [u64; Limit::ALL.len()],
    /// Frames received.
    pub frames_received: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// HEARTBEATs received.
    pub heartbeats: u64,
    /// Batches sealed and handed to a stream's subscribers.
    pub batches: u64,
    /// Ticks in them.
    pub ticks: u64,
    /// Ticks that were left out because the clock was set or the shard was stopped for too long.
    pub ticks_skipped: u64,
    /// Batches sealed for one connection: a replay.
    pub replays: u64,
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

impl Counters {
    /// Connections that ended for `reason`.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize]
    }

    /// How often `limit` fired.
    pub fn fired(&self, limit: Limit) -> u64 {
        self.fired[limit as usize]
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
