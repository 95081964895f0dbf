//! The tables of docs/events.md against the rules of the schema.

use std::fmt::Write;

use tickstream_schema::Plan;
use tickstream_schema::plan::FieldId;
use tickstream_schema::table::{
    EVENT, MAP_ENTRIES_MAX, MAP_KEY_BYTES_MAX, MAP_VALUE_BYTES_MAX, Rule, TYPED_ENTRIES_MAX,
    TYPED_KEY_BYTES_MAX, VALUE_BYTES_MAX, VALUE_DEPTH_MAX, VALUE_LIST_MAX,
};

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/events.md");
/// Around each table, with what it is of: `<!-- fields of trace_span -->`.
const END: &str = "<!-- end of the fields -->\n";

/// To write the tables anew: `TICKSTREAM_BLESS=1 cargo test -p tickstream-schema --test guide`.
#[test]
fn the_guide_has_every_field_with_its_rule() {
    let guide = std::fs::read_to_string(GUIDE).expect(GUIDE);
    let mut expected = guide.clone();
    let bodies = EVENT.fields.iter().filter(|field| (10..40).contains(&field.number)).map(|field| field.name);
    for of in ["the envelope"].into_iter().chain(bodies).chain(["values"]) {
        let begin = format!("<!-- fields of {of} -->\n");
        let Some(start) = expected.find(&begin).map(|at| at + begin.len()) else {
            panic!("docs/events.md has no {begin}");
        };
        let end = start + expected[start..].find(END).unwrap_or_else(|| panic!("{begin} has no end"));
        let table = if of == "values" { values() } else { table(of) };
        expected.replace_range(start..end, &table);
    }
    if std::env::var_os("TICKSTREAM_BLESS").is_some() {
        std::fs::write(GUIDE, &expected).expect(GUIDE);
    } else {
        assert!(
            guide == expected,
            "docs/events.md isn't as the schema is; TICKSTREAM_BLESS=1 writes its tables anew"
        );
    }
}

/// The rows for a body, or for all that isn't one.
fn table(of: &str) -> String {
    let plan = Plan::new(&[]).expect("no rules");
    let is_body = |path: &str| {
        let first = path.split('.').next().and_then(|name| EVENT.field(name));
        first.is_some_and(|field| (10..40).contains(&field.number))
    };
    let is_of = |path: &str| match of {
        "the envelope" => !is_body(path),
        body => path.split('.').next() == Some(body),
    };
    let mut out = String::from("| field | rule |\n| --- | --- |\n");
    for id in plan.ids().filter(|id| is_of(plan.path(*id))) {
        row(&mut out, &plan, id);
    }
    out
}

/// A map of texts and the map of Values that completes it are one row. A message that isn't required has none: its fields
/// have.
fn row(out: &mut String, plan: &Plan, id: FieldId) {
    let path = plan.path(id);
    let has_twin = plan.ids().filter(|other| plan.path(*other) == path).count() == 2;
    let is_second = has_twin && matches!(plan.rule(id), Rule::TypedMap);
    let is_plain_message = matches!(plan.rule(id), Rule::Message(_)) && !plan.is_required(id);
    if is_second || is_plain_message {
        return;
    }
    let required = match (plan.is_required(id), path) {
        (true, "log.message") => "required without a `body`; ",
        (true, _) => "required; ",
        (false, _) => "",
    };
    let rule = if has_twin { "map".to_owned() } else { in_words(plan.rule(id)) };
    writeln!(out, "| `{path}` | {required}{rule} |").expect("a String grows");
}

fn values() -> String {
    format!(
        "| part | limit |\n| --- | --- |\n\
         | entries of a map that are texts | {MAP_ENTRIES_MAX}; keys 1–{MAP_KEY_BYTES_MAX} bytes, texts ≤ {MAP_VALUE_BYTES_MAX} bytes |\n\
         | its other entries; entries of a `value map` | {TYPED_ENTRIES_MAX}; keys 1–{TYPED_KEY_BYTES_MAX} bytes |\n\
         | text or bytes as a value | {VALUE_BYTES_MAX} bytes |\n\
         | list as a value | {VALUE_LIST_MAX} entries |\n\
         | map as a value | {TYPED_ENTRIES_MAX} entries; keys 1–{TYPED_KEY_BYTES_MAX} bytes |\n\
         | depth of lists and maps | {VALUE_DEPTH_MAX} |\n"
    )
}

/// Values of an enum that are listed; one with more is `event_type`, which names the body.
const LISTED_MAX: usize = 12;

fn in_words(rule: Rule) -> String {
    match rule {
        Rule::Text { min: 0, max } => format!("text ≤ {max}"),
        Rule::Text { min, max } => format!("text {min}–{max}"),
        Rule::Texts { items, max } => format!("list ≤ {items} of text ≤ {max}"),
        Rule::Blob { max } => format!("bytes ≤ {max}"),
        Rule::Id { len, .. } => format!("id of {len} bytes"),
        Rule::Time => "time".to_owned(),
        Rule::Number { min: f64::MIN, .. } => "number".to_owned(),
        Rule::Number { min, max: f64::MAX } => format!("number ≥ {min}"),
        Rule::Number { min, max } => format!("number {min}–{max}"),
        Rule::AnyNumber => "any number".to_owned(),
        Rule::Numbers { items, is_finite: true } => format!("list ≤ {items} of number"),
        Rule::Numbers { items, is_finite: false } => format!("list ≤ {items} of any number"),
        Rule::Unsigned { max: u64::MAX, .. } => "u64".to_owned(),
        Rule::Unsigned { min: 0, max } if max == u64::from(u32::MAX) => "u32".to_owned(),
        Rule::Unsigned { min, max } => format!("integer {min}–{max}"),
        Rule::Counts { items } => format!("list ≤ {items} of u64"),
        Rule::Signed { min: i64::MIN, .. } => "i64".to_owned(),
        Rule::Signed { .. } => "i32".to_owned(),
        Rule::Flag => "bool".to_owned(),
        Rule::Choice(of) if of.values.len() > LISTED_MAX => "kind of the body".to_owned(),
        Rule::Choice(of) => of.values.join(" / "),
        Rule::Address => "IP address".to_owned(),
        Rule::Currency => "currency".to_owned(),
        Rule::Map => "text map".to_owned(),
        Rule::TypedMap => "value map".to_owned(),
        Rule::Value => "value".to_owned(),
        Rule::List { max, .. } => format!("list ≤ {max}"),
        Rule::Message(_) => "message".to_owned(),
    }
}
