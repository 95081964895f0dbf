//! Scenario of one seed: how rough its world is, and how its rules are drawn.

use crate::client::{KINDS, Kind};
use crate::events::EventRules;
use crate::publisher::Manner;
use crate::rng::Rng;
use crate::rules::{PASS, Rules, USER};
use crate::ticks::{MS, SECOND};

/// Limits of event collection, small and large.
fn event_rules(rng: &mut Rng) -> EventRules {
    EventRules {
        credits: rng.pick(&[1, 2, 8]),
        publish_bytes: rng.pick(&[4_000, 20_000, 524_288]),
        unpacked_bytes: rng.pick(&[2_000, 16_000, 1 << 20]),
        partial_bytes: rng.pick(&[5_000, 50_000, 64 << 20]),
        queue_bytes: rng.pick(&[2_000, 50_000, 16 << 20]),
        events_per_second: rng.pick(&[0, 0, 5, 40]),
        event_ids: rng.pick(&[16, 100, 1_024, 1 << 16]),
        ahead_ms: rng.pick(&[600_000, 5_000]),
        age_ms: rng.pick(&[2_592_000_000, 3_000_000]),
    }
}

/// Roughness of a seed's world; times in nanoseconds.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub rules: Rules,
    pub unix_ns: u64,
    pub lasts: u64,
    pub clients: u64,
    /// New clients come this often, on average.
    pub arrivals: u64,
    /// Answers to sends may come so much later.
    pub answers_late: u64,
    /// The driver oversleeps by up to so much.
    pub oversleeps: u64,
    /// Most completions and actions of one pass.
    pub completions: usize,
    pub actions: usize,
    /// Of so many sends, one is short although there is room; 0: none.
    pub short_one_in: u64,
    /// The wall clock is set, and the shard stalls, this often on average; 0: never.
    pub steps_every: u64,
    pub stalls_every: u64,
    /// Settings change, and operators close connections, this often; 0: never.
    pub meddles_every: u64,
    /// When the drain begins, and how long it may take.
    pub drain: Option<(u64, u32)>,
    /// Weight of each kind of client.
    pub kinds: [u32; KINDS.len()],
    pub tls_one_in: u64,
}

impl Scenario {
    pub fn of(seed: u64, rng: &mut Rng) -> Self {
        let is_large = seed.is_multiple_of(97);
        let is_fast = !is_large && rng.one_in(5);
        let collects = !is_large && rng.one_in(3);
        let rules = Rules {
            user: USER,
            pass: PASS,
            ticks: if is_fast {
                [rng.pick(&[200, 333, 1_000]), 60]
            } else {
                [rng.pick(&[1, 1, 2, 7]), rng.pick(&[1, 1, 4, 20])]
            },
            spread: rng.one_in(3),
            window_ms: rng.pick(&[0, 5, 5, 50]),
            heartbeat_interval_ms: 15_000,
            heartbeat_timeout_ms: rng.pick(&[20_000, 20_000, 16_000]),
            proxy: rng.pick(&[0, 0, 0, 1, 2]),
            connections: if is_large { 3_000 } else { rng.pick(&[8, 20, 60, 60]) },
            connections_per_address: rng.pick(&[0, 0, 0, 3, 10]) * if is_large { 0 } else { 1 },
            unauthenticated: if is_large { 3_000 } else { rng.pick(&[3, 10, 60, 60]) },
            unauthenticated_per_address: rng.pick(&[0, 0, 0, 2, 5]) * if is_large { 0 } else { 1 },
            connections_per_second: rng.pick(&[0, 0, 0, 2, 10]) * if is_large { 0 } else { 1 },
            auth_failures_per_minute: rng.pick(&[10, 10, 3, 0]),
            lag_ms: rng.pick(&[0, 0, 300, 1_000]),
            handshake_timeout_ms: rng.pick(&[5_000, 5_000, 2_000]),
            payload_bytes: rng.pick(&[65_536, 65_536, 8_192, 1_024]),
            auth_timeout_ms: 5_000,
            write_deadline_ms: rng.pick(&[5_000, 5_000, 2_000]),
            frames_per_second: rng.pick(&[100, 100, 40]),
            replay_window_ms: rng.pick(&[600_000, 60_000, 3_600_000]),
            replay_ticks: rng.pick(&[100_000, 500, 30]),
            events: collects.then(|| event_rules(rng)),
        };
        let roughness = rng.below(4);
        let sometimes =
            |rng: &mut Rng, values: &[u64]| if rng.below(4) < roughness { rng.pick(values) } else { 0 };
        let lasts = if is_large {
            rng.range(8..14)
        } else if is_fast {
            rng.range(6..14)
        } else {
            rng.range(25..75)
        };
        let clients = if is_large { 2_500 } else { rng.pick(&[6, 15, 40, 40]) };
        let overload = sometimes(rng, &[1, 2]);
        Self {
            unix_ns: 1_790_000_000 * SECOND + rng.below(120_000) * MS,
            lasts: lasts * SECOND,
            clients,
            arrivals: if is_large { MS } else { lasts * SECOND / clients / 2 },
            answers_late: sometimes(rng, &[3 * MS, 40 * MS, 700 * MS]),
            oversleeps: sometimes(rng, &[2 * MS, 90 * MS, 390 * MS]),
            completions: if overload == 1 { rng.range(1..20) as usize } else { 1_024 },
            actions: if overload > 0 { rng.range(1..12) as usize } else { 256 },
            short_one_in: sometimes(rng, &[3, 20, 100]),
            steps_every: sometimes(rng, &[2 * SECOND, 15 * SECOND]),
            stalls_every: sometimes(rng, &[8 * SECOND, 20 * SECOND]),
            meddles_every: sometimes(rng, &[500 * MS, 5 * SECOND]),
            drain: rng
                .one_in(3)
                .then(|| (rng.range(lasts / 3..lasts) * SECOND, rng.pick(&[2_000, 4_500, 10_000]))),
            kinds: KINDS.map(|kind| match kind {
                Kind::Steady => 8,
                Kind::Publisher(Manner::Steady) if collects => 6,
                Kind::Publisher(_) if collects => rng.pick(&[0, 2, 4]),
                Kind::Publisher(_) => 0,
                _ => rng.pick(&[0, 1, 1, 4]),
            }),
            tls_one_in: rng.pick(&[2, 5, 1_000]),
            rules,
        }
    }
}
