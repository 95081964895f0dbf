//! Journals on disk, written as a server does, and tables beside them.

#![allow(dead_code, reason = "each test uses a part")]

pub mod attacks;
pub mod faulty;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use tempfile::TempDir;
use tickstream_journal::{
    AppendError, Config, FileDirectory, FileStorage, Journal, JournalId, Now, Restore, recover,
};
use tickstream_schema::events::Message;
use tickstream_schema::events::{
    ApplicationMetric, Body, DeadLetter, Event, EventType, InteractionProperties, Log, LogLevel, Measurement,
    MetricType, Performance, PerformanceCategory, ReplayChunk, SpanStatus, StoredBatch, TraceSpan,
    UserInteraction, Video, VideoEventName, VideoMeasurements,
};
use tickstream_warehouse_core::dedup::Sizes;
use tickstream_warehouse_core::events::enrichment::Geo;
use tickstream_warehouse_core::loader::{Counts, Loader, Options};
use tickstream_warehouse_core::query::tail::Ids;
use tickstream_warehouse_core::query::{Engine, Limits, Role};
use tickstream_warehouse_core::store::Tables;

pub const NOW: Now = Now { mono_ns: 1, unix_ns: 1_795_857_234_000_000_000 };

/// A journal that is written to.
pub struct Writer {
    _directory: FileDirectory,
    storage: FileStorage,
    journal: Journal,
    pub path: PathBuf,
}

impl Writer {
    pub fn open(path: &Path, id: u8) -> Self {
        let config = Config { segment_bytes: 8 << 20, ..Config::default() };
        let mut directory = FileDirectory::open_exclusive(path).unwrap();
        let (journal, _) =
            recover(&mut directory, config, JournalId([id; 16]), NOW, Restore::All, |_| {}).unwrap();
        let storage = FileStorage::new(&directory);
        let mut writer = Self { _directory: directory, storage, journal, path: path.to_owned() };
        writer.settle();
        writer
    }

    /// Appends a record with these events, and brings it to stable storage.
    pub fn append(&mut self, events: Vec<Event>) {
        self.append_batch(&StoredBatch { events, ..Self::batch() });
    }

    pub fn batch() -> StoredBatch {
        StoredBatch {
            receive_time_ns: NOW.unix_ns + 5_000,
            peer: "192.0.2.7".into(),
            server: "server-1".into(),
            user: "publisher".into(),
            shard: 0,
            ..StoredBatch::default()
        }
    }

    pub fn append_batch(&mut self, batch: &StoredBatch) {
        self.append_payload(batch.events.len() as u32, &batch.encode_to_vec());
    }

    /// Appends a record as it is.
    pub fn append_payload(&mut self, events: u32, payload: &[u8]) {
        while let Err(error) = self.journal.append([3; 16], 1, events, payload) {
            assert_eq!(error, AppendError::Busy);
            self.settle();
        }
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            self.journal.drive(NOW, &mut self.storage).unwrap();
            let Some(completion) = self.storage.next_completion() else { return };
            self.journal.completed(NOW, completion).unwrap();
        }
    }
}

/// Journals and tables in a directory.
pub struct World {
    pub directory: TempDir,
    pub tables: Tables,
}

impl World {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tables = Tables::at(directory.path().join("tables").to_str().unwrap(), None).unwrap();
        Self { directory, tables }
    }

    pub fn journals(&self) -> PathBuf {
        self.directory.path().join("journals")
    }

    pub fn writer(&self, shard: u8) -> Writer {
        Writer::open(&self.journals().join(format!("{shard:03}")), shard + 1)
    }

    pub async fn loader(&self) -> Loader {
        Loader::open(&self.tables, &[self.journals()], options()).await.unwrap()
    }

    pub async fn load(&self) -> Counts {
        let mut loader = self.loader().await;
        let counts = loader.load_all().await.unwrap();
        loader.save().unwrap();
        counts
    }

    pub async fn engine(&self, with_tail: bool) -> Engine {
        let journals = if with_tail { vec![self.journals()] } else { Vec::new() };
        self.engine_over(journals, Limits::new(self.tables.state())).await
    }

    /// An engine over the tables alone, with other limits.
    pub async fn engine_within(&self, change: impl FnOnce(&mut Limits)) -> Engine {
        let mut limits = Limits::new(self.tables.state());
        change(&mut limits);
        self.engine_over(Vec::new(), limits).await
    }

    async fn engine_over(&self, journals: Vec<PathBuf>, limits: Limits) -> Engine {
        let ids = Ids::Files(self.tables.state().to_owned());
        Engine::open(&self.tables, journals, ids, Geo::default(), limits).await.unwrap()
    }

    /// Lines of an answer, cells parted by `|`.
    pub async fn query(&self, with_tail: bool, sql: &str) -> Vec<String> {
        lines(&self.engine(with_tail).await, sql, &Role::local()).await
    }
}

pub async fn lines(engine: &Engine, sql: &str, role: &Role) -> Vec<String> {
    let answer = engine.query(sql, role).await.unwrap_or_else(|error| panic!("{sql}: {}", chain(&error)));
    let batches = answer.collect().await.unwrap_or_else(|error| panic!("{sql}: {}", chain(&error)));
    text(&batches)
}

/// Lines of rows, cells parted by `|`.
pub fn text(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let mut lines = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            lines.push(cells.join("|"));
        }
    }
    lines
}

pub fn chain(error: &dyn std::error::Error) -> String {
    tickstream_warehouse_core::loader::with_sources(error)
}

pub fn options() -> Options {
    let ids = Sizes { recent: 64, fan_in: 3, kept: 10_000 };
    // No server is here that would have to notice a loader.
    let noticed_after = Duration::ZERO;
    Options { noticed_after, batch_events: 500, encoded_bytes: 16 << 10, ids, ..Options::default() }
}

/// A new event id: never the same twice in a process.
pub fn new_id() -> Vec<u8> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut id = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes().to_vec();
    id.extend_from_slice(&number.to_be_bytes());
    id
}

fn event(kind: EventType, name: &str, user: Option<&str>, body: Body) -> Event {
    static TIME: AtomicU64 = AtomicU64::new(0);
    let timestamp = NOW.unix_ns + TIME.fetch_add(1_000_003, Ordering::Relaxed);
    Event {
        event_id: new_id(),
        timestamp,
        platform: "web".into(),
        session_id: "session-1".into(),
        user_id: user.map(str::to_owned),
        event_type: kind.into(),
        event_name: name.into(),
        context: [("page".to_owned(), "/start".to_owned())].into(),
        properties: [("plan".to_owned(), "free \"trial\"".to_owned())].into(),
        body: Some(body),
        ..Event::default()
    }
}

pub fn click(user: &str, action: &str) -> Event {
    let properties = InteractionProperties {
        screen_name: "home".into(),
        action: action.into(),
        ..InteractionProperties::default()
    };
    let body = UserInteraction { properties: Some(properties), ..UserInteraction::default() };
    event(EventType::UserInteraction, action, Some(user), Body::UserInteraction(body))
}

pub fn log(service: &str, level: LogLevel, message: &str) -> Event {
    let body =
        Log { service: service.into(), level: level.into(), message: message.into(), ..Log::default() };
    event(EventType::Log, "log", None, Body::Log(body))
}

pub fn span(service: &str, trace: u8, duration_ms: f64) -> Event {
    let body = TraceSpan {
        trace_id: vec![trace; 16],
        span_id: vec![trace; 8],
        service: service.into(),
        operation: "GET /orders/{id}".into(),
        start_time: NOW.unix_ns,
        end_time: NOW.unix_ns + 1_500_000,
        duration_ms: Some(duration_ms),
        status: SpanStatus::Success.into(),
        ..TraceSpan::default()
    };
    event(EventType::TraceSpan, "span", None, Body::TraceSpan(body))
}

pub fn metric(service: &str, name: &str, value: f64) -> Event {
    let body = ApplicationMetric {
        service: service.into(),
        name: name.into(),
        metric_type: MetricType::Gauge.into(),
        value: Some(value),
        ..ApplicationMetric::default()
    };
    event(EventType::ApplicationMetric, name, None, Body::ApplicationMetric(body))
}

pub fn video(user: &str, startup_ms: f64) -> Event {
    let body = Video {
        video_id: "film-7".into(),
        event_name: VideoEventName::Start.into(),
        measurements: Some(VideoMeasurements {
            startup_time: Some(startup_ms),
            ..VideoMeasurements::default()
        }),
        ..Video::default()
    };
    event(EventType::Video, "video_started", Some(user), Body::Video(body))
}

pub fn performance(user: &str, values: &[(&str, f64)]) -> Event {
    let measurements = values.iter().map(|(name, value)| Measurement {
        name: (*name).into(),
        value: Some(*value),
        unit: "ms".into(),
    });
    let body = Performance {
        category: PerformanceCategory::Network.into(),
        measurements: measurements.collect(),
        ..Performance::default()
    };
    event(EventType::Performance, "performance", Some(user), Body::Performance(body))
}

pub fn replay_chunk(sequence: u32) -> Event {
    let body = ReplayChunk {
        replay_id: "replay-1".into(),
        sequence,
        start_time: NOW.unix_ns,
        end_time: NOW.unix_ns + 1,
        format: "rrweb/2".into(),
        ..ReplayChunk::default()
    };
    event(EventType::ReplayChunk, "replay", Some("ada"), Body::ReplayChunk(body))
}

pub fn dead_letter(event: &Event) -> DeadLetter {
    DeadLetter {
        index: 3,
        code: "FIELD_TOO_LONG".into(),
        message: "log.message has 16,385 bytes".into(),
        event: Some(event.encode_to_vec()),
    }
}
