//! The threads of a run, and the server's cost meanwhile.

use std::{io, thread, time::Duration};

use anyhow::anyhow;
use serde::Serialize;
use tickstream_uring::system::{own_descriptor_table, run_on};

use crate::{
    clock::wall_us,
    plan::Plan,
    sample::{self, ProcessSample},
};

/// CPU time and memory of the server during a run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ServerCost {
    pub user_us: u64,
    pub system_us: u64,
    pub rss_before_bytes: u64,
    pub rss_after_bytes: u64,
    pub rss_peak_bytes: u64,
}

impl ServerCost {
    pub fn between(before: ProcessSample, after: ProcessSample) -> Self {
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
    pub fn each(self, count: u64) -> (f64, f64) {
        let count = count.max(1) as f64;
        (self.user_us as f64 / count, self.system_us as f64 / count)
    }
}

/// The answers of all threads, how long they took, and the cost to the server, if that is known.
pub struct Run<T> {
    pub results: Vec<T>,
    pub took: Duration,
    pub server: Option<ServerCost>,
}

/// Runs `work` on each of the plan's threads, which have a descriptor table of their own.
///
/// # Errors
/// If a thread fails.
pub fn on_threads<T: Send>(
    plan: &Plan,
    work: impl Fn(u32) -> io::Result<T> + Sync,
) -> anyhow::Result<Run<T>> {
    let pid = plan.server_pid();
    let before = pid.and_then(sample::process);
    let began_us = wall_us();
    let (results, ()) = on_threads_led(plan, work, || ())?;
    let took = Duration::from_micros(wall_us().saturating_sub(began_us));
    let server = before.zip(pid.and_then(sample::process));
    let server = server.map(|(before, after)| ServerCost::between(before, after));
    Ok(Run { results, took, server })
}

/// Runs `work` on each of the plan's threads while `lead` runs on the calling thread.
///
/// # Errors
/// If a thread fails.
pub fn on_threads_led<T: Send, L>(
    plan: &Plan,
    work: impl Fn(u32) -> io::Result<T> + Sync,
    lead: impl FnOnce() -> L,
) -> anyhow::Result<(Vec<T>, L)> {
    let prepared = |number: u32| {
        own_descriptor_table()?;
        if let Some(cpus) = &plan.options.cpus {
            run_on(&[cpus.of_thread(number as usize)])?;
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
