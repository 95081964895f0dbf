//! `tickstream publish`: events from JSON lines to a server, and what became of them.

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
use tokio::time;

use crate::cli::PublishArgs;
use lines::{Line, Lines};
use report::Report;

/// How long Ctrl-C waits for the answers that are owed.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a terminal is drawn.
const DRAW: Duration = Duration::from_millis(100);
/// What waits for answers, bytes.
const QUEUE_BYTES: usize = 32 << 20;

/// How it ended.
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
    #[error("{}", with_causes(.0.as_ref()))]
    Client(Arc<Error>),
    /// The lines can't be read.
    #[error("can't read {from}: {source}")]
    Input {
        /// Where from.
        from: String,
        /// What the system says.
        source: io::Error,
    },
    /// Dead letters can't be written.
    #[error("can't write dead letters to {}: {source}", path.display())]
    DeadLetters {
        /// Where to.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Neither signals nor timers could be set up.
    #[error("can't set up a runtime: {0}")]
    Runtime(io::Error),
}

impl PublishCommandError {
    /// Whether the server refused, so that trying again is of no use.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Client(error) => match &**error {
                error @ Error::Refused { .. } => !error.is_retryable(),
                Error::Tls { problem, .. } => problem.is_refusal(),
                error => matches!(error, Error::CollectionOff { .. }),
            },
            Self::Input { .. } | Self::DeadLetters { .. } | Self::Runtime(_) => false,
        }
    }
}

/// Publishes until the input ends and everything has an answer, or until Ctrl-C, or an error that no reconnect cures.
///
/// # Errors
/// See [`PublishCommandError`].
pub fn run(args: &PublishArgs) -> Result<Outcome, PublishCommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(PublishCommandError::Runtime)?.block_on(publish(args))
}

/// Of which the publisher's task and this one each hold a handle.
#[derive(Clone)]
struct SharedReport(Arc<Mutex<Report>>);

impl SharedReport {
    fn with<T>(&self, what: impl FnOnce(&mut Report) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn publish(args: &PublishArgs) -> Result<Outcome, PublishCommandError> {
    let from = args.file.as_ref().map_or("standard input".to_owned(), |file| file.display().to_string());
    let input = |source| PublishCommandError::Input { from: from.clone(), source };
    let dead_letters = |source| PublishCommandError::DeadLetters {
        path: args.dead_letters.clone().unwrap_or_default(),
        source,
    };
    let mut lines = Lines::open(args.file.as_ref(), args.complete_only).map_err(input)?;
    let report = Report::new(args.dead_letters.as_deref(), lines.length).map_err(dead_letters)?;
    let report = SharedReport(Arc::new(Mutex::new(report)));
    let publisher =
        connect(args, report.clone()).await.map_err(|error| PublishCommandError::Client(error.into()))?;

    let fed = feed_and_flush(args, &publisher, &mut lines, &report).await;
    let patience = match fed {
        Ok(End::Interrupted) => PATIENCE,
        Ok(End::Answered) | Err(_) => Duration::ZERO,
    };
    let progress = publisher.clone();
    let left = close(publisher, patience).await;
    let progress = progress.progress();
    let summary = report.with(|report| {
        report.unanswered(&left);
        report.end(tickstream_client::Progress { unanswered: left.len() as u64, ..progress })
    });
    let summary = summary.map_err(dead_letters)?;
    // Who closed it doesn't want to know.
    _ = summary.print(&mut io::stdout(), args.json);
    match fed {
        Ok(_) if summary.is_complete() => Ok(Outcome::AllStored),
        Ok(_) => Ok(Outcome::NotAll),
        Err(FeedError::Input(source)) => Err(input(source)),
        Err(FeedError::Publish(PublishError::Ended(error))) => Err(PublishCommandError::Client(error)),
        Err(FeedError::Publish(_)) => Ok(Outcome::NotAll),
    }
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

/// How feeding ended where nothing failed.
enum End {
    /// All that was read has its answer.
    Answered,
    /// Ctrl-C.
    Interrupted,
}

enum FeedError {
    Input(io::Error),
    Publish(PublishError),
}

/// Publishes line by line and waits for all answers, while it shows how far it is, until Ctrl-C.
async fn feed_and_flush(
    args: &PublishArgs,
    publisher: &Publisher,
    lines: &mut Lines,
    report: &SharedReport,
) -> Result<End, FeedError> {
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    let mut draw = time::interval(DRAW);
    let position = lines.position();
    let mut work = pin!(async {
        feed(args, publisher, lines, report).await?;
        publisher.flush().await.map_err(FeedError::Publish)
    });
    loop {
        tokio::select! {
            done = &mut work => return done.map(|()| End::Answered),
            _ = &mut interrupt => {
                report.with(|report| report.say("waiting for the answers that are owed; Ctrl-C again to end at once"));
                return Ok(End::Interrupted);
            }
            _ = draw.tick() => report.with(|report| report.show(&publisher.progress(), position.get())),
        }
    }
}

async fn feed(
    args: &PublishArgs,
    publisher: &Publisher,
    lines: &mut Lines,
    report: &SharedReport,
) -> Result<(), FeedError> {
    while let Some(line) = lines.queue.recv().await {
        let Line { number, event } = line.map_err(FeedError::Input)?;
        match event {
            Ok(event) => match publisher.publish_tagged(&event, number).await {
                Err(error @ PublishError::TooLarge { .. }) => {
                    let mut text = Vec::new();
                    tickstream_client::json::write_event(&event, &mut text);
                    let text = String::from_utf8_lossy(&text).into_owned();
                    bad_line(report, number, &lines::BadLine { problem: error.to_string(), text });
                }
                published => published.map_err(FeedError::Publish)?,
            },
            Err(bad) => {
                bad_line(report, number, &bad);
                if args.strict {
                    break;
                }
            }
        }
    }
    Ok(())
}

fn bad_line(report: &SharedReport, number: u64, bad: &lines::BadLine) {
    report.with(|report| report.bad_line(number, bad));
}

/// What has no answer after `patience`, or after Ctrl-C.
async fn close(publisher: Publisher, patience: Duration) -> Vec<tickstream_client::Unanswered> {
    let waiting = publisher.clone();
    tokio::select! {
        _ = time::timeout(patience, waiting.flush()) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    publisher.close(Duration::ZERO).await
}
