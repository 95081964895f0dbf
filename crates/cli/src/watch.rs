//! `tickstream watch`: subscribes, prints ticks with their latency, gaps and reconnects, and sums up at the end.

mod print;

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use tickstream_client::{Batch, Client, Error, Event, Subscription, with_causes};

use crate::cli::WatchArgs;
use print::{Line, Printer};

/// A longer latency counts as this, microseconds: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Why watching ended early.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The server or the network.
    #[error("{}", with_causes(.0))]
    Client(#[from] Error),
    /// Neither signals nor timers could be set up.
    #[error("can't set up a runtime: {0}")]
    Runtime(io::Error),
}

impl WatchError {
    /// Whether the server refused, so that trying again is of no use.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Client(error @ Error::Refused { .. }) => !error.is_retryable(),
            Self::Client(Error::Tls { problem, .. }) => problem.is_refusal(),
            Self::Client(_) | Self::Runtime(_) => false,
        }
    }
}

/// Watches until the count is reached, Ctrl-C, or an error that no reconnect cures.
///
/// # Errors
/// See [`WatchError`]. A standard output that is closed (`| head`) ends it without an error.
pub fn run(args: &WatchArgs) -> Result<(), WatchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(WatchError::Runtime)?.block_on(watch(args))
}

async fn watch(args: &WatchArgs) -> Result<(), WatchError> {
    let colors = io::stdout().is_terminal();
    let mut watch = Watch::new(args, Printer::new(io::stdout(), args.json, colors));
    let mut ticks = subscribe(args).await?;
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let ended = loop {
        let event = tokio::select! {
            event = ticks.next() => event,
            _ = &mut interrupt => break Ok(()),
        };
        match event {
            Some(Ok(event)) => {
                if !watch.take(event) {
                    break Ok(());
                }
            }
            Some(Err(error)) => break Err(error.into()),
            None => break Ok(()),
        }
    };
    watch.sum_up();
    ticks.close().await;
    ended
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

/// What was seen so far.
struct Watch<W> {
    printer: Printer<W>,
    /// Ticks yet to print; `None`: any number.
    left: Option<u64>,
    ticks: u64,
    missed: u64,
    /// Latency of live ticks, microseconds.
    latency: Histogram<u64>,
    /// Ticks that were due before are replayed, and their age is no latency.
    live_since: SystemTime,
}

impl<W: Write> Watch<W> {
    fn new(args: &WatchArgs, printer: Printer<W>) -> Self {
        Self {
            printer,
            left: args.count.map(std::num::NonZeroU64::get),
            ticks: 0,
            missed: 0,
            latency: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("bounds that are supported"),
            live_since: SystemTime::now(),
        }
    }

    /// Prints an event. False if that was the last.
    fn take(&mut self, event: Event) -> bool {
        let printed = match event {
            Event::Batch(batch) => return self.take_batch(&batch),
            Event::Gap { expected, got } => {
                self.missed += got - expected;
                self.printer.print(&Line::Gap { expected, got })
            }
            Event::Reset { expected, got } => self.printer.print(&Line::Reset { expected, got }),
            Event::Subscribed { mode, next_sequence } => {
                self.printer.print(&Line::Subscribed { mode, next_sequence })
            }
            Event::Disconnected { error, retry_in } => {
                self.printer.print(&Line::Disconnected { error: &error, retry_in })
            }
            Event::Reconnected { server, next_sequence } => {
                self.live_since = SystemTime::now();
                self.printer.print(&Line::Reconnected { server: &server, next_sequence })
            }
            Event::GoAway { reason, retry_after } => {
                self.printer.print(&Line::GoAway { reason: &reason, retry_after })
            }
        };
        printed.is_ok()
    }

    fn take_batch(&mut self, batch: &Batch) -> bool {
        let wanted = self.left.map_or(batch.ticks.len(), |left| batch.ticks.len().min(left as usize));
        let ticks = &batch.ticks[..wanted];
        self.ticks += ticks.len() as u64;
        self.left = self.left.map(|left| left - ticks.len() as u64);
        let latencies = ticks.iter().map(|tick| {
            let due = UNIX_EPOCH + Duration::from_millis(tick.epoch_ms);
            // A clock that is ahead of the server's would make it negative.
            let latency = batch.received_at.duration_since(due).unwrap_or_default();
            (due >= self.live_since).then_some(latency)
        });
        let latencies: Vec<Option<Duration>> = latencies.collect();
        for latency in latencies.iter().flatten() {
            self.latency.saturating_record(latency.as_micros() as u64);
        }
        let line = Line::Ticks { mode: batch.mode, ticks, latencies: &latencies };
        self.printer.print(&line).is_ok() && self.left != Some(0)
    }

    fn sum_up(&mut self) {
        // Nobody reads any more if this fails.
        let _ = self.printer.print(&Line::Summary {
            ticks: self.ticks,
            missed: self.missed,
            latency: &self.latency,
        });
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

    fn batch(first_sequence: u64, count: u64, received_at: SystemTime) -> Event {
        let now_ms = received_at.duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let tick = |sequence| Tick { sequence, epoch_ms: now_ms - 2 };
        let ticks = (first_sequence..first_sequence + count).map(tick).collect();
        Event::Batch(Batch { mode: Mode::Second, first_sequence, ticks, received_at })
    }

    #[test]
    fn it_stops_at_the_count_even_within_a_batch() {
        let mut out = Vec::new();
        let mut watch = Watch::new(&args(Some(5)), Printer::new(&mut out, true, false));
        assert!(watch.take(batch(10, 3, SystemTime::now() + Duration::from_secs(1))));
        assert!(!watch.take(batch(13, 3, SystemTime::now() + Duration::from_secs(1))));
        watch.sum_up();
        let lines = String::from_utf8(out).unwrap();
        assert_eq!(lines.lines().filter(|line| line.contains("\"tick\"")).count(), 5);
        assert!(lines.lines().last().unwrap().contains("\"ticks\":5"), "{lines}");
    }

    #[test]
    fn replayed_ticks_have_no_latency() {
        let mut out = Vec::new();
        let mut watch = Watch::new(&args(None), Printer::new(&mut out, true, false));
        watch.take(batch(10, 3, SystemTime::now() - Duration::from_secs(60)));
        watch.take(batch(13, 1, SystemTime::now() + Duration::from_secs(60)));
        assert_eq!((watch.ticks, watch.latency.len()), (4, 1));
    }
}
