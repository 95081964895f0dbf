//! The CPUs that shards run on: how fast, what they share, how far they are from each other.

use std::collections::BTreeSet;
use tickstream_service::text::counted;

use super::{Diagnosis, Host, Plan, Topic, Verdict};
use tickstream_server::placement::format_cpus;

pub(super) const TOPICS: &[Topic] = &[
    Topic {
        name: "CPU governor",
        why: "shards sleep between ticks; a governor that clocks down meanwhile makes the start of each fan-out slow",
        look: governor,
    },
    Topic {
        name: "SMT",
        why: "two shards on one core share its caches and units: both are slower, and by how much changes with the \
              other's load",
        look: smt,
    },
    Topic {
        name: "isolated CPUs",
        why: "CPUs that were kept free of other work do nothing if no shard is pinned to them",
        look: isolated,
    },
    Topic {
        name: "NUMA nodes",
        why: "a process has its memory where it first touched it: from another node each access takes longer, \
              and the network card is near one of them only",
        look: numa,
    },
];

fn governor(host: &Host, plan: &Plan) -> Diagnosis {
    let wanted = "performance on the shards' CPUs";
    let governor = |cpu: &usize| {
        let path = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
        Some((*cpu, host.text(&path)?))
    };
    let governors: Vec<_> = plan.cpus.iter().filter_map(governor).collect();
    if governors.is_empty() {
        return Diagnosis::unknown("no governor is visible: the hypervisor or the firmware decides", wanted);
    }
    let slow: Vec<_> =
        governors.iter().filter(|(_, name)| name != "performance").map(|(cpu, _)| *cpu).collect();
    let names: BTreeSet<&str> = governors.iter().map(|(_, name)| name.as_str()).collect();
    let diagnosis = Diagnosis::ok(names.into_iter().collect::<Vec<_>>().join(", "), wanted);
    if slow.is_empty() {
        return diagnosis;
    }
    let fix = format!("cpupower --cpu {} frequency-set --governor performance", format_cpus(&slow));
    diagnosis.but(Verdict::Advice, [fix])
}

fn smt(host: &Host, plan: &Plan) -> Diagnosis {
    let wanted = "at most one CPU with shards in each core";
    let siblings =
        |cpu: &usize| host.cpus(&format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
    let cores: Option<Vec<_>> = plan.cpus.iter().map(siblings).collect();
    let Some(cores) = cores else {
        return Diagnosis::unknown("the CPUs' topology can't be read", wanted);
    };
    let mut seen = BTreeSet::new();
    let (first, shared): (Vec<_>, Vec<_>) =
        plan.cpus.iter().zip(&cores).partition(|(_, core)| seen.insert((*core).clone()));
    if shared.is_empty() {
        return Diagnosis::ok("no two of the shards' CPUs share a core", wanted);
    }
    let numbers =
        |list: Vec<(&usize, _)>| format_cpus(&list.into_iter().map(|(cpu, _)| *cpu).collect::<Vec<_>>());
    Diagnosis::ok(format!("CPUs {} share cores with others that run shards", numbers(shared)), wanted)
        .but(Verdict::Advice, [format!("tickstream serve --cpus {}", numbers(first))])
}

fn isolated(host: &Host, plan: &Plan) -> Diagnosis {
    let wanted = "none, or shards on all of them";
    let Some(isolated) = host.cpus("sys/devices/system/cpu/isolated") else {
        return Diagnosis::unknown("the list of isolated CPUs can't be read", wanted);
    };
    if isolated.is_empty() {
        return Diagnosis::ok("none", wanted);
    }
    let list = format_cpus(&isolated);
    let unused: Vec<_> = isolated.iter().copied().filter(|cpu| !plan.cpus.contains(cpu)).collect();
    let diagnosis = Diagnosis::ok(format!("{list} are isolated"), wanted);
    if unused.is_empty() {
        return diagnosis;
    }
    let found = format!("{list} are isolated, and {} run no shard", format_cpus(&unused));
    Diagnosis { found, ..diagnosis }.but(
        Verdict::Advice,
        [
            format!("tickstream serve --cpus {list}"),
            format!("which the process must be allowed to use: systemd: CPUAffinity={list}"),
        ],
    )
}

fn numa(host: &Host, plan: &Plan) -> Diagnosis {
    let wanted = "all shards of a process on one node";
    let nodes = host.nodes();
    if nodes.is_empty() {
        return Diagnosis::unknown("no NUMA nodes can be read", wanted);
    }
    let used: Vec<usize> = nodes
        .iter()
        .filter(|(_, cpus)| cpus.iter().any(|cpu| plan.cpus.contains(cpu)))
        .map(|(node, _)| *node)
        .collect();
    let all = counted(nodes.len() as u64, "node");
    let found = format!("{all} with CPUs; shards on node {}", format_cpus(&used));
    let diagnosis = Diagnosis::ok(found, wanted);
    if used.len() < 2 {
        return diagnosis;
    }
    let instances: Vec<_> = used.iter().map(|node| format!("tickstream@{node}")).collect();
    diagnosis.but(
        Verdict::Advice,
        [
            format!("one process for each node: systemctl enable --now {}", instances.join(" ")),
            "which is, by hand: tickstream serve --numa-node N".to_owned(),
        ],
    )
}
