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

/// A map of texts and the map of Values that completes it are one row.
fn row(out: &mut String, plan: &Plan, id: FieldId) {
    let path = plan.path(id);
    let has_twin = plan.ids().filter(|other| plan.path(*other) == path).count() == 2;
    if has_twin && matches!(plan.rule(id), Rule::TypedMap) {
        return;
    }
    let required = match (plan.is_required(id), path) {
        (true, "log.message") => "required without a `body`; ",
        (true, _) => "required; ",
        (false, _) => "",
    };
    let rule =
        if has_twin { format!("{}, and values", in_words(plan.rule(id))) } else { in_words(plan.rule(id)) };
    writeln!(out, "| `{path}` | {required}{rule} |").expect("a String grows");
}

fn values() -> String {
    format!(
        "| part | rule |\n| --- | --- |\n\
         | map of texts | at most {MAP_ENTRIES_MAX} entries; keys 1 to {MAP_KEY_BYTES_MAX} bytes, texts at most {MAP_VALUE_BYTES_MAX} |\n\
         | values beside them, map of values | at most {TYPED_ENTRIES_MAX} entries; keys 1 to {TYPED_KEY_BYTES_MAX} bytes |\n\
         | text or bytes as a value | at most {VALUE_BYTES_MAX} bytes |\n\
         | list as a value | at most {VALUE_LIST_MAX} entries |\n\
         | map as a value | at most {TYPED_ENTRIES_MAX} entries; keys 1 to {TYPED_KEY_BYTES_MAX} bytes |\n\
         | lists and maps in each other | at most {VALUE_DEPTH_MAX} deep |\n"
    )
}

fn in_words(rule: Rule) -> String {
    match rule {
        Rule::Text { min: 0, max } => format!("text, at most {max} bytes"),
        Rule::Text { min, max } => format!("text, {min} to {max} bytes"),
        Rule::Texts { items, max } => format!("list of texts, at most {items}, each at most {max} bytes"),
        Rule::Blob { max } => format!("at most {max} bytes"),
        Rule::Id { len, .. } => format!("{len} bytes, not all zero"),
        Rule::Time => "Unix time, nanoseconds".to_owned(),
        Rule::Number { min: f64::MIN, .. } => "finite number".to_owned(),
        Rule::Number { min, max: f64::MAX } => format!("finite number, {min} or more"),
        Rule::Number { min, max } => format!("number, {min} to {max}"),
        Rule::AnyNumber => "number, not a number and infinite too".to_owned(),
        Rule::Numbers { items, is_finite: true } => format!("list of finite numbers, at most {items}"),
        Rule::Numbers { items, is_finite: false } => format!("list of numbers, at most {items}"),
        Rule::Unsigned { max: u64::MAX, .. } => "integer, 0 or more".to_owned(),
        Rule::Unsigned { min: 0, max } if max == u64::from(u32::MAX) => {
            "integer of 32 bits, 0 or more".to_owned()
        }
        Rule::Unsigned { min, max } => format!("integer, {min} to {max}"),
        Rule::Counts { items } => format!("list of integers, 0 or more, at most {items}"),
        Rule::Signed { min: i64::MIN, .. } => "integer of 64 bits".to_owned(),
        Rule::Signed { .. } => "integer of 32 bits".to_owned(),
        Rule::Flag => "true or false".to_owned(),
        Rule::Choice(of) => format!("enum, 1 to {}", of.values.len()),
        Rule::Address => "text: an IPv4 or IPv6 address, or empty".to_owned(),
        Rule::Currency => "text: three capital letters".to_owned(),
        Rule::Map => "map of texts".to_owned(),
        Rule::TypedMap => "map of values".to_owned(),
        Rule::Value => "value".to_owned(),
        Rule::List { max, .. } => format!("list, at most {max}"),
        Rule::Message(_) => "message".to_owned(),
    }
}
