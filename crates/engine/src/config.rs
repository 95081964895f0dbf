//! Settings of a shard. Every bound of the engine is here, with its unit.

use std::num::NonZeroU32;

use crate::auth::{CredentialError, Credentials};
use crate::ingest::IngestConfig;
use crate::network::Network;
use crate::schedule::{Rate, RateError};
use tickstream_wire::messages::Mode;

/// Alignment of the ticks of different subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// All at the boundary of the wall clock.
    Aligned,
    /// Each subscriber at a time of its own within the interval: no fan-out.
    Spread,
}

/// Use of PROXY headers, which name a connection's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Never.
    Off,
    /// Those from trusted sources may.
    Optional,
    /// All do, and come from trusted sources.
    Required,
}

/// The settings of one shard.
#[derive(Clone, Debug)]
pub struct Config {
    /// Number of the shard in the process, from 0; spreads phases differently on each.
    pub shard: u16,
    /// Credentials of those who may subscribe and publish.
    pub credentials: Credentials,
    /// The stream of mode SECOND.
    pub second: Rate,
    /// The stream of mode MINUTE.
    pub minute: Rate,
    /// Aligned or spread ticks.
    pub phase: Phase,
    /// Longest that a tick lingers for others of its batch, milliseconds.
    pub batch_window_ms: u32,
    /// Interval at which clients are asked to send HEARTBEAT, milliseconds.
    pub heartbeat_interval_ms: u32,
    /// A client without HEARTBEAT for this long is closed, milliseconds.
    pub heartbeat_timeout_ms: u32,
    /// Use of PROXY headers.
    pub proxy_protocol: ProxyProtocol,
    /// Sources whose PROXY headers are believed.
    pub proxy_trusted: Vec<Network>,
    /// A number that nobody else knows; keys the table of failed AUTHs.
    pub seed: u64,
    /// Event collection; `None`: off.
    pub ingest: Option<IngestConfig>,
    /// Bounds of a connection and of the shard.
    pub limits: Limits,
}

/// Bounds, each with what happens beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of this shard; one more gets SERVER_BUSY.
    pub connections: u32,
    /// Connections of one IPv4 address or IPv6 /64; one more gets SERVER_BUSY. `None`: no limit.
    pub connections_per_address: Option<NonZeroU32>,
    /// Connections that haven't authenticated; one more gets SERVER_BUSY.
    pub unauthenticated: u32,
    /// The same, of one IPv4 address or IPv6 /64. `None`: no limit.
    pub unauthenticated_per_address: Option<NonZeroU32>,
    /// New connections a second, in the long run; more get SERVER_BUSY. Two seconds' worth may come at once.
    /// `None`: no limit.
    pub connections_per_second: Option<NonZeroU32>,
    /// Failed AUTHs of one IPv4 address or IPv6 /64 in a minute; after them its AUTHs get RATE_LIMITED. 0: no limit.
    pub auth_failures_per_minute: u32,
    /// New connections get SERVER_BUSY while ticks are published later than this, milliseconds. 0: no limit.
    pub lag_ms: u32,
    /// Bytes of one payload, either direction; a longer one gets MESSAGE_TOO_LARGE.
    pub payload_bytes: u32,
    /// A client whose TLS handshake takes longer is closed, milliseconds.
    pub handshake_timeout_ms: u32,
    /// A client that hasn't authenticated after this long is closed, milliseconds.
    pub auth_timeout_ms: u32,
    /// A client whose oldest unsent byte is older is closed as SLOW_CONSUMER, milliseconds.
    pub write_deadline_ms: u32,
    /// Frames that one client may send in a second; more gets RATE_LIMITED.
    pub frames_per_second: u32,
    /// Longest replay of a resuming client, milliseconds.
    pub replay_window_ms: u32,
    /// Longest replay of a resuming client, ticks.
    pub replay_ticks: u64,
}

impl Limits {
    /// Largest payload before AUTH was accepted, bytes: nobody's credentials are longer.
    pub const PAYLOAD_BYTES_BEFORE_AUTH: u32 = 4_096;
    /// Smallest value of [`Limits::payload_bytes`]: every frame but DATA_BATCH fits, and some ticks do.
    pub const PAYLOAD_BYTES_MIN: u32 = 1_024;
    /// Frames that wait for a client whose socket is full; more means that it asks without reading:
    /// SLOW_CONSUMER.
    pub const FRAMES_PENDING: usize = 64;
    /// Time that a closed connection may go on sending what is thrown away, milliseconds.
    pub const LINGER_MS: u32 = 2_000;
    /// Shortest drain, milliseconds: each client is still told that the server shuts down.
    pub const DRAIN_MS_MIN: u32 = 500;

    /// See [`Config::reload`].
    fn reload(&mut self, new: &Self) {
        Self {
            connections: self.connections,
            connections_per_address: self.connections_per_address,
            unauthenticated: self.unauthenticated,
            unauthenticated_per_address: self.unauthenticated_per_address,
            connections_per_second: self.connections_per_second,
            auth_failures_per_minute: self.auth_failures_per_minute,
            lag_ms: self.lag_ms,
            payload_bytes: _,
            handshake_timeout_ms: self.handshake_timeout_ms,
            auth_timeout_ms: self.auth_timeout_ms,
            write_deadline_ms: _,
            frames_per_second: self.frames_per_second,
            replay_window_ms: _,
            replay_ticks: _,
        } = *new;
    }
}

impl Config {
    /// Takes over from `new` what may change while a shard runs: credentials, whose PROXY headers are believed, deadlines
    /// of those who arrive, and limits but for those that clients were told of. The patterns name every field, so that a
    /// new one doesn't compile before it is decided.
    pub fn reload(&mut self, new: &Self) {
        let Self {
            shard: _,
            credentials,
            second: _,
            minute: _,
            phase: _,
            batch_window_ms: _,
            heartbeat_interval_ms: _,
            heartbeat_timeout_ms: _,
            proxy_protocol,
            proxy_trusted,
            seed: _,
            ingest: _,
            limits,
        } = new;
        self.credentials.clone_from(credentials);
        self.proxy_protocol = *proxy_protocol;
        self.proxy_trusted.clone_from(proxy_trusted);
        self.limits.reload(limits);
    }

    /// The rate of one mode's stream.
    pub fn rate(&self, mode: Mode) -> Rate {
        match mode {
            Mode::Second => self.second,
            Mode::Minute => self.minute,
        }
    }
}

/// A setting that can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An empty or overlong user name or password.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// A rate of 0 or above the most.
    #[error(transparent)]
    Rate(#[from] RateError),
}
