//! The plan of a run: options, checked against each other and against this machine, once.

use std::{net::Ipv4Addr, num::NonZeroU32, path::PathBuf};

use tickstream_wire::messages::Mode;

use crate::{
    options::{ModeOption, Options},
    sample,
    schedule::Schedule,
    stats::Class,
    tls::{TlsError, TlsPlan},
};

/// Connections per thread where `--threads` isn't given.
const CONNECTIONS_PER_THREAD: u32 = 15_000;
/// Connections per source address where nothing is said: below the kernel's default range of ports.
const CONNECTIONS_PER_SOURCE: u32 = 20_000;
/// Descriptors that a worker needs beside its connections: standard streams, ring, and some room.
const DESCRIPTORS_SPARE: u64 = 16;
/// The first of the addresses that `--source-addresses` takes.
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
/// Receive buffers of a worker where ticks come slowly and are small, and where they come in batches.
const SMALL_BUFFERS: (u16, u32) = (1024, 512);
const LARGE_BUFFERS: (u16, u32) = (256, 16 << 10);
/// A server's first flight, with a certificate or two, comes in one of these.
const TLS_BUFFER_LEN: u32 = 2048;
/// From here on batches are larger than a small buffer.
const TICKS_PER_SECOND_SMALL: f64 = 1_000.0;

/// The run that the command line asks for, checked.
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

    /// The class of the connection with this index, of all.
    pub fn class(&self, index: u32) -> Class {
        let Options { slow, stalled, .. } = self.options;
        let Some(troubled) = nth_of_share(index, slow + stalled) else {
            return Class::Steady;
        };
        let stalled_share = 100.0 * stalled / (slow + stalled);
        if nth_of_share(troubled, stalled_share).is_some() { Class::Stalled } else { Class::Slow }
    }

    /// Indices of a worker's connections: every `threads`-th.
    pub fn indices(&self, worker: u32) -> impl Iterator<Item = u32> + use<> {
        (worker..self.options.connections.get()).step_by(self.threads as usize)
    }

    /// A worker's part of a number that is meant for all.
    pub fn share(&self, of: u32, worker: u32) -> u32 {
        of / self.threads + u32::from(worker < of % self.threads)
    }

    /// The server's process, if it is on this host or was named.
    pub fn server_pid(&self) -> Option<u32> {
        let local = self.options.addr.ip().is_loopback();
        self.options.server_pid.or_else(|| local.then(|| sample::listener(self.options.addr)).flatten())
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn plan(arguments: &str) -> Result<Plan, PlanError> {
        let arguments = format!("tickstream-load --user u {arguments}");
        Plan::new(Options::parse_from(arguments.split_whitespace()), Some("p".into()), 20_000)
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
    fn a_storm_without_a_number_drops_all() {
        assert_eq!(plan("-n 10 --storm").unwrap().storm_size(), Some(10));
        assert_eq!(plan("-n 10 --storm 4").unwrap().storm_size(), Some(4));
        assert_eq!(plan("-n 10").unwrap().storm_size(), None);
    }
}
