//! A shard's settings.

use std::num::NonZeroU32;

use tickstream_engine::{Config, Credentials, IngestConfig, Limits, Mode, Phase, ProxyProtocol, Rate};

use crate::events::{EventRules, SERVER};
use crate::rng::Rng;
use crate::ticks::Stream;

/// Settings in plain numbers, for the model as for the engine.
#[derive(Clone, Debug)]
pub struct Rules {
    pub user: &'static str,
    pub pass: &'static str,
    pub ticks: [u32; 2],
    pub spread: bool,
    pub window_ms: u32,
    pub heartbeat_interval_ms: u32,
    pub heartbeat_timeout_ms: u32,
    /// 0 off, 1 optional, 2 required.
    pub proxy: u8,
    pub connections: u32,
    pub connections_per_address: u32,
    pub unauthenticated: u32,
    pub unauthenticated_per_address: u32,
    pub connections_per_second: u32,
    pub auth_failures_per_minute: u32,
    pub lag_ms: u32,
    pub handshake_timeout_ms: u32,
    pub payload_bytes: u32,
    pub auth_timeout_ms: u32,
    pub write_deadline_ms: u32,
    pub frames_per_second: u32,
    pub replay_window_ms: u32,
    pub replay_ticks: u64,
    /// `None`: events aren't collected.
    pub events: Option<EventRules>,
}

/// Sources of PROXY headers that are believed.
pub const TRUSTED: &str = "10.0.0.0/8";

impl Rules {
    pub fn stream(&self, mode: usize) -> Stream {
        let (ticks, window) = (self.ticks[mode], self.window_ms);
        Stream::new(mode == 1, ticks, window, self.spread, self.replay_window_ms, self.replay_ticks)
    }

    pub fn engine(&self, seed: u64) -> Config {
        let rate = |mode: Mode| Rate::new(mode, self.ticks[mode as usize]).expect("a rate in range");
        Config {
            shard: shard_of(seed),
            credentials: Credentials::new(self.user, self.pass).expect("credentials"),
            second: rate(Mode::Second),
            minute: rate(Mode::Minute),
            phase: if self.spread { Phase::Spread } else { Phase::Aligned },
            batch_window_ms: self.window_ms,
            heartbeat_interval_ms: self.heartbeat_interval_ms,
            heartbeat_timeout_ms: self.heartbeat_timeout_ms,
            proxy_protocol: [ProxyProtocol::Off, ProxyProtocol::Optional, ProxyProtocol::Required]
                [usize::from(self.proxy)],
            proxy_trusted: vec![TRUSTED.parse().expect("a network")],
            seed,
            ingest: self.events.as_ref().map(|events| IngestConfig {
                credits: NonZeroU32::new(events.credits).expect("not 0"),
                publish_bytes: events.publish_bytes,
                unpacked_bytes: events.unpacked_bytes,
                partial_bytes: events.partial_bytes,
                queue_bytes: events.queue_bytes,
                events_per_second: NonZeroU32::new(events.events_per_second),
                ahead_ms_max: events.ahead_ms,
                age_ms_max: events.age_ms,
                event_ids: events.event_ids,
                ..IngestConfig::new(SERVER, seed)
            }),
            limits: Limits {
                connections: self.connections,
                connections_per_address: NonZeroU32::new(self.connections_per_address),
                unauthenticated: self.unauthenticated,
                unauthenticated_per_address: NonZeroU32::new(self.unauthenticated_per_address),
                connections_per_second: NonZeroU32::new(self.connections_per_second),
                auth_failures_per_minute: self.auth_failures_per_minute,
                lag_ms: self.lag_ms,
                handshake_timeout_ms: self.handshake_timeout_ms,
                payload_bytes: self.payload_bytes,
                auth_timeout_ms: self.auth_timeout_ms,
                write_deadline_ms: self.write_deadline_ms,
                frames_per_second: self.frames_per_second,
                replay_window_ms: self.replay_window_ms,
                replay_ticks: self.replay_ticks,
            },
        }
    }

    /// The rules with changes that are allowed while a shard runs.
    pub fn changed(&self, rng: &mut Rng) -> Self {
        let mut rules = self.clone();
        match rng.below(6) {
            0 => rules.pass = if self.pass == PASS { "changed" } else { PASS },
            1 => rules.connections_per_address = rng.pick(&[0, 2, 5]),
            2 => rules.unauthenticated_per_address = rng.pick(&[0, 2, 5]),
            3 => rules.auth_failures_per_minute = rng.pick(&[0, 3, 10, 10]),
            4 => {
                (rules.frames_per_second, rules.connections_per_second) =
                    (rng.pick(&[100, 40]), rng.pick(&[0, 5]));
            }
            _ => rules.auth_timeout_ms = rng.pick(&[5_000, 3_000]),
        }
        rules
    }
}

/// Number of a seed's shard in its process.
pub fn shard_of(seed: u64) -> u16 {
    (seed % 7) as u16
}

pub const USER: &str = "ada";
pub const PASS: &str = "s3cret";
