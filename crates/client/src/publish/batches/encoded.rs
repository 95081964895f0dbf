//! Events, encoded, for one PUBLISH.

use prost::length_delimiter_len;
use tickstream_schema::events::{Event, Message};

use crate::publish::packing::append_event_head;

/// Encoded events that are published, and answered, together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedBatch {
    /// The field `events` of `message Publish`, as often as there are events.
    fields: Vec<u8>,
    events: usize,
}

impl EncodedBatch {
    /// An empty batch with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { fields: Vec::with_capacity(bytes), events: 0 }
    }

    /// A batch of so many events that [`as_bytes`](Self::as_bytes) gave.
    pub fn from_encoded(fields: Vec<u8>, events: usize) -> Self {
        Self { fields, events }
    }

    /// Appends an event.
    pub fn push(&mut self, event: &Event) {
        self.push_with(event, event.encoded_len(), &[]);
    }

    /// Appends an event, whose `encoded_len` is given, and behind its own fields others that are encoded already.
    pub fn push_with(&mut self, event: &Event, encoded_len: usize, fields: &[&[u8]]) {
        let len = encoded_len + fields.iter().map(|fields| fields.len()).sum::<usize>();
        self.fields.reserve(Self::field_len(len));
        append_event_head(&mut self.fields, len);
        event.encode_raw(&mut self.fields);
        fields.iter().for_each(|fields| self.fields.extend_from_slice(fields));
        self.events += 1;
    }

    /// Appends an event that is encoded already, in parts.
    pub fn push_parts(&mut self, parts: &[&[u8]]) {
        let len = parts.iter().map(|part| part.len()).sum();
        self.fields.reserve(Self::field_len(len));
        append_event_head(&mut self.fields, len);
        parts.iter().for_each(|part| self.fields.extend_from_slice(part));
        self.events += 1;
    }

    /// Bytes that an event of `len` bytes takes in a batch.
    pub fn field_len(len: usize) -> usize {
        1 + length_delimiter_len(len) + len
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.events
    }

    /// True if there are no events.
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Size of all events, bytes.
    pub fn byte_len(&self) -> usize {
        self.fields.len()
    }

    /// The events, as the field `events` of `message Publish` and `message EventBatch`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.fields
    }
}
