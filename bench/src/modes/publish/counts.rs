//! Counts of one thread.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::stats::{Window, coarse, count, precise};

/// Counters and latencies of one thread, or of all of them together.
#[derive(Debug)]
pub struct Counts {
    // Of what was acknowledged as stored in the measured time: batches, and events in them.
    pub batches: u64,
    pub events: u64,
    /// Of the payloads of those batches.
    pub bytes: u64,
    /// From handing the first byte to the kernel to reading the PUBLISH_ACK, µs.
    pub latency: Histogram<u64>,
    /// Batches on the way on its connection when one was sent, that one included: their sum, their number, the most.
    pub in_flight: InFlight,

    // Of the whole run.
    /// Connections that were authenticated at least once.
    pub connected: u64,
    pub credits: u32,
    pub sent: u64,
    pub resent: u64,
    pub acknowledged: u64,
    pub accepted: u64,
    pub duplicates: u64,
    /// Rejections by their code.
    pub rejected: BTreeMap<String, u64>,
    /// The first message of each code.
    pub messages: BTreeMap<String, String>,
    /// Different batches that were sent.
    pub distinct: u64,
    /// Batches that were never acknowledged.
    pub unanswered: u64,
    /// Batches that the rate wanted, and that there were no credits for.
    pub left_out: u64,
    pub throttle_hints: u64,
    pub throttle_ms_max: u32,
    pub connect_errors: BTreeMap<String, u64>,
    /// Closes that this side didn't ask for, by ERROR code or what else ended the connection.
    pub closes: BTreeMap<String, u64>,
    pub reconnects: u64,
    /// PUBLISH_ACKs that fit nothing, by what is wrong.
    pub faults: BTreeMap<String, u64>,
    /// Duration of a turn of the loop between two waits, µs.
    pub turn: Histogram<u32>,
}

/// Batches on the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct InFlight {
    pub sum: u64,
    pub times: u64,
    pub most: u64,
}

impl Counts {
    pub fn new() -> Self {
        Self {
            batches: 0,
            events: 0,
            bytes: 0,
            latency: precise(),
            in_flight: InFlight::default(),
            connected: 0,
            credits: 0,
            sent: 0,
            resent: 0,
            acknowledged: 0,
            accepted: 0,
            duplicates: 0,
            rejected: BTreeMap::new(),
            messages: BTreeMap::new(),
            distinct: 0,
            unanswered: 0,
            left_out: 0,
            throttle_hints: 0,
            throttle_ms_max: 0,
            connect_errors: BTreeMap::new(),
            closes: BTreeMap::new(),
            reconnects: 0,
            faults: BTreeMap::new(),
            turn: coarse(),
        }
    }

    /// All together.
    pub fn merged(all: Vec<Self>) -> Self {
        let mut sum = Self::new();
        for counts in all {
            sum.add(counts);
        }
        sum
    }

    fn add(&mut self, other: Self) {
        self.batches += other.batches;
        self.events += other.events;
        self.bytes += other.bytes;
        self.latency.add(other.latency).expect("all are built alike");
        self.in_flight.sum += other.in_flight.sum;
        self.in_flight.times += other.in_flight.times;
        self.in_flight.most = self.in_flight.most.max(other.in_flight.most);
        self.connected += other.connected;
        self.credits = self.credits.max(other.credits);
        self.sent += other.sent;
        self.resent += other.resent;
        self.acknowledged += other.acknowledged;
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.distinct += other.distinct;
        self.unanswered += other.unanswered;
        self.left_out += other.left_out;
        self.throttle_hints += other.throttle_hints;
        self.throttle_ms_max = self.throttle_ms_max.max(other.throttle_ms_max);
        self.reconnects += other.reconnects;
        self.turn.add(other.turn).expect("all are built alike");
        self.messages.extend(other.messages);
        let pairs = [
            (&mut self.rejected, other.rejected),
            (&mut self.connect_errors, other.connect_errors),
            (&mut self.closes, other.closes),
            (&mut self.faults, other.faults),
        ];
        for (into, from) in pairs {
            for (key, times) in from {
                *into.entry(key).or_default() += times;
            }
        }
    }

    /// A batch was acknowledged. Where nothing of it is stored, neither does it count as published nor is the time
    /// that of storing.
    pub fn answered(&mut self, window: Window, now_us: u64, latency_us: u64, stored: u64, bytes: u32) {
        self.acknowledged += 1;
        if stored > 0 && window.contains(now_us) {
            self.batches += 1;
            self.events += stored;
            self.bytes += u64::from(bytes);
            self.latency.saturating_record(latency_us);
        }
    }

    /// An event was rejected.
    pub fn rejected(&mut self, code: &str, message: &str) {
        count(&mut self.rejected, code);
        if !message.is_empty() && !self.messages.contains_key(code) {
            self.messages.insert(code.to_owned(), message.to_owned());
        }
    }
}

impl InFlight {
    pub fn note(&mut self, on_the_way: usize) {
        self.sum += on_the_way as u64;
        self.times += 1;
        self.most = self.most.max(on_the_way as u64);
    }

    pub fn mean(self) -> f64 {
        self.sum as f64 / self.times.max(1) as f64
    }
}
