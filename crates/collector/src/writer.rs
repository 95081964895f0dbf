//! Events of one request, encoded for the servers as they are decoded.
//!
//! Adds to each event what the collector knows: an id where the sender gave none, the sender's identity, and the
//! timestamp by the collector's clock where the sender's is wrong.

use std::{net::IpAddr, sync::Arc};

use prost::Message;
use tickstream_client::{
    EncodedBatch,
    events::{Body, Event, EventType, Sender},
    new_event_id,
};

use crate::{
    cardinality::TextSeries,
    clock,
    event_id::{BodyIds, counted, uuid_v5},
    keys::Key,
    outcome::Rejection,
    rules::Rules,
    upstream::BatchLimits,
};

/// The sender of a request, and its time.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The key that admitted it.
    pub key: Arc<Key>,
    /// Name of the source, such as "otlp".
    pub source: &'static str,
    /// Address of the client.
    pub address: Option<IpAddr>,
    /// HTTP's User-Agent; may be empty.
    pub user_agent: String,
    /// HTTP headers that are stored with each event.
    pub headers: Vec<(String, String)>,
    /// Unix time, nanoseconds.
    pub receive_time: u64,
    /// The sender's clock at this attempt, Unix time, nanoseconds; 0: unknown.
    pub send_time: u64,
}

/// Ids of events that come without.
#[derive(Clone, Copy, Debug)]
pub enum Ids<'a> {
    /// From the body and the index in it, so that a body that comes again is the same events.
    OfBody(&'a [u8]),
    /// New ones: the sender never sends again.
    New,
}

/// Takes the events of one request in their order.
#[derive(Debug)]
pub struct EventWriter<'a> {
    origin: &'a Origin,
    ids: Ids<'a>,
    body_ids: Option<BodyIds>,
    /// From which ids are counted that no body gives.
    first_id: Option<[u8; 16]>,
    correction: Option<i64>,
    send_time: u64,
    /// Field `sender` of an event, encoded.
    sender: Vec<u8>,
    limits: BatchLimits,
    rules: Option<&'a Rules>,
    request: Request,
    next_index: u32,
    events_max: u32,
    /// Bytes of the events so far.
    bytes: usize,
    is_overfull: bool,
}

/// Facts that a source knows of an event beyond the event itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra<'a> {
    /// More fields of `message Event`, encoded: those that many events of a request have in common.
    pub fields: &'a [u8],
    /// The time of an event without a timestamp, Unix time, nanoseconds; 0: that of the request.
    pub time: u64,
}

/// The events of a request, ready to be published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Batches within the servers' limits.
    pub batches: Vec<RequestBatch>,
    /// Records that couldn't be decoded, by rising index.
    pub rejected: Vec<Rejection>,
    /// Events that rules have dropped.
    pub filtered: u64,
    /// Kind and name of the first event, for whoever looks at what a key sends.
    pub sample: Option<(EventType, String)>,
    /// By rising index, what the protocol counts in a record: samples, histograms, exemplars.
    pub weights: Vec<(u32, [u32; 3])>,
    /// For each record, what the protocol's answer repeats of it; empty for protocols that repeat nothing.
    pub notes: Vec<String>,
}

/// A batch, and where its events were in the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestBatch {
    /// The events.
    pub batch: EncodedBatch,
    /// For each event, its index in the request.
    pub indexes: Vec<u32>,
}

impl Request {
    /// Number of events.
    pub fn events(&self) -> usize {
        self.batches.iter().map(|batch| batch.batch.len()).sum()
    }

    /// Size of all events, bytes.
    pub fn byte_len(&self) -> usize {
        self.batches.iter().map(|batch| batch.batch.byte_len()).sum()
    }

    /// True if there is neither an event nor a record that is none.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.rejected.is_empty() && self.filtered == 0
    }
}

/// A request has more events than it may, or more of their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request may have {0} events at most; send smaller ones")]
pub struct TooManyEvents(pub u32);

impl<'a> EventWriter<'a> {
    /// A writer for a request of at most `events_max` records.
    pub fn new(origin: &'a Origin, ids: Ids<'a>, limits: BatchLimits, events_max: u32) -> Self {
        let mut writer = Self {
            origin,
            ids,
            body_ids: None,
            first_id: None,
            correction: None,
            send_time: 0,
            sender: Vec::new(),
            limits,
            rules: None,
            request: Request::default(),
            next_index: 0,
            events_max,
            bytes: 0,
            is_overfull: false,
        };
        writer.set_send_time(origin.send_time);
        writer
    }

    /// Sets rules that events go through before they are encoded.
    pub fn with_rules(self, rules: &'a Rules) -> Self {
        Self { rules: Some(rules).filter(|rules| !rules.is_empty()), ..self }
    }

    /// Sets the sender's clock at this attempt, where the body has it: for the events that follow.
    pub fn set_send_time(&mut self, send_time: u64) {
        self.send_time = send_time;
        self.correction = clock::correction(self.origin.receive_time, send_time);
        let sender = Sender { send_time, ..self.origin.sender() };
        self.sender.clear();
        append_sender(&mut self.sender, &sender);
    }

    /// Unix time of the request, nanoseconds.
    pub fn receive_time(&self) -> u64 {
        self.origin.receive_time
    }

    /// True if another record fits.
    pub fn has_room(&self) -> bool {
        self.next_index < self.events_max
    }

    /// True if so much has come that none of it is taken: what follows needn't be looked at.
    pub fn is_overfull(&self) -> bool {
        self.is_overfull
    }

    /// True if there is room for another datagram, whatever it holds.
    pub fn is_roomy(&self) -> bool {
        self.next_index <= self.events_max / 2 && self.bytes <= EVENTS_BYTES_MAX / 8
    }

    /// True if no record was taken yet.
    pub fn is_untouched(&self) -> bool {
        self.next_index == 0
    }

    /// The event id for an id of the sender's own making: a UUID itself, of anything else one that is always the same.
    pub fn id_of(&self, text: &str) -> Vec<u8> {
        let uuid = uuid(text).filter(|id| *id != [0; 16]);
        uuid.map_or_else(|| self.id_of_parts(&[text.as_bytes()]), |id| id.to_vec())
    }

    /// The event id that is always the same for these bytes under this key.
    pub fn id_of_parts(&self, parts: &[&[u8]]) -> Vec<u8> {
        uuid_v5(&self.origin.key.namespace, parts).to_vec()
    }

    /// Takes the next record as an event.
    pub fn event(&mut self, event: Event) {
        self.event_with(event, Extra::default());
    }

    /// As [`event`](Self::event), with more than the event itself says.
    pub fn event_with(&mut self, mut event: Event, extra: Extra<'_>) {
        let Some(index) = self.take_index() else { return };
        if !self.origin.key.allows(event.event_type) {
            let message = format!("key {} may not send this kind of event", self.origin.key.name);
            return self.request.rejected.push(Rejection::last(index, "KIND_NOT_ALLOWED", message));
        }
        if let Some(Body::MetricSeries(series)) = &event.body
            && let Err(problem) = self.origin.key.series.check(series, self.origin.receive_time)
        {
            let rejection = Rejection::last(index, "TOO_MANY_SERIES", problem.to_string());
            return self.request.rejected.push(rejection);
        }
        self.identify(&mut event, index);
        if self.rules.is_some_and(|rules| !rules.apply(self.origin.source, &mut event)) {
            self.request.filtered += 1;
            return;
        }
        if self.request.sample.is_none() {
            self.request.sample = Some((event.event_type(), event.event_name.clone()));
        }
        let own_sender = self.stamp(&mut event, extra.time);
        let sender = own_sender.as_deref().unwrap_or(&self.sender);
        let event_len = event.encoded_len();
        let len = event_len + sender.len() + extra.fields.len();
        count_bytes(&mut self.bytes, len, &mut self.is_overfull);
        if self.is_overfull {
            self.events_max = index;
        } else if let Some(batch) = batch_for(&mut self.request, self.limits, index, len) {
            batch.push_with(&event, event_len, &[extra.fields, sender]);
        }
    }

    /// True if events of this kind may come encoded: nothing of them has to be looked at, or changed.
    pub fn takes_encoded(&self, kind: EventType) -> bool {
        self.rules.is_none() && self.correction.is_none() && self.origin.key.allows(kind.into())
    }

    /// Takes the next record as an event that is encoded but for its id and its sender, in parts. Its timestamp is the
    /// sender's own. Only where [`takes_encoded`](Self::takes_encoded) says so.
    pub fn encoded_event(&mut self, kind: EventType, name: &str, parts: &[&[u8]; 3]) {
        let Some(index) = self.take_index() else { return };
        let mut id = [0; 18];
        // Event.event_id, and its length.
        id[..2].copy_from_slice(&[1 << 3 | 2, 16]);
        id[2..].copy_from_slice(&self.new_id(index));
        if self.request.sample.is_none() {
            self.request.sample = Some((kind, name.to_owned()));
        }
        let parts = [&id[..], parts[0], parts[1], parts[2], &self.sender[..]];
        let len: usize = parts.iter().map(|part| part.len()).sum();
        count_bytes(&mut self.bytes, len, &mut self.is_overfull);
        if self.is_overfull {
            self.events_max = index;
        } else if let Some(batch) = batch_for(&mut self.request, self.limits, index, len) {
            batch.push_parts(&parts);
        }
    }

    /// As [`encoded_event`](Self::encoded_event), for the points of a series, which counts against the key's bound.
    pub fn encoded_series(&mut self, series: &TextSeries<'_>, name: &str, parts: &[&[u8]; 3]) {
        match self.origin.key.series.check_texts(series, self.origin.receive_time) {
            Ok(()) => self.encoded_event(EventType::MetricSeries, name, parts),
            Err(problem) => self.reject("TOO_MANY_SERIES", problem.to_string()),
        }
    }

    /// Sets what the protocol counts in the next record, for [`Outcome::stored`](crate::outcome::Outcome::stored).
    pub fn weigh(&mut self, weight: [u32; 3]) {
        self.request.weights.push((self.next_index, weight));
    }

    /// Keeps what the protocol's answer repeats of the next record: for [`Outcome::notes`](crate::outcome::Outcome::notes).
    pub fn note(&mut self, note: String) {
        self.request.notes.push(note);
    }

    /// Takes the next record as one that is no event.
    pub fn reject(&mut self, code: &'static str, message: impl Into<String>) {
        if let Some(index) = self.take_index() {
            self.request.rejected.push(Rejection::last(index, code, message));
        }
    }

    /// Ends the request.
    ///
    /// # Errors
    /// [`TooManyEvents`].
    pub fn finish(self) -> Result<Request, TooManyEvents> {
        if self.is_overfull { Err(TooManyEvents(self.events_max)) } else { Ok(self.request) }
    }

    fn take_index(&mut self) -> Option<u32> {
        self.is_overfull |= self.next_index >= self.events_max;
        (!self.is_overfull).then(|| {
            self.next_index += 1;
            self.next_index - 1
        })
    }

    fn identify(&mut self, event: &mut Event, index: u32) {
        match event.event_id.len() {
            0 => event.event_id = self.new_id(index).to_vec(),
            // Anybody can send under a public key: its ids must not be those of others' events.
            16 if self.origin.key.is_public => {
                event.event_id = uuid_v5(&self.origin.key.namespace, &[&event.event_id]).to_vec();
            }
            // The server rejects ids of another length.
            _ => {}
        }
    }

    /// The id of an event that has none.
    fn new_id(&mut self, index: u32) -> [u8; 16] {
        match self.ids {
            Ids::New => counted(*self.first_id.get_or_insert_with(new_event_id), index),
            Ids::OfBody(body) => {
                let namespace = self.origin.key.namespace;
                self.body_ids.get_or_insert_with(|| BodyIds::new(namespace, body)).id(index)
            }
        }
    }

    /// Sets timestamp and sender. Gives an encoded `sender`, where it isn't that of all events.
    fn stamp(&self, event: &mut Event, time: u64) -> Option<Vec<u8>> {
        let original = event.timestamp;
        let by_sender = if original == 0 { time } else { original };
        event.timestamp = match self.correction {
            _ if by_sender == 0 => self.origin.receive_time,
            Some(correction) => clock::corrected(by_sender, correction),
            None => by_sender,
        };
        let given = event.sender.take().filter(|_| !self.origin.key.is_public);
        if given.is_none() && event.timestamp == original {
            return None;
        }
        let mut sender = self.origin.sender();
        sender.send_time = self.send_time;
        if let Some(given) = given {
            sender = Sender {
                key_id: sender.key_id,
                source: sender.source,
                receive_time: sender.receive_time,
                client_address: or(given.client_address, sender.client_address),
                user_agent: or(given.user_agent, sender.user_agent),
                ..given
            };
        }
        if event.timestamp != original {
            sender.original_timestamp = Some(original);
        }
        let mut encoded = Vec::new();
        append_sender(&mut encoded, &sender);
        Some(encoded)
    }
}

/// The UUID that a text is, with hyphens where they belong.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let has_hyphens = text.len() == 36 && [8, 13, 18, 23].iter().all(|at| text.as_bytes()[*at] == b'-');
    let digits: Vec<u8> = text.bytes().filter(|byte| byte.is_ascii_hexdigit()).collect();
    let is_uuid = has_hyphens && digits.len() == 32;
    let number = u128::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?;
    is_uuid.then(|| number.to_be_bytes())
}

fn or(given: String, otherwise: String) -> String {
    if given.is_empty() { otherwise } else { given }
}

/// Most bytes of a request's events: what they have in common stands in each.
const EVENTS_BYTES_MAX: usize = 96 << 20;
/// The server's limit on one event.
const EVENT_BYTES_MAX: usize = 131_072;
/// More than a batch's field takes beside the event.
const FIELD_OVERHEAD: usize = 8;
/// First room of a batch, bytes.
const BATCH_BYTES_FIRST: usize = 4096;

/// Counts the bytes of an event that isn't rejected for its size.
fn count_bytes(bytes: &mut usize, len: usize, is_overfull: &mut bool) {
    *bytes += if len > EVENT_BYTES_MAX { 0 } else { len };
    *is_overfull |= *bytes > EVENTS_BYTES_MAX;
}

/// The last batch, or a new one, with room for an event of `len` bytes and this index. `None`: it is rejected.
fn batch_for(
    request: &mut Request,
    limits: BatchLimits,
    index: u32,
    len: usize,
) -> Option<&mut EncodedBatch> {
    if len > EVENT_BYTES_MAX.min(limits.bytes.saturating_sub(FIELD_OVERHEAD)) {
        let message = format!("the event has {len} bytes; split it, or shorten what it holds");
        request.rejected.push(Rejection::last(index, "EVENT_TOO_LARGE", message));
        return None;
    }
    let batches = &mut request.batches;
    let fits = |last: &RequestBatch| {
        last.batch.len() < limits.events && last.batch.byte_len() + len + FIELD_OVERHEAD <= limits.bytes
    };
    if !batches.last().is_some_and(fits) {
        let room = if batches.is_empty() { BATCH_BYTES_FIRST } else { limits.bytes };
        batches.push(RequestBatch { batch: EncodedBatch::with_capacity(room), indexes: Vec::new() });
    }
    let RequestBatch { batch, indexes } = batches.last_mut()?;
    indexes.push(index);
    Some(batch)
}

fn append_sender(out: &mut Vec<u8>, sender: &Sender) {
    prost::encoding::message::encode(SENDER_FIELD, sender, out);
}

/// Number of `Event.sender` in proto/events.proto.
const SENDER_FIELD: u32 = 49;

impl Origin {
    fn sender(&self) -> Sender {
        Sender {
            key_id: self.key.name.clone(),
            source: self.source.to_owned(),
            client_address: self
                .address
                .map(|address| address.to_canonical().to_string())
                .unwrap_or_default(),
            user_agent: self.user_agent.clone(),
            receive_time: self.receive_time,
            send_time: self.send_time,
            original_timestamp: None,
            headers: self.headers.iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
