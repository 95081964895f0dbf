//! The kernel's TCP: queues, buffers, and who keeps track of connections.

use super::{Diagnosis, Host, Plan, Topic, Verdict, grouped, in_bytes};
use tickstream_service::text::noun_for;

pub(super) const TOPICS: &[Topic] = &[
    Topic {
        name: "net.core.somaxconn",
        why: "it caps listen_backlog: in a storm of reconnects whoever finds the queue full tries again a second \
              later",
        look: somaxconn,
    },
    Topic {
        name: "SYN queue",
        why: "with SYN cookies the queue is as long as the backlog and overflows into cookies; without them \
              tcp_max_syn_backlog bounds it, and beyond it SYNs are dropped",
        look: syn_queue,
    },
    Topic {
        name: "port range",
        why: "a server needs no ports for its clients; a proxy or a load generator on this machine has these for \
              each pair of its own address and the server's",
        look: port_range,
    },
    Topic {
        name: "net.ipv4.tcp_mem",
        why: "pages that all sockets' queues may take: above the second number the kernel shrinks windows, above \
              the third it drops. A fan-out holds up to a page or two for each connection; idle ones hold none \
              (measured on 6.18)",
        look: tcp_mem,
    },
    Topic {
        name: "send buffers",
        why: "send_buffer is set on the listener, and the kernel caps it at net.core.wmem_max without a word; \
              tcp_wmem then counts no more",
        look: send_buffers,
    },
    Topic {
        name: "receive buffers",
        why: "each connection may hold as much as the second number of tcp_rmem before the server reads it; the \
              server reads at once, so a large default only helps who floods it",
        look: receive_buffers,
    },
    Topic {
        name: "congestion control",
        why: "small frames at a low rate rarely fill a window, so any for general use does; those for special \
              networks step back when they shouldn't",
        look: congestion_control,
    },
    Topic {
        name: "net.core.netdev_max_backlog",
        why: "packets that wait for a CPU, where RPS or a virtual device hands them over: beyond it they are dropped \
              and sent again 200 ms later",
        look: netdev_backlog,
    },
    Topic {
        name: "connection tracking",
        why: "where it is loaded it must remember each connection, and drops packets of those beyond its table",
        look: conntrack,
    },
];

/// Pages that a connection's queues hold in a fan-out: at least one; peaks of 0.7 were measured over both ends.
const PAGES_PER_CONNECTION: u64 = 2;
/// Largest default of a receive buffer that isn't worth a word.
const RECEIVE_DEFAULT_BYTES_MAX: u64 = 1 << 20;
/// The kernel's default of net.core.netdev_max_backlog.
const NETDEV_BACKLOG_DEFAULT: u64 = 1_000;
const NETDEV_BACKLOG_WANTED: u64 = 16_384;

fn somaxconn(host: &Host, plan: &Plan) -> Diagnosis {
    host.at_least("net.core.somaxconn", plan.listen_backlog.into(), Verdict::Advice)
}

fn syn_queue(host: &Host, plan: &Plan) -> Diagnosis {
    let needed = u64::from(plan.listen_backlog);
    let wanted = format!("SYN cookies, or tcp_max_syn_backlog of at least {}", grouped(needed));
    let cookies = host.sysctl("net.ipv4.tcp_syncookies");
    let backlog = host.sysctl("net.ipv4.tcp_max_syn_backlog");
    match (cookies, backlog) {
        (Some(1..), _) => Diagnosis::ok("tcp_syncookies is on", wanted),
        (None, None) => {
            Diagnosis::unknown("neither tcp_syncookies nor tcp_max_syn_backlog can be read", wanted)
        }
        (_, Some(backlog)) if backlog >= needed => {
            Diagnosis::ok(format!("tcp_max_syn_backlog = {}", grouped(backlog)), wanted)
        }
        (None, Some(_)) => Diagnosis::unknown("tcp_syncookies can't be read", wanted),
        (Some(_), _) => Diagnosis::ok("tcp_syncookies is off, and tcp_max_syn_backlog low", wanted).but(
            Verdict::Advice,
            [
                "sysctl -w net.ipv4.tcp_syncookies=1".to_owned(),
                format!("or: sysctl -w net.ipv4.tcp_max_syn_backlog={needed}"),
            ],
        ),
    }
}

fn port_range(host: &Host, plan: &Plan) -> Diagnosis {
    let own = listed(&plan.ports);
    let wanted = format!("a range without the server's own port, {own}");
    let Some([first, last]) = host.sysctls("net.ipv4.ip_local_port_range") else {
        return Diagnosis::unknown("net.ipv4.ip_local_port_range can't be read", wanted);
    };
    let ports = last.saturating_sub(first) + 1;
    let enough = if ports >= u64::from(plan.connections) { "enough" } else { "not enough" };
    let found = format!(
        "{first} to {last}: {} ports, {enough} for {} {} from one address of a local proxy",
        grouped(ports),
        grouped(plan.connections.into()),
        noun_for(plan.connections.into(), "connection")
    );
    let reserved = host.text("proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    let is_reserved = |port| reserved.split(',').any(|range| contains(range, port));
    let is_open = |port: &u16| (first..=last).contains(&(*port).into()) && !is_reserved(*port);
    let open: Vec<u16> = plan.ports.iter().copied().filter(is_open).collect();
    if open.is_empty() {
        return Diagnosis::ok(found, wanted);
    }
    let open = listed(&open);
    let all = if reserved.is_empty() { open.clone() } else { format!("{reserved},{open}") };
    let found = format!("{found}; an outgoing connection may take port {open} before the server starts");
    Diagnosis::ok(found, wanted)
        .but(Verdict::Advice, [format!("sysctl -w net.ipv4.ip_local_reserved_ports={all}")])
}

fn tcp_mem(host: &Host, plan: &Plan) -> Diagnosis {
    let connections = u64::from(plan.connections);
    let needed = connections * PAGES_PER_CONNECTION;
    let wanted = format!(
        "the second of at least {}: {PAGES_PER_CONNECTION} pages for each of {} {}",
        grouped(needed),
        grouped(connections),
        noun_for(connections, "connection")
    );
    let Some([low, pressure, most]) = host.sysctls("net.ipv4.tcp_mem") else {
        return Diagnosis::unknown("net.ipv4.tcp_mem can't be read", wanted);
    };
    let found = format!("{low} {pressure} {most} pages");
    // In the kernel's own proportions: 3/4, 1 and 3/2 of the pressure.
    let fix = format!(
        "sysctl -w net.ipv4.tcp_mem=\"{} {needed} {}\"",
        needed.div_ceil(4) * 3,
        needed.div_ceil(2) * 3
    );
    let diagnosis = Diagnosis::ok(found, wanted);
    if most < connections {
        diagnosis.but(Verdict::MustFix, [fix])
    } else if pressure < needed {
        diagnosis.but(Verdict::Advice, [fix])
    } else {
        diagnosis
    }
}

fn send_buffers(host: &Host, plan: &Plan) -> Diagnosis {
    let needed = u64::from(plan.send_buffer);
    let wanted = format!("net.core.wmem_max of at least {} (send_buffer)", in_bytes(needed));
    let Some(most) = host.sysctl("net.core.wmem_max") else {
        return Diagnosis::unknown("net.core.wmem_max can't be read", wanted);
    };
    let autotuned = host.text("proc/sys/net/ipv4/tcp_wmem").unwrap_or_default();
    let autotuned = autotuned.split_whitespace().collect::<Vec<_>>().join(" ");
    let diagnosis = Diagnosis::ok(format!("wmem_max {}, tcp_wmem {autotuned}", in_bytes(most)), wanted);
    if most >= needed {
        return diagnosis;
    }
    diagnosis.but(Verdict::Advice, [format!("sysctl -w net.core.wmem_max={needed}")])
}

fn receive_buffers(host: &Host, _: &Plan) -> Diagnosis {
    let wanted = format!("a default of at most {}", in_bytes(RECEIVE_DEFAULT_BYTES_MAX));
    let Some([least, default, most]) = host.sysctls("net.ipv4.tcp_rmem") else {
        return Diagnosis::unknown("net.ipv4.tcp_rmem can't be read", wanted);
    };
    let diagnosis = Diagnosis::ok(format!("tcp_rmem {least} {default} {most}"), wanted);
    if default <= RECEIVE_DEFAULT_BYTES_MAX {
        return diagnosis;
    }
    // The kernel's own default.
    diagnosis.but(Verdict::Advice, [format!("sysctl -w net.ipv4.tcp_rmem=\"{least} 131072 {most}\"")])
}

fn congestion_control(host: &Host, _: &Plan) -> Diagnosis {
    let wanted = "one for general use, such as cubic or bbr";
    let Some(name) = host.text("proc/sys/net/ipv4/tcp_congestion_control") else {
        return Diagnosis::unknown("net.ipv4.tcp_congestion_control can't be read", wanted);
    };
    // For data centres with ECN everywhere, for background transfers, and an experiment.
    let is_special = ["dctcp", "lp", "nv", "cdg"].contains(&name.as_str());
    let diagnosis = Diagnosis::ok(name, wanted);
    if is_special {
        diagnosis.but(Verdict::Advice, ["sysctl -w net.ipv4.tcp_congestion_control=cubic"])
    } else {
        diagnosis
    }
}

fn netdev_backlog(host: &Host, _: &Plan) -> Diagnosis {
    let wanted = format!("at least {}, and no packet dropped", grouped(NETDEV_BACKLOG_DEFAULT));
    let Some(backlog) = host.sysctl("net.core.netdev_max_backlog") else {
        return Diagnosis::unknown("net.core.netdev_max_backlog can't be read", wanted);
    };
    let dropped = host.text("proc/net/softnet_stat").map(|stat| dropped(&stat));
    let since_boot = match dropped {
        Some(dropped) => format!("{} dropped since boot", grouped(dropped)),
        None => "drops can't be read".to_owned(),
    };
    let diagnosis = Diagnosis::ok(format!("{}; {since_boot}", grouped(backlog)), wanted);
    if backlog < NETDEV_BACKLOG_DEFAULT || dropped.is_some_and(|dropped| dropped > 0) {
        let more = NETDEV_BACKLOG_WANTED.max(backlog.saturating_mul(2));
        return diagnosis.but(Verdict::Advice, [format!("sysctl -w net.core.netdev_max_backlog={more}")]);
    }
    diagnosis
}

fn conntrack(host: &Host, plan: &Plan) -> Diagnosis {
    let connections = u64::from(plan.connections);
    // Those that just ended stay in the table for up to two minutes.
    let needed = connections + connections.div_ceil(4);
    let wanted = format!("not loaded, or a table of at least {}", grouped(needed));
    let name = "net.netfilter.nf_conntrack_max";
    let Some(most) = host.sysctl(name) else {
        return if host.exists("proc/sys/net") {
            Diagnosis::ok("not loaded", wanted)
        } else {
            Diagnosis::unknown("/proc/sys/net can't be read", wanted)
        };
    };
    let used = host
        .sysctl("net.netfilter.nf_conntrack_count")
        .map_or_else(String::new, |used| format!(", {} in use", grouped(used)));
    let diagnosis = Diagnosis::ok(format!("loaded, a table of {}{used}", grouped(most)), wanted);
    if most >= needed {
        return diagnosis;
    }
    let verdict = if most < connections { Verdict::MustFix } else { Verdict::Advice };
    let ports = listed(&plan.ports);
    diagnosis.but(
        verdict,
        [
            format!("sysctl -w {name}={needed}"),
            format!(
                "or don't track the server's port: nft 'add table inet tickstream; add chain inet tickstream in \
                 {{ type filter hook prerouting priority raw; }}; add rule inet tickstream in tcp dport {{ {ports} }} notrack; \
                 add chain inet tickstream out {{ type filter hook output priority raw; }}; add rule inet tickstream \
                 out tcp sport {{ {ports} }} notrack'"
            ),
        ],
    )
}

/// The second column of /proc/net/softnet_stat, over all CPUs.
fn dropped(stat: &str) -> u64 {
    let column = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    stat.lines().filter_map(column).sum()
}

/// `7400,7443`
fn listed(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}

/// True if `7400` or `7000-8000` names a port.
fn contains(range: &str, port: u16) -> bool {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
        (Ok(first), Ok(last)) => (first..=last).contains(&port),
        _ => false,
    }
}
