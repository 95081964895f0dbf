//! `tickstream publish`: events from JSON lines to a server, and what became of them.

mod input;
mod lines;
mod report;

use std::{
    io,
    path::PathBuf,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tickstream_client::{Client, Error, PublishError, Publisher, Publishing, with_causes};
use tokio::time::{self, Instant};

use crate::cli::{Inputs, OutputFile, PublishArgs, StopSignals, refusal::Refusal};
use input::{Input, Stop};
use lines::Lines;
use report::Report;
use tickstream_service::text;

/// Time for what was read before Ctrl-C or SIGTERM to be published and answered.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// Interval at which a terminal is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);
/// Events that wait for answers, bytes.
const QUEUE_BYTES: usize = 32 << 20;

/// The end of a run without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every line that isn't blank is stored.
    AllStored,
    /// Some line isn't; which, was said.
    NotAll,
}

/// Why publishing ended early.
#[derive(Debug, thiserror::Error)]
pub enum PublishCommandError {
    /// The server or the network.
    #[error("{}{}", text::one_line(&with_causes(.0.as_ref())), Refusal::of(.0).advice())]
    Client(Arc<Error>),
    /// The lines can't be read.
    #[error("can't read {from}: {source}")]
    Input {
        /// The source.
        from: String,
        /// The system's error.
        source: io::Error,
    },
    /// Dead letters can't be written.
    #[error("can't write dead letters to {}: {source}", path.display())]
    DeadLetters {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The summary can't be written.
    #[error("can't write to standard output: {0}")]
    Output(io::Error),
    /// Neither signals nor timers could be set up.
    #[error("can't set up a runtime: {0}")]
    Runtime(io::Error),
}

impl PublishCommandError {
    /// The server's refusal, if that is the reason.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Client(error) => Refusal::of(error),
            Self::Input { .. } | Self::DeadLetters { .. } | Self::Output(_) | Self::Runtime(_) => {
                Refusal::None
            }
        }
    }
}

/// Publishes until the input ends and everything has an answer, or until a signal, or an error that no reconnect cures.
///
/// # Errors
/// See [`PublishCommandError`].
pub fn run(args: &PublishArgs) -> Result<Outcome, PublishCommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(PublishCommandError::Runtime)?.block_on(publish(args))
}

/// A report of which the publisher's task and this one each hold a handle.
#[derive(Clone)]
struct SharedReport(Arc<Mutex<Report>>);

impl SharedReport {
    fn with<T>(&self, what: impl FnOnce(&mut Report) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn publish(args: &PublishArgs) -> Result<Outcome, PublishCommandError> {
    let from = args.file.as_ref().map_or("standard input".to_owned(), |file| file.display().to_string());
    let unreadable = |source| PublishCommandError::Input { from: from.clone(), source };
    let unwritable = |source| PublishCommandError::DeadLetters {
        path: args.dead_letters.clone().unwrap_or_default(),
        source,
    };
    let input = Input::open(args.file.as_ref()).map_err(unreadable)?;
    let (length, stop) = (input.length(), input.stop());
    let inputs = inputs(args, &input, &from);
    inputs.check_stdout().map_err(PublishCommandError::Output)?;
    let dead_letters = args.dead_letters.as_ref().map(|path| OutputFile::prepare(path, inputs)).transpose();
    let report = Report::new(dead_letters.map_err(unwritable)?, length);
    let report = SharedReport(Arc::new(Mutex::new(report)));
    let publisher =
        connect(args, report.clone()).await.map_err(|error| PublishCommandError::Client(error.into()))?;
    // Nothing is read before there is a server for it: what a pipe gave would be lost.
    let mut signals = StopSignals::catch().map_err(PublishCommandError::Runtime)?;
    let mut lines = Lines::start(input, args.complete_only);

    let fed = feed_and_flush(args, &publisher, &mut lines, (&report, &stop, &mut signals)).await;
    let progress = publisher.clone();
    let left = publisher.close(Duration::ZERO).await;
    let progress = progress.progress();
    stop.set();
    let unsent = if matches!(fed, Ok(End::Answered | End::Strict)) { Vec::new() } else { lines.rest().await };
    let summary = report.with(|report| {
        if matches!(fed, Ok(End::Stopped | End::OutOfTime)) {
            report.stopped();
        }
        report.unanswered(&left, unsent);
        report.end(tickstream_client::Progress { unanswered: left.len() as u64, ..progress })
    });
    let summary = summary.map_err(unwritable)?;
    match summary.print(&mut io::stdout(), args.json) {
        // Who closed it doesn't want to know.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(PublishCommandError::Output(error));
        }
        _ => {}
    }
    match fed {
        Ok(_) if summary.is_complete() => Ok(Outcome::AllStored),
        Ok(_) => Ok(Outcome::NotAll),
        Err(FeedError::Input(source)) => Err(unreadable(source)),
        Err(FeedError::Publish(PublishError::Ended(error))) => Err(PublishCommandError::Client(error)),
        Err(FeedError::Publish(_)) => Ok(Outcome::NotAll),
    }
}

/// The files that are read, none of which may be written.
fn inputs(args: &PublishArgs, input: &Input, name: &str) -> Inputs {
    let mut inputs = Inputs::default();
    inputs.add_open(input.file(), name);
    args.settings_files.iter().for_each(|path| inputs.add(path));
    inputs
}

async fn connect(args: &PublishArgs, report: SharedReport) -> Result<Publisher, Error> {
    let (first, others) = args.addrs.split_first().expect("the command line has a default address");
    let mut client =
        Client::builder(first.clone()).credentials(&args.credentials.user, &args.credentials.pass);
    for addr in others {
        client = client.server(addr.clone());
    }
    if let Some(tls) = &args.tls {
        client = client.tls(tls.clone());
    }
    let mut publishing = Publishing::default()
        .batch_events(args.batch)
        // The server's limit holds.
        .batch_bytes(1 << 20)
        .linger(args.linger)
        .queue(args.batch.saturating_mul(32).max(10_000), QUEUE_BYTES)
        .compression(args.compression)
        .observer(move |event| report.with(|report| report.take(event)));
    if let Some((id, first_sequence)) = args.producer {
        publishing = publishing.producer(id, first_sequence);
    }
    client.publisher(publishing).await
}

/// The end of feeding where nothing failed.
enum End {
    /// All that was read has its answer.
    Answered,
    /// The first line that is no event, with `--strict`.
    Strict,
    /// A signal; all that was read before has its answer.
    Stopped,
    /// A signal, and another one or too long a wait for the answers.
    OutOfTime,
    /// Dead letters can't be written, which the report says.
    NoDeadLetters,
}

enum FeedError {
    Input(io::Error),
    Publish(PublishError),
}

/// Publishes line by line and waits for all answers, while it shows how far it is. A signal ends the input; what was read
/// of it goes on.
async fn feed_and_flush(
    args: &PublishArgs,
    publisher: &Publisher,
    lines: &mut Lines,
    (report, stop, signals): (&SharedReport, &Stop, &mut StopSignals),
) -> Result<End, FeedError> {
    let mut draw = time::interval(DRAW_INTERVAL);
    let mut until: Option<Instant> = None;
    let position = lines.position();
    let mut work = pin!(async {
        let end = feed(args, publisher, lines, report).await?;
        publisher.flush().await.map_err(FeedError::Publish)?;
        Ok(end)
    });
    loop {
        tokio::select! {
            done = &mut work => {
                return done.map(|end| if until.is_some() && matches!(end, End::Answered) { End::Stopped } else { end });
            }
            () = signals.next() => {
                if until.is_some() {
                    return Ok(End::OutOfTime);
                }
                stop.set();
                until = Some(Instant::now() + STOP_WAIT);
                report.with(|report| report.say("waiting for the answers to what was read; Ctrl-C again ends at once"));
            }
            () = time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => return Ok(End::OutOfTime),
            _ = draw.tick() => report.with(|report| report.show(&publisher.progress(), position.get())),
        }
    }
}

/// Publishes line by line. Cancelled, it leaves the line at which it was.
async fn feed(
    args: &PublishArgs,
    publisher: &Publisher,
    lines: &mut Lines,
    report: &SharedReport,
) -> Result<End, FeedError> {
    while let Some(line) = lines.next().await.map_err(FeedError::Input)? {
        let number = line.number;
        match &line.event {
            Ok(event) => match publisher.publish_tagged(event, number).await {
                Err(error @ PublishError::TooLarge { .. }) => {
                    report.with(|report| report.too_large(number, event, &error));
                }
                published => published.map_err(FeedError::Publish)?,
            },
            Err(bad) => {
                report.with(|report| report.bad_line(number, bad));
                if args.strict {
                    return Ok(End::Strict);
                }
            }
        }
        lines.done();
        if !report.with(|report| report.taken(number)) {
            return Ok(End::NoDeadLetters);
        }
    }
    Ok(End::Answered)
}
