//! Network cards: which CPUs take their interrupts, and how packets are spread over CPUs (the kernel's
//! Documentation/networking/scaling.rst).

use std::collections::BTreeSet;
use tickstream_service::text::counted;

use super::{Diagnosis, Host, Plan, Topic, Verdict};
use tickstream_server::placement::format_cpus;

pub(super) const TOPICS: &[Topic] = &[
    Topic {
        name: "interrupts",
        why: "where all of a card's interrupts go to one CPU, the shard there stands behind the packets of all \
              others",
        look: interrupts,
    },
    Topic {
        name: "RPS and XPS",
        why: "a card with fewer receive queues than CPUs with shards leaves TCP's work for all connections to a few \
              of them; RPS hands packets on by software. XPS keeps CPUs from contending for a transmit queue",
        look: steering,
    },
    Topic {
        name: "card's node",
        why: "packets cross from node to node where card and shards are apart",
        look: node,
    },
];

const NO_CARD: &str = "no network card is visible here, as in a container";

/// A network card: an interface with a device behind it.
struct Card {
    name: String,
    /// Interrupts that bring packets, with the CPUs that take them.
    interrupts: Vec<(u32, Vec<usize>)>,
    /// `None` where the machine has no nodes, or doesn't say.
    node: Option<usize>,
    /// The mask of each receive queue's RPS, and of each transmit queue's XPS; true: some CPU is in it.
    rps: Vec<bool>,
    xps: Vec<bool>,
}

impl Card {
    /// CPUs that take interrupts of it.
    fn cpus(&self) -> Vec<usize> {
        let cpus: BTreeSet<usize> =
            self.interrupts.iter().flat_map(|(_, cpus)| cpus.iter().copied()).collect();
        cpus.into_iter().collect()
    }
}

fn interrupts(host: &Host, plan: &Plan) -> Diagnosis {
    let wanted = "the queues of each card spread over the shards' CPUs, or on CPUs without shards";
    let cards: Vec<_> = cards(host).into_iter().filter(|card| !card.interrupts.is_empty()).collect();
    if cards.is_empty() {
        return Diagnosis::unknown(format!("{NO_CARD}, or its interrupts can't be read"), wanted);
    }
    let described = cards.iter().map(|card| {
        let queues = counted(card.interrupts.len() as u64, "queue");
        format!("{}: {queues} on CPU {}", card.name, format_cpus(&card.cpus()))
    });
    let diagnosis = Diagnosis::ok(described.collect::<Vec<_>>().join("; "), wanted);
    let mut fix = Vec::new();
    for card in &cards {
        let cpus = card.cpus();
        let spread = card.interrupts.len().min(plan.cpus.len());
        let meets_shards = cpus.iter().any(|cpu| plan.cpus.contains(cpu));
        if meets_shards && cpus.len() < spread {
            let moves = card.interrupts.iter().zip(plan.cpus.iter().cycle());
            fix.extend(
                moves.map(|((irq, _), cpu)| format!("echo {cpu} > /proc/irq/{irq}/smp_affinity_list")),
            );
        }
    }
    if fix.is_empty() {
        return diagnosis;
    }
    fix.push("and keep irqbalance from moving them: deploy/irq/tickstream-irq does all of this".to_owned());
    diagnosis.but(Verdict::Advice, fix)
}

fn steering(host: &Host, plan: &Plan) -> Diagnosis {
    let wanted =
        "a receive queue for each CPU with shards, or RPS; XPS where there are several transmit queues";
    let cards: Vec<_> = cards(host).into_iter().filter(|card| !card.rps.is_empty()).collect();
    if cards.is_empty() {
        return Diagnosis::unknown(NO_CARD, wanted);
    }
    let on = |masks: &[bool]| masks.iter().filter(|is_set| **is_set).count();
    let described = cards.iter().map(|card| {
        let (rps, xps) = (&card.rps, &card.xps);
        format!(
            "{}: {}, RPS on {}; {}, XPS on {}",
            card.name,
            counted(rps.len() as u64, "receive queue"),
            on(rps),
            counted(xps.len() as u64, "transmit queue"),
            on(xps)
        )
    });
    let diagnosis = Diagnosis::ok(described.collect::<Vec<_>>().join("; "), wanted);
    let mask = mask(&plan.cpus);
    let mut fix = Vec::new();
    for card in &cards {
        let queues = |kind, count, mask: &str| {
            let file = if kind == "rx" { "rps_cpus" } else { "xps_cpus" };
            let line =
                |queue| format!("echo {mask} > /sys/class/net/{}/queues/{kind}-{queue}/{file}", card.name);
            (0..count).map(line).collect::<Vec<_>>()
        };
        if card.rps.len() < plan.cpus.len() && on(&card.rps) == 0 {
            let count = plan.cpus.len();
            fix.push(format!(
                "ethtool -L {} combined {count}    # if the card has so many queues; else:",
                card.name
            ));
            fix.extend(queues("rx", card.rps.len(), &mask));
        }
        if card.xps.len() > 1 && on(&card.xps) == 0 {
            fix.extend(queues("tx", card.xps.len(), &mask));
        }
    }
    if fix.is_empty() { diagnosis } else { diagnosis.but(Verdict::Advice, fix) }
}

fn node(host: &Host, plan: &Plan) -> Diagnosis {
    let wanted = "shards on the card's NUMA node";
    let cards: Vec<_> = cards(host).into_iter().filter_map(|card| Some((card.name, card.node?))).collect();
    if cards.is_empty() {
        return Diagnosis::unknown("no card says which node it is near", wanted);
    }
    let nodes = host.nodes();
    let is_near =
        |node: &usize| nodes.get(node).is_none_or(|cpus| cpus.iter().any(|cpu| plan.cpus.contains(cpu)));
    let described = cards.iter().map(|(name, node)| format!("{name}: node {node}")).collect::<Vec<_>>();
    let diagnosis = Diagnosis::ok(described.join("; "), wanted);
    // One near card is enough: nobody says which one the clients come through.
    if cards.iter().any(|(_, node)| is_near(node)) {
        return diagnosis;
    }
    diagnosis.but(Verdict::Advice, [format!("tickstream serve --numa-node {}", cards[0].1)])
}

fn cards(host: &Host) -> Vec<Card> {
    let device = |name: &String| host.exists(&format!("sys/class/net/{name}/device"));
    host.names("sys/class/net").into_iter().filter(device).map(|name| card(host, name)).collect()
}

fn card(host: &Host, name: String) -> Card {
    let folder = format!("sys/class/net/{name}");
    // Behind a virtio device the interrupts and the node are those of the PCI device above it.
    let devices = [format!("{folder}/device"), format!("{folder}/device/..")];
    let numbers = devices.iter().map(|device| host.names(&format!("{device}/msi_irqs")));
    let numbers = numbers.into_iter().find(|names| !names.is_empty()).unwrap_or_default();
    let table = host.text("proc/interrupts").unwrap_or_default();
    let interrupts = numbers
        .iter()
        .filter_map(|number| number.parse().ok())
        .filter(|number| brings_packets(&table, *number))
        .filter_map(|number| Some((number, affinity(host, number)?)))
        .collect();
    // -1 where there are no nodes.
    let node = devices.iter().find_map(|device| host.text(&format!("{device}/numa_node"))?.parse().ok());
    let masks = |kind: &str, file: &str| {
        let queues =
            host.names(&format!("{folder}/queues")).into_iter().filter(|queue| queue.starts_with(kind));
        let mask = |queue| host.text(&format!("{folder}/queues/{queue}/{file}")).unwrap_or_default();
        queues
            .map(|queue| mask(queue).chars().any(|digit| digit.is_ascii_hexdigit() && digit != '0'))
            .collect()
    };
    let (rps, xps) = (masks("rx-", "rps_cpus"), masks("tx-", "xps_cpus"));
    Card { name, interrupts, node, rps, xps }
}

/// True if an interrupt of a card is a receive queue's, by the name that its driver gave it: not one that only
/// transmits, or that tells of changes.
fn brings_packets(table: &str, number: u32) -> bool {
    let prefix = format!("{number}:");
    let Some(line) = table.lines().map(str::trim_start).find(|line| line.starts_with(&prefix)) else {
        return false;
    };
    let name = line.split_whitespace().last().unwrap_or_default().to_ascii_lowercase();
    let others =
        ["config", "control", "ctrl", "event", "async", "misc", "mgmt", "admin", "link", "output", "cmd"];
    let only_transmits = name.contains("-tx") && !name.contains("rx");
    !others.iter().any(|other| name.contains(other)) && !only_transmits
}

fn affinity(host: &Host, number: u32) -> Option<Vec<usize>> {
    let file = |name| host.cpus(&format!("proc/irq/{number}/{name}")).filter(|cpus| !cpus.is_empty());
    file("effective_affinity_list").or_else(|| file("smp_affinity_list"))
}

/// CPUs as the kernel's masks have them: hexadecimal, in groups of 32 with commas between.
pub(super) fn mask(cpus: &[usize]) -> String {
    let groups = cpus.iter().max().map_or(1, |most| most / 32 + 1);
    let mut words = vec![0_u32; groups];
    for cpu in cpus {
        words[cpu / 32] |= 1 << (cpu % 32);
    }
    let first = format!("{:x}", words[groups - 1]);
    let rest = words[..groups - 1].iter().rev().map(|word| format!(",{word:08x}"));
    first + &rest.collect::<String>()
}
