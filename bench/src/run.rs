//! One run from the first connection to the summary: the main thread's part.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};

use crate::{
    clock::wall_us,
    control::{Command, Control, Gauges},
    plan::Plan,
    progress::Progress,
    snapshot::{Measured, Snapshot, Totals},
    stats::{SECOND_LEAD_US, SecondReport, second_of},
    summary::{Findings, SecondSum, StormResult, Summary},
    worker::{Worker, WorkerResult},
};

/// The main thread looks after the run this often.
const POLL: Duration = Duration::from_millis(50);
/// Seconds after which no worker reports on a second any more.
const REPORT_DELAY_S: u64 = 3;
/// Longest time of a storm.
const STORM_TIMEOUT_US: u64 = 60_000_000;

/// Makes the run that `plan` describes.
///
/// # Errors
/// If workers can't be started or fail, or no connection comes about at all.
pub fn run(plan: Plan) -> anyhow::Result<Summary> {
    let mut run = Run::start(plan)?;
    let connected = run.connect();
    let result = connected.and_then(|()| run.measure());
    run.progress.end();
    let (measured, storm) = match result {
        Ok(result) => result,
        Err(error) => {
            run.control.command(Command::Stop);
            return Err(error);
        }
    };
    run.finish(&measured, storm)
}

struct Run {
    plan: Arc<Plan>,
    control: Arc<Control>,
    gauges: Vec<Arc<Gauges>>,
    workers: Vec<JoinHandle<io::Result<WorkerResult>>>,
    reports: Receiver<SecondReport>,
    interrupted: Arc<AtomicBool>,
    progress: Progress,
    server_pid: Option<u32>,
    started_us: u64,
    connected_us: u64,
    connected: u64,
    /// Before the first connection, and when all stood.
    opening: Measured,
    /// Seconds that reports may still come for.
    open_seconds: BTreeMap<u64, SecondSum>,
    seconds: Vec<SecondSum>,
    last_sample: Snapshot,
}

impl Run {
    fn start(plan: Plan) -> anyhow::Result<Self> {
        let plan = Arc::new(plan);
        let server_pid = plan.server_pid();
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // A second one ends the process at once.
            signal_hook::flag::register_conditional_shutdown(signal, 130, interrupted.clone())?;
            signal_hook::flag::register(signal, interrupted.clone())?;
        }
        let control = Arc::new(Control::default());
        control.command(Command::Connect);
        let gauges: Vec<_> = (0..plan.threads).map(|_| Arc::new(Gauges::default())).collect();
        let (sender, reports) = channel();
        let started_us = wall_us();
        let mut workers = Vec::new();
        for (number, gauges) in (0..).zip(&gauges) {
            let (plan, control, gauges, sender) =
                (plan.clone(), control.clone(), gauges.clone(), sender.clone());
            let work = move || Worker::new(number, plan, control, gauges, sender)?.run();
            workers.push(thread::Builder::new().name(format!("load-{number}")).spawn(work)?);
        }
        let mut progress = Progress::new(plan.options.quiet);
        let what = format!("{} connections to {}", plan.options.connections, plan.options.addr);
        progress.stage("connect", &what);
        let last_sample = snapshot(&gauges, server_pid);
        Ok(Self {
            plan,
            control,
            gauges,
            workers,
            reports,
            interrupted,
            progress,
            server_pid,
            started_us,
            connected_us: started_us,
            connected: 0,
            opening: Measured { from: last_sample.clone(), until: last_sample.clone() },
            open_seconds: BTreeMap::new(),
            seconds: Vec::new(),
            last_sample,
        })
    }

    fn connect(&mut self) -> anyhow::Result<()> {
        let options = &self.plan.options;
        let wanted = u64::from(options.connections.get());
        let ramp_us = (wanted * 1_000_000).checked_div(u64::from(options.ramp)).unwrap_or(0);
        let deadline_us = self.started_us + ramp_us + options.connect_timeout.as_micros() as u64;
        self.until(deadline_us, |totals| totals.subscribed + totals.gone >= wanted)?;
        let totals = Totals::of(&self.gauges);
        self.connected_us = totals.last_subscribed_us;
        self.connected = totals.subscribed;
        self.opening.until = self.snapshot();
        Ok(())
    }

    fn measure(&mut self) -> anyhow::Result<(Measured, Option<StormResult>)> {
        let options = self.plan.options.clone();
        if self.connected == 0 {
            // There is nothing to measure; the summary says why.
            let nothing = Measured { from: self.last_sample.clone(), until: self.last_sample.clone() };
            return Ok((nothing, None));
        }
        self.progress.stage("warm-up", &humantime::format_duration(options.warmup).to_string());
        self.control.command(Command::Churn);
        let warm_us = wall_us() + options.warmup.as_micros() as u64;
        // From just before a whole second, so that no fan-out is cut.
        let from_us = (second_of(warm_us) + 1) * 1_000_000 - SECOND_LEAD_US;
        let until_us = from_us + options.duration.as_micros() as u64;
        self.control.steady_until_us.store(until_us, Ordering::Relaxed);
        self.control.steady_from_us.store(from_us, Ordering::Relaxed);
        self.until(from_us, |_| false)?;

        self.progress.stage("steady", &humantime::format_duration(options.duration).to_string());
        let from = self.snapshot();
        self.until(until_us, |_| false)?;
        let until = self.snapshot();
        // Earlier if interrupted.
        let until_us = until_us.min(until.at_us);
        self.control.steady_until_us.store(until_us, Ordering::Relaxed);
        self.control.verify_until_us.store(until_us, Ordering::Relaxed);
        self.control.command(Command::Hold);
        self.progress.stage("grace", &humantime::format_duration(options.grace).to_string());
        self.grace()?;
        let storm = match self.plan.storm_size() {
            Some(size) if !self.interrupted() => Some(self.storm(size)?),
            _ => None,
        };
        Ok((Measured { from, until }, storm))
    }

    fn storm(&mut self, size: u32) -> anyhow::Result<StormResult> {
        self.progress.stage("storm", &format!("{size} connections"));
        let sample = self.snapshot();
        let (before, started_us) = (sample.totals, sample.at_us);
        self.control.storm_until_us.store(u64::MAX, Ordering::Relaxed);
        self.control.storm_from_us.store(started_us, Ordering::Relaxed);
        self.control.command(Command::Storm);
        let workers = self.workers.len() as u64;
        let back = self.until(started_us + STORM_TIMEOUT_US, |totals| {
            totals.storms_begun == workers
                && totals.subscribed + totals.gone >= before.subscribed + before.gone
        })?;
        let storm = Measured { from: sample, until: self.snapshot() };
        let after = storm.until.totals;
        let ended_us = if back { after.last_subscribed_us } else { wall_us() };
        self.control.storm_until_us.store(ended_us, Ordering::Relaxed);
        self.control.verify_until_us.store(ended_us, Ordering::Relaxed);
        self.grace()?;
        let lost = before.subscribed.saturating_sub(after.subscribed);
        let server_cpu_us_each = storm.server_cpu_us_each(u64::from(size));
        Ok(StormResult { size, lost, took_us: ended_us.saturating_sub(started_us), server_cpu_us_each })
    }

    fn grace(&mut self) -> anyhow::Result<()> {
        let until_us = wall_us() + self.plan.options.grace.as_micros() as u64;
        while wall_us() < until_us {
            self.look_after()?;
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn finish(mut self, measured: &Measured, storm: Option<StormResult>) -> anyhow::Result<Summary> {
        self.control.command(Command::Stop);
        let last = self.snapshot();
        let mut merged: Option<WorkerResult> = None;
        for worker in self.workers.drain(..) {
            let result = worker.join().map_err(|_| anyhow!("a worker panicked"))?;
            let result = result.context("a worker failed")?;
            merged = Some(match merged {
                Some(merged) => merged.merged(result),
                None => result,
            });
        }
        let merged = merged.context("there were no workers")?;
        self.collect(u64::MAX);
        let connect_us = self.connected_us.saturating_sub(self.started_us);
        let seconds = std::mem::take(&mut self.seconds);
        let findings = Findings {
            started_us: self.started_us,
            connect_us,
            opening: &self.opening,
            measured,
            last: &last,
            storm,
            merged,
            seconds,
            server_pid: self.server_pid,
        };
        Ok(Summary::new(&self.plan, findings))
    }

    /// Looks after the run until `done`, which answers true, or the deadline or an interrupt, which answer false.
    fn until(&mut self, deadline_us: u64, done: impl Fn(&Totals) -> bool) -> anyhow::Result<bool> {
        loop {
            let totals = self.look_after()?;
            if done(&totals) {
                return Ok(true);
            }
            let now_us = wall_us();
            if now_us >= deadline_us || self.interrupted() {
                return Ok(false);
            }
            let next_second_us = (second_of(now_us) + 1) * 1_000_000 - SECOND_LEAD_US;
            let next_us = deadline_us.min(next_second_us).saturating_sub(now_us);
            thread::sleep(Duration::from_micros(next_us).min(POLL));
        }
    }

    fn look_after(&mut self) -> anyhow::Result<Totals> {
        if let Some(at) = self.workers.iter().position(JoinHandle::is_finished) {
            let result = self.workers.swap_remove(at).join();
            match result {
                Ok(Err(error)) => return Err(error).context("a worker failed"),
                _ => bail!("a worker panicked"),
            }
        }
        let totals = Totals::of(&self.gauges);
        let second = second_of(wall_us());
        let sampled = second_of(self.last_sample.at_us);
        if second > sampled {
            let now = self.snapshot();
            let before = std::mem::replace(&mut self.last_sample, now);
            let sum = self.open_seconds.entry(sampled).or_insert_with(|| SecondSum::new(sampled));
            sum.sampled(&before, &self.last_sample);
            self.progress.now(|| {
                let cpu =
                    sum.server_cpu_percent.map_or(String::new(), |cpu| format!(", server CPU {cpu:.0} %"));
                format!(
                    "{} subscribed, {} gone, {} ticks/s{cpu}, {} faults",
                    totals.subscribed, totals.gone, sum.ticks_seen, totals.faults
                )
            });
            self.collect(second.saturating_sub(REPORT_DELAY_S));
        }
        Ok(totals)
    }

    /// Takes in the workers' reports, and closes the seconds before `until`.
    fn collect(&mut self, until: u64) {
        for report in self.reports.try_iter() {
            let sum = self.open_seconds.entry(report.second).or_insert_with(|| SecondSum::new(report.second));
            sum.add(&report);
        }
        while let Some(entry) = self.open_seconds.first_entry() {
            if *entry.key() >= until {
                break;
            }
            let mut sum = entry.remove();
            sum.close();
            self.seconds.push(sum);
        }
    }

    fn snapshot(&self) -> Snapshot {
        snapshot(&self.gauges, self.server_pid)
    }

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

fn snapshot(gauges: &[Arc<Gauges>], server_pid: Option<u32>) -> Snapshot {
    let thread_ids = gauges.iter().map(|gauges| gauges.thread_id.load(Ordering::Relaxed));
    Snapshot::take(server_pid, Totals::of(gauges), thread_ids)
}
