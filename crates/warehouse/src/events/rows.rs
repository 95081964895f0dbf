//! Rows of `events`, collected by kind until they are taken as Arrow batches.

use std::collections::BTreeMap;

use deltalake::arrow::array::RecordBatch;
use deltalake::arrow::error::ArrowError;
use ring::digest;

use super::arrays::Columns;
use super::columns::DEAD_LETTER;
use super::descriptor::{Schema, enum_name};
use super::enrichment::{self, Enrichment, Geo};
use super::envelope::{Batch, Envelope, Letter, number};
use super::identifiers::{Identifiers, Namespace};
use super::json::{Entries, Writer};
pub use super::place::{Origin, PartitionKey};
use super::protobuf::{Entry, Fields, Invalid, Value};
use super::text;

/// Bytes of text in one batch of a kind: far below what 32-bit offsets reach.
const BATCH_BYTES_MAX: usize = 512 << 20;

/// A record that can't become rows.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The record isn't a stored batch.
    #[error(
        "record {sequence} of journal {journal} can't be read; run `tickstream events verify` on its directory"
    )]
    Record {
        /// Journal of the record.
        journal: String,
        /// Sequence of the record.
        sequence: u64,
        /// Place of the invalid bytes.
        source: Invalid,
    },
    /// Columns don't fit together.
    #[error("making columns of events")]
    Columns(#[from] ArrowError),
}

/// Decision about an event before it becomes a row.
pub trait Filter {
    /// True if the event becomes a row. `user` and `session` are empty where the event has none.
    fn admits(&mut self, event_id: &[u8; 16], user: &[u8], session: &[u8]) -> bool;

    /// True if an event that was admitted so far stays, now that its JSON is known.
    fn admits_json(&mut self, _json: &[u8]) -> bool {
        true
    }
}

/// Rows by kind.
#[derive(Debug)]
pub struct Rows {
    kinds: BTreeMap<String, Columns>,
    identifiers: Identifiers,
    enrichment: Enrichment,
    writer: Writer,
    json: Vec<u8>,
    /// Date of loading, `2026-11-28`, and its time, microseconds since 1970.
    load_date: String,
    processed_us: i64,
    rows: usize,
    bytes: usize,
}

impl Rows {
    /// No rows. `now_ns` is the time of loading, nanoseconds since 1970.
    pub fn new(namespace: Namespace, geo: Geo, now_ns: u64) -> Self {
        let mut rows = Self {
            kinds: BTreeMap::new(),
            identifiers: Identifiers::new(namespace),
            enrichment: Enrichment::new(geo),
            writer: Writer::default(),
            json: Vec::new(),
            load_date: String::new(),
            processed_us: 0,
            rows: 0,
            bytes: 0,
        };
        rows.begin(now_ns);
        rows
    }

    /// Sets the time of loading for the rows to come.
    pub fn begin(&mut self, now_ns: u64) {
        self.processed_us = (now_ns / 1000) as i64;
        self.load_date = text::date((now_ns / 86_400_000_000_000) as i64);
    }

    /// Rows that are waiting.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// True if none are waiting.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes of text of the waiting rows.
    pub fn text_bytes(&self) -> usize {
        self.bytes
    }

    /// True if the waiting rows must be taken before more come.
    pub fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES_MAX
    }

    /// Adds the events and dead letters of a record, those that `filter` admits.
    ///
    /// # Errors
    /// [`RowsError::Record`] if the bytes are no stored batch.
    pub fn push_record(
        &mut self,
        origin: &Origin<'_>,
        payload: &[u8],
        filter: &mut impl Filter,
    ) -> Result<(), RowsError> {
        self.record(origin, payload, filter).map_err(|source| RowsError::Record {
            journal: origin.journal.to_owned(),
            sequence: origin.sequence,
            source,
        })
    }

    fn record(
        &mut self,
        origin: &Origin<'_>,
        payload: &[u8],
        filter: &mut impl Filter,
    ) -> Result<(), Invalid> {
        let batch = Batch::of(payload)?;
        let mut index = 0;
        for entry in Fields::of(payload) {
            match entry? {
                Entry { number: number::BATCH_EVENTS, value: Value::Bytes(event), .. } => {
                    self.event(origin, &batch, index, event, filter)?;
                    index += 1;
                }
                Entry { number: number::BATCH_DEAD_LETTERS, value: Value::Bytes(letter), .. } => {
                    self.dead_letter(origin, &batch, letter, filter)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn event(
        &mut self,
        origin: &Origin<'_>,
        batch: &Batch<'_>,
        index: i32,
        event: &[u8],
        filter: &mut impl Filter,
    ) -> Result<(), Invalid> {
        let mut entries = Entries::default();
        let sorted;
        let entries = if entries.read(event)? {
            entries.as_slice()
        } else {
            let mut all = Fields::of(event).collect::<Result<Vec<_>, _>>()?;
            all.sort_by_key(|entry| entry.number);
            sorted = all;
            &sorted
        };
        let envelope = Envelope::of(entries);
        if !filter.admits(&envelope.event_id, envelope.user, envelope.session) {
            return Ok(());
        }
        self.json.clear();
        self.writer.begin();
        let parts = self.write_event(entries)?;
        if !filter.admits_json(&self.json) {
            return Ok(());
        }
        let mut other_kind = String::new();
        let kind = match kind_name(envelope.event_type) {
            Some(kind) => kind,
            None => {
                other_kind.push_str(&envelope.event_type.to_string());
                &other_kind
            }
        };
        let enriched = self.enrichment.of(entries);
        let columns = columns_of(&mut self.kinds, &self.load_date, kind);
        let identifiers = &mut self.identifiers;
        columns.event_id.push_valid(&text::uuid_text(&envelope.event_id));
        columns.envelope(&envelope, identifiers);
        columns
            .properties
            .push_valid(parts.properties.map_or(&b"{}"[..], |(start, end)| &self.json[start..end]));
        columns.context.push_valid(parts.context.map_or(&b"{}"[..], |(start, end)| &self.json[start..end]));
        columns.raw_data.push_valid(&self.json);
        columns.enriched(&enriched);
        columns.promoted(&self.writer, &self.json);
        columns.origin(origin, batch, index, self.processed_us);
        self.count();
        Ok(())
    }

    /// Writes the event's JSON, and says where properties and context stand in it.
    fn write_event(&mut self, entries: &[Entry<'_>]) -> Result<Parts, Invalid> {
        let schema = Schema::get();
        let mut parts = Parts::default();
        self.writer.object(schema.event, entries, &mut self.json, &mut |field, range| match field {
            number::PROPERTIES => parts.properties = Some(range),
            number::CONTEXT => parts.context = Some(range),
            _ => {}
        })?;
        Ok(parts)
    }

    fn dead_letter(
        &mut self,
        origin: &Origin<'_>,
        batch: &Batch<'_>,
        letter: &[u8],
        filter: &mut impl Filter,
    ) -> Result<(), Invalid> {
        let letter = Letter::of(letter)?;
        let event_id = dead_letter_id(origin, letter.index);
        let mut entries = letter.event.map(|event| Fields::of(event).collect::<Result<Vec<_>, _>>());
        // An event that can't be read has only its bytes, as Base64.
        let entries = entries.as_mut().and_then(|entries| entries.as_mut().ok()).map(|entries| {
            entries.sort_by_key(|entry| entry.number);
            &*entries
        });
        let mut envelope = Envelope::of(entries.map_or(&[], Vec::as_slice));
        if !filter.admits(&event_id, envelope.user, envelope.session) {
            return Ok(());
        }
        if envelope.timestamp_ns == 0 || i64::try_from(envelope.timestamp_ns).is_err() {
            envelope.timestamp_ns = batch.receive_time_ns;
        }
        self.json.clear();
        self.writer.begin();
        letter.write(entries.map(Vec::as_slice), &mut self.writer, &mut self.json);
        if !filter.admits_json(&self.json) {
            return Ok(());
        }
        let columns = columns_of(&mut self.kinds, &self.load_date, DEAD_LETTER);
        columns.event_id.push_valid(&text::uuid_text(&event_id));
        columns.envelope(&envelope, &mut self.identifiers);
        columns.properties.push_valid(b"{}");
        columns.context.push_valid(b"{}");
        columns.raw_data.push_valid(&self.json);
        self.writer.begin();
        columns.enriched(&enrichment::Values::default());
        columns.promoted(&self.writer, &self.json);
        columns.origin(origin, batch, i32::try_from(letter.index).unwrap_or(i32::MAX), self.processed_us);
        self.count();
        Ok(())
    }

    fn count(&mut self) {
        self.rows += 1;
        self.bytes += self.json.len() * 2 + 128;
    }

    /// Takes the waiting rows: by load date and kind, as the partition's key has them.
    ///
    /// # Errors
    /// [`RowsError::Columns`] if they don't fit together.
    pub fn take(&mut self) -> Result<Vec<(PartitionKey, RecordBatch)>, RowsError> {
        self.rows = 0;
        self.bytes = 0;
        let kinds = std::mem::take(&mut self.kinds);
        let mut batches = Vec::with_capacity(kinds.len());
        for (_, columns) in kinds {
            let key = columns.key.clone();
            batches.push((key, columns.finish()?));
        }
        Ok(batches)
    }
}

#[derive(Default)]
struct Parts {
    properties: Option<(usize, usize)>,
    context: Option<(usize, usize)>,
}

/// Id of a dead letter: the rejected event's own may be invalid, or another event's.
fn dead_letter_id(origin: &Origin<'_>, index: u32) -> [u8; 16] {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(b"tickstream dead letter");
    hash.update(&origin.journal_id);
    hash.update(&origin.sequence.to_be_bytes());
    hash.update(&index.to_be_bytes());
    let mut bytes: [u8; 16] = hash.finish().as_ref()[..16].try_into().expect("SHA-256 has 32 bytes");
    // RFC 9562, section 5.8: a UUID of the maker's own definition.
    bytes[6] = bytes[6] & 0x0F | 0x80;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    bytes
}

fn kind_name(number: i32) -> Option<&'static str> {
    enum_name(&tickstream_schema::table::EVENT_TYPE, number)
}

/// Columns for rows of a kind that are loaded on this date. Only the first row of them needs a key of its own.
fn columns_of<'a>(kinds: &'a mut BTreeMap<String, Columns>, load_date: &str, kind: &str) -> &'a mut Columns {
    let is_other_day = match kinds.get(kind) {
        Some(columns) => columns.key.load_date != load_date,
        None => {
            kinds.insert(kind.to_owned(), Columns::new(load_date, kind));
            false
        }
    };
    if is_other_day {
        return kinds.entry(format!("{kind}/{load_date}")).or_insert_with(|| Columns::new(load_date, kind));
    }
    kinds.get_mut(kind).expect("it was found or inserted")
}
