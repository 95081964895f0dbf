//! Control groups of version 2: <https://docs.kernel.org/admin-guide/cgroup-v2.html>

use std::{fs, path::Path};

use super::Measurement;

/// Files of a group, and what their numbers are.
pub(super) fn group(path: &str, file: impl Fn(&str) -> Option<String>) -> Vec<Measurement> {
    let mut labels = vec![("cgroup", path)];
    let container = container_id(path);
    labels.extend(container.map(|id| ("container.id", id)));
    let number = |name: &str| file(name)?.trim().parse::<f64>().ok();
    let mut found = Vec::new();
    let gauges = [
        ("memory.current", "cgroup.memory.usage", "By"),
        // "max" is no number: there is no limit then.
        ("memory.max", "cgroup.memory.limit", "By"),
        ("memory.swap.current", "cgroup.memory.swap.usage", "By"),
        ("pids.current", "cgroup.pids", "{process}"),
    ];
    for (name, metric, unit) in gauges {
        found.extend(number(name).map(|value| Measurement::new(metric, unit, value, &labels)));
    }
    let keyed = [
        ("cpu.stat", "user_usec", "cgroup.cpu.time", "s", 1e-6, Some("user")),
        ("cpu.stat", "system_usec", "cgroup.cpu.time", "s", 1e-6, Some("system")),
        ("cpu.stat", "nr_throttled", "cgroup.cpu.throttled.periods", "{period}", 1.0, None),
        ("cpu.stat", "throttled_usec", "cgroup.cpu.throttled.time", "s", 1e-6, None),
        ("memory.events", "oom_kill", "cgroup.memory.oom_kills", "{kill}", 1.0, None),
        ("memory.events", "high", "cgroup.memory.high", "{event}", 1.0, None),
    ];
    for (name, key, metric, unit, factor, mode) in keyed {
        let value = file(name).and_then(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse::<f64>().ok())
        });
        let mut labels = labels.clone();
        labels.extend(mode.map(|mode| ("cpu.mode", mode)));
        found.extend(value.map(|value| Measurement::counter(metric, unit, value * factor, &labels)));
    }
    found.extend(file("io.stat").map(|text| io(&text, &labels)).unwrap_or_default());
    found
}

/// `8:0 rbytes=90430464 wbytes=299008000 rios=8950 …`: summed over all devices.
fn io(text: &str, labels: &[(&str, &str)]) -> Vec<Measurement> {
    let sum = |key: &str| -> f64 {
        let words = text.split_ascii_whitespace();
        words.filter_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse::<f64>().ok()).sum()
    };
    let directions = [("read", "rbytes", "rios"), ("write", "wbytes", "wios")];
    let of = |(direction, bytes, operations)| {
        let mut labels = labels.to_vec();
        labels.push(("disk.io.direction", direction));
        [
            Measurement::counter("cgroup.io", "By", sum(bytes), &labels),
            Measurement::counter("cgroup.io.operations", "{operation}", sum(operations), &labels),
        ]
    };
    directions.into_iter().flat_map(of).collect()
}

/// The id of the container that a group is: 64 hexadecimal digits in its name, as all runtimes have them.
fn container_id(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?;
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = name.rsplit('-').next()?;
    (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// Paths of the groups below a directory, relative to it, the directory itself first.
pub(super) fn paths(root: &Path, depth: usize, max: usize) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut level = found.clone();
    for _ in 0..depth {
        let mut next = Vec::new();
        for path in level {
            let entries =
                fs::read_dir(root.join(path.trim_start_matches('/'))).into_iter().flatten().flatten();
            let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            let names = dirs.filter_map(|entry| entry.file_name().into_string().ok());
            next.extend(names.map(|name| format!("{path}/{name}")));
        }
        next.sort();
        found.extend(next.iter().cloned());
        level = next;
    }
    found.truncate(max);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_s_numbers_are_read() {
        let id = "a".repeat(64);
        let path = format!("/system.slice/docker-{id}.scope");
        let file = |name: &str| {
            let text = match name {
                "memory.current" => "1000\n",
                "memory.max" => "max\n",
                "cpu.stat" => "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\nnr_throttled 4\n",
                "memory.events" => "low 0\nhigh 3\noom 1\noom_kill 2\n",
                "io.stat" => {
                    "8:0 rbytes=100 wbytes=5 rios=1 wios=2 dbytes=0\n8:16 rbytes=50 wbytes=5 rios=1 wios=1\n"
                }
                _ => return None,
            };
            Some(text.to_owned())
        };
        let found = group(&path, file);
        let value = |name: &str, key: &str, value: &str| {
            let of =
                |m: &&Measurement| m.name == name && m.labels.get(key).is_some_and(|found| found == value);
            found.iter().find(of).map(|m| m.value)
        };
        assert_eq!(value("cgroup.memory.usage", "container.id", &id), Some(1000.0));
        assert_eq!(value("cgroup.memory.limit", "cgroup", &path), None);
        assert_eq!(value("cgroup.cpu.time", "cpu.mode", "user"), Some(2.0));
        assert_eq!(value("cgroup.memory.oom_kills", "cgroup", &path), Some(2.0));
        assert_eq!(value("cgroup.io", "disk.io.direction", "read"), Some(150.0));
        assert_eq!(container_id("/kubepods.slice/cri-containerd-short.scope"), None);
    }

    #[test]
    fn groups_are_found_level_by_level() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        fs::create_dir_all(dir.path().join("d")).unwrap();
        assert_eq!(paths(dir.path(), 2, 10), ["", "/a", "/d", "/a/b"]);
        assert_eq!(paths(dir.path(), 2, 3), ["", "/a", "/d"]);
        assert_eq!(paths(dir.path(), 0, 10), [""]);
    }
}
