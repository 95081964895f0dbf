//! Options of runs of another kind: handshakes, wrong passwords, a byte a second, publishing.

use std::{num::NonZeroU32, path::PathBuf};

use clap::{Args, ValueEnum, value_parser};

use super::parse::{per_second, rate};

/// Events of a batch, at most: as many as the server takes.
const EVENTS_MAX: i64 = 2_048;
/// Bytes of an event, at most: somewhat less than the server takes.
const EVENT_BYTES_MAX: i64 = 60_000;

/// Instead of holding subscriptions.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Other runs, instead of subscriptions")]
pub struct ModeOptions {
    /// Open so many connections, --ramp a second and at most --in-flight at a time; each authenticates and closes
    #[arg(long, value_name = "N", group = "run")]
    pub handshakes: Option<NonZeroU32>,
    /// Guess passwords, so many a second from --source-addresses for --duration; every guess is wrong
    #[arg(long, value_name = "PER_SECOND", group = "run", value_parser = rate)]
    pub brute_force: Option<NonZeroU32>,
    /// Open --connections that send a byte a second, of AUTH or, with TLS, of a ClientHello, until the server has
    /// closed them all, or for --duration
    #[arg(long, group = "run")]
    pub dribble: bool,
    #[command(flatten)]
    pub publish: PublishOptions,
}

impl ModeOptions {
    /// Another kind of run is wanted.
    pub fn is_any(&self) -> bool {
        self.handshakes.is_some() || self.brute_force.is_some() || self.dribble || self.publish.publish
    }
}

/// `--publish` and the options that belong to it.
#[derive(Clone, Debug, Args)]
pub struct PublishOptions {
    /// Publish events over --connections, as fast as the server's credits allow or at --rate, and verify every
    /// acknowledgement
    #[arg(long, group = "run")]
    pub publish: bool,
    /// Events of a batch
    #[arg(long, default_value = "100", value_name = "N", requires = "publish",
        value_parser = value_parser!(u32).range(1..=EVENTS_MAX))]
    pub events_per_batch: u32,
    /// About how many bytes an event has
    #[arg(long, default_value = "300", value_name = "BYTES", requires = "publish",
        value_parser = value_parser!(u32).range(1..=EVENT_BYTES_MAX))]
    pub event_bytes: u32,
    /// Events to publish per second, over all connections; 0: as many as the credits allow
    #[arg(long, default_value = "0", value_name = "EVENTS/s", requires = "publish", value_parser = per_second)]
    pub rate: u32,
    /// Compression of batches
    #[arg(long, default_value = "none", requires = "publish")]
    pub codec: CodecOption,
    /// Publish although the server asks to wait
    #[arg(long, requires = "publish")]
    pub ignore_throttle: bool,
    /// Publish every batch twice, over two connections, as the same producer: all of the second are duplicates
    #[arg(long, requires = "publish")]
    pub resend: bool,
    /// Append a line for each acknowledged batch: producer in hexadecimal digits, sequence, events that are stored
    #[arg(long, value_name = "FILE", requires = "publish")]
    pub acked: Option<PathBuf>,
}

/// `--codec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CodecOption {
    /// Events as they are
    None,
    /// One LZ4 block
    Lz4,
    /// One Zstandard frame
    Zstd,
}
