//! Limits of the process: connections, descriptors, locked memory, CPU time.

use super::{Diagnosis, Host, Plan, Topic, Verdict, grouped, in_bytes};
use tickstream_server::preflight;
use tickstream_service::text::{counted, noun_for};

pub(super) const TOPICS: &[Topic] = &[
    Topic {
        name: "max_connections",
        why: "beyond the setting clients are refused as SERVER_BUSY",
        look: max_connections,
    },
    Topic {
        name: "descriptors",
        why: "each connection is a descriptor, and each shard has a table of its own that RLIMIT_NOFILE bounds; the \
              server raises its soft limit to the hard one",
        look: descriptors,
    },
    Topic { name: "fs.nr_open", why: "no RLIMIT_NOFILE can be above it", look: nr_open },
    Topic {
        name: "fs.file-max",
        why: "the open files of the whole machine: beyond it accepting fails",
        look: file_max,
    },
    Topic {
        name: "locked memory",
        why: "glommio insists on 512 KiB, and from Linux 6.14 on the rings of a user without CAP_IPC_LOCK count: \
              1.7 MiB a shard, measured on 6.18",
        look: locked_memory,
    },
    Topic {
        name: "CPU time",
        why: "a cgroup whose quota is used up stops for the rest of its period: shards then stand still, for tens \
              of milliseconds",
        look: cpu_time,
    },
];

/// From here on io_uring charges its rings to the user's locked memory.
const RINGS_ARE_CHARGED: (u32, u32) = (6, 14);
/// Locked memory of a shard where rings are charged: 1.7 MiB measured, rounded up.
const MEMLOCK_PER_SHARD_BYTES: u64 = 2 << 20;
/// CAP_IPC_LOCK in linux/capability.h.
const CAP_IPC_LOCK: u32 = 14;

fn max_connections(_: &Host, plan: &Plan) -> Diagnosis {
    let wanted = format!("at least {}", grouped(plan.connections.into()));
    match plan.max_connections {
        None => Diagnosis::ok("not set: as many as descriptors allow", wanted),
        Some(max) => {
            let diagnosis = Diagnosis::ok(grouped(max.get().into()), wanted);
            if max.get() >= plan.connections {
                return diagnosis;
            }
            diagnosis
                .but(Verdict::MustFix, [format!("tickstream serve --max-connections {}", plan.connections)])
        }
    }
}

fn descriptors(host: &Host, plan: &Plan) -> Diagnosis {
    let needed = descriptors_per_shard(plan);
    let wanted = format!(
        "{} a shard: {} {} over {}, and {} of its own",
        grouped(needed),
        grouped(plan.connections.into()),
        noun_for(plan.connections.into(), "connection"),
        counted(plan.shards as u64, "shard"),
        preflight::DESCRIPTORS_RESERVED
    );
    let Some(limit) = host.limit("Max open files") else {
        return Diagnosis::unknown("RLIMIT_NOFILE can't be read", wanted);
    };
    let diagnosis = Diagnosis::ok(format!("RLIMIT_NOFILE {} (hard)", count(limit.hard)), wanted);
    if limit.hard >= needed {
        return diagnosis;
    }
    let mut fix = vec![
        format!("systemd: LimitNOFILE={needed}"),
        format!("docker: --ulimit nofile={needed}:{needed}"),
        format!("shell, as root: ulimit -Hn {needed}"),
    ];
    if limit.hard > preflight::DESCRIPTORS_RESERVED {
        let shards = u64::from(plan.connections).div_ceil(limit.hard - preflight::DESCRIPTORS_RESERVED);
        fix.push(format!("or more shards, which may share CPUs: tickstream serve --shards {shards}"));
    }
    diagnosis.but(Verdict::MustFix, fix)
}

fn nr_open(host: &Host, plan: &Plan) -> Diagnosis {
    let needed = descriptors_per_shard(plan);
    host.at_least("fs.nr_open", needed, Verdict::MustFix)
}

fn file_max(host: &Host, plan: &Plan) -> Diagnosis {
    // Allocated, free, and the largest number.
    let [open, _, _] = host.sysctls("fs.file-nr").unwrap_or_default();
    host.at_least("fs.file-max", open + u64::from(plan.connections), Verdict::MustFix)
}

fn locked_memory(host: &Host, plan: &Plan) -> Diagnosis {
    let release = host.text("proc/sys/kernel/osrelease");
    let version = release.as_deref().and_then(preflight::kernel_version);
    let is_exempt = host.has_capability(CAP_IPC_LOCK) == Some(true);
    let is_charged = !is_exempt && version.is_some_and(|version| version >= RINGS_ARE_CHARGED);
    let charged = if is_charged { plan.shards as u64 * MEMLOCK_PER_SHARD_BYTES } else { 0 };
    let needed = preflight::MEMLOCK_BYTES_MIN.max(charged);
    let wanted = match (is_charged, is_exempt) {
        (true, _) => {
            format!("{}: 2 MiB for each of {}", in_bytes(needed), counted(plan.shards as u64, "shard"))
        }
        (false, true) => format!("{} (CAP_IPC_LOCK: rings aren't charged)", in_bytes(needed)),
        (false, false) => in_bytes(needed),
    };
    let Some(limit) = host.limit("Max locked memory") else {
        return Diagnosis::unknown("RLIMIT_MEMLOCK can't be read", wanted);
    };
    let shown = if limit.hard == u64::MAX { "unlimited".to_owned() } else { in_bytes(limit.hard) };
    let diagnosis = Diagnosis::ok(format!("RLIMIT_MEMLOCK {shown} (hard)"), wanted);
    if limit.hard >= needed {
        return diagnosis;
    }
    diagnosis.but(
        Verdict::MustFix,
        [
            format!("systemd: LimitMEMLOCK={needed}"),
            format!("docker: --ulimit memlock={needed}:{needed}"),
            "Kubernetes: LimitMEMLOCK= of the container runtime's unit on the node".to_owned(),
            format!("shell, as root: ulimit -l {}", needed.div_ceil(1_024)),
        ],
    )
}

fn cpu_time(host: &Host, plan: &Plan) -> Diagnosis {
    let shards = plan.cpus.len();
    let wanted =
        format!("no quota, or {} and more, one for each that runs shards", counted(shards as u64, "CPU"));
    match host.cpu_quota() {
        None => Diagnosis::unknown("the cgroup's quota can't be read", wanted),
        Some(None) => Diagnosis::ok("no quota", wanted),
        Some(Some(quota)) => {
            let diagnosis = Diagnosis::ok(format!("a quota of {quota:.2} CPUs"), wanted);
            if quota + 1e-6 >= shards as f64 {
                return diagnosis;
            }
            diagnosis.but(
                Verdict::Advice,
                [
                    format!("tickstream serve --shards {}", (quota.floor() as usize).max(1)),
                    format!("systemd: CPUQuota={}%", shards * 100),
                    format!("Kubernetes: resources.limits.cpu: {shards}, and the static CPU manager"),
                ],
            )
        }
    }
}

fn descriptors_per_shard(plan: &Plan) -> u64 {
    plan.connections_per_shard() + preflight::DESCRIPTORS_RESERVED
}

fn count(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".to_owned() } else { grouped(limit) }
}

impl Host {
    /// A setting of sysctl, by its name, that must not be lower.
    pub(super) fn at_least(&self, name: &str, needed: u64, below: Verdict) -> Diagnosis {
        let wanted = format!("at least {}", grouped(needed));
        match self.sysctl(name) {
            None => Diagnosis::unknown(format!("{name} can't be read"), wanted),
            Some(value) if value >= needed => Diagnosis::ok(grouped(value), wanted),
            Some(value) => {
                Diagnosis::ok(grouped(value), wanted).but(below, [format!("sysctl -w {name}={needed}")])
            }
        }
    }
}
