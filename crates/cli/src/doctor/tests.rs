//! Topics on machines of files: one that has all that is wanted, one that can't be read, and single things amiss.

use std::fs;
use std::io;
use std::path::Path;

use super::*;

/// Files of `/proc` and `/sys` on a machine with four CPUs, one node and one card that is fit for 100,000
/// connections.
const FIT: &[(&str, &str)] = &[
    ("proc/sys/kernel/osrelease", "6.12.9-generic\n"),
    ("proc/sys/kernel/io_uring_disabled", "0\n"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
    ("proc/self/limits", LIMITS),
    ("proc/self/status", "Name:\ttickstream\nCapEff:\t0000000000000000\nCpus_allowed_list:\t0-3\n"),
    ("proc/self/cgroup", "0::/system.slice/tickstream.service\n"),
    ("proc/sys/fs/nr_open", "1048576\n"),
    ("proc/sys/fs/file-max", "9223372036854775807\n"),
    ("proc/sys/fs/file-nr", "1504\t0\t9223372036854775807\n"),
    ("sys/fs/cgroup/system.slice/tickstream.service/cpu.max", "max 100000\n"),
    ("sys/fs/cgroup/system.slice/tickstream.service/memory.max", "max\n"),
    ("proc/meminfo", "MemTotal:       16314656 kB\nMemFree:        1 kB\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
    ("sys/kernel/mm/transparent_hugepage/defrag", "always defer defer+madvise [madvise] never\n"),
    ("proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"),
    ("proc/sys/net/core/somaxconn", "4096\n"),
    ("proc/sys/net/ipv4/tcp_syncookies", "1\n"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "512\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("proc/sys/net/ipv4/tcp_mem", "287901\t383868\t575802\n"),
    ("proc/sys/net/core/wmem_max", "212992\n"),
    ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304\n"),
    ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
    ("proc/sys/net/ipv4/tcp_congestion_control", "cubic\n"),
    ("proc/sys/net/core/netdev_max_backlog", "1000\n"),
    ("proc/net/softnet_stat", "00000010 00000000 00000000\n0000002a 00000000 00000000\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
    ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n"),
    ("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance\n"),
    ("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "performance\n"),
    ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0\n"),
    ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1\n"),
    ("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2\n"),
    ("sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "3\n"),
    ("sys/devices/system/cpu/isolated", "\n"),
    ("sys/devices/system/node/node0/cpulist", "0-3\n"),
    ("proc/interrupts", INTERRUPTS),
    ("sys/class/net/lo/operstate", "unknown\n"),
    ("sys/class/net/eth0/device/numa_node", "0\n"),
    ("sys/class/net/eth0/device/msi_irqs/40", "msix\n"),
    ("sys/class/net/eth0/device/msi_irqs/41", "msix\n"),
    ("sys/class/net/eth0/device/msi_irqs/42", "msix\n"),
    ("sys/class/net/eth0/device/msi_irqs/43", "msix\n"),
    ("sys/class/net/eth0/device/msi_irqs/44", "msix\n"),
    ("proc/irq/41/effective_affinity_list", "0\n"),
    ("proc/irq/42/effective_affinity_list", "1\n"),
    ("proc/irq/43/effective_affinity_list", "2\n"),
    ("proc/irq/44/effective_affinity_list", "3\n"),
    ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
    ("sys/class/net/eth0/queues/rx-1/rps_cpus", "0\n"),
    ("sys/class/net/eth0/queues/rx-2/rps_cpus", "0\n"),
    ("sys/class/net/eth0/queues/rx-3/rps_cpus", "0\n"),
    ("sys/class/net/eth0/queues/tx-0/xps_cpus", "1\n"),
    ("sys/class/net/eth0/queues/tx-1/xps_cpus", "2\n"),
];

const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max open files            1024                 524288               files
Max locked memory         8388608              8388608              bytes
";

const INTERRUPTS: &str = "\
           CPU0       CPU1       CPU2       CPU3
 40:          1          0          0          0  PCI-MSIX-0000:00:03.0   0-edge      eth0-config
 41:        900          0          0          0  PCI-MSIX-0000:00:03.0   1-edge      eth0-TxRx-0
 42:          0        900          0          0  PCI-MSIX-0000:00:03.0   2-edge      eth0-TxRx-1
 43:          0          0        900          0  PCI-MSIX-0000:00:03.0   3-edge      eth0-TxRx-2
 44:          0          0          0        900  PCI-MSIX-0000:00:03.0   4-edge      eth0-TxRx-3
NMI:          0          0          0          0   Non-maskable interrupts
";

fn plan() -> Plan {
    Plan {
        connections: 100_000,
        max_connections: None,
        shards: 4,
        cpus: vec![0, 1, 2, 3],
        ports: vec![7_400],
        tls: false,
        listen_backlog: 4_096,
        send_buffer: 65_536,
        journal: None,
    }
}

/// The fit machine with these files instead of its own; one without text is missing.
fn machine(files: &[(&str, Option<&str>)]) -> (tempfile::TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in FIT {
        write(root.path(), path, text);
    }
    for (path, text) in files {
        match text {
            Some(text) => write(root.path(), path, text),
            None => fs::remove_file(root.path().join(path)).unwrap(),
        }
    }
    let mut host = Host::at(root.path().to_owned(), None);
    host.io_uring = Some(Ok(()));
    host.clock = Some(super::host::Clock { is_synchronized: true, error_max_us: 1_500 });
    (root, host)
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// One topic's check.
fn look(host: &Host, plan: Plan, name: &str) -> Check {
    let report = Report::of(host, plan);
    report.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no topic {name}")).clone()
}

/// Diagnosis of a topic on the fit machine with these files, and texts that its words contain.
fn check(name: &str, files: &[(&str, &str)], expected: Verdict, parts: &[&str]) {
    check_plan(name, plan(), files, expected, parts);
}

fn check_plan(name: &str, plan: Plan, files: &[(&str, &str)], expected: Verdict, parts: &[&str]) {
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, Some(*text))).collect();
    let (_root, host) = machine(&files);
    check_row(&look(&host, plan, name), expected, parts);
}

fn check_row(check: &Check, expected: Verdict, parts: &[&str]) {
    assert_eq!(check.verdict, expected, "{check:#?}");
    let words = format!("{} {} {}", check.found, check.wanted, check.fix.join("\n"));
    for part in parts {
        assert!(words.contains(part), "no {part:?} in {check:#?}");
    }
    assert_eq!(check.verdict >= Verdict::Advice, !check.fix.is_empty(), "{check:#?}");
}

#[test]
fn a_fit_machine_has_nothing_amiss() {
    let (_root, host) = machine(&[]);
    let report = Report::of(&host, plan());
    for check in &report.checks {
        check_row(check, Verdict::Ok, &[]);
    }
    assert!(report.is_fit());
}

#[test]
fn what_cannot_be_read_is_unknown_and_no_alarm() {
    let root = tempfile::tempdir().unwrap();
    let report = Report::of(&Host::at(root.path().to_owned(), None), plan());
    for check in &report.checks {
        let expected = if check.name == "max_connections" { Verdict::Ok } else { Verdict::Unknown };
        check_row(check, expected, &[]);
    }
    assert!(report.is_fit());
}

#[test]
fn what_is_not_a_number_is_unknown() {
    let files = FIT.iter().map(|(path, _)| *path).filter(|path| path.starts_with("proc/sys/"));
    for path in files {
        let (_root, host) = machine(&[(path, Some("?"))]);
        assert!(Report::of(&host, plan()).is_fit(), "{path}");
    }
}

#[test]
fn another_process_is_looked_at() {
    let limits = LIMITS.replace("524288", "4096");
    let (root, _) = machine(&[("proc/77/limits", Some(&limits))]);
    let host = Host::at(root.path().to_owned(), Some(77));
    check_row(&look(&host, plan(), "descriptors"), Verdict::MustFix, &["4,096"]);
}

#[test]
fn old_kernels_are_reported() {
    let release = |release, expected| {
        check("kernel", &[("proc/sys/kernel/osrelease", release)], expected, &[]);
    };
    release("5.15.0-91-generic", Verdict::MustFix);
    release("6.0.19", Verdict::MustFix);
    release("6.1.0-28-amd64", Verdict::Advice);
    release("6.6.0", Verdict::Ok);
    release("7.0.1", Verdict::Ok);
    release("custom", Verdict::Unknown);
}

#[test]
fn io_uring_is_tried_and_its_switch_is_read() {
    let answer = |switch, probe: Option<io::Result<()>>, expected, parts: &[&str]| {
        let (_root, mut host) = machine(&[("proc/sys/kernel/io_uring_disabled", switch)]);
        host.io_uring = probe;
        check_row(&look(&host, plan(), "io_uring"), expected, parts);
    };
    let refused = |errno| Some(Err(io::Error::from_raw_os_error(errno)));
    answer(None, Some(Ok(())), Verdict::Ok, &[]);
    answer(Some("1"), Some(Ok(())), Verdict::Advice, &["io_uring_group"]);
    answer(Some("2"), Some(Ok(())), Verdict::MustFix, &["sysctl -w kernel.io_uring_disabled=0"]);
    answer(Some("0"), refused(libc::EPERM), Verdict::MustFix, &["seccomp"]);
    answer(Some("0"), refused(libc::ENOMEM), Verdict::MustFix, &["ulimit -l"]);
    answer(Some("0"), None, Verdict::Ok, &[]);
    answer(Some("1"), None, Verdict::Unknown, &[]);
    answer(None, None, Verdict::Unknown, &[]);
}

#[test]
fn slow_clocks_and_wrong_ones_are_told() {
    let folder = "sys/devices/system/clocksource/clocksource0";
    let (current, available) =
        (format!("{folder}/current_clocksource"), format!("{folder}/available_clocksource"));
    check("clock source", &[(&current, "kvm-clock")], Verdict::Ok, &[]);
    check("clock source", &[(&current, "hpet"), (&available, "hpet acpi_pm")], Verdict::Advice, &["dmesg"]);
    let fix = "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource";
    check("clock source", &[(&current, "acpi_pm"), (&available, "acpi_pm tsc")], Verdict::Advice, &[fix]);
    let (_root, mut host) = machine(&[]);
    check_row(&look(&host, plan(), "time sync"), Verdict::Ok, &["at most 1.5 ms"]);
    host.clock = Some(super::host::Clock { is_synchronized: false, error_max_us: 16_000_000 });
    check_row(&look(&host, plan(), "time sync"), Verdict::Advice, &["chrony"]);
}

#[test]
fn connections_must_fit_the_setting_and_the_descriptors() {
    let limited = |max| Plan { max_connections: NonZeroU32::new(max), ..plan() };
    check_plan("max_connections", limited(100_000), &[], Verdict::Ok, &[]);
    check_plan("max_connections", limited(99_999), &[], Verdict::MustFix, &["--max-connections 100000"]);

    let descriptors = |hard: &str, expected, parts: &[&str]| {
        let limits = LIMITS.replace("524288", hard);
        check("descriptors", &[("proc/self/limits", &limits)], expected, parts);
    };
    // 25,000 connections and 128 of its own.
    descriptors("25128", Verdict::Ok, &["25,128 a shard"]);
    descriptors("25127", Verdict::MustFix, &["LimitNOFILE=25128", "--shards 5"]);
    descriptors("unlimited", Verdict::Ok, &["unlimited"]);
    descriptors("100", Verdict::MustFix, &["ulimit -Hn 25128"]);

    check(
        "fs.nr_open",
        &[("proc/sys/fs/nr_open", "25127")],
        Verdict::MustFix,
        &["sysctl -w fs.nr_open=25128"],
    );
    let file_max = |value, expected| check("fs.file-max", &[("proc/sys/fs/file-max", value)], expected, &[]);
    file_max("101504", Verdict::Ok);
    file_max("101503", Verdict::MustFix);
}

#[test]
fn locked_memory_counts_rings_where_the_kernel_does() {
    let status = |capabilities: &str| format!("CapEff:\t{capabilities}\nCpus_allowed_list:\t0-3\n");
    let answer = |release: &str, hard: &str, capabilities: &str, expected, parts: &[&str]| {
        let files = [
            ("proc/sys/kernel/osrelease", release),
            ("proc/self/limits", &LIMITS.replace("8388608", hard)),
            ("proc/self/status", &status(capabilities)),
        ];
        check("locked memory", &files, expected, parts);
    };
    let none = "0000000000000000";
    answer("6.18.0", "8388608", none, Verdict::Ok, &["8 MiB: 2 MiB for each of 4"]);
    answer("6.18.0", "8388607", none, Verdict::MustFix, &["LimitMEMLOCK=8388608", "ulimit -l 8192"]);
    answer("6.18.0", "524288", "0000000000004000", Verdict::Ok, &["CAP_IPC_LOCK"]);
    answer("6.12.0", "524288", none, Verdict::Ok, &[]);
    answer("6.12.0", "65536", none, Verdict::MustFix, &["LimitMEMLOCK=524288"]);
    answer("6.18.0", "unlimited", none, Verdict::Ok, &["unlimited"]);
}

#[test]
fn quotas_of_the_cgroup_and_those_above_it_count() {
    let own = "sys/fs/cgroup/system.slice/tickstream.service/cpu.max";
    check("CPU time", &[(own, "400000 100000\n")], Verdict::Ok, &["4.00 CPUs"]);
    check("CPU time", &[(own, "399999 100000\n")], Verdict::Advice, &["--shards 3", "CPUQuota=400%"]);
    check("CPU time", &[(own, "50000 100000\n")], Verdict::Advice, &["--shards 1"]);
    let above = "sys/fs/cgroup/system.slice/cpu.max";
    check(
        "CPU time",
        &[(own, "400000 100000\n"), (above, "200000 100000\n")],
        Verdict::Advice,
        &["2.00 CPUs"],
    );
    // Version 1, as on older distributions; version 2 is mounted beside it.
    let version_1 = [
        ("proc/self/cgroup", "4:cpu,cpuacct:/a\n3:memory:/a\n0::/\n"),
        ("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "200000\n"),
        ("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n"),
        ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1000000\n"),
    ];
    check("CPU time", &version_1, Verdict::Advice, &["2.00 CPUs"]);
    check("memory", &version_1, Verdict::MustFix, &["976.6 KiB"]);
    let unlimited = [
        ("proc/self/cgroup", "4:cpu,cpuacct:/a\n3:memory:/a\n"),
        ("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n"),
        ("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n"),
        ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n"),
    ];
    check("CPU time", &unlimited, Verdict::Ok, &["no quota"]);
    check("memory", &unlimited, Verdict::Ok, &[]);
}

#[test]
fn memory_must_suffice_for_process_and_sockets() {
    let group = "sys/fs/cgroup/system.slice/tickstream.service/memory.max";
    // 100,000 × (600 + 5,200 + 4,096) + 7 MB + 3 × 2 MB = 1,002,600,000 bytes.
    check("memory", &[(group, "1002599999\n")], Verdict::MustFix, &["memory.max", "MemoryMax=1504M"]);
    check("memory", &[(group, "1002600000\n")], Verdict::Advice, &[]);
    check("memory", &[(group, "1300000000\n")], Verdict::Ok, &[]);
    // And 100,000 × 2,800.
    let tls = || Plan { tls: true, ..plan() };
    check_plan("memory", tls(), &[(group, "1282599999\n")], Verdict::MustFix, &[]);
    check_plan("memory", tls(), &[(group, "1282600000\n")], Verdict::Advice, &[]);
    check("memory", &[("proc/meminfo", "MemTotal: 900000 kB\n")], Verdict::MustFix, &["878.9 MiB in all"]);
}

#[test]
fn what_makes_memory_slow_is_told() {
    let folder = "sys/kernel/mm/transparent_hugepage";
    let (enabled, defrag) = (format!("{folder}/enabled"), format!("{folder}/defrag"));
    let always = "[always] madvise never";
    check(
        "transparent hugepages",
        &[(&enabled, always)],
        Verdict::Ok,
        &["enabled = always, defrag = madvise"],
    );
    let both = [(enabled.as_str(), always), (defrag.as_str(), "[always] defer madvise never")];
    check("transparent hugepages", &both, Verdict::Advice, &["echo madvise > /sys/kernel/mm"]);

    let swaps = ("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n");
    check("swap", &[swaps], Verdict::Advice, &["MemorySwapMax=0", "swapoff -a"]);
    let forbidden = ("sys/fs/cgroup/system.slice/tickstream.service/memory.swap.max", "0\n");
    check("swap", &[swaps, forbidden], Verdict::Ok, &[]);
}

#[test]
fn queues_of_the_kernel_are_compared_with_the_settings() {
    let somaxconn = ("proc/sys/net/core/somaxconn", "128\n");
    check("net.core.somaxconn", &[somaxconn], Verdict::Advice, &["sysctl -w net.core.somaxconn=4096"]);
    let short = Plan { listen_backlog: 128, ..plan() };
    check_plan("net.core.somaxconn", short, &[somaxconn], Verdict::Ok, &[]);

    let cookies = ("proc/sys/net/ipv4/tcp_syncookies", "0\n");
    check("SYN queue", &[cookies], Verdict::Advice, &["tcp_syncookies=1", "tcp_max_syn_backlog=4096"]);
    check("SYN queue", &[cookies, ("proc/sys/net/ipv4/tcp_max_syn_backlog", "4096\n")], Verdict::Ok, &[]);

    let backlog = |text, expected, parts: &[&str]| {
        check("net.core.netdev_max_backlog", &[("proc/net/softnet_stat", text)], expected, parts);
    };
    backlog("00000010 00000000 0\n00000010 000000ff 0\n", Verdict::Advice, &["255 dropped", "=16384"]);
    let low = ("proc/sys/net/core/netdev_max_backlog", "300\n");
    check("net.core.netdev_max_backlog", &[low], Verdict::Advice, &[]);
}

#[test]
fn ports_matter_for_local_proxies_and_for_the_server_s_own() {
    let range = |text| ("proc/sys/net/ipv4/ip_local_port_range", text);
    check("port range", &[range("32768 60999")], Verdict::Ok, &["28,232 ports, not enough for 100,000"]);
    let few = Plan { connections: 1_000, ..plan() };
    check_plan("port range", few, &[range("32768 60999")], Verdict::Ok, &["enough for 1,000"]);
    let reserved = |text| ("proc/sys/net/ipv4/ip_local_reserved_ports", text);
    let wide = range("1024 65535");
    let two = Plan { ports: vec![7_400, 443, 7_443], ..plan() };
    check_plan(
        "port range",
        two,
        &[wide],
        Verdict::Advice,
        &["take port 7400,7443", "reserved_ports=7400,7443"],
    );
    check("port range", &[wide], Verdict::Advice, &["ip_local_reserved_ports=7400"]);
    check("port range", &[wide, reserved("80,7000-8000\n")], Verdict::Ok, &[]);
    check(
        "port range",
        &[wide, reserved("80,90-91\n")],
        Verdict::Advice,
        &["ip_local_reserved_ports=80,90-91,7400"],
    );
}

#[test]
fn tcp_buffers_are_compared_with_the_connections() {
    let tcp_mem = |text, expected, parts: &[&str]| {
        check("net.ipv4.tcp_mem", &[("proc/sys/net/ipv4/tcp_mem", text)], expected, parts);
    };
    tcp_mem("150000 200000 300000", Verdict::Ok, &[]);
    tcp_mem("150000 199999 300000", Verdict::Advice, &["net.ipv4.tcp_mem=\"150000 200000 300000\""]);
    tcp_mem("9000 12000 18000", Verdict::MustFix, &[]);

    let wmem = ("proc/sys/net/core/wmem_max", "32768\n");
    check("send buffers", &[wmem], Verdict::Advice, &["sysctl -w net.core.wmem_max=65536"]);
    let rmem = ("proc/sys/net/ipv4/tcp_rmem", "4096 16777216 33554432\n");
    check("receive buffers", &[rmem], Verdict::Advice, &["tcp_rmem=\"4096 131072 33554432\""]);
    let control = |name, expected| {
        check("congestion control", &[("proc/sys/net/ipv4/tcp_congestion_control", name)], expected, &[]);
    };
    control("bbr", Verdict::Ok);
    control("dctcp", Verdict::Advice);
}

#[test]
fn connection_tracking_needs_room() {
    let answer = |most, expected, parts: &[&str]| {
        let files = [
            ("proc/sys/net/netfilter/nf_conntrack_max", most),
            ("proc/sys/net/netfilter/nf_conntrack_count", "17\n"),
        ];
        check("connection tracking", &files, expected, parts);
    };
    answer("125000", Verdict::Ok, &["17 in use"]);
    answer("124999", Verdict::Advice, &["nf_conntrack_max=125000", "tcp dport { 7400 } notrack"]);
    answer("99999", Verdict::MustFix, &[]);
}

#[test]
fn cpus_are_judged_where_shards_run() {
    let governor = ("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "powersave\n");
    check("CPU governor", &[governor], Verdict::Advice, &["cpupower --cpu 3 frequency-set"]);
    let two = || Plan { cpus: vec![0, 1], shards: 2, ..plan() };
    check_plan("CPU governor", two(), &[governor], Verdict::Ok, &[]);

    let siblings = [
        ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,2\n"),
        ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1,3\n"),
        ("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "0,2\n"),
        ("sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "1,3\n"),
    ];
    check("SMT", &siblings, Verdict::Advice, &["CPUs 2-3 share", "--cpus 0-1"]);
    check_plan("SMT", two(), &siblings, Verdict::Ok, &[]);

    let isolated = ("sys/devices/system/cpu/isolated", "2-3\n");
    check("isolated CPUs", &[isolated], Verdict::Ok, &["2-3"]);
    check_plan("isolated CPUs", two(), &[isolated], Verdict::Advice, &["--cpus 2-3", "CPUAffinity=2-3"]);

    let nodes = [
        ("sys/devices/system/node/node0/cpulist", "0-1\n"),
        ("sys/devices/system/node/node1/cpulist", "2-3\n"),
    ];
    check("NUMA nodes", &nodes, Verdict::Advice, &["tickstream@0 tickstream@1"]);
    check_plan("NUMA nodes", two(), &nodes, Verdict::Ok, &["2 nodes with CPUs; shards on node 0"]);
}

#[test]
fn interrupts_on_one_shard_s_cpu_are_told() {
    let on_cpu_0 = [
        ("proc/irq/42/effective_affinity_list", "0\n"),
        ("proc/irq/43/effective_affinity_list", "0\n"),
        ("proc/irq/44/effective_affinity_list", "0\n"),
    ];
    let fixes = ["echo 0 > /proc/irq/41/smp_affinity_list", "echo 3 > /proc/irq/44/smp_affinity_list"];
    check("interrupts", &on_cpu_0, Verdict::Advice, &fixes);
    // All on a CPU that no shard runs on.
    let others = Plan { cpus: vec![1, 2, 3], shards: 3, ..plan() };
    check_plan("interrupts", others, &on_cpu_0, Verdict::Ok, &["4 queues on CPU 0"]);
    let one_shard = Plan { cpus: vec![0], shards: 1, ..plan() };
    check_plan("interrupts", one_shard, &on_cpu_0, Verdict::Ok, &[]);
}

#[test]
fn a_card_s_queues_and_node_are_compared_with_the_shards() {
    let more = || Plan { cpus: (0..6).collect(), shards: 6, ..plan() };
    let fixes = ["ethtool -L eth0 combined 6", "echo 3f > /sys/class/net/eth0/queues/rx-3/rps_cpus"];
    check_plan("RPS and XPS", more(), &[], Verdict::Advice, &fixes);
    let rps = ("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,0000003f\n");
    check_plan("RPS and XPS", more(), &[rps], Verdict::Ok, &["RPS on 1"]);
    let no_xps = [
        ("sys/class/net/eth0/queues/tx-0/xps_cpus", "0,00000000\n"),
        ("sys/class/net/eth0/queues/tx-1/xps_cpus", "0,00000000\n"),
    ];
    check("RPS and XPS", &no_xps, Verdict::Advice, &["echo f > /sys/class/net/eth0/queues/tx-1/xps_cpus"]);

    let far =
        [("sys/class/net/eth0/device/numa_node", "1\n"), ("sys/devices/system/node/node1/cpulist", "4-7\n")];
    check("card's node", &far, Verdict::Advice, &["--numa-node 1"]);
    check("card's node", &[("sys/class/net/eth0/device/numa_node", "-1\n")], Verdict::Unknown, &[]);
}

#[test]
fn masks_are_in_groups_of_32() {
    let check = |cpus: &[usize], expected| assert_eq!(nics::mask(cpus), expected);
    check(&[], "0");
    check(&[0, 1], "3");
    check(&[31], "80000000");
    check(&[0, 32], "1,00000001");
    check(&[64], "1,00000000,00000000");
}

#[test]
fn a_report_is_text_and_json() {
    let (_root, host) = machine(&[("proc/sys/fs/nr_open", Some("1024"))]);
    let report = Report::of(&host, plan());
    assert!(!report.is_fit());
    let text = report.text(false);
    for part in [
        "100,000 connections on 4 shards, CPUs 0-3\n",
        "\nLimits\n",
        "  must fix   fs.nr_open: 1,024\n             wanted: at least 25,128\n             why: no RLIMIT_NOFILE",
        "             → sysctl -w fs.nr_open=25128\n",
        "1 must be fixed, 0 advised,",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(!text.contains('\x1b'));
    assert!(report.text(true).contains("\x1b[1;31mmust fix \x1b[0m"));
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(
        (&json["fit"], &json["must_fix"], &json["connections"]),
        (&false.into(), &1.into(), &100_000.into())
    );
    let checks = json["checks"].as_array().unwrap();
    assert_eq!(checks.len(), report.checks.len());
    let failed = checks.iter().find(|check| check["verdict"] == "must_fix").unwrap();
    assert_eq!(
        (&failed["name"], &failed["fix"][0]),
        (&"fs.nr_open".into(), &"sysctl -w fs.nr_open=25128".into())
    );
}

fn with_journal(directory: &Path, bytes_max: Option<u64>) -> Plan {
    let journal = JournalPlan {
        directory: directory.to_owned(),
        segment_bytes: 4 << 20,
        bytes_max,
        is_bounded_by_age: false,
    };
    Plan { journal: Some(journal), ..plan() }
}

#[test]
fn the_journals_directory_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let (_root, host) = machine(&[]);
    let check = |plan: Plan, name: &str, verdict: Verdict, parts: &[&str]| {
        check_row(&look(&host, plan, name), verdict, parts);
    };
    let deep = folder.path().join("not/yet");
    check(
        with_journal(folder.path(), None),
        "journal directory",
        Verdict::Ok,
        &[folder.path().to_str().unwrap()],
    );
    check(with_journal(&deep, None), "journal directory", Verdict::Ok, &["doesn't exist yet"]);
    check(
        with_journal(Path::new("/proc/no/such"), None),
        "journal directory",
        Verdict::MustFix,
        &["can't be made in /proc"],
    );
    check(with_journal(Path::new("/proc"), None), "journal syncs", Verdict::Unknown, &["can't be measured"]);
    check(
        with_journal(folder.path(), Some(1 << 60)),
        "journal space",
        Verdict::MustFix,
        &["--journal-max-mib "],
    );
    check(with_journal(folder.path(), Some(1 << 20)), "journal space", Verdict::Ok, &["0 B in journals"]);
    check(with_journal(folder.path(), None), "journal space", Verdict::Advice, &["--journal-max-days"]);
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing is left behind");
    // Files of another machine tell nothing of this one's disks.
    let elsewhere = Host::at(host.path(""), None);
    check_row(
        &look(&elsewhere, with_journal(folder.path(), None), "journal syncs"),
        Verdict::Unknown,
        &["only files"],
    );
    let asked =
        |plan: Plan| Report::of(&host, plan).checks.iter().filter(|check| check.area == EVENTS).count();
    assert_eq!((asked(plan()), asked(with_journal(folder.path(), None))), (0, journal::TOPICS.len()));
}

#[test]
fn numbers_are_written_for_people() {
    for (number, expected) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
        assert_eq!(grouped(number), expected);
    }
    for (bytes, expected) in
        [(512, "512 B"), (8 << 20, "8 MiB"), (1_500 << 10, "1.5 MiB"), (3 << 30, "3 GiB")]
    {
        assert_eq!(in_bytes(bytes), expected);
    }
}
