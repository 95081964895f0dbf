//! `--publish`: how many events a second the server takes in, how long an acknowledgement takes, and what each event
//! costs.
//!
//! `template` makes batches, `session` is one connection without I/O, `worker` has the ring, `outcome` is what a run has
//! shown. This file has the main thread's part.

mod acked;
mod counts;
mod events;
mod outcome;
mod session;
mod shared;
mod template;
mod worker;

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context;

use self::{
    counts::Counts,
    outcome::{Measured, Published},
    shared::{Phase, Shared},
    template::Template,
    worker::Worker,
};
use super::threads::on_threads_led;
use crate::{
    clock::wall_us,
    plan::Plan,
    snapshot::{Snapshot, Totals},
};

/// The main thread looks after the run this often.
const POLL: Duration = Duration::from_millis(20);
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
    let lead = Lead { plan, shared: &shared, interrupted: &interrupted, server_pid: plan.server_pid() };
    let template =
        Template::new(options.codec, options.events_per_batch, options.event_bytes, wall_us() * 1_000);
    // Keyed anew in each process.
    let run = RandomState::new().build_hasher().finish();
    let work = |number| {
        let _ended = Ended(&shared);
        Worker::new(plan, number, &shared, template.clone(), run)?.run()
    };
    let (all, measured) = on_threads_led(plan, work, || lead.run())?;
    Ok(Published::new(plan, template.event_bytes(), Counts::merged(all), &measured))
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
        Snapshot::take(self.server_pid, Totals::default(), thread_ids)
    }
}
