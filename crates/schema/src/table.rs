//! The rules of `proto/events.proto` as tables: each message's fields with number, name, type and bounds. Validation,
//! privacy rules, messages of rejections and the bounds in docs/events.md all come from here.

/// One message.
#[derive(Debug)]
pub struct MessageDef {
    /// Its name in the schema.
    pub name: &'static str,
    /// Its comment in the schema.
    pub docs: &'static str,
    /// By rising number.
    pub fields: &'static [FieldDef],
}

/// One field.
#[derive(Debug)]
pub struct FieldDef {
    /// Below 64.
    pub number: u32,
    /// Its name in the schema.
    pub name: &'static str,
    /// Its comment in the schema.
    pub docs: &'static str,
    /// Its type with its bounds.
    pub rule: Rule,
    /// Absent and empty, or 0, differ.
    pub is_optional: bool,
    /// An event without it, or with its default value, is rejected.
    pub required: bool,
    /// The field, by its number, in whose presence this one isn't required after all.
    pub required_unless: Option<u32>,
    /// The map of texts, by its number, that this map of Values completes.
    pub typed_of: Option<u32>,
    /// A body of an event that needs a session_id.
    pub needs_session: bool,
    /// Personal data in it.
    pub personal: Option<PersonalData>,
}

impl MessageDef {
    /// The field with this name.
    pub fn field(&self, name: &str) -> Option<&'static FieldDef> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// The type of a field, with its bounds.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// UTF-8 of so many bytes.
    Text {
        /// Bytes of a text that isn't absent.
        min: u32,
        /// Bytes.
        max: u32,
    },
    /// A list of texts.
    Texts {
        /// Entries.
        items: u32,
        /// Bytes of each.
        max: u32,
    },
    /// At most so many bytes.
    Blob {
        /// Bytes.
        max: u32,
    },
    /// Exactly so many bytes, not all zero.
    Id {
        /// Bytes.
        len: u32,
        /// Its text form is that of a UUID.
        is_uuid: bool,
    },
    /// fixed64: Unix time, nanoseconds.
    Time,
    /// A finite double.
    Number {
        /// Least.
        min: f64,
        /// Greatest.
        max: f64,
    },
    /// Any double.
    AnyNumber,
    /// A packed list of doubles.
    Numbers {
        /// Entries.
        items: u32,
        /// All are finite.
        is_finite: bool,
    },
    /// A varint.
    Unsigned {
        /// Least.
        min: u64,
        /// Greatest.
        max: u64,
    },
    /// A packed list of varints.
    Counts {
        /// Entries.
        items: u32,
    },
    /// A zigzag varint.
    Signed {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// A bool.
    Flag,
    /// An enum's number, from 1.
    Choice(&'static EnumDef),
    /// Text: an IPv4 or IPv6 address, or nothing.
    Address,
    /// Text: three capital letters.
    Currency,
    /// Text to text.
    Map,
    /// Text to Value.
    TypedMap,
    /// A Value.
    Value,
    /// At most so many of a message.
    List {
        /// Of each entry.
        of: &'static MessageDef,
        /// Entries.
        max: u32,
    },
    /// One of a message.
    Message(&'static MessageDef),
}

/// An enum.
#[derive(Debug)]
pub struct EnumDef {
    /// Its name in the schema.
    pub name: &'static str,
    /// Short names, in lower case, of its values from number 1; 0 is unspecified.
    pub values: &'static [&'static str],
}

/// Personal data that a field has or may have, as `proto/rules.proto` tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PersonalData {
    /// Names a person or a device.
    Identifier,
    /// A network address.
    Address,
    /// May hold what a person entered, said or looked at.
    Content,
}

/// Bytes of one event.
pub const EVENT_BYTES_MAX: usize = 131_072;
/// Entries of one map of texts.
pub const MAP_ENTRIES_MAX: u32 = 64;
/// Bytes of the key of a map of texts, at least one.
pub const MAP_KEY_BYTES_MAX: u32 = 64;
/// Bytes of the value of a map of texts.
pub const MAP_VALUE_BYTES_MAX: u32 = 1_024;
/// Entries of one map of Values.
pub const TYPED_ENTRIES_MAX: u32 = 256;
/// Bytes of the key of a map of Values, at least one.
pub const TYPED_KEY_BYTES_MAX: u32 = 256;
/// Lists and maps of Values that may lie in each other.
pub const VALUE_DEPTH_MAX: u32 = 8;

include!(concat!(env!("OUT_DIR"), "/table.rs"));

/// Bytes of a text, and of bytes, in a [`Value`](crate::events::Value).
pub const VALUE_BYTES_MAX: u32 = match (VALUE.fields[0].rule, VALUE.fields[6].rule) {
    (Rule::Text { max, .. }, Rule::Blob { max: bytes }) if max == bytes => max,
    _ => panic!("text and bytes of a Value have the same bound"),
};
/// Entries of a list in a [`Value`](crate::events::Value).
pub const VALUE_LIST_MAX: u32 = match VALUE_LIST.fields[0].rule {
    Rule::List { max, .. } => max,
    _ => panic!("a ValueList is a list"),
};
