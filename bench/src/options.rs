//! The command line, and the plan that it is turned into, once.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr, ToSocketAddrs},
    num::NonZeroU32,
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use tickstream_wire::messages::Mode;

use crate::{
    modes::ModeOptions,
    schedule::Schedule,
    stats::Class,
    tls::{TlsError, TlsOptions, TlsPlan},
};

/// Connections per thread where `--threads` isn't given.
const CONNECTIONS_PER_THREAD: u32 = 15_000;
/// Connections per source address where nothing is said: below the kernel's default range of ports.
const CONNECTIONS_PER_SOURCE: u32 = 20_000;
/// Descriptors that a worker needs beside its connections: standard streams, ring, and some room.
const DESCRIPTORS_SPARE: u64 = 16;
/// The first of the addresses that `--source-addresses` takes.
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
/// As many as an affinity mask of the C library has.
const CPUS_MAX: usize = 1024;
/// Receive buffers of a worker where ticks come slowly and are small, and where they come in batches.
const SMALL_BUFFERS: (u16, u32) = (1024, 512);
const LARGE_BUFFERS: (u16, u32) = (256, 16 << 10);
/// A server's first flight, with a certificate or two, comes in one of these.
const TLS_BUFFER_LEN: u32 = 2048;
/// From here on batches are larger than a small buffer.
const TICKS_PER_SECOND_SMALL: f64 = 1_000.0;

/// Load generator and verifier for a tickstream server: holds any number of connections, checks every tick of
/// each, and measures how late they come.
#[derive(Clone, Debug, Parser)]
#[command(name = "tickstream-load", version, max_term_width = 110)]
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
    /// How many addresses from 127.0.1.1 on to connect from [default: one per 20,000 connections]
    #[arg(long, alias = "sources", value_name = "N")]
    pub source_addresses: Option<NonZeroU32>,

    /// Connections to open per second, 0: as fast as they are answered
    #[arg(long, default_value_t = 0, value_name = "PER_SECOND")]
    pub ramp: u32,
    /// Connections that may be on their way at a time
    #[arg(long, default_value = "1024", value_name = "N")]
    pub in_flight: NonZeroU32,
    /// How long all connections may take beyond what the ramp needs
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
    /// How late a tick may be before it counts as missing at the end
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub grace: Duration,
    /// How often each connection sends HEARTBEAT, spread evenly over the connections; 0s: never [default: what the
    /// server announces]
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub heartbeat_interval: Option<Duration>,

    /// Connections that read one buffer, then pause
    #[arg(long, default_value_t = 0.0, value_parser = percent, value_name = "PCT")]
    pub slow: f64,
    /// How long slow ones pause
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
    /// How long a worker lets arrivals gather before it wakes for fewer than --receive-batch. Saves CPU, and adds
    /// at most this to a latency; 0s: wakes for the first
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

/// CPUs, in the order given; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

impl CpuList {
    /// The CPU of the thread with this number, in turn.
    pub fn of_thread(&self, number: usize) -> usize {
        self.0[number % self.0.len()]
    }

    /// How many different ones there are.
    pub fn distinct(&self) -> usize {
        self.0.iter().collect::<HashSet<_>>().len()
    }
}

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let parse = |text: &str| text.trim().parse().map_err(|_| format!("{part:?} is no CPU or range"));
            let range: RangeInclusive<usize> = parse(from)?..=parse(to)?;
            if range.is_empty() || *range.end() >= CPUS_MAX {
                return Err(format!("{part:?} is no range of CPUs"));
            }
            cpus.extend(range);
        }
        Ok(Self(cpus))
    }
}

/// What the command line asks for, checked.
#[derive(Clone, Debug)]
pub struct Plan {
    pub options: Options,
    pub schedule: Schedule,
    pub threads: u32,
    pub password: String,
    /// Empty: the kernel chooses.
    pub sources: Vec<Ipv4Addr>,
    /// Number and bytes of a worker's receive buffers.
    pub buffers: (u16, u32),
    /// `None`: plain TCP.
    pub tls: Option<TlsPlan>,
}

/// Options that contradict each other or this machine.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// AUTH needs both.
    #[error("no {0}: set {1}")]
    Credentials(&'static str, &'static str),
    /// `--pass-file` can't be read.
    #[error("--pass-file {path}: {source}")]
    PassFile {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// RLIMIT_NOFILE is too low.
    #[error(
        "{connections} connections on {threads} threads are {each} each, and RLIMIT_NOFILE allows {limit} \
         descriptors a thread, {DESCRIPTORS_SPARE} of which are taken: use --threads {needed} or raise the limit"
    )]
    Descriptors { connections: u32, threads: u32, each: u64, limit: u64, needed: u64 },
    /// Percentages above the whole.
    #[error("--slow and --stalled together are above 100 percent")]
    Percentages,
    /// `--storm` above `--connections`.
    #[error("--storm {0} is more than there are connections that read and stay")]
    Storm(u32),
    /// More threads than connections.
    #[error("--threads {0} is more than there are connections")]
    Threads(u32),
    /// TLS can't be had.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// `--resend` without pairs.
    #[error("--resend needs two connections for each producer: an even number of -n on each of {0} threads")]
    Resend(u32),
    /// Source addresses are IPv4.
    #[error("--source and --source-addresses need an IPv4 --addr")]
    SourceFamily,
}

impl Plan {
    /// Checks `options` against each other and against `descriptors`, the limit of one thread; `password` is the
    /// environment's.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn new(options: Options, password: Option<String>, descriptors: u64) -> Result<Self, PlanError> {
        let connections = options.connections.get();
        let default_threads = connections.div_ceil(CONNECTIONS_PER_THREAD);
        let threads = options.threads.map_or(default_threads, NonZeroU32::get);
        if threads > connections {
            return Err(PlanError::Threads(threads));
        }
        let each = u64::from(connections.div_ceil(threads));
        let room = descriptors.saturating_sub(DESCRIPTORS_SPARE).max(1);
        if each > room {
            let needed = u64::from(connections).div_ceil(room);
            return Err(PlanError::Descriptors { connections, threads, each, limit: descriptors, needed });
        }
        if options.slow + options.stalled > 100.0 {
            return Err(PlanError::Percentages);
        }
        let password = match &options.pass_file {
            None => password.unwrap_or_default(),
            Some(path) => std::fs::read_to_string(path)
                .map(|text| text.lines().next().unwrap_or_default().to_owned())
                .map_err(|source| PlanError::PassFile { path: path.clone(), source })?,
        };
        if options.user.is_empty() {
            return Err(PlanError::Credentials("user name", "--user or STREAM_USER"));
        }
        if password.is_empty() {
            return Err(PlanError::Credentials("password", "STREAM_PASS or --pass-file"));
        }
        let (mode, rate) = match options.mode {
            ModeOption::Second => (Mode::Second, options.ticks_per_second),
            ModeOption::Minute => (Mode::Minute, options.ticks_per_minute),
        };
        let schedule = Schedule::new(mode, rate);
        let small = schedule.ticks_per_second() <= TICKS_PER_SECOND_SMALL;
        let (buffers, buffer_len) = if small { SMALL_BUFFERS } else { LARGE_BUFFERS };
        let tls = TlsPlan::new(&options.tls, options.addr.ip())?;
        let buffer_len = if tls.is_some() { buffer_len.max(TLS_BUFFER_LEN) } else { buffer_len };
        let buffer_len = options.receive_buffer.map_or(buffer_len, NonZeroU32::get);
        if options.modes.publish.resend && !connections.is_multiple_of(2 * threads) {
            return Err(PlanError::Resend(threads));
        }
        let plan = Self {
            schedule,
            threads,
            password,
            sources: sources(&options)?,
            buffers: (buffers, buffer_len),
            tls,
            options,
        };
        match plan.options.storm {
            Some(size) if size > plan.steady() => Err(PlanError::Storm(size)),
            _ => Ok(plan),
        }
    }

    /// Connections that `--storm` drops.
    pub fn storm_size(&self) -> Option<u32> {
        self.options.storm.map(|size| if size == 0 { self.steady() } else { size })
    }

    /// How the connection with this index, of all, reads.
    pub fn class(&self, index: u32) -> Class {
        let Options { slow, stalled, .. } = self.options;
        let Some(troubled) = nth_of_share(index, slow + stalled) else {
            return Class::Steady;
        };
        let stalled_share = 100.0 * stalled / (slow + stalled);
        if nth_of_share(troubled, stalled_share).is_some() { Class::Stalled } else { Class::Slow }
    }

    /// Which connections a worker holds: it takes every `threads`-th.
    pub fn indices(&self, worker: u32) -> impl Iterator<Item = u32> + use<> {
        (worker..self.options.connections.get()).step_by(self.threads as usize)
    }

    /// A worker's part of a number that is meant for all.
    pub fn share(&self, of: u32, worker: u32) -> u32 {
        of / self.threads + u32::from(worker < of % self.threads)
    }

    fn steady(&self) -> u32 {
        let steady = (0..self.options.connections.get()).filter(|&index| self.class(index) == Class::Steady);
        u32::try_from(steady.count()).expect("no more than there are connections")
    }
}

/// If `percent` of all indices are chosen, evenly: which of the chosen this one is, or `None`.
fn nth_of_share(index: u32, percent: f64) -> Option<u32> {
    let chosen_below = |index: f64| (index * percent / 100.0 + 1e-9).floor() as u32;
    let before = chosen_below(f64::from(index));
    (chosen_below(f64::from(index) + 1.0) > before).then_some(before)
}

fn sources(options: &Options) -> Result<Vec<Ipv4Addr>, PlanError> {
    let loopback = options.addr.ip().is_loopback() && options.addr.is_ipv4();
    let connections = options.modes.handshakes.unwrap_or(options.connections).get();
    let default = if loopback { connections.div_ceil(CONNECTIONS_PER_SOURCE) } else { 1 };
    let count = options.source_addresses.map_or(default, NonZeroU32::get);
    if !options.addr.is_ipv4() && (count > 1 || !options.source.is_empty()) {
        return Err(PlanError::SourceFamily);
    }
    if !options.source.is_empty() {
        return Ok(options.source.clone());
    }
    if count == 1 {
        return Ok(Vec::new());
    }
    Ok((0..count).map(|n| Ipv4Addr::from(u32::from(FIRST_SOURCE) + n)).collect())
}

fn resolve(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text.to_socket_addrs().map_err(|error| error.to_string())?;
    addresses.next().ok_or_else(|| "no address".to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("a percentage is a number from 0 to 100".to_owned()),
    }
}

pub fn per_second(text: &str) -> Result<u32, String> {
    text.trim_end_matches("/s").parse().map_err(|_| "a rate is a number per second, such as 100/s".to_owned())
}

/// 0 stands for all.
fn storm_size(text: &str) -> Result<u32, String> {
    match text.parse() {
        _ if text == "all" => Ok(0),
        Ok(size) if size > 0 => Ok(size),
        _ => Err("a storm is a number of connections, or all".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(arguments: &str) -> Result<Plan, PlanError> {
        let arguments = format!("tickstream-load --user u {arguments}");
        Plan::new(Options::parse_from(arguments.split_whitespace()), Some("p".into()), 20_000)
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Options as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn connections_are_shared_out_once_each() {
        let plan = plan("-n 100003 --slow 10 --stalled 20").unwrap();
        assert_eq!(plan.threads, 7);
        let mut all: Vec<u32> = (0..7).flat_map(|worker| plan.indices(worker)).collect();
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..100_003));
        let count = |class| all.iter().filter(|&&index| plan.class(index) == class).count();
        assert_eq!((count(Class::Slow), count(Class::Stalled)), (10_000, 20_000));
        assert_eq!((0..7).map(|worker| plan.share(100, worker)).sum::<u32>(), 100);
        assert_eq!(plan.sources.len(), 6);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let check = |arguments, expected: &str| {
            let error = plan(arguments).unwrap_err().to_string();
            assert!(error.contains(expected), "{arguments}: {error}");
        };
        check("-n 40000 --threads 2", "use --threads 3");
        check("-n 5 --threads 6", "--threads 6");
        check("--slow 60 --stalled 60", "above 100 percent");
        check("-n 10 --storm 11", "--storm 11");
        check("--publish -n 6 --threads 2 --resend", "an even number");
        check("--addr [::1]:900 --source 127.0.0.2", "IPv4");
        check("--pass-file /nonexistent", "/nonexistent");
        check("--tls-ca /nonexistent", "/nonexistent");
        check("--tls-ca Cargo.toml", "a PEM file is needed");
    }

    #[test]
    fn a_password_is_needed() {
        let options = Options::parse_from(["tickstream-load", "--user", "u"]);
        assert!(matches!(Plan::new(options, None, 20_000), Err(PlanError::Credentials("password", _))));
    }

    #[test]
    fn lists_and_rates_are_read() {
        assert_eq!("0,2-4".parse(), Ok(CpuList(vec![0, 2, 3, 4])));
        assert!(["2-1", "x", "", "0-99999999"].iter().all(|text| text.parse::<CpuList>().is_err()));
        assert_eq!(per_second("25/s"), Ok(25));
        assert_eq!(plan("-n 10 --storm").unwrap().storm_size(), Some(10));
        assert_eq!(plan("-n 10 --storm 4").unwrap().storm_size(), Some(4));
        assert_eq!(plan("-n 10").unwrap().storm_size(), None);
    }
}
