//! The thread that exports spans: once a second it takes what waits, and posts it in batches.
//!
//! The exporter polls the queue and never sleeps on it, so that nobody has to wake it. All that waits is bounded: the queue, and
//! one batch. While the endpoint is down the queue fills, and what doesn't fit is lost and counted.

use std::fmt::Display;
use std::io;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::post::post;
use super::span::{self, SAMPLED};
use super::{IntoSpan, Lost, OtlpEndpoint, QUEUE_MAX, Service, Spans};

/// Interval at which the queue is emptied.
const INTERVAL: Duration = Duration::from_secs(1);
/// Spans of one POST: some 200 KiB.
const BATCH_MAX: usize = 512;
/// POSTs of one batch; then it is lost. With the pauses between them that is half a minute.
const TRIES_MAX: u32 = 5;
/// The longest pause, whatever the endpoint asks for.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Longest time for the last spans when the program ends.
const FLUSH_MAX: Duration = Duration::from_millis(1_900);
/// Longest wait for that.
const FINISH_MAX: Duration = Duration::from_secs(2);
/// Between two lines of the log about trouble.
const LINES_APART: Duration = Duration::from_secs(60);

/// An exporter that hasn't begun.
#[derive(Debug)]
pub struct Exporter<T> {
    endpoint: OtlpEndpoint,
    service: Service,
    spans: Spans<T>,
    ended: Receiver<T>,
}

/// A running exporter. Dropping it ends it, too, but doesn't wait.
#[derive(Debug)]
pub struct Exporting {
    stop: oneshot::Sender<()>,
    finished: Receiver<()>,
}

impl<T: IntoSpan> Exporter<T> {
    /// An exporter for one process, which is `service`.
    pub fn new(endpoint: OtlpEndpoint, service: Service) -> Self {
        let (spans, ended) = Spans::bounded(QUEUE_MAX);
        Self { endpoint, service, spans, ended }
    }

    /// The queue, for the threads that trace.
    pub fn spans(&self) -> Spans<T> {
        self.spans.clone()
    }

    /// The counter of lost spans.
    pub fn lost(&self) -> Lost {
        self.spans.lost.clone()
    }

    /// Begins to export, on a thread of its own, which calls `settle` first. Call it once threads with descriptor tables
    /// of their own have begun: they would get copies of its descriptors.
    ///
    /// # Errors
    /// If there is no thread, or no runtime for it.
    pub fn start(self, settle: impl FnOnce() + Send + 'static) -> io::Result<Exporting> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Looks up the endpoint's host.
            .max_blocking_threads(1)
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let (done, finished) = mpsc::channel();
        let worker = Worker::new(self)?;
        std::thread::Builder::new().name("traces".to_owned()).spawn(move || {
            settle();
            runtime.block_on(worker.run(stopped));
            // Not dropped: that would wait for a host that is being looked up.
            runtime.shutdown_background();
            // Nobody waits if the server failed.
            let _ = done.send(());
        })?;
        Ok(Exporting { stop, finished })
    }
}

impl Exporting {
    /// Exports what there still is, for two seconds at most.
    pub fn finish(self) {
        // An error means that the thread is gone, and then the next line doesn't wait.
        let _ = self.stop.send(());
        let _ = self.finished.recv_timeout(FINISH_MAX);
    }
}

struct Worker<T> {
    endpoint: OtlpEndpoint,
    service: Service,
    ended: Receiver<T>,
    lost: Lost,
    resource: Resource,
    random: SystemRandom,
    /// Spans that are being sent, also if that failed before.
    batch: Option<Batch>,
    /// Until the next turn.
    pause: Duration,
    error_log: ErrorLog,
}

/// Encoded once: a batch that is sent again has the same ids, so that who got it twice can tell.
struct Batch {
    body: Bytes,
    spans: u64,
    tries: u32,
}

impl<T: IntoSpan> Worker<T> {
    fn new(exporter: Exporter<T>) -> io::Result<Self> {
        let random = SystemRandom::new();
        Ok(Self {
            endpoint: exporter.endpoint,
            ended: exporter.ended,
            lost: exporter.spans.lost,
            resource: span::resource(&exporter.service, random_bytes(&random)?),
            service: exporter.service,
            random,
            batch: None,
            pause: INTERVAL,
            error_log: ErrorLog::default(),
        })
    }

    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            // What is being sent when it is told to stop is sent again below.
            tokio::select! {
                _ = &mut stopped => break,
                () = self.turn() => {}
            }
        }
        let _ = timeout(FLUSH_MAX, self.send_all()).await;
        let left = self.batch.map_or(0, |batch| batch.spans) + self.ended.try_iter().count() as u64;
        if left > 0 {
            tracing::warn!(endpoint = %self.endpoint, spans = left, "traces: the last spans couldn't be exported");
        }
    }

    async fn turn(&mut self) {
        sleep(self.pause).await;
        self.pause = INTERVAL;
        self.send_all().await;
        if self.lost.spans() > self.error_log.lost_logged {
            self.error_log.log(&self.endpoint, &self.lost, &"spans were lost since the last such line");
        }
    }

    /// Sends until nothing waits or something fails.
    async fn send_all(&mut self) {
        while self.fill() && self.send().await {}
    }

    /// Makes a batch of what waits, unless there is one. False if there is none.
    fn fill(&mut self) -> bool {
        if self.batch.is_none() {
            let ended: Vec<T> = self.ended.try_iter().take(BATCH_MAX).collect();
            let count = ended.len() as u64;
            let with_ids = |ended: T| {
                let (trace_id, span_id) =
                    (random_bytes::<16>(&self.random)?, random_bytes::<8>(&self.random)?);
                let (trace_id, span_id) = (trace_id.to_vec(), span_id.to_vec());
                Ok(Span { trace_id, span_id, flags: SAMPLED, ..ended.into_span() })
            };
            let spans: io::Result<Vec<_>> = ended.into_iter().map(with_ids).collect();
            match spans {
                Ok(spans) if spans.is_empty() => {}
                Ok(spans) => {
                    let body = span::request(&self.service, &self.resource, spans).encode_to_vec().into();
                    self.batch = Some(Batch { body, spans: count, tries: 0 });
                }
                Err(error) => {
                    self.lost.add(count);
                    self.error_log.log(&self.endpoint, &self.lost, &error);
                }
            }
        }
        self.batch.is_some()
    }

    /// Posts the batch. False if it wasn't taken.
    async fn send(&mut self) -> bool {
        let Some(batch) = &mut self.batch else { return false };
        match post(&self.endpoint, batch.body.clone()).await {
            Ok(partial) => {
                self.batch = None;
                if let Some(partial) = partial {
                    self.lost.add(u64::try_from(partial.rejected_spans).unwrap_or(0));
                    let said = format!("it took only a part of them: {:?}", partial.error_message);
                    self.error_log.log(&self.endpoint, &self.lost, &said);
                }
                true
            }
            Err(error) => {
                batch.tries += 1;
                self.pause =
                    error.retry_after().unwrap_or(INTERVAL * (1 << batch.tries)).clamp(INTERVAL, PAUSE_MAX);
                if !error.is_retryable() || batch.tries >= TRIES_MAX {
                    self.lost.add(batch.spans);
                    self.batch = None;
                    self.pause = INTERVAL;
                }
                self.error_log.log(&self.endpoint, &self.lost, &error);
                false
            }
        }
    }
}

/// Logs what goes wrong, once a minute at most.
#[derive(Default)]
struct ErrorLog {
    logged: Option<Instant>,
    lost_logged: u64,
}

impl ErrorLog {
    fn log(&mut self, endpoint: &OtlpEndpoint, lost: &Lost, error: &dyn Display) {
        if self.logged.is_some_and(|logged| logged.elapsed() < LINES_APART) {
            return;
        }
        (self.logged, self.lost_logged) = (Some(Instant::now()), lost.spans());
        tracing::warn!(
            %endpoint,
            %error,
            lost = self.lost_logged,
            "traces aren't exported as they should be; said at most once a minute"
        );
    }
}

fn random_bytes<const BYTES: usize>(random: &SystemRandom) -> io::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    random.fill(&mut bytes).map_err(|_| io::Error::other("the kernel gives no random bytes"))?;
    Ok(bytes)
}
