//! The settings of a publisher.

use std::{fmt, path::PathBuf, time::Duration};

use crate::{Error, PublishEvent};

/// Settings of publishing: for [`Builder::publisher`](crate::Builder::publisher).
///
/// ```
/// use std::time::Duration;
/// use tickstream_client::Publishing;
///
/// let publishing = Publishing::default().batch_events(100).linger(Duration::from_secs(1));
/// ```
#[must_use = "it does nothing before Builder::publisher()"]
pub struct Publishing {
    pub(crate) producer: Option<Producer>,
    pub(crate) batch: BatchLimits,
    pub(crate) queue: QueueLimits,
    pub(crate) compression: Compression,
    pub(crate) disk: Option<DiskOptions>,
    pub(crate) observer: Observer,
}

/// The observer of what happens.
pub(crate) type Observer = Box<dyn FnMut(PublishEvent) + Send>;

/// Producer that numbers batches, and its first number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub id: [u8; 16],
    pub next_sequence: u64,
}

/// Place and size of the disk queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskOptions {
    pub dir: PathBuf,
    pub bytes_max: u64,
}

/// When waiting events become a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchLimits {
    pub events: usize,
    /// Payload of a PUBLISH before compression.
    pub bytes: usize,
    pub linger: Duration,
}

/// Events that may be held without a final answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueLimits {
    pub events: usize,
    pub bytes: usize,
}

/// Compression of batches on their way to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// LZ4: quick, for text that repeats itself.
    #[cfg(feature = "lz4")]
    Lz4,
    /// Zstandard, at its quickest level: smaller, at some five times the work of LZ4 or more.
    #[cfg(feature = "zstd")]
    Zstd,
}

impl Default for Publishing {
    fn default() -> Self {
        Self {
            producer: None,
            batch: BatchLimits { events: 20, bytes: 256 * 1024, linger: Duration::from_secs(10) },
            queue: QueueLimits { events: 10_000, bytes: 16 * 1024 * 1024 },
            compression: Compression::None,
            disk: None,
            observer: Box::new(|_| {}),
        }
    }
}

impl Publishing {
    /// Sets how many events make a batch: 20 by default, at most 2,048; fewer where the server takes fewer.
    pub fn batch_events(mut self, events: usize) -> Self {
        self.batch.events = events;
        self
    }

    /// Sets how large a batch may be, bytes before compression: 256 KiB by default. Where the server announces a
    /// smaller limit, that one holds. An event that alone is larger is refused.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch.bytes = bytes;
        self
    }

    /// Sets how long an event waits for others until its batch goes anyway: 10 s by default, zero for not at all.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.batch.linger = linger;
        self
    }

    /// Sets how many events, and how many bytes of them, the publisher holds that have no final answer: 10,000 and
    /// 16 MiB by default. Beyond, [`Publisher::publish`](crate::Publisher::publish) waits and
    /// [`Publisher::try_publish`](crate::Publisher::try_publish) fails. Each event counts 64 bytes more than it has.
    pub fn queue(mut self, events: usize, bytes: usize) -> Self {
        self.queue = QueueLimits { events, bytes };
        self
    }

    /// Sets how batches are packed: not at all by default. A batch that doesn't shrink goes as it is.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets who numbers the batches, and the number of the first one. By default that is a new random id, and 1.
    ///
    /// A server takes a batch of the same producer with the same number for the same batch, and drops it. So an id
    /// must be no other publisher's, and `first_sequence` above all that this id has used, unless exactly the same
    /// batches are sent again on purpose. The id isn't all zeros.
    pub fn producer(mut self, id: [u8; 16], first_sequence: u64) -> Self {
        self.producer = Some(Producer { id, next_sequence: first_sequence });
        self
    }

    /// Keeps what has no final answer in a file in `dir` as well, which is made where it isn't there: none by default.
    /// Events that an application leaves there, however it ends, go first when the next one starts, under the producer's id
    /// and the numbers that it had. The directory is one publisher's at a time.
    ///
    /// The file has at most `bytes_max` bytes, about half of which are for events; beyond, the queue is full. It isn't
    /// synced for each event: a power cut may lose those of the last seconds. Damage within it costs the events in the
    /// damaged records alone, and is reported: [`PublishEvent::DiskQueueDamaged`].
    pub fn disk_queue(mut self, dir: impl Into<PathBuf>, bytes_max: u64) -> Self {
        self.disk = Some(DiskOptions { dir: dir.into(), bytes_max });
        self
    }

    /// Sets the observer of what happens: rejections, lost connections. None by default.
    ///
    /// The function runs in the publisher's own task, which meanwhile neither sends nor heartbeats: it must not wait.
    pub fn observer(mut self, observer: impl FnMut(PublishEvent) + Send + 'static) -> Self {
        self.observer = Box::new(observer);
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        rule("batch_events", (1..=2048).contains(&self.batch.events), "1 to 2,048 events")?;
        rule("batch_bytes", (1024..=BATCH_BYTES_MAX).contains(&self.batch.bytes), "1 KiB to 64 MiB")?;
        rule("linger", self.batch.linger <= DAY, "a day at the most")?;
        rule("queue", self.queue.events >= self.batch.events, "fewer events than make a batch")?;
        rule("queue", self.queue.bytes >= self.batch.bytes, "fewer bytes than a batch may have")?;
        let producer = self.producer.is_none_or(|producer| producer.id != [0; 16]);
        rule("producer", producer, "the id is all zeros")?;
        let sequence = self.producer.is_none_or(|producer| producer.next_sequence > 0);
        rule("producer", sequence, "the first sequence is 0")?;
        let Some(disk) = &self.disk else { return Ok(()) };
        rule(
            "disk_queue",
            disk.bytes_max >= 4 * self.batch.bytes as u64,
            "fewer bytes than four batches may have",
        )?;
        rule("producer", self.producer.is_none(), "a disk queue has a producer of its own")
    }
}

const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;
const DAY: Duration = Duration::from_secs(24 * 3600);

fn rule(setting: &'static str, holds: bool, problem: &'static str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Config { setting, problem }) }
}

impl fmt::Debug for Publishing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { producer, batch, queue, compression, disk, observer: _ } = self;
        f.debug_struct("Publishing")
            .field("producer", producer)
            .field("batch", batch)
            .field("queue", queue)
            .field("compression", compression)
            .field("disk", disk)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let check = |publishing: Publishing, expected: Option<&str>| match publishing.check() {
            Ok(()) => assert_eq!(expected, None),
            Err(Error::Config { setting, .. }) => assert_eq!(Some(setting), expected),
            Err(other) => panic!("{other:?}"),
        };
        let publishing = Publishing::default;
        check(publishing(), None);
        check(publishing().batch_events(0), Some("batch_events"));
        check(publishing().batch_bytes(1023), Some("batch_bytes"));
        check(publishing().linger(Duration::MAX), Some("linger"));
        check(publishing().linger(Duration::ZERO), None);
        check(publishing().queue(19, 1 << 20), Some("queue"));
        check(publishing().queue(20, 1024), Some("queue"));
        check(publishing().producer([0; 16], 1), Some("producer"));
        check(publishing().producer([1; 16], 0), Some("producer"));
        check(publishing().producer([1; 16], 1), None);
        check(publishing().disk_queue("queue", 1 << 20), None);
        check(publishing().disk_queue("queue", (1 << 20) - 1), Some("disk_queue"));
        check(publishing().disk_queue("queue", 1 << 20).producer([1; 16], 1), Some("producer"));
    }
}
