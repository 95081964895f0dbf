//! Tables of the schema's messages, for reading events straight from their bytes.
//!
//! They are `tickstream_schema::table` in the form that bytes are walked by: fields by number, with the key that each has in
//! JSON and the column that it has of its own.

use std::sync::LazyLock;

use tickstream_schema::table::{self, EnumDef, FieldDef, MessageDef, Rule};

use super::columns::Promoted;

/// Index of a message in [`Schema`].
pub type MessageId = usize;

/// Messages of the schema.
#[derive(Debug)]
pub struct Schema {
    messages: Vec<MessageTable>,
    /// The message `Event`.
    pub event: MessageId,
}

/// Fields of one message, by number.
#[derive(Debug, Default)]
pub struct MessageTable {
    fields: Vec<Option<Field>>,
}

/// One field of a message.
#[derive(Debug)]
pub struct Field {
    /// Comma, and key in JSON with quotes and colon.
    key: Key,
    /// Encoding of its values.
    pub kind: Kind,
    /// True if it may come several times.
    pub is_repeated: bool,
    /// True if an empty value differs from an absent one.
    pub has_presence: bool,
    /// Of a map of texts: number of the map of Values that completes it. Of that map: number of the map of texts. In JSON
    /// both are one object, under the key of the map of texts.
    pub other_half: Option<u32>,
    /// Column of its own.
    pub promoted: Option<Promoted>,
}

/// Encoding of a field's value in protobuf and in JSON.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A text.
    Text,
    /// 16 bytes as a UUID.
    Uuid,
    /// Bytes as hexadecimal digits.
    Hex,
    /// Bytes in Base64.
    Base64,
    /// Nanoseconds since 1970 (fixed64) as RFC 3339.
    Time,
    /// A double.
    Double,
    /// A varint.
    Unsigned,
    /// A varint in zigzag.
    Signed,
    /// A bool.
    Flag,
    /// An enum, by the short names of its values.
    Choice(&'static EnumDef),
    /// A map of texts.
    Texts,
    /// A map of Values.
    Values,
    /// A Value.
    Value,
    /// A message.
    Message(MessageId),
}

impl Schema {
    /// Schema that this program was built with.
    pub fn get() -> &'static Self {
        static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
            let messages = table::MESSAGES.iter().map(|message| MessageTable::new(message)).collect();
            Schema { messages, event: id_of(&table::EVENT) }
        });
        &SCHEMA
    }

    /// Table of a message.
    pub fn message(&self, id: MessageId) -> &MessageTable {
        &self.messages[id]
    }
}

fn id_of(message: &MessageDef) -> MessageId {
    table::MESSAGES.iter().position(|other| other.name == message.name).expect("the list has all messages")
}

impl MessageTable {
    fn new(message: &MessageDef) -> Self {
        let mut table = Self::default();
        for field in message.fields {
            let number = field.number as usize;
            if table.fields.len() <= number {
                table.fields.resize_with(number + 1, || None);
            }
            table.fields[number] = Some(Field::new(message, field));
        }
        table
    }

    /// The field with this number.
    pub fn field(&self, number: u32) -> Option<&Field> {
        self.fields.get(number as usize)?.as_ref()
    }
}

impl Field {
    fn new(message: &MessageDef, field: &FieldDef) -> Self {
        let (kind, is_repeated) = kind_of(&field.rule);
        let texts =
            field.typed_of.and_then(|number| message.fields.iter().find(|other| other.number == number));
        let values = message.fields.iter().find(|other| other.typed_of == Some(field.number));
        Self {
            key: Key::new(texts.unwrap_or(field).name),
            kind,
            is_repeated,
            has_presence: field.is_optional || matches!(kind, Kind::Message(_) | Kind::Value),
            other_half: texts.or(values).map(|other| other.number),
            promoted: Promoted::of(message.name, field.name),
        }
    }

    /// Appends the key, behind a comma unless an object has just begun.
    pub fn write_key(&self, out: &mut Vec<u8>) {
        let is_first = out.last() == Some(&b'{');
        out.extend_from_slice(&self.key.as_bytes()[usize::from(is_first)..]);
    }

    /// Appends a comma and the key.
    #[inline]
    pub fn write_next_key(&self, out: &mut Vec<u8>) {
        // A copy of fixed length takes two instructions.
        let end = out.len() + self.key.length;
        out.extend_from_slice(&self.key.padded);
        out.truncate(end);
    }
}

/// Bytes of a key with comma, quotes and colon, at most.
const KEY_BYTES_MAX: usize = 32;

/// A comma, and a field's name as JSON has a key.
#[derive(Debug)]
struct Key {
    padded: [u8; KEY_BYTES_MAX],
    length: usize,
}

impl Key {
    fn new(name: &str) -> Self {
        let text = format!(",\"{name}\":");
        let mut padded = [0; KEY_BYTES_MAX];
        padded[..text.len()].copy_from_slice(text.as_bytes());
        Self { padded, length: text.len() }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.padded[..self.length]
    }
}

/// Encoding of a rule's values, and whether they may be several.
fn kind_of(rule: &Rule) -> (Kind, bool) {
    match *rule {
        Rule::Text { .. } | Rule::Address | Rule::Currency => (Kind::Text, false),
        Rule::Texts { .. } => (Kind::Text, true),
        Rule::Blob { .. } => (Kind::Base64, false),
        Rule::Id { is_uuid: true, .. } => (Kind::Uuid, false),
        Rule::Id { .. } => (Kind::Hex, false),
        Rule::Time => (Kind::Time, false),
        Rule::Number { .. } | Rule::AnyNumber => (Kind::Double, false),
        Rule::Numbers { .. } => (Kind::Double, true),
        Rule::Unsigned { .. } => (Kind::Unsigned, false),
        Rule::Counts { .. } => (Kind::Unsigned, true),
        Rule::Signed { .. } => (Kind::Signed, false),
        Rule::Flag => (Kind::Flag, false),
        Rule::Choice(of) => (Kind::Choice(of), false),
        Rule::Map => (Kind::Texts, true),
        Rule::TypedMap => (Kind::Values, true),
        Rule::Value => (Kind::Value, false),
        Rule::List { of, .. } => (Kind::Message(id_of(of)), true),
        Rule::Message(of) => (Kind::Message(id_of(of)), false),
    }
}

/// Short name of an enum's number; `None` for 0 and for numbers of a newer schema.
pub fn enum_name(of: &'static EnumDef, number: i32) -> Option<&'static str> {
    usize::try_from(number).ok()?.checked_sub(1).and_then(|index| of.values.get(index)).copied()
}
