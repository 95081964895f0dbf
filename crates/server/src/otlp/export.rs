//! The thread that exports spans: once a second it takes what waits, and posts it in batches.
//!
//! It polls the queue and never sleeps on it, so that no shard has to wake it. All that waits is bounded: the queue, and
//! one batch. While the endpoint is down the queue fills, and what doesn't fit is lost and counted.

use std::fmt::Display;
use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::post::post;
use super::span::{self, SpanIds};
use super::{Lost, QUEUE_MAX, Traced, Tracer};
use crate::admin::keep_off;
use crate::config::{Otlp, OtlpEndpoint};

/// How often the queue is emptied.
const INTERVAL: Duration = Duration::from_secs(1);
/// Spans of one POST: some 200 KiB.
const BATCH_MAX: usize = 512;
/// POSTs of one batch; then it is lost. With the pauses between them that is half a minute.
const TRIES_MAX: u32 = 5;
/// The longest pause, whatever the endpoint asks for.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long the last spans may take when the server ends.
const FLUSH_MAX: Duration = Duration::from_millis(1_900);
/// How long ending waits for that, at most.
const FINISH_MAX: Duration = Duration::from_secs(2);
/// Between two lines of the log about trouble.
const LINES_APART: Duration = Duration::from_secs(60);

/// An exporter that hasn't begun.
#[derive(Debug)]
pub struct Exporter {
    settings: Otlp,
    queue: SyncSender<Traced>,
    traced: Receiver<Traced>,
    lost: Lost,
}

/// A running exporter. Dropping it ends it, too, but doesn't wait.
#[derive(Debug)]
pub struct Exporting {
    stop: oneshot::Sender<()>,
    finished: Receiver<()>,
}

impl Exporter {
    /// An exporter for one process.
    pub fn new(settings: &Otlp) -> Self {
        let (queue, traced) = sync_channel(QUEUE_MAX);
        Self { settings: settings.clone(), queue, traced, lost: Lost::default() }
    }

    /// The side of a shard.
    pub fn tracer(&self, shard: usize) -> Tracer {
        Tracer {
            shard,
            queue: self.queue.clone(),
            lost: self.lost.clone(),
            sample_one_in: u64::from(self.settings.sample_one_in.get()),
            slow_pass_ns: self.settings.slow_pass.map(|slow| slow.as_nanos() as u64),
        }
    }

    /// The counter of lost spans.
    pub fn lost(&self) -> Lost {
        self.lost.clone()
    }

    /// Begins to export, on a thread of its own. Call it once the shards have begun: they would get copies of its
    /// descriptors.
    ///
    /// # Errors
    /// If there is no thread, or no runtime for it.
    pub fn start(self, shard_cpus: Vec<usize>) -> io::Result<Exporting> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Looks up the endpoint's host.
            .max_blocking_threads(1)
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let (done, finished) = mpsc::channel();
        let worker = Worker::new(self)?;
        std::thread::Builder::new().name("traces".to_owned()).spawn(move || {
            keep_off(&shard_cpus, "traces");
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

struct Worker {
    endpoint: OtlpEndpoint,
    traced: Receiver<Traced>,
    lost: Lost,
    resource: Resource,
    random: SystemRandom,
    /// What is being sent, also if it failed before.
    batch: Option<Batch>,
    /// Until the next turn.
    pause: Duration,
    trouble: Trouble,
}

/// Encoded once: a batch that is sent again has the same ids, so that who got it twice can tell.
struct Batch {
    body: Bytes,
    spans: u64,
    tries: u32,
}

impl Worker {
    fn new(exporter: Exporter) -> io::Result<Self> {
        let random = SystemRandom::new();
        Ok(Self {
            endpoint: exporter.settings.endpoint,
            traced: exporter.traced,
            lost: exporter.lost,
            resource: span::resource(random_bytes(&random)?),
            random,
            batch: None,
            pause: INTERVAL,
            trouble: Trouble::default(),
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
        let left = self.batch.map_or(0, |batch| batch.spans) + self.traced.try_iter().count() as u64;
        if left > 0 {
            tracing::warn!(endpoint = %self.endpoint, spans = left, "traces: the last spans couldn't be exported");
        }
    }

    async fn turn(&mut self) {
        sleep(self.pause).await;
        self.pause = INTERVAL;
        self.send_all().await;
        if self.lost.spans() > self.trouble.lost_told {
            self.trouble.tell(&self.endpoint, &self.lost, &"spans were lost since the last such line");
        }
    }

    /// Sends until nothing waits or something fails.
    async fn send_all(&mut self) {
        while self.fill() && self.send().await {}
    }

    /// Makes a batch of what waits, unless there is one. False if there is none.
    fn fill(&mut self) -> bool {
        if self.batch.is_none() {
            let traced: Vec<_> = self.traced.try_iter().take(BATCH_MAX).collect();
            let count = traced.len() as u64;
            let spans: io::Result<Vec<_>> = traced
                .into_iter()
                .map(|traced| {
                    Ok(span::span(traced, &random_bytes::<{ size_of::<SpanIds>() }>(&self.random)?))
                })
                .collect();
            match spans {
                Ok(spans) if spans.is_empty() => {}
                Ok(spans) => {
                    let body = span::request(&self.resource, spans).encode_to_vec().into();
                    self.batch = Some(Batch { body, spans: count, tries: 0 });
                }
                Err(error) => {
                    self.lost.add(count);
                    self.trouble.tell(&self.endpoint, &self.lost, &error);
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
                    self.trouble.tell(&self.endpoint, &self.lost, &said);
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
                self.trouble.tell(&self.endpoint, &self.lost, &error);
                false
            }
        }
    }
}

/// Logs what goes wrong, once a minute at most.
#[derive(Default)]
struct Trouble {
    told: Option<Instant>,
    lost_told: u64,
}

impl Trouble {
    fn tell(&mut self, endpoint: &OtlpEndpoint, lost: &Lost, error: &dyn Display) {
        if self.told.is_some_and(|told| told.elapsed() < LINES_APART) {
            return;
        }
        (self.told, self.lost_told) = (Some(Instant::now()), lost.spans());
        tracing::warn!(
            %endpoint,
            %error,
            lost = self.lost_told,
            "traces aren't exported as they should be; said at most once a minute"
        );
    }
}

fn random_bytes<const BYTES: usize>(random: &SystemRandom) -> io::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    random.fill(&mut bytes).map_err(|_| io::Error::other("the kernel gives no random bytes"))?;
    Ok(bytes)
}
