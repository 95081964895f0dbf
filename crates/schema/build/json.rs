//! The JSON mapping: of each message the keys, and how each field is read and written.

use crate::model::{Field, Message, Model, Shape, VALUE};
use crate::table::{camel, constant, line};

/// The source of the mapping.
pub fn generate(model: &Model) -> String {
    let mut out = String::new();
    for of in &model.enums {
        let def = constant(&of.name);
        line(
            &mut out,
            &format!("impl Named for events::{} {{ const DEF: &'static EnumDef = &table::{def}; }}", of.name),
        );
    }
    // Values and what they are made of are written as what they hold.
    let by_hand = [VALUE, "ValueList", "ValueMap"];
    for message in model.messages.iter().filter(|message| !by_hand.contains(&message.name.as_str())) {
        fields(&mut out, message);
    }
    out
}

fn fields(out: &mut String, message: &Message) {
    let keys: Vec<_> = message.fields.iter().filter(|field| field.options.typed_of.is_none()).collect();
    let names: Vec<_> = keys.iter().map(|field| format!("{:?}", field.name)).collect();
    line(out, &format!("impl Fields for events::{} {{", message.name));
    line(out, &format!("const NAMES: &'static [&'static str] = &[{}];", names.join(", ")));
    line(
        out,
        "fn read<'de, A: MapAccess<'de>>(&mut self, key: usize, map: &mut A) -> Result<(), A::Error> { match key {",
    );
    for (index, field) in keys.iter().enumerate() {
        line(out, &format!("{index} => {},", read(message, field)));
    }
    line(out, "_ => unreachable!(\"a key is a place in NAMES\"), } }");
    line(out, "fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {");
    // Bodies come last, as people expect the envelope first.
    for field in keys.iter().filter(|field| !field.is_body) {
        line(out, &format!("{}?;", write(message, field)));
    }
    if keys.iter().any(|field| field.is_body) {
        line(out, "match &self.body { None => {}");
        for field in keys.iter().filter(|field| field.is_body) {
            let (name, key) = (camel(&field.name), &field.name);
            line(
                out,
                &format!(
                    "Some(events::Body::{name}(body)) => map.serialize_entry({key:?}, &Message(body))?,"
                ),
            );
        }
        line(out, "}");
    }
    line(out, "Ok(()) } }");
}

fn read(message: &Message, field: &Field) -> String {
    let name = &field.name;
    match (twin(message, field), field.is_body) {
        (Some(twin), _) => {
            format!("read_pair(&mut self.{}, &mut self.{}, map)", ident(name), ident(&twin.name))
        }
        (None, true) => format!("read_body(&mut self.body, events::Body::{}, {name:?}, map)", camel(name)),
        (None, false) => format!("read_field::<_, {}, _>(&mut self.{}, map)", codec(field), ident(name)),
    }
}

fn write(message: &Message, field: &Field) -> String {
    let name = &field.name;
    match twin(message, field) {
        Some(twin) => {
            format!("write_pair(map, {name:?}, &self.{}, &self.{})", ident(name), ident(&twin.name))
        }
        None => format!("write_field::<_, {}, _>(map, {name:?}, &self.{})", codec(field), ident(name)),
    }
}

/// The map of Values that completes this map of texts.
fn twin<'a>(message: &'a Message, field: &Field) -> Option<&'a Field> {
    message.fields.iter().find(|other| other.options.typed_of.as_deref() == Some(&field.name))
}

fn codec(field: &Field) -> String {
    match &field.shape {
        Shape::Bytes if field.options.format.is_some() => "Uuid".to_owned(),
        Shape::Bytes if field.options.id_bytes.is_some() => "Hex".to_owned(),
        Shape::Bytes => "Base64".to_owned(),
        Shape::Time => "Time".to_owned(),
        Shape::Enum(of) => format!("Name<events::{of}>"),
        _ => "Plain".to_owned(),
    }
}

/// A field's name in Rust.
fn ident(name: &str) -> String {
    if name == "type" { format!("r#{name}") } else { name.to_owned() }
}
