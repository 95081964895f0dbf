//! Figures of the process and its threads that the kernel has, from /proc, as metrics. Those that can't be read are left out.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};

use super::{About, Counter, Family, Label, Registry, Series, Text, gauge};
use crate::logs::LogLosses;

/// Metrics of every process that are read from [`Process`]. Without labels.
pub const FAMILIES: &[Family<Process>] = &[
    gauge(
        "process_resident_memory_bytes",
        |process| process.resident_bytes.unwrap_or_default() as f64,
        "Resident memory.",
    ),
    gauge("process_threads", |process| process.threads.unwrap_or_default() as f64, "Threads."),
    gauge(
        "process_open_fds",
        |process| process.open_fds.unwrap_or_default() as f64,
        "Open descriptors of the process but for its shards, which have tables of their own.",
    ),
    gauge(
        "process_max_fds",
        |process| process.max_fds.unwrap_or_default() as f64,
        "Limit on descriptors, of the process and of each shard.",
    ),
];

const CPU: About =
    About { name: "process_cpu_seconds_total", kind: "counter", help: "CPU time of all threads." };
const STARTED: About =
    About { name: "process_start_time_seconds", kind: "gauge", help: "When the server began, Unix time." };
const LINES_LOST: About = About {
    name: "tickstream_log_lines_lost_total",
    kind: "counter",
    help: "Lines of the log that were lost because nobody read them in time.",
};
const BUILD: About =
    About { name: "tickstream_build_info", kind: "gauge", help: "1; the labels say which build it is." };

/// Metrics of every process, ready to be scraped.
#[derive(Debug)]
pub struct ProcessMetrics {
    series: Series<Process>,
    lines_lost: Option<(LogLosses, Counter)>,
}

impl ProcessMetrics {
    /// All of them but those from the table.
    pub const ABOUT: [About; 4] = [CPU, STARTED, LINES_LOST, BUILD];

    /// The series of a program of this version, which began at `started`.
    pub fn new(
        registry: &Registry,
        version: &'static str,
        started: SystemTime,
        losses: Option<LogLosses>,
    ) -> Self {
        let unix_seconds = started.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        registry.gauge(&STARTED, vec![]).set(unix_seconds);
        registry.gauge(&BUILD, vec![Label::new("version", version)]).set(1.0);
        let lines_lost = losses.map(|losses| (losses, registry.counter(&LINES_LOST, vec![])));
        Self { series: registry.series(FAMILIES, &[]), lines_lost }
    }

    /// Sets the series, and adds to `text` those that the registry can't hold.
    pub fn set(&self, process: &Process, text: &mut Text) {
        self.series.set(process);
        if let Some((losses, counter)) = &self.lines_lost {
            counter.absolute(losses.lines());
        }
        if let Some(cpu) = process.cpu {
            text.family(CPU.name, CPU.kind, CPU.help);
            text.sample(CPU.name, &[], cpu.as_secs_f64());
        }
    }
}

/// Clock ticks a second in /proc/self/stat, on every architecture (USER_HZ).
const TICKS_PER_SECOND: u64 = 100;

/// Figures of the whole process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// Resident memory, bytes.
    pub resident_bytes: Option<u64>,
    /// CPU time of all threads.
    pub cpu: Option<Duration>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open descriptors of the main table: that of all threads which have none of their own.
    pub open_fds: Option<u64>,
    /// Limit on descriptors.
    pub max_fds: Option<u64>,
}

/// Figures of one thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thread {
    /// Time that it ran, the kernel's work for it included.
    pub busy: Option<Duration>,
    /// Time that it could have run, but something else had its CPU.
    pub delayed: Option<Duration>,
    /// Open descriptors of its table.
    pub open_fds: Option<u64>,
}

impl Process {
    /// Reads them now.
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Self {
            resident_bytes: status_line(&status, "VmRSS:").map(|kibibytes| kibibytes * 1_024),
            cpu: cpu_of(&stat),
            threads: status_line(&status, "Threads:"),
            open_fds: open_fds("/proc/self/fd"),
            max_fds: Some(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)),
        }
    }
}

impl Thread {
    /// Reads those of a thread of this process.
    pub fn read(thread: u32) -> Self {
        let schedstat = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap_or_default();
        let mut fields = schedstat.split_whitespace().map_while(|field| field.parse().ok());
        Self {
            busy: fields.next().map(Duration::from_nanos),
            delayed: fields.next().map(Duration::from_nanos),
            open_fds: open_fds(&format!("/proc/self/task/{thread}/fd")),
        }
    }
}

/// The number behind a name in /proc/self/status.
fn status_line(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time: fields 14 and 15, counted behind the command's name, which may hold anything.
fn cpu_of(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

/// Entries of a directory of descriptors. Since Linux 6.2 that is its length; before, they are counted.
fn open_fds(directory: &str) -> Option<u64> {
    match fs::metadata(directory).ok()?.len() {
        0 => fs::read_dir(directory).ok().map(|entries| entries.count() as u64),
        length => Some(length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        let process = Process::read();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 1 << 20), "{process:?}");
        assert!(process.cpu.is_some() && process.threads.is_some_and(|threads| threads > 0), "{process:?}");
        assert!(process.open_fds.is_some_and(|fds| fds >= 3), "{process:?}");
        let thread = Thread::read(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs());
        assert!(thread.busy.is_some() && thread.delayed.is_some() && thread.open_fds.is_some(), "{thread:?}");
        assert!(Thread::read(0).busy.is_none());
    }

    #[test]
    fn a_command_s_name_may_hold_anything() {
        let stat = "7 (a) b (c) R 1 1 1 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 100 0 0";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu_of("nonsense"), None);
    }
}
