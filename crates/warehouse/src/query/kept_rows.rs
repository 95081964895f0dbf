//! Rows of the journals' newest events, kept from query to query: each event becomes a row once, and stays one until the
//! tables have it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use datafusion::arrow::array::{AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::{concat_batches, filter_record_batch};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::error::ArrowError;

use super::journal_place::JournalPlace;
use crate::dedup::{Dedup, DedupError, EventId};
use crate::events::rows::as_stored;
use crate::events::{Rows, schema, text};
use crate::hash::HashSet;
use crate::loader::positions::Watermarks;
use crate::loader::source::Journals;
use crate::loader::suppression::Suppression;
use crate::loader::{LoadError, admission};

/// Most events that are kept. A loader that is further behind is named in the answer's `as_of`.
const EVENTS_MAX: usize = 250_000;
/// Most text that is kept, bytes.
const BYTES_MAX: usize = 128 << 20;
/// Rows of a batch to which no more are added.
const BATCH_ROWS: usize = 8192;

/// Rows above the watermarks of a version, and what reads those that come.
#[derive(Debug)]
pub struct KeptRows {
    journals: Journals,
    rows: Rows,
    /// Ids of the rows.
    ids: HashSet<EventId>,
    batches: Vec<RecordBatch>,
    /// Text of the rows, bytes, about.
    text_bytes: usize,
    /// Watermarks and version of the ids, above which the rows are.
    loaded: Watermarks,
    version: u64,
    /// Version of the list of erased identifiers that the rows respect.
    suppression: u64,
    places: BTreeMap<[u8; 16], JournalPlace>,
    /// True if more events were there than may be kept.
    is_behind: bool,
}

impl KeptRows {
    /// No rows yet, above the watermarks of the version whose ids are known.
    ///
    /// # Errors
    /// If there is no journal in a directory, or it can't be listed.
    pub fn new(
        directories: &[PathBuf],
        loaded: &Watermarks,
        dedup: &Dedup,
        suppression: &Suppression,
        rows: Rows,
    ) -> Result<Self, LoadError> {
        let journals = Journals::open(directories, &loaded.list(), &[])?;
        let places = loaded
            .positions
            .iter()
            .map(|(id, position)| (*id, JournalPlace::new(position.journal.to_string(), position.sequence)));
        Ok(Self {
            journals,
            rows,
            ids: HashSet::default(),
            batches: Vec::new(),
            text_bytes: 0,
            loaded: loaded.clone(),
            version: dedup.version(),
            suppression: suppression.version(),
            places: places.collect(),
            is_behind: false,
        })
    }

    /// Gives up the rows that another version has. `None` if those that are left can't be known: then all are to be read
    /// again.
    ///
    /// # Errors
    /// If an id file can't be read.
    pub fn above(
        mut self,
        loaded: &Watermarks,
        dedup: &Dedup,
        suppression: &Suppression,
    ) -> Result<Option<Self>, LoadError> {
        if suppression.version() != self.suppression {
            return Ok(None);
        }
        if dedup.version() == self.version && *loaded == self.loaded {
            return Ok(Some(self));
        }
        // Journals are read on from where they are: behind a watermark, much would be read in vain.
        let is_ahead = loaded.positions.iter().all(|(id, position)| {
            self.places.get(id).is_some_and(|place| place.sequence >= position.sequence)
        });
        let is_newer = self.loaded.positions.iter().all(|(id, before)| {
            loaded.positions.get(id).is_some_and(|position| position.sequence >= before.sequence)
        });
        if !is_ahead || !is_newer || dedup.version() < self.version {
            return Ok(None);
        }
        let watermarks: HashMap<String, i64> = loaded
            .positions
            .values()
            .map(|position| (position.journal.to_string(), position.sequence as i64))
            .collect();
        let before = self.events();
        self.ids.clear();
        for batch in std::mem::take(&mut self.batches) {
            let mask = is_new(&batch, &watermarks, dedup, &mut self.ids)?;
            let left = match mask.true_count() {
                0 => continue,
                count if count == batch.num_rows() => batch,
                _ => filter_record_batch(&batch, &mask).map_err(columns)?,
            };
            self.batches.push(left);
        }
        self.text_bytes = self.text_bytes * self.events() / before.max(1);
        self.loaded = loaded.clone();
        self.version = dedup.version();
        Ok(Some(self))
    }

    /// Reads what has come.
    ///
    /// # Errors
    /// If a journal or an id file can't be read.
    pub fn read(
        &mut self,
        dedup: &Dedup,
        suppression: &mut Suppression,
        now_ns: u64,
    ) -> Result<(), LoadError> {
        self.journals.rescan()?;
        self.rows.begin(now_ns);
        let events = self.events();
        loop {
            self.is_behind = events + self.rows.len() >= EVENTS_MAX
                || self.text_bytes + self.rows.text_bytes() >= BYTES_MAX;
            // Whether more is there isn't known then.
            if self.is_behind {
                break;
            }
            let Some(batch) = self.journals.next_batch()? else { break };
            let (journal, sequence) = (batch.position.journal, batch.position.sequence);
            let records = batch.records().map(|record| (record.sequence, record.payload));
            let others = HashSet::default();
            admission::take(journal, records, &mut self.rows, dedup, &others, &mut self.ids, suppression)?;
            let place = JournalPlace::new(journal.to_string(), sequence);
            self.places.insert(journal.0, place);
        }
        self.text_bytes += self.rows.text_bytes();
        self.add_rows()
    }

    fn add_rows(&mut self) -> Result<(), LoadError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut added = Vec::new();
        // Batches that are small grow, so that a query has few of them.
        if self.batches.last().is_some_and(|last| last.num_rows() < BATCH_ROWS) {
            added.extend(self.batches.pop());
        }
        for (key, rows) in self.rows.take()? {
            added.push(as_stored(&rows, &key).map_err(columns)?);
        }
        self.batches.push(concat_batches(&schema(), &added).map_err(columns)?);
        Ok(())
    }

    /// The rows, with all columns of the table.
    pub fn batches(&self) -> Vec<RecordBatch> {
        self.batches.clone()
    }

    /// Last sequences that the rows reach.
    pub fn places(&self) -> Vec<JournalPlace> {
        let is_behind = self.is_behind;
        self.places.values().map(|place| JournalPlace { is_behind, ..place.clone() }).collect()
    }

    fn events(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// Rows that are above the watermarks of their journals, and whose ids no table has; these ids are added to `ids`.
fn is_new(
    rows: &RecordBatch,
    watermarks: &HashMap<String, i64>,
    dedup: &Dedup,
    ids: &mut HashSet<EventId>,
) -> Result<BooleanArray, DedupError> {
    let column = |name: &str| rows.column_by_name(name).expect("all rows have the columns of the table");
    let texts = |name: &str| column(name).as_string::<i32>();
    let (journals, event_ids) = (texts("journal"), texts("event_id"));
    let sequences = column("sequence").as_primitive::<Int64Type>().values();
    let (mut journal, mut watermark) = ("", None);
    let mut mask = Vec::with_capacity(rows.num_rows());
    for (row, sequence) in sequences.iter().enumerate() {
        if journals.value(row) != journal {
            journal = journals.value(row);
            watermark = watermarks.get(journal);
        }
        let is_above = watermark.is_none_or(|watermark| sequence > watermark);
        let id = text::parse_uuid(event_ids.value(row).as_bytes()).unwrap_or_default();
        let is_new = is_above && !dedup.contains(&id)?;
        if is_new {
            ids.insert(id);
        }
        mask.push(is_new);
    }
    Ok(mask.into())
}

fn columns(error: ArrowError) -> LoadError {
    LoadError::Rows(error.into())
}
