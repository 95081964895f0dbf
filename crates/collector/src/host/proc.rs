//! Texts of `/proc`: <https://man7.org/linux/man-pages/man5/proc.5.html>

use super::Measurement;

/// Clock ticks of `/proc/stat` a second: the kernel's interface to user space has no other.
const TICKS_PER_SECOND: f64 = 100.0;
/// Bytes of a sector of `/proc/diskstats`, whatever the disk's are.
const SECTOR_BYTES: f64 = 512.0;

fn number(text: Option<&str>) -> Option<f64> {
    text?.parse().ok()
}

/// `/proc/stat`: seconds of each CPU by mode.
pub(super) fn stat(text: &str) -> Vec<Measurement> {
    const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "interrupt", "softirq", "steal"];
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(cpu) = words.next().and_then(|word| word.strip_prefix("cpu")).filter(|cpu| !cpu.is_empty())
        else {
            continue;
        };
        for mode in MODES {
            let Some(ticks) = number(words.next()) else { break };
            let labels = [("cpu.logical_number", cpu), ("cpu.mode", mode)];
            found.push(Measurement::counter("system.cpu.time", "s", ticks / TICKS_PER_SECOND, &labels));
        }
    }
    found
}

/// `/proc/meminfo`: memory and swap by state.
pub(super) fn meminfo(text: &str) -> Vec<Measurement> {
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(number(line.split_ascii_whitespace().next())? * 1024.0)
    };
    let state = |name, key, value: Option<f64>, state| {
        value.map(|value| Measurement::new(name, "By", value, &[(key, state)]))
    };
    let used = || Some(of("MemTotal")? - of("MemFree")? - of("Buffers")? - of("Cached")?);
    let swap_used = || Some(of("SwapTotal")? - of("SwapFree")?);
    let memory = |value, name| state("system.memory.usage", "system.memory.state", value, name);
    let swap = |value, name| state("system.paging.usage", "system.paging.state", value, name);
    let plain = |name, value: Option<f64>| value.map(|value| Measurement::new(name, "By", value, &[]));
    [
        memory(used(), "used"),
        memory(of("MemFree"), "free"),
        memory(of("Buffers"), "buffers"),
        memory(of("Cached"), "cached"),
        plain("system.memory.limit", of("MemTotal")),
        plain("system.memory.linux.available", of("MemAvailable")),
        swap(swap_used(), "used"),
        swap(of("SwapFree"), "free"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// `/proc/loadavg`
pub(super) fn loadavg(text: &str) -> Vec<Measurement> {
    const NAMES: [&str; 3] =
        ["system.cpu.load_average.1m", "system.cpu.load_average.5m", "system.cpu.load_average.15m"];
    let values: Vec<_> = text.split_ascii_whitespace().map_while(|word| number(Some(word))).take(3).collect();
    if values.len() < NAMES.len() {
        return Vec::new();
    }
    NAMES
        .into_iter()
        .zip(values)
        .map(|(name, value)| Measurement::new(name, "{thread}", value, &[]))
        .collect()
}

/// `/proc/diskstats`: bytes, operations and time of each disk.
pub(super) fn diskstats(text: &str) -> Vec<Measurement> {
    let mut found = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let Some(device) = words.get(2).filter(|device| is_disk(device)) else { continue };
        let at = |index: usize| number(words.get(index).copied());
        let directions = [("read", at(3), at(5), at(6)), ("write", at(7), at(9), at(10))];
        for (direction, operations, sectors, ms) in directions {
            let labels = [("system.device", *device), ("disk.io.direction", direction)];
            let mut push = |name, unit, value: Option<f64>| {
                found.extend(value.map(|value| Measurement::counter(name, unit, value, &labels)));
            };
            push("system.disk.operations", "{operation}", operations);
            push("system.disk.io", "By", sectors.map(|sectors| sectors * SECTOR_BYTES));
            push("system.disk.operation_time", "s", ms.map(|ms| ms / 1000.0));
        }
        let busy = at(12).map(|ms| {
            Measurement::counter("system.disk.io_time", "s", ms / 1000.0, &[("system.device", *device)])
        });
        found.extend(busy);
    }
    found
}

/// Loop devices and RAM disks are no disks of the host.
fn is_disk(device: &str) -> bool {
    !device.starts_with("loop") && !device.starts_with("ram")
}

/// `/proc/net/dev`: bytes, packets, errors and drops of each interface.
pub(super) fn net_dev(text: &str) -> Vec<Measurement> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((interface, numbers)) = line.split_once(':') else { continue };
        let numbers: Vec<f64> =
            numbers.split_ascii_whitespace().filter_map(|word| number(Some(word))).collect();
        let interface = interface.trim();
        for (direction, first) in [("receive", 0), ("transmit", 8)] {
            let Some([bytes, packets, errors, drops]) = numbers.get(first..first + 4) else { continue };
            let labels = [("network.interface.name", interface), ("network.io.direction", direction)];
            let all = [
                ("system.network.io", "By", bytes),
                ("system.network.packet.count", "{packet}", packets),
                ("system.network.errors", "{error}", errors),
                ("system.network.packet.dropped", "{packet}", drops),
            ];
            found.extend(all.map(|(name, unit, value)| Measurement::counter(name, unit, *value, &labels)));
        }
    }
    found
}

/// `/proc/pressure/…`: seconds for which some, or all, waited for a resource.
pub(super) fn pressure(resource: &str, text: &str) -> Vec<Measurement> {
    let total = |line: &str| {
        let (kind, rest) = line.split_once(' ')?;
        let us = number(rest.split(' ').find_map(|word| word.strip_prefix("total=")))?;
        let labels = [("resource", resource), ("stalled", kind)];
        Some(Measurement::counter("system.linux.pressure.time", "s", us / 1e6, &labels))
    };
    text.lines().filter_map(total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(found: &[Measurement], name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |measurement: &&Measurement| {
            measurement.name == name
                && labels
                    .iter()
                    .all(|(key, value)| measurement.labels.get(*key).is_some_and(|found| found == value))
        };
        let found: Vec<_> = found.iter().filter(has).collect();
        assert_eq!(found.len(), 1, "{name} {labels:?}");
        found[0].value
    }

    #[test]
    fn the_kernels_texts_are_read() {
        let stat = stat("cpu  30 0 20 100 0 0 0 0 0 0\ncpu0 10 0 20 100 5 1 2 3 0 0\nintr 5 0\n");
        assert_eq!(stat.len(), 8);
        assert_eq!(
            value(&stat, "system.cpu.time", &[("cpu.logical_number", "0"), ("cpu.mode", "system")]),
            0.2
        );
        let memory = meminfo(
            "MemTotal: 1000 kB\nMemFree: 400 kB\nMemAvailable: 700 kB\nBuffers: 50 kB\nCached: 150 kB\nSwapTotal: 10 kB\nSwapFree: 4 kB\n",
        );
        assert_eq!(value(&memory, "system.memory.usage", &[("system.memory.state", "used")]), 400.0 * 1024.0);
        assert_eq!(value(&memory, "system.paging.usage", &[("system.paging.state", "used")]), 6.0 * 1024.0);
        assert_eq!(value(&loadavg("0.50 1.25 2.00 1/100 7\n"), "system.cpu.load_average.5m", &[]), 1.25);
        let disks = diskstats(
            " 8 0 sda 100 0 2048 50 10 0 16 5 0 70 55 0 0 0 0\n 7 0 loop0 1 0 2 3 4 5 6 7 8 9 10\n",
        );
        assert_eq!(disks.len(), 7);
        assert_eq!(value(&disks, "system.disk.io", &[("disk.io.direction", "read")]), 1_048_576.0);
        assert_eq!(value(&disks, "system.disk.io_time", &[]), 0.07);
        let network =
            net_dev("Inter-|   Receive\n face |bytes\n  eth0: 1000 10 1 2 0 0 0 0 500 5 3 4 0 0 0 0\n");
        assert_eq!(value(&network, "system.network.io", &[("network.io.direction", "transmit")]), 500.0);
        assert_eq!(
            value(&network, "system.network.packet.dropped", &[("network.io.direction", "receive")]),
            2.0
        );
        let pressure =
            pressure("io", "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0 total=1\n");
        assert_eq!(value(&pressure, "system.linux.pressure.time", &[("stalled", "some")]), 2.5);
    }

    #[test]
    fn other_texts_give_nothing() {
        for text in ["", "nonsense", ":", "cpu0", "a: b c", " 8 0", "some", "\u{0}"] {
            let all = [
                stat(text),
                meminfo(text),
                loadavg(text),
                diskstats(text),
                net_dev(text),
                pressure("x", text),
            ];
            assert!(all.iter().all(Vec::is_empty), "{text}: {all:?}");
        }
    }
}
