//! What the kernel knows of the process and its threads, from /proc. What can't be read is left out.

use std::fs;
use std::time::Duration;

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
    /// Open descriptors of the main table, which is that of all threads but the shards'.
    pub open_fds: Option<u64>,
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
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Self {
            resident_bytes: status_line(&status, "VmRSS:").map(|kibibytes| kibibytes * 1_024),
            cpu: cpu_of(&stat),
            threads: status_line(&status, "Threads:"),
            open_fds: open_fds("/proc/self/fd"),
        }
    }
}

impl Thread {
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
        let thread = Thread::read(crate::ring::thread_id());
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
