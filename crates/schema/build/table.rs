//! The tables of rules, and what else follows from the list of bodies.

use std::fmt::Write;

use crate::model::{Field, Message, Model, Options, Shape};

/// The source of the tables.
pub fn generate(model: &Model) -> String {
    let mut out = String::new();
    for of in &model.enums {
        let values = of.values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ");
        line(&mut out, &format!("/// The values of {}.", of.name));
        line(
            &mut out,
            &format!(
                "pub static {}: EnumDef = EnumDef {{ name: {:?}, values: &[{values}] }};",
                constant(&of.name),
                of.name
            ),
        );
    }
    for message in &model.messages {
        line(&mut out, &format!("/// The fields of {}.", message.name));
        let name = constant(&message.name);
        line(
            &mut out,
            &format!(
                "pub static {name}: MessageDef = MessageDef {{ name: {:?}, docs: {:?}, fields: &[",
                message.name, message.docs
            ),
        );
        for field in &message.fields {
            field_def(&mut out, message, field);
        }
        line(&mut out, "] };");
    }
    messages(&mut out, model);
    bodies(&mut out, model);
    out
}

fn field_def(out: &mut String, message: &Message, field: &Field) {
    let number = |name: &Option<String>| {
        let name = name.as_ref()?;
        let other = message.fields.iter().find(|field| field.name == *name);
        Some(other.unwrap_or_else(|| panic!("{}.{}: there is no {name}", message.name, field.name)).number)
    };
    let options = &field.options;
    line(
        out,
        &format!(
            "FieldDef {{ number: {}, name: {:?}, docs: {:?}, rule: {}, is_optional: {}, required: {}, required_unless: {:?}, \
         typed_of: {:?}, needs_session: {}, personal: {} }},",
            field.number,
            field.name,
            field.docs,
            rule(field),
            field.is_optional,
            options.required || options.required_unless.is_some(),
            number(&options.required_unless),
            number(&options.typed_of),
            options.needs_session,
            personal(options),
        ),
    );
}

fn rule(field: &Field) -> String {
    let Options {
        required,
        required_unless,
        min_bytes,
        max_bytes,
        id_bytes,
        min,
        max,
        any_number,
        max_items,
        format,
        ..
    } = &field.options;
    let is_required = *required || required_unless.is_some();
    let max_bytes = max_bytes.unwrap_or(0);
    let items = max_items.unwrap_or(0);
    let double = |bound: Option<f64>, otherwise: &str| {
        bound.map_or(otherwise.to_owned(), |bound| format!("{bound:?}"))
    };
    let unsigned = |most: u64| {
        let (min, max) = (min.map_or(0, |min| min as u64), max.map_or(most, |max| max as u64));
        format!("Rule::Unsigned {{ min: {min}, max: {max} }}")
    };
    match (&field.shape, format.as_deref()) {
        (Shape::Text, Some("FORMAT_IP_ADDRESS")) => "Rule::Address".to_owned(),
        (Shape::Text, Some("FORMAT_CURRENCY")) => "Rule::Currency".to_owned(),
        (Shape::Text, _) => {
            format!("Rule::Text {{ min: {}, max: {max_bytes} }}", min_bytes.unwrap_or(u32::from(is_required)))
        }
        (Shape::Texts, _) => format!("Rule::Texts {{ items: {items}, max: {max_bytes} }}"),
        (Shape::Bytes, format) => match id_bytes {
            Some(len) => format!("Rule::Id {{ len: {len}, is_uuid: {} }}", format == Some("FORMAT_UUID")),
            None => format!("Rule::Blob {{ max: {max_bytes} }}"),
        },
        (Shape::Time, _) => "Rule::Time".to_owned(),
        (Shape::Number, _) if *any_number => "Rule::AnyNumber".to_owned(),
        (Shape::Number, _) => {
            format!("Rule::Number {{ min: {}, max: {} }}", double(*min, "f64::MIN"), double(*max, "f64::MAX"))
        }
        (Shape::Numbers, _) => format!("Rule::Numbers {{ items: {items}, is_finite: {} }}", !any_number),
        (Shape::Uint32, _) => unsigned(u32::MAX.into()),
        (Shape::Uint64, _) => unsigned(u64::MAX),
        (Shape::Uint64s, _) => format!("Rule::Counts {{ items: {items} }}"),
        (Shape::Sint32, _) => "Rule::Signed { min: i32::MIN as i64, max: i32::MAX as i64 }".to_owned(),
        (Shape::Sint64, _) => "Rule::Signed { min: i64::MIN, max: i64::MAX }".to_owned(),
        (Shape::Flag, _) => "Rule::Flag".to_owned(),
        (Shape::Enum(of), _) => format!("Rule::Choice(&{})", constant(of)),
        (Shape::Message(of), _) => format!("Rule::Message(&{})", constant(of)),
        (Shape::Messages(of), _) => format!("Rule::List {{ of: &{}, max: {items} }}", constant(of)),
        (Shape::Map, _) => "Rule::Map".to_owned(),
        (Shape::TypedMap, _) => "Rule::TypedMap".to_owned(),
        (Shape::Value, _) => "Rule::Value".to_owned(),
    }
}

fn personal(options: &Options) -> &'static str {
    match options.personal.as_deref() {
        Some("PERSONAL_DATA_IDENTIFIER") => "Some(PersonalData::Identifier)",
        Some("PERSONAL_DATA_ADDRESS") => "Some(PersonalData::Address)",
        Some("PERSONAL_DATA_CONTENT") => "Some(PersonalData::Content)",
        _ => "None",
    }
}

fn messages(out: &mut String, model: &Model) {
    line(out, "/// Every message that an event is made of, Event first.");
    let names: Vec<_> =
        model.messages.iter().map(|message| format!("&{}", constant(&message.name))).collect();
    line(out, &format!("pub static MESSAGES: [&MessageDef; {}] = [{}];", names.len(), names.join(", ")));
}

fn bodies(out: &mut String, model: &Model) {
    let event = model.messages.iter().find(|message| message.name == "Event").expect("there is an Event");
    let types = model.enums.iter().find(|of| of.name == "EventType").expect("there is an EventType");
    let bodies: Vec<_> = event.fields.iter().filter(|field| field.is_body).collect();
    let first = bodies[0].number;
    for ((body, name), number) in bodies.iter().zip(&types.values).zip(first..) {
        assert!(
            body.number == number && body.name == *name,
            "{}: EventType and body agree in order and name",
            body.name
        );
    }
    assert_eq!(bodies.len(), types.values.len(), "each EventType has a body");
    line(out, "/// The number of the first body in Event, whose type is 1; the others follow.");
    line(out, &format!("pub const FIRST_BODY: u32 = {first};"));
    line(out, "/// How many bodies there are.");
    line(out, &format!("pub const BODIES: u32 = {};", bodies.len()));
    line(out, "impl crate::events::Body {");
    line(out, "/// The type that an event with this body has.");
    line(out, "pub fn event_type(&self) -> crate::events::EventType { match self {");
    for body in &bodies {
        let name = camel(&body.name);
        line(out, &format!("Self::{name}(_) => crate::events::EventType::{name},"));
    }
    line(out, "} }");
    line(out, "/// The name of this body's field.");
    line(out, "pub fn name(&self) -> &'static str { match self {");
    for body in &bodies {
        line(out, &format!("Self::{}(_) => {:?},", camel(&body.name), body.name));
    }
    line(out, "} } }");
}

/// `TraceSpan` to `TRACE_SPAN`.
pub fn constant(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_uppercase());
    }
    out
}

/// `trace_span` to `TraceSpan`.
pub fn camel(name: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('_').map(capital).collect()
}

pub fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("a String grows as long as there is memory");
}
