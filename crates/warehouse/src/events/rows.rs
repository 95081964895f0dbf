//! Rows of `events`, collected by kind until they are taken as Arrow batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltalake::arrow::array::{
    ArrayRef, BooleanBufferBuilder, Float64Builder, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use deltalake::arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use deltalake::arrow::error::ArrowError;
use ring::digest;

use super::columns::{DEAD_LETTER, Promoted, file_schema};
use super::descriptor::{Schema, enum_name};
use super::enrichment::{self, Enrichment, Geo};
use super::identifiers::{Identifiers, Namespace};
use super::json::{Entries, Writer};
use super::protobuf::{Entry, Fields, Invalid, Value};
use super::text;

/// Numbers of fields of `StoredBatch`, `DeadLetter` and `Event` in `proto/events.proto`; a test compares them.
mod number {
    pub const BATCH_RECEIVE_TIME: u32 = 1;
    pub const BATCH_PEER: u32 = 2;
    pub const BATCH_EVENTS: u32 = 3;
    pub const BATCH_SERVER: u32 = 4;
    pub const BATCH_USER: u32 = 5;
    pub const BATCH_SHARD: u32 = 6;
    pub const BATCH_DEAD_LETTERS: u32 = 7;

    pub const LETTER_INDEX: u32 = 1;
    pub const LETTER_CODE: u32 = 2;
    pub const LETTER_MESSAGE: u32 = 3;
    pub const LETTER_EVENT: u32 = 4;

    pub const EVENT_ID: u32 = 1;
    pub const TIMESTAMP: u32 = 2;
    pub const PLATFORM: u32 = 3;
    pub const SESSION_ID: u32 = 4;
    pub const USER_ID: u32 = 5;
    pub const EVENT_TYPE: u32 = 6;
    pub const EVENT_NAME: u32 = 7;
    pub const CONTEXT: u32 = 8;
    pub const PROPERTIES: u32 = 9;
    pub const ANONYMOUS_ID: u32 = 42;
}

/// Bytes of text in one batch of a kind: far below what 32-bit offsets reach.
const BATCH_BYTES_MAX: usize = 512 << 20;

/// Place of a record.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Journal, hexadecimal digits.
    pub journal: &'a str,
    /// Id of the journal.
    pub journal_id: [u8; 16],
    /// Sequence of the record in it.
    pub sequence: u64,
}

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
    /// Whether the event becomes a row. `user` and `session` are empty where the event has none.
    fn admits(&mut self, event_id: &[u8; 16], user: &[u8], session: &[u8]) -> bool;

    /// Whether an event that was admitted so far stays, now that its JSON is known.
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

/// What a record says about all of its events.
#[derive(Clone, Copy, Default)]
struct Batch<'a> {
    receive_time_ns: u64,
    peer: &'a [u8],
    server: &'a [u8],
    user: &'a [u8],
    shard: u32,
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

    /// Whether none are waiting.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes of text of the waiting rows.
    pub fn text_bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the waiting rows must be taken before more come.
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
        // Fields that hold for all events may stand behind them.
        let mut batch = Batch::default();
        for entry in Fields::of(payload) {
            match entry? {
                Entry { number: number::BATCH_RECEIVE_TIME, value: Value::Fixed64(ns), .. } => {
                    batch.receive_time_ns = ns;
                }
                Entry { number: number::BATCH_PEER, value: Value::Bytes(text), .. } => batch.peer = text,
                Entry { number: number::BATCH_SERVER, value: Value::Bytes(text), .. } => batch.server = text,
                Entry { number: number::BATCH_USER, value: Value::Bytes(text), .. } => batch.user = text,
                Entry { number: number::BATCH_SHARD, value: Value::Varint(shard), .. } => {
                    batch.shard = shard as u32
                }
                _ => {}
            }
        }
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

/// Partition of rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionKey {
    /// Date of loading.
    pub load_date: String,
    /// Kind of the events.
    pub event_type: String,
}

#[derive(Default)]
struct Parts {
    properties: Option<(usize, usize)>,
    context: Option<(usize, usize)>,
}

/// Fields of an event's envelope.
#[derive(Default)]
struct Envelope<'a> {
    event_id: [u8; 16],
    timestamp_ns: u64,
    platform: &'a [u8],
    session: &'a [u8],
    user: &'a [u8],
    event_type: i32,
    event_name: &'a [u8],
    anonymous: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn of(entries: &[Entry<'a>]) -> Self {
        let mut envelope = Self::default();
        for entry in entries {
            match (entry.number, entry.value) {
                (number::EVENT_ID, Value::Bytes(id)) => envelope.event_id = id.try_into().unwrap_or_default(),
                (number::TIMESTAMP, Value::Fixed64(ns)) => envelope.timestamp_ns = ns,
                (number::PLATFORM, Value::Bytes(text)) => envelope.platform = text,
                (number::SESSION_ID, Value::Bytes(text)) => envelope.session = text,
                (number::USER_ID, Value::Bytes(text)) => envelope.user = text,
                (number::EVENT_TYPE, Value::Varint(kind)) => envelope.event_type = kind as i32,
                (number::EVENT_NAME, Value::Bytes(text)) => envelope.event_name = text,
                (number::ANONYMOUS_ID, Value::Bytes(text)) => envelope.anonymous = text,
                _ => {}
            }
        }
        envelope
    }
}

/// An event that was rejected.
#[derive(Default)]
struct Letter<'a> {
    index: u32,
    code: &'a [u8],
    message: &'a [u8],
    event: Option<&'a [u8]>,
}

impl<'a> Letter<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, Invalid> {
        let mut letter = Self::default();
        for entry in Fields::of(bytes) {
            match entry? {
                Entry { number: number::LETTER_INDEX, value: Value::Varint(index), .. } => {
                    letter.index = index as u32
                }
                Entry { number: number::LETTER_CODE, value: Value::Bytes(text), .. } => letter.code = text,
                Entry { number: number::LETTER_MESSAGE, value: Value::Bytes(text), .. } => {
                    letter.message = text
                }
                Entry { number: number::LETTER_EVENT, value: Value::Bytes(event), .. } => {
                    letter.event = Some(event)
                }
                _ => {}
            }
        }
        Ok(letter)
    }

    fn write(&self, entries: Option<&[Entry<'_>]>, writer: &mut Writer, out: &mut Vec<u8>) {
        use base64::{Engine, engine::general_purpose::STANDARD};

        out.extend_from_slice(b"{\"code\":");
        text::json_string(self.code, out);
        out.extend_from_slice(b",\"message\":");
        text::json_string(self.message, out);
        let before = out.len();
        if let Some(entries) = entries {
            out.extend_from_slice(b",\"event\":");
            if writer.object(Schema::get().event, entries, out, &mut |_, _| {}).is_ok() {
                out.push(b'}');
                return;
            }
            out.truncate(before);
        }
        if let Some(bytes) = self.event {
            out.extend_from_slice(b",\"bytes\":\"");
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
        }
        out.push(b'}');
    }
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

/// A column of texts.
#[derive(Debug)]
struct Texts {
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
    fn push_valid(&mut self, text: &[u8]) {
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
struct OptionalTexts {
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
struct Columns {
    key: PartitionKey,
    partition_key: String,
    event_id: Texts,
    timestamp_us: Vec<i64>,
    timestamp_ns: Vec<i64>,
    platform: Texts,
    event_name: Texts,
    session_id: OptionalTexts,
    user_id: OptionalTexts,
    properties: Texts,
    context: Texts,
    raw_data: Texts,
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
    fn new(load_date: &str, kind: &str) -> Self {
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

    fn envelope(&mut self, envelope: &Envelope<'_>, identifiers: &mut Identifiers) {
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

    fn enriched(&mut self, values: &enrichment::Values) {
        for (column, value) in self.enriched.iter_mut().zip(values) {
            column.push_valid(value.as_ref().map(|text| text.as_bytes()));
        }
    }

    fn promoted(&mut self, writer: &Writer, json: &[u8]) {
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

    fn origin(&mut self, origin: &Origin<'_>, batch: &Batch<'_>, index: i32, processed_us: i64) {
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

    fn finish(self) -> Result<RecordBatch, ArrowError> {
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
