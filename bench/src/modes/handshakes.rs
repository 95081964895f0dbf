//! `--handshakes N`: how fast connections are opened, up to the ACK of AUTH, and what each costs the server.

use std::{collections::BTreeMap, fmt, io, num::NonZeroU32, sync::Arc};

use serde::Serialize;
use tickstream_wire::{frame::seal, messages::Auth};

use super::{
    attempts::{ACCEPTED, AttemptCounts, Attempts, Workload},
    outcome::Outcome,
    threads::{Run, ServerCost, on_threads},
};
use crate::{
    figures::{Percentiles, percentiles},
    plan::Plan,
};

#[derive(Debug, Serialize)]
pub struct Handshakes {
    wanted: u32,
    /// By what became of them: `ACK`, an ERROR's code, or what else ended them.
    answers: BTreeMap<String, u64>,
    accepted: u64,
    took_s: f64,
    per_second: f64,
    /// From opening to the ACK of AUTH.
    until_ack: Option<Percentiles>,
    tls_full: Option<Percentiles>,
    tls_resumed: Option<Percentiles>,
    server: Option<ServerCost>,
    /// The server's CPU time by accepted connection: TCP, TLS, AUTH and closing.
    server_user_us_each: Option<f64>,
    server_system_us_each: Option<f64>,
}

/// Makes the run.
///
/// # Errors
/// If a thread fails.
pub fn run(plan: &Arc<Plan>, wanted: NonZeroU32) -> anyhow::Result<Handshakes> {
    let Run { results, took, server } = on_threads(plan, |number| one(plan, number, wanted.get()))?;
    let counts = AttemptCounts::merged(results);
    let accepted = counts.answers.get(ACCEPTED).copied().unwrap_or(0);
    let each = server.map(|server| server.each(accepted));
    Ok(Handshakes {
        wanted: wanted.get(),
        answers: counts.answers,
        accepted,
        took_s: took.as_secs_f64(),
        per_second: accepted as f64 / took.as_secs_f64(),
        until_ack: Percentiles::of(&counts.accepted),
        tls_full: Percentiles::of(&counts.tls_full),
        tls_resumed: Percentiles::of(&counts.tls_resumed),
        server,
        server_user_us_each: each.map(|(user, _)| user),
        server_system_us_each: each.map(|(_, system)| system),
    })
}

fn one(plan: &Arc<Plan>, number: u32, wanted: u32) -> io::Result<AttemptCounts> {
    let share = |of| plan.share(of, number);
    let count = share(wanted);
    let in_flight = share(plan.options.in_flight.get()).clamp(1, count.max(1));
    let auth = Auth { username: plan.options.user.clone(), password: plan.password.clone(), client: None };
    Attempts::new(plan, number, in_flight, seal(&auth))?.run(Workload {
        count: count.into(),
        until_us: u64::MAX,
        per_second: share(plan.options.ramp).into(),
    })
}

impl Outcome for Handshakes {
    fn passed(&self) -> bool {
        self.accepted == u64::from(self.wanted)
    }
}

impl fmt::Display for Handshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |key: &str, value: String| writeln!(f, "{key:<16}{value}");
        row(
            "handshakes",
            format!(
                "{} of {} accepted in {:.2} s: {:.0} a second",
                self.accepted, self.wanted, self.took_s, self.per_second
            ),
        )?;
        let latencies = [
            ("until ACK", &self.until_ack),
            ("TLS, full", &self.tls_full),
            ("TLS, resumed", &self.tls_resumed),
        ];
        for (key, latency) in latencies {
            if let Some(latency) = latency {
                row(key, format!("{}: {}", latency.count, percentiles(latency)))?;
            }
        }
        match self.server_user_us_each.zip(self.server_system_us_each) {
            Some((user, system)) => row(
                "server CPU",
                format!("{:.0} µs each: {user:.0} user, {system:.0} system", user + system),
            )?,
            None => row("server CPU", "unknown (--server-pid)".into())?,
        }
        for (answer, count) in self.answers.iter().filter(|(answer, _)| *answer != ACCEPTED) {
            row("FAILED", format!("{count} × {answer}"))?;
        }
        Ok(())
    }
}
