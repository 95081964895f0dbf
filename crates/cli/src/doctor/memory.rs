//! Memory: how much there is, and what makes touching it slow.

use super::{Diagnosis, Host, Plan, Topic, Verdict, in_bytes};
use tickstream_service::text::counted;

pub(super) const TOPICS: &[Topic] = &[
    Topic {
        name: "memory",
        why: "the kernel's sockets are the larger part; a cgroup's memory.max counts them, too, and ends the process \
              when it is passed",
        look: memory,
    },
    Topic {
        name: "transparent hugepages",
        why: "with defrag = always a page fault may wait for the kernel to move memory about, and the shard with it",
        look: hugepages,
    },
    Topic {
        name: "swap",
        why: "a shard that waits for a page from a disk sends nothing meanwhile",
        look: swap,
    },
];

// Measured: docs/capacity.md. Those of the process are its worst case, MINUTE with spread phases.
const FIRST_SHARD_BYTES: u64 = 7_000_000;
const FURTHER_SHARD_BYTES: u64 = 2_000_000;
const CONNECTION_BYTES: u64 = 600;
const SOCKET_BYTES: u64 = 5_200;
/// Memory that TLS adds to an idle connection, under mutual TLS (docs/tls.md).
const TLS_BYTES: u64 = 2_800;
/// Least memory of the bytes that are on their way to a client in a fan-out: a page.
const FAN_OUT_BYTES: u64 = 4_096;

fn memory(host: &Host, plan: &Plan) -> Diagnosis {
    let connections = u64::from(plan.connections);
    let each = CONNECTION_BYTES + if plan.tls { TLS_BYTES } else { 0 };
    let process = FIRST_SHARD_BYTES + (plan.shards as u64 - 1) * FURTHER_SHARD_BYTES + connections * each;
    let kernel = connections * (SOCKET_BYTES + FAN_OUT_BYTES);
    let needed = process + kernel;
    let wanted = format!(
        "{}: {} for the process, {} for the kernel's sockets; clients that stall come on top",
        in_bytes(needed),
        in_bytes(process),
        in_bytes(kernel)
    );
    let machine = host.text("proc/meminfo").and_then(|text| total_bytes(&text));
    let group = host.memory_limit().flatten();
    let (available, found) = match (machine, group) {
        (None, None) => return Diagnosis::unknown("no memory can be read", wanted),
        (Some(machine), Some(group)) if machine <= group => {
            (machine, format!("{} in all", in_bytes(machine)))
        }
        (_, Some(group)) => (group, format!("the cgroup's memory.max is {}", in_bytes(group))),
        (Some(machine), None) => (machine, format!("{} in all", in_bytes(machine))),
    };
    let diagnosis = Diagnosis::ok(found, wanted);
    let fix = |bytes| {
        ["systemd: MemoryMax=", "or Kubernetes: resources.limits.memory: "]
            .map(|setting| format!("{setting}{}M", u64::div_ceil(bytes, 1_000_000)))
    };
    if available < needed {
        diagnosis.but(Verdict::MustFix, fix(needed + needed / 2))
    } else if available - available / 5 < needed {
        diagnosis.but(Verdict::Advice, fix(needed + needed / 2))
    } else {
        diagnosis
    }
}

fn hugepages(host: &Host, _: &Plan) -> Diagnosis {
    let wanted = "defrag anything but always, or enabled anything but always";
    let folder = "sys/kernel/mm/transparent_hugepage";
    let setting = |name: &str| Some(chosen(&host.text(&format!("{folder}/{name}"))?)?.to_owned());
    let Some(enabled) = setting("enabled") else {
        return if host.exists("sys/kernel/mm") && !host.exists(folder) {
            Diagnosis::ok("this kernel has none", wanted)
        } else {
            Diagnosis::unknown("the setting can't be read", wanted)
        };
    };
    let defrag = setting("defrag").unwrap_or_default();
    let diagnosis = Diagnosis::ok(format!("enabled = {enabled}, defrag = {defrag}"), wanted);
    if enabled == "always" && defrag == "always" {
        return diagnosis.but(Verdict::Advice, [format!("echo madvise > /{folder}/defrag")]);
    }
    diagnosis
}

fn swap(host: &Host, _: &Plan) -> Diagnosis {
    let wanted = "none, or memory.swap.max = 0 for the server";
    let Some(swaps) = host.text("proc/swaps") else {
        return Diagnosis::unknown("/proc/swaps can't be read", wanted);
    };
    // Below one line of headings.
    match swaps.lines().count().saturating_sub(1) {
        0 => Diagnosis::ok("none", wanted),
        _ if host.swap_is_forbidden() => Diagnosis::ok("there is some, but not for this cgroup", wanted),
        count => Diagnosis::ok(counted(count as u64, "swap area"), wanted)
            .but(Verdict::Advice, ["systemd: MemorySwapMax=0", "or: swapoff -a"]),
    }
}

fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
}

/// The word in brackets.
fn chosen(words: &str) -> Option<&str> {
    Some(words.split_once('[')?.1.split_once(']')?.0)
}
