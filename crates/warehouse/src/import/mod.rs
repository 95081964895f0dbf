//! Import of events from elsewhere: Parquet, CSV, JSON lines, cost exports, findings of scanners.
//!
//! What is imported gets the same checks as what is published, and comes into the same table by commits of its own. Events
//! without an id get one of their place in the content: the same file is imported once, however often it is given.

pub mod cloudwatch;
mod map;
mod read;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltalake::DeltaTable;
use ring::digest;
use serde_json::Value;
use tickstream_journal::JournalId;
use tickstream_schema::events::{Event, Message, StoredBatch};
use tickstream_schema::validate::{Clocks, validate};
use tickstream_schema::{Plan, json};

use crate::dedup::{Dedup, EventId, Sizes};
use crate::events::Rows;
use crate::events::enrichment::Geo;
use crate::hash::HashSet;
use crate::loader::positions::{Watermarks, to_numbers};
use crate::loader::suppression::Suppression;
use crate::loader::{LoadError, admission, ids, log_error, now_ns, shared_list};
use crate::store::commit::{Changes, CommitError};
use crate::store::parquet::FileBuilder;
use crate::store::{Secret, Tables, commit};

pub use cloudwatch::CloudWatchError;
pub use read::ReadError;

/// Events of one commit.
const BATCH_EVENTS: usize = 50_000;
/// Commits of one batch that are tried.
const ATTEMPTS: u32 = 16;
/// Rejected events that are named.
const EXAMPLES_MAX: usize = 10;

/// Kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A JSON object a line: events as `tickstream publish` takes them, or objects with columns.
    Json,
    /// CSV with a header.
    Csv,
    /// Parquet.
    Parquet,
    /// FOCUS cost and usage, CSV or Parquet.
    Focus,
    /// Spend on advertisements, CSV: date, campaign, cost, currency, impressions, clicks.
    AdSpend,
    /// Results of a scanner, SARIF 2.1.
    Sarif,
    /// Vulnerabilities of a bill of materials, CycloneDX JSON.
    CycloneDx,
    /// TOML file that names metrics of Amazon CloudWatch.
    CloudWatch,
}

impl std::str::FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "json" => Self::Json,
            "csv" => Self::Csv,
            "parquet" => Self::Parquet,
            "focus" => Self::Focus,
            "ad-spend" => Self::AdSpend,
            "sarif" => Self::Sarif,
            "cyclonedx" => Self::CycloneDx,
            "cloudwatch" => Self::CloudWatch,
            _ => {
                return Err(format!(
                    "no format {text:?}; there are json, csv, parquet, focus, ad-spend, sarif, cyclonedx and cloudwatch"
                ));
            }
        })
    }
}

/// An import that can't go on. What was committed stays, and isn't imported again.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// CloudWatch doesn't answer.
    #[error(transparent)]
    CloudWatch(#[from] CloudWatchError),
    /// The tables can't be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Others commit all the time.
    #[error("others committed first {attempts} times")]
    Outpaced {
        /// Number of attempts.
        attempts: u32,
    },
}

/// Numbers of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Events that came into the tables.
    pub imported: u64,
    /// Events that were there already.
    pub duplicates: u64,
    /// Events that name an erased identifier.
    pub suppressed: u64,
    /// Objects that are no valid events.
    pub rejected: u64,
    /// The first of them, with reasons.
    pub examples: Vec<String>,
}

/// Imports a file.
///
/// # Errors
/// [`ImportError`]; objects that are no events are counted, and end nothing.
pub async fn import(tables: &Tables, form: Form, path: &Path) -> Result<Report, ImportError> {
    if form == Form::CloudWatch {
        return import_cloudwatch(tables, path).await;
    }
    let mut importer = Importer::open(tables, Geo::default()).await?;
    let origin = read::digest_of(path)?;
    let mut batch = Vec::with_capacity(BATCH_EVENTS);
    for (index, object) in read::objects(form, path)?.enumerate() {
        let object = object?;
        match event(map::event(form, object), &origin, index as u64) {
            Ok(event) => batch.push(event),
            Err(reason) => importer.report.reject(index, &reason),
        }
        if batch.len() == BATCH_EVENTS {
            importer.commit(std::mem::take(&mut batch), &origin, index as u64).await?;
        }
    }
    importer.commit(batch, &origin, u64::MAX >> 1).await?;
    Ok(importer.report)
}

/// Imports the points of metrics that a file names. Each is imported once, whatever times overlap.
async fn import_cloudwatch(tables: &Tables, path: &Path) -> Result<Report, ImportError> {
    let mut source = cloudwatch::Source::open(path, now_ns())?;
    let mut importer = Importer::open(tables, Geo::default()).await?;
    let (mut index, mut page) = (0, 0);
    while let Some(points) = source.next_page().await? {
        let mut batch = Vec::with_capacity(points.len());
        for point in points {
            match event(Ok(point), cloudwatch::ORIGIN, index) {
                Ok(event) => batch.push(event),
                Err(reason) => importer.report.reject(index as usize, &reason),
            }
            index += 1;
        }
        page += 1;
        importer.commit(batch, cloudwatch::ORIGIN, page).await?;
    }
    Ok(importer.report)
}

/// Imports events that a program made. `origin` names them in the column `journal`.
///
/// # Errors
/// [`ImportError`].
pub async fn import_events(
    tables: &Tables,
    events: impl Iterator<Item = Event>,
    origin: [u8; 16],
) -> Result<Report, ImportError> {
    import_events_with(tables, events, origin, Geo::default()).await
}

/// As [`import_events`], with places of addresses.
///
/// # Errors
/// [`ImportError`].
pub async fn import_events_with(
    tables: &Tables,
    events: impl Iterator<Item = Event>,
    origin: [u8; 16],
    geo: Geo,
) -> Result<Report, ImportError> {
    let mut importer = Importer::open(tables, geo).await?;
    let mut batch = Vec::with_capacity(BATCH_EVENTS);
    let mut sequence = 0;
    for event in events {
        batch.push(event);
        if batch.len() == BATCH_EVENTS {
            sequence += 1;
            importer.commit(std::mem::take(&mut batch), &origin, sequence).await?;
        }
    }
    importer.commit(batch, &origin, sequence + 1).await?;
    Ok(importer.report)
}

impl Report {
    fn reject(&mut self, index: usize, reason: &str) {
        self.rejected += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("object {}: {reason}", index + 1));
        }
    }
}

/// A checked event of an object.
fn event(object: Result<Value, String>, origin: &[u8; 16], index: u64) -> Result<Event, String> {
    let text = object?.to_string();
    let mut event = json::parse_event(&text).map_err(|error| error.to_string())?;
    if event.event_id.is_empty() {
        event.event_id = id_of(origin, index).to_vec();
    }
    // History is as old as it is: only the rules of fields count.
    let clocks = Clocks { now_ns: event.timestamp, age_ns_max: u64::MAX, ahead_ns_max: u64::MAX };
    static PLAN: std::sync::LazyLock<Arc<Plan>> =
        std::sync::LazyLock::new(|| Arc::new(Plan::new(&[]).expect("no rule is wrong")));
    validate(&PLAN, &event.encode_to_vec(), clocks).map_err(|rejection| format!("{rejection:?}"))?;
    Ok(event)
}

/// Id of the object at a place in a content.
fn id_of(origin: &[u8; 16], index: u64) -> EventId {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(b"tickstream import");
    hash.update(origin);
    hash.update(&index.to_be_bytes());
    let mut id: EventId = hash.finish().as_ref()[..16].try_into().expect("SHA-256 has 32 bytes");
    // RFC 9562, section 5.8.
    id[6] = id[6] & 0x0F | 0x80;
    id[8] = id[8] & 0x3F | 0x80;
    id
}

struct Importer {
    table: DeltaTable,
    rows: Rows,
    dedup: Dedup,
    suppression: Suppression,
    report: Report,
}

impl Importer {
    async fn open(tables: &Tables, geo: Geo) -> Result<Self, ImportError> {
        let secret = Secret::open_or_create(tables.state()).map_err(LoadError::from)?;
        shared_list::pull(tables).await.map_err(LoadError::from)?;
        let suppression =
            Suppression::open(tables.state(), &secret.suppression_key()).map_err(LoadError::from)?;
        let mut table = tables.open_or_create().await.map_err(LoadError::from)?;
        let directory = tables.state().join("ids");
        let mut dedup = Dedup::open_to_read(&directory, Sizes::default()).map_err(LoadError::from)?;
        let version = table.version().unwrap_or_default();
        let known = match dedup.covered() {
            Some(covered) => ids::of_versions(&mut table, covered + 1, version).await?,
            None => None,
        };
        match known {
            Some(known) => dedup.insert(known, version),
            None => ids::read_into_memory(&table, &mut dedup).await?,
        }
        let rows = Rows::new(secret.namespace(), geo, now_ns());
        Ok(Self { table, rows, dedup, suppression, report: Report::default() })
    }

    async fn commit(
        &mut self,
        events: Vec<Event>,
        origin: &[u8; 16],
        sequence: u64,
    ) -> Result<(), ImportError> {
        if events.is_empty() {
            return Ok(());
        }
        let batch = StoredBatch {
            receive_time_ns: now_ns(),
            user: "import".to_owned(),
            events,
            ..StoredBatch::default()
        };
        let payload = batch.encode_to_vec();
        for _ in 0..ATTEMPTS {
            if self.attempt(&payload, origin, sequence).await? {
                return Ok(());
            }
            let before = self.table.version().unwrap_or_default();
            self.table.update_state().await.map_err(log_error).map_err(ImportError::from)?;
            let version = self.table.version().unwrap_or_default();
            let others = ids::of_versions(&mut self.table, before + 1, version).await?;
            match others {
                Some(others) => self.dedup.insert(others, version),
                None => ids::read_into_memory(&self.table, &mut self.dedup).await?,
            }
            self.suppression.reload().map_err(LoadError::from)?;
        }
        Err(ImportError::Outpaced { attempts: ATTEMPTS })
    }

    /// Commits a batch on top of the version whose ids are known; false if there is a newer one.
    async fn attempt(
        &mut self,
        payload: &[u8],
        origin: &[u8; 16],
        sequence: u64,
    ) -> Result<bool, ImportError> {
        let mut pending = HashSet::default();
        self.rows.begin(now_ns());
        let (duplicates, suppressed) = admission::take(
            JournalId(*origin),
            [(sequence, payload)],
            &mut self.rows,
            &self.dedup,
            &HashSet::default(),
            &mut pending,
            &mut self.suppression,
        )?;
        let rows = self.rows.len() as u64;
        let store = self.table.object_store();
        let mut adds = Vec::new();
        for (key, rows) in self.rows.take().map_err(LoadError::from)? {
            let mut file = FileBuilder::of_new_rows(key).map_err(LoadError::from)?;
            file.push(&rows).map_err(LoadError::from)?;
            let file = file.finish().map_err(LoadError::from)?;
            adds.push(file.store(&store, true).await.map_err(LoadError::from)?);
        }
        if rows > 0 {
            let respected = Watermarks::read(&self.table).await?.suppression;
            if respected > self.suppression.version() {
                return Err(LoadError::OldList { table: respected, list: self.suppression.version() }.into());
            }
            let numbers = to_numbers(std::iter::empty(), self.suppression.version());
            match commit(&mut self.table, Changes { adds, removes: Vec::new(), numbers }, "import").await {
                Ok(committed) => self.dedup.insert(pending.drain(), committed.version),
                Err(CommitError::Conflict { .. }) => return Ok(false),
                Err(error) => return Err(LoadError::from(error).into()),
            }
        }
        self.report.imported += rows;
        self.report.duplicates += duplicates;
        self.report.suppressed += suppressed;
        Ok(true)
    }
}

/// Path of a file that can't be read, for errors.
fn owned(path: &Path) -> PathBuf {
    path.to_owned()
}
