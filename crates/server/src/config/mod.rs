//! The server's configuration.
//!
//! - [`TABLE`] and [`Settings`]: one entry for each setting; how they are read is in `tickstream-service`;
//! - `readers`: kinds of values that only the server has;
//! - [`users`]: the users of a file;
//! - `convert`: settings into [`Config`], once, with all rules that span settings;
//! - `former`: names that variables had before.
//!
//! Invariant: nothing behind [`Config`] parses or checks a setting again.

mod convert;
mod events;
mod former;
mod readers;
mod settings;
pub mod users;

pub use events::Events;
pub use readers::SettingError;
pub use settings::{ClientAuth, PeerPrivacy, Settings, TABLE, UserName, setting};
pub use tickstream_engine::{Access, Network, Phase, ProxyProtocol, User};
pub use tickstream_service::admin::{AdminAddress, AdminToken};
pub use tickstream_service::credentials::Credentials;
pub use tickstream_service::logs::LogFormat;
pub use tickstream_service::otlp::OtlpEndpoint;
pub use tickstream_service::settings::{ConfigError, Source, Values};
pub use tickstream_service::standard::Standard;

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
    /// Settings of the server. Those that others below are made of are read there.
    pub settings: Settings,
    /// Settings that every program has.
    pub standard: Standard,
    /// The user of stream_user; `None`: there are users of the file alone.
    pub credentials: Option<Credentials>,
    /// Users of users_file.
    pub users: Vec<User>,
    /// Certificates; `None`: no TLS.
    pub tls: Option<Tls>,
    /// Number of shards; also more than `cpus`.
    pub shards: NonZeroUsize,
    /// CPUs that shards run on: ascending, allowed here, at least one.
    pub cpus: Vec<usize>,
    /// The token that changes through the admin endpoint need on TCP; `None`: they are refused there.
    pub admin_token: Option<AdminToken>,
    /// The endpoint of traces, and which there are; `None`: none.
    pub otlp: Option<Otlp>,
    /// Event collection; `None`: there is none.
    pub events: Option<Events>,
    /// All of the above as TOML with each value's origin, secrets masked: what `--print-config` prints.
    pub effective: String,
}

/// Files for TLS: they are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and its chain, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Mutual TLS.
    pub clients: Option<TlsClients>,
}

/// Checks of clients' certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsClients {
    /// The authorities, PEM.
    pub ca: PathBuf,
    /// A client may have none.
    pub optional: bool,
    /// The certificate names the user.
    pub names_user: bool,
}

/// Traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// The endpoint that spans are sent to.
    pub endpoint: OtlpEndpoint,
    /// One in so many connections is traced.
    pub sample_one_in: NonZeroU32,
    /// A pass of a shard's loop that takes so long is traced; `None`: none is.
    pub slow_pass: Option<Duration>,
}

/// An address that connections are accepted at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// IP address and port.
    pub address: SocketAddr,
    /// TLS is spoken there.
    pub is_tls: bool,
}

impl Config {
    /// Converts values that were merged from flags, environment and file.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn from_merged(values: &Values) -> Result<Self, ConfigError> {
        convert::convert(values, &Machine::detect().map_err(ConfigError::program)?)
    }

    /// For a check of a machine, which serves nobody: credentials need not be set, and are then empty.
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
        Self::from_merged(&Values::of_program(&TABLE, values)?)
    }

    /// The addresses that each shard listens on.
    pub fn listeners(&self) -> Vec<ListenAddress> {
        let listen = |address, is_tls| ListenAddress { address, is_tls };
        let Settings { listen: first, listen_tls, .. } = self.settings;
        match listen_tls {
            Some(second) => vec![listen(first, false), listen(second, true)],
            None => vec![listen(first, self.tls.is_some())],
        }
    }

    /// The CPU of each shard, by the shard's number.
    pub fn shard_cpus(&self) -> Vec<usize> {
        placement::assign(self.shards, &self.cpus)
    }
}
