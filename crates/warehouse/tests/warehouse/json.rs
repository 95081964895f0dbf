//! The JSON that is made straight from bytes is that of `tickstream events export`.

use proptest::prelude::*;
use tickstream_schema::events::{Event, Message};
use tickstream_schema::json::write_event;
use tickstream_schema::table::{self, MessageDef, Rule};
use tickstream_warehouse_core::events::descriptor::Schema;
use tickstream_warehouse_core::events::json::Writer;
use tickstream_warehouse_core::events::protobuf::{Fields, Value};

/// Random bytes of messages, by the table of the schema.
struct Random {
    state: u64,
}

impl Random {
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn text(&mut self) -> Vec<u8> {
        const TEXTS: [&str; 8] =
            ["", "a", "ü€😀", "line\nbreak \"quoted\" \\", "\u{1}\u{7f}", "$bytes", "plain text", "x.y"];
        let text = TEXTS[self.below(8) as usize];
        // Some are longer than a map of texts takes.
        if self.below(16) == 0 { "long ".repeat(300).into_bytes() } else { text.as_bytes().to_vec() }
    }

    fn double(&mut self) -> f64 {
        const DOUBLES: [f64; 8] = [0.0, -0.0, 1.5, 1e300, -2.5e-7, f64::NAN, f64::INFINITY, 12345678.9];
        DOUBLES[self.below(8) as usize]
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    fn varint(&mut self) -> u64 {
        let shift = self.below(64);
        self.next() >> shift
    }

    fn message(&mut self, of: &MessageDef, depth: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let body = self.below(u64::from(table::BODIES)) as u32 + table::FIRST_BODY;
        for field in of.fields {
            let is_body = of.name == "Event"
                && (table::FIRST_BODY..table::FIRST_BODY + table::BODIES).contains(&field.number);
            let is_wanted = if is_body { field.number == body } else { self.below(3) == 0 };
            // A Value has one kind.
            let is_second = of.name == "Value" && !out.is_empty();
            if is_wanted && !is_second {
                self.field(field.number, &field.rule, depth, &mut out);
            }
        }
        out
    }

    fn field(&mut self, number: u32, rule: &Rule, depth: u32, out: &mut Vec<u8>) {
        match *rule {
            Rule::Text { .. } | Rule::Address | Rule::Currency => put(number, &self.text(), out),
            Rule::Texts { .. } => (0..self.below(3)).for_each(|_| put(number, &self.text(), out)),
            Rule::Blob { .. } => {
                let length = self.below(20);
                put(number, &self.bytes(length), out);
            }
            Rule::Id { len, .. } => put(number, &self.bytes(u64::from(len)), out),
            Rule::Time => {
                key(number, 1, out);
                out.extend_from_slice(&self.varint().to_le_bytes());
            }
            Rule::Number { .. } | Rule::AnyNumber => {
                key(number, 1, out);
                out.extend_from_slice(&self.double().to_le_bytes());
            }
            Rule::Numbers { .. } => {
                let packed: Vec<u8> = (0..self.below(4)).flat_map(|_| self.double().to_le_bytes()).collect();
                put(number, &packed, out);
            }
            Rule::Unsigned { max, .. } => {
                key(number, 0, out);
                varint(self.varint() & max, out);
            }
            Rule::Signed { max, .. } => {
                key(number, 0, out);
                // An int32 stays one.
                let bound = if max > i64::from(i32::MAX) { u64::MAX } else { u64::from(u32::MAX) };
                varint(self.varint() & bound, out);
            }
            Rule::Counts { .. } => {
                let mut packed = Vec::new();
                (0..self.below(4)).for_each(|_| varint(self.varint(), &mut packed));
                put(number, &packed, out);
            }
            Rule::Flag => {
                key(number, 0, out);
                varint(self.below(2), out);
            }
            Rule::Choice(of) => {
                key(number, 0, out);
                varint(self.below(of.values.len() as u64 + 3), out);
            }
            Rule::Map => self.entries(number, out, |random| random.text()),
            Rule::TypedMap => {
                self.entries(number, out, |random| random.message(&table::VALUE, depth.saturating_sub(1)));
            }
            Rule::Value if depth > 0 => put(number, &self.message(&table::VALUE, depth - 1), out),
            Rule::List { of, .. } if depth > 0 => {
                (0..self.below(3)).for_each(|_| put(number, &self.message(of, depth - 1), out));
            }
            Rule::Message(of) if depth > 0 => put(number, &self.message(of, depth - 1), out),
            Rule::Value | Rule::List { .. } | Rule::Message(_) => {}
        }
    }

    fn entries(&mut self, number: u32, out: &mut Vec<u8>, mut value: impl FnMut(&mut Self) -> Vec<u8>) {
        for _ in 0..self.below(4) {
            let mut entry = Vec::new();
            put(1, &self.text(), &mut entry);
            put(2, &value(self), &mut entry);
            put(number, &entry, out);
        }
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn key(number: u32, wire_type: u32, out: &mut Vec<u8>) {
    varint(u64::from(number << 3 | wire_type), out);
}

fn put(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    key(number, 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// The fields of a message, from one in the middle on; those of the messages in it, too, now and then.
fn turned(message: &MessageDef, bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut fields = Vec::new();
    for entry in Fields::of(bytes) {
        let entry = entry.unwrap();
        let rule = message.fields.iter().find(|field| field.number == entry.number).map(|field| &field.rule);
        fields.push(match (rule, entry.value) {
            (Some(Rule::Message(of) | Rule::List { of, .. }), Value::Bytes(nested))
                if random.below(2) == 0 =>
            {
                let mut whole = Vec::new();
                put(entry.number, &turned(of, nested, random), &mut whole);
                whole
            }
            _ => entry.whole.to_vec(),
        });
    }
    if random.below(2) == 0 {
        let half = fields.len() / 2;
        fields.rotate_left(half);
    }
    fields.concat()
}

/// JSON of the event by both ways.
fn both(bytes: &[u8]) -> (serde_json::Value, serde_json::Value) {
    let event = Event::decode(bytes).unwrap();
    let mut expected = Vec::new();
    write_event(&event, &mut expected);
    let mut found = Vec::new();
    Writer::default().message(Schema::get().event, bytes, &mut found).unwrap();
    let parse = |text: &[u8]| {
        serde_json::from_slice(text)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)))
    };
    (parse(&expected), parse(&found))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn json_from_bytes_is_that_of_the_schema(seed in 1..u64::MAX) {
        let bytes = Random { state: seed }.message(&table::EVENT, 6);
        let (expected, found) = both(&bytes);
        prop_assert_eq!(expected, found);
    }

    #[test]
    fn fields_in_any_order_are_the_same_event(seed in 1..u64::MAX) {
        let mut random = Random { state: seed };
        let bytes = random.message(&table::EVENT, 6);
        let turned = turned(&table::EVENT, &bytes, &mut random);
        let (expected, found) = both(&turned);
        prop_assert_eq!(expected, found);
    }

    #[test]
    fn bytes_that_are_no_event_are_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut out = Vec::new();
        let is_message = Writer::default().message(Schema::get().event, &bytes, &mut out).is_ok();
        if is_message {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok(), "{}", String::from_utf8_lossy(&out));
        }
    }
}

#[test]
fn a_value_that_comes_twice_has_the_last_one_in_its_column() {
    let field =
        |message: &MessageDef, name| message.fields.iter().find(|field| field.name == name).unwrap().number;
    let log = table::MESSAGES.iter().find(|message| message.name == "Log").unwrap();
    let mut body = Vec::new();
    put(field(log, "service"), b"first", &mut body);
    put(field(log, "service"), b"", &mut body);
    let mut event = Vec::new();
    put(field(&table::EVENT, "log"), &body, &mut event);
    let (mut writer, mut found) = (Writer::default(), Vec::new());
    writer.message(Schema::get().event, &event, &mut found).unwrap();
    assert_eq!((found.as_slice(), writer.promoted().count()), (br#"{"log":{}}"#.as_slice(), 0));
}

#[test]
fn a_field_of_a_newer_schema_is_kept() {
    let mut bytes = Random { state: 7 }.message(&table::EVENT, 0);
    let known = bytes.len();
    put(60, b"from the future", &mut bytes);
    let mut found = Vec::new();
    Writer::default().message(Schema::get().event, &bytes, &mut found).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&found).unwrap();
    use base64::{Engine, engine::general_purpose::STANDARD};
    let kept = STANDARD.decode(json["_unknown"].as_str().unwrap()).unwrap();
    assert_eq!(kept, bytes[known..]);
}
