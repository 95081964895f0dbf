//! The summary for people.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use super::Summary;
use crate::{
    figures::{Usage, machine, ms, percentiles, turns},
    verify::Faults,
};

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |key: &str, value: String| writeln!(f, "{key:<16}{value}");
        row(
            "connections",
            format!(
                "{} of {} to {}, the last after {:.2} s; {} held at the end",
                self.connections_subscribed,
                self.connections_wanted,
                self.server,
                self.connect_all_ms / 1e3,
                self.connections_held
            ),
        )?;
        if let Some(handshake) = &self.handshake {
            row("  until ACK", percentiles(handshake))?;
        }
        let cpu = self
            .server_cpu_us_per_connect
            .map_or(String::new(), |us| format!(", {us:.0} µs of server CPU each"));
        row("  opened", format!("{:.0} a second{cpu}", self.connects_per_second))?;
        if let Some(tls) = &self.tls {
            for (key, kind, handshakes) in [("TLS", "full", &tls.full), ("", "resumed", &tls.resumed)] {
                let text = handshakes.as_ref().map_or("none".to_owned(), |handshakes| {
                    format!("{} in {}", handshakes.count, percentiles(handshakes))
                });
                row(key, format!("{kind} {text}"))?;
            }
        }
        if !self.connect_errors.is_empty() {
            row("  errors", counts(&self.connect_errors))?;
        }
        row(
            "delivered",
            format!(
                "{} ticks in {:.1} s: {:.0} ticks/s, {:.0} frames/s, {:.0} bytes/s",
                self.ticks,
                self.measured_s,
                self.ticks_per_second,
                self.frames_per_second,
                self.bytes_per_second
            ),
        )?;
        match &self.latency {
            Some(latency) => row("latency", percentiles(latency))?,
            None => row("latency", "no tick was due in the measured time".into())?,
        }
        if let Some(held) = self.receive_wait_share.filter(|held| held.max_us > 0) {
            let share = format!("at most {} of it at p50, {} at p99", ms(held.p50_us), ms(held.p99_us));
            row("  receive wait", share)?;
        }
        if let Some(storm) = &self.storm {
            let took = storm.took_us as f64 / 1e6;
            let cpu = storm
                .server_cpu_us_each
                .map_or(String::new(), |us| format!("; {us:.0} µs of server CPU each"));
            row(
                "storm",
                format!(
                    "{} back within {took:.2} s, {} lost{cpu}",
                    u64::from(storm.size) - storm.lost.min(u64::from(storm.size)),
                    storm.lost
                ),
            )?;
            if let Some(handshake) = &self.storm_handshake {
                row("  until ACK", percentiles(handshake))?;
            }
            if let Some(latency) = &self.storm_latency {
                row("  to the others", percentiles(latency))?;
            }
        }
        for class in &self.classes {
            let Faults { gaps, duplicates, out_of_order, wrong_label, missing } = class.faults;
            let mut text = format!(
                "gaps {gaps}, duplicates {duplicates}, out of order {out_of_order}, wrong label {wrong_label}, \
                 missing {missing}"
            );
            if !class.closes.is_empty() {
                let _ = write!(text, "; closed: {}", counts(&class.closes));
            }
            row(class.class, format!("{} connections: {text}", class.connections))?;
        }
        if self.churned > 0 {
            row(
                "churn",
                format!("{} dropped and resumed, {} ticks replayed", self.churned, self.ticks_replayed),
            )?;
        }
        row("heartbeats", format!("{} sent, {} answered", self.heartbeats_sent, self.heartbeats_answered))?;
        let line = |usage: &Usage| {
            format!(
                "CPU {:.1} % of one core, {:.1} % of the machine; {:.2} µs per delivery, {:.3} µs per tick; \
                 RSS {:.1} MB, peak {:.1} MB",
                usage.cpu_percent_of_one_core,
                usage.cpu_percent_of_machine,
                usage.cpu_us_per_delivery,
                usage.cpu_us_per_tick,
                usage.rss_bytes as f64 / 1e6,
                usage.rss_peak_bytes as f64 / 1e6
            )
        };
        match &self.server_usage {
            Some(usage) => row("server", line(usage))?,
            None => row("server", "CPU and memory unknown (--server-pid)".into())?,
        }
        row("generator", line(&self.generator_usage))?;
        let busiest = self.generator_threads.iter().map(|thread| thread.cpu_percent).fold(0.0, f64::max);
        let waited = self.generator_threads.iter().map(|thread| thread.waited_percent).fold(0.0, f64::max);
        let turn = self.generator_turn.map_or(String::new(), |turn| format!(", {}", turns(&turn)));
        row(
            "",
            format!(
                "{} threads, the busiest {busiest:.0} %, waiting for a CPU up to {waited:.0} %; {:.0} turns/s{turn}",
                self.generator_threads.len(),
                self.generator_turns_per_second
            ),
        )?;
        row("machine", machine(self.machine_busy_percent, self.others_percent, self.machine_steal_percent))?;
        for warning in &self.warnings {
            row("WARNING", warning.clone())?;
        }
        for failure in &self.failures {
            row("FAILED", failure.clone())?;
        }
        row("verdict", if self.passed { "every tick was right" } else { "failed" }.into())
    }
}

fn counts(map: &BTreeMap<String, u64>) -> String {
    map.iter().map(|(key, count)| format!("{key} {count}")).collect::<Vec<_>>().join(", ")
}
