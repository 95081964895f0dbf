//! Reading of all that there is.

use std::{fs, path::Path};

use super::{HostMetrics, Measurement, cgroups, proc};

/// The host's name, and what it measures at present. What isn't there is left out.
pub(super) fn all(metrics: &HostMetrics) -> (String, Vec<Measurement>) {
    let read = |path: &str| fs::read_to_string(metrics.root.join(path)).unwrap_or_default();
    let host = read("proc/sys/kernel/hostname").trim().to_owned();
    let mut found = [
        proc::stat(&read("proc/stat")),
        proc::meminfo(&read("proc/meminfo")),
        proc::loadavg(&read("proc/loadavg")),
        proc::diskstats(&read("proc/diskstats")),
        proc::net_dev(&read("proc/net/dev")),
    ]
    .concat();
    for resource in ["cpu", "memory", "io"] {
        found.extend(proc::pressure(resource, &read(&format!("proc/pressure/{resource}"))));
    }
    if metrics.cgroup_depth > 0 {
        found.extend(groups(&metrics.root.join("sys/fs/cgroup"), metrics));
    }
    (host, found)
}

fn groups(root: &Path, metrics: &HostMetrics) -> Vec<Measurement> {
    // Without this file it is no hierarchy of version 2.
    if !root.join("cgroup.controllers").exists() {
        return Vec::new();
    }
    let paths = cgroups::paths(root, metrics.cgroup_depth, metrics.cgroups_max);
    let group = |path: &String| {
        let dir = root.join(path.trim_start_matches('/'));
        let shown = if path.is_empty() { "/" } else { path };
        cgroups::group(shown, |name| fs::read_to_string(dir.join(name)).ok())
    };
    paths.iter().flat_map(group).collect()
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use super::*;

    #[test]
    fn this_host_has_processors_and_memory() {
        let root = PathBuf::from("/");
        let metrics =
            HostMetrics { interval: Duration::from_secs(1), root, cgroup_depth: 1, cgroups_max: 10 };
        let (_, found) = all(&metrics);
        for name in ["system.cpu.time", "system.memory.usage", "system.cpu.load_average.1m"] {
            assert!(found.iter().any(|measurement| measurement.name == name), "{name}");
        }
    }
}
