//! Fluent Forward, version 1, of Fluentd, Fluent Bit and their loggers.
//! <https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1>
//!
//! A chunk is answered when it is stored. Its records have ids by the chunk's, so that a chunk that comes again is the
//! same events.

mod auth;
mod msgpack;

pub use auth::AuthenticatedFluent;

use tickstream_client::events::{Body, Event, EventType, Log};

use self::msgpack::{Item, Scan, Scanner};
use crate::{
    http::{Encoding, decode},
    outcome::{Malformed, Rejection},
    sources::fields::{self, SERVICE_BYTES_MAX, clipped, clipped_or, put_text, set_message},
    stream::StreamDecoder,
    writer::EventWriter,
};

/// Fluent Forward over TCP or TLS.
#[derive(Debug, Default)]
pub struct FluentStream {
    scanner: Scanner,
    acks: Vec<u8>,
    /// The sender waits for answers: its newest message asked for one.
    wants_acks: bool,
}

/// Largest message, bytes: Fluentd's largest chunk, as it is set without a word, and what stands around it.
const MESSAGE_BYTES_MAX: usize = (8 << 20) + (64 << 10);
/// Largest content of a compressed message, bytes.
const UNPACKED_BYTES_MAX: usize = 16 << 20;
/// Most values of a message, and of a packed entry: one of more bytes than an event may have isn't stored.
const MESSAGE_PARTS_MAX: usize = 4_000_000;
const ENTRY_PARTS_MAX: usize = 131_072;
const TOO_MUCH: &str = "its values are too many or too deep, or a key is a list or a map";
/// Longest `Log.logger_name`, bytes.
const LOGGER_NAME_BYTES_MAX: usize = 256;

impl StreamDecoder for FluentStream {
    fn name(&self) -> &'static str {
        "fluent"
    }

    fn decode(&mut self, bytes: &[u8], writer: &mut EventWriter<'_>) -> Result<usize, Malformed> {
        let mut at = 0;
        // One message at a time where it is large: the writer must have room for all its records.
        while at == 0 || writer.is_untouched() {
            match self.scanner.scan(&bytes[at..]) {
                Scan::Part => break,
                Scan::Broken => return Err(Malformed(msgpack::BROKEN.to_owned())),
                Scan::Whole(len) => {
                    let ack = message(&bytes[at..at + len], writer)?;
                    at += len;
                    self.wants_acks = ack.is_some();
                    self.acks.extend(ack.map(|chunk| msgpack::ack(&chunk)).unwrap_or_default());
                }
            }
        }
        Ok(at)
    }

    /// The protocol has no word for a record that can't be stored: the log has.
    fn acknowledge(&mut self, _: &[Rejection], out: &mut Vec<u8>) {
        out.append(&mut self.acks);
    }

    fn has_acknowledgements(&self) -> bool {
        self.wants_acks
    }

    fn message_bytes_max(&self) -> usize {
        MESSAGE_BYTES_MAX
    }
}

/// Takes a message. Gives its chunk's id, where the sender waits for an answer.
fn message(bytes: &[u8], writer: &mut EventWriter<'_>) -> Result<Option<String>, Malformed> {
    let malformed = |problem: &str| Malformed(format!("no message of Fluent Forward: {problem}"));
    let item = msgpack::parse(bytes, MESSAGE_PARTS_MAX).ok_or_else(|| malformed(TOO_MUCH))?;
    let mut parts = match item {
        Item::List(parts) => parts,
        // A heartbeat of Fluentd.
        Item::Null => return Ok(None),
        _ => return Err(malformed("it is no list")),
    };
    if parts.len() < 2 {
        return Err(malformed("it has less than two parts"));
    }
    let Some(Item::Text(tag)) = parts.first().cloned() else { return Err(malformed("its tag is no text")) };
    let second = std::mem::replace(&mut parts[1], Item::Null);
    let is_single = !matches!(second, Item::List(_) | Item::Bytes(_) | Item::Text(_));
    let options = parts.get(if is_single { 3 } else { 2 });
    let option = |name: &str| match options {
        Some(Item::Map(pairs)) => pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()),
        _ => None,
    };
    let chunk = match option("chunk") {
        Some(Item::Text(chunk)) => Some(chunk),
        Some(Item::Bytes(chunk)) => String::from_utf8(chunk).ok(),
        _ => None,
    };
    let encoding = encoding(option("compressed")).map_err(|problem| malformed(&problem))?;
    let records = Records { tag: &tag, chunk: chunk.as_deref(), index: 0 };
    match second {
        Item::List(entries) => records.list(entries, writer),
        Item::Bytes(packed) => records.packed(&packed, encoding, writer)?,
        Item::Text(packed) => records.packed(packed.as_bytes(), encoding, writer)?,
        time => {
            let record = parts.get(2).cloned().ok_or_else(|| malformed("it has no record"))?;
            records.list(vec![Item::List(vec![time, record])], writer);
        }
    }
    Ok(chunk)
}

/// The encoding that the option `compressed` names.
fn encoding(compressed: Option<Item>) -> Result<Encoding, String> {
    match compressed {
        None | Some(Item::Null) => Ok(Encoding::Identity),
        Some(Item::Text(name)) => match &name[..] {
            "text" => Ok(Encoding::Identity),
            "gzip" => Ok(Encoding::Gzip),
            "zstd" => Ok(Encoding::Zstd),
            _ => Err(format!("compressed is {name}; gzip or zstd is taken")),
        },
        Some(_) => Err("compressed is no text".to_owned()),
    }
}

/// The records of one message.
struct Records<'a> {
    tag: &'a str,
    chunk: Option<&'a str>,
    index: u32,
}

impl Records<'_> {
    fn list(mut self, entries: Vec<Item>, writer: &mut EventWriter<'_>) {
        entries.into_iter().for_each(|entry| self.take(entry, writer));
    }

    /// Entries one behind the other.
    fn packed(
        mut self,
        packed: &[u8],
        encoding: Encoding,
        writer: &mut EventWriter<'_>,
    ) -> Result<(), Malformed> {
        let malformed = |problem: &str| Malformed(format!("no entries of Fluent Forward: {problem}"));
        let unpacked = decode(encoding, packed, MESSAGE_BYTES_MAX.max(UNPACKED_BYTES_MAX));
        let unpacked = unpacked.map_err(|error| malformed(&error.to_string()))?;
        let mut entries = &unpacked[..];
        while !entries.is_empty() {
            let Scan::Whole(len) = Scanner::default().scan(entries) else {
                return Err(malformed("the last one isn't whole"));
            };
            match msgpack::parse(&entries[..len], ENTRY_PARTS_MAX) {
                Some(entry) => self.take(entry, writer),
                None => writer.reject("MALFORMED", TOO_MUCH),
            }
            entries = &entries[len..];
        }
        Ok(())
    }

    fn take(&mut self, entry: Item, writer: &mut EventWriter<'_>) {
        let index = self.index;
        self.index += 1;
        let Item::List(parts) = entry else { return writer.reject("MALFORMED", "an entry is a list of two") };
        match <[Item; 2]>::try_from(parts) {
            Ok([time, Item::Map(record)]) => {
                let mut event = event(self.tag, &time, record);
                if let Some(chunk) = self.chunk {
                    event.event_id = writer.id_of_parts(&[b"fluent", chunk.as_bytes(), &index.to_be_bytes()]);
                }
                writer.event(event);
            }
            _ => writer.reject("MALFORMED", "an entry is a time and a map"),
        }
    }
}

fn event(tag: &str, time: &Item, mut record: Vec<(String, Item)>) -> Event {
    let mut take_text = |keys: &[&str]| {
        let is_text =
            |(key, value): &(String, Item)| keys.contains(&&key[..]) && matches!(value, Item::Text(_));
        let at = record.iter().position(is_text)?;
        match record.remove(at).1 {
            Item::Text(text) => Some(text),
            _ => None,
        }
    };
    let message = take_text(&["message", "log", "msg"]);
    let level = take_text(&["level", "severity"]).unwrap_or_default();
    let service = take_text(&["service", "service.name"]);
    let mut log = Log {
        service: clipped_or(service.as_deref().unwrap_or(tag), SERVICE_BYTES_MAX, "fluent").to_owned(),
        level: fields::level(&level).into(),
        severity_text: level,
        logger_name: clipped(tag, LOGGER_NAME_BYTES_MAX).to_owned(),
        ..Log::default()
    };
    match message {
        Some(text) => set_message(&mut log, text),
        // Without a text, the record itself is the body.
        None => {
            let record = std::mem::take(&mut record);
            log.body = Some(Item::Map(record).into_value());
        }
    }
    for (key, value) in record {
        match value {
            Item::Text(text) => put_text(&mut log.metadata, &mut log.typed_metadata, key, text),
            value => _ = log.typed_metadata.insert(key, value.into_value()),
        }
    }
    Event {
        timestamp: time.time().unwrap_or_default(),
        platform: "fluent".to_owned(),
        event_type: EventType::Log.into(),
        event_name: "log".to_owned(),
        body: Some(Body::Log(log)),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests;
