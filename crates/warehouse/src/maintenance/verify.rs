//! Compares the tables with the journals: each event that was acknowledged is a row, once.

use std::path::PathBuf;

use deltalake::DeltaTable;
use deltalake::logstore::object_store::ObjectStoreExt;
use deltalake::logstore::object_store::path::Path as StorePath;
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::MaintenanceError;
use super::rewrite::{self, FileOf};
use crate::aggregates;
use crate::dedup::EventId;
use crate::derived::DERIVED;
use crate::events::enrichment::Geo;
use crate::events::rows::{Filter, Origin};
use crate::events::{DEAD_LETTER, Rows};
use crate::hash::HashMap;
use crate::loader::positions::Watermarks;
use crate::loader::source::Journals;
use crate::loader::suppression::{Subject, Suppression};
use crate::loader::{LoadError, ids, shared_list};
use crate::store::{Secret, Tables};

/// Ids that are compared at a time, at most about: 16 bytes each, and as much again for the counts.
const IDS_MAX: u64 = 4_000_000;

/// Result of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Version of the table.
    pub version: u64,
    /// Rows of the table, dead letters too.
    pub rows: u64,
    /// Records of the journals that were compared.
    pub records: u64,
    /// Distinct ids in these records, without those of erased users and sessions.
    pub events: u64,
    /// Ids of the journals that are no row.
    pub missing: u64,
    /// Rows beyond the first of an id.
    pub doubled: u64,
    /// Rows of erased identifiers that are still there.
    pub unerased: u64,
    /// Files of the table that can't be read. Rows aren't compared then.
    pub damaged: Vec<String>,
    /// The first ids that are missing or doubled.
    pub examples: Vec<String>,
}

impl Report {
    /// True if tables and journals agree.
    pub fn is_right(&self) -> bool {
        self.missing == 0 && self.doubled == 0 && self.unerased == 0 && self.damaged.is_empty()
    }
}

/// Compares the newest version with the journals in `directories`, up to its watermarks.
///
/// # Errors
/// If tables or journals can't be read.
pub async fn verify(tables: &Tables, directories: &[PathBuf]) -> Result<Report, MaintenanceError> {
    let table = tables.open().await?;
    let secret = Secret::open_or_create(tables.state())?;
    shared_list::pull(tables).await?;
    let mut suppression = Suppression::open(tables.state(), &secret.suppression_key())?;
    let files = rewrite::files(&table)?;
    let rows = files.iter().map(|file| file.rows).sum();
    let mut report = Report { version: table.version().unwrap_or_default(), rows, ..Report::default() };
    for file in &files {
        if let Err(reason) = read_whole(&table, file).await {
            report.damaged.push(format!("{}: {reason}", file.add.path));
        }
    }
    if !report.damaged.is_empty() {
        return Ok(report);
    }
    let loaded = Watermarks::read(&table).await?;
    let passes = (rows / IDS_MAX + 1).min(256) as u8;
    for pass in 0..passes {
        let mut found: HashMap<EventId, u32> = HashMap::default();
        for file in &files {
            let of_file = ids::of_file(&table, &file.add.path).await?;
            for id in of_file.into_iter().filter(|id| id[15] % passes == pass) {
                *found.entry(id).or_default() += 1;
            }
        }
        for (id, times) in &found {
            if *times > 1 {
                report.doubled += u64::from(*times - 1);
                report.example("twice in the table", id);
            }
        }
        let mut seen = Seen {
            found,
            passes,
            pass,
            suppression: &mut suppression,
            report: &mut report,
            maybe_missing: None,
        };
        read_journals(directories, &loaded, &secret, &mut seen)?;
    }
    Ok(report)
}

/// Reads every value of a file.
async fn read_whole(table: &DeltaTable, file: &FileOf) -> Result<(), String> {
    let path = StorePath::parse(&file.add.path).map_err(|error| error.to_string())?;
    let found = table.object_store().get(&path).await.map_err(|error| error.to_string())?;
    let bytes = found.bytes().await.map_err(|error| error.to_string())?;
    let mut rows = 0;
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|builder| builder.build());
    for batch in reader.map_err(|error| error.to_string())? {
        rows += batch.map_err(|error| error.to_string())?.num_rows() as u64;
    }
    if rows == file.rows { Ok(()) } else { Err(format!("{rows} rows instead of {}", file.rows)) }
}

impl Report {
    fn example(&mut self, what: &str, id: &EventId) {
        const EXAMPLES_MAX: usize = 10;
        if self.examples.len() < EXAMPLES_MAX {
            let id = String::from_utf8_lossy(&crate::events::text::uuid_text(id)).into_owned();
            self.examples.push(format!("{id} is {what}"));
        }
    }
}

/// Ids of one pass.
struct Seen<'a> {
    /// Rows of each id; the upper bit is set once the journals have it, too.
    found: HashMap<EventId, u32>,
    passes: u8,
    pass: u8,
    suppression: &'a mut Suppression,
    report: &'a mut Report,
    /// An event that isn't in the table, while its JSON is made.
    maybe_missing: Option<EventId>,
}

const IN_JOURNALS: u32 = 1 << 31;

impl Filter for Seen<'_> {
    fn admits(&mut self, id: &EventId, user: &[u8], session: &[u8]) -> bool {
        if id[15] % self.passes != self.pass {
            return false;
        }
        let is_erased = self.suppression.contains(Subject::User, user)
            || self.suppression.contains(Subject::Session, session);
        match self.found.get_mut(id) {
            Some(_) if is_erased => self.report.unerased += 1,
            None if is_erased => {}
            Some(times) => {
                self.report.events += u64::from(*times & IN_JOURNALS == 0);
                *times |= IN_JOURNALS;
            }
            // Its JSON says whether it was erased because it mentions an identifier.
            None => {
                self.maybe_missing = Some(*id);
                return true;
            }
        }
        false
    }

    fn admits_json(&mut self, json: &[u8]) -> bool {
        let Some(id) = self.maybe_missing.take() else { return false };
        if !self.suppression.is_mentioned(json) {
            self.report.events += 1;
            self.report.missing += 1;
            self.report.example("in a journal and not in the table", &id);
            // Counted once, also if it comes again.
            self.found.insert(id, IN_JOURNALS);
        }
        // No row is made.
        false
    }
}

/// Reads all records that are there, up to the watermarks.
fn read_journals(
    directories: &[PathBuf],
    loaded: &Watermarks,
    secret: &Secret,
    seen: &mut Seen<'_>,
) -> Result<(), LoadError> {
    let mut journals = Journals::open(directories, &[], &[])?;
    let mut rows = Rows::new(secret.namespace(), Geo::default(), 0);
    while let Some(batch) = journals.next_batch()? {
        let id = batch.position.journal;
        let watermark = loaded.positions.get(&id.0).map_or(0, |position| position.sequence);
        let journal = id.to_string();
        for record in batch.records().take_while(|record| record.sequence <= watermark) {
            let origin = Origin { journal: &journal, journal_id: id.0, sequence: record.sequence };
            rows.push_record(&origin, record.payload, seen)?;
            seen.report.records += u64::from(seen.pass == 0);
        }
    }
    Ok(())
}

/// Kinds of rows by their number, as the log says: for `tables`.
///
/// # Errors
/// If the log can't be read.
pub fn kinds(table: &DeltaTable) -> Result<Vec<(String, u64, u64, u64)>, MaintenanceError> {
    let mut kinds: std::collections::BTreeMap<String, (u64, u64, u64)> = std::collections::BTreeMap::new();
    for file in rewrite::files(table)? {
        let name = if file.key.event_type == DEAD_LETTER {
            "(dead letters)".to_owned()
        } else {
            file.key.event_type
        };
        let kind = kinds.entry(name).or_default();
        kind.0 += file.rows;
        kind.1 += 1;
        kind.2 += file.add.size as u64;
    }
    Ok(kinds.into_iter().map(|(name, (rows, files, bytes))| (name, rows, files, bytes)).collect())
}

/// Tables that are derived from events: name, rows, files, bytes. Those that weren't computed yet aren't there.
///
/// # Errors
/// If a log can't be read.
pub async fn derived(tables: &Tables) -> Result<Vec<(&'static str, u64, u64, u64)>, MaintenanceError> {
    let mut found = Vec::new();
    for name in std::iter::once(aggregates::NAME).chain(DERIVED.iter().map(|derived| derived.name)) {
        let Some(table) = tables.open_named(name).await? else { continue };
        let files = rewrite::files(&table)?;
        let rows = files.iter().map(|file| file.rows).sum();
        let bytes = files.iter().map(|file| file.add.size as u64).sum();
        found.push((name, rows, files.len() as u64, bytes));
    }
    Ok(found)
}
