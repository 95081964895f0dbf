//! Kernel, io_uring and clocks.

use super::{Diagnosis, Host, Plan, Topic, Verdict};
use tickstream_server::preflight;

pub(super) const TOPICS: &[Topic] = &[
    Topic {
        name: "kernel",
        why: "the socket ring needs DEFER_TASKRUN and multishot receive, which came with 6.1; before 6.6 a full \
              completion queue ends a multishot accept and loses the connection",
        look: kernel,
    },
    Topic {
        name: "io_uring",
        why: "every socket of a shard is on an io_uring: without it the server doesn't start",
        look: io_uring,
    },
    Topic {
        name: "clock source",
        why: "a shard reads the clock in every pass: a system call each time where the source has no vDSO",
        look: clock_source,
    },
    Topic {
        name: "time sync",
        why: "a tick's sequence and its time come from Unix time: hosts must agree, so that a client may resume on \
              another and lateness means something",
        look: time_sync,
    },
];

/// From here on a full completion queue loses no connection.
const KERNEL_GOOD: (u32, u32) = (6, 6);

fn kernel(host: &Host, _: &Plan) -> Diagnosis {
    let wanted = "6.1 or later, better 6.6 or later";
    let Some(release) = host.text("proc/sys/kernel/osrelease") else {
        return Diagnosis::unknown("no release can be read", wanted);
    };
    let diagnosis = Diagnosis::ok(format!("Linux {release}"), wanted);
    let upgrade = ["install a kernel of your distribution that is 6.6 or later, and boot it"];
    match preflight::kernel_version(&release) {
        None => Diagnosis::unknown(format!("release \"{release}\" isn't understood"), wanted),
        Some(version) if version < preflight::KERNEL_MIN => diagnosis.but(Verdict::MustFix, upgrade),
        Some(version) if version < KERNEL_GOOD => diagnosis.but(Verdict::Advice, upgrade),
        Some(_) => diagnosis,
    }
}

fn io_uring(host: &Host, _: &Plan) -> Diagnosis {
    let wanted =
        "allowed for the server's user: kernel.io_uring_disabled = 0, or 1 and the user in io_uring_group";
    let setting = host.sysctl("kernel.io_uring_disabled");
    let found = match setting {
        Some(value) => format!("kernel.io_uring_disabled = {value}"),
        // The setting came with 6.6.
        None => "no kernel.io_uring_disabled".to_owned(),
    };
    let allow = [
        "sysctl -w kernel.io_uring_disabled=0",
        "or, for one group: sysctl -w kernel.io_uring_disabled=1 kernel.io_uring_group=$(id -g tickstream)",
    ];
    match (&host.io_uring, setting) {
        (_, Some(2)) => Diagnosis::ok(found, wanted).but(Verdict::MustFix, allow),
        (Some(Err(error)), _) => {
            let found = format!("{found}, but a ring can't be made: {error}");
            let cause = preflight::cause(error);
            Diagnosis::ok(found, wanted).but(Verdict::MustFix, [cause])
        }
        (Some(Ok(())), Some(1)) => {
            let found = format!("{found}; this user may, since it is in io_uring_group or has CAP_SYS_ADMIN");
            Diagnosis::ok(found, wanted).but(
                Verdict::Advice,
                ["for the server's user, too: sysctl -w kernel.io_uring_group=$(id -g tickstream)"],
            )
        }
        (Some(Ok(())), _) => Diagnosis::ok(format!("{found}; a ring was made"), wanted),
        (None, Some(0)) => Diagnosis::ok(found, wanted),
        (None, _) => Diagnosis::unknown(format!("{found}; no ring was tried"), wanted),
    }
}

fn clock_source(host: &Host, _: &Plan) -> Diagnosis {
    let wanted = "one that is read without a system call, such as tsc, kvm-clock or arch_sys_counter";
    let folder = "sys/devices/system/clocksource/clocksource0";
    let Some(current) = host.text(&format!("{folder}/current_clocksource")) else {
        return Diagnosis::unknown("no clock source can be read", wanted);
    };
    let slow = ["hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies"];
    if !slow.contains(&current.as_str()) {
        return Diagnosis::ok(current, wanted);
    }
    let available = host.text(&format!("{folder}/available_clocksource")).unwrap_or_default();
    let better = available.split_whitespace().find(|name| !slow.contains(name));
    let fix = match better {
        Some(name) => format!("echo {name} > /{folder}/current_clocksource"),
        None => {
            "dmesg | grep -i -e tsc -e clocksource    # says why the kernel gave up a better one".to_owned()
        }
    };
    Diagnosis::ok(current, wanted).but(Verdict::Advice, [fix])
}

fn time_sync(host: &Host, _: &Plan) -> Diagnosis {
    let wanted = "a clock that chrony, systemd-timesyncd or ptp4l keeps in time";
    match host.clock {
        None => Diagnosis::unknown("the kernel wasn't asked", wanted),
        Some(clock) if clock.is_synchronized => {
            let error_ms = clock.error_max_us as f64 / 1e3;
            Diagnosis::ok(format!("synchronized, at most {error_ms:.1} ms off"), wanted)
        }
        Some(_) => Diagnosis::ok("the kernel's clock is not synchronized", wanted)
            .but(Verdict::Advice, ["apt-get install chrony", "or: timedatectl set-ntp true"]),
    }
}
