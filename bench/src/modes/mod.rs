//! Runs of another kind: connections that come and go, hardly say anything, or publish, instead of subscriptions that
//! are held. Each kind has its own file; this one starts threads and measures the server meanwhile.

mod attempts;
mod brute_force;
mod dribble;
mod handshakes;
mod publish;

use std::{fmt, io, io::Write, num::NonZeroU32, path::Path, sync::Arc, thread, time::Duration};

use anyhow::{Context, anyhow};
use clap::Args;
use serde::Serialize;

pub use self::publish::PublishOptions;
use crate::{
    clock::wall_us,
    kernel::{pin_to_cpu, unshare_descriptors},
    options::{Plan, per_second},
    sample::{self, ProcessSample},
};

/// Instead of holding subscriptions.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Other runs, instead of subscriptions")]
pub struct ModeOptions {
    /// Open so many connections, --ramp a second and at most --in-flight at a time; each authenticates and closes
    #[arg(long, value_name = "N", group = "run")]
    pub handshakes: Option<NonZeroU32>,
    /// Guess passwords, so many a second from --source-addresses for --duration; every guess is wrong
    #[arg(long, value_name = "PER_SECOND", group = "run", value_parser = rate)]
    pub brute_force: Option<NonZeroU32>,
    /// Open --connections that send a byte a second, of AUTH or, with TLS, of a ClientHello, until the server has
    /// closed them all, or for --duration
    #[arg(long, group = "run")]
    pub dribble: bool,
    #[command(flatten)]
    pub publish: PublishOptions,
}

impl ModeOptions {
    /// Whether another kind of run is wanted.
    pub fn is_any(&self) -> bool {
        self.handshakes.is_some() || self.brute_force.is_some() || self.dribble || self.publish.publish
    }
}

fn rate(text: &str) -> Result<NonZeroU32, String> {
    NonZeroU32::new(per_second(text)?).ok_or_else(|| "at least one a second".to_owned())
}

/// Makes the run, prints what it has shown, and tells whether that is what it should be.
///
/// # Errors
/// If a thread can't be started or fails, or a file can't be written.
pub fn run(plan: Plan) -> anyhow::Result<bool> {
    let plan = Arc::new(plan);
    let modes = &plan.options.modes;
    if let Some(count) = modes.handshakes {
        tell(&plan, &handshakes::run(&plan, count)?)
    } else if let Some(rate) = modes.brute_force {
        tell(&plan, &brute_force::run(&plan, rate)?)
    } else if modes.publish.publish {
        tell(&plan, &publish::run(&plan)?)
    } else {
        tell(&plan, &dribble::run(&plan)?)
    }
}

/// What a run has shown.
trait Outcome: Serialize + fmt::Display {
    /// Whether it is what it should be.
    fn passed(&self) -> bool;
}

fn tell(plan: &Plan, outcome: &impl Outcome) -> anyhow::Result<bool> {
    let to_stdout = plan.options.json.as_deref() == Some(Path::new("-"));
    if to_stdout {
        eprint!("{outcome}");
    } else {
        print!("{outcome}");
    }
    if let Some(path) = &plan.options.json {
        let json = serde_json::to_string_pretty(outcome)? + "\n";
        if to_stdout {
            io::stdout().write_all(json.as_bytes())?;
        } else {
            std::fs::write(path, json).with_context(|| format!("--json {}", path.display()))?;
        }
    }
    Ok(outcome.passed())
}

/// What the server spent while something ran.
#[derive(Clone, Copy, Debug, Serialize)]
struct ServerCost {
    user_us: u64,
    system_us: u64,
    rss_before_bytes: u64,
    rss_after_bytes: u64,
    rss_peak_bytes: u64,
}

impl ServerCost {
    fn between(before: ProcessSample, after: ProcessSample) -> Self {
        let cpu_us = after.cpu_us.saturating_sub(before.cpu_us);
        let system_us = after.system_us.saturating_sub(before.system_us);
        Self {
            user_us: cpu_us.saturating_sub(system_us),
            system_us,
            rss_before_bytes: before.rss_bytes,
            rss_after_bytes: after.rss_bytes,
            rss_peak_bytes: after.rss_peak_bytes,
        }
    }

    /// CPU time by each of `count` things, µs: user, system.
    fn each(self, count: u64) -> (f64, f64) {
        let count = count.max(1) as f64;
        (self.user_us as f64 / count, self.system_us as f64 / count)
    }
}

/// What all threads answered, how long it took, and what it cost the server, if that is known.
struct Run<T> {
    results: Vec<T>,
    took: Duration,
    server: Option<ServerCost>,
}

/// The server's process, if it is on this host or was named.
fn server_pid(plan: &Plan) -> Option<u32> {
    let local = plan.options.addr.ip().is_loopback();
    plan.options.server_pid.or_else(|| local.then(|| sample::listener(plan.options.addr)).flatten())
}

/// Runs `work` on each of the plan's threads, which have a descriptor table of their own.
fn on_threads<T: Send>(plan: &Plan, work: impl Fn(u32) -> io::Result<T> + Sync) -> anyhow::Result<Run<T>> {
    let pid = server_pid(plan);
    let before = pid.and_then(sample::process);
    let began_us = wall_us();
    let (results, ()) = on_threads_led(plan, work, || ())?;
    let took = Duration::from_micros(wall_us().saturating_sub(began_us));
    let server = before.zip(pid.and_then(sample::process));
    let server = server.map(|(before, after)| ServerCost::between(before, after));
    Ok(Run { results, took, server })
}

/// The same, while `lead` runs on the calling thread.
fn on_threads_led<T: Send, L>(
    plan: &Plan,
    work: impl Fn(u32) -> io::Result<T> + Sync,
    lead: impl FnOnce() -> L,
) -> anyhow::Result<(Vec<T>, L)> {
    let prepared = |number: u32| {
        unshare_descriptors()?;
        if let Some(cpus) = &plan.options.cpus {
            pin_to_cpu(cpus.of_thread(number as usize))?;
        }
        work(number)
    };
    thread::scope(|scope| {
        let prepared = &prepared;
        let threads: Vec<_> = (0..plan.threads).map(|number| scope.spawn(move || prepared(number))).collect();
        let led = lead();
        let join = |thread: thread::ScopedJoinHandle<'_, io::Result<T>>| {
            thread.join().map_err(|_| anyhow!("a thread panicked"))?.map_err(anyhow::Error::from)
        };
        let results = threads.into_iter().map(join).collect::<anyhow::Result<Vec<T>>>()?;
        Ok((results, led))
    })
}
