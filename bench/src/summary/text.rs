//! The summary for people.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use super::Summary;
use crate::{
    figures::{machine, ms, percentiles, turns, usage_line},
    verify::Faults,
};

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_connections(f)?;
        self.fmt_deliveries(f)?;
        self.fmt_classes(f)?;
        self.fmt_resources(f)?;
        for warning in &self.warnings {
            row(f, "WARNING", warning)?;
        }
        for failure in &self.failures {
            row(f, "FAILED", failure)?;
        }
        row(f, "verdict", if self.passed { "every tick was right" } else { "failed" })
    }
}

impl Summary {
    /// Connections and handshakes.
    fn fmt_connections(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        row(
            f,
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
            row(f, "  until ACK", percentiles(handshake))?;
        }
        let cpu = self
            .server_cpu_us_per_connect
            .map_or(String::new(), |us| format!(", {us:.0} µs of server CPU each"));
        row(f, "  opened", format!("{:.0} a second{cpu}", self.connects_per_second))?;
        if let Some(tls) = &self.tls {
            for (key, kind, handshakes) in [("TLS", "full", &tls.full), ("", "resumed", &tls.resumed)] {
                let text = handshakes.as_ref().map_or("none".to_owned(), |handshakes| {
                    format!("{} in {}", handshakes.count, percentiles(handshakes))
                });
                row(f, key, format!("{kind} {text}"))?;
            }
        }
        if !self.connect_errors.is_empty() {
            row(f, "  errors", counts(&self.connect_errors))?;
        }
        Ok(())
    }

    /// Ticks, their latency, and the storm.
    fn fmt_deliveries(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        row(
            f,
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
            Some(latency) => row(f, "latency", percentiles(latency))?,
            None => row(f, "latency", "no tick was due in the measured time")?,
        }
        if let Some(held) = self.receive_wait_share.filter(|held| held.max_us > 0) {
            let share = format!("at most {} of it at p50, {} at p99", ms(held.p50_us), ms(held.p99_us));
            row(f, "  receive wait", share)?;
        }
        if let Some(storm) = &self.storm {
            let took = storm.took_us as f64 / 1e6;
            let cpu = storm
                .server_cpu_us_each
                .map_or(String::new(), |us| format!("; {us:.0} µs of server CPU each"));
            row(
                f,
                "storm",
                format!(
                    "{} back within {took:.2} s, {} lost{cpu}",
                    u64::from(storm.size) - storm.lost.min(u64::from(storm.size)),
                    storm.lost
                ),
            )?;
            if let Some(handshake) = &self.storm_handshake {
                row(f, "  until ACK", percentiles(handshake))?;
            }
            if let Some(latency) = &self.storm_latency {
                row(f, "  to the others", percentiles(latency))?;
            }
        }
        Ok(())
    }

    /// Faults and closes by class, churn and heartbeats.
    fn fmt_classes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for class in &self.classes {
            let Faults { gaps, duplicates, out_of_order, wrong_label, missing } = class.faults;
            let mut text = format!(
                "gaps {gaps}, duplicates {duplicates}, out of order {out_of_order}, wrong label {wrong_label}, \
                 missing {missing}"
            );
            if !class.closes.is_empty() {
                let _ = write!(text, "; closed: {}", counts(&class.closes));
            }
            row(f, class.class, format!("{} connections: {text}", class.connections))?;
        }
        if self.churned > 0 {
            row(
                f,
                "churn",
                format!("{} dropped and resumed, {} ticks replayed", self.churned, self.ticks_replayed),
            )?;
        }
        row(f, "heartbeats", format!("{} sent, {} answered", self.heartbeats_sent, self.heartbeats_answered))
    }

    /// CPU and memory of server, generator and machine.
    fn fmt_resources(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server_usage {
            Some(usage) => row(f, "server", usage_line(usage))?,
            None => row(f, "server", "CPU and memory unknown (--server-pid)")?,
        }
        row(f, "generator", usage_line(&self.generator_usage))?;
        let busiest = self.generator_threads.iter().map(|thread| thread.cpu_percent).fold(0.0, f64::max);
        let waited = self.generator_threads.iter().map(|thread| thread.waited_percent).fold(0.0, f64::max);
        let turn = self.generator_turn.map_or(String::new(), |turn| format!(", {}", turns(&turn)));
        row(
            f,
            "",
            format!(
                "{} threads, the busiest {busiest:.0} %, waiting for a CPU up to {waited:.0} %; {:.0} turns/s{turn}",
                self.generator_threads.len(),
                self.generator_turns_per_second
            ),
        )?;
        row(f, "machine", machine(self.machine_busy_percent, self.others_percent, self.machine_steal_percent))
    }
}

fn row(f: &mut fmt::Formatter<'_>, key: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "{key:<16}{value}")
}

fn counts(map: &BTreeMap<String, u64>) -> String {
    map.iter().map(|(key, count)| format!("{key} {count}")).collect::<Vec<_>>().join(", ")
}
