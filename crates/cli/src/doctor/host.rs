//! Sources of the topics: files below a root, and two answers of the running kernel that no file has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use tickstream_server::placement;
use tickstream_server::{preflight, ring};

/// A machine: the one that this process runs on, or the files of another.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    /// The directory in `/proc` of the process whose limits count.
    process: String,
    /// Outcome of making a ring as the shards need it; `None` where it wasn't tried.
    pub(super) io_uring: Option<io::Result<()>>,
    /// State of the kernel's clock; `None` where it wasn't asked.
    pub(super) clock: Option<Clock>,
}

/// State of the kernel's real-time clock, as adjtimex(2) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Somebody disciplines it.
    pub is_synchronized: bool,
    /// Largest error, microseconds, by the kernel's own account.
    pub error_max_us: u64,
}

/// The current and the largest possible value of a limit; `u64::MAX` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) soft: u64,
    pub(super) hard: u64,
}

impl Host {
    /// The machine that this process runs on, and the limits of a process: of this one, unless another is named.
    pub fn this(process: Option<u32>) -> Self {
        let probe = preflight::probe();
        let clock = ring::clock_discipline()
            .map(|(is_synchronized, error_max_us)| Clock { is_synchronized, error_max_us });
        Self { io_uring: Some(probe), clock, ..Self::at(PathBuf::from("/"), process) }
    }

    /// A machine whose `/proc` and `/sys` are below `root`. Only files are looked at.
    pub fn at(root: PathBuf, process: Option<u32>) -> Self {
        let process = process.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
        Self { root, process, io_uring: None, clock: None }
    }

    /// A path of the machine, given without the leading slash.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The process's directory in `/proc`.
    pub fn process(&self) -> PathBuf {
        self.path("proc").join(&self.process)
    }

    /// A file's text without surrounding white space; `None` if it can't be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        read(&self.path(path))
    }

    /// A file of the process.
    pub(super) fn process_text(&self, name: &str) -> Option<String> {
        read(&self.process().join(name))
    }

    /// A file that holds one number.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// A setting of sysctl by its name.
    pub(super) fn sysctl(&self, name: &str) -> Option<u64> {
        self.number(&sysctl_path(name))
    }

    /// A setting of sysctl that is so many numbers.
    pub(super) fn sysctls<const N: usize>(&self, name: &str) -> Option<[u64; N]> {
        let text = self.text(&sysctl_path(name))?;
        let numbers: Option<Vec<u64>> = text.split_whitespace().map(|number| number.parse().ok()).collect();
        numbers?.try_into().ok()
    }

    /// A file that holds a list of CPUs, which may be empty.
    pub(super) fn cpus(&self, path: &str) -> Option<Vec<usize>> {
        let text = self.text(path)?;
        if text.is_empty() { Some(Vec::new()) } else { placement::parse_cpus(&text).ok() }
    }

    /// Names in a directory, sorted; none if it can't be read.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// The CPUs of each NUMA node that has any.
    pub(super) fn nodes(&self) -> BTreeMap<usize, Vec<usize>> {
        placement::numa_nodes(&self.path("sys/devices/system/node"))
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// A limit of the process, by its name in `/proc/PID/limits`.
    pub(super) fn limit(&self, name: &str) -> Option<Limit> {
        let limits = self.process_text("limits")?;
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        let mut values = line.split_whitespace().map(|value| match value {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        });
        Some(Limit { soft: values.next()??, hard: values.next()?? })
    }

    /// True if the process has a capability, by its number in `linux/capability.h`.
    pub(super) fn has_capability(&self, number: u32) -> Option<bool> {
        let status = self.process_text("status")?;
        let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        Some(u64::from_str_radix(mask.trim(), 16).ok()? >> number & 1 == 1)
    }
}

fn sysctl_path(name: &str) -> String {
    format!("proc/sys/{}", name.replace('.', "/"))
}

fn read(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}
