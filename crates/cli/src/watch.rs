//! `tickstream watch`: subscribes, prints ticks with their latency, gaps and reconnects, and sums up at the end.

mod print;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use tickstream_client::{Batch, Client, Error, StreamUpdate, Subscription, with_causes};

use crate::cli::{StopSignals, WatchArgs, refusal::Refusal};
use print::{Line, Printer};
use tickstream_service::text;

/// A longer latency counts as this, microseconds: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Clocks that differ by less are taken for equal, ms: the difference is known to within a round trip and a millisecond.
const CLOCKS_DIFFER_MS: u64 = 100;

/// Why watching ended early.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The server or the network.
    #[error("{}{}", text::one_line(&with_causes(.0)), Refusal::of(.0).advice())]
    Client(#[from] Error),
    /// Standard output takes no more.
    #[error("can't write to standard output: {0}")]
    Output(io::Error),
    /// Neither signals nor timers could be set up.
    #[error("can't set up a runtime: {0}")]
    Runtime(io::Error),
}

impl WatchError {
    /// The server's refusal, if that is the reason.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Client(error) => Refusal::of(error),
            Self::Output(_) | Self::Runtime(_) => Refusal::None,
        }
    }
}

/// Watches until the count is reached, a signal, or an error that no reconnect cures.
///
/// # Errors
/// See [`WatchError`]. A standard output that is closed (`| head`) ends it without an error.
pub fn run(args: &WatchArgs) -> Result<(), WatchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(WatchError::Runtime)?.block_on(watch(args))
}

async fn watch(args: &WatchArgs) -> Result<(), WatchError> {
    let colours = text::has_colours(&io::stdout());
    let mut watch = Watch::new(args, Printer::new(io::stdout(), args.json, colours));
    let mut signals = StopSignals::catch().map_err(WatchError::Runtime)?;
    let subscribed = tokio::select! {
        ticks = subscribe(args) => Some(ticks?),
        () = signals.next() => None,
    };
    let ended = match subscribed {
        Some(ticks) => follow(&mut watch, ticks, &mut signals).await,
        None => watch.sum_up(),
    };
    match ended {
        // Who closed standard output has seen enough.
        Err(WatchError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

async fn follow<W: Write>(
    watch: &mut Watch<W>,
    mut ticks: Subscription,
    signals: &mut StopSignals,
) -> Result<(), WatchError> {
    let ended = loop {
        let update = tokio::select! {
            update = ticks.next() => update,
            () = signals.next() => break Ok(()),
        };
        match update {
            Some(Ok(update)) => match watch.take(update) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => break Ok(()),
                Err(error) => break Err(WatchError::Output(error)),
            },
            Some(Err(error)) => break Err(error.into()),
            None => break Ok(()),
        }
    };
    let summed_up = watch.sum_up();
    ticks.close().await;
    ended.and(summed_up)
}

async fn subscribe(args: &WatchArgs) -> Result<Subscription, Error> {
    let (first, others) = args.addrs.split_first().expect("the command line has a default address");
    let mut client =
        Client::builder(first.clone()).credentials(&args.credentials.user, &args.credentials.pass);
    for addr in others {
        client = client.server(addr.clone());
    }
    if let Some(tls) = &args.tls {
        client = client.tls(tls.clone());
    }
    let client = client.connect().await?;
    match args.resume_after {
        None => client.subscribe(args.mode).await,
        Some(after) => client.subscribe_after(args.mode, after).await,
    }
}

/// Everything seen so far.
struct Watch<W> {
    printer: Printer<W>,
    /// Ticks yet to print; `None`: any number.
    left: Option<u64>,
    ticks: u64,
    missed: u64,
    /// Latency of live ticks, microseconds.
    latency: Histogram<u64>,
    /// Lead of the server's clock that was mentioned last, ms.
    server_ahead_ms: i64,
}

impl<W: Write> Watch<W> {
    fn new(args: &WatchArgs, printer: Printer<W>) -> Self {
        Self {
            printer,
            left: args.count.map(std::num::NonZeroU64::get),
            ticks: 0,
            missed: 0,
            latency: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("bounds that are supported"),
            server_ahead_ms: 0,
        }
    }

    /// Prints an update. Breaks after the last one that is wanted.
    fn take(&mut self, update: StreamUpdate) -> io::Result<ControlFlow<()>> {
        match update {
            StreamUpdate::Batch(batch) => return self.take_batch(&batch),
            StreamUpdate::Gap { expected, got } => {
                self.missed += got - expected;
                self.printer.print(&Line::Gap { expected, got })
            }
            StreamUpdate::Reset { expected, got } => self.printer.print(&Line::Reset { expected, got }),
            StreamUpdate::Subscribed { mode, next_sequence } => {
                self.printer.print(&Line::Subscribed { mode, next_sequence })
            }
            StreamUpdate::Disconnected { error, retry_in } => {
                self.printer.print(&Line::Disconnected { error: &error, retry_in })
            }
            StreamUpdate::Reconnected { server, next_sequence } => {
                self.printer.print(&Line::Reconnected { server: &server, next_sequence })
            }
            StreamUpdate::GoAway { reason, retry_after } => {
                self.printer.print(&Line::GoAway { reason: &reason, retry_after })
            }
        }?;
        Ok(ControlFlow::Continue(()))
    }

    fn take_batch(&mut self, batch: &Batch) -> io::Result<ControlFlow<()>> {
        let wanted = self.left.map_or(batch.ticks.len(), |left| batch.ticks.len().min(left as usize));
        let ticks = &batch.ticks[..wanted];
        self.ticks += ticks.len() as u64;
        self.left = self.left.map(|left| left - ticks.len() as u64);
        let received_at = self.server_time(batch)?;
        let latencies = ticks.iter().enumerate().map(|(at, tick)| {
            // Not `UNIX_EPOCH + …`, which panics beyond what the system's clock can hold.
            let due = UNIX_EPOCH.checked_add(Duration::from_millis(tick.epoch_ms));
            // A replayed tick's age is no latency. Clocks that differ by little would make some negative.
            let latency = due.and_then(|due| received_at.duration_since(due).ok()).unwrap_or_default();
            (at >= batch.replayed).then_some(latency)
        });
        let latencies: Vec<Option<Duration>> = latencies.collect();
        for latency in latencies.iter().flatten() {
            self.latency.saturating_record(latency.as_micros() as u64);
        }
        self.printer.print(&Line::Ticks { mode: batch.mode, ticks, latencies: &latencies })?;
        Ok(if self.left == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// The time at which a batch was received, by the server's clock where this machine's differs, which is said.
    fn server_time(&mut self, batch: &Batch) -> io::Result<SystemTime> {
        let ahead_ms = batch.server_ahead_ms;
        if ahead_ms.unsigned_abs() < CLOCKS_DIFFER_MS {
            return Ok(batch.received_at);
        }
        if ahead_ms.abs_diff(self.server_ahead_ms) >= CLOCKS_DIFFER_MS {
            self.server_ahead_ms = ahead_ms;
            self.printer.print(&Line::ClocksDiffer { server_ahead_ms: ahead_ms })?;
        }
        let difference = Duration::from_millis(ahead_ms.unsigned_abs());
        let shifted = if ahead_ms > 0 {
            batch.received_at.checked_add(difference)
        } else {
            batch.received_at.checked_sub(difference)
        };
        Ok(shifted.unwrap_or(batch.received_at))
    }

    fn sum_up(&mut self) -> Result<(), WatchError> {
        let Self { ticks, missed, .. } = *self;
        let summary = Line::Summary { ticks, missed, latency: &self.latency };
        self.printer.print(&summary).map_err(WatchError::Output)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use tickstream_client::{Mode, Tick};

    use super::*;
    use tickstream_service::credentials::Credentials;

    fn args(count: Option<u64>) -> WatchArgs {
        WatchArgs {
            addrs: vec!["127.0.0.1:1".to_owned()],
            credentials: Credentials { user: "u".into(), pass: "p".into() },
            tls: None,
            mode: Mode::Second,
            resume_after: None,
            count: count.and_then(NonZeroU64::new),
            json: true,
        }
    }

    fn batch(first_sequence: u64, count: u64) -> StreamUpdate {
        let received_at = SystemTime::now();
        let now_ms = received_at.duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let tick = |sequence| Tick { sequence, epoch_ms: now_ms - 2 };
        let ticks = (first_sequence..first_sequence + count).map(tick).collect();
        let (replayed, server_ahead_ms) = (0, 0);
        StreamUpdate::Batch(Batch {
            mode: Mode::Second,
            first_sequence,
            ticks,
            received_at,
            replayed,
            server_ahead_ms,
        })
    }

    /// The batch with this change.
    fn changed(mut event: StreamUpdate, change: impl FnOnce(&mut Batch)) -> StreamUpdate {
        if let StreamUpdate::Batch(batch) = &mut event {
            change(batch);
        }
        event
    }

    #[test]
    fn it_stops_at_the_count_even_within_a_batch() {
        let mut out = Vec::new();
        let mut watch = Watch::new(&args(Some(5)), Printer::new(&mut out, true, false));
        assert_eq!(watch.take(batch(10, 3)).unwrap(), ControlFlow::Continue(()));
        assert_eq!(watch.take(batch(13, 3)).unwrap(), ControlFlow::Break(()));
        watch.sum_up().unwrap();
        let lines = String::from_utf8(out).unwrap();
        assert_eq!(lines.lines().filter(|line| line.contains("\"tick\"")).count(), 5);
        assert!(lines.lines().last().unwrap().contains("\"ticks\":5"), "{lines}");
    }

    #[test]
    fn replayed_ticks_have_no_latency() {
        let mut out = Vec::new();
        let mut watch = Watch::new(&args(None), Printer::new(&mut out, true, false));
        assert!(watch.take(changed(batch(10, 3), |batch| batch.replayed = 3)).unwrap().is_continue());
        assert!(watch.take(batch(13, 1)).unwrap().is_continue());
        assert_eq!((watch.ticks, watch.latency.len()), (4, 1));
    }

    #[test]
    fn another_clock_is_mentioned_once_and_allowed_for() {
        for ahead_ms in [20_000_i64, -20_000] {
            let mut out = Vec::new();
            let mut watch = Watch::new(&args(None), Printer::new(&mut out, true, false));
            for first in [10, 11] {
                let shifted = changed(batch(first, 1), |batch| {
                    batch.server_ahead_ms = ahead_ms;
                    batch.ticks[0].epoch_ms = batch.ticks[0].epoch_ms.wrapping_add_signed(ahead_ms);
                });
                assert!(watch.take(shifted).unwrap().is_continue());
            }
            let latencies = (watch.latency.len(), watch.latency.max());
            assert!(latencies.0 == 2 && (1_000..4_000).contains(&latencies.1), "{latencies:?}");
            let said = String::from_utf8(out).unwrap();
            assert_eq!(said.matches(&format!("\"server_ahead_ms\":{ahead_ms}")).count(), 1, "{said}");
        }
    }

    #[test]
    fn a_tick_of_no_time_at_all_is_no_panic() {
        let mut watch = Watch::new(&args(None), Printer::new(io::sink(), false, false));
        assert!(
            watch
                .take(changed(batch(1, 1), |batch| batch.ticks[0].epoch_ms = u64::MAX))
                .unwrap()
                .is_continue()
        );
        assert!(
            watch.take(changed(batch(1, 1), |batch| batch.server_ahead_ms = i64::MIN)).unwrap().is_continue()
        );
    }
}
