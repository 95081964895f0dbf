//! Arrow columns of one kind while rows come.

use std::sync::Arc;

use deltalake::arrow::array::{
    ArrayBuilder, ArrayRef, BinaryArray, BooleanBufferBuilder, Float64Builder, Int32Array, Int64Array,
    RecordBatch, TimestampMicrosecondArray, new_null_array,
};
use deltalake::arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use deltalake::arrow::datatypes::DataType;
use deltalake::arrow::error::ArrowError;

use super::columns::{Promoted, row_schema};
use super::enrichment;
use super::envelope::{Batch, Envelope};
use super::identifiers::Identifiers;
use super::json::{PromotedValue, Writer};
use super::place::{Origin, PartitionKey};

/// A column of texts.
#[derive(Debug)]
pub(super) struct Texts {
    values: Vec<u8>,
    offsets: Vec<i32>,
}

impl Texts {
    /// No texts, and memory for as many.
    fn new((texts, bytes): (usize, usize)) -> Self {
        let mut offsets = Vec::with_capacity(texts + 1);
        offsets.push(0);
        Self { values: Vec::with_capacity(bytes), offsets }
    }

    /// Appends a text. Bytes that aren't UTF-8 become U+FFFD.
    fn push(&mut self, text: &[u8]) {
        match std::str::from_utf8(text) {
            Ok(_) => self.values.extend_from_slice(text),
            Err(_) => self.values.extend_from_slice(String::from_utf8_lossy(text).as_bytes()),
        }
        self.offsets.push(self.values.len() as i32);
    }

    /// Appends a text that is UTF-8.
    #[inline]
    pub fn push_valid(&mut self, text: &[u8]) {
        self.values.extend_from_slice(text);
        self.offsets.push(self.values.len() as i32);
    }

    fn finish(self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let offsets = OffsetBuffer::new(self.offsets.into());
        Ok(Arc::new(BinaryArray::try_new(offsets, Buffer::from_vec(self.values), nulls)?))
    }
}

/// A column of texts that may be absent. Rows without one cost nothing until a later row has one: most columns of a kind
/// are empty.
#[derive(Debug)]
pub(super) struct OptionalTexts {
    texts: Texts,
    present: BooleanBufferBuilder,
}

impl OptionalTexts {
    fn new((texts, bytes): (usize, usize)) -> Self {
        let texts = if bytes == 0 { 0 } else { texts };
        Self { texts: Texts::new((texts, bytes)), present: BooleanBufferBuilder::new(texts) }
    }

    /// Sets the text of a row, which is UTF-8; the rows between the last one and this have none.
    fn set_valid(&mut self, row: usize, text: &[u8]) {
        self.pad(row);
        self.texts.push_valid(text);
        self.present.append(true);
    }

    fn pad(&mut self, rows: usize) {
        if self.present.len() < rows {
            self.texts.offsets.resize(rows + 1, self.texts.values.len() as i32);
            self.present.append_n(rows - self.present.len(), false);
        }
    }

    fn finish(mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        if self.present.is_empty() {
            return Ok(new_null_array(&DataType::Binary, rows));
        }
        self.pad(rows);
        self.texts.finish(Some(NullBuffer::new(self.present.finish())))
    }
}

/// A column of numbers that may be absent, as [`OptionalTexts`].
#[derive(Debug)]
struct OptionalNumbers(Float64Builder);

impl OptionalNumbers {
    fn set(&mut self, row: usize, number: f64) {
        self.pad(row);
        self.0.append_value(number);
    }

    fn pad(&mut self, rows: usize) {
        self.0.append_nulls(rows.saturating_sub(self.0.len()));
    }

    fn finish(mut self, rows: usize) -> ArrayRef {
        self.pad(rows);
        Arc::new(self.0.finish())
    }
}

/// Number of rows, and bytes of each column of texts: the next rows of the kind are alike, and find their memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Extent {
    rows: usize,
    texts: Vec<usize>,
}

/// Columns of one kind, in the order of the schema.
#[derive(Debug)]
pub(super) struct Columns {
    pub key: PartitionKey,
    partition_key: String,
    pub event_id: Texts,
    timestamp_us: Vec<i64>,
    timestamp_ns: Vec<i64>,
    platform: Texts,
    event_name: Texts,
    session_id: OptionalTexts,
    user_id: OptionalTexts,
    pub properties: Texts,
    pub context: Texts,
    pub raw_data: Texts,
    processed_us: Vec<i64>,
    received_us: Vec<i64>,
    received_ns: Vec<i64>,
    sender: OptionalTexts,
    peer: OptionalTexts,
    server: OptionalTexts,
    shard: Vec<i32>,
    journal: Texts,
    sequence: Vec<i64>,
    batch_index: Vec<i32>,
    anonymous_id: OptionalTexts,
    enriched: [OptionalTexts; enrichment::COLUMNS.len()],
    texts: [OptionalTexts; Promoted::TEXTS],
    numbers: [OptionalNumbers; Promoted::COUNT - Promoted::TEXTS],
}

impl Columns {
    /// No rows, and memory for as many as `expected`.
    pub fn new(load_date: &str, kind: &str, expected: &Extent) -> Self {
        let rows = expected.rows + expected.rows / 8;
        let mut texts = expected.texts.iter();
        let mut size = || (rows, texts.next().map_or(0, |bytes| bytes + bytes / 8));
        Self {
            key: PartitionKey { load_date: load_date.to_owned(), event_type: kind.to_owned() },
            partition_key: format!("{load_date}/{kind}"),
            event_id: Texts::new(size()),
            timestamp_us: Vec::with_capacity(rows),
            timestamp_ns: Vec::with_capacity(rows),
            platform: Texts::new(size()),
            event_name: Texts::new(size()),
            session_id: OptionalTexts::new(size()),
            user_id: OptionalTexts::new(size()),
            properties: Texts::new(size()),
            context: Texts::new(size()),
            raw_data: Texts::new(size()),
            processed_us: Vec::with_capacity(rows),
            received_us: Vec::with_capacity(rows),
            received_ns: Vec::with_capacity(rows),
            sender: OptionalTexts::new(size()),
            peer: OptionalTexts::new(size()),
            server: OptionalTexts::new(size()),
            shard: Vec::with_capacity(rows),
            journal: Texts::new(size()),
            sequence: Vec::with_capacity(rows),
            batch_index: Vec::with_capacity(rows),
            anonymous_id: OptionalTexts::new(size()),
            enriched: std::array::from_fn(|_| OptionalTexts::new(size())),
            texts: std::array::from_fn(|_| OptionalTexts::new(size())),
            numbers: std::array::from_fn(|_| OptionalNumbers(Float64Builder::with_capacity(0))),
        }
    }

    /// Number and size of the rows so far.
    pub fn extent(&self) -> Extent {
        let optional = |texts: &OptionalTexts| texts.texts.values.len();
        let mut texts = vec![
            self.event_id.values.len(),
            self.platform.values.len(),
            self.event_name.values.len(),
            optional(&self.session_id),
            optional(&self.user_id),
            self.properties.values.len(),
            self.context.values.len(),
            self.raw_data.values.len(),
            optional(&self.sender),
            optional(&self.peer),
            optional(&self.server),
            self.journal.values.len(),
            optional(&self.anonymous_id),
        ];
        texts.extend(self.enriched.iter().chain(&self.texts).map(optional));
        Extent { rows: self.sequence.len(), texts }
    }

    pub fn envelope(&mut self, envelope: &Envelope<'_>, identifiers: &mut Identifiers) {
        let ns = i64::try_from(envelope.timestamp_ns).unwrap_or(i64::MAX);
        self.timestamp_us.push(ns / 1000);
        self.timestamp_ns.push(ns);
        self.platform.push(envelope.platform);
        self.event_name.push(envelope.event_name);
        let row = self.sequence.len();
        for (column, identifier) in [
            (&mut self.session_id, envelope.session),
            (&mut self.user_id, envelope.user),
            (&mut self.anonymous_id, envelope.anonymous),
        ] {
            if !identifier.is_empty() {
                column.set_valid(row, &identifiers.map(identifier));
            }
        }
    }

    pub fn enriched(&mut self, values: &enrichment::Values) {
        let row = self.sequence.len();
        for (column, value) in self.enriched.iter_mut().zip(values) {
            if let Some(text) = value {
                column.set_valid(row, text.as_bytes());
            }
        }
    }

    pub fn promoted(&mut self, writer: &Writer, json: &[u8]) {
        let row = self.sequence.len();
        for (column, value) in writer.promoted() {
            let index = column as usize;
            match value {
                PromotedValue::Number(number) => self.numbers[index - Promoted::TEXTS].set(row, number),
                PromotedValue::Text { start, end, has_escapes: true } => {
                    let plain: Result<String, _> = serde_json::from_slice(&json[start - 1..=end]);
                    if let Ok(plain) = plain {
                        self.texts[index].set_valid(row, plain.as_bytes());
                    }
                }
                PromotedValue::Text { start, end, .. } if start < end => {
                    self.texts[index].set_valid(row, &json[start..end]);
                }
                PromotedValue::Text { .. } => {}
            }
        }
    }

    /// Place from which the row came. This completes the row.
    pub fn origin(&mut self, origin: &Origin<'_>, batch: &Batch<'_>, index: i32, processed_us: i64) {
        let row = self.sequence.len();
        let received_ns = i64::try_from(batch.receive_time_ns).unwrap_or(i64::MAX);
        self.processed_us.push(processed_us);
        self.received_us.push(received_ns / 1000);
        self.received_ns.push(received_ns);
        for (column, text) in [
            (&mut self.sender, &batch.user),
            (&mut self.peer, &batch.peer),
            (&mut self.server, &batch.server),
        ] {
            if !text.is_empty() {
                column.set_valid(row, text.as_bytes());
            }
        }
        self.shard.push(batch.shard as i32);
        self.journal.push_valid(origin.journal.as_bytes());
        self.sequence.push(origin.sequence as i64);
        self.batch_index.push(index);
    }

    pub fn finish(self) -> Result<RecordBatch, ArrowError> {
        let rows = self.sequence.len();
        let time =
            |us: Vec<i64>| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(us).with_timezone("UTC")) };
        let mut arrays: Vec<ArrayRef> = vec![
            self.event_id.finish(None)?,
            time(self.timestamp_us),
            Arc::new(Int64Array::from(self.timestamp_ns)),
            self.platform.finish(None)?,
            self.event_name.finish(None)?,
            self.session_id.finish(rows)?,
            self.user_id.finish(rows)?,
            self.properties.finish(None)?,
            self.context.finish(None)?,
            self.raw_data.finish(None)?,
            time(self.processed_us),
            Arc::new(BinaryArray::from_iter_values(std::iter::repeat_n(&self.partition_key, rows))),
            time(self.received_us),
            Arc::new(Int64Array::from(self.received_ns)),
            self.sender.finish(rows)?,
            self.peer.finish(rows)?,
            self.server.finish(rows)?,
            Arc::new(Int32Array::from(self.shard)),
            self.journal.finish(None)?,
            Arc::new(Int64Array::from(self.sequence)),
            Arc::new(Int32Array::from(self.batch_index)),
            self.anonymous_id.finish(rows)?,
        ];
        for column in self.enriched {
            arrays.push(column.finish(rows)?);
        }
        arrays.push(Arc::new(Int32Array::from(vec![enrichment::VERSION; rows])));
        for column in self.texts {
            arrays.push(column.finish(rows)?);
        }
        for column in self.numbers {
            arrays.push(column.finish(rows));
        }
        RecordBatch::try_new(row_schema(), arrays)
    }
}
