//! Configuration: flags over environment over a TOML file over defaults.
//!
//! - [`settings`]: the table that everything comes from;
//! - `kind` and `parse`: what a value may be, and reading it;
//! - `values`: which of the sources wins; `file` and [`flags`] are two of them;
//! - `convert`: text into [`Config`], once, with all rules that span settings;
//! - `print`: the effective configuration, and the documented defaults, as TOML.
//!
//! Invariant: nothing behind [`Config`] parses or checks a setting again.

mod admin;
mod client_tls;
mod convert;
mod credentials;
mod error;
mod events;
mod file;
pub mod flags;
mod kind;
mod otlp;
mod parse;
mod print;
pub mod settings;
mod values;

pub use admin::{AdminAddress, AdminToken};
pub use credentials::Credentials;
pub use error::{ConfigError, WrongValue};
pub use events::Events;
pub use file::File;
pub use kind::{DurationRange, IntegerRange, Kind, SizeRange};
pub use otlp::{Otlp, OtlpEndpoint};
pub use parse::{AddressError, ValueError};
pub use print::{documented_defaults, effective};
pub use tickstream_engine::{Network, Phase, ProxyProtocol};
pub use values::{Environment, Flags, Origin, Values};

pub use client_tls::client_tls;
pub use parse::{address, duration, integer};

use crate::placement::{self, Machine};
use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

/// The server's configuration, valid as a whole. Durations are whole milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who may subscribe.
    pub credentials: Credentials,

    /// Where connections are accepted; port 0 takes a free one. Speaks TLS if `tls` is there and `listen_tls` isn't.
    pub listen: SocketAddr,
    /// Where TLS connections are accepted beside plain ones; only with `tls`.
    pub listen_tls: Option<SocketAddr>,
    /// Certificates; `None`: no TLS.
    pub tls: Option<Tls>,
    /// A client whose TLS handshake takes longer is closed.
    pub handshake_timeout: Duration,
    /// TLS handshakes that one shard has underway.
    pub handshakes_max: NonZeroU32,
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: ProxyProtocol,
    /// Whose PROXY headers are believed; not empty unless `proxy_protocol` is off.
    pub proxy_trusted: Vec<Network>,
    /// How many shards run; also more than `cpus`.
    pub shards: NonZeroUsize,
    /// CPUs that shards run on: ascending, allowed here, at least one.
    pub cpus: Vec<usize>,

    /// How often clients send HEARTBEAT.
    pub heartbeat_interval: Duration,
    /// A client without HEARTBEAT for this long is closed; longer than `heartbeat_interval`.
    pub heartbeat_timeout: Duration,
    /// A client that hasn't authenticated after this long is closed.
    pub auth_timeout: Duration,
    /// A client whose oldest unsent byte is older is closed as SLOW_CONSUMER.
    pub write_deadline: Duration,
    /// Largest payload, either direction, bytes.
    pub max_msg_size: NonZeroU32,
    /// How long clients have to leave once the server was told to stop.
    pub drain: Duration,

    /// Ticks of mode SECOND in a second.
    pub ticks_per_second: NonZeroU32,
    /// Ticks of mode MINUTE in a minute.
    pub ticks_per_minute: NonZeroU32,
    /// When ticks are due.
    pub phase: Phase,
    /// Longest that a tick waits for company; zero: no batching.
    pub batch_window: Duration,
    /// How far back a client may resume; zero: no replay.
    pub replay_window: Duration,
    /// Most ticks that one resume replays.
    pub replay_ticks_max: u32,

    /// Connections of the process, at least one a shard; `None`: what the descriptor limit allows.
    pub max_connections: Option<NonZeroU32>,
    /// Connections of one IPv4 address or IPv6 /64 on each shard; `None`: no limit.
    pub max_connections_per_ip: Option<NonZeroU32>,
    /// Connections of one shard that haven't authenticated.
    pub unauthenticated_max: NonZeroU32,
    /// The same, of one IPv4 address or IPv6 /64; `None`: no limit.
    pub unauthenticated_per_ip_max: Option<NonZeroU32>,
    /// New connections of one shard in a second; `None`: no limit.
    pub connections_per_second_max: Option<NonZeroU32>,
    /// Failed AUTHs of one IPv4 address or IPv6 /64 in a minute on each shard; 0: no limit.
    pub auth_failures_per_minute_max: u32,
    /// Memory of the process above which connections are refused, MiB; `None`: nine tenths of what there is.
    pub memory_max_mib: Option<NonZeroU32>,
    /// How late a tick may be before connections are refused; `None`: however late.
    pub overload_lag: Option<Duration>,
    /// Frames that one client may send in a second.
    pub frames_per_second_max: NonZeroU32,

    /// Connections that may wait to be accepted, per shard.
    pub listen_backlog: NonZeroU32,
    /// SO_SNDBUF of a connection, bytes.
    pub send_buffer: NonZeroU32,
    /// TCP_NOTSENT_LOWAT of a connection, bytes.
    pub unsent_max: NonZeroU32,
    /// Idle time before the first keepalive probe, whole seconds; `None`: no keepalive.
    pub tcp_keepalive: Option<Duration>,
    /// TCP_USER_TIMEOUT; `None`: the kernel's default.
    pub tcp_user_timeout: Option<Duration>,

    /// Where the admin endpoint listens; nowhere if it is empty.
    pub admin: Vec<AdminAddress>,
    /// What changes through the admin endpoint need on TCP; `None`: they are refused there.
    pub admin_token: Option<AdminToken>,

    /// Where traces go, and which; `None`: nowhere.
    pub otlp: Option<Otlp>,
    /// How events are collected; `None`: they aren't.
    pub events: Option<Events>,

    /// A valid `EnvFilter` directive.
    pub log_level: String,
    /// The log's format.
    pub log_format: LogFormat,

    /// All of the above as TOML with each value's origin, secrets masked: what `--print-config` prints.
    pub effective: String,
}

/// What TLS needs. Files, since they are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and its chain, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Mutual TLS.
    pub clients: Option<TlsClients>,
}

/// How clients' certificates are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsClients {
    /// The authorities, PEM.
    pub ca: PathBuf,
    /// Whether a client may have none.
    pub optional: bool,
    /// Whether the certificate names the user.
    pub names_user: bool,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// [`LogFormat::Human`] where stderr is a terminal, else [`LogFormat::Json`].
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Human,
}

impl Config {
    /// Converts values that were merged from flags, environment and file.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn from_merged(values: &Values) -> Result<Self, ConfigError> {
        convert::convert(values, &Machine::detect()?)
    }

    /// For who checks a machine and serves nobody: credentials need not be set, and are then empty.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn for_checks(values: &Values, machine: &Machine) -> Result<Self, ConfigError> {
        convert::convert_for_checks(values, machine)
    }

    /// A configuration made by a program: defaults, but for these values, as one would write them in the file.
    /// Neither flags, environment nor files have a say.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong; [`ConfigError::Missing`] unless stream_user and stream_pass are there.
    pub fn from_values<'a, V: Into<String>>(
        values: impl IntoIterator<Item = (&'a str, V)>,
    ) -> Result<Self, ConfigError> {
        Self::from_merged(&Values::of_program(values)?)
    }

    /// Where each shard listens, and whether TLS is spoken there.
    pub fn listeners(&self) -> Vec<(SocketAddr, bool)> {
        match self.listen_tls {
            Some(listen_tls) => vec![(self.listen, false), (listen_tls, true)],
            None => vec![(self.listen, self.tls.is_some())],
        }
    }

    /// The CPU of each shard, by the shard's number.
    pub fn shard_cpus(&self) -> Vec<usize> {
        placement::assign(self.shards, &self.cpus)
    }
}
