//! `--publish`: how many events a second the server takes in, how long an acknowledgement takes, and what each event
//! costs.
//!
//! `template` makes batches, `session` is one connection without I/O, `worker` has the ring, `outcome` is what a run has
//! shown. This file has the options, and the main thread's part.

mod acked;
mod events;
mod outcome;
mod session;
mod shared;
mod tally;
mod template;
mod worker;

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, value_parser};

use self::{
    outcome::{Measured, Published},
    shared::{Phase, Shared},
    tally::Tally,
    template::{CodecOption, Template},
    worker::Worker,
};
use super::{on_threads_led, server_pid};
use crate::{
    clock::wall_us,
    options::{Plan, per_second},
    run::{Snapshot, Totals},
    sample,
};

/// The main thread looks after the run this often.
const POLL: Duration = Duration::from_millis(20);
/// Events of a batch, at most: as many as the server takes.
const EVENTS_MAX: i64 = 2_048;
/// Bytes of an event, at most: somewhat less than the server takes.
const EVENT_BYTES_MAX: i64 = 60_000;

/// `--publish` and what belongs to it.
#[derive(Clone, Debug, Args)]
pub struct PublishOptions {
    /// Publish events over --connections, as fast as the server's credits allow or at --rate, and verify every
    /// acknowledgement
    #[arg(long, group = "run")]
    pub publish: bool,
    /// Events of a batch
    #[arg(long, default_value = "100", value_name = "N", requires = "publish",
        value_parser = value_parser!(u32).range(1..=EVENTS_MAX))]
    pub events_per_batch: u32,
    /// About how many bytes an event has
    #[arg(long, default_value = "300", value_name = "BYTES", requires = "publish",
        value_parser = value_parser!(u32).range(1..=EVENT_BYTES_MAX))]
    pub event_bytes: u32,
    /// Events to publish per second, over all connections; 0: as many as the credits allow
    #[arg(long, default_value = "0", value_name = "EVENTS/s", requires = "publish", value_parser = per_second)]
    pub rate: u32,
    /// How batches are packed
    #[arg(long, default_value = "none", requires = "publish")]
    pub codec: CodecOption,
    /// Publish although the server asks to wait
    #[arg(long, requires = "publish")]
    pub ignore_throttle: bool,
    /// Publish every batch twice, over two connections, as the same producer: all of the second are duplicates
    #[arg(long, requires = "publish")]
    pub resend: bool,
    /// Append a line for each acknowledged batch: producer in hexadecimal digits, sequence, events that are stored
    #[arg(long, value_name = "FILE", requires = "publish")]
    pub acked: Option<PathBuf>,
}

/// Makes the run.
///
/// # Errors
/// If a thread fails.
pub fn run(plan: &Arc<Plan>) -> anyhow::Result<Published> {
    let options = &plan.options.modes.publish;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // A second one ends the process at once.
        signal_hook::flag::register_conditional_shutdown(signal, 130, interrupted.clone())?;
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    if let Some(path) = &options.acked {
        acked::AckedFile::open(path).with_context(|| format!("--acked {}", path.display()))?;
    }
    let shared = Shared::new(plan.threads);
    let lead = Lead { plan, shared: &shared, interrupted: &interrupted, server_pid: server_pid(plan) };
    let template =
        Template::new(options.codec, options.events_per_batch, options.event_bytes, wall_us() * 1_000);
    // Keyed anew in each process.
    let run = RandomState::new().build_hasher().finish();
    let work = |number| {
        let _ended = Ended(&shared);
        Worker::new(plan, number, &shared, template.clone(), run)?.run()
    };
    let (tallies, measured) = on_threads_led(plan, work, || lead.run())?;
    Ok(Published::new(plan, template.event_bytes(), Tally::merged(tallies), &measured))
}

/// Tells the main thread that a thread has ended, however it did.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// The main thread's part.
struct Lead<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    interrupted: &'a AtomicBool,
    server_pid: Option<u32>,
}

impl Lead<'_> {
    fn run(&self) -> Measured {
        let options = &self.plan.options;
        let wanted = u64::from(options.connections.get());
        let before = self.snapshot();
        let ramp = Duration::from_secs_f64(wanted as f64 / f64::from(options.ramp).max(1.0));
        let ramp = if options.ramp > 0 { ramp } else { Duration::ZERO };
        self.until(before.at_us + (ramp + options.connect_timeout).as_micros() as u64, || {
            self.live() + self.over() >= wanted
        });
        let connected = self.snapshot();
        self.shared.enter(Phase::Publish);
        self.until(wall_us() + options.warmup.as_micros() as u64, || false);

        let from = self.snapshot();
        let until_us = from.at_us + options.duration.as_micros() as u64;
        self.shared.until_us.store(until_us, Ordering::Relaxed);
        self.shared.from_us.store(from.at_us, Ordering::Relaxed);
        self.until(until_us, || false);
        let until = self.snapshot();
        // Earlier if interrupted.
        self.shared.until_us.fetch_min(until.at_us, Ordering::Relaxed);
        self.shared.enter(Phase::Finish);
        Measured { before, connected, from, until }
    }

    /// Waits until `done`, or this moment, or an interrupt, or until there is nothing to wait for.
    fn until(&self, deadline_us: u64, done: impl Fn() -> bool) {
        loop {
            let now_us = wall_us();
            let ended = self.shared.ended.load(Ordering::Relaxed) > 0;
            let all_over = self.over() >= u64::from(self.plan.options.connections.get());
            if now_us >= deadline_us
                || done()
                || ended
                || all_over
                || self.interrupted.load(Ordering::Relaxed)
            {
                return;
            }
            thread::sleep(Duration::from_micros(deadline_us - now_us).min(POLL));
        }
    }

    fn live(&self) -> u64 {
        self.shared.live.load(Ordering::Relaxed)
    }

    fn over(&self) -> u64 {
        self.shared.over.load(Ordering::Relaxed)
    }

    fn snapshot(&self) -> Snapshot {
        let thread_ids = self.shared.thread_ids.iter().map(|id| id.load(Ordering::Relaxed));
        Snapshot {
            at_us: wall_us(),
            totals: Totals::default(),
            server: self.server_pid.and_then(sample::process),
            own: sample::process(std::process::id()).unwrap_or_default(),
            threads: thread_ids.map(sample::thread).collect(),
            machine: sample::machine(),
        }
    }
}
