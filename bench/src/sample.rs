//! CPU and memory out of /proc: of the server, of this process and its threads, of the machine.

use std::{
    collections::HashSet,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

/// /proc counts CPU time in hundredths of a second, whatever the kernel's own tick (proc(5), USER_HZ).
const US_PER_TICK: u64 = 10_000;

/// A process at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessSample {
    /// User and system time since its start, µs.
    pub cpu_us: u64,
    /// The system time of it, µs.
    pub system_us: u64,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
    /// The most that was ever resident, bytes.
    pub rss_peak_bytes: u64,
}

/// A thread of this process at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadSample {
    /// Time on a CPU, ns.
    pub cpu_ns: u64,
    /// Time ready to run without a CPU, ns.
    pub waited_ns: u64,
    /// Turns on a CPU.
    pub turns: u64,
}

/// All CPUs at a moment, in hundredths of a second since boot.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineSample {
    /// All time.
    pub total: u64,
    /// Time without work.
    pub idle: u64,
    /// Time that the hypervisor gave to others.
    pub steal: u64,
}

/// Samples a process; `None` if it is gone.
pub fn process(pid: u32) -> Option<ProcessSample> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let [user_us, system_us] = cpu_us(&stat)?;
    Some(ProcessSample {
        cpu_us: user_us + system_us,
        system_us,
        rss_bytes: status_bytes(&status, "VmRSS:"),
        rss_peak_bytes: status_bytes(&status, "VmHWM:"),
    })
}

/// Samples a thread of this process; `None` if the kernel doesn't tell.
pub fn thread(id: u64) -> Option<ThreadSample> {
    let text = fs::read_to_string(format!("/proc/self/task/{id}/schedstat")).ok()?;
    let mut numbers = text.split_whitespace().map_while(|number| number.parse().ok());
    Some(ThreadSample { cpu_ns: numbers.next()?, waited_ns: numbers.next()?, turns: numbers.next()? })
}

/// Samples the machine.
pub fn machine() -> MachineSample {
    fs::read_to_string("/proc/stat").ok().and_then(|text| machine_of(&text)).unwrap_or_default()
}

/// The process that listens on `address`, if it is on this host and may be looked at. Descriptors are looked for
/// per thread, since a server may give each thread a table of its own.
pub fn listener(address: SocketAddr) -> Option<u32> {
    let table = if address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let inodes = listening_inodes(&fs::read_to_string(table).ok()?, address);
    let links: HashSet<_> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let numbered = |path: &Path| {
        let entries = fs::read_dir(path).ok();
        let entries = entries.into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).collect::<Vec<_>>()
    };
    let holds = |fd: &Path| {
        fs::read_link(fd).is_ok_and(|link| link.to_str().is_some_and(|link| links.contains(link)))
    };
    numbered(Path::new("/proc")).into_iter().find(|pid| {
        let tasks = format!("/proc/{pid}/task");
        numbered(Path::new(&tasks)).into_iter().any(|task| {
            let descriptors = format!("{tasks}/{task}/fd");
            let numbers = numbered(Path::new(&descriptors));
            // A listener is among the first that a thread opens.
            numbers.into_iter().take(256).any(|fd| holds(Path::new(&format!("{descriptors}/{fd}"))))
        })
    })
}

/// User and system time.
fn cpu_us(stat: &str) -> Option<[u64; 2]> {
    // The name, in parentheses, may hold anything; utime and stime are the 12th and 13th field after it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    Some([fields.next()?.ok()? * US_PER_TICK, fields.next()?.ok()? * US_PER_TICK])
}

fn status_bytes(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

fn machine_of(stat: &str) -> Option<MachineSample> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = fields.split_whitespace().map_while(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is contained in user.
    let first_eight = fields.get(..8)?;
    Some(MachineSample { total: first_eight.iter().sum(), idle: fields[3] + fields[4], steal: fields[7] })
}

fn listening_inodes(table: &str, address: SocketAddr) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let of_address = |local: &str| {
        let (ip, port) = local.split_once(':')?;
        let port_fits = u16::from_str_radix(port, 16).ok()? == address.port();
        let any = ip.bytes().all(|digit| digit == b'0');
        let same = match address.ip() {
            IpAddr::V4(ip4) => u32::from_str_radix(ip, 16).ok()? == u32::from(ip4).swap_bytes(),
            IpAddr::V6(_) => false,
        };
        Some(port_fits && (any || same || address.is_ipv6()))
    };
    let rows = table.lines().skip(1).filter_map(|row| {
        let fields: Vec<&str> = row.split_whitespace().collect();
        let listens = *fields.get(3)? == LISTEN && of_address(fields.get(1)?)?;
        listens.then(|| fields.get(9)?.parse().ok()).flatten()
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_process_name_with_spaces_and_parentheses_is_no_trouble() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 150 25 0 0 20 0 3 0 100 1 2";
        assert_eq!(cpu_us(stat), Some([150 * US_PER_TICK, 25 * US_PER_TICK]));
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(status_bytes("Name:\tx\nVmRSS:\t   2048 kB\n", "VmRSS:"), 2048 * 1024);
        assert_eq!(status_bytes("Name:\tx\n", "VmRSS:"), 0);
    }

    #[test]
    fn guest_time_is_not_counted_twice() {
        let sample = machine_of("cpu  10 0 20 60 5 1 2 2 7 0\ncpu0 1\n").unwrap();
        assert_eq!((sample.total, sample.idle, sample.steal), (100, 65, 2));
    }

    #[test]
    fn the_listener_of_a_port_is_found() {
        let listener_socket = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(listener(listener_socket.local_addr().unwrap()), Some(std::process::id()));
    }

    #[test]
    fn this_process_and_its_threads_can_be_sampled() {
        let own = process(std::process::id()).unwrap();
        assert!(own.rss_bytes > 0 && own.rss_peak_bytes >= own.rss_bytes);
        assert!(thread(std::process::id().into()).is_some());
        assert!(machine().total > 0);
    }
}
