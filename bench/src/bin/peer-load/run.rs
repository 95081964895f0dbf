//! One run, from the first connection to the summary: the main thread's part.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, anyhow, ensure};
use tickstream_load::{sample, wall_us};

use crate::{
    collector::Collector,
    options::Options,
    publisher::{Published, Publisher, Timetable},
    subscribers::{Deliveries, Shared, Snapshot, Subscribers},
    summary::{Findings, Summary},
};

/// The main thread looks after the run this often.
const POLL: Duration = Duration::from_millis(20);
/// The measured time begins and ends this much before a whole second, so that no fan-out is cut.
const SECOND_LEAD_US: u64 = 50_000;
const SECOND_US: u64 = 1_000_000;

type Worker = JoinHandle<io::Result<Collector>>;

/// Makes the run that `options` describe.
///
/// # Errors
/// If threads can't be started or fail, no subscription comes about, or the publisher is refused.
pub fn run(options: &Options) -> anyhow::Result<Summary> {
    let options = Arc::new(options.clone());
    let run = Run::start(options)?;
    let connect_us = run.connect()?;
    let publisher = Publisher::connect(run.options.clone())?;
    let timetable = run.timetable();
    let shared = run.shared.clone();
    let publishing = thread::Builder::new()
        .name("publisher".to_owned())
        .spawn(move || publisher.run(timetable, &shared))?;
    let (from, until) = run.measure(timetable);
    let published = publishing.join().map_err(|_| anyhow!("the publisher panicked"))?;
    thread::sleep(run.options.grace);
    run.finish(connect_us, &from, &until, published?)
}

struct Run {
    options: Arc<Options>,
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    interrupted: Arc<AtomicBool>,
    server_pid: Option<u32>,
    started_us: u64,
}

impl Run {
    fn start(options: Arc<Options>) -> anyhow::Result<Self> {
        let server_pid = options.server_pid.or_else(|| {
            let local = options.addr.ip().is_loopback();
            local.then(|| sample::listener(options.addr)).flatten()
        });
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // A second one ends the process at once.
            signal_hook::flag::register_conditional_shutdown(signal, 130, interrupted.clone())?;
            signal_hook::flag::register(signal, interrupted.clone())?;
        }
        let threads = options.threads();
        let thread_ids = (0..threads).map(|_| AtomicU64::new(0)).collect();
        let shared = Arc::new(Shared { thread_ids, ..Shared::default() });
        let started_us = wall_us();
        let start = |number| {
            let (options, shared) = (options.clone(), shared.clone());
            let work = move || Subscribers::new(number, options, shared)?.run();
            thread::Builder::new().name(format!("load-{number}")).spawn(work)
        };
        let workers = (0..threads).map(start).collect::<io::Result<_>>()?;
        Ok(Self { options, shared, workers, interrupted, server_pid, started_us })
    }

    /// Waits until all are subscribed or gone; answers how long that took, µs.
    fn connect(&self) -> anyhow::Result<u64> {
        let wanted = u64::from(self.options.connections.get());
        self.tell(format_args!(
            "{wanted} subscribers to {} at {}",
            self.options.peer.name(),
            self.options.addr
        ));
        let deadline_us = self.started_us + self.options.connect_timeout.as_micros() as u64;
        let shared = &self.shared;
        let settled =
            || shared.subscribed.load(Ordering::Acquire) + shared.gone.load(Ordering::Acquire) >= wanted;
        while !settled() && wall_us() < deadline_us && !self.over() {
            thread::sleep(POLL);
        }
        ensure!(
            shared.subscribed.load(Ordering::Acquire) > 0,
            "not one of {wanted} subscribers was subscribed"
        );
        Ok(shared.last_subscribed_us.load(Ordering::Relaxed).saturating_sub(self.started_us))
    }

    /// The timetable of messages: during the warm-up, too, which ends with a whole second.
    fn timetable(&self) -> Timetable {
        let now_us = wall_us();
        let whole = |at_us: u64| (at_us / SECOND_US + 1) * SECOND_US;
        let steady_us = whole(now_us + SECOND_LEAD_US + self.options.warmup.as_micros() as u64);
        let until_us = steady_us - SECOND_LEAD_US + self.options.duration.as_micros() as u64;
        self.shared.steady_until_us.store(until_us, Ordering::Relaxed);
        self.shared.steady_from_us.store(steady_us - SECOND_LEAD_US, Ordering::Relaxed);
        Timetable {
            from_us: whole(now_us + SECOND_LEAD_US),
            until_us,
            rate: u64::from(self.options.rate.get()),
        }
    }

    fn measure(&self, timetable: Timetable) -> (Snapshot, Snapshot) {
        self.tell(format_args!("measuring for {}", humantime::format_duration(self.options.duration)));
        self.sleep_until(self.shared.steady_from_us.load(Ordering::Relaxed));
        let from = self.snapshot();
        self.sleep_until(timetable.until_us);
        let until = self.snapshot();
        if until.at_us < timetable.until_us {
            // Interrupted: what was published so far counts.
            self.shared.stop_publishing.store(true, Ordering::Release);
        }
        (from, until)
    }

    fn sleep_until(&self, at_us: u64) {
        while wall_us() < at_us && !self.over() {
            let left = Duration::from_micros(at_us.saturating_sub(wall_us()));
            thread::sleep(left.min(POLL));
        }
    }

    /// Interrupted, or a thread has failed.
    fn over(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed) || self.workers.iter().any(JoinHandle::is_finished)
    }

    fn snapshot(&self) -> Snapshot {
        let ids = self.shared.thread_ids.iter().map(|id| id.load(Ordering::Relaxed));
        let deliveries = Deliveries {
            messages: self.shared.messages.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
        };
        Snapshot::take(self.server_pid, deliveries, ids)
    }

    fn finish(
        mut self,
        connect_us: u64,
        from: &Snapshot,
        until: &Snapshot,
        published: Published,
    ) -> anyhow::Result<Summary> {
        self.shared.stop.store(true, Ordering::Release);
        let mut collector = Collector::default();
        for worker in self.workers.drain(..) {
            let result = worker.join().map_err(|_| anyhow!("a thread panicked"))?;
            collector.merge(result.context("a thread failed")?);
        }
        collector.count_missing(published.messages);
        let (started_us, server_pid) = (self.started_us, self.server_pid);
        Ok(Summary::new(
            &self.options,
            Findings { started_us, connect_us, from, until, collector, published, server_pid },
        ))
    }

    fn tell(&self, what: std::fmt::Arguments<'_>) {
        if !self.options.quiet {
            eprintln!("{what}");
        }
    }
}
