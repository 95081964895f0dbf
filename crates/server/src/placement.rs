//! CPUs that shards run on.
//!
//! CPU numbers are the kernel's. What the process may run on is read from `/proc`, since affinity, cpusets and
//! containers narrow it; NUMA nodes are read from `/sys`.

use std::{
    collections::BTreeMap,
    fs, io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

/// The highest CPU number that a list may name; Linux supports 8,192 CPUs at most (NR_CPUS of x86-64).
const CPU_MAX: usize = 8_191;

/// CPUs that can't be used as asked.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// Not the syntax of a CPU list.
    #[error(
        "is not a list of CPUs: \"{part}\" is no CPU number or range from 0 to {CPU_MAX}; write \"0-3,8\""
    )]
    Syntax {
        /// The piece between commas that isn't understood.
        part: String,
    },
    /// A range that runs down.
    #[error("has a range that ends before it starts: \"{part}\"")]
    Reversed {
        /// The range.
        part: String,
    },
    /// Two shards on one CPU are asked for by the number of shards, not by naming the CPU twice.
    #[error("names CPU {cpu} twice; to run more shards than CPUs, set shards")]
    Twice {
        /// The CPU.
        cpu: usize,
    },
    /// A CPU outside the process's affinity or cpuset, or none at all.
    #[error("CPU {cpu} doesn't exist or isn't allowed here; allowed: {allowed}")]
    NotAllowed {
        /// The CPU that was asked for.
        cpu: usize,
        /// CPUs that may be asked for, in list syntax.
        allowed: String,
    },
    /// A NUMA node that the machine doesn't have.
    #[error("NUMA node {node} doesn't exist here; nodes with CPUs: {nodes}")]
    NoNode {
        /// The node that was asked for.
        node: usize,
        /// The machine's nodes, in list syntax, or "none".
        nodes: String,
    },
    /// A NUMA node all of whose CPUs are forbidden to this process.
    #[error("none of NUMA node {node}'s CPUs ({cpus}) is allowed here; allowed: {allowed}")]
    NodeNotAllowed {
        /// The node.
        node: usize,
        /// Its CPUs, in list syntax.
        cpus: String,
        /// The process's CPUs, in list syntax.
        allowed: String,
    },
    /// The kernel's answer can't be had.
    #[error("can't read which CPUs are allowed from {}: {reason}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
}

/// The CPUs of this machine, as far as this process may use them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// CPUs that the process may run on, ascending; never empty where it comes from [`Machine::detect`].
    pub allowed: Vec<usize>,
    /// The CPUs of each NUMA node that has any, allowed or not; empty on a kernel without NUMA.
    pub nodes: BTreeMap<usize, Vec<usize>>,
}

impl Machine {
    /// Asks the kernel.
    ///
    /// # Errors
    ///
    /// [`PlacementError::Unreadable`] where `/proc` isn't mounted.
    pub fn detect() -> Result<Self, PlacementError> {
        // The calling thread's, not the process's: each thread has an affinity of its own.
        Self::read(Path::new("/proc/thread-self"), Path::new("/sys/devices/system/node"))
    }

    /// Reads a process's directory in `/proc`, and the directory of NUMA nodes.
    ///
    /// # Errors
    ///
    /// [`PlacementError::Unreadable`] if the process's status doesn't tell its CPUs.
    pub fn read(process: &Path, nodes: &Path) -> Result<Self, PlacementError> {
        Ok(Self { allowed: allowed_cpus(&process.join("status"))?, nodes: numa_nodes(nodes) })
    }

    /// These CPUs, ascending.
    ///
    /// # Errors
    ///
    /// [`PlacementError::NotAllowed`] for the first that isn't allowed.
    pub fn choose(&self, mut cpus: Vec<usize>) -> Result<Vec<usize>, PlacementError> {
        cpus.sort_unstable();
        match cpus.iter().find(|cpu| !self.allowed.contains(cpu)) {
            Some(&cpu) => Err(PlacementError::NotAllowed { cpu, allowed: format_cpus(&self.allowed) }),
            None => Ok(cpus),
        }
    }

    /// The allowed CPUs of a NUMA node, ascending.
    ///
    /// # Errors
    ///
    /// [`PlacementError::NoNode`] and [`PlacementError::NodeNotAllowed`].
    pub fn node(&self, node: usize) -> Result<Vec<usize>, PlacementError> {
        let Some(cpus) = self.nodes.get(&node) else {
            let nodes: Vec<usize> = self.nodes.keys().copied().collect();
            return Err(PlacementError::NoNode { node, nodes: format_cpus(&nodes) });
        };
        let chosen: Vec<usize> = cpus.iter().copied().filter(|cpu| self.allowed.contains(cpu)).collect();
        if chosen.is_empty() {
            let (cpus, allowed) = (format_cpus(cpus), format_cpus(&self.allowed));
            return Err(PlacementError::NodeNotAllowed { node, cpus, allowed });
        }
        Ok(chosen)
    }
}

/// The CPU of each shard, by the shard's number: round robin over `cpus`, which must not be empty.
pub fn assign(shards: NonZeroUsize, cpus: &[usize]) -> Vec<usize> {
    cpus.iter().copied().cycle().take(shards.get()).collect()
}

/// Reads list syntax, such as `0-3,8`, into ascending CPU numbers.
///
/// # Errors
///
/// [`PlacementError::Syntax`], [`PlacementError::Reversed`] and [`PlacementError::Twice`].
pub fn parse_cpus(text: &str) -> Result<Vec<usize>, PlacementError> {
    let mut cpus = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = match (cpu_number(first), cpu_number(last)) {
            (Some(first), Some(last)) => (first, last),
            _ => {
                return Err(PlacementError::Syntax { part: part.to_owned() });
            }
        };
        if first > last {
            return Err(PlacementError::Reversed { part: part.to_owned() });
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    match cpus.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(PlacementError::Twice { cpu: pair[0] }),
        None => Ok(cpus),
    }
}

/// Writes ascending CPU numbers in list syntax, `0-3,8`; "none" if there are none.
pub fn format_cpus(cpus: &[usize]) -> String {
    if cpus.is_empty() {
        return "none".to_owned();
    }
    let ranges = cpus.chunk_by(|&left, &right| left + 1 == right).map(|range| match range {
        [cpu] => cpu.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => unreachable!("chunk_by makes no empty chunk"),
    });
    ranges.collect::<Vec<_>>().join(",")
}

fn cpu_number(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&cpu| digits && cpu <= CPU_MAX)
}

/// Unlike sched_getaffinity with libc's cpu_set_t, this isn't limited to 1,024 CPUs.
fn allowed_cpus(path: &Path) -> Result<Vec<usize>, PlacementError> {
    let unreadable = |reason| PlacementError::Unreadable { path: path.to_owned(), reason };
    let status = fs::read_to_string(path).map_err(unreadable)?;
    allowed_in(&status).ok_or_else(|| unreadable(io::Error::other("it has no usable Cpus_allowed_list")))
}

fn allowed_in(status: &str) -> Option<Vec<usize>> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    parse_cpus(list.trim()).ok()
}

/// Nodes without CPUs (memory only) are left out, as is what can't be read: then no node can be chosen.
pub fn numa_nodes(root: &Path) -> BTreeMap<usize, Vec<usize>> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let node = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
        let list = fs::read_to_string(entry.path().join("cpulist")).ok()?;
        Some((number, parse_cpus(list.trim()).ok()?))
    };
    entries.filter_map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        let nodes = BTreeMap::from([(0, vec![0, 1, 2, 3]), (1, vec![4, 5, 6, 7]), (2, vec![8, 9])]);
        Machine { allowed: vec![0, 1, 3, 4], nodes }
    }

    fn check(result: Result<Vec<usize>, PlacementError>, expected: Result<&[usize], &str>) {
        match (result, expected) {
            (Ok(cpus), Ok(expected)) => assert_eq!(cpus, expected),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (result, expected) => panic!("{result:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn lists_are_read() {
        check(parse_cpus("0"), Ok(&[0]));
        check(parse_cpus("0-3,8"), Ok(&[0, 1, 2, 3, 8]));
        check(parse_cpus(" 8 , 0 - 1 "), Ok(&[0, 1, 8]));
        check(parse_cpus("5-5"), Ok(&[5]));
        check(parse_cpus("8191"), Ok(&[8191]));
    }

    #[test]
    fn what_is_no_list_is_named() {
        for part in ["", "a", "-1", "1-", "0-3-4", "+1", "1.5", "8192", "0-99999999999999999999"] {
            check(parse_cpus(&format!("0,{part}")), Err(&format!("\"{part}\" is no CPU number")));
        }
        check(parse_cpus("3-0"), Err("ends before it starts: \"3-0\""));
        check(parse_cpus("0-3,2"), Err("names CPU 2 twice"));
    }

    #[test]
    fn lists_are_written() {
        for list in ["0", "0-1", "0-3,8", "0,2,4-6", "none"] {
            assert_eq!(format_cpus(&parse_cpus(list).unwrap_or_default()), list);
        }
    }

    #[test]
    fn only_allowed_cpus_are_chosen() {
        check(machine().choose(vec![4, 0]), Ok(&[0, 4]));
        check(
            machine().choose(vec![0, 9]),
            Err("CPU 9 doesn't exist or isn't allowed here; allowed: 0-1,3-4"),
        );
    }

    #[test]
    fn a_node_gives_its_allowed_cpus() {
        check(machine().node(0), Ok(&[0, 1, 3]));
        check(machine().node(1), Ok(&[4]));
        check(machine().node(2), Err("none of NUMA node 2's CPUs (8-9) is allowed here; allowed: 0-1,3-4"));
        check(machine().node(7), Err("NUMA node 7 doesn't exist here; nodes with CPUs: 0-2"));
        check(Machine { allowed: vec![0], nodes: BTreeMap::new() }.node(0), Err("nodes with CPUs: none"));
    }

    #[test]
    fn shards_go_round_the_cpus() {
        let check = |shards, expected: &[usize]| {
            assert_eq!(assign(NonZeroUsize::new(shards).unwrap(), &[2, 5]), expected);
        };
        check(1, &[2]);
        check(2, &[2, 5]);
        check(5, &[2, 5, 2, 5, 2]);
    }

    #[test]
    fn the_kernel_s_files_are_understood() {
        let status = "Name:\tx\nCpus_allowed:\tf\nCpus_allowed_list:\t0-1,3\nMems_allowed_list:\t0\n";
        assert_eq!(allowed_in(status), Some(vec![0, 1, 3]));
        assert_eq!(allowed_in("Name:\tx\n"), None);

        let root = tempfile::tempdir().unwrap();
        for (node, cpulist) in [("node0", "0-1\n"), ("node1", "\n"), ("node12", "2,4\n"), ("power", "")] {
            fs::create_dir(root.path().join(node)).unwrap();
            fs::write(root.path().join(node).join("cpulist"), cpulist).unwrap();
        }
        let expected = BTreeMap::from([(0, vec![0, 1]), (12, vec![2, 4])]);
        assert_eq!(numa_nodes(root.path()), expected);
        assert_eq!(numa_nodes(&root.path().join("absent")), BTreeMap::new());
    }

    #[test]
    fn this_machine_has_cpus() {
        assert!(!Machine::detect().unwrap().allowed.is_empty());
    }
}
