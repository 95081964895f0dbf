//! Rows of `events`, collected by kind until they are taken as Arrow batches.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use deltalake::arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use deltalake::arrow::compute::cast;
use deltalake::arrow::datatypes::DataType;
use deltalake::arrow::error::ArrowError;
use ring::digest;

use super::arrays::{Columns, Extent};
use super::columns::{DEAD_LETTER, schema};
use super::descriptor::{Schema, enum_name};
use super::enrichment::{self, Enrichment, Geo};
use super::envelope::{Batch, Envelope, Letter, number};
use super::identifiers::{Identifiers, Namespace};
use super::json::Writer;
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

/// Kind of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Events of the kind with this number.
    Events(i32),
    DeadLetters,
}

impl Kind {
    /// Value of the column `event_type`; that of a kind of a newer schema is its number.
    fn name(self) -> Cow<'static, str> {
        match self {
            Self::DeadLetters => DEAD_LETTER.into(),
            Self::Events(number) => match enum_name(&tickstream_schema::table::EVENT_TYPE, number) {
                Some(name) => name.into(),
                None => number.to_string().into(),
            },
        }
    }
}

/// Rows by kind.
#[derive(Debug)]
pub struct Rows {
    /// Rows that wait.
    kinds: BTreeMap<Kind, Columns>,
    /// Rows that wait, and were made on a day before.
    of_days_before: Vec<Columns>,
    /// Extents of the kinds that were taken last: the next ones are alike.
    extents: BTreeMap<Kind, Extent>,
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
            of_days_before: Vec::new(),
            extents: BTreeMap::new(),
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
        let load_date = text::date((now_ns / 86_400_000_000_000) as i64);
        if load_date != self.load_date {
            self.load_date = load_date;
            self.of_days_before.extend(std::mem::take(&mut self.kinds).into_values());
        }
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
        let envelope = Envelope::of(event)?;
        if !filter.admits(&envelope.event_id, envelope.user, envelope.session) {
            return Ok(());
        }
        self.json.clear();
        self.writer.begin();
        let parts = self.write_event(event)?;
        if !filter.admits_json(&self.json) {
            return Ok(());
        }
        let enriched = self.enrichment.compute(&envelope.facts);
        let columns =
            columns_of(&mut self.kinds, &self.extents, &self.load_date, Kind::Events(envelope.event_type));
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
    fn write_event(&mut self, event: &[u8]) -> Result<Parts, Invalid> {
        let schema = Schema::get();
        let mut parts = Parts::default();
        self.writer.message_with_ranges(
            schema.event,
            event,
            &mut self.json,
            &mut |field, range| match field {
                number::PROPERTIES => parts.properties = Some(range),
                number::CONTEXT => parts.context = Some(range),
                _ => {}
            },
        )?;
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
        // An event that can't be read has only its bytes, as Base64.
        let mut envelope = letter.event.and_then(|event| Envelope::of(event).ok()).unwrap_or_default();
        if !filter.admits(&event_id, envelope.user, envelope.session) {
            return Ok(());
        }
        if envelope.timestamp_ns == 0 || i64::try_from(envelope.timestamp_ns).is_err() {
            envelope.timestamp_ns = batch.receive_time_ns;
        }
        self.json.clear();
        self.writer.begin();
        letter.write(&mut self.writer, &mut self.json);
        if !filter.admits_json(&self.json) {
            return Ok(());
        }
        let columns = columns_of(&mut self.kinds, &self.extents, &self.load_date, Kind::DeadLetters);
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

    /// Takes the waiting rows: by load date and kind, as the partition's key has them, with the columns of
    /// [`row_schema`](super::row_schema).
    ///
    /// # Errors
    /// [`RowsError::Columns`] if they don't fit together.
    pub fn take(&mut self) -> Result<Vec<(PartitionKey, RecordBatch)>, RowsError> {
        self.rows = 0;
        self.bytes = 0;
        let kinds = std::mem::take(&mut self.kinds);
        let before = std::mem::take(&mut self.of_days_before);
        self.extents = kinds.iter().map(|(kind, columns)| (*kind, columns.extent())).collect();
        let all = before.into_iter().chain(kinds.into_values());
        let batches = all.map(|columns| Ok((columns.key.clone(), columns.finish()?)));
        batches.collect()
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

/// Columns for rows of a kind that are loaded on this date. Only the first row of them needs a key of its own.
fn columns_of<'a>(
    kinds: &'a mut BTreeMap<Kind, Columns>,
    extents: &BTreeMap<Kind, Extent>,
    load_date: &str,
    kind: Kind,
) -> &'a mut Columns {
    kinds.entry(kind).or_insert_with(|| {
        let expected = extents.get(&kind).cloned().unwrap_or_default();
        Columns::new(load_date, &kind.name(), &expected)
    })
}

/// Rows as the table has them: texts as texts, and the columns that are the names of directories.
///
/// # Errors
/// If the columns don't fit together.
pub fn as_stored(rows: &RecordBatch, key: &PartitionKey) -> Result<RecordBatch, ArrowError> {
    let texts = rows.columns().iter().map(|column| match column.data_type() {
        DataType::Binary => cast(column, &DataType::Utf8),
        _ => Ok(column.clone()),
    });
    let mut columns = texts.collect::<Result<Vec<_>, _>>()?;
    for value in [&key.load_date, &key.event_type] {
        let column: ArrayRef = Arc::new(StringArray::from(vec![value.as_str(); rows.num_rows()]));
        columns.push(column);
    }
    RecordBatch::try_new(schema(), columns)
}
