//! Arrow columns of one kind while rows come.

use std::sync::Arc;

use deltalake::arrow::array::{
    ArrayRef, BooleanBufferBuilder, Float64Builder, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use deltalake::arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use deltalake::arrow::error::ArrowError;

use super::columns::{Promoted, file_schema};
use super::enrichment;
use super::envelope::{Batch, Envelope};
use super::identifiers::Identifiers;
use super::json::Writer;
use super::place::{Origin, PartitionKey};

/// A column of texts.
#[derive(Debug)]
pub(super) struct Texts {
    values: Vec<u8>,
    offsets: Vec<i32>,
}

impl Texts {
    fn new() -> Self {
        Self { values: Vec::new(), offsets: vec![0] }
    }

    /// Appends a text. Bytes that aren't UTF-8 become U+FFFD.
    fn push(&mut self, text: &[u8]) {
        match std::str::from_utf8(text) {
            Ok(_) => self.values.extend_from_slice(text),
            Err(_) => self.values.extend_from_slice(String::from_utf8_lossy(text).as_bytes()),
        }
        self.offsets.push(self.values.len() as i32);
    }

    /// Appends a text that was made here. (The array checks all at once when it is finished.)
    pub fn push_valid(&mut self, text: &[u8]) {
        self.values.extend_from_slice(text);
        self.offsets.push(self.values.len() as i32);
    }

    fn finish(self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let offsets = OffsetBuffer::new(self.offsets.into());
        Ok(Arc::new(StringArray::try_new(offsets, Buffer::from_vec(self.values), nulls)?))
    }
}

/// A column of texts that may be absent.
#[derive(Debug)]
pub(super) struct OptionalTexts {
    texts: Texts,
    present: BooleanBufferBuilder,
}

impl OptionalTexts {
    fn new() -> Self {
        Self { texts: Texts::new(), present: BooleanBufferBuilder::new(0) }
    }

    fn push(&mut self, text: Option<&[u8]>) {
        self.texts.push(text.unwrap_or_default());
        self.present.append(text.is_some());
    }

    fn push_valid(&mut self, text: Option<&[u8]>) {
        self.texts.push_valid(text.unwrap_or_default());
        self.present.append(text.is_some());
    }

    fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        self.texts.finish(Some(NullBuffer::new(self.present.finish())))
    }
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
    partition: Texts,
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
    numbers: [Float64Builder; Promoted::COUNT - Promoted::TEXTS],
}

impl Columns {
    pub fn new(load_date: &str, kind: &str) -> Self {
        Self {
            key: PartitionKey { load_date: load_date.to_owned(), event_type: kind.to_owned() },
            partition_key: format!("{load_date}/{kind}"),
            event_id: Texts::new(),
            timestamp_us: Vec::new(),
            timestamp_ns: Vec::new(),
            platform: Texts::new(),
            event_name: Texts::new(),
            session_id: OptionalTexts::new(),
            user_id: OptionalTexts::new(),
            properties: Texts::new(),
            context: Texts::new(),
            raw_data: Texts::new(),
            processed_us: Vec::new(),
            partition: Texts::new(),
            received_us: Vec::new(),
            received_ns: Vec::new(),
            sender: OptionalTexts::new(),
            peer: OptionalTexts::new(),
            server: OptionalTexts::new(),
            shard: Vec::new(),
            journal: Texts::new(),
            sequence: Vec::new(),
            batch_index: Vec::new(),
            anonymous_id: OptionalTexts::new(),
            enriched: std::array::from_fn(|_| OptionalTexts::new()),
            texts: std::array::from_fn(|_| OptionalTexts::new()),
            numbers: std::array::from_fn(|_| Float64Builder::new()),
        }
    }

    pub fn envelope(&mut self, envelope: &Envelope<'_>, identifiers: &mut Identifiers) {
        let ns = i64::try_from(envelope.timestamp_ns).unwrap_or(i64::MAX);
        self.timestamp_us.push(ns / 1000);
        self.timestamp_ns.push(ns);
        self.platform.push(envelope.platform);
        self.event_name.push(envelope.event_name);
        let mut map = |identifier: &[u8]| (!identifier.is_empty()).then(|| identifiers.map(identifier));
        self.session_id.push_valid(map(envelope.session).as_ref().map(|id| &id[..]));
        self.user_id.push_valid(map(envelope.user).as_ref().map(|id| &id[..]));
        self.anonymous_id.push_valid(map(envelope.anonymous).as_ref().map(|id| &id[..]));
    }

    pub fn enriched(&mut self, values: &enrichment::Values) {
        for (column, value) in self.enriched.iter_mut().zip(values) {
            column.push_valid(value.as_ref().map(|text| text.as_bytes()));
        }
    }

    pub fn promoted(&mut self, writer: &Writer, json: &[u8]) {
        for (column, &(start, end)) in self.texts.iter_mut().zip(&writer.texts) {
            if end <= start {
                column.push_valid(None);
                continue;
            }
            let text = &json[start..end];
            if writer.has_escapes && text.contains(&b'\\') {
                let quoted = &json[start - 1..=end];
                let plain: Result<String, _> = serde_json::from_slice(quoted);
                column.push(plain.ok().as_deref().map(str::as_bytes));
            } else {
                column.push_valid(Some(text));
            }
        }
        for (column, number) in self.numbers.iter_mut().zip(&writer.numbers) {
            column.append_option(*number);
        }
    }

    pub fn origin(&mut self, origin: &Origin<'_>, batch: &Batch<'_>, index: i32, processed_us: i64) {
        let present = |text| Some(text).filter(|text: &&[u8]| !text.is_empty());
        let received_ns = i64::try_from(batch.receive_time_ns).unwrap_or(i64::MAX);
        self.processed_us.push(processed_us);
        self.partition.push_valid(self.partition_key.as_bytes());
        self.received_us.push(received_ns / 1000);
        self.received_ns.push(received_ns);
        self.sender.push(present(batch.user));
        self.peer.push(present(batch.peer));
        self.server.push(present(batch.server));
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
            self.session_id.finish()?,
            self.user_id.finish()?,
            self.properties.finish(None)?,
            self.context.finish(None)?,
            self.raw_data.finish(None)?,
            time(self.processed_us),
            self.partition.finish(None)?,
            time(self.received_us),
            Arc::new(Int64Array::from(self.received_ns)),
            self.sender.finish()?,
            self.peer.finish()?,
            self.server.finish()?,
            Arc::new(Int32Array::from(self.shard)),
            self.journal.finish(None)?,
            Arc::new(Int64Array::from(self.sequence)),
            Arc::new(Int32Array::from(self.batch_index)),
            self.anonymous_id.finish()?,
        ];
        for column in self.enriched {
            arrays.push(column.finish()?);
        }
        arrays.push(Arc::new(Int32Array::from(vec![enrichment::VERSION; rows])));
        for column in self.texts {
            arrays.push(column.finish()?);
        }
        for mut column in self.numbers {
            arrays.push(Arc::new(column.finish()));
        }
        RecordBatch::try_new(file_schema(), arrays)
    }
}
