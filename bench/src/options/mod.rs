//! The command line. `plan` turns it into what is done.

mod modes;
mod parse;

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use clap::{Parser, ValueEnum};

use self::parse::{per_second, percent, resolve, storm_size};
pub use self::{
    modes::{CodecOption, ModeOptions},
    parse::CpuList,
};
use crate::tls::TlsOptions;

/// Load generator and verifier for a tickstream server: holds any number of connections, checks every tick of
/// each, and measures how late they come.
#[derive(Clone, Debug, Parser)]
#[command(name = "tickstream-load", version = env!("TICKSTREAM_VERSION"), max_term_width = 110)]
pub struct Options {
    /// Server, host:port
    #[arg(long, default_value = "127.0.0.1:7400", value_parser = resolve)]
    pub addr: SocketAddr,
    /// Connections to hold
    #[arg(short = 'n', long, default_value = "1000")]
    pub connections: NonZeroU32,
    /// Worker threads, each with a descriptor table of its own [default: one per 15,000 connections]
    #[arg(long)]
    pub threads: Option<NonZeroU32>,
    /// CPUs to keep the workers on, in turn: 1 or 0,2-3
    #[arg(long)]
    pub cpus: Option<CpuList>,
    /// Source addresses to connect from, in turn
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS", conflicts_with = "source_addresses")]
    pub source: Vec<Ipv4Addr>,
    /// Number of addresses from 127.0.1.1 on to connect from [default: one per 20,000 connections]
    #[arg(long, alias = "sources", value_name = "N")]
    pub source_addresses: Option<NonZeroU32>,

    /// Connections to open per second, 0: as fast as they are answered
    #[arg(long, default_value_t = 0, value_name = "PER_SECOND")]
    pub ramp: u32,
    /// Connections that may be on their way at a time
    #[arg(long, default_value = "1024", value_name = "N")]
    pub in_flight: NonZeroU32,
    /// Longest time that all connections may take beyond that of the ramp
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub connect_timeout: Duration,
    /// Attempts to connect before a connection is given up
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub attempts: u8,
    /// Connect again, and resume, after the server closed
    #[arg(long)]
    pub reconnect: bool,

    /// Stream to subscribe to
    #[arg(long, default_value = "second")]
    pub mode: ModeOption,
    /// The server's rate in mode second
    #[arg(long, default_value = "1", value_name = "N")]
    pub ticks_per_second: NonZeroU32,
    /// The server's rate in mode minute
    #[arg(long, default_value = "1", value_name = "N")]
    pub ticks_per_minute: NonZeroU32,
    /// Time after all are connected that isn't measured
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub warmup: Duration,
    /// Time that is measured
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Lateness beyond which a tick counts as missing at the end
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub grace: Duration,
    /// Interval at which each connection sends HEARTBEAT, spread evenly over the connections; 0s: never [default: the
    /// server's]
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub heartbeat_interval: Option<Duration>,

    /// Connections that read one buffer, then pause
    #[arg(long, default_value_t = 0.0, value_parser = percent, value_name = "PCT")]
    pub slow: f64,
    /// Pause of slow ones
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub slow_pause: Duration,
    /// Connections that stop reading once they are subscribed
    #[arg(long, default_value_t = 0.0, value_parser = percent, value_name = "PCT")]
    pub stalled: f64,
    /// SO_RCVBUF of slow and stalled ones, bytes
    #[arg(long, default_value_t = 4096, value_name = "BYTES")]
    pub slow_receive_buffer: u32,
    /// Connections to drop and resume per second, from the warm-up to the end of the measured time; N or N/s
    #[arg(long, default_value = "0", value_parser = per_second, value_name = "N/s")]
    pub churn: u32,
    /// After the measured time drop so many connections at once, and time how long it takes until all are back:
    /// connected, authenticated and subscribed
    #[arg(long, num_args = 0..=1, default_missing_value = "all", value_parser = storm_size, value_name = "N|all")]
    pub storm: Option<u32>,

    /// User name
    #[arg(long, env = "STREAM_USER", default_value = "")]
    pub user: String,
    /// File whose first line is the password [default: the environment's STREAM_PASS]
    #[arg(long, value_name = "FILE")]
    pub pass_file: Option<PathBuf>,

    /// Process whose CPU and memory to sample [default: who listens on --addr, if that is this host]
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Completions that wake a worker before --receive-wait is over, and that it takes per system call
    #[arg(long, default_value = "256", value_name = "N")]
    pub receive_batch: NonZeroU32,
    /// Longest time for which a worker lets arrivals gather before it wakes for fewer than --receive-batch. Saves
    /// CPU, and adds at most this to a latency; 0s: wakes for the first
    #[arg(long, default_value = "200us", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub receive_wait: Duration,
    /// Bytes of a receive buffer [default: 512, or 2048 with TLS, or 16384 above 1,000 ticks a second]
    #[arg(long, value_name = "BYTES")]
    pub receive_buffer: Option<NonZeroU32>,

    /// Write the results as JSON; - is standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the latencies, µs, as an HdrHistogram log (V2, compressed)
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
    /// Write a report with plots, one self-contained page
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Faults of churned connections, too, make the run fail
    #[arg(long)]
    pub strict: bool,
    /// No progress, only the summary
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub tls: TlsOptions,
    #[command(flatten)]
    pub modes: ModeOptions,
}

/// `--mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeOption {
    /// SECOND
    Second,
    /// MINUTE
    Minute,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Options as clap::CommandFactory>::command().debug_assert();
    }
}
